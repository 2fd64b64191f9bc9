"""`asr transcribe --words --hint`."""

import json
from pathlib import Path

import pytest

from asr.lm import arpa
from asr.lm.estimation import estimate
from asr.lm.language_model import UNKNOWN
from asr.recognition.recogniser import Recogniser

RECORDING = Path(__file__).parents[3] / "docs" / "audio" / "glorious-scrap.flac"
BEGIN = "i'd say there was going to be a glorious"


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    """A language model that does not know the last word of the recording."""
    path, text = tmp_path_factory.mktemp("lm") / "words.arpa", [f"{BEGIN} crab".split(), ["crab"], ["a", "stop"]]
    arpa.write(estimate(text, "words", 3, "witten_bell", [UNKNOWN, *text[0], "stop"]), path)
    return path


@pytest.fixture
def transcribe(cli, lm):
    common = ("transcribe", RECORDING, "--model", "en-us-phones-small", "--lm", lm, "--beam-size", 30)
    return lambda *options: cli(*common, *options)


def test_a_word_that_the_language_model_lacks_is_written_as_in_the_hint(transcribe, tmp_path):
    assert f"{BEGIN} Scrap" not in transcribe("--words")[1]
    assert transcribe("--words", "--hint", "Ljubljana, Scrap") == (0, f"{BEGIN} Scrap\n", "")
    (tmp_path / "hints.txt").write_text("Ljubljana\nGlorious SCRAP\nscrapp\tS K R AE P P\n")
    said = transcribe("--words", "--hint", tmp_path / "hints.txt", "--format", "json")
    phones, words = (json.loads(said.out)[key] for key in ("phones", "words"))
    assert [word["label"] for word in words[-2:]] == ["glorious", "SCRAP"]
    assert (words[-1]["start"], words[-1]["end"]) == (phones[-5]["start"], phones[-1]["end"])
    assert words[-2]["end"] == phones[-6]["end"]


def test_a_bonus_is_given(transcribe):
    common = ("--words", "--hint", "Scrap", "--format", "json", "--nbest", 2)
    scores = [json.loads(transcribe(*common, "--hint-bonus", bonus).out)["nbest"][0]["score"] for bonus in (4, 6)]
    assert scores[1] - scores[0] == pytest.approx(2.0, abs=2e-4)


def test_a_known_word_as_a_hint_is_no_second_hypothesis(transcribe):
    common = ("--words", "--hint", "glorious", "--format", "json", "--nbest", 5)
    found = [(each["phones"], each["text"]) for each in json.loads(transcribe(*common).out)["nbest"]]
    assert len({*found}) == len(found) == 5


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--hint", "Scrap"), "hints are for words: add --words"),
        (("--hint-bonus", 3), "hints are for words: add --words"),
        (("--words", "--hint", "a.txt"), "asr: no such file: 'a.txt'; as a hint, 'a.txt' cannot be pronounced"),
        (("--words", "--hint", "Scrap, R2.D2"), "asr: the hint 'R2.D2' cannot be pronounced: write numbers"),
        (("--words", "--hint", RECORDING.parent), "is a folder: name a file in it"),
        (("--words", "--hint", "Zee\tZ I"), "asr: the hint gives Zee I, which the acoustic model has no label for"),
        (("--words", "--hint", "x", "--hint-bonus", -1), "Invalid value for '--hint-bonus'"),
        (("--hint", "x", "--words", "--hint-bonus", "inf"), "asr: --hint-bonus must be 0 or more and finite"),
    ],
)
def test_hints_that_cannot_be_used(transcribe, options, fault):
    code, out, errors = transcribe(*options)
    assert (code, out) == (2, "")
    assert fault in errors


def test_a_file_with_a_hint_that_cannot_be_pronounced(transcribe, tmp_path):
    path = tmp_path / "hints.txt"
    path.write_text("R2.D2\nScrap\n")
    code, out, errors = transcribe("--words", "--hint", path)
    assert (code, out) == (0, f"{BEGIN} Scrap\n")
    assert f"{path}, line 1: 'R2.D2' cannot be pronounced: write numbers" in errors


def test_a_long_list(transcribe):
    assert transcribe("--words", "--hint", ", ".join(["Scrap", *["Ljubljana"] * 50])) == (0, f"{BEGIN} Scrap\n", "")


def test_from_python(lm):
    recogniser = Recogniser.from_pretrained("en-us-phones-small", 30, words=lm, hints=["Ljubljana", "Scrap"])
    assert recogniser.transcribe(RECORDING).text == f"{BEGIN} Scrap"
