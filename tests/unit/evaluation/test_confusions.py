import itertools

import numpy as np
import pytest

from asr.core.errors import AsrError
from asr.evaluation import confusions, metrics
from asr.evaluation.confusions import (
    MANNERS,
    PLACES,
    Confusions,
    articulations,
    feature_error_rate,
    most_frequent,
    phone_rows,
)
from asr.evaluation.tables import error_tables
from asr.speech import articulatory_features, phones
from asr.speech.articulatory_features import edit_distance

# Two utterances: t heard as d twice, s as z once and lost once, an iy and a sil put in.
PAIRS = [
    [("sil", "sil"), ("t", "d"), ("iy", "iy"), (None, "iy"), ("s", "z")],
    [("t", "d"), ("t", "t"), ("s", None), (None, "sil")],
]


def test_counts_by_hand():
    found = Confusions.of(PAIRS, "timit39")
    assert found.labels == ("sil", "d", "t", "s", "z", "iy")
    at = {label: i for i, label in enumerate(found.labels)}
    expected = {("sil", "sil"): 1, ("t", "d"): 2, ("t", "t"): 1, ("iy", "iy"): 1, ("s", "z"): 1}
    for r, h in itertools.product(found.labels, repeat=2):
        assert found.counts[at[r], at[h]] == expected.get((r, h), 0)
    assert found.deletions.tolist() == [0, 0, 0, 1, 0, 0]
    assert found.insertions.tolist() == [1, 0, 0, 0, 0, 1]
    assert found.to_json()["counts"] == found.counts.tolist()


def test_top_by_hand():
    errors = [("t", "d", 2), (None, "iy", 1), (None, "sil", 1), ("s", None, 1), ("s", "z", 1)]
    assert most_frequent(Confusions.of(PAIRS, "timit39").to_json(), 9) == errors
    assert most_frequent(Confusions.of(PAIRS, "timit39").to_json(), 1) == errors[:1]


def test_labels_go_from_silence_to_diphthongs_and_from_the_lips_inwards():
    expected = [
        *("sil", "b", "p", "t", "k", "ch", "f", "th", "s", "sh", "hh"),
        *("m", "n", "ng", "dx", "l", "y", "iy", "uw", "ay"),
    ]
    spoken = [(label, label) for label in sorted(expected)]
    assert Confusions.of([spoken], "timit39").labels == tuple(expected)


def test_phones_by_hand():
    keys = ("num_phones", "substitutions", "deletions", "insertions", "per")
    rows = {
        row["label"]: tuple(row[key] for key in keys) for row in phone_rows(Confusions.of(PAIRS, "timit39").to_json())
    }
    assert rows == {
        "sil": (1, 0, 0, 1, 0.0),
        "d": (0, 0, 0, 0, None),
        "t": (3, 2, 0, 0, 66.67),
        "s": (2, 1, 1, 0, 100.0),
        "z": (0, 0, 0, 0, None),
        "iy": (1, 0, 0, 1, 0.0),
    }


def test_tables_by_hand():
    errors, worst = ([line.split() for line in part.splitlines()] for part in _tables(PAIRS, 3))
    assert errors[1:] == [["t", "d", "2", "66.7"], ["(nothing)", "iy", "1", "-"], ["(nothing)", "sil", "1", "-"]]
    assert worst[1:] == [
        ["t", "3", "2", "0", "0", "66.7"],
        ["s", "2", "1", "1", "0", "100.0"],
        ["sil", "1", "0", "0", "1", "0.0"],
    ]


def _tables(pairs, number):
    return error_tables(Confusions.of(pairs, "timit39").to_json(), number).split("\n\n")


def test_classes_by_hand():
    """Plosives: 2 of 3 wrong, within their class; fricatives: 2 of 2; insertions belong to no class."""
    found = Confusions.of(PAIRS, "timit39").by_class()
    manner = {row["group"]: (row["per"], row["num_phones"], row["most_confused_with"]) for row in found["manner"]}
    assert manner == {
        "silence": (0.0, 1, None),
        "plosive": (66.67, 3, None),
        "fricative": (100.0, 2, None),
        "vowel": (0.0, 1, None),
    }
    crossed = Confusions.of([[("t", "s"), ("t", "n"), ("t", "s"), ("p", "t")]], "timit39").by_class()
    assert crossed["manner"][0]["most_confused_with"] == "fricative"
    place = {row["group"]: row["most_confused_with"] for row in crossed["place"]}
    assert place == {"bilabial": "alveolar", "alveolar": None}


def test_nothing_is_confused_in_nothing():
    found = Confusions.of([], "timit39")
    assert found.labels == ()
    assert most_frequent(found.to_json(), 3) == []
    assert found.by_class() == {"manner": [], "place": []}


def test_counts_equal_those_of_the_error_rate(rng):
    labels = phones.PhoneSet.load("timit39").labels
    texts = [tuple(rng.choice(labels, rng.integers(0, 30)).tolist() for _ in range(2)) for _ in range(20)]
    found = Confusions.of([metrics.align(*each) for each in texts], "timit39")
    total = sum((metrics.count_errors(*each) for each in texts), metrics.ErrorCounts())
    rows = phone_rows(found.to_json())
    assert sum(row["num_phones"] for row in rows) == total.reference_length
    errors = sum(row[kind] for row in rows for kind in ("substitutions", "deletions", "insertions"))
    assert errors == total.errors == sum(count for *_, count in most_frequent(found.to_json(), 10_000))
    for classes in found.by_class().values():
        wrong = sum(row["per"] * row["num_phones"] / 100 for row in classes)
        assert wrong == pytest.approx(errors - found.insertions.sum(), abs=0.1)
        assert sum(row["num_phones"] for row in classes) == total.reference_length


def test_labels_of_another_set_are_refused():
    with pytest.raises(AsrError, match="label 'AY' is not in the phone set timit39"):
        Confusions.of([[("AY", "t")]], "timit39")
    pytest.importorskip("panphon")
    with pytest.raises(AsrError, match="label 'AY' is not in the phone set timit39"):
        feature_error_rate([["t"]], [["AY"]], "timit39")


@pytest.mark.parametrize("phone_set", phones.names())
def test_every_phone_has_an_articulation(phone_set):
    found = articulations(phone_set)
    assert set(found) == set(phones.PhoneSet.load(phone_set).labels)
    assert {each.manner for each in found.values()} <= set(MANNERS)
    silent = {label for label, each in found.items() if not each.segments}
    assert silent <= {"sil", "pau", "epi", "h#", "cl", "vcl", *(f"{stop}cl" for stop in "bdgptk")}
    for label, each in found.items():
        assert each.place in PLACES
        assert (each.manner == "silence") == (each.place == "silence") == (each.voicing == "silence")
        assert each.place.endswith("vowel") == (each.manner in ("vowel", "diphthong"))
        assert each.voicing in ("voiced", "voiceless", "silence")
        assert (each.manner == "diphthong") == (label.lower() in {"ey", "ay", "aw", "ow", "oy"})


@pytest.mark.parametrize(
    ("labels", "manner", "place"),
    [
        ("P B", "plosive", "bilabial"),
        ("CH JH SH ZH", None, "postalveolar"),
        ("M N NG", "nasal", None),
        ("TH DH", "fricative", "dental"),
        ("K G NG", None, "velar"),
    ],
)
def test_phones_are_made_as_phonetics_says(labels, manner, place):
    for label in labels.split():
        each = articulations("arpabet39")[label]
        assert manner in (None, each.manner)
        assert place in (None, each.place)


def test_feature_errors_by_hand():
    """Of panphon's 24 features p and b differ in voice alone, m and b in nasality and what goes with it."""
    pytest.importorskip("panphon")
    assert feature_error_rate([["P"]], [["B"]], "arpabet39") == pytest.approx(1 / 24)
    assert feature_error_rate([["P", "IY"]], [["P", "IY"]], "arpabet39") == 0
    assert feature_error_rate([["P", "IY"]], [["P"]], "arpabet39") == 0.5
    assert feature_error_rate([["P"]], [["P", "AY"]], "arpabet39") == 2  # a diphthong has two parts
    assert feature_error_rate([["h#", "p", "h#"]], [["pcl", "p"]], "timit61") == 0
    near, far = (feature_error_rate([["P"]], [[other]], "arpabet39") for other in ("T", "IY"))
    assert 0 < near < far < 1


def test_feature_errors_agree_with_panphons_own_distance(rng):
    distance = pytest.importorskip("panphon.distance").Distance()
    made = articulations("arpabet39")
    labels = list(made)
    for _ in range(30):
        one, other = (rng.choice(labels, rng.integers(1, 8)).tolist() for _ in range(2))
        texts = ["".join(part for label in each for part in made[label].segments) for each in (one, other)]
        parts = sum(len(made[label].segments) for label in one)
        expected = distance.hamming_feature_edit_distance(*texts) / parts
        assert feature_error_rate([one], [other], "arpabet39") == pytest.approx(expected)


def test_feature_errors_without_phones_are_refused():
    pytest.importorskip("panphon")
    with pytest.raises(AsrError, match="other than silence"):
        feature_error_rate([["sil"]], [["sil"]], "timit39")


@pytest.mark.parametrize("phone_set", phones.names())
def test_cost_of_every_phone_for_another(phone_set):
    """Symmetric, 0 for itself, and more for any other but axr for er, which differ in stress alone."""
    pytest.importorskip("panphon")
    spoken = [label for label, each in articulations(phone_set).items() if each.segments]
    for one, other in itertools.combinations_with_replacement(spoken, 2):
        lengths = [len(articulations(phone_set)[label].segments) for label in (one, other)]
        there, back = (
            feature_error_rate([[a]], [[b]], phone_set) * n
            for a, b, n in ((one, other, lengths[0]), (other, one, lengths[1]))
        )
        assert there == pytest.approx(back)
        assert (there == 0) == (one == other or {one, other} == {"axr", "er"})


def test_feature_errors_weigh_by_length_rather_than_by_utterance():
    """1/24 and nothing in one segment and in five."""
    pytest.importorskip("panphon")
    texts = [["p"], ["s", "t", "s", "t", "s"]]
    assert feature_error_rate(texts, [["b"], texts[1]], "timit39") == pytest.approx(1 / 24 / 6)


def test_feature_errors_without_panphon_say_what_to_install(monkeypatch):
    confusions._segment_costs.cache_clear()
    articulatory_features._table.cache_clear()
    articulatory_features._features.cache_clear()
    monkeypatch.setattr(articulatory_features.util, "find_spec", lambda name: None)
    with pytest.raises(AsrError, match=r'pip install "\.\[pfer\]"'):
        feature_error_rate([["t"]], [["t"]], "timit39")


def naive_cost(one, other, costs):
    if len(one) == 0 or len(other) == 0:
        return len(one) + len(other)
    return min(
        costs[one[0], other[0]] + naive_cost(one[1:], other[1:], costs),
        1 + naive_cost(one[1:], other, costs),
        1 + naive_cost(one, other[1:], costs),
    )


def test_weighted_distance_is_the_least_of_all(rng):
    costs = rng.random((4, 4))
    for _ in range(100):
        one, other = (rng.integers(0, 4, rng.integers(0, 6)) for _ in range(2))
        assert edit_distance(one, other, costs) == pytest.approx(naive_cost(one, other, costs))


def test_weighted_distance_of_zeros_and_ones_counts_edits(rng):
    costs = 1.0 - np.eye(5)
    for _ in range(50):
        one, other = (rng.integers(0, 5, rng.integers(0, 12)) for _ in range(2))
        assert (
            edit_distance(one, other, costs) == metrics.count_errors(list(map(str, one)), list(map(str, other))).errors
        )
