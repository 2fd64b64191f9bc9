"""ln Z of `asr.ctc.crf_loss` and its gradient: utterances side by side, in scaled numbers, or else in logarithms.

Memory is bounded as in `asr.ctc.align_kernels`: of a long utterance only the rows between blocks of frames are kept,
and each block is computed again on the way back.

Letters: T frames, B utterances, C classes, S states, N nodes.
"""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from asr.core import workers
from asr.ctc import crf_kernels, crf_log_kernels
from asr.ctc.automaton import Automaton
from asr.ctc.lanes import LANES

CELLS = 1 << 23  # places that the rows of a block may have (64 MiB in each lane), unless √T rows have more


class Room(NamedTuple):
    """Where utterances are worked on. In `asr.ctc.crf_kernels` a last axis of each array has their lanes.

    Attributes
    ----------
    rows : (frames of a block + 1, 2S)
        α; row 0 is that before the block.
    kept : (blocks, 2S)
        The row before each block.
    probs : (T, C)
        Softmax of the logits, or its logarithm.
    norms : (T + 1,)
        What each frame's row is divided by: the sum of the row before; 1 after the end of an utterance.
    betas : (2S,)
    nodes : (N,)
        What is at the nodes.
    arrived : (S,)
        β of labels, times the probability of the next frame.
    masses : (C,)
        Sums of α β of a frame over the places of each class.
    sums : (1,)
        Of masses, or of a row.
    totals : ()
        ln Z.
    """

    rows: np.ndarray
    kept: np.ndarray
    probs: np.ndarray
    norms: np.ndarray
    betas: np.ndarray
    nodes: np.ndarray
    arrived: np.ndarray
    masses: np.ndarray
    sums: np.ndarray
    totals: np.ndarray


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
    chosen = sorted(utterances.tolist(), key=lambda b: (id(automata[b]), -lengths[b]))
    groups = list[np.ndarray]()
    for _, members in groupby(chosen, lambda b: id(automata[b])):
        together = np.array(list(members))
        groups += [together[first : first + LANES] for first in range(0, len(together), LANES)]
    groups.sort(key=lambda members: -lengths[members[0]])  # so that threads' shares are alike
    longest, num_classes = int(lengths[utterances].max(initial=0)), logits.shape[2]
    sizes = {id(each): workspace_size(longest, each, num_classes) for each in automata}
    workers.run(_each, len(groups), max(sizes.values(), default=0), logits, groups, lengths, automata, (totals, grads))
    return totals, grads


def _each(
    places: np.ndarray,
    logits: np.ndarray,
    groups: Sequence[np.ndarray],
    lengths: np.ndarray,
    automata: Sequence[Automaton],
    found: tuple[np.ndarray, np.ndarray],
    work: np.ndarray,
) -> None:
    """Do the groups at some places, one after another."""
    totals, grads = found
    for members in (groups[place] for place in places.tolist()):
        automaton, num_frames = automata[members[0]], int(lengths[members].max())
        lanes, frames = np.zeros((2, LANES), np.int64)
        lanes[: len(members)], frames[: len(members)] = members, lengths[members]
        room = room_for(num_frames, logits.shape[2], automaton, work, (LANES,))
        crf_kernels.one_pass(logits, lanes, frames, automaton, grads, room)
        totals[members] = room.totals[: len(members)]
        for b in members[totals[members] == -np.inf].tolist():
            grads[:, b] = 0.0
            room = room_for(int(lengths[b]), logits.shape[2], automaton, work)
            totals[b] = crf_log_kernels.one_pass(logits, b, automaton, grads, room)


def layout(num_frames: int, num_states: int) -> tuple[int, int]:
    """Return the frames of a block, and the number of blocks."""
    block = max(1, min(num_frames, max(CELLS // (2 * num_states), 1 + math.isqrt(num_frames))))
    return block, -(-num_frames // block)


def workspace_size(num_frames: int, automaton: Automaton, num_classes: int) -> int:
    """Return how many float64 utterances of up to so many frames take."""
    return LANES * sum(math.prod(shape) for shape in _shapes(num_frames, num_classes, automaton))


def room_for(
    num_frames: int, num_classes: int, automaton: Automaton, work: np.ndarray, lanes: tuple[int, ...] = ()
) -> Room:
    """Lay out a workspace, with a last axis of lanes or without."""
    shapes = [shape + lanes for shape in _shapes(num_frames, num_classes, automaton)]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = np.split(work[: ends[-1]], ends[:-1])
    return Room(*(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)))


def _shapes(num_frames: int, num_classes: int, automaton: Automaton) -> list[tuple[int, ...]]:
    """Return the shapes of the arrays of `Room`, without lanes."""
    num_states, num_nodes = len(automaton.finals), len(automaton.leaving.offsets) - 1
    block, num_blocks = layout(num_frames, num_states)
    rows, kept, probs = (block + 1, 2 * num_states), (num_blocks, 2 * num_states), (num_frames, num_classes)
    norms, betas, nodes, arrived = (num_frames + 1,), (2 * num_states,), (num_nodes,), (num_states,)
    return [rows, kept, probs, norms, betas, nodes, arrived, (num_classes,), (1,), ()]
