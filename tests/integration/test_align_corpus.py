"""`asr align` on a corpus: goes on where it stopped, several processes, channels, files with utterances, formats."""

import json
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.cli import aligning, journal
from asr.cli.aligning import Aligner
from asr.models import model_folder
from asr.recognition.recogniser import Recogniser
from asr.recognition.render_alignment import Shape
from asr.speech import elan, espeak
from asr.speech.label_files import read_segments, read_tiers, to_textgrid
from asr.speech.segments import Segment
from asr.training.pronunciation import _state
from tests import batches

TEXTS = {"a": "The sun is up.", "b": "Nobody saw the old dog. It slept!", "c": "We left at five."}

# What a shell runs in the background has no handler of SIGINT.
INTERRUPTIBLE = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {batches.RUN}"


def spoken(text):
    said = espeak.synthesise(text)
    return np.asarray(said.samples, np.float32) / 32768, said.sample_rate


@pytest.fixture(scope="module")
def speech():
    return {name: spoken(text) for name, text in TEXTS.items()}


@pytest.fixture
def corpus(speech, tmp_path):
    """Three recordings in two folders, with their texts."""
    for name, (waveform, rate) in speech.items():
        folder = tmp_path / "in" / ("deep" if name == "c" else ".")
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{name}.wav", waveform, rate)
        (folder / f"{name}.txt").write_text(TEXTS[name])
    return tmp_path / "in"


def counts(out):
    """The numbers in the summary."""
    return {name.strip(): value for name, value in re.findall(r"^([a-z ]+?)  +(\S+)", out, re.MULTILINE)}


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.*d")}


def test_a_batch_goes_on_where_it_stopped_and_is_never_stale(cli, corpus, tmp_path):
    out = tmp_path / "out"

    def again(*options):
        code, printed, err = cli("align", corpus, "--output-dir", out, *options, "-q")
        assert code == 0, err
        found = counts(printed)
        return int(found["aligned"]), int(found.get("done before", 0))

    assert again() == (3, 0)
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.TextGrid")} == {
        "a.TextGrid",
        "b.TextGrid",
        "deep/c.TextGrid",
    }
    assert again("--resume") == (0, 3)
    (out / "a.TextGrid").write_text("corrected by hand")  # which is not lost
    assert again("--resume") == (0, 3)
    assert (out / "a.TextGrid").read_text() == "corrected by hand"
    (out / "b.TextGrid").unlink()
    assert again("--resume") == (1, 2)
    (corpus / "a.txt").write_text("The son is up.")
    assert again("--resume") == (1, 2)
    assert "son" in (out / "a.TextGrid").read_text()
    waveform, rate = soundfile.read(corpus / "b.wav")
    soundfile.write(corpus / "b.wav", 0.5 * waveform, rate)
    assert again("--resume") == (1, 2)
    assert again("--resume", "--ipa") == (3, 0)
    assert again("--resume") == (3, 0)
    (tmp_path / "lexicon").write_text("sun S AH N\n")
    assert again("--resume", "--lexicon", tmp_path / "lexicon") == (3, 0)
    (tmp_path / "lexicon").write_text("sun S AA N\n")
    assert again("--resume", "--lexicon", tmp_path / "lexicon") == (3, 0)
    journal.forget(out, "a.TextGrid")  # as when a batch is killed while it writes
    assert again("--resume", "--lexicon", tmp_path / "lexicon") == (1, 2)
    assert again() == (3, 0)


def test_resuming_needs_a_folder(cli, corpus):
    code, out, err = cli("align", corpus, "--resume")
    assert (code, out, err) == (2, "", "asr: --resume needs --output-dir, where the results of before are\n")


def test_a_model_with_another_n_gram_is_another(tmp_path):
    model = tmp_path / "model"
    shutil.copytree(model_folder.find("en-us-phones-small"), model)
    aligner = Aligner(str(model), None, None, True, False, None, (), Shape("ctm"), False, None)
    states = []
    for content in ("one", "other"):
        (model / "phone_trigram" / "model.safetensors").write_text(content)
        states += [replace(aligner)._options, _state(model, "")]
    assert len({*states}) == 4


def test_several_processes_write_the_same(cli, corpus, tmp_path):
    (corpus / "broken.wav").write_text("no sound")
    (corpus / "broken.txt").write_text("no sound")
    (corpus / "a.txt").write_text("The flurbing sun is up.")
    results = [cli("align", corpus, "--output-dir", tmp_path / f"of{n}", "--jobs", n, "-q") for n in (1, 2)]
    assert results[0] == results[1]
    code, out, err = results[0]
    assert code == 1
    assert counts(out)["failed"] == "1"
    assert sum("guessed: flurbing" in line for line in err.splitlines()) == 1  # once, whatever the processes
    assert contents(tmp_path / "of1") == contents(tmp_path / "of2")
    assert len(contents(tmp_path / "of1")) == 3
    printed = [cli("align", corpus, "--format", "json", "--jobs", n, "-q").out for n in (1, 2)]
    assert printed[0] == printed[1]


@pytest.mark.parametrize("at_once", [0.0, 1.5, 480.0])
def test_recordings_that_are_heard_together_are_what_each_is_alone(cli, corpus, tmp_path, monkeypatch, at_once):
    """Among them some without text, too short, and damaged, whose lines stand in their places."""
    soundfile.write(corpus / "b-short.wav", np.zeros(200), 16000)
    (corpus / "b-short.txt").write_text("short")
    (corpus / "broken.wav").write_text("no sound")
    (corpus / "broken.txt").write_text("no sound")
    soundfile.write(corpus / "a-mute.wav", np.zeros(16000), 16000)
    paths = [corpus / name for name in ("a.wav", "a-mute.wav", "b.wav", "b-short.wav", "broken.wav", "deep/c.wav")]
    alone = [cli("align", path, "--format", "json") for path in paths]
    assert [each.code for each in alone] == [0, 2, 0, 2, 2, 0]
    monkeypatch.setattr(aligning, "AT_ONCE", at_once)
    heard = []
    hear = Recogniser.hear_several
    monkeypatch.setattr(
        Recogniser, "hear_several", lambda self, sounds: heard.append(len(sounds)) or hear(self, sounds)
    )
    code, out, err = cli("align", *paths, "--format", "json")
    assert (code, out) == (1, "".join(each.out for each in alone))
    assert err == "".join(each.err for each in alone) + "asr: 3 of 6 recordings could not be aligned\n"
    assert heard == {0.0: [1, 1, 1, 1, 0], 1.5: [2, 2], 480.0: [4]}[at_once]


@pytest.mark.parametrize("jobs", [1, 2])
def test_nothing_but_missing_recordings_is_a_line_for_each(cli, tmp_path, jobs):
    found = cli("align", tmp_path / "a.wav", tmp_path / "b.wav", "--output-dir", tmp_path / "out", "--jobs", jobs)
    assert found.code == 2
    assert [line.endswith("no such file or folder: check the path") for line in found.err.splitlines()[:2]] == [
        True
    ] * 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("what", ["Ctrl-C", "a killed process"])
def test_processes_end_without_a_traceback(corpus, tmp_path, what):
    """While one of two processes has to wait for a recording."""
    os.mkfifo(corpus / "d.wav")
    (corpus / "d.txt").write_text("Nothing is said.")
    names = [corpus / name for name in ("a.wav", "b.wav", "deep/c.wav", "d.wav")]
    options = ("--output-dir", tmp_path / "out", "--jobs", 2, "-q")
    with batches.start("align", *names, *options, code=[INTERRUPTIBLE], start_new_session=True) as command:
        batches.wait_for(lambda: len(list((tmp_path / "out").rglob("*.TextGrid"))) == 3, command)
        if what == "Ctrl-C":
            os.killpg(command.pid, signal.SIGINT)
        else:
            for process in batches.children(command):  # one of them keeps count of what the processes share
                if "spawn_main" in Path(f"/proc/{process}/cmdline").read_text():
                    os.kill(process, signal.SIGKILL)
        _, err = command.communicate(timeout=60)
    killed = "asr: a process was killed, perhaps for want of memory: take fewer --jobs\n"
    expected = (130, "\nasr: stopped\n") if what == "Ctrl-C" else (2, killed)
    assert (command.returncode, err) == expected


def test_each_channel_has_its_own_text(cli, speech, tmp_path):
    (a, rate), (b, _) = speech["a"], speech["b"]
    both = np.zeros((max(len(a), len(b)), 2), np.float32)
    both[: len(a), 0], both[: len(b), 1] = a, b
    soundfile.write(tmp_path / "call.wav", both, rate)
    (tmp_path / "call.0.txt").write_text(TEXTS["a"])
    (tmp_path / "call.1.txt").write_text(TEXTS["b"])
    code, out, _ = cli("align", tmp_path / "call.wav", "--each-channel", "--format", "ctm", "--units", "words")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0
    assert "its channels have texts, which --each-channel takes" in cli("align", tmp_path / "call.wav").err
    assert [(row[0], row[1], row[4]) for row in rows] == [
        *(("call", "1", word) for word in ("The", "sun", "is", "up")),
        *(("call", "2", word) for word in ("Nobody", "saw", "the", "old", "dog", "It", "slept")),
    ]
    alone = cli(
        "align", tmp_path / "call.wav", "--channel", 1, "--text", TEXTS["b"], "--format", "ctm", "--units", "words"
    )
    assert alone.out.splitlines() == out.splitlines()[4:]
    code, _, _ = cli("align", tmp_path, "--each-channel", "--output-dir", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").glob("*.TextGrid")} == {"call.0.TextGrid", "call.1.TextGrid"}
    (tmp_path / "call.0.txt").unlink()
    (tmp_path / "call.1.txt").rename(tmp_path / "call.txt")  # the text of the recording is that of any channel, too
    named = cli("align", tmp_path / "call.wav", "--channel", 1, "--format", "ctm", "--units", "words")
    assert named.out == alone.out
    assert (
        "no channel has a text: write what the first says to call.0.txt" in cli("align", tmp_path, "--each-channel").err
    )


@pytest.fixture
def dialogue(speech, tmp_path):
    """A recording in which a is said from 1 s on, and b from 5 s on, with a TextGrid of both."""
    (a, rate), (b, _) = speech["a"], speech["b"]
    waveform = 0.001 * np.random.default_rng(1).standard_normal(10 * rate).astype(np.float32)
    places = {"a": (1.0, a), "b": (5.0, b)}
    for first, part in places.values():
        waveform[round(first * rate) : round(first * rate) + len(part)] += part
    said = {name: Segment(TEXTS[name], first, first + len(part) / rate) for name, (first, part) in places.items()}
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "talk.wav", waveform, rate)
    tiers = {"anna": [said["a"]], "ben": [said["b"]]}
    (tmp_path / "in" / "talk.TextGrid").write_text(to_textgrid(tiers, 10.0), encoding="utf8")
    return tmp_path, tiers


@pytest.mark.parametrize("form", ["textgrid", "eaf"])
def test_utterances_are_kept_and_aligned_within_their_bounds(cli, dialogue, form):
    folder, tiers = dialogue
    code, _, err = cli("align", folder / "in", "--output-dir", folder / "out", "--format", form)
    assert (code, err) == (0, "")
    (path,) = (folder / "out").glob("talk.*")
    found = read_tiers(path) if form == "textgrid" else elan.read_tiers(path)
    assert list(found) == ["anna", "ben", "anna - words", "anna - phones", "ben - words", "ben - phones"]
    for name, (said,) in tiers.items():
        assert [(each.label, each.start, each.end) for each in found[name]] == [
            (said.label, pytest.approx(said.start, abs=1e-3), pytest.approx(said.end, abs=1e-3))
        ]
        words = found[f"{name} - words"]
        assert [word.label for word in words] == re.findall(r"\w+", said.label)
        assert said.start - 1e-3 <= words[0].start
        assert words[-1].end <= said.end + 1e-3
        assert words[0].start < said.start + 0.3


def test_the_file_of_the_utterances_is_not_written_over(cli, dialogue):
    folder, _ = dialogue
    before = (folder / "in" / "talk.TextGrid").read_bytes()
    code, _, err = cli("align", folder / "in", "--output-dir", folder / "in")
    assert code == 2
    assert "has the utterances, and would be written over: name another --output-dir" in err
    assert (folder / "in" / "talk.TextGrid").read_bytes() == before


def test_a_tier_can_be_named_and_an_utterance_that_fails_is_said(cli, dialogue):
    folder, tiers = dialogue
    grid = to_textgrid(tiers | {"noise": [Segment("日本", 3.5, 4.0)]}, 10.0)
    (folder / "in" / "talk.TextGrid").write_text(grid, encoding="utf8")
    (folder / "in" / "talk.txt").write_text("something else")
    code, out, err = cli("align", folder / "in", "--tier", "ben", "--format", "ctm", "--units", "words")
    assert (code, err) == (0, "")
    assert [line.split()[4] for line in out.splitlines()] == ["Nobody", "saw", "the", "old", "dog", "It", "slept"]
    code, out, err = cli(
        "align", folder / "in", "--tier", "noise", "--tier", "ben", "--format", "ctm", "--units", "words"
    )
    assert code == 0
    assert "the utterance at 3.50 s is left out: the word '日本' has no pronunciation" in err
    assert len(out.splitlines()) == 7
    code, _, err = cli("align", folder / "in", "--tier", "carl")
    assert code == 2
    assert "has no tier 'carl': it has 'anna', 'ben', 'noise'" in err


def test_formats_agree(cli, corpus, tmp_path):
    """Each format says what the JSON says."""

    def printed(*options):
        code, out, err = cli("align", corpus / "b.wav", *options)
        assert (code, err) == (0, "")
        return out

    values = json.loads(printed("--format", "json"))
    words, sentences = (
        [Segment(each["label"], each["start"], each["end"]) for each in values[key]] for key in ("words", "sentences")
    )
    assert [each.label for each in sentences] == ["Nobody saw the old dog.", "It slept!"]
    assert (sentences[0].start, sentences[0].end) == (words[0].start, words[4].end)
    assert [each["label"] for each in values["syllables"]][:3] == ["N OW", "B AA", "D IY"]
    lab = [line.split() for line in printed("--format", "lab", "--units", "words").splitlines()]
    assert [(int(start), int(end), label) for start, end, label in lab] == [
        (round(1e7 * word.start), round(1e7 * word.end), word.label) for word in words
    ]
    cues = printed("--format", "srt").split("\n\n")
    assert [cue.splitlines()[-1] for cue in cues[:-1]] == [each.label for each in sentences]
    cues = printed("--format", "vtt", "--units", "words").split("\n\n")
    assert cues[0] == "WEBVTT"
    assert [cue.splitlines()[-1] for cue in cues[1:-1]] == [word.label for word in words]
    labels = printed("--format", "audacity", "--units", "syllables").splitlines()
    assert [line.split("\t")[2] for line in labels] == [each["label"] for each in values["syllables"]]
    assert all(re.fullmatch(r"\d+\.\d{6}\t\d+\.\d{6}\t[^\t]+", line) for line in labels)
    (tmp_path / "b.TextGrid").write_text(printed("--tiers", "sentences,syllables,phones", "--ipa"))
    tiers = read_tiers(tmp_path / "b.TextGrid")
    assert list(tiers) == ["sentences", "syllables", "phones"]
    assert [each.label for each in tiers["syllables"]][:3] == ["n oʊ", "b ɑ", "d i"]
    assert [each.start for each in read_segments(tmp_path / "b.TextGrid")["b"]] == [
        pytest.approx(phone["start"]) for phone in values["phones"]
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tiers", "words,clauses"), "--tiers must be some of sentences, words, syllables, phones"),
        (("--tiers", "words,words"), "--tiers must be"),
        (("--units", "clauses"), "--units must be one of sentences"),
        (("--each-channel", "--channel", "0"), "leave --channel, --text and --phones out"),
    ],
)
def test_options_that_do_not_fit_are_one_line(cli, corpus, options, message):
    code, out, err = cli("align", corpus / "a.wav", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_page_has_the_quality_of_words_and_recordings(cli, corpus, tmp_path):
    """A text with words that nobody says, and a recording buried in noise."""
    waveform, rate = soundfile.read(corpus / "b.wav")
    loud = np.random.default_rng(1).standard_normal(2 * len(waveform))
    loud[: len(waveform)] += waveform / np.sqrt(np.mean(waveform**2)) * 0.1
    soundfile.write(corpus / "b.wav", 0.02 * loud, rate)
    (corpus / "a.txt").write_text("The sun is up and the neighbours were sleeping.")
    page = tmp_path / "report.html"
    options = ("--output-dir", tmp_path / "out", "--report", page)
    code, _, err = cli("align", corpus, *options)
    assert code == 0
    assert f"page: {page}" in err
    values = json.loads(page.with_suffix(".json").read_text())
    assert values.keys() == {"a", "b", "deep/c"}
    assert values["b"]["quality"] < 0.2 < values["deep/c"]["quality"]
    assert values["b"]["snr"] < 5 < values["deep/c"]["snr"]
    unsaid = [word["label"] for word in values["a"]["rated"] if "not said" in word["notes"]]
    assert unsaid[-5:] == ["and", "the", "neighbours", "were", "sleeping"]
    assert not {"The", "sun"} & {*unsaid}
    assert values["a"]["unsaid"] == len(unsaid)
    text = page.read_text()
    assert "neighbours, a at" in text
    assert text.count("<audio") >= 5
    before = text
    assert cli("align", corpus, *options, "--resume")[0] == 0
    assert page.read_text() == before
