"""The CTC loss, decoders and aligners on random shapes, repeats, empty targets, lengths of zero and blanks anywhere."""

import naive
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr import ctc
from asr.core.errors import InfeasibleError
from asr.ctc import (
    TokenModel,
    beam_search,
    best_path,
    ctc_loss,
    ctc_posteriors,
    forced_align,
    required_frames,
    soft_align,
)

pytestmark = pytest.mark.kernels

modest = settings(derandomize=True, max_examples=100)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Thousands of tiny calls: on a busy machine threads would spend minutes waiting for each other."""
    most = ctc.get_num_threads()
    ctc.set_num_threads(1)
    yield
    ctc.set_num_threads(most)


@st.composite
def small_posteriors(draw):
    """log_probs (T, C) that can be enumerated, and a blank."""
    num_classes = draw(st.integers(2, 4))
    num_frames = draw(st.integers(1, 6 if num_classes < 4 else 5))
    seed, scale = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0.1, 1.0, 5.0]))
    logits = scale * np.random.default_rng(seed).standard_normal((num_frames, num_classes))
    return naive.log_softmax(logits), draw(st.integers(0, num_classes - 1))


@st.composite
def batches(draw):
    """Arguments of a CTC loss: logits (T, B, C), targets (B, S), input_lengths, target_lengths, blank."""
    batch, num_frames, num_classes = draw(st.integers(1, 5)), draw(st.integers(1, 30)), draw(st.integers(2, 7))
    blank = draw(st.integers(0, num_classes - 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = draw(st.sampled_from([0.1, 1.0, 10.0])) * rng.standard_normal((num_frames, batch, num_classes))
    labels = [c for c in range(num_classes) if c != blank]
    targets = rng.choice(labels, (batch, 12))  # few classes, so many repeats
    frames = [num_frames, *rng.integers(0, num_frames + 1, batch - 1).tolist()]
    lengths = rng.integers(0, 13, batch) // draw(st.sampled_from([1, 3]))  # by 3: most have a path
    return torch.from_numpy(logits), torch.from_numpy(targets), frames, lengths.tolist(), blank


@st.composite
def token_models(draw, num_classes):
    """Weights of either sign, some of them bans."""
    num_states, bans = draw(st.integers(1, 4)), draw(st.sampled_from([0.0, 0.2]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores, finals = 2 * rng.standard_normal((num_states, num_classes)), rng.standard_normal(num_states)
    scores[rng.random(scores.shape) < bans] = -np.inf
    finals[rng.random(num_states) < bans] = -np.inf
    return TokenModel(scores, rng.integers(0, num_states, scores.shape), finals)


def loss_and_gradient(function, logits, *args, **kwargs):
    leaf = logits.clone().requires_grad_()
    losses = function(leaf, *args, **kwargs)
    weights = torch.arange(1.0, losses.numel() + 1, dtype=losses.dtype)
    losses.masked_fill(torch.isinf(losses), 0.0).mul(weights).sum().backward()
    return losses.detach(), leaf.grad


def torch_ctc_loss(logits, *args, **kwargs):
    return torch.nn.functional.ctc_loss(logits.log_softmax(2), *args, **kwargs)


@modest
@given(small_posteriors())
def test_probabilities_of_all_labellings_sum_to_one(case):
    log_probs, blank = case
    labellings = list(naive.labelling_probs(log_probs, blank))
    logits = torch.from_numpy(log_probs)[:, None].expand(-1, len(labellings), -1)
    lengths = [len(labelling) for labelling in labellings]
    row = torch.tensor([label for labelling in labellings for label in labelling], dtype=torch.int64)
    losses = ctc_loss(logits, row, [len(log_probs)] * len(labellings), lengths, blank, reduction="none")
    np.testing.assert_allclose(losses.neg().exp().sum().item(), 1.0, rtol=1e-12)


@modest
@given(small_posteriors(), st.data())
def test_loss_and_gradient_equal_enumeration(case, data):
    log_probs, blank = case
    target = data.draw(st.sampled_from(sorted(naive.labelling_probs(log_probs, blank))))
    logits = torch.from_numpy(log_probs)[:, None]
    targets = torch.tensor([target], dtype=torch.int64)
    loss, gradient = loss_and_gradient(
        ctc_loss, logits, targets, [len(log_probs)], [len(target)], blank, reduction="none"
    )
    np.testing.assert_allclose(loss.item(), naive.enumerated_loss(log_probs, target, blank), rtol=1e-10, atol=1e-10)
    expected = np.exp(log_probs) - naive.enumerated_posteriors(log_probs, target, blank)
    np.testing.assert_allclose(gradient[:, 0], expected, rtol=0, atol=1e-10)


@modest
@given(small_posteriors(), st.data())
def test_loss_with_priors_equals_enumeration(case, data):
    log_probs, blank = case
    target = data.draw(st.sampled_from(sorted(naive.labelling_probs(log_probs, blank))))
    size = log_probs.shape[1]
    log_priors = np.array(data.draw(st.lists(st.floats(-30.0, 5.0), min_size=size, max_size=size)))
    logits, row = torch.from_numpy(log_probs)[:, None], torch.tensor(target, dtype=torch.int64)
    loss, gradient = loss_and_gradient(
        ctc_loss, logits, row, [len(log_probs)], [len(target)], blank, reduction="none", log_priors=log_priors
    )
    scores = log_probs - log_priors
    np.testing.assert_allclose(loss.item(), naive.enumerated_loss(scores, target, blank), rtol=1e-10, atol=1e-10)
    expected = np.exp(log_probs) - naive.enumerated_posteriors(scores, target, blank)
    np.testing.assert_allclose(gradient[:, 0], expected, rtol=0, atol=1e-10)


@modest
@given(batches())
def test_time_may_run_backwards(case):
    """What α then computes is β of the other way: their totals agree, and so do the posteriors."""
    logits, targets, frames, lengths, blank = case
    back, row = logits.clone(), []
    for b, (have, length) in enumerate(zip(frames, lengths, strict=True)):
        back[:have, b] = logits[:have, b].flip(0)
        row += targets[b, :length].flip(0).tolist()
    losses, gradient = loss_and_gradient(ctc_loss, logits, targets, frames, lengths, blank, reduction="none")
    reverse, found = loss_and_gradient(
        ctc_loss, back, torch.tensor(row, dtype=torch.int64), frames, lengths, blank, reduction="none"
    )
    torch.testing.assert_close(reverse, losses, rtol=1e-10, atol=1e-10)
    for b, have in enumerate(frames):
        torch.testing.assert_close(found[:have, b].flip(0), gradient[:have, b], rtol=0, atol=1e-9)


@modest
@given(batches())
def test_loss_and_gradient_equal_torch(case):
    logits, targets, frames, lengths, blank = case
    ours, gradient = loss_and_gradient(ctc_loss, logits, targets, frames, lengths, blank, reduction="none")
    theirs, expected = loss_and_gradient(
        torch_ctc_loss, logits, targets, frames, lengths, blank, reduction="none", zero_infinity=False
    )
    needed = [required_frames(target[:n].tolist()) for target, n in zip(targets, lengths, strict=True)]
    feasible = [have >= need for have, need in zip(frames, needed, strict=True)]
    assert torch.isfinite(ours).tolist() == feasible
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient[:, feasible], expected[:, feasible], rtol=0, atol=1e-9)
    assert (gradient[:, ~np.array(feasible)] == 0).all()


@modest
@given(batches())
def test_loss_and_gradient_equal_plain_recursions(case):
    logits, targets, frames, lengths, blank = case
    losses, gradient = loss_and_gradient(ctc_loss, logits, targets, frames, lengths, blank, reduction="none")
    for b, (have, length) in enumerate(zip(frames, lengths, strict=True)):
        if have > 0:
            loss, expected = naive.ctc(logits[:have, b].numpy(), targets[b, :length].tolist(), blank)
            np.testing.assert_allclose(losses[b].item(), loss, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(gradient[:have, b] / (b + 1), expected, rtol=0, atol=1e-9)
        else:
            assert losses[b].item() == (0.0 if length == 0 else np.inf)
        assert (gradient[have:, b] == 0).all()


@modest
@given(batches(), st.sampled_from([1.0, 200.0, 600.0, 735.0, 1e4]), st.integers(0, 2**32 - 1))
def test_logits_far_apart_lose_nothing(case, gap, seed):
    """Gaps at which probabilities underflow singly, by twos or in products; all frames, states and ties at random."""
    shape, targets, frames, lengths, blank = case[0].shape, *case[1:]
    logits = torch.from_numpy(-gap * np.random.default_rng(seed).integers(0, 3, shape))
    ours, gradient = loss_and_gradient(ctc_loss, logits, targets, frames, lengths, blank, reduction="none")
    theirs, expected = loss_and_gradient(torch_ctc_loss, logits, targets, frames, lengths, blank, reduction="none")
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    feasible = torch.isfinite(ours)
    torch.testing.assert_close(gradient[:, feasible], expected[:, feasible], rtol=0, atol=1e-7)


@modest
@given(small_posteriors(), st.data())
def test_unpruned_beam_equals_enumeration(case, data):
    log_probs, blank = case
    token_model = data.draw(st.none() | token_models(log_probs.shape[1]))
    expected = naive.enumerated_beam(log_probs, blank, token_model)
    arguments = {"beam_size": 5000, "nbest": 5000, "blank": blank, "token_model": token_model}
    hypotheses = beam_search(log_probs[:, None], **arguments)[0]
    np.testing.assert_allclose([h.score for h in hypotheses], [score for _, score in expected], rtol=1e-9, atol=1e-9)
    scores = dict(expected)
    assert {h.tokens for h in hypotheses} == set(scores)
    for hypothesis in hypotheses:
        np.testing.assert_allclose(hypothesis.score, scores[hypothesis.tokens], rtol=1e-9, atol=1e-9)
    for hypothesis in hypotheses[:3]:
        assert hypothesis.timesteps == naive.enumerated_peaks(log_probs, hypothesis.tokens, blank)


@modest
@given(small_posteriors())
def test_best_first_search_equals_enumeration_and_the_unpruned_beam(case):
    log_probs, blank = case
    tokens, score = naive.prefix_search(log_probs, blank)
    best, expected = naive.enumerated_beam(log_probs, blank)[0]
    found = beam_search(log_probs[:, None], beam_size=5000, blank=blank)[0][0]
    assert tokens == best == found.tokens
    np.testing.assert_allclose([score, found.score], expected, rtol=1e-9, atol=1e-9)


@modest
@given(batches(), st.integers(1, 8))
def test_pruned_beam_is_sorted_distinct_and_no_likelier_than_the_loss_says(case, beam_size):
    logits, _, frames, _, blank = case
    log_probs = logits.log_softmax(2)
    lists = beam_search(log_probs.numpy(), np.array(frames), beam_size=beam_size, nbest=beam_size, blank=blank)
    for b, hypotheses in enumerate(lists):
        assert len({h.tokens for h in hypotheses}) == len(hypotheses) >= 1
        scores = [h.score for h in hypotheses]
        assert scores == sorted(scores, reverse=True)
        for h in hypotheses:
            targets = torch.tensor([h.tokens], dtype=torch.int64)
            exact = -ctc_loss(log_probs[:, [b]], targets, [frames[b]], [len(h.tokens)], blank, reduction="sum").item()
            assert h.score <= exact + 1e-9 * (1 + abs(exact))
            assert all(left < right for left, right in zip((-1, *h.timesteps), (*h.timesteps, frames[b]), strict=True))
            confidences = np.exp(log_probs.numpy()[list(h.timesteps), b, list(h.tokens)])
            np.testing.assert_allclose(h.confidences, confidences, rtol=1e-12)
            assert len(h.timesteps) == len(h.tokens) == len(h.confidences)


@modest
@given(batches(), st.integers(1, 8), st.data())
def test_pruned_beam_equals_a_search_over_a_dictionary(case, beam_size, data):
    logits, _, frames, _, blank = case
    log_probs = logits.log_softmax(2).numpy()
    holes = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))).random(log_probs.shape)
    log_probs[holes < data.draw(st.sampled_from([0.0, 0.1]))] = -np.inf
    options = {
        "beam_threshold": data.draw(st.sampled_from([np.inf, 6.0, 2.0, 0.5])),
        "token_threshold": data.draw(st.sampled_from([0.0, 1e-4, 0.02, 0.2])),
        "token_model": data.draw(st.none() | token_models(log_probs.shape[2])),
    }
    lists = beam_search(log_probs, np.array(frames), beam_size=beam_size, nbest=beam_size, blank=blank, **options)
    for b, hypotheses in enumerate(lists):
        expected = naive.pruned_beam(log_probs[: frames[b], b], beam_size, blank, **options)
        assert [h.tokens for h in hypotheses] == [tokens for tokens, _ in expected]
        scores = [score for _, score in expected]
        np.testing.assert_allclose([h.score for h in hypotheses], scores, rtol=1e-9, atol=1e-9)


@modest
@given(small_posteriors())
def test_best_path_equals_its_definition(case):
    log_probs, blank = case
    tokens, timesteps, score = naive.best_path(log_probs, blank)
    found = best_path(log_probs, blank=blank)
    assert (found.tokens, found.timesteps) == (tokens, timesteps)
    np.testing.assert_allclose(found.score, score, rtol=1e-12)


@modest
@given(small_posteriors(), st.data())
def test_alignments_equal_enumeration(case, data):
    log_probs, blank = case
    target = data.draw(st.sampled_from(sorted(naive.labelling_probs(log_probs, blank))))
    priors = data.draw(st.sampled_from([0.0, 1.0])) * np.log(np.arange(1, log_probs.shape[1] + 1) / 10)
    arguments = {"targets": np.array([target], int), "blank": blank, "log_priors": priors}
    (forced,), (soft,) = (align(log_probs[:, None], **arguments) for align in (forced_align, soft_align))
    weighted = log_probs - priors
    score, path = naive.enumerated_best_path(weighted, target, blank)
    np.testing.assert_allclose(forced.score, score, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(soft.score, -naive.enumerated_loss(weighted, target, blank), rtol=1e-9, atol=1e-9)
    for found, expected in (
        (forced, naive.runs(path, blank)),
        (soft, naive.enumerated_medians(weighted, target, blank)),
    ):
        spans = zip(found.tokens.tolist(), found.starts.tolist(), found.ends.tolist(), strict=True)
        assert list(spans) == expected
        means = [log_probs[start:end, label].mean() for label, start, end in expected]
        np.testing.assert_allclose(found.confidences, np.exp(means), rtol=1e-9)
    posteriors = ctc_posteriors(log_probs[:, None], **arguments)[:, 0]
    np.testing.assert_allclose(posteriors, naive.enumerated_posteriors(weighted, target, blank), rtol=0, atol=1e-10)


@modest
@given(batches())
def test_alignments_agree_with_the_loss_and_its_gradient(case):
    logits, targets, frames, lengths, blank = case
    log_probs = logits.log_softmax(2).numpy()
    for b, (have, length) in enumerate(zip(frames, lengths, strict=True)):
        target, values = targets[b, :length].tolist(), log_probs[:have, b]
        arguments = log_probs[:, [b]], targets[[b]].numpy(), [have], [length], blank
        if have < required_frames(target):
            with pytest.raises(InfeasibleError, match=f"utterance 0 has {have} frames; its {length} labels need"):
                forced_align(*arguments)
            continue
        (forced,), (soft,) = forced_align(*arguments), soft_align(*arguments)
        path = np.full(have, blank)
        for token, start, end in zip(forced.tokens, forced.starts, forced.ends, strict=True):
            path[start:end] = token
        assert naive.collapse(path.tolist(), blank) == tuple(target) == tuple(soft.tokens.tolist())
        np.testing.assert_allclose(forced.score, values[np.arange(have), path].sum(), rtol=1e-10, atol=1e-10)
        assert (soft.starts < soft.ends).all()
        assert (soft.ends[:-1] <= soft.starts[1:]).all()
        posteriors = ctc_posteriors(*arguments)[:, 0]
        if have > 0:
            loss, gradient = naive.ctc(values, target, blank)
            assert forced.score <= soft.score + 1e-9 * (1 + loss)
            np.testing.assert_allclose(soft.score, -loss, rtol=1e-10, atol=1e-10)
            np.testing.assert_allclose(posteriors[:have], np.exp(values) - gradient, rtol=0, atol=1e-9)
            np.testing.assert_allclose(posteriors[:have].sum(axis=1), 1.0, rtol=1e-9)
        assert (posteriors[have:] == 0).all()
