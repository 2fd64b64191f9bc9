"""Boundary errors by hand: which count, their signs, the shares, and the histogram."""

import numpy as np
import pytest

from asr.core.errors import AsrError
from asr.evaluation.boundaries import EDGES_MS, boundary_errors, fit_boundary_offset, summary
from asr.evaluation.tables import boundary_table
from asr.speech.segments import Segment


def phones(*rows):
    return [Segment(label, start, end) for label, start, end in rows]


REFERENCE = phones(("S", 0.10, 0.20), ("IH", 0.20, 0.31), ("K", 0.31, 0.40), ("S", 0.55, 0.70))


def test_the_starts_of_all_but_the_first_count():
    """The first is 40 ms early and the last ends 90 ms late, which nobody asks; K ends early before a pause, too."""
    found = phones(("S", 0.06, 0.19), ("IH", 0.19, 0.335), ("K", 0.335, 0.36), ("S", 0.61, 0.79))
    np.testing.assert_allclose(boundary_errors(REFERENCE, found), [-0.01, 0.025, 0.06], atol=1e-12)


def test_shares_and_averages_by_hand():
    row = summary("x", [np.array([-0.010, 0.025]), np.array([0.060, -0.020, 0.0])])
    assert row["within"] == {"10": 40.0, "20": 60.0, "50": 80.0}  # an error of the tolerance is within it
    assert (row["mean_ms"], row["median_ms"], row["num_boundaries"], row["name"]) == (11.0, 0.0, 5, "x")


def test_ties_survive_what_floats_do_to_differences():
    """0.31 − 0.3 is 0.010000000000000009."""
    found = phones(("S", 0.1, 0.2), ("IH", 0.2, 0.3), ("K", 0.3, 0.4), ("S", 0.55, 0.7))
    assert summary("x", [boundary_errors(REFERENCE, found)])["within"]["10"] == 100.0


def test_the_histogram_counts_every_boundary_once():
    errors = np.array([-0.5, -0.1, -0.095, -0.0001, 0.0, 0.0099, 0.0951, 0.1, 3.0])
    histogram = summary("x", [errors])["histogram"]
    assert histogram["edges_ms"] == list(EDGES_MS) == list(range(-100, 101, 10))
    expected = np.zeros(20, int)
    expected[0], expected[9], expected[10], expected[19] = 3, 1, 2, 3
    assert histogram["counts"] == expected.tolist()


@pytest.mark.parametrize(
    ("labels", "what"),
    [("S IH K", "4 and 3 phones"), ("S IH K S T", "4 and 5 phones"), ("S AH K S", "differ at phone 2")],
)
def test_other_labels_are_one_line(labels, what):
    with pytest.raises(AsrError, match=what) as caught:
        boundary_errors(REFERENCE, [Segment(label, 0.0, 0.1) for label in labels.split()])
    assert "\n" not in str(caught.value)


def test_without_boundaries_there_is_nothing_to_average():
    assert boundary_errors(REFERENCE[:1], REFERENCE[:1]).tolist() == boundary_errors([], []).tolist() == []
    row = summary("x", [np.array([])])
    assert (row["within"], row["num_boundaries"]) == ({"10": None, "20": None, "50": None}, 0)
    assert row["mean_ms"] is row["median_ms"] is None
    assert sum(row["histogram"]["counts"]) == 0
    assert boundary_table([row]).splitlines()[1].split() == ["x", "–", "–", "–", "–", "–", "0"]


def test_the_offset_is_the_median_lag_which_outliers_leave_alone(rng):
    true = np.sort(rng.uniform(0, 60, 501))
    found = true - 0.017 + rng.choice([-0.004, 0.0, 0.004], 501)
    found[:40] += 5
    assert fit_boundary_offset(true, found) == pytest.approx(0.017, abs=0.0041)
    assert fit_boundary_offset(true, true + 0.03) == -0.03
    assert fit_boundary_offset([], []) == 0.0


def test_the_table_has_a_line_for_each_system():
    lines = boundary_table(
        [summary("ours", [[0.004]]), summary("theirs, of a longer name", [[-0.03] * 1234])]
    ).splitlines()
    assert len(lines) == 3
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split()[-3:] == ["-30.0", "ms", "1,234"]
