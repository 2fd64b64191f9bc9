"""Speech of one's own, from the files that people have to a trained and scored model, and what a check of it finds."""

import json
import re
import shutil

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, RecordingSet, SupervisionSet

from asr.data import check as checking
from asr.speech.label_files import to_textgrid
from asr.speech.segments import Segment
from data_prep import forms, mini
from tests.conftest import ROOT
from tests.speech_forms import FORMS, SAID, edit, sound, table, table_of_parts, text_beside

YAML = """
data: {corpora: {mine: PLACE}, max_frames: 800, num_buckets: 2}
features: {num_mel_bins: 20, delta_order: 0}
model: {name: blstm, num_layers: 1, hidden_size: 16, stack: 3}
train: {max_epochs: 2, learning_rate: 0.01}
decode: {beam_size: 2}
"""


def textgrids(mini_tree, folder):
    """A folder for each speaker; beside each recording a TextGrid with TIMIT's phones, as a phonetician keeps them."""
    for path in mini_tree.rglob("*.WAV"):
        audio = folder / path.parent.name / f"{path.stem}.wav"
        audio.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, audio)
        rows = (line.split() for line in path.with_suffix(".PHN").read_text().splitlines())
        phones = [Segment(label, int(start) / 16000, int(end) / 16000) for start, end, label in rows]
        audio.with_suffix(".TextGrid").write_text(to_textgrid({"phones": phones}, soundfile.info(audio).duration))


def shar(mini_tree, folder):
    """Shar of a prepared corpus, a folder for each split."""
    manifests = folder.parent / "manifests"
    mini.prepare(mini_tree, manifests)
    for split in ("train", "dev", "test"):
        found = (kind.from_file(manifests / f"{name}_{split}.jsonl.gz") for name, kind in KINDS.items())
        (folder / split).mkdir(parents=True)
        CutSet.from_manifests(*found).to_shar(folder / split, {"recording": "flac"})


KINDS = {"recordings": RecordingSet, "supervisions": SupervisionSet}


@pytest.mark.parametrize(("make", "num_dev", "num_test"), [(textgrids, 8, 8), (shar, 8, 16)])
def test_two_epochs_and_a_score(cli, mini_tree, tmp_path, monkeypatch, make, num_dev, num_test):
    monkeypatch.chdir(tmp_path)
    make(mini_tree, tmp_path / "mine")
    (tmp_path / "tiny.yaml").write_text(YAML.replace("PLACE", str(tmp_path / "mine")))
    code, out, err = cli("train", "tiny.yaml", "--run", "run")
    assert code == 0, err
    assert "left out" not in err
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert len(history["epochs"]) == 2
    code, out, err = cli("evaluate", "run")
    assert code == 0, err
    assert re.search(rf"^mine test, best path: PER .*, {num_test} utterances\)$", out, re.MULTILINE)
    assert len(SupervisionSet.from_file(tmp_path / "data" / "mine" / "supervisions_dev.jsonl.gz")) == num_dev


@pytest.mark.parametrize("make", FORMS, ids=lambda make: make.__name__)
def test_two_epochs_on_each_form(cli, tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    make(tmp_path / "mine")
    (tmp_path / "tiny.yaml").write_text(YAML.replace("PLACE", str(tmp_path / "mine")))
    code, _, err = cli("train", "tiny.yaml", "--run", "run")
    assert code == 0, err
    assert len(json.loads((tmp_path / "run" / "history.json").read_text())["epochs"]) == 2


def test_a_corpus_is_prepared_without_a_recipe(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "My speech")
    code, out, err = cli("prepare", "--corpus", tmp_path / "My speech")
    assert code == 0, err
    assert re.fullmatch(r"My_speech: manifests in data/My_speech, contents \w{16}\n", out)
    assert f"{tmp_path}/My speech: a table, 4 utterances" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a recipe, or a corpus of your own with --corpus"),
        (("recipes/mini/blstm_ctc.yaml", "--seed", "1"), "--seed must come with --corpus"),
        (("--corpus", "nowhere"), "there is no nowhere: check the path"),
        (("--corpus", "bad"), "utterances.tsv, line 4 has the split 'deaf': write train, dev or test"),
        (("--corpus", "empty"), "empty has no form of speech data that is known"),
    ],
)
def test_what_cannot_be_prepared_is_one_line(cli, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "bad")
    edit(tmp_path / "bad" / "utterances.tsv", "dev", "deaf")
    (tmp_path / "empty").mkdir()
    for verb in (("prepare", *arguments), ("data", "check", *arguments[1:])) if arguments[:1] == ("--corpus",) else ():
        code, out, err = cli(*verb)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert err.startswith("asr: ")
    code, out, err = cli("prepare", *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err


# --- the check


def report_of(cli, folder, *options):
    code, out, err = cli("data", "check", folder, "--output", folder.parent / "checked", *options)
    assert code == 0, err
    return dict(line.split(": ", 1) for line in out.splitlines() if ": " in line), out


def test_a_sound_corpus(cli, tmp_path):
    table(tmp_path / "mine")
    found, out = report_of(cli, tmp_path / "mine")
    assert found[str(tmp_path / "mine")] == "a table"
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[2:5]}
    assert rows["train"] == ["2", "1", "0.00", "1.5", f"{17 / 3:.1f}"]
    assert list(rows) == ["train", "dev", "test"]
    assert found["sample rates"] == "16000 Hz (4 utterances)"
    assert found["words"] == "9, of which 8 are different"
    assert found["left out"] == "0 utterances"
    assert [key for key, value in found.items() if value == "none"] == [
        f"more than {checking.MOSTLY_SILENT:.0%} silence", "silent, below -60 dB", "clipped",
        "longer than data.max_duration, 25 s", "text too long for its sound",
        "words that CMUdict lacks, pronounced by rule", "words without a pronunciation",
        "characters beyond the alphabet", "the same sound in two splits", "the same sound twice in a split",
        "texts of dev or test that are in train, too",
    ]  # fmt: skip
    values = json.loads((tmp_path / "checked" / "check.json").read_text())
    assert [each["id"] for each in values["utterances"]] == list(SAID)
    page = (tmp_path / "checked" / "check.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert "{{" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert (tmp_path / "checked" / "check.png").read_bytes().startswith(b"\x89PNG")


def test_rates_are_those_of_what_can_be_heard(cli, tmp_path):
    """Phones of recordings that are missing counted as if said in the others."""
    text_beside(tmp_path)
    (tmp_path / "train" / "ann" / "a2.wav").write_bytes(b"")
    (tmp_path / "test" / "cid" / "c1.wav").write_bytes(b"")
    _, out, _ = cli("data", "check", tmp_path, "--output", tmp_path / "checked")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith(("train ", "test "))}
    assert rows == {"train": ["2", "1", "0.00", "1.5", "5.3"], "test": ["1", "1", "0.00", "0.0", "0.0"]}


def test_every_fault_is_found(cli, tmp_path):
    folder = tmp_path / "mine"
    text_beside(folder)
    rng = np.random.default_rng(1)
    loud, quiet = (scale * rng.standard_normal(24000) for scale in (2.0, 1e-5))
    bursts = np.where(np.arange(24000) // 2400 == 4, 0.1, 0.0001) * rng.standard_normal(24000)
    for name, samples, text in (
        ("loud", loud.clip(-1, 1), "hello"), ("quiet", quiet, "hello"), ("bursts", bursts, "hello"),
        ("fast", bursts[::4], "a seventh of seven hundred seventy seven thousand seven hundred and seventy"),
        ("long", np.tile(bursts, 20), "hello"), ("guess", loud / 9, "the snark"),
        ("digits", loud / 8, "naïve 22 utrecht"),
    ):  # fmt: skip
        soundfile.write(folder / "train" / "ann" / f"{name}.wav", samples, 16000)
        (folder / "train" / "ann" / f"{name}.txt").write_text(text)
    (folder / "train" / "ann" / "torn.wav").write_bytes((folder / "train" / "ann" / "loud.wav").read_bytes()[:20000])
    (folder / "train" / "ann" / "torn.txt").write_text("hello")
    shutil.copy(folder / "train" / "ann" / "a1.wav", folder / "test" / "cid" / "copy.wav")
    (folder / "test" / "cid" / "copy.txt").write_text("Hello world")
    shutil.copy(folder / "train" / "ann" / "a2.wav", folder / "train" / "ann" / "twin.wav")
    (folder / "train" / "ann" / "twin.txt").write_text("a wooden fish")
    sound(folder / "train" / "ann" / "low.wav", sample_rate=8000).with_suffix(".txt").write_text("hello")
    found, _out = report_of(cli, folder)
    assert found["sample rates"] == "16000 Hz (13 utterances), 8000 Hz (1 utterance)"
    assert found["silent, below -60 dB"] == "1 (quiet)"
    assert found["more than 70% silence"] == "3 (bursts, fast, long)"
    assert found["clipped"] == "1 (loud)"
    assert found["longer than data.max_duration, 25 s"] == "1 (long)"
    assert found["text too long for its sound"] == "1 (fast)"
    assert found["words that CMUdict lacks, pronounced by rule"] == "2 (naïve, snark)"
    assert found["words without a pronunciation"] == "2 (22, utrecht)"
    assert found["characters beyond the alphabet"] == "'2' 2 times, 'ï' 1 time"
    assert found["the same sound in two splits"].startswith("1: a1 (train) = copy (test)")
    assert found["the same sound twice in a split"] == "1: a2 (train) = twin (train)"
    assert found["texts of dev or test that are in train, too"] == "1, such as 'hello world'"
    assert found["left out"] == "2 utterances:"
    beside = folder / "train" / "ann"
    assert found[f"  digits ({beside / 'digits.txt'})"] == "it has no phones: mend its text"
    assert "cut short" in found[f"  torn ({beside / 'torn.txt'})"]


def test_parts_of_a_recording_are_measured_apart(cli, tmp_path):
    (tmp_path / "mine").mkdir()
    table_of_parts(tmp_path / "mine")
    samples, rate = soundfile.read(tmp_path / "mine" / "talk.wav")
    samples[: len(samples) // 4] = 0
    soundfile.write(tmp_path / "mine" / "talk.wav", samples, rate)
    found, _ = report_of(cli, tmp_path / "mine")
    assert found["silent, below -60 dB"] == "1 (talk-0000000-0001500)"
    assert found["the same sound in two splits"] == "none"


def test_a_prepared_corpus_can_be_checked(cli, tmp_path, mini_tree):
    mini.prepare(mini_tree, tmp_path / "mini")
    found, _out = report_of(cli, tmp_path / "mini")
    assert found[str(tmp_path / "mini")] == "manifests of Lhotse"
    assert found["left out"] == "0 utterances"


# --- the guide


GUIDE = ROOT / "docs" / "guides" / "your-own-speech.md"


def shown_after(command):
    """The lines that the guide shows below a command, at all places."""
    blocks = re.findall(rf"^    \$ {re.escape(command)}\n((?:    .*\n)+)", GUIDE.read_text(), re.MULTILINE)
    return [line[4:] for block in blocks for line in block.splitlines() if line.strip() != "…"]


def test_the_guide_has_every_form():
    rows = re.findall(r"^\| \[([^\]]+)\]\(#[\w-]+\) \|", GUIDE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(form.name for form in forms.FORMS)


def test_the_guide_shows_what_a_check_says(cli, tmp_path):
    table(tmp_path / "mine")
    _, out = report_of(cli, tmp_path / "mine")
    printed, shown = out.splitlines(), shown_after("asr data check mine")
    assert shown[0].endswith(printed[0].removeprefix(str(tmp_path)))
    assert shown[1] == printed[1]
    beginnings = [re.split(r": |  ", line)[0] for line in printed[2:]]
    assert [re.split(r": |  ", line)[0] for line in shown[2:]] == beginnings


def test_the_guide_shows_what_is_missing_and_wrong(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "mine")
    edit(tmp_path / "mine" / "utterances.tsv", "ann\ttrain\ta ", "ann\ttests\ta ")
    code, _, err = cli("prepare", "--corpus", "mine")
    (shown,) = shown_after("asr prepare --corpus mine")
    assert (code, err.replace(str(tmp_path), "/home/me")) == (2, shown + "\n")
    for speaker in range(22):
        for i in range(8):
            sound(tmp_path / "spoken" / f"s{speaker}" / f"{i}.wav", 0.1).with_suffix(".txt").write_text("hello")
    _, _, err = cli("prepare", "--corpus", "spoken")
    lines = [line.strip() for line in err.replace(f"{tmp_path}/spoken", "/home/me/mine").splitlines()]
    shown = [line.strip() for line in GUIDE.read_text().splitlines() if line.startswith("    INFO")]
    assert lines == shown
    assert len(shown) == 3
