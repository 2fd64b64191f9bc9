"""Memory that kernels are given: compiled code writes past the end of an array without a word.

Each search and recursion runs here on batches of unequal utterances in an array that is exactly as large as was asked
for, with numbers behind it that must still be there afterwards.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.core import workers
from asr.ctc import TokenModel, align_kernels, beam_search, ctc_loss, forced_align

modest = settings(deadline=None, derandomize=True, max_examples=100)
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
@given(batches(), st.integers(1, 12), st.booleans())
def test_beam_search_stays_in_its_workspace(runs, case, beam_size, has_model):
    log_probs, _, frames, _ = case
    num_classes = log_probs.shape[2]
    model = TokenModel(np.zeros((2, num_classes)), np.ones((2, num_classes), int), np.zeros(2)) if has_model else None
    runs.clear()
    beam_search(log_probs.numpy(), frames, beam_size, beam_size, token_model=model)
    assert len(runs) == 2  # the search, and the alignment that finds its timesteps


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
