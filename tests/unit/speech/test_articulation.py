"""Manner, place and voicing of any IPA, against panphon's features where these tell them."""

import csv

import panphon
import pytest

from asr.evaluation.confusions import feature_error_rate
from asr.speech import articulation as module
from asr.speech.articulation import MANNERS, PLACES, articulation

FEATURES = panphon.FeatureTable()
with (module._TABLES / "letters.tsv").open(encoding="utf8") as lines:
    LETTERS = list(csv.DictReader(lines, delimiter="\t"))
# features that a manner has: son, cont, nas, lat, syl
WANTED = {
    "plosive": {"son": -1, "cont": -1, "nas": -1},
    "implosive": {"son": -1, "cont": -1, "cg": 1},
    "click": {"velaric": 1, "cont": -1},
    "fricative": {"cont": 1, "son": -1, "lat": -1},
    "lateral fricative": {"cont": 1, "son": -1, "lat": 1},
    "nasal": {"nas": 1, "son": 1, "cont": -1},
    "trill": {"son": 1, "cont": 1, "lat": -1, "syl": -1},
    "tap": {"son": 1, "cont": 1, "syl": -1},
    "lateral approximant": {"son": 1, "lat": 1, "syl": -1},
    "approximant": {"cons": -1, "cont": 1, "lat": -1, "syl": -1},
    "vowel": {"syl": 1},
}
OTHERWISE = {"h", "ɦ", "ʔ", "ɧ", "ʡ", "ɺ", "ʍ"}  # panphon takes glottals for sonorants, and some letters otherwise


@pytest.mark.parametrize("row", LETTERS, ids=lambda row: row["letter"])
def test_the_chart_agrees_with_panphon(row):
    assert row["manner"] in MANNERS
    assert row["place"] in PLACES
    features = FEATURES.fts(row["letter"])
    if not features or row["letter"] in OTHERWISE:
        return
    found = {name: features[name] for name in WANTED[row["manner"]]}
    assert found == WANTED[row["manner"]]
    if row["manner"] != "click":  # of which panphon has voiceless ones
        assert (features["voi"] == 1) == (row["voicing"] == "voiced")


@pytest.mark.parametrize(
    ("phone", "manner", "place", "voicing", "segments"),
    [
        ("ts", "affricate", "alveolar", "voiceless", ("t͡s",)),
        ("t͡ɕʰ", "affricate", "alveolo-palatal", "voiceless", ("t͡ɕʰ",)),
        ("aː˥˩", "vowel", "front vowel", "voiced", ("aː",)),
        ("ɛ̃", "vowel", "front vowel", "voiced", ("ɛ̃",)),
        ("m̥", "nasal", "bilabial", "voiceless", ("m̥",)),
        ("ɔʏ", "diphthong", "back vowel", "voiced", ("ɔ", "ʏ")),
        ("t͡ɬʼ", "affricate", "alveolar", "voiceless", ("t͡ɬʼ",)),
        ("ɡb", "plosive", "labial-velar", "voiced", ("ɡ͡b",)),
        ("ŋ͡m", "nasal", "labial-velar", "voiced", ("ŋ͡m",)),
        ("tt", "plosive", "alveolar", "voiceless", ("t͡t",)),
        ("ɡǃʱ", "click", "postalveolar", "voiced", ("ǃʱ",)),
        ("aʊə", "diphthong", "front vowel", "voiced", ("a", "ʊ", "ə")),
        ("kʷ", "plosive", "velar", "voiceless", ("kʷ",)),
        ("7", "unspecified", "unspecified", "unspecified", ("7",)),
        ("r̩", "trill", "alveolar", "voiced", ("r̩",)),
    ],
)
def test_phones_of_other_languages(phone, manner, place, voicing, segments):
    found = articulation(phone)
    assert (found.manner, found.place, found.voicing, found.segments) == (manner, place, voicing, segments)


def test_the_feature_error_rate_of_ones_own_phones(tmp_path):
    path = tmp_path / "phones.txt"
    path.write_text("yː\nuː\nt͡s\nd͡z\n", encoding="utf8")
    for one, other in (("yː", "uː"), ("t͡s", "d͡z")):
        differing = FEATURES.fts(one).numeric(), FEATURES.fts(other).numeric()
        share = sum(x != y for x, y in zip(*differing, strict=True)) / len(differing[0])
        assert 0 < share < 0.25
        assert feature_error_rate([[one, "t͡s"]], [[other, "t͡s"]], str(path)) == pytest.approx(share / 2)
    assert feature_error_rate([["yː", "t͡s"]], [["yː"]], str(path)) == 0.5
