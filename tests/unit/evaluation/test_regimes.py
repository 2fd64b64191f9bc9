import itertools

import pytest

from asr.evaluation.metrics import ErrorCounts
from asr.evaluation.regimes import for_labels, forgiving_errors

BY_NAME = {regime.name: regime for regime in for_labels("timit61")}
FORGIVEN = BY_NAME["39, sil forgiven"]


def rates(reference, hypothesis, phone_set="timit61"):
    """(errors, reference labels) of one utterance in each regime."""
    found = {}
    for regime in for_labels(phone_set):
        sides = [regime.treat_silence(regime.fold(each.split(), phone_set)) for each in (reference, hypothesis)]
        counts = regime.count(*sides)
        found[regime.name] = counts.errors, counts.reference_length
    return found


def test_one_hypothesis_has_five_rates():
    """By hand. 39: sil dh ah sil k ae sil against sil dh ah k ae sil sil (q dropped; tcl, pau, h# are sil)."""
    assert rates("h# dh ax kcl k ae q h#", "h# dh ah k ae tcl h#") == {
        "61 labels": (3, 8),
        "39, sil scored": (2, 7),
        "39, sil forgiven": (1, 7),
        "39, sil merged": (1, 7),
        "39, sil dropped": (0, 4),
    }


@pytest.mark.parametrize(
    ("reference", "hypothesis", "name", "errors"),
    [
        # q has no counterpart among the 39: it is dropped, and is no silence.
        ("q ae", "ae", "39, sil scored", 0),
        ("q ae", "pau ae", "39, sil scored", 1),
        # Repeats that folding makes are kept: two silences, not one.
        ("pau pcl p", "pcl p", "39, sil scored", 1),
        ("pau pcl p", "pcl p", "39, sil merged", 0),
        # Only silences are merged.
        ("ix ih", "ih", "39, sil merged", 1),
        # What Lee and Hon take for one is one, what they tell apart is not.
        ("ao zh el en hv ux axr", "aa sh l n hh uw er", "39, sil scored", 0),
        ("ao", "aa", "61 labels", 1),
        ("dx", "t", "39, sil scored", 1),
        ("ng eng", "n en", "39, sil scored", 2),
        # epi is a silence like h#, pau and the closures, and not dropped like q.
        ("epi s", "s", "39, sil scored", 1),
        ("epi h# pau", "bcl dcl gcl", "39, sil scored", 0),
        # Forgiven: silence may be deleted; put in or taken for a phone it is an error.
        ("h# s iy h#", "s iy", "39, sil forgiven", 0),
        ("s iy", "h# s iy", "39, sil forgiven", 1),
        ("s h# iy", "s t iy", "39, sil forgiven", 1),
        ("s iy", "iy", "39, sil forgiven", 1),
    ],
)
def test_foldings_by_hand(reference, hypothesis, name, errors):
    assert rates(reference, hypothesis)[name][0] == errors


def test_every_reference_label_stays_in_the_denominator_of_the_forgiving_rate():
    assert rates("h# s iy h#", "s iy")["39, sil forgiven"] == (0, 4)
    assert rates("h# s iy h#", "s iy")["39, sil dropped"] == (0, 2)


def naive_forgiving(reference, hypothesis):
    if not reference or not hypothesis:
        return sum(label != "sil" for label in reference) + len(hypothesis)
    return min(
        (reference[0] != hypothesis[0]) + naive_forgiving(reference[1:], hypothesis[1:]),
        (reference[0] != "sil") + naive_forgiving(reference[1:], hypothesis),
        1 + naive_forgiving(reference, hypothesis[1:]),
    )


def test_forgiving_errors_are_the_least_of_all_alignments(rng):
    for _ in range(300):
        one, other = (rng.choice(["sil", "a", "b"], rng.integers(0, 6)).tolist() for _ in range(2))
        counts = forgiving_errors(one, other)
        assert counts.errors == naive_forgiving(one, other)
        assert counts.reference_length == len(one)
        forgiven = len(one) + counts.insertions - counts.deletions - len(other)
        assert 0 <= forgiven <= one.count("sil")


def test_forgiving_errors_by_kind():
    counts = forgiving_errors(["sil", "a", "b", "sil", "c"], ["a", "x", "c", "d"])
    assert counts == ErrorCounts(substitutions=1, insertions=1, deletions=0, reference_length=5)


def test_forgiving_is_never_dearer_and_never_more_than_the_silences_cheaper(rng):
    labels = ["h#", "pau", "s", "iy", "tcl", "t"]
    for _ in range(100):
        one, other = (" ".join(rng.choice(labels, rng.integers(1, 15))) for _ in range(2))
        found = rates(one, other)
        strict, forgiven = found["39, sil scored"][0], found["39, sil forgiven"][0]
        silences = sum(label in ("h#", "pau", "tcl") for label in one.split())
        assert forgiven <= strict <= forgiven + silences


@pytest.mark.parametrize(
    ("phone_set", "scoring", "first", "number"),
    [
        ("timit61", None, "39, sil scored", 5),
        ("timit61", "timit61", "61 labels", 5),
        ("timit61", "arpabet39", "39 ARPAbet", 6),
        ("timit48", None, "39, sil scored", 5),
        ("timit39", "timit39", "39, sil scored", 4),
        ("arpabet39", "arpabet39", "39 ARPAbet", 1),
        ("arpabet39", "timit39", "39, sil scored", 2),
        (None, None, "labels", 1),
    ],
)
def test_each_set_has_its_regimes_and_the_quoted_one_is_first(phone_set, scoring, first, number):
    found = for_labels(phone_set, scoring)
    assert found[0].name == first
    assert len({regime.name for regime in found}) == len(found) == number


def test_labels_of_nobodys_set_are_taken_as_they_stand():
    (regime,) = for_labels(None)
    assert regime.treat_silence(regime.fold(["x", "sil", "sil"], None)) == ["x", "sil", "sil"]


def test_all_regimes_agree_on_what_is_right():
    for phone_set, text in itertools.product(["timit61", "timit48", "timit39"], ["t iy", "sil t iy sil"]):
        labels = text.replace("sil", "h#") if phone_set == "timit61" else text
        assert {errors for errors, _ in rates(labels, labels, phone_set).values()} == {0}
