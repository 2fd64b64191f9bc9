"""Phone sets of one's own: files, IPA written in several ways, foldings between sets, formats that labels survive."""

import json

import pytest

from asr.core.errors import AsrError
from asr.evaluation.score import score_files
from asr.recognition.recogniser import Transcript
from asr.recognition.render import SUFFIXES, render
from asr.speech import ipa, phone_files, phones
from asr.speech.label_files import read_labels
from asr.speech.segments import Segment

HARD = ("t͡ʃ", "ʈʰ", "aː˥˩", "ã", "ɔ̃ː", "k͡p", "ɗ̥", "ǃ", "n̩", "ç", 'a"', "{", "@", "9", "ŋ͡m", "ʔ", "tʲː", "ɚ")


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf8")
    return str(path)


# --- files


def test_a_label_a_line_is_ipa(tmp_path):
    path = write(tmp_path / "phones.txt", *HARD)
    assert phones.PhoneSet.load(path).labels == HARD
    assert [phones.ipa(label, path) for label in HARD] == list(HARD)
    assert phones.is_own(path)
    assert not phones.is_characters(path)


def test_columns_have_ipa_and_what_a_label_counts_as(tmp_path):
    path = write(tmp_path / "a.tsv", "label\tipa\tscoring", "a:\taː\ta", "a\ta\ta", "aI\taɪ\ta I", "I\tɪ\tI", "?\tʔ\t")
    table = phone_files.read(path)
    assert table.scoring == {"a:": ("a",), "a": ("a",), "aI": ("a", "I"), "I": ("I",), "?": ()}
    phone_files.write(tmp_path / "scoring.tsv", table.scored())
    assert phones.table(str(tmp_path / "scoring.tsv")).ipa == {"a": "a", "I": "ɪ"}
    assert phones.fold(["a:", "?", "aI"], path, str(tmp_path / "scoring.tsv")) == ["a", "a", "I"]
    phone_files.write(tmp_path / "copy.tsv", table)
    assert phone_files.read(tmp_path / "copy.tsv") == table
    assert phones.fold(["a:", "?"], path, str(tmp_path / "copy.tsv")) == ["a:", "?"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"a\nb\na\n", "line 3: 'a' stands in line 1, too"),
        (b"a\nt s\n", "line 2: 't s' is not one phone"),
        (b"a\n<blank>\n", "line 2: '<blank>' is no phone"),
        (b"a\tb\tc\td\n", "line 1 has 4 columns"),
        (b"a\ta\ta\nb\tb\n", "line 2: 'b' has no third column"),
        (b"a\n\xff\n", "line 2 is not UTF-8"),
        (b"\n", "has no phones"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_line(content, fault, tmp_path):
    (tmp_path / "phones.tsv").write_bytes(content)
    with pytest.raises(AsrError, match=r"phones\.tsv") as caught:
        phones.PhoneSet.load(str(tmp_path / "phones.tsv"))
    assert fault in str(caught.value)


def test_a_name_that_is_neither(tmp_path):
    with pytest.raises(AsrError, match=r"no phone set is called 'timit60': choose from arpabet39, .* or name a file"):
        phones.PhoneSet.load("timit60")


# --- IPA in several ways


@pytest.mark.parametrize(
    ("one", "other"),
    [("t͡ʃ", "tʃ"), ("ʧ", "t͜ʃ"), ("g", "ɡ"), ("ã", "a\u0303"), ("ç", "c\u0327"), ("ˈaː", "a:"), ("ɚ", "ə˞")],
)
def test_ways_to_write_one_phone(one, other):
    assert ipa.normal(one) == ipa.normal(other)


def test_what_is_told_apart_stays_apart():
    assert len({ipa.normal(label) for label in HARD}) == len(HARD)
    for one, other in (("a", "aː"), ("a", "ã"), ("t", "tʰ"), ("a˥", "a˩"), ("ç", "c"), ("ʔ", "ʕ")):
        assert ipa.normal(one) != ipa.normal(other)


def test_phones_of_a_set_that_writes_them_otherwise():
    plain = ipa.Matcher({"ts": "ts", "t": "t", "s": "s", "a": "a", "i": "i", "N": "ŋ"})
    assert plain.find("t͡s") == ("ts",)
    assert plain.find("aːi̯") == ("a", "i")  # the set has neither length nor glides
    assert plain.find("ã˥") == ("a",)
    assert plain.find("θ") is None
    long = ipa.Matcher({"a": "a", "aː": "aː", "i": "i"})
    assert long.find("aː") == ("aː",)
    assert long.find("iː") is None  # long and short are told apart here: nothing is guessed


def test_folding_between_the_librarys_sets_and_ones_own(tmp_path):
    path = write(tmp_path / "phones.txt", "t͡ʃ", "a", "ɪ", "n", "ʌ", "k")
    assert phones.fold(["CH", "AY", "N"], "arpabet39", path) == ["t͡ʃ", "a", "ɪ", "n"]
    assert phones.fold(["t͡ʃ", "ʌ"], path, "arpabet39") == ["CH", "AH"]
    with pytest.raises(AsrError, match="the phone 'TH', θ in IPA, of arpabet39 is not in the phone set"):
        phones.fold(["TH"], "arpabet39", path)


# --- formats


@pytest.mark.parametrize("form", sorted(SUFFIXES.keys() - {"srt", "vtt"}))
def test_labels_survive_every_format(form, tmp_path):
    segments = [Segment(label, 0.1 * i, 0.1 * (i + 1), 0.9) for i, label in enumerate(HARD)]
    said = Transcript(segments, duration=0.1 * len(HARD) + 0.1)
    path = tmp_path / f"a{SUFFIXES[form]}"
    path.write_text(render(said, form, "a"), encoding="utf8")
    (labels,) = (read_labels(tmp_path, "text") if form == "text" else read_labels(path)).values()
    assert labels == list(HARD)


def test_json_has_them_as_they_are():
    said = json.loads(Transcript([Segment("aː˥˩", 0.0, 0.1, 0.9)], duration=0.5).to_json())
    assert said["phones"][0]["label"] == "aː˥˩"


def test_scoring_in_a_set_of_ones_own(tmp_path):
    path = write(tmp_path / "phones.tsv", "t͡ʃ\tt͡ʃ\ttʃ", "ʈʰ\tʈʰ\tt", "aː˥˩\taː\ta", "a\ta\ta")
    reference, hypothesis = tmp_path / "ref.trn", tmp_path / "hyp.trn"
    reference.write_text("t͡ʃ aː˥˩ ʈʰ (u1)\n", encoding="utf8")
    hypothesis.write_text("t͡ʃ a (u1)\n", encoding="utf8")
    found = score_files(reference, hypothesis, path)
    assert found["regimes"][0]["num_phones"] == 3
    assert (found["regimes"][0]["substitutions"], found["regimes"][0]["deletions"]) == (1, 1)
    assert {row["group"] for row in found["classes"]["manner"]} == {"plosive", "affricate", "vowel"}
