import json
import subprocess
import sys

import numpy as np
import pytest

from asr.core.errors import ModelError
from asr.evaluation import metrics, reliability
from asr.models import calibration
from asr.models.calibration import Calibration


@pytest.fixture
def overconfident(rng):
    """20,000 phones of which a posterior p is right with probability p²."""
    posteriors = rng.uniform(size=20_000)
    return posteriors, rng.uniform(size=20_000) < posteriors**2


def test_fit_finds_the_true_probabilities(overconfident):
    points = reliability.fit(*overconfident)
    where = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    np.testing.assert_allclose(Calibration(*points).confidence(where), where**2, atol=0.04)
    assert len(points[0]) <= 30
    assert np.diff(points[0]).min() > 0
    assert np.diff(points[1]).min() >= 0


def test_fit_mends_other_phones_of_the_same_kind(overconfident):
    posteriors, correct = overconfident
    mended = Calibration(*reliability.fit(posteriors[::2], correct[::2])).confidence(posteriors[1::2])
    # E|p − p²| is 1/2 − 1/3.
    assert reliability.expected_calibration_error(posteriors[1::2], correct[1::2]) == pytest.approx(1 / 6, abs=0.01)
    assert reliability.expected_calibration_error(mended, correct[1::2]) < 0.02


def test_fit_pools_what_does_not_rise():
    posteriors = np.repeat([0.2, 0.4, 0.6], 100)
    correct = np.concatenate([np.arange(100) < share for share in (50, 30, 90)])
    assert reliability.fit(posteriors, correct) == ((0.2, 0.4, 0.6), (0.4, 0.4, 0.9))


@pytest.mark.parametrize(("answer", "expected"), [(True, 201 / 202), (False, 1 / 202)])
def test_fit_is_never_certain(rng, answer, expected):
    points = reliability.fit(rng.uniform(size=200), np.full(200, answer))
    assert Calibration(*points).confidence(np.array([0.0, 0.4, 1.0])) == pytest.approx(expected, abs=1e-6)


def test_fit_of_one_posterior():
    assert reliability.fit(np.ones(200), np.arange(200) < 150) == ((1.0,), (0.75,))
    assert Calibration((1.0,), (0.75,)).confidence(np.array([0.3, 1.0])).tolist() == [0.75, 0.75]


@pytest.mark.parametrize("count", [0, 99])
def test_too_few_phones_leave_the_posteriors(caplog, count):
    assert reliability.fit(np.full(count, 0.5), np.ones(count)) == ((), ())
    assert f"{count} labels are too few" in caplog.text
    assert Calibration().confidence(np.array([0.3])).tolist() == [0.3]


@pytest.mark.parametrize(
    ("values", "correct", "message"),
    [
        ([0.5], [1, 0], "as many"),
        ([1.2], [1], "not in 0..1"),
        ([np.nan], [1], "not in 0..1"),
        ([[0.5]], [[1]], "a row"),
    ],
)
def test_wrong_samples(values, correct, message):
    with pytest.raises(ValueError, match=message):
        reliability.fit(np.array(values), np.array(correct))
    with pytest.raises(ValueError, match=message):
        reliability.reliability_bins(np.array(values), np.array(correct))


def test_reliability_by_hand():
    confidences = np.array([0.0, 0.1, 0.3, 0.35, 0.85, 0.9, 0.9, 1.0])
    correct = np.array([0, 1, 0, 1, 1, 1, 0, 1])
    bins = reliability.reliability_bins(confidences, correct)
    # Guo et al.: a bin holds its upper edge, not its lower.
    assert [(each["low"], each["high"], each["count"], each["accuracy"]) for each in bins] == [
        (0.0, 0.1, 2, 0.5),
        (0.2, 0.3, 1, 0.0),
        (0.3, 0.4, 1, 1.0),
        (0.8, 0.9, 3, pytest.approx(2 / 3)),
        (0.9, 1.0, 1, 1.0),
    ]
    assert bins[3]["confidence"] == pytest.approx(2.65 / 3)
    # 2 |0.5 − 0.05| + |0 − 0.3| + |1 − 0.35| + |2 − 2.65| + 0, over 8
    expected = (0.9 + 0.3 + 0.65 + 0.65) / 8
    assert reliability.expected_calibration_error(confidences, correct) == pytest.approx(expected)


def test_error_with_one_bin_is_the_distance_of_the_means(overconfident):
    posteriors, correct = overconfident
    error = reliability.expected_calibration_error(posteriors, correct, num_bins=1)
    assert error == pytest.approx(abs(posteriors.mean() - correct.mean()))


def test_evaluation_can_be_written_as_json():
    raw, correct = np.array([0.95, 0.75, 0.35], np.float32), np.array([True, False, True])
    result = reliability.summary(raw, np.full(3, 2 / 3), correct)
    assert json.loads(json.dumps(result)) == result
    assert result["ece"] == pytest.approx(0)
    assert result["ece_raw"] == pytest.approx((0.05 + 0.75 + 0.65) / 3)
    assert [each["count"] for each in result["bins_raw"]] == [1, 1, 1]
    assert reliability.summary(np.array([]), np.array([]), np.array([])) is None


def test_correctness_of_an_alignment():
    pairs = metrics.align(["sil", "k", "ae", "t", "sil"], ["sil", "k", "ah", "t", "s", "sil"])
    assert reliability.correctness(pairs) == [True, True, False, True, False, True]
    assert reliability.correctness([]) == []


def test_confidences_follow_their_labels_through_folding():
    labels = ["h#", "q", "ao", "l", "tcl", "b", "ax", "dx", "el", "h#"]
    confidences = [i / 10 for i in range(10)]
    folded, kept = reliability.fold_confidences(labels, confidences, "timit61", "timit39")
    assert folded == ["sil", "aa", "l", "sil", "b", "ah", "dx", "l", "sil"]  # q, of 0.1, is dropped
    assert kept == [0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    folded, kept = reliability.fold_confidences(labels, confidences, "timit61", "arpabet39")
    assert folded == ["AO", "L", "B", "AH", "T", "AH", "L"]
    assert kept == [0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.8]


def test_the_confidence_of_a_given_word_is_calibrated_where_its_phones_are(rng):
    confidences = rng.uniform(0.3, 1, size=(20_000, 3))
    correct = (rng.uniform(size=confidences.shape) < confidences).all(axis=1)
    words = np.array([calibration.aligned_confidence(row) for row in confidences])
    assert reliability.expected_calibration_error(words, correct) < 0.015
    assert calibration.aligned_confidence([1.0, 0.0]) == 0


def test_the_confidence_of_a_recognised_word_is_the_geometric_mean_of_its_phones():
    assert calibration.recognised_confidence([0.2, 0.8, 0.4]) == pytest.approx((0.2 * 0.8 * 0.4) ** (1 / 3))
    assert calibration.recognised_confidence([0.0, 1.0]) == pytest.approx(1e-3**0.5)  # 0 is a rounded confidence


def test_saved_is_loaded(tmp_path):
    saved = Calibration((0.1, 0.9), (0.2, 0.95), -0.0125, (0.7, 0.2, 0.1))
    saved.save(tmp_path)
    assert Calibration.load(tmp_path) == saved
    assert [path.name for path in tmp_path.iterdir()] == ["calibration.json"]
    assert Calibration.load(tmp_path / "none") == Calibration()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"posteriors": [0.1], "probabilities": [0.2]}',
        '{"posteriors": [0.1], "probabilities": [], "boundary_offset": 0}',
        '{"posteriors": [0.2, 0.1], "probabilities": [0.2, 0.3], "boundary_offset": 0}',
        '{"posteriors": [0.1, 0.2], "probabilities": [0.3, 0.2], "boundary_offset": 0}',
        '{"posteriors": [0.1], "probabilities": [1.2], "boundary_offset": 0}',
        '{"posteriors": [0.1], "probabilities": [NaN], "boundary_offset": 0}',
        '{"posteriors": ["a"], "probabilities": [0.2], "boundary_offset": 0}',
        '{"posteriors": [], "probabilities": [], "boundary_offset": null}',
        '{"posteriors": [], "probabilities": [], "boundary_offset": NaN}',
    ],
)
def test_damaged_file(tmp_path, text):
    (tmp_path / "calibration.json").write_text(text, encoding="utf8")
    with pytest.raises(ModelError, match=r"calibration\.json is damaged.*copy the model folder") as caught:
        Calibration.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_imports_no_torch():
    code = "import sys; import asr.models.calibration, asr.ctc.goodness; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
