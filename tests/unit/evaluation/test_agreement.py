"""The agreement of two alignments: errors that are known, other spellings, silences, files of all kinds."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from asr.core.errors import AsrError
from asr.evaluation import agreement
from asr.speech import elan
from asr.speech.label_files import to_ctm, to_textgrid
from asr.speech.segments import Segment

LABELS = ["HH", "AH", "L", "OW", "S", "P", "IY"]
FIRST = [Segment(label, 0.1 * k, 0.1 * (k + 1)) for k, label in enumerate(LABELS)]


def shifted(milliseconds):
    """The same phones, the starts of which are so many milliseconds later."""
    return [replace(each, start=each.start + ms / 1000) for each, ms in zip(FIRST, milliseconds, strict=True)]


def test_classes_have_the_shifts_of_their_phones():
    rows = agreement.compare({"a": FIRST}, {"a": shifted([0, 5, -15, 15, 30, 60, -10])}).rows()
    by_name = {row["name"]: row for row in rows}
    assert by_name["all"]["num_boundaries"] == 7
    assert by_name["all"]["mean_absolute_ms"] == pytest.approx(135 / 7, abs=0.01)
    assert by_name["all"]["mean_ms"] == pytest.approx(85 / 7, abs=0.01)
    assert by_name["all"]["within"] == {"10": 42.86, "20": 71.43, "50": 85.71}
    assert by_name["plosive"]["mean_ms"] == 60
    assert by_name["fricative"]["within"] == {"10": 50.0, "20": 50.0, "50": 100.0}
    assert by_name["vowel"]["median_ms"] == -2.5
    assert by_name["diphthong"]["num_boundaries"] == 1
    lines = agreement.table(rows).splitlines()
    assert lines[1].split()[-7:] == ["71.4", "%", "85.7", "%", "19.3", "ms", "12.1", "ms", "5.0", "ms", "7"][-7:]


def test_silences_are_left_out_and_spellings_are_one():
    mfa = [Segment("", 0.0, 0.05), *(replace(each, label=each.label + "0" * (each.label == "AH")) for each in FIRST)]
    ipa = [replace(each, label=new) for each, new in zip(FIRST, ["h", "ʌ", "l", "oʊ", "s", "p", "iː"], strict=True)]
    kaldi = [replace(each, label=f"{each.label}_I") for each in FIRST] + [Segment("sil", 0.7, 0.9)]
    for other in (mfa, ipa, kaldi):
        found = agreement.compare({"a": FIRST}, {"a": other})
        assert (len(found.differences), found.unmatched) == (7, (0, 0))
        assert found.rows()[0]["mean_absolute_ms"] == 0
        assert found.differences[5].group == "plosive"


def test_phones_that_one_side_lacks_are_counted():
    other = [*FIRST[:2], Segment("D", 0.2, 0.25), *FIRST[3:6]]
    found = agreement.compare({"a": FIRST, "b": FIRST}, {"a": other, "c": FIRST})
    assert [each.label for each in found.differences] == ["HH", "AH", "OW", "S", "P"]
    assert found.unmatched == (2, 1)
    assert found.missing == (["b"], ["c"])
    assert found.notes(("A", "B")) == [
        "2 phones of A have no like one on the other side",
        "1 phone of B has no like one on the other side",
        "1 utterances are not in B, such as b",
        "1 utterances are not in A, such as c",
    ]


def test_labels_of_no_phone_set_are_compared_as_they_stand():
    words = [Segment("hello", 0.1, 0.4), Segment("you", 0.4, 0.6)]
    rows = agreement.compare({"a": words}, {"a": [replace(words[0], start=0.2), words[1]]}).rows()
    assert [(row["name"], row["mean_absolute_ms"]) for row in rows] == [("all", 50), ("other", 50)]


def test_outliers_are_the_worst_and_not_all_in_one_place():
    long = [replace(each, start=each.start + 3 * k, end=each.end + 3 * k) for k in range(3) for each in FIRST]
    other = list(long)
    for k, ms in ((2, 200), (3, 150), (9, 300), (16, 10)):
        other[k] = replace(other[k], start=other[k].start + ms / 1000, end=other[k].end + 1)
    found = agreement.compare({"a": long}, {"a": other}).outliers(10)
    assert [(each.label, round(1000 * each.shift)) for each in found] == [("L", 300), ("L", 200)]
    assert len(agreement.compare({"a": long}, {"a": other}).outliers(1)) == 1


def test_what_cannot_be_compared_is_one_line():
    with pytest.raises(AsrError, match="no utterance in common: the first has a, the second b"):
        agreement.compare({"a": FIRST}, {"b": FIRST})
    with pytest.raises(AsrError, match="no phone in common"):
        agreement.compare({"a": FIRST[:1]}, {"a": [Segment("hello", 0.0, 0.1)]})


@pytest.fixture
def sides(tmp_path):
    """Two alignments in several formats, and the recording."""
    second = shifted([0, 0, 0, 0, 60, 0, 0])
    (tmp_path / "grids").mkdir()
    (tmp_path / "elan").mkdir()
    (tmp_path / "sound" / "deep").mkdir(parents=True)
    grid = to_textgrid({"words": [Segment("hello", 0.0, 0.4)], "phones": FIRST}, 1.0)
    (tmp_path / "grids" / "u.TextGrid").write_text(grid, encoding="utf8")
    (tmp_path / "elan" / "u.eaf").write_text(elan.to_eaf({"phones": second, "words": [Segment("hello", 0.03, 0.4)]}))
    (tmp_path / "second.ctm").write_text(to_ctm("u", second))
    noise = 0.1 * np.random.default_rng(0).standard_normal(16000)
    soundfile.write(tmp_path / "sound" / "deep" / "u.wav", noise, 16000)
    return tmp_path


@pytest.mark.parametrize("second", ["elan", "second.ctm"])
def test_the_command_prints_a_table_and_writes_a_page(cli, sides, second):
    page = sides / "page.html"
    code, out, err = cli(
        "compare-alignments", sides / "grids", sides / second, "--audio", sides / "sound", "--report", page
    )
    assert (code, err) == (0, f"page: {page}\n")
    assert re.split("  +", out.splitlines()[1]) == ["all", *["85.7 %"] * 3, "8.6 ms", "8.6 ms", "0.0 ms", "7"]
    text = page.read_text()
    assert text.count("<audio") == 1
    assert "S, u: at 0.400 s and at 0.460 s, +60 ms" in text
    assert not {"http://", "https://"} & {*text.replace("http://www.w3.org/2000/svg", "").split('"')}
    code, out, _ = cli("compare-alignments", sides / "grids", sides / second, "--json")
    assert code == 0
    assert json.loads(out)["rows"][0]["mean_absolute_ms"] == pytest.approx(8.57, abs=0.01)


def test_another_tier_is_compared(cli, sides):
    code, out, _ = cli("compare-alignments", sides / "grids", sides / "elan", "--tier", "words")
    assert code == 0
    assert out.splitlines()[1].split()[-7:] == ["30.0", "ms", "30.0", "ms", "30.0", "ms", "1"]
    code, _, err = cli("compare-alignments", sides / "grids", sides / "elan", "--tier", "syllables")
    assert code == 2
    assert "has no tier 'syllables': it has 'words', 'phones'" in err
    code, _, err = cli("compare-alignments", sides / "grids", sides / "second.ctm", "--tier", "words")
    assert code == 2
    assert "--tier is for those: leave it out" in err
