"""Transcripts in every format, read back where somebody reads them; which recordings a command line means."""

import json

import numpy as np
import pytest
import soundfile

from asr.cli import recordings
from asr.core.errors import AsrError
from asr.recognition.recogniser import NBest, Transcript
from asr.recognition.render import SUFFIXES, render
from asr.speech.label_files import read_segments
from asr.speech.segments import Segment

PHONES = [Segment("HH", 0.1, 0.2, 0.9), Segment("AY", 0.2, 0.35, 0.8), Segment("M", 3.0, 3.1, 0.7)]
WORDS = [Segment("hi", 0.1, 0.35, 0.72), Segment("[M]", 3.0, 3.1, 0.7)]
SAID = Transcript(PHONES, 3.5, WORDS, [NBest(("HH", "AY", "M"), -1.5, ("hi", "[M]")), NBest(("AY", "M"), -2.25)])


@pytest.mark.parametrize("form", ["ctm", "textgrid", "json"])
def test_what_is_written_is_read_back(form, tmp_path):
    path = tmp_path / f"a{SUFFIXES[form]}"
    path.write_text(render(SAID, form, "a"), encoding="utf8")
    (found,) = read_segments(path).values()
    assert [(each.label, each.start, each.end) for each in found] == [(p.label, p.start, p.end) for p in PHONES]


def test_words_take_the_place_of_phones_where_there_is_one():
    assert render(SAID, "text", "a", words=True) == "hi [M]\n"
    assert render(SAID, "text", "a") == "HH AY M\n"
    assert render(SAID, "ctm", "a", words=True).splitlines()[0] == "a 1 0.100 0.250 hi 0.720"
    assert "hi" in render(SAID, "textgrid", "a")
    assert "words" not in render(Transcript(PHONES, 3.5), "textgrid", "a")


def test_a_table_of_words_has_a_row_for_each_sentence_between_pauses():
    words = [
        Segment("so", 0.1, 0.3, 0.9),
        Segment("it", 0.59, 0.7, 0.6),  # 0.29 s later
        Segment("is", 1.0, 1.2, 0.5),  # 0.3 s later
        Segment("[M AH]", 1.2, 9.0, 0.7),
    ]
    table = render(Transcript([], 9.5, words), "tsv", "a", words=True).splitlines()
    assert table == ["start\tend\tlabel\tconfidence", "0.100\t0.700\tso it\t0.750", "1.000\t9.000\tis [M AH]\t0.600"]
    assert render(Transcript([], 9.5, words), "ctm", "a", words=True).splitlines()[-1] == "a 1 1.200 7.800 [M_AH] 0.700"


def test_subtitles_end_at_pauses_and_after_five_seconds():
    assert render(SAID, "srt", "a", words=True) == (
        "1\n00:00:00,100 --> 00:00:00,350\nhi\n\n2\n00:00:03,000 --> 00:00:03,100\n[M]\n\n"
    )
    steady = [Segment("AA", 3598.0 + 0.5 * i, 3598.5 + 0.5 * i) for i in range(24)]
    cues = render(Transcript(steady, 3700.0), "srt", "a").split("\n\n")[:-1]
    assert [cue.count("AA") for cue in cues] == [10, 10, 4]
    assert cues[0].splitlines()[1] == "00:59:58,000 --> 01:00:03,000"


def test_json_has_the_other_hypotheses_too():
    values = json.loads(render(SAID, "json", "ä b.wav"))
    assert values["path"] == "ä b.wav"
    assert values["nbest"] == [
        {"phones": "HH AY M", "text": "hi [M]", "score": -1.5},
        {"phones": "AY M", "score": -2.25},
    ]
    assert values["words"][0]["label"] == "hi"
    assert render(SAID, "json", "a").count("\n") == 1


def test_ipa():
    said = SAID.ipa
    assert str(said) == "h aɪ m"
    assert said.nbest[1] == NBest(("aɪ", "m"), -2.25)
    assert [phone.start for phone in said] == [phone.start for phone in SAID]
    assert said.ipa == said
    unknown = [Segment(label, 0.0, 0.1) for label in ("hi", "[K AE T]", "[katz]", "[]")]
    nbest = [NBest(("K",), -1.0, ("[K AE T]", "hi")), NBest(("K",), -2.0)]
    said = Transcript([Segment("K", 0.0, 0.1)], 0.1, unknown, nbest).ipa
    assert [word.label for word in said.words] == ["hi", "[k æ t]", "[katz]", "[]"]
    assert [each.words for each in said.nbest] == [("[k æ t]", "hi"), None]
    assert said.ipa == said
    assert str(Transcript([Segment("axr", 0.0, 0.1)], 0.1, phone_set="timit61").ipa) == "ɚ"
    with pytest.raises(AsrError, match="'axr' is not in the phone set arpabet39"):
        Transcript([Segment("axr", 0.0, 0.1)], 0.1).ipa  # noqa: B018


def test_methods_write_what_the_command_writes():
    assert SAID.to_textgrid() == render(SAID, "textgrid", "a")
    assert SAID.to_json("a.wav") + "\n" == render(SAID, "json", "a.wav")
    assert "path" not in json.loads(SAID.to_json())


def test_a_format_that_does_not_exist():
    with pytest.raises(AsrError, match="no format is called 'mp4': choose from text, json, ctm, textgrid"):
        render(SAID, "mp4", "a")


def test_nothing_said():
    nothing = Transcript([], 1.0)
    found = {form: render(nothing, form, "a") for form in SUFFIXES}
    assert found["text"] == "\n"
    assert found["ctm"] == found["srt"] == ""
    assert found["tsv"] == "start\tend\tlabel\tconfidence\n"


@pytest.fixture
def folder(tmp_path):
    for name in ("b/one.wav", "b/c/two.FLAC", "note.txt", "[odd].wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("txt"):
            (tmp_path / name).write_text("x")
        else:
            soundfile.write(tmp_path / name, np.zeros(100), 16000, format=name[-4:].strip(".").upper())
    return tmp_path


def test_recordings_of_a_command_line(folder):
    def found(name):
        return list(recordings.find(name))

    assert found(folder) == [folder / "[odd].wav", folder / "b/c/two.FLAC", folder / "b/one.wav"]
    assert found(folder / "note.txt") == [folder / "note.txt"]
    assert found("-") == [recordings.STDIN]
    assert found(folder / "**/*.wav") == [folder / "[odd].wav", folder / "b/one.wav"]
    assert found(folder / "[odd].wav") == [folder / "[odd].wav"]
    with pytest.raises(AsrError, match="no such file or folder"):
        recordings.find(folder / "*.mp3")
    (folder / "empty").mkdir()
    with pytest.raises(AsrError, match="no audio files in this folder"):
        recordings.find(folder / "empty")
