import csv

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.core.errors import InfeasibleError
from asr.ctc import Denominator, TokenModel
from asr.ctc.goodness import alternatives, edits, goodness
from asr.speech import audio

pytestmark = pytest.mark.kernels


def substituted(log_probs, target, loss, blank=0):
    """Normalised ln p of a target with each label replaced by each other or left out, one loss at a time."""
    scores = np.empty((len(target), log_probs.shape[1]))
    for s in range(len(target)):
        for k in range(log_probs.shape[1]):
            instead = [] if k == blank else [k]
            scores[s, k] = -loss(log_probs, [*target[:s], *instead, *target[s + 1 :]], blank)
    return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)


def drawn(data):
    """Draw log_probs (T, C), labels that fit them, and the blank, small enough to enumerate."""
    num_frames = data.draw(st.integers(1, 5))
    num_classes = data.draw(st.integers(2, 4))
    blank = data.draw(st.integers(0, num_classes - 1))
    labels = [c for c in range(num_classes) if c != blank]
    target = data.draw(st.lists(st.sampled_from(labels), min_size=1, max_size=(num_frames + 1) // 2))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    log_probs = naive.log_softmax(3 * rng.normal(size=(num_frames, num_classes)))
    return log_probs, target, blank


@given(st.data())
def test_alternatives_equal_enumeration(data):
    log_probs, target, blank = drawn(data)
    expected = substituted(log_probs, target, naive.enumerated_loss, blank)
    found = alternatives(log_probs, np.array(target), blank)
    np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=1e-12)
    np.testing.assert_allclose(
        goodness(log_probs, np.array(target), blank),
        [row[k] for row, k in zip(expected, target, strict=True)],
        atol=1e-9,
    )


def edited(log_probs, target, loss, blank=0):
    """Gains in ln p of a target by each other label, or none, in the place of each, and by each put in before each."""
    classes, own = range(log_probs.shape[1]), -loss(log_probs, target, blank)
    options = [[[] if k == blank else [k] for k in classes]] * (len(target) + 1)
    replaced = [[[*target[:s], *each, *target[s + 1 :]] for each in options[s]] for s in range(len(target))]
    inserted = [[[*target[:s], *each, *target[s:]] for each in options[s]] for s in range(len(target) + 1)]
    return [
        np.array([[-loss(log_probs, y, blank) - own for y in row] for row in rows]) for rows in (replaced, inserted)
    ]


@given(st.data())
def test_edits_equal_enumeration(data):
    log_probs, target, blank = drawn(data)
    for found, expected in zip(
        edits(log_probs, np.array(target), blank), edited(log_probs, target, naive.enumerated_loss, blank), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_edits_equal_losses_of_long_utterances(rng):
    """Of 14 labels β is kept for every fourth, then every second."""
    log_probs = naive.log_softmax(4 * rng.normal(size=(60, 7)))
    target = [1, 1, 2, 3, 2, 2, 6, 5, 4, 1, 3, 3, 5, 2]
    expected = edited(log_probs, target, lambda *args: naive.ctc(*args)[0])
    for found, wanted in zip(edits(log_probs, np.array(target)), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_a_phone_put_in_is_found():
    path = [0, 1, 1, 0, 2, 0, 3, 0]
    probs = np.full((8, 4), 1e-4)
    probs[np.arange(8), path] = 1 - 3e-4
    substitutions, insertions = edits(np.log(probs), np.array([1, 3]))
    assert np.unravel_index(insertions.argmax(), insertions.shape) == (1, 2)
    assert insertions[1, 2] > 5
    assert np.delete(substitutions, [1, 3], axis=1).max() < 5
    with pytest.raises(ValueError, match="no labels"):
        edits(np.log(probs), np.array([], int))


def test_alternatives_equal_losses_of_long_utterances(rng):
    log_probs = naive.log_softmax(4 * rng.normal(size=(60, 7)))
    target = [1, 1, 2, 3, 2, 2, 6, 5, 4, 1, 3, 3]
    expected = substituted(log_probs, target, lambda *args: naive.ctc(*args)[0])
    np.testing.assert_allclose(alternatives(log_probs, np.array(target)), expected, rtol=1e-9, atol=1e-9)


def test_alternatives_with_weights_of_an_n_gram(rng):
    """Where CTC-CRF is the criterion, they are those of its loss."""
    scores = np.log(rng.dirichlet(np.ones(4), 3))
    model = TokenModel(scores, rng.integers(3, size=(3, 4)), np.log(rng.uniform(size=3)))
    log_probs, target = naive.log_softmax(3 * rng.normal(size=(8, 4))), [1, 3, 3, 2]
    expected = substituted(log_probs, target, lambda logits, labels, blank: naive.crf(logits, labels, model, blank)[0])
    weights = Denominator.of(model).substitutions(target)
    np.testing.assert_allclose(
        alternatives(log_probs, np.array(target), log_weights=weights), expected, rtol=1e-9, atol=1e-9
    )
    for wrong in (weights[:2], np.where(weights == 0, np.nan, weights)):
        with pytest.raises(ValueError, match="log_weights must be"):
            goodness(log_probs, np.array(target), log_weights=wrong)


def test_by_hand():
    # Two frames; label 1 alone has the paths 11, 10 and 01, label 2 likewise, and 00 is nothing at all.
    probs = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    one, two, none = 0.5 * 0.1 + 0.5 * 0.6 + 0.2 * 0.1, 0.3 * 0.3 + 0.3 * 0.6 + 0.2 * 0.3, 0.2 * 0.6
    total = one + two + none
    found = np.exp(alternatives(np.log(probs), np.array([1])))
    np.testing.assert_allclose(found, [[none / total, one / total, two / total]])
    np.testing.assert_allclose(goodness(np.log(probs), np.array([2])), [np.log(two / total)])


def test_sure_and_replaced_phones():
    path = [0, 1, 1, 0, 2, 2, 0, 3, 0]
    probs = np.full((9, 4), 1e-4)
    probs[np.arange(9), path] = 1 - 3e-4
    assert goodness(np.log(probs), np.array([1, 2, 3])) == pytest.approx(0, abs=0.01)
    wrong = goodness(np.log(probs), np.array([1, 3, 3]))
    assert wrong[1] < -5
    assert alternatives(np.log(probs), np.array([1, 3, 3]))[1].argmax() == 2


def test_many_frames_and_labels_neither_underflow_nor_overflow(rng):
    log_probs = naive.log_softmax(5 * rng.normal(size=(2000, 30)))
    target = rng.integers(1, 30, size=40)
    found = alternatives(log_probs.astype(np.float32), target)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1)
    k = 1 + int(found[20, 1:].argmin())
    losses = [naive.ctc(log_probs, [*target[:20], label, *target[21:]])[0] for label in (target[20], k)]
    assert found[20, target[20]] - found[20, k] == pytest.approx(losses[1] - losses[0], abs=1e-3)


@pytest.mark.parametrize("scale", [0.0, 3.0, 300.0])
def test_blocks_of_labels_and_numbers_beyond_float64(rng, scale):
    """Of 14 labels β is kept for every fourth, then every second; the largest scale has probabilities below e^-1000."""
    log_probs = naive.log_softmax(scale * rng.normal(size=(35, 5)))
    target = rng.integers(1, 5, size=14).tolist()
    expected = substituted(log_probs, target, lambda *args: naive.ctc(*args)[0])
    found = alternatives(log_probs, np.array(target))
    np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=1e-12)
    near = expected > -60  # what is less likely is a sum of paths of which some are left out
    np.testing.assert_allclose(found[near], expected[near], rtol=1e-9, atol=1e-9)


def test_impossible_frames_and_classes(rng):
    log_probs = naive.log_softmax(rng.normal(size=(40, 5)))
    log_probs[rng.random(log_probs.shape) < 0.2] = -np.inf
    path = np.repeat([0, 1, 0, 2, 3, 0, 3, 0], 5)
    log_probs[np.arange(40), path] = -0.7  # one path at least is possible
    target = [1, 2, 3, 3]
    expected = substituted(log_probs, target, lambda *args: naive.ctc(*args)[0])
    found = alternatives(log_probs, np.array(target))
    np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=1e-12)
    np.testing.assert_array_equal(np.isneginf(found), np.isneginf(expected))


def test_memory_grows_with_the_third_root_of_the_labels(run_python):
    """Four arrays of T x L float64 would have 524 MB, 3 ∛L + 25 columns of pairs of them have 8 MB."""
    out = run_python(
        """
import resource
import numpy as np
from asr.ctc import Denominator, TokenModel
from asr.ctc.goodness import goodness

def rate(num_frames, num_labels):
    log_probs = np.log(np.random.default_rng(1).dirichlet(np.ones(4), num_frames)).astype(np.float32)
    assert np.isfinite(goodness(log_probs, np.arange(num_labels) % 3 + 1)).all()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

compiled = rate(20, 5)
print(rate(8000, 2048) - compiled)
"""
    )
    assert int(out) < 60_000  # kB


def test_certainties():
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    assert goodness(log_probs, np.array([1, 2])).tolist() == [0, 0]
    with pytest.raises(InfeasibleError, match="probability 0"):
        goodness(log_probs, np.array([2, 1]))
    assert goodness(log_probs, np.array([], int)).shape == (0,)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"targets": np.array([1, 1, 2])}, InfeasibleError, "3 frames; its 3 labels need 4"),
        ({"targets": np.array([0])}, ValueError, "the blank 0"),
        ({"targets": np.array([4])}, ValueError, r"outside 0..3"),
        ({"targets": np.array([1.0])}, ValueError, "integers"),
        ({"log_probs": np.full((3, 4), np.nan)}, ValueError, "NaN in frame 0"),
        ({"log_probs": np.zeros(3)}, ValueError, "shape"),
        ({"blank": 4}, ValueError, "blank 4"),
    ],
)
def test_wrong_arguments_are_named(changes, error, message):
    arguments = {"log_probs": np.log(np.full((3, 4), 0.25)), "targets": np.array([1, 2]), **changes}
    with pytest.raises(error, match=message):
        goodness(**arguments)


def test_same_without_compiling(run_python):
    log_probs, targets = np.log(np.random.default_rng(5).dirichlet(np.ones(4), size=8)), [1, 1, 3]
    run_python(
        f"""
import numpy as np
from numpy import inf
from asr.ctc import Denominator, TokenModel
from asr.ctc.goodness import alternatives
compiled = {alternatives(log_probs, targets).tolist()}
np.testing.assert_allclose(alternatives({log_probs.tolist()}, {targets}), compiled, rtol=1e-9)
""",
        NUMBA_DISABLE_JIT="1",
    )


@pytest.mark.corpus
def test_agrees_with_experts(speech_data):
    from asr.recognition.recogniser import Recogniser

    recogniser = Recogniser.from_pretrained()
    corpus = speech_data / "speechocean762-mini"
    with (speech_data / "speechocean762-phone-scores.csv").open(newline="", encoding="utf8") as lines:
        rows = {row["file_name"].removesuffix(".WAV"): row for row in csv.DictReader(lines)}
    found, scores = [], []
    for line in (corpus / "test" / "wav.scp").read_text(encoding="utf8").splitlines():
        name, place = line.split()
        (path,) = (corpus / place).parent.glob(f"{name}.*")
        targets = [recogniser.model.tokens.index(phone) for phone in rows[name]["transcription"].split()]
        found += goodness(recogniser.emissions(audio.load(path)), np.array(targets)).tolist()
        scores += map(float, rows[name]["p_scores"].split())
    assert len(found) == len(scores) > 2000
    assert max(found) <= 0
    # 0.43 over all 47,369 phones of the test set; these are a twentieth of them.
    assert np.corrcoef(found, scores)[0, 1] > 0.25
