"""Agreement with NIST's scorer: what sclite 2.10 (SCTK, github.com/usnistgov/SCTK) printed for these pairs.

Each pair was a line of two .trn files, scored by ``sclite -r r.trn trn -h h.trn trn -i rm -o pra stdout``, the
forgiving ones with ``-D`` and every reference sil written as (sil). Counts are correct, substituted, deleted and
inserted. sclite weighs a substitution 4, an insertion or a deletion 3 and an optional deletion 2, so that its total is
never below ours and may be above: `asr.evaluation.score` says by how much, and test_score.py has cases.
"""

import pytest

from asr.evaluation.metrics import ErrorCounts, count_errors
from asr.evaluation.regimes import forgiving_errors

PLAIN = [
    ("a b c", "a b c", (3, 0, 0, 0)),
    ("a b c", "a x c", (2, 1, 0, 0)),
    ("a b c", "a c", (2, 0, 1, 0)),
    ("a b c", "a b b c", (3, 0, 0, 1)),
    ("a b c d", "b c d", (3, 0, 1, 0)),
    ("a b c", "a b c d", (3, 0, 0, 1)),
    ("a b c d e", "a x y d e", (3, 2, 0, 0)),
    ("sil b sil b sil", "sil b b sil", (4, 0, 1, 0)),
    ("a a a", "a a a a a", (3, 0, 0, 2)),
    ("hh ax l ow", "ax l ow s", (3, 0, 1, 1)),
    ("a b", "c d e", (0, 2, 0, 1)),
    ("a b c d e f", "x b d e y f", (4, 1, 1, 1)),
    ("a b c", "", (0, 0, 3, 0)),
    ("s t r iy t", "s r iy d t", (4, 0, 1, 1)),
    ("a", "b", (0, 1, 0, 0)),
]
FORGIVING = [
    ("sil b sil iy sil", "b iy sil", (5, 0, 0, 0)),
    ("sil s iy sil", "s iy", (4, 0, 0, 0)),
    ("s sil iy", "s t iy", (2, 1, 0, 0)),
    ("s iy", "sil s iy", (2, 0, 0, 1)),
    ("sil sil s", "sil s", (3, 0, 0, 0)),
]
COUNTERS = [(count_errors, *case) for case in PLAIN] + [(forgiving_errors, *case) for case in FORGIVING]


@pytest.mark.parametrize(("counter", "reference", "hypothesis", "printed"), COUNTERS)
def test_counts_are_sclites(counter, reference, hypothesis, printed):
    counts = counter(reference.split(), hypothesis.split())
    correct = counts.reference_length - counts.substitutions - counts.deletions
    assert (correct, counts.substitutions, counts.deletions, counts.insertions) == printed


def test_where_alignments_tie_the_totals_agree():
    """sclite printed 1 correct, 2 substituted, 1 deleted, 1 inserted, which is one split of the four errors."""
    assert count_errors(list("abcd"), list("dcba")).errors == 4


def test_where_sclites_weights_choose_otherwise():
    """sclite printed 2 correct, 0 substituted, 3 deleted, 3 inserted: 6 edits weigh 18, and 5 substitutions 20."""
    assert count_errors(list("aaabb"), list("bbcca")) == ErrorCounts(substitutions=5, reference_length=5)
