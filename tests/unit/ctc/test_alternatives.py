import itertools

import naive
import numpy as np
import pytest
import torch

from asr import ctc
from asr.ctc import Denominator, TokenModel, alternatives_loss, crf_loss, ctc_loss

pytestmark = pytest.mark.kernels

AMBIGUOUS = [[(1, 2), (1,)], [(3,), (2, 3)]]  # 1 2 3 comes about twice, and counts once
TEXTS = [[], [[(1,)]], [[(1, 1), (2,)]], AMBIGUOUS, [[(2,), (2, 2), (3, 2)], [(2,)]], [[(1,), (1,)], [(1, 3)], [(3,)]]]


def random_denominator(rng, num_states=3, num_classes=4, possible=1.0, blank=0):
    scores = rng.standard_normal((num_states, num_classes)) - 1
    scores[rng.random(scores.shape) > possible] = -np.inf
    model = TokenModel(scores, rng.integers(0, num_states, scores.shape), rng.standard_normal(num_states))
    return Denominator.of(model, blank=blank)


def labellings(words):
    """The different label sequences of a text."""
    return {tuple(itertools.chain(*chosen)) for chosen in itertools.product(*words)}


def loss_and_gradient(logits, *args):
    leaf = torch.as_tensor(logits).detach().clone().requires_grad_()
    losses = alternatives_loss(leaf, *args)
    losses.sum().backward()
    return losses.detach().numpy(), leaf.grad.numpy()


@pytest.mark.parametrize("words", TEXTS)
@pytest.mark.parametrize("num_frames", [0, 1, 3, 5])
def test_loss_is_that_of_all_labellings_together(rng, words, num_frames):
    logits = rng.standard_normal((num_frames, 4)) * 2
    probs = naive.labelling_probs(naive.log_softmax(logits) if num_frames else logits)
    total = sum(probs.get(each, 0.0) for each in labellings(words))
    loss, gradient = loss_and_gradient(logits[:, None], [Denominator.unweighted(4).restricted(words)], [num_frames])
    if total == 0:
        assert loss[0] == np.inf
        assert not gradient.any()
        return
    np.testing.assert_allclose(loss[0], -np.log(total), atol=1e-12)
    np.testing.assert_allclose(gradient.sum(axis=2), 0, atol=1e-12)


@pytest.mark.parametrize("words", TEXTS)
@pytest.mark.parametrize("possible", [1.0, 0.7])
def test_weights_of_the_denominator(rng, words, possible):
    logits, denominator = rng.standard_normal((4, 4)) * 2, random_denominator(rng, possible=possible)
    log_probs = naive.log_softmax(logits)
    probs = naive.labelling_probs(log_probs)
    weighted = {each: prob * np.exp(naive.weight(denominator.model, each)) for each, prob in probs.items()}
    total = sum(weighted.get(each, 0.0) for each in labellings(words))
    loss, _ = loss_and_gradient(logits[:, None], [denominator.restricted(words)], [4], denominator)
    expected = np.log(sum(weighted.values()) / total) if total else np.inf
    np.testing.assert_allclose(loss[0], expected, atol=1e-9)


@pytest.mark.parametrize("blank", [0, 3])
def test_a_text_has_the_labellings_that_its_words_may_have_and_no_others(rng, blank):
    denominator = random_denominator(rng, blank=blank)
    words = [[tuple((label + blank) % 4 for label in each) for each in word] for word in AMBIGUOUS]
    spelt, found = labellings(words), denominator.restricted(words)
    assert len(spelt) == 3
    labels = [c for c in range(4) if c != blank]
    with np.errstate(divide="ignore"):
        for length in range(5):
            for each in itertools.product(labels, repeat=length):
                own = naive.weight(found.model, each)
                assert own == pytest.approx(naive.weight(denominator.model, each) if each in spelt else -np.inf)


@pytest.mark.parametrize("scale", [1, 6])
def test_one_pronunciation_of_each_word_is_ctc_and_ctc_crf(rng, scale):
    logits = torch.from_numpy(rng.standard_normal((30, 3, 4)) * scale)
    targets, lengths = rng.integers(1, 4, (3, 9)), [30, 22, 30]
    counts, denominator = np.array([9, 5, 0]), random_denominator(rng)
    texts = [
        [[tuple(row[:2])], [tuple(row[2:count])]] if count else [] for row, count in zip(targets, counts, strict=True)
    ]
    for weights, theirs in (
        ((Denominator.unweighted(4), None), lambda leaf, *args: ctc_loss(leaf, *args, reduction="none")),
        ((denominator, denominator), lambda leaf, *args: crf_loss(leaf, *args, denominator, reduction="none")),
    ):
        loss, gradient = loss_and_gradient(logits, [weights[0].restricted(each) for each in texts], lengths, weights[1])
        leaf = logits.clone().requires_grad_()
        expected = theirs(leaf, torch.from_numpy(targets), lengths, counts)
        expected.sum().backward()
        np.testing.assert_allclose(loss, expected.detach().numpy(), rtol=1e-9)
        np.testing.assert_allclose(gradient, leaf.grad.numpy(), atol=1e-9)


def test_gradient_equals_finite_differences(rng):
    logits = torch.from_numpy(rng.standard_normal((6, 2, 4))).requires_grad_()
    denominator = random_denominator(rng)
    for weights, of_all in ((Denominator.unweighted(4), None), (denominator, denominator)):
        texts = [weights.restricted(words) for words in (AMBIGUOUS, TEXTS[4])]
        assert torch.autograd.gradcheck(lambda leaf: alternatives_loss(leaf, texts, [6, 5], of_all), logits)  # noqa: B023


def test_the_likelier_pronunciation_gets_the_gradient(rng):
    """Both are right, so the network is drawn to the one that it hears already."""
    logits = np.zeros((1, 1, 4))
    logits[0, 0, 2] = 3.0
    _, gradient = loss_and_gradient(logits, [Denominator.unweighted(4).restricted([[(1,), (2,)]])], [1])
    probs = np.exp(naive.log_softmax(logits[0, 0]))
    expected = probs.copy()
    expected[1:3] -= probs[1:3] / probs[1:3].sum()
    np.testing.assert_allclose(gradient[0, 0], expected, atol=1e-12)


def test_what_cannot_be_said_and_nan_stay_with_their_utterance(rng):
    logits, denominator = rng.standard_normal((5, 4, 4)), random_denominator(rng)
    logits[4, 2, 1], logits[4, 3, 1] = np.nan, np.nan  # beyond the end of the last
    texts = [denominator.restricted(each) for each in (AMBIGUOUS, [[(1,) * 4]], AMBIGUOUS, AMBIGUOUS)]
    loss, gradient = loss_and_gradient(logits, texts, [5, 5, 5, 4], denominator)
    assert loss[1] == np.inf
    assert np.isnan(loss[2])
    assert not gradient[:, 1:3].any()
    for b in (0, 3):
        alone, its_gradient = loss_and_gradient(logits[:, [b]], [texts[b]], [5 if b == 0 else 4], denominator)
        assert loss[b] == alone[0]
        assert np.array_equal(gradient[:, b], its_gradient[:, 0])
        assert np.isfinite(loss[b])


def test_number_of_threads_changes_no_bit(rng):
    logits, denominator = rng.standard_normal((50, 6, 4)), random_denominator(rng)
    texts = [denominator.restricted(AMBIGUOUS * (b + 1)) for b in range(6)]
    most, results = ctc.get_num_threads(), []
    try:
        for threads in (1, 3):
            ctc.set_num_threads(threads)
            results.append(loss_and_gradient(logits, texts, [50] * 6, denominator))
    finally:
        ctc.set_num_threads(most)
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one, other)


def test_half_types_give_float32(rng):
    logits = torch.from_numpy(rng.standard_normal((5, 1, 4))).to(torch.bfloat16).requires_grad_()
    loss = alternatives_loss(logits, [Denominator.unweighted(4).restricted(AMBIGUOUS)], torch.tensor([5]))
    loss.sum().backward()
    assert (loss.dtype, logits.grad.dtype) == (torch.float32, torch.bfloat16)


def test_no_utterances(rng):
    loss, gradient = loss_and_gradient(np.zeros((3, 0, 4)), [], [], random_denominator(rng))
    assert (loss.shape, gradient.shape) == ((0,), (3, 0, 4))


def test_wrong_arguments(rng):
    logits, text = torch.zeros(5, 1, 4), Denominator.unweighted(4).restricted(AMBIGUOUS)
    for args, message in (
        ((logits[:, 0], [text], [5]), "logits must be floating, of shape"),
        ((logits, [], [5]), "there are alternatives of 0 utterances, and logits of 1"),
        ((logits, [Denominator.unweighted(5).restricted([])], [5]), "weights are for 5 classes, the logits have 4"),
        ((logits, [text], [5], Denominator.unweighted(3)), "weights are for 3 classes, the logits have 4"),
        ((logits, [text], [6]), "input_lengths"),
    ):
        with pytest.raises(ValueError, match=message):
            alternatives_loss(*args)
    for words in ([[]], [[()]], [[(1,), ()]], [[(0,)]], [[(4,)]], [[(-1,)]]):
        with pytest.raises(ValueError, match="each word needs pronunciations of labels below 4 other than the blank"):
            Denominator.unweighted(4).restricted(words)
