import naive
import numpy as np
import pytest
import torch
from torch_ctc import torch_crf_losses

from asr import ctc
from asr.core.errors import InfeasibleError
from asr.ctc import Denominator, TokenModel, crf_loss, ctc_loss
from asr.lm import fusion
from asr.lm.estimation import estimate

pytestmark = pytest.mark.kernels

TEXT = [list(line) for line in ("ABC", "AAB", "CB", "BCA", "A", "ABCB", "CABBA")]
UNWEIGHTED = TokenModel(np.zeros((1, 7)), np.zeros((1, 7), int), np.zeros(1))


def ngram(order=3, smoothing="witten_bell"):
    return estimate(TEXT, "phones", order, smoothing, "CBA")


def labels_of(num_classes):
    return ["<blank>", *"ABCDEFGH"[: num_classes - 1]]


def random_model(rng, num_states, num_classes, possible=1.0):
    """A token model of any weights and ways, of which a share is possible."""
    scores = rng.standard_normal((num_states, num_classes)) - 1
    scores[rng.random(scores.shape) > possible] = -np.inf
    return TokenModel(scores, rng.integers(0, num_states, scores.shape), rng.standard_normal(num_states))


def loss_and_gradient(logits, *args, **kwargs):
    leaf = torch.as_tensor(logits).detach().clone(memory_format=torch.preserve_format).requires_grad_()
    loss = crf_loss(leaf, *args, **kwargs)
    loss.sum().backward()
    return loss.detach(), leaf.grad


def one_loss(logits, labelling, denominator, **kwargs):
    """The loss of one labelling (a number) and its gradient (T, C), in nats."""
    targets = torch.tensor([labelling], dtype=torch.int64).reshape(1, -1)
    loss, gradient = loss_and_gradient(
        logits[:, None], targets, [len(logits)], [len(labelling)], denominator, reduction="sum", **kwargs
    )
    return loss.item(), gradient[:, 0].numpy()


@pytest.fixture
def batch(rng):
    """Logits (40, 5, 7), targets (5, 8), lengths and a denominator; repeats, empty targets, short inputs."""
    logits = torch.from_numpy(rng.standard_normal((40, 5, 7)) * 3)
    targets = torch.from_numpy(rng.integers(1, 7, (5, 8)))
    targets[1, :4] = 2
    text = [[labels_of(7)[c] for c in rng.integers(1, 7, 6)] for _ in range(20)]
    lm = estimate(text, "phones", 3, "witten_bell", labels_of(7)[1:])
    denominator = fusion.denominator(lm, labels_of(7))
    return logits, targets, torch.tensor([40, 9, 25, 0, 33]), torch.tensor([8, 4, 0, 0, 5]), denominator


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("smoothing", ["witten_bell", "kneser_ney"])
def test_labellings_are_weighted_paths_over_all_weighted_paths(rng, order, smoothing):
    """By enumeration of all paths; the labellings' probabilities sum to 1."""
    lm = ngram(order, smoothing)
    denominator = fusion.denominator(lm, labels_of(4))
    for num_frames in (1, 2, 5):
        logits = 2 * rng.standard_normal((num_frames, 4))
        weighted = {
            labelling: prob * np.exp(lm.score([[labels_of(4)[c] for c in labelling]])[0].sum())
            for labelling, prob in naive.labelling_probs(naive.log_softmax(logits)).items()
        }
        whole = sum(weighted.values())
        assert whole < 1  # the n-gram gives some of its own probability to what is too long
        found = {labelling: np.exp(-one_loss(logits, labelling, denominator)[0]) for labelling in weighted}
        assert found == pytest.approx({labelling: each / whole for labelling, each in weighted.items()}, rel=1e-11)
        np.testing.assert_allclose(sum(found.values()), 1, rtol=1e-12)


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("possible", [1.0, 0.6])
def test_any_token_model(rng, blank, possible):
    """States that labels share, ways back to the start, weights above 1, labels that cannot be."""
    for num_states in (1, 2, 5):
        model = random_model(rng, num_states, 4, possible)
        logits = 2 * rng.standard_normal((5, 4))
        probs = naive.labelling_probs(naive.log_softmax(logits), blank)
        whole = sum(prob * np.exp(naive.weight(model, labelling)) for labelling, prob in probs.items())
        denominator, total = Denominator.of(model, blank=blank), 0.0
        for labelling, prob in probs.items():
            loss, _ = one_loss(logits, labelling, denominator, blank=blank)
            expected = np.log(whole) - np.log(prob) - naive.weight(model, labelling)
            np.testing.assert_allclose(loss, expected, rtol=1e-11, atol=1e-11)
            total += np.exp(-loss)
        np.testing.assert_allclose(total, 1, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("scale", [1, 10, 1e4])
def test_loss_and_gradient_are_those_of_the_recursion_in_logarithms(rng, order, scale):
    lm = ngram(order)
    model, denominator = fusion.automaton(lm, labels_of(4), 1.0), fusion.denominator(lm, labels_of(4))
    logits = scale * rng.standard_normal((30, 4))
    for target in ([], [2], [1, 1, 3, 2, 3, 3]):
        loss, gradient = one_loss(logits, target, denominator)
        expected, expected_gradient = naive.crf(logits, target, model)
        np.testing.assert_allclose(loss, expected, rtol=1e-12, atol=1e-9)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=1e-10)
        assert np.abs(gradient).max() > 1e-3


@pytest.mark.parametrize("blank", [0, 2])
def test_loss_and_gradient_are_those_of_torch_and_autograd(rng, blank):
    """Torch's CTC loss, and a dense table of all that may follow."""
    logits = torch.from_numpy(2 * rng.standard_normal((20, 3, 4)))
    targets = torch.from_numpy(rng.choice([c for c in range(4) if c != blank], (3, 5)))
    args = targets, [20] * 3, [5, 1, 3]
    model = random_model(rng, 3, 4)
    leaf = logits.clone().requires_grad_()
    expected = torch_crf_losses(leaf, *args, model, blank)
    expected.sum().backward()
    loss, gradient = loss_and_gradient(logits, *args, Denominator.of(model, blank=blank), blank=blank, reduction="none")
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, leaf.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_gradient_equals_finite_differences(rng, reduction):
    denominator = fusion.denominator(ngram(), labels_of(4))
    args = (torch.tensor([[1, 1], [2, 1], [0, 0]]), [4, 3, 2], [2, 2, 0], denominator)
    leaf = torch.from_numpy(rng.standard_normal((4, 3, 4))).requires_grad_()
    for ctc_weight in (0.0, 0.7):
        assert torch.autograd.gradcheck(
            lambda x, share: crf_loss(x, *args, reduction=reduction, ctc_weight=share), (leaf, ctc_weight)
        )


def test_without_weights_it_is_ctc(batch):
    """Where all labellings weigh 1, their probabilities sum to 1 already."""
    logits, *args, _ = batch
    denominator = Denominator.of(UNWEIGHTED)
    loss, gradient = loss_and_gradient(logits, *args, denominator, reduction="none")
    leaf = logits.clone().requires_grad_()
    expected = ctc_loss(leaf, *args, reduction="none")
    expected.sum().backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, leaf.grad, rtol=0, atol=1e-12)


def test_weights_of_the_length_alone_change_no_order(rng):
    """A factor for each label is a tilt of the paths: of equally long labellings the odds stay those of CTC."""
    logits = rng.standard_normal((6, 4))
    tilted = TokenModel(np.full((1, 4), -3.0), np.zeros((1, 4), int), np.array([-1.5]))
    losses = [one_loss(logits, [1, 2, c], Denominator.of(tilted))[0] for c in (1, 3)]
    plain = [naive.enumerated_loss(naive.log_softmax(logits), (1, 2, c)) for c in (1, 3)]
    np.testing.assert_allclose(losses[1] - losses[0], plain[1] - plain[0], rtol=1e-12)
    assert abs(losses[0] - plain[0]) > 0.1


def test_logits_and_log_probs_and_shifted_logits_have_one_loss_and_one_gradient(batch):
    logits, *args = batch
    loss, gradient = loss_and_gradient(logits, *args)
    for values in (logits.log_softmax(2), logits + torch.linspace(-90, 90, 40)[:, None, None]):
        other, other_gradient = loss_and_gradient(values, *args)
        torch.testing.assert_close(other, loss, rtol=1e-12, atol=0)
        torch.testing.assert_close(other_gradient, gradient, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient.sum(2), torch.zeros(40, 5).double(), rtol=0, atol=1e-12)


def test_reductions(batch):
    logits, *args = batch
    lengths = args[2].clamp(min=1)
    each, gradient = loss_and_gradient(logits, *args, reduction="none")
    for reduction, scales in (("sum", torch.ones(5)), ("mean", 0.2 / lengths.double())):
        loss, scaled = loss_and_gradient(logits, *args, reduction=reduction)
        torch.testing.assert_close(loss, (each * scales).sum(), rtol=1e-12, atol=0)
        torch.testing.assert_close(scaled, gradient * scales[:, None], rtol=1e-12, atol=1e-15)
    assert each[3] == 0  # no frames and no labels: the one labelling that there can be


def test_one_utterance_without_a_batch(batch):
    logits, targets, _, _, denominator = batch
    expected, expected_gradient = loss_and_gradient(logits[:, :1], targets[:1], [40], [8], denominator)
    for args in ((torch.tensor(40), torch.tensor(8)), (40, 8), ([40], [8])):
        loss, gradient = loss_and_gradient(logits[:, 0], targets[0], *args, denominator)
        assert loss.shape == ()
        assert torch.equal(loss, expected)
        assert torch.equal(gradient, expected_gradient[:, 0])


@pytest.mark.parametrize("ctc_weight", [0.1, 1.0])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_a_share_of_ctc(batch, ctc_weight, reduction):
    logits, *args = batch
    loss, gradient = loss_and_gradient(logits, *args, reduction=reduction, ctc_weight=ctc_weight)
    leaf = logits.clone().requires_grad_()
    plain = crf_loss(leaf, *args, reduction=reduction)
    share = ctc_loss(leaf, *args[:3], reduction=reduction)
    (plain + ctc_weight * share).sum().backward()
    torch.testing.assert_close(loss, (plain + ctc_weight * share).detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, leaf.grad, rtol=0, atol=1e-12)


def test_gradient_follows_the_gradient_from_above(batch):
    logits, *args = batch
    _, plain = loss_and_gradient(logits, *args, reduction="none")
    weights = torch.tensor([2.0, -0.5, 0.0, 3.0, 1e-3], dtype=torch.float64)
    leaf = logits.clone().requires_grad_()
    loss = (crf_loss(leaf, *args, reduction="none") * weights).sum()
    loss.backward(retain_graph=True)
    torch.testing.assert_close(leaf.grad, plain * weights[:, None], rtol=1e-12, atol=1e-15)
    loss.backward()
    torch.testing.assert_close(leaf.grad, 2 * plain * weights[:, None], rtol=1e-12, atol=1e-15)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(crf_loss(leaf, *args), leaf, create_graph=True)


@pytest.mark.parametrize("num_frames", [0, 1, 4, 5])
def test_too_few_frames_are_infinite_with_gradient_zero_and_leave_others_alone(rng, num_frames):
    denominator = fusion.denominator(ngram(), labels_of(4))
    targets = torch.tensor([[1, 2, 2, 3], [1, 2, 0, 0]])
    logits = torch.from_numpy(rng.standard_normal((6, 2, 4)))
    args = targets, [num_frames, 6], [4, 2], denominator
    loss, gradient = loss_and_gradient(logits, *args, reduction="none")
    assert torch.isfinite(loss).tolist() == [num_frames == 5, True]
    assert (gradient[:, 0] == 0).all() == (num_frames < 5)
    alone, alone_gradient = loss_and_gradient(logits[:, 1:], targets[1:], [6], [2], denominator, reduction="none")
    assert torch.equal(loss[1:], alone)
    assert torch.equal(gradient[:, 1:], alone_gradient)
    if num_frames < 5:
        assert loss[0] == crf_loss(logits, *args) == torch.inf
        zeroed = crf_loss(logits, *args, reduction="none", zero_infinity=True)
        assert zeroed.tolist() == [0.0, alone.item()]
        with pytest.raises(InfeasibleError, match=f"utterance 0 has {num_frames} frames; its 4 labels need 5"):
            crf_loss(logits, *args, infeasible="raise")


def test_labellings_without_weight_are_infinite_with_gradient_zero(rng):
    """By a label, or by the end; whether alone or beside others."""
    scores, finals = np.zeros((2, 4)), np.array([-np.inf, 0.0])
    scores[1, 3] = -np.inf
    model = TokenModel(scores, np.array([[0, 1, 0, 1], [1, 1, 1, 1]]), finals)
    targets = torch.tensor([[1, 3], [2, 0], [1, 2], [3, 1]])
    args = targets, [6] * 4, [2, 1, 2, 2], Denominator.of(model)
    logits = torch.from_numpy(rng.standard_normal((6, 4, 4)))
    loss, gradient = loss_and_gradient(logits, *args, reduction="none")
    assert torch.isfinite(loss).tolist() == [False, False, True, True]
    assert (loss[:2] == torch.inf).all()
    assert (gradient[:, :2] == 0).all()
    assert (gradient[:, 2:].abs().amax((0, 2)) > 0.1).all()
    zeroed, zeroed_gradient = loss_and_gradient(logits, *args, reduction="none", zero_infinity=True)
    assert torch.equal(zeroed, loss.masked_fill(loss.isinf(), 0.0))
    assert torch.equal(zeroed_gradient, gradient)
    nothing = Denominator.of(model._replace(finals=np.full(2, -np.inf)))
    loss, gradient = loss_and_gradient(logits, *args[:3], nothing, reduction="none")
    assert (loss == torch.inf).all()
    assert (gradient == 0).all()


def test_logits_of_minus_infinity(rng):
    logits = rng.standard_normal((30, 4))
    logits[rng.random(logits.shape) < 0.15] = -np.inf
    logits[:, 0] = np.maximum(logits[:, 0], -9)
    logits[12] = 0.0, -np.inf, -np.inf, -np.inf  # only the blank can be
    lm = ngram()
    loss, gradient = one_loss(logits, [1, 2, 2], fusion.denominator(lm, labels_of(4)))
    expected, expected_gradient = naive.crf(logits, [1, 2, 2], fusion.automaton(lm, labels_of(4), 1.0))
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_frames", [0, 4])
@pytest.mark.parametrize("batch", [0, 2])
def test_no_frames_and_no_utterances(num_frames, batch):
    denominator = Denominator.of(UNWEIGHTED)
    logits = torch.zeros(num_frames, batch, 7, requires_grad=True)
    targets = torch.ones(batch, 1, dtype=torch.int64)
    losses = crf_loss(logits, targets, [0] * batch, [0, 1][:batch], denominator, reduction="none")
    assert losses.tolist() == [0.0, torch.inf][:batch]
    losses.sum().backward()
    assert logits.grad.shape == logits.shape
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(batch, dtype):
    logits, *args = batch
    values = logits.to(dtype)
    loss, gradient = loss_and_gradient(values, *args, reduction="none")
    assert (loss.dtype, gradient.dtype) == (torch.float64 if dtype == torch.float64 else torch.float32, dtype)
    exact, exact_gradient = loss_and_gradient(values.double(), *args, reduction="none")
    torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=torch.finfo(dtype).eps, atol=1e-7)


def test_padding_batch_order_and_repetition_change_no_bit(batch):
    logits, targets, frames, lengths, denominator = batch
    expected, expected_gradient = loss_and_gradient(*batch, reduction="none")
    order = torch.tensor([4, 2, 0, 1, 3])
    shuffled, gradient = loss_and_gradient(
        logits[:, order], targets[order], frames[order], lengths[order], denominator, reduction="none"
    )
    assert torch.equal(shuffled, expected[order])
    assert torch.equal(gradient, expected_gradient[:, order])
    padded = torch.cat([logits, torch.full((3, 5, 7), torch.nan)])
    for b, have in enumerate(frames):
        padded[have:, b] = torch.nan
        alone, gradient = loss_and_gradient(
            logits[:have, [b]], targets[[b], : lengths[b]], frames[[b]], lengths[[b]], denominator, reduction="none"
        )
        assert torch.equal(alone[0], expected[b])
        assert torch.equal(gradient[:, 0], expected_gradient[:have, b])
    loss, gradient = loss_and_gradient(padded, targets, frames, lengths, denominator, reduction="none")
    assert torch.equal(loss, expected)
    assert torch.equal(gradient[:40], expected_gradient)
    assert (gradient[40:] == 0).all()


def test_memory_layout_and_kinds_of_arguments_change_no_bit(batch):
    logits, targets, frames, lengths, denominator = batch
    expected, expected_gradient = loss_and_gradient(*batch)
    row = torch.cat([targets[b, :n] for b, n in enumerate(lengths)])
    spread = torch.stack([logits, logits], 3)[..., 0]
    batch_first = logits.transpose(0, 1).contiguous().transpose(0, 1)
    for args in (
        (spread, targets, frames, lengths),
        (batch_first, targets, frames, lengths),
        (logits, row.int(), frames.tolist(), lengths.int().numpy()),
    ):
        loss, gradient = loss_and_gradient(*args, denominator)
        assert torch.equal(loss, expected)
        assert torch.equal(gradient, expected_gradient)


def test_number_of_threads_changes_no_bit(batch):
    most, results = ctc.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 64):
            ctc.set_num_threads(threads)
            results.append(loss_and_gradient(*batch, reduction="none"))
    finally:
        ctc.set_num_threads(most)
    for loss, gradient in results[1:]:
        assert torch.equal(loss, results[0][0])
        assert torch.equal(gradient, results[0][1])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nan_stays_with_its_utterance(batch, value):
    logits, *args = batch
    expected, expected_gradient = loss_and_gradient(logits, *args, reduction="none")
    logits[3, 1, 5] = value
    others = [0, 2, 3, 4]
    for zero_infinity in (False, True):
        loss, gradient = loss_and_gradient(logits, *args, reduction="none", zero_infinity=zero_infinity)
        assert loss.isnan().tolist() == [False, True, False, False, False]
        assert torch.equal(loss[others], expected[others])
        assert torch.equal(gradient[:, others], expected_gradient[:, others])
        assert gradient[:9, 1].isnan().all()
        assert (gradient[9:, 1] == 0).all()


def test_wrong_arguments(batch):
    logits, targets, frames, lengths, denominator = batch
    with pytest.raises(ValueError, match="for 7 classes with blank 0, the logits have 6 with blank 0"):
        crf_loss(logits[..., :6], targets.clamp(max=5), frames, lengths, denominator)
    with pytest.raises(ValueError, match="for 7 classes with blank 0, the logits have 7 with blank 6"):
        crf_loss(logits, targets.clamp(max=5), frames, lengths, denominator, blank=6)
    with pytest.raises(ValueError, match="reduction must be none, mean or sum, not 'max'"):
        crf_loss(logits, targets, frames, lengths, denominator, reduction="max")
    with pytest.raises(ValueError, match="infeasible must be inf or raise"):
        crf_loss(logits, targets, frames, lengths, denominator, infeasible="skip")
    for share in (-0.1, torch.nan, torch.inf):
        with pytest.raises(ValueError, match="ctc_weight must be a number from 0"):
            crf_loss(logits, targets, frames, lengths, denominator, ctc_weight=share)
    with pytest.raises(ValueError, match=r"target 0 has a label outside 0\.\.6"):
        crf_loss(logits, targets + 5, frames, lengths, denominator)
    with pytest.raises(ValueError, match=r"logits must be floating, of shape \(T, B, C\)"):
        crf_loss(logits[0, 0], targets, frames, lengths, denominator)


def test_kernels_run_without_compilation(run_python):
    """Scaled and, where nothing that looks likely can end, in logarithms; an utterance without a path."""
    run_python(
        """
import naive, numpy as np, torch
from asr.ctc import Denominator, TokenModel, crf_loss
rng = np.random.default_rng(0)
scores = np.array([[0.0, -1.0, -1.5], [0.0, -0.5, -np.inf], [0.0, -np.inf, -2.0]])
model = TokenModel(scores, np.array([[0, 1, 2], [1, 1, 1], [2, 2, 2]]), np.array([-1.0, -np.inf, 0.0]))
targets, frames = torch.tensor([[2, 2], [2, 2], [2, 2]]), [40, 30, 2]
for slope, backoffs in ((0.0, None), (40.0, [0, 0, 0])):
    logits = rng.standard_normal((40, 3, 3))
    logits[:30, :, 1] += slope
    leaf = torch.from_numpy(logits).requires_grad_()
    losses = crf_loss(leaf, targets, frames, [2, 2, 2], Denominator.of(model, backoffs), reduction="none")
    losses.sum().backward()
    assert losses[2] == torch.inf
    for b, have in enumerate(frames[:2]):
        loss, gradient = naive.crf(logits[:have, b], [2, 2], model)
        np.testing.assert_allclose(losses[b].item(), loss, rtol=1e-10)
        np.testing.assert_allclose(leaf.grad[:have, b], gradient, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(leaf.grad[:, 2], 0.0)
""",
        NUMBA_DISABLE_JIT="1",
    )
