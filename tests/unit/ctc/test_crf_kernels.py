import naive
import numpy as np
import pytest
import torch

from asr.ctc import Denominator, TokenModel, crf_kernels, crf_loss, partition
from asr.ctc.lanes import LANES
from asr.lm import fusion
from asr.lm.estimation import estimate

pytestmark = pytest.mark.kernels

ONE = np.arange(1)
LABELS = ["<blank>", *"ABCDEFGHIJK"]


def ngram(rng, order=3):
    """Of 11 labels that like some others, and 200 sentences."""
    likes = rng.dirichlet(np.full(11, 0.3), 12)
    text = []
    for _ in range(200):
        sentence, last = [], 0
        for _ in range(8):
            last = rng.choice(11, p=likes[last]) + 1
            sentence.append(LABELS[last])
        text.append(sentence)
    return estimate(text, "phones", order, "witten_bell", LABELS[1:])


def scaled(logits, denominator):
    """ln Z by the scaled recursions alone and its gradient; −inf where they gave up."""
    logits = np.ascontiguousarray(logits)[:, None]
    automaton, gradient = denominator.automaton, np.zeros_like(logits)
    size = partition.workspace_size(len(logits), automaton, logits.shape[2])
    room = partition.room_for(len(logits), logits.shape[2], automaton, np.empty(size), (LANES,))
    lengths = np.array([len(logits), 0, 0, 0])
    crf_kernels.one_pass(logits, np.zeros_like(lengths), lengths, automaton, gradient, room)
    return room.totals[0], gradient[:, 0]


def of_one(logits, denominator):
    """ln Z and its gradient as `crf_loss` has them."""
    logits = np.ascontiguousarray(logits)[:, None]
    totals, gradients = partition.partition(logits, ONE, np.array([len(logits)]), [denominator.automaton])
    return totals[0], gradients[:, 0]


def assert_exact(logits, model, found):
    total, posteriors = naive.log_partition(naive.log_softmax(logits), model)
    np.testing.assert_allclose(found[0], total, rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(found[1], posteriors - np.exp(naive.log_softmax(logits)), rtol=0, atol=1e-10)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0, 6.0, 10.0, 100.0])
def test_scaling_serves_ordinary_utterances_whatever_their_scale(rng, order, scale):
    """From any context an n-gram can go on with any label, so that no path is ever far behind: no cliff."""
    denominator = fusion.denominator(ngram(rng, order), LABELS)
    assert scaled(scale * rng.standard_normal((1000, 12)), denominator)[0] > -np.inf
    winners = np.repeat(rng.integers(0, 12, 100), 10)  # a network that is sure, for ten frames each
    assert scaled(scale * 5.0 * (np.arange(12) == winners[:, None]), denominator)[0] > -np.inf


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_scaling_equals_log_space(rng, scale):
    lm = ngram(rng)
    logits = scale * rng.standard_normal((60, 12))
    assert_exact(logits, fusion.automaton(lm, LABELS, 1.0), scaled(logits, fusion.denominator(lm, LABELS)))


def one_way():
    """After label 1 nothing but it, and no end; after label 2 nothing but that."""
    scores = np.array([[0.0, -1.0, -1.5], [0.0, -0.5, -np.inf], [0.0, -np.inf, -2.0]])
    return TokenModel(scores, np.array([[0, 1, 2], [1, 1, 1], [2, 2, 2]]), np.array([-1.0, -np.inf, 0.0]))


@pytest.mark.parametrize("kind", ["end", "middle", "nothing"])
def test_log_space_serves_where_scaling_fails(rng, kind):
    """Paths that look best by far, and that cannot end: those that can are lost beside them."""
    model, logits = one_way(), rng.standard_normal((80, 3))
    logits[:60, 1] += 30
    if kind == "middle":
        logits[60:, 2] += 30
    if kind == "nothing":
        model = model._replace(finals=np.full(3, -np.inf))
    denominator = Denominator.of(model)
    assert scaled(logits, denominator)[0] == -np.inf, "scaling holds here: this test tests nothing"
    if kind == "nothing":
        total, gradient = of_one(logits, denominator)
        assert total == -np.inf
        assert (gradient == 0).all()
    else:
        assert_exact(logits, model, of_one(logits, denominator))


def test_only_the_utterance_whose_scaling_fails_is_computed_in_logarithms(rng):
    logits = torch.from_numpy(rng.standard_normal((80, 2, 3)))
    logits[:60, 1, 1] += 30
    denominator = Denominator.of(one_way())
    losses = crf_loss(logits, torch.tensor([[2], [2]]), [80, 80], [1, 1], denominator, reduction="none")
    for b, loss in enumerate(losses.tolist()):
        np.testing.assert_allclose(loss, naive.crf(logits[:, b].numpy(), [2], one_way())[0], rtol=1e-12)


def test_an_utterance_whose_scaling_fails_does_not_disturb_others(rng):
    """With weights above 1 its row would grow beyond all bounds."""
    denominator = Denominator.of(TokenModel(np.array([[0.0, 14.0, 14.0, -np.inf]]), np.zeros((1, 4), int), np.zeros(1)))
    logits = rng.standard_normal((70, 5, 4))
    logits[0, 0, 3] = 110.0  # impossible
    automata, lengths = [denominator.automaton] * 5, np.array([70, 70, 60, 70, 50])
    totals, gradients = partition.partition(logits, np.arange(5), lengths, automata)
    assert np.isfinite(totals).all()
    for b, length in enumerate(lengths):
        total, gradient = partition.partition(logits[:length, [b]].copy(), ONE, lengths[[b]], automata)
        assert total[0] == totals[b]
        np.testing.assert_array_equal(gradient[:, 0], gradients[:length, b])


def test_automata_that_take_turns_change_nothing(rng):
    automata = [fusion.denominator(ngram(rng, order), LABELS).automaton for order in (1, 2)] * 4
    logits, lengths = rng.standard_normal((20, 8, 12)), np.array([20, 20, 3, 20, 0, 20, 20, 19])
    totals, gradients = partition.partition(logits, np.arange(8), lengths, automata)
    for b, length in enumerate(lengths):
        total, gradient = partition.partition(logits[:, [b]].copy(), ONE, lengths[[b]], automata[b : b + 1])
        assert total[0] == totals[b]
        np.testing.assert_array_equal(gradient[:, 0], gradients[:, b])
        assert not gradients[length:, b].any()


def test_blocks_of_frames_change_nothing(rng):
    """Utterances of more than one block, whose rows are computed twice, as the one-block recursions of the oracle."""
    num_states = 1 << 11
    model = TokenModel(
        np.log(np.full((num_states, 3), 0.4)), rng.integers(0, num_states, (num_states, 3)), np.zeros(num_states)
    )
    model.scores[:] += 0.3 * rng.standard_normal(model.scores.shape)
    denominator = Denominator.of(model)
    block, _ = partition.layout(10**5, denominator.num_states)
    for num_frames, num_blocks in ((block, 1), (block + 1, 2), (2 * block, 2)):
        assert partition.layout(num_frames, denominator.num_states) == (block, num_blocks)
    logits = rng.standard_normal((block + block // 2, 3))
    assert_exact(logits, model, of_one(logits, denominator))


def test_memory_grows_with_the_root_of_the_frames(rng):
    denominator = fusion.denominator(ngram(rng), LABELS)
    for num_frames in (10_000, 1_000_000, 100_000_000):
        block, num_blocks = partition.layout(num_frames, denominator.num_states)
        assert block * num_blocks >= num_frames
        most = partition.CELLS + 3 * 2 * denominator.num_states * (num_frames**0.5 + 1)
        assert (block + num_blocks) * 2 * denominator.num_states <= most


def test_labels_are_scored_as_the_language_model_scores_them(rng):
    lm = ngram(rng)
    symbols = np.zeros((3, 6), np.uintp)
    symbols[:, 1:] = rng.integers(1, 12, (3, 5))
    lengths = np.array([5, 0, 3])
    expected = lm.totals([[LABELS[c] for c in row[1 : 1 + n]] for row, n in zip(symbols, lengths, strict=True)])
    np.testing.assert_allclose(fusion.denominator(lm, LABELS).log_probs(symbols, lengths), expected, rtol=1e-12)
