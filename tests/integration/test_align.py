"""`asr align` as a user types it, with the shipped model."""

import json
import os
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.speech.label_files import read_labels, read_segments

PHONES = ["G", "R", "IY", "N", "T", "R", "IY"]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Two recordings with their texts, and one that is no audio."""
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(1)
    for name, text in (("a", "Green, tree!"), ("b", "tree green")):
        soundfile.write(folder / f"{name}.wav", 0.1 * rng.standard_normal(32000), 16000)
        (folder / f"{name}.txt").write_text(text)
    (folder / "c.wav").write_text("no audio")
    (folder / "c.txt").write_text("hello")
    return folder


def faults_of(err):
    """The lines on standard error but for those that say that noise is not the text."""
    return [line for line in err.splitlines() if "the text does not fit the recording" not in line]


def test_a_text_becomes_a_textgrid(cli, recordings, tmp_path):
    code, out, err = cli("align", recordings / "a.wav", "--text", "Green, tree!")
    assert (code, faults_of(err)) == (0, [])
    (tmp_path / "a.TextGrid").write_text(out)
    (phones,) = read_segments(tmp_path / "a.TextGrid").values()
    assert [phone.label for phone in phones] == PHONES
    assert all(0 <= before.start < before.end <= after.start for before, after in pairwise(phones))
    assert phones[-1].end <= 2
    assert '"words"' in out
    assert '"Green"' in out


def test_phones_become_json_with_goodness(cli, recordings):
    code, out, _ = cli("align", recordings / "a.wav", "--phones", "HH AH L OW", "--format", "json", "--gop")
    assert code == 0
    found = json.loads(out)
    assert found["words"] == []
    assert [phone["label"] for phone in found["phones"]] == ["HH", "AH", "L", "OW"]
    assert all(phone["goodness"] <= 0 and 0 <= phone["confidence"] <= 1 for phone in found["phones"])


@pytest.mark.parametrize(("form", "suffix"), [("textgrid", ".TextGrid"), ("ctm", ".ctm"), ("audacity", ".labels.txt")])
def test_a_folder_is_aligned_and_its_bad_file_reported(cli, recordings, tmp_path, form, suffix):
    code, out, err = cli("align", recordings, "--format", form, "--output-dir", tmp_path)
    assert (code, out.split()[:4]) == (1, ["aligned", "2", "failed", "1"])
    fault, *_, count = faults_of(err)
    assert fault.startswith(f"asr: {recordings / 'c.wav'}: ")
    assert count == "asr: 1 of 3 recordings could not be aligned"
    assert {path.name for path in tmp_path.iterdir()} == {f"a{suffix}", f"b{suffix}", ".made-from"}
    if form != "audacity":
        assert read_labels(tmp_path / f"a{suffix}") == {"a": PHONES}
        assert read_labels(tmp_path / f"b{suffix}") == {"b": PHONES[4:] + PHONES[:4]}


def test_a_recording_that_is_missing_does_not_stop_the_others(cli, recordings):
    code, out, err = cli("align", recordings / "none.wav", recordings / "a.wav", "--format", "json")
    assert code == 1
    assert json.loads(out)["path"] == str(recordings / "a.wav")
    assert err.splitlines()[0] == f"asr: {recordings / 'none.wav'}: no such file or folder: check the path"


def test_one_text_is_for_one_recording(cli, recordings):
    code, out, err = cli("align", recordings, "--text", "hello")
    assert (code, out) == (2, "")
    assert err == "asr: one text for 3 recordings: put each one's text in a .txt file beside it\n"


def test_a_pipe_is_aligned_like_a_file(python, recordings):
    arguments = ("--text", "hello world", "--format", "json")
    code = "import sys; sys.stdin = open(sys.argv.pop(1)); from asr.cli.app import main; main()"
    piped = json.loads(python(code, recordings / "a.wav", "align", "-", *arguments).stdout)
    plain = json.loads(python(code, "/dev/null", "align", recordings / "a.wav", *arguments).stdout)
    assert piped.pop("path") == "-"
    assert piped == {key: value for key, value in plain.items() if key != "path"}


def test_nothing_is_overwritten(cli, recordings, tmp_path):
    (tmp_path / "other").mkdir()
    for name in ("a.wav", "a.txt"):
        shutil.copy(recordings / name, tmp_path / "other" / name)
    both = (recordings / "a.wav", tmp_path / "other" / "a.wav")
    common = Path(os.path.commonpath([path.parent for path in both]))
    names = [path.relative_to(common).with_suffix("") for path in both]
    code, out, err = cli("align", *both, "--output-dir", tmp_path / "out")
    assert (code, faults_of(err)) == (0, [])
    assert {line.split()[0] for line in out.splitlines()[-2:]} == {name.as_posix() for name in names}
    assert all((tmp_path / "out" / f"{name}.TextGrid").is_file() for name in names)
    code, out, _ = cli("align", *both, "--format", "ctm")
    assert code == 0
    assert list(dict.fromkeys(line.split()[0] for line in out.splitlines())) == list(map(str, names))
    code, out, _ = cli("align", *both, "--format", "json")
    assert code == 0
    assert [json.loads(line)["path"] for line in out.splitlines()] == list(map(str, both))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--text", "hello", "--phones", "HH"), 2, "exclude each other"),
        (("--text", " "), 2, "the text is empty"),
        (("--text", "hello", "--gop"), 2, "--gop needs --format json"),
        (("--text", "hello", "--format", "mp4"), 2, "asr: --format must be one of textgrid, eaf, ctm, json, audacity"),
        (("--text", "hello blorfix", "--no-g2p"), 2, "not in the dictionary: 'blorfix'"),
        (("--text", "日本"), 2, "has no pronunciation"),
        (("--phones", "HH QQ"), 2, "'QQ' at position 2 of 2 is not one of the model's"),
        (("--phones", "HH AH L OW " * 200), 2, "a.wav: 800 phones need at least"),
    ],
)
def test_faults_are_one_line(cli, recordings, arguments, code, message):
    found, out, err = cli("align", recordings / "a.wav", *arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert err.count("\n") == 1


def test_words_whose_sound_is_guessed_are_named_in_a_line(cli, recordings):
    code, out, err = cli("align", recordings / "a.wav", "--text", "hello blorfix on 5/6/2020", "--format", "json")
    assert code == 0
    assert f"asr: {recordings / 'a.wav'}: guessed: blorfix\n" in err
    assert [word["label"] for word in json.loads(out)["words"]] == ["hello", "blorfix", "on", "5/6/2020"]


def test_a_text_that_is_far_too_long_has_a_line(cli):
    code, out, err = cli("align", SPEECH, "--text", SAID + " hello" * 200, "--format", "json")
    assert code == 0
    assert len(json.loads(out)["words"]) == 210
    (count,) = re.findall(r": (\d+) of 210 words are not heard, the first '", err)
    assert 200 <= int(count) <= 202  # and perhaps a short word of what is said


def test_a_text_of_which_nothing_is_heard_cannot_be_longer_than_the_recording(cli):
    code, _, err = cli("align", SPEECH, "--text", "hello " * 200, "--format", "json")
    assert code == 2
    assert ": 800 phones need at least 800 frames, and there are " in err
    assert "check that the text is this recording's" in err


SPEECH, SAID = Path("docs/audio/glorious-scrap.flac"), "I'd say there was going to be a glorious scrap"


@pytest.mark.parametrize("form", ["ctm", "json", "textgrid"])
def test_a_text_that_does_not_fit_ends_with_1_if_asked(cli, form):
    line = f"asr: {SPEECH}: the text does not fit the recording"
    options = ("--format", form, "--strict")
    code, out, err = cli("align", SPEECH, "--text", "infantile people never listen to Mozart", *options)
    assert (code, err.startswith(line), err.count("\n")) == (1, True, 1)
    assert out
    assert cli("align", SPEECH, "--text", SAID, *options)[::2] == (0, "")


def test_a_text_that_does_not_fit_ends_with_1_again_when_it_is_passed_by(cli, recordings, tmp_path):
    arguments = ("align", recordings / "a.wav", "--output-dir", tmp_path, "--resume", "--strict")
    codes = [cli(*arguments)[0] for _ in range(2)]
    assert codes == [1, 1]


def test_what_the_text_lacks_is_labelled_if_asked(cli, tmp_path):
    """Half of the sentence stands in the text; where the other half is, the whole text tells."""

    def aligned(text, *options):
        code, out, _ = cli("align", SPEECH, "--text", text, *options)
        assert code == 0
        return out

    whole = json.loads(aligned(SAID, "--format", "json", "--unk"))
    assert whole["unspoken"] == []
    half = " ".join(SAID.split()[:5])
    found = json.loads(aligned(half, "--format", "json", "--unk"))
    ((start, end),) = [(each["start"], each["end"]) for each in found["unspoken"]]
    assert abs(start - whole["words"][5]["start"]) < 0.2
    assert abs(end - whole["words"][-1]["end"]) < 0.2
    for units in ("words", "phones"):
        lines = [line.split() for line in aligned(half, "--format", "ctm", "--units", units, "--unk").splitlines()]
        assert [line[4] for line in lines][-1] == "<unk>"
        assert len(lines) == len(found[units]) + 1
        assert float(lines[-1][2]) == pytest.approx(max(start, found[units][-1]["end"]), abs=2e-3)
    grid = tmp_path / "half.TextGrid"
    grid.write_text(aligned(half, "--unk"))
    assert read_labels(grid)["half"].count("<unk>") == 1
    assert "<unk>" not in aligned(half) + aligned(half, "--format", "json") + aligned(half, "--format", "ctm")
    assert "unspoken" not in json.loads(aligned(half, "--format", "json"))
