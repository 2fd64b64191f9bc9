"""Phone sets and foldings, against the counts and merges of Lee and Hon (1989)."""

import csv
from pathlib import Path

import pytest

from asr.core.errors import AsrError
from asr.speech import phones
from asr.speech.phones import PhoneSet, fold, ipa, names

TABLES = Path(phones.__file__).parent / "tables"
FOLDINGS = sorted(path.stem.split("_to_") for path in TABLES.glob("*_to_*.tsv"))


def rows(stem):
    with (TABLES / f"{stem}.tsv").open(encoding="utf-8", newline="") as lines:
        return list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.mark.parametrize(("name", "count"), [("timit61", 61), ("timit48", 48), ("timit39", 39), ("arpabet39", 39)])
def test_published_counts(name, count):
    labels = PhoneSet.load(name).labels
    assert len(labels) == len(set(labels)) == count


def test_tables_are_the_ones_expected():
    assert names() == ["arpabet39", "timit39", "timit48", "timit61"]
    assert ["timit61", "timit48"] in FOLDINGS
    assert len(FOLDINGS) == 5


@pytest.mark.parametrize(("source", "target"), FOLDINGS)
def test_each_row_of_a_folding_names_labels_of_its_sets(source, target):
    header, *body = rows(f"{source}_to_{target}")
    assert header == [source, target]
    assert sorted(label for label, _ in body) == sorted(PhoneSet.load(source).labels)
    reached = {new for _, folded in body for new in folded.split()}
    assert reached <= set(PhoneSet.load(target).labels)


@pytest.mark.parametrize(("source", "target"), [pair for pair in FOLDINGS if pair[0].startswith("timit6")])
def test_every_label_of_a_smaller_set_is_reached(source, target):
    assert {new for _, folded in rows(f"{source}_to_{target}")[1:] for new in folded.split()} == set(
        PhoneSet.load(target).labels
    )


@pytest.mark.parametrize("name", ["timit61", "timit48", "timit39", "arpabet39"])
def test_every_label_has_an_ipa_name(name):
    header, *body = rows(name)
    assert header == ["label", "ipa"]
    assert all(len(row) == 2 and row[1].strip() == row[1] != "" for row in body)


def test_q_is_dropped_and_nothing_else_from_61_to_39():
    dropped = [label for label in PhoneSet.load("timit61").labels if not fold([label], "timit61", "timit39")]
    assert dropped == ["q"]


@pytest.mark.parametrize(
    ("merged", "into"),
    [
        ("aa ao", "aa"),
        ("ah ax ax-h", "ah"),
        ("er axr", "er"),
        ("hh hv", "hh"),
        ("ih ix", "ih"),
        ("l el", "l"),
        ("m em", "m"),
        ("n en nx", "n"),
        ("ng eng", "ng"),
        ("sh zh", "sh"),
        ("uw ux", "uw"),
        ("pcl tcl kcl bcl dcl gcl h# pau epi", "sil"),
    ],
)
def test_merges_of_lee_and_hon(merged, into):
    labels = PhoneSet.load("timit61").labels
    assert {label for label in labels if fold([label], "timit61", "timit39") == [into]} == set(merged.split())


def test_48_keeps_what_training_needs():
    timit = ["pcl", "p", "bcl", "b", "epi", "pau", "h#", "el", "en", "ao", "zh", "ix", "ax", "q"]
    folded = ["cl", "p", "vcl", "b", "epi", "sil", "sil", "el", "en", "ao", "zh", "ix", "ax"]
    assert fold(timit, "timit61", "timit48") == folded


def test_repeats_are_kept():
    assert fold(["pau", "pcl", "p"], "timit61", "timit39") == ["sil", "sil", "p"]


@pytest.mark.parametrize(
    ("timit", "arpabet"),
    [
        ("h# hv ae m pau bcl b axr gcl em tcl epi h#", "HH AE M B ER AH M"),
        ("s en q ux dx el", "S AH N UW T AH L"),
        ("ax-h nx ix eng", "AH N IH AH NG"),
    ],
)
def test_arpabet_from_timit(timit, arpabet):
    assert fold(timit.split(), "timit61", "arpabet39") == arpabet.split()


def test_arpabet_to_timit39_agrees_with_timit61_to_timit39():
    spoken = [label for label in PhoneSet.load("timit61").labels if len(fold([label], "timit61", "arpabet39")) == 1]
    for label in set(spoken) - {"dx"}:
        through = fold(fold([label], "timit61", "arpabet39"), "arpabet39", "timit39")
        assert through == fold([label], "timit61", "timit39"), label


def test_longer_routes_and_the_identity():
    assert fold(["cl", "k", "el", "sil"], "timit48", "arpabet39") == ["K", "L"]
    assert fold(["AO", "T"], "arpabet39", "arpabet39") == ["AO", "T"]


def test_ipa_names():
    assert [ipa(label, "timit61") for label in ("iy", "dx", "el", "tcl", "q")] == ["i", "ɾ", "l̩", "t̚", "ʔ"]
    assert ipa("JH", "arpabet39") == ipa("jh", "timit39") == "dʒ"


def test_unknown_label_is_named_with_its_place_and_set():
    with pytest.raises(AsrError, match=r"^label 'zz' at position 3 of 4 is not in the phone set timit61$"):
        fold(["h#", "aa", "zz", "h#"], "timit61", "timit39")
    with pytest.raises(AsrError, match=r"'aa' is not in the phone set arpabet39"):
        ipa("aa", "arpabet39")


def test_unknown_set_lists_the_sets():
    with pytest.raises(AsrError, match=r"'timit40': choose from arpabet39, timit39"):
        PhoneSet.load("timit40")


def test_no_folding_splits_labels():
    with pytest.raises(AsrError, match=r"'timit39' to 'timit61': .* name timit39 or arpabet39 instead of timit61$"):
        fold(["aa"], "timit39", "timit61")
