"""Memory that kernels are given: compiled code writes past the end of an array without a word.

Each search and recursion runs here on batches of unequal utterances in an array that is exactly as large as was asked
for, with numbers behind it that must still be there afterwards.
"""

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.core import workers
from asr.ctc import (
    Denominator,
    LabelGraph,
    TokenModel,
    align_kernels,
    beam_search,
    crf_loss,
    ctc_loss,
    forced_align,
    graph_align,
    graph_kernels,
    partition,
)
from asr.encoders import cell_kernels
from asr.hmm import inference_kernels
from asr.hmm.decoding_kernels import search_paths
from asr.hmm.graph import Graph
from asr.hmm.phone_loop import PhoneLoop, bigram
from asr.hmm.tying import Tying
from asr.lm.estimation import estimate
from asr.lm.hints import Hints
from asr.lm.language_model import UNKNOWN
from asr.lm.lexicon import Lexicon
from asr.lm.word_search import WordSearch

pytestmark = pytest.mark.kernels

modest = settings(derandomize=True, max_examples=100)
BEHIND = np.full(4096, np.pi)


@pytest.fixture(autouse=True, scope="module")
def runs():
    """Let kernels work in front of known numbers; gives the sizes of the workspaces."""
    sizes = []

    def run(kernel, batch, workspace, *args):
        memory = np.concatenate([np.full(workspace, np.nan), BEHIND])
        kernel(np.arange(batch), *args, memory[:workspace])
        sizes.append(workspace)
        assert (memory[workspace:] == BEHIND).all(), f"{kernel} wrote behind its workspace of {workspace} numbers"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "run", run)
        yield sizes


@st.composite
def batches(draw):
    """log_probs (T, B, C), targets (B, S), input_lengths and target_lengths, every utterance with a path."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    batch, num_frames, num_classes = draw(st.integers(1, 5)), draw(st.integers(1, 60)), draw(st.integers(2, 9))
    log_probs = torch.from_numpy(rng.standard_normal((num_frames, batch, num_classes))).log_softmax(2)
    frames = rng.permutation([num_frames, *rng.integers(0, num_frames + 1, batch - 1)])
    labels = rng.integers(0, frames // 2 + 1)
    return log_probs, rng.integers(1, num_classes, (batch, max(1, num_frames // 2))), frames, labels


@modest
@given(batches())
def test_loss_and_alignment_stay_in_their_workspace(runs, case):
    log_probs, targets, frames, labels = case
    runs.clear()
    ctc_loss(log_probs, torch.from_numpy(targets), frames, labels)
    forced_align(log_probs.numpy(), targets, frames, labels)
    assert len(runs) == 2


@modest
@given(batches(), st.integers(1, 6), st.booleans())
def test_crf_loss_stays_in_its_workspace(runs, case, num_states, has_backoffs):
    log_probs, targets, frames, labels = case
    shape = num_states, log_probs.shape[2]
    ways = np.arange(num_states * shape[1]).reshape(shape) * 7 % num_states
    model = TokenModel(np.full(shape, -1.0) - ways % 3, ways, np.zeros(num_states))
    backoffs = np.maximum(np.arange(num_states) - 1, 0) if has_backoffs else None
    runs.clear()
    losses = crf_loss(
        log_probs, torch.from_numpy(targets), frames, labels, Denominator.of(model, backoffs), reduction="none"
    )
    assert torch.isfinite(losses).all()
    assert len(runs) == 2  # the labels' paths, and all paths


@modest
@given(st.integers(1, 10**6), st.integers(1, 10**5))
def test_blocks_of_a_crf_loss_fit(num_frames, num_states):
    block, num_blocks = partition.layout(num_frames, num_states)
    assert block * (num_blocks - 1) < num_frames <= block * num_blocks


@modest
@given(st.integers(1, 60), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_alignment_with_a_graph_stays_in_its_workspace(runs, num_frames, num_labels, seed):
    rng = np.random.default_rng(seed)
    log_probs = torch.from_numpy(rng.standard_normal((num_frames, 5))).log_softmax(1).numpy()
    arcs = [(int(rng.integers(0, s)), s, 0.0) for s in range(1, num_labels + 1)]
    arcs += [(int(u), int(v), -1.0) for u, v in rng.integers(1, num_labels + 1, (num_labels, 2))]
    graph = LabelGraph.of(rng.integers(1, 5, num_labels).tolist(), arcs, list(range(num_labels + 1)))
    runs.clear()
    found = graph_align(log_probs, graph)
    assert len(runs) == 1
    assert found.ends.max(initial=0) <= num_frames


@modest
@given(st.integers(1, 10**6), st.integers(1, 10**5))
def test_blocks_of_an_alignment_with_a_graph_fit(num_frames, num_nodes):
    block, num_blocks, taken = graph_kernels.layout(num_frames, num_nodes)
    assert block * (num_blocks - 1) < num_frames <= block * num_blocks
    assert taken == 2 * (block + 1) * num_nodes + num_blocks * 2 * num_nodes


@modest
@given(batches(), st.integers(1, 12), st.booleans())
def test_beam_search_stays_in_its_workspace(runs, case, beam_size, has_model):
    log_probs, _, frames, _ = case
    num_classes = log_probs.shape[2]
    model = TokenModel(np.zeros((2, num_classes)), np.ones((2, num_classes), int), np.zeros(2)) if has_model else None
    runs.clear()
    beam_search(log_probs.numpy(), frames, beam_size, beam_size, token_model=model)
    assert len(runs) == 2  # the search, and the alignment that finds its timesteps


@pytest.fixture(scope="module")
def word_search():
    labels = ("A", "B", "C")
    words = [f"{a}{b}{c}" for a in labels for b in labels for c in labels]
    lm = estimate([[word] for word in words], "words", 2, "witten_bell", [UNKNOWN, *words])
    lexicon = Lexicon.build((word, phones) for word in words for phones in (word, word[:2]))
    hints = Hints.read(["AAA BBB, zoo", "zoo\tC A B"], 2.0)
    return WordSearch(lexicon, lm, ["<blank>", *labels], 0.5, 0.1, True, hints)


@modest
@given(batches(), st.integers(1, 12))
def test_search_for_words_stays_in_its_workspace(runs, word_search, case, beam_size):
    log_probs, _, frames, _ = case
    log_probs = torch.nn.functional.pad(log_probs, (0, 4), value=-20.0)[:, :, :4].numpy()
    runs.clear()
    word_search(log_probs, frames, beam_size, beam_size)
    assert len(runs) == 2


def framed(rng, *shape):
    """An array with known numbers on both sides, and a function that checks them."""
    memory = np.full((shape[0] + 20, *shape[1:]), np.pi)
    memory[10:-10] = rng.standard_normal(shape)

    def untouched():
        return (memory[:10] == np.pi).all() and (memory[-10:] == np.pi).all()

    return memory[10:-10], untouched


@modest
@given(st.integers(1, 9), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_recursions_over_a_graph_stay_in_their_arrays(num_states, num_frames, seed):
    rng = np.random.default_rng(seed)
    arcs = [(i, j, float(np.log(0.3))) for i in range(num_states) for j in range(num_states) if rng.random() < 0.7]
    graph = Graph.of(rng.integers(0, 4, num_states).tolist(), arcs, {0: 0.0}, {num_states - 1: 0.0})
    scores = rng.standard_normal((num_frames, 4))
    alpha, gamma = framed(rng, num_frames, num_states), framed(rng, num_frames, num_states)
    counts = framed(rng, len(arcs))
    inference_kernels.forward_backward(scores, graph, alpha[0], gamma[0], counts[0])
    assert alpha[1]()
    assert gamma[1]()
    assert counts[1]()


@modest
@given(st.integers(1, 60), st.integers(1, 30), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_a_search_over_a_loop_of_phones_has_room_for_its_records(num_frames, num_phones, nbest, seed):
    rng = np.random.default_rng(seed)
    steps = np.tile(np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]) / 2, (num_phones, 1))
    labels = [str(phone) for phone in range(num_phones)]
    with np.errstate(divide="ignore"):
        loop = PhoneLoop.of(Tying.monophones(num_phones), np.log(steps), bigram(labels, [labels]))
    active = np.empty(num_frames, np.int64)
    scores = rng.standard_normal((num_frames, loop.num_pdfs))
    _, lasts, records = search_paths(scores, loop.network, np.inf, nbest, active)
    assert active.max() <= loop.num_nodes
    assert lasts.max(initial=-1) < len(records)


@modest
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 7), st.integers(0, 5), st.data())
def test_cells_write_the_utterances_of_their_share_alone(num_frames, batch, size, truncate, data):
    first = data.draw(st.integers(0, batch - 1))
    last = data.draw(st.integers(first + 1, batch))
    rng = np.random.default_rng(batch)
    share, here = (first, last, truncate), np.arange(first, last)

    def array(*shape):
        return rng.standard_normal(shape)

    def check(kernel, arguments, written):
        """The arrays that are written keep what they held of other utterances: (·, B, H), the batch last but one."""
        before = [each.copy() for each in written]
        kernel(share, *arguments)
        for old, new in zip(before, written, strict=True):
            others = np.delete(new, here, axis=-2)
            np.testing.assert_array_equal(others, np.delete(old, here, axis=-2))
            assert (new != old).any()

    relu = bool(truncate % 2)
    trail, square, grads = array(num_frames + 1, batch, size), array(size, size), array(num_frames, batch, size)
    check(cell_kernels.elman_forward, (array(num_frames, batch, size), square, False, trail), [trail])
    deltas, carry = array(num_frames, batch, size), array(batch, size)
    check(cell_kernels.elman_backward, (grads, square, relu, trail, deltas, carry), [deltas, carry])

    outputs, hidden = array(2, num_frames + 1, batch, 3), array(num_frames, batch, size)
    weights, bias = (array(3, size), array(size, 3)), array(3)
    check(cell_kernels.jordan_forward, (True, hidden + 1, *weights, bias, hidden, outputs), [hidden, outputs])
    out_deltas, carry, memory = array(num_frames, batch, 3), array(batch, 3), (hidden, outputs[1, 1:])
    weights = array(size, 3), array(3, size)
    arguments = relu, weights, memory, array(num_frames, batch, 3), out_deltas, deltas, carry
    check(cell_kernels.jordan_backward, arguments, [out_deltas, deltas, carry])

    gates, trail, peepholes = array(num_frames, batch, 4 * size), array(3, num_frames + 1, batch, size), array(3, size)
    arguments = array(num_frames, batch, 4 * size), array(size, 4 * size), peepholes, gates, trail
    check(cell_kernels.lstm_forward, arguments, [gates, trail])
    deltas, carries = array(num_frames, batch, 4 * size), array(5, batch, size)
    arguments = grads, array(4 * size, size), peepholes, gates, trail, deltas, carries
    check(cell_kernels.lstm_backward, arguments, [deltas, carries])


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**5)), min_size=1, max_size=5))
@modest
def test_alignments_of_any_size_fit(lengths):
    frames, labels = np.array(lengths).T
    allotted = align_kernels.workspace_size(frames, labels)
    for num_frames, num_labels in lengths:
        block, num_blocks, taken = align_kernels.layout(num_frames, num_labels)
        assert block * (num_blocks - 1) < max(num_frames, 1) <= block * max(num_blocks, 1)
        two_rows = 2 * (num_labels + 1)
        assert allotted >= taken == (block + 1) * two_rows + num_blocks * two_rows + two_rows


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="minutes without compilation")
@pytest.mark.parametrize(
    ("num_frames", "num_labels"), [(1570, (1518, 1375)), (17478, (406, 388)), (27437, (104, 94)), (40_000, (90, 40, 7))]
)
def test_a_shorter_labelling_of_a_batch_may_take_more_than_the_longest(runs, num_frames, num_labels, rng):
    """Alignment is done in blocks of frames, and how they divide a recording depends on the number of labels."""
    batch = len(num_labels)
    log_probs = torch.from_numpy(rng.standard_normal((num_frames, batch, 5))).log_softmax(2).numpy()
    targets = np.resize([1, 2, 3], (batch, max(num_labels)))
    alone = [
        forced_align(log_probs[:, b : b + 1], targets[b : b + 1, :length])[0] for b, length in enumerate(num_labels)
    ]
    for found, expected in zip(forced_align(log_probs, targets, None, num_labels), alone, strict=True):
        assert found.score == expected.score
        np.testing.assert_array_equal(found.starts, expected.starts)
