"""Folders, names of outputs, and what ends a batch."""

import errno
import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.cli import loop, microphone, recordings
from asr.core.errors import AsrError, OutputError
from asr.speech import audio, sound_files
from asr.speech.label_files import read_labels


@pytest.fixture
def tree(tmp_path, rng):
    """Recordings of equal names in two folders, each of its own length."""
    for k, name in enumerate(("one/a.wav", "one/b.wav", "two/a.wav", "two/deep/a.wav")):
        path = tmp_path / "talks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(8000 + 800 * k), 16000)
    return tmp_path / "talks"


def written(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def duration(path):
    return json.loads(path.read_text())["duration"]


def test_folders_are_mirrored(cli, tree, tmp_path):
    done = cli("transcribe", tree, "--format", "json", "--output-dir", tmp_path / "out", "-q")
    assert done == (0, "", "")
    assert written(tmp_path / "out") == {"one/a.json", "one/b.json", "two/a.json", "two/deep/a.json"}
    assert duration(tmp_path / "out/two/deep/a.json") == 0.65
    assert duration(tmp_path / "out/two/a.json") == 0.6


def test_names_are_below_the_folder_given(cli, tree, tmp_path):
    assert cli("transcribe", tree / "two", "--output-dir", tmp_path / "out", "-q") == (0, "", "")
    assert written(tmp_path / "out") == {"a.txt", "deep/a.txt"}


def test_equal_names_of_folders_and_files_are_told_apart(cli, tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tree)
    assert cli("transcribe", "one", "two/a.wav", "--output-dir", tmp_path / "out", "-q") == (0, "", "")
    assert written(tmp_path / "out") == {"one/a.txt", "one/b.txt", "two/a.txt"}
    for name in ("one/a.txt", "one/b.txt", "two/a.txt"):
        Path(name).write_text("hello")
    for second, utterances in (("two/a.wav", {"one/a", "two/a"}), ("one/b.wav", {"a", "b"})):
        code, out, _ = cli("align", "one/a.wav", second, "--format", "ctm")
        assert code == 0
        assert {line.split()[0] for line in out.splitlines()} == utterances


def test_a_film_and_its_sound_keep_their_suffixes():
    found = [(Path(each), Path("talks")) for each in ("talks/a.wav", "talks/a.mp4", "talks/b.wav", "talks/a.wav.mp3")]
    assert [each.name for each in recordings.named(found)] == ["a.wav", "a.mp4", "b.wav", "a.wav.mp3"]
    found = found[:3]
    assert [each.name for each in recordings.named(found)] == ["a.wav", "a.mp4", "b"]
    assert [each.name for each in recordings.named([(Path("-"), Path(".")), (Path("x/stdin.wav"), Path("x"))])] == [
        "stdin",
        "stdin.wav",
    ]
    twice = [(Path("a.wav"), Path(".")), (Path("./a.wav"), Path("."))]
    assert [each.name for each in recordings.named(twice)] == ["a", "a"]


@pytest.mark.parametrize("verb", [["transcribe", "--format", "tsv"], ["transcribe", "--format", "srt"], ["align"]])
def test_formats_without_names_are_not_run_together(cli, tree, tmp_path, verb):
    for path in (tree / "one").iterdir():
        path.with_suffix(".txt").write_text("hello")
    code, out, err = cli(*verb, tree / "one")
    form = verb[-1] if len(verb) > 1 else "textgrid"
    assert (code, out) == (2, "")
    ways = "give --output-dir, or --format json or ctm"
    assert err == f"asr: --format {form} does not name the recording, and there are 2: {ways}\n"
    assert cli(*verb, tree / "one" / "a.wav")[0] == 0
    assert cli(*verb, tree / "one", "--output-dir", tmp_path / "out", "-q")[0] == 0


@pytest.mark.parametrize("suffix", [".wave", ".aifc", ".caf", ".w64", ".mp2", ".oga", ".gsm"])
def test_a_folder_is_searched_for_all_that_is_read(cli, tmp_path, suffix):
    kind = {".wave": "WAV", ".aifc": "AIFF", ".caf": "CAF", ".w64": "W64", ".oga": "OGG"}.get(suffix)
    path = tmp_path / f"a{suffix}"
    if suffix == ".gsm":
        path.write_bytes(bytes([0xD0, *bytes(32)]) * 100)  # frames of 33 bytes, 20 ms each, which begin with 0xD
    else:
        options = {"format": "MP3", "subtype": "MPEG_LAYER_III"} if kind is None else {"format": kind}
        soundfile.write(path, np.zeros(16000), 16000, **options)
    code, out, err = cli("transcribe", tmp_path)
    assert (code, out.count("\n"), err) == (0, 1, "")
    assert suffix == ".gsm" or out == "\n"  # its frames are no silence


@pytest.mark.parametrize("suffix", [".m4a", ".webm", ".wma", ".mkv", ".amr", ".MP4"])
def test_sound_that_cannot_be_read_is_a_line(cli, tmp_path, suffix):
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    (tmp_path / f"b{suffix}").write_bytes(bytes(1000))
    code, out, err = cli("transcribe", tmp_path)
    assert (code, out) == (1, f"{tmp_path / 'a.wav'}: \n")
    fault, count = err.splitlines()
    assert fault.startswith(f"asr: {tmp_path / f'b{suffix}'}: ")
    assert count == "asr: 1 of 2 recordings could not be read"


def test_what_cannot_be_written_ends_the_batch(cli, tree, tmp_path, monkeypatch):
    """The second file of three finds the disk full."""
    tried = []

    def write(path, text):
        tried.append(path.name)
        if len(tried) == 2:
            raise OutputError(f"cannot write {path}: No space left on device: free some space")

    monkeypatch.setattr(loop, "write_text", write)
    code, out, err = cli("transcribe", tree, "--output-dir", tmp_path / "out", "-q")
    assert (code, out) == (2, "")
    assert err == f"asr: cannot write {tmp_path / 'out/one/b.txt'}: No space left on device: free some space\n"
    assert tried == ["a.txt", "b.txt"]


def test_a_folder_for_results_that_cannot_be(cli, tree, tmp_path):
    (tmp_path / "file").write_text("x")
    for verb in (["transcribe"], ["align", "--text", "hello"]):
        code, out, err = cli(*verb, tree / "one/a.wav", "--output-dir", tmp_path / "file/out")
        assert (code, out) == (2, "")
        assert err == f"asr: cannot make the folder {tmp_path / 'file/out'}: Not a directory: name another one\n"
        code, _, err = cli(*verb, tree / "one/a.wav", "--output-dir", tmp_path / "out", "--model", "absent")
        assert (code, "absent" in err, (tmp_path / "out").exists()) == (2, True, False)


def test_a_channel_is_aligned(cli, tmp_path, rng):
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal((16000, 2)), 16000)
    scores = {}
    for options in ([], ["--channel", "0"], ["--channel", "1"]):
        _, out, _ = cli("align", tmp_path / "a.wav", "--phones", "HH AY", "--format", "json", *options)
        scores[tuple(options)] = json.loads(out)["score"]
    assert len({*scores.values()}) == 3
    code, _, err = cli("align", tmp_path / "a.wav", "--phones", "HH", "--channel", "2")
    assert (code, err.count("\n")) == (2, 1)
    assert "there is no channel 2 among 2" in err


@pytest.mark.parametrize("options", [[], ["--stream"]])
def test_the_microphone_is_looked_for_before_enter_is_asked_for(python, options):
    code = "import runpy, sys; sys.modules['sounddevice'] = None; runpy.run_module('asr', run_name='__main__')"
    done = python(code, "transcribe", "--mic", *options)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("asr: --mic needs a microphone's library")


def test_the_microphone_asks_for_enter_when_it_hears(monkeypatch, capsys):
    class Devices:
        class PortAudioError(Exception):
            pass

        @staticmethod
        def InputStream(**_):
            raise Devices.PortAudioError("no input device")

    monkeypatch.setattr(microphone, "library", lambda: Devices)
    with pytest.raises(AsrError, match="no input device"):
        microphone.record()
    assert capsys.readouterr() == ("", "")


LIGHT = """
import importlib.abc, runpy, sys
class Lacking(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "lhotse", "kaldialign", "matplotlib", "scipy", "pytorch_lightning"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Lacking())
runpy.run_module("asr", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "No such command 'trian'"),
        (["train", "--dat", "x", "a.yaml"], "No such option: --dat"),
        (["train", "nosuch.yaml"], "asr: no file nosuch.yaml"),
        (["prepare", "nosuch.yaml"], "asr: no file nosuch.yaml"),
        (
            ["train", "recipes/mini/blstm_ctc.yaml", "train.max_epoch=3"],
            "'train.max_epoch': did you mean train.max_epochs?",
        ),
        (["evaluate", "nosuch"], "asr: no model folder at nosuch"),
        (["evaluate", "en-us-phones", "decode.beem=3"], "asr: unknown key 'decode.beem': did you mean decode.beam?"),
        (["evaluate", "en-us-phones", "--split", "tset"], "asr: --split must be one of test, dev"),
        (["calibrate", "nosuch"], "asr: no model folder at nosuch"),
        (["tune", "nosuch", "decode.lm=x"], "asr: no model folder at nosuch"),
        (["sensitivity", "nosuch"], "asr: no model folder at nosuch"),
        (["compare", "nosuch"], "asr: nosuch: no such file or folder"),
        (["score", "nosuch", "none"], "asr: nosuch: no such file or folder"),
        (["lm", "train", "nosuch.yaml"], "asr: nosuch.yaml: no such file or folder"),
        (
            ["export", "en-us-phones", "x", "--int8"],
            "asr: --int8 is for the graph that --onnx, --waveform or --web writes: give one of them",
        ),
    ],
)
def test_a_light_install_names_the_typo(python, words, message):
    done = python(LIGHT, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in re.sub(r"\s+", " ", done.stderr)
    assert "this install" not in done.stderr


def test_several_hypotheses_of_a_system_that_has_one(cli, tmp_path, monkeypatch):
    from asr.models.onnx import OnnxModel

    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    monkeypatch.setattr(OnnxModel, "has_nbest", False)
    code, out, err = cli("transcribe", tmp_path / "a.wav", "--nbest", "3", "--format", "json")
    assert (code, out, err) == (2, "", "asr: --nbest must be 1 for this system, but it is 3\n")


def test_textgrids_of_mirrored_folders_are_scored_by_name(cli, tree, tmp_path):
    assert cli("transcribe", tree / "one", "--format", "textgrid", "--output-dir", tmp_path / "out", "-q")[0] == 0
    assert read_labels(tmp_path / "out").keys() == {"a", "b"}


def test_a_pipe_that_cannot_be_copied_is_the_disks_fault(monkeypatch):
    def copy(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    monkeypatch.setattr(sound_files.shutil, "copyfileobj", copy)
    with pytest.raises(OutputError, match=r"cannot copy a pipe to .*: No space left on device: free some space there"):
        audio.load(Pipe(b"RIFF"))
