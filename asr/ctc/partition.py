"""ln Z of `asr.ctc.crf_loss` and its gradient: utterances side by side, in scaled numbers, or else in logarithms.

Memory is bounded as in `asr.ctc.align_kernels`: of a long utterance only the rows between blocks of frames are kept,
and each block is computed again on the way back.

Letters: T frames, B utterances, C classes, S states, N nodes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asr.core import workers
from asr.ctc import crf_kernels, crf_log_kernels
from asr.ctc.automaton import Automaton

CELLS = 1 << 23  # numbers that the rows of a block may have (64 MiB), unless √T rows have more


class Room(NamedTuple):
    """Where an utterance is worked on.

    Attributes
    ----------
    rows : (frames of a block + 1, 2S)
        α; row 0 is that before the block.
    kept : (blocks, 2S)
        The row before each block.
    probs : (T, C)
        Softmax of the logits, or its logarithm.
    norms : (T,)
        The sum of the row before each frame, by which the frame's is divided.
    betas : (2S,)
    nodes : (N,)
        What is at the nodes.
    arrived : (S,)
        β of labels, times the probability of the next frame.
    """

    rows: np.ndarray
    kept: np.ndarray
    probs: np.ndarray
    norms: np.ndarray
    betas: np.ndarray
    nodes: np.ndarray
    arrived: np.ndarray


def partition(
    logits: np.ndarray, utterances: np.ndarray, lengths: np.ndarray, automata: Sequence[Automaton]
) -> tuple[np.ndarray, np.ndarray]:
    """Return ln Z (B,) and its gradient at the logits (T, B, C).

    Parameters
    ----------
    logits : (T, B, C)
        Float64, contiguous; those of `utterances` without NaN and +inf.
    utterances
        Which to do; the others get 0.
    lengths : (B,)
        Frames.
    automata : (B,)
        Weights of each utterance's label sequences.

    Returns
    -------
    totals : (B,)
        −inf where no path is possible.
    grads : (T, B, C)
        Posteriors less the softmax of the logits; 0 beyond an utterance, and where no path is possible.
    """
    totals, grads = np.zeros(len(lengths)), np.zeros_like(logits)
    chosen = utterances[np.argsort(-lengths[utterances], kind="stable")]  # so that the threads' shares are alike
    longest, num_classes = int(lengths[chosen].max(initial=0)), logits.shape[2]
    sizes = {id(each): workspace_size(longest, each, num_classes) for each in automata}
    workers.run(_each, len(chosen), max(sizes.values(), default=0), logits, chosen, lengths, automata, (totals, grads))
    return totals, grads


def _each(
    places: np.ndarray,
    logits: np.ndarray,
    utterances: np.ndarray,
    lengths: np.ndarray,
    automata: Sequence[Automaton],
    found: tuple[np.ndarray, np.ndarray],
    work: np.ndarray,
) -> None:
    """Do the utterances at some places, one after another."""
    totals, grads = found
    for b in utterances[places].tolist():
        num_frames, automaton = int(lengths[b]), automata[b]
        if num_frames == 0:
            with np.errstate(divide="ignore"):
                totals[b] = np.log(automaton.finals[automaton.offsets[automaton.blank]])
            continue
        room = room_for(num_frames, logits.shape[2], automaton, work)
        totals[b] = crf_kernels.one_pass(logits, b, automaton, grads, room)
        if totals[b] == -np.inf:
            totals[b] = crf_log_kernels.one_pass(logits, b, automaton, grads, room)


def layout(num_frames: int, num_states: int) -> tuple[int, int]:
    """Return the frames of a block, and the number of blocks."""
    block = max(1, min(num_frames, max(CELLS // (2 * num_states), 1 + math.isqrt(num_frames))))
    return block, -(-num_frames // block)


def workspace_size(num_frames: int, automaton: Automaton, num_classes: int) -> int:
    """Return how many float64 an utterance of so many frames takes."""
    num_states, num_nodes = len(automaton.finals), len(automaton.leaving.offsets) - 1
    block, num_blocks = layout(num_frames, num_states)
    return (block + num_blocks + 2) * 2 * num_states + num_states + num_nodes + num_frames * (num_classes + 1)


def room_for(num_frames: int, num_classes: int, automaton: Automaton, work: np.ndarray) -> Room:
    """Lay out a workspace."""
    num_states, num_nodes = len(automaton.finals), len(automaton.leaving.offsets) - 1
    block, num_blocks = layout(num_frames, num_states)
    rows, kept = (block + 1, 2 * num_states), (num_blocks, 2 * num_states)
    probs, norms, betas = (num_frames, num_classes), (num_frames,), (2 * num_states,)
    shapes = (rows, kept, probs, norms, betas, (num_nodes,), (num_states,))
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    parts = np.split(work[: workspace_size(num_frames, automaton, num_classes)], ends)
    return Room(*(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)))
