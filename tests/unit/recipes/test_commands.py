"""Which sentence of a grammar is said in a recording."""

import csv
import json
import sys
from pathlib import Path

import pytest
import soundfile

from asr.speech import audio
from recipes.en_us_phones import commands

RECORDING = Path(__file__).parents[3] / "docs" / "audio" / "glorious-scrap.flac"
GRAMMAR = """context:
  expressions:
    promise:
      - "[I'd say, I hear, who said] there was going to be [a, the] $kind:kind $what:what"
      - "[I'd say, I hear, who said] there was going to be [a, the] $what:what"
    order:
      - "[get, bring] me some $drink:drink please"
"""


@pytest.fixture
def benchmark(tmp_path):
    """The benchmark's folders, with a recording, the same under another order, and one that is missing."""
    folder = tmp_path / "speech-to-intent-benchmark"
    for each in ("rhino", "label", "speech/clean"):
        (folder / "data" / each).mkdir(parents=True)
    (folder / "data" / "rhino" / "coffee_maker.yaml").write_text(GRAMMAR)
    promise = {"intent": "promise", "slots": {"kind": " glorious", "what": "scrap"}}
    orders = {"right.wav": promise, "wrong.wav": {"intent": "order", "slots": {"drink": "tea"}}, "missing.wav": promise}
    (folder / "data" / "label" / "label.json").write_text(json.dumps(orders))
    for name in ("right.wav", "wrong.wav"):
        soundfile.write(folder / "data" / "speech" / "clean" / name, audio.load(RECORDING), audio.SAMPLE_RATE)
    return folder


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["commands", *map(str, arguments)])
    commands.main()


def test_sentences_have_all_slots_and_no_others():
    expressions = [
        "[Thank, I want] $what:what of $who:who",
        "$what:what of $who:who [again, at once]",
        "$what:what only",
    ]
    assert list(commands.sentences(expressions, {"what": "some tea", "who": "mine"})) == [
        "Thank some tea of mine",
        "I want some tea of mine",
        "some tea of mine again",
        "some tea of mine at once",
    ]
    assert list(commands.sentences(expressions, {"what": "tea"})) == ["tea only"]


def test_the_sentence_that_is_said_is_found_and_one_that_nobody_says_left_out(benchmark, tmp_path, monkeypatch, capsys):
    run(monkeypatch, benchmark, tmp_path / "table", "--model", "en-us-phones-small")
    with (tmp_path / "table" / "utterances.tsv").open() as lines:
        (row,) = csv.DictReader(lines, delimiter="\t")
    assert row["text"] == "I'd say there was going to be a glorious scrap"
    assert (Path(row["path"]).name, row["speaker"], row["split"]) == ("right.wav", "right", "train")
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'table'}: train 0.1 min")


def remove_orders(folder):
    (folder / "data" / "label" / "label.json").unlink()


def remove_recordings(folder):
    for path in (folder / "data" / "speech" / "clean").iterdir():
        path.unlink()


def forget_an_intent(folder):
    grammar = folder / "data" / "rhino" / "coffee_maker.yaml"
    grammar.write_text(grammar.read_text().replace("order:", "ask:"))


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (remove_orders, "label.json: clone github.com/Picovoice/speech-to-intent-benchmark"),
        (remove_recordings, "none of the recordings that"),
        (forget_an_intent, "has no sentence for the intent order of wrong.wav"),
    ],
)
def test_what_is_missing_is_told_in_a_line(spoil, expected, benchmark, tmp_path, monkeypatch, capsys):
    spoil(benchmark)
    with pytest.raises(SystemExit):
        run(monkeypatch, benchmark, tmp_path / "table", "--model", "en-us-phones-small")
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert expected in error
    assert not (tmp_path / "table").exists()
