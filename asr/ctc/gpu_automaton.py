"""The automaton of `asr.ctc.crf_loss` as tables of a GPU, and the sum over all label sequences there.

Arcs that meet at one end are summed in tiles of some ends × some arcs. The ends are sorted by their number of arcs; as
many as a tile has make a slice, which takes as many tiles as the first of them needs. An arc is packed into two
numbers: the mantissa of its weight, and its other end with the exponent of the weight.

Letters: T frames, B utterances, C classes, S states, N nodes.
"""

from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.ctc import gpu_crf_kernels as kernels
from asr.ctc import gpu_loss_kernels
from asr.ctc.automaton import Arcs, Automaton
from asr.ctc.denominator import Denominator
from asr.ctc.gpu_loss import lanes, log_totals, numbers, on_device
from asr.ctc.gpu_numbers import NOTHING

STATES = 2048  # that a program works on at once
TILE, WIDE, NARROW = kernels.TILE.value, kernels.WIDE.value, kernels.NARROW.value
MEMORY = 1 << 31  # bytes that the rows of utterances side by side may take, unless one takes more


class Tiles(NamedTuple):
    """Sums over arcs.

    Attributes
    ----------
    levels : (2 × number of levels + 1,)
        The first slice of each level, whose sums need those of the levels before, and its first narrow slice; last
        comes the number of slices.
    starts : (slices + 1,)
        The first tile of each slice.
    ends : (slices, TILE // NARROW)
        The ends at which sums are written, −1 for none.
    packed, weights : (tiles + 1, TILE)
        The first arc of all ends, then the second…: WIDE of them in a wide tile, NARROW in a narrow one. The last
        tile is empty.
    """

    levels: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    packed: np.ndarray
    weights: np.ndarray


def pack(others: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the other ends of arcs with the exponents of their weights, and mantissas in [1, 2), or 0."""
    mantissas, exponents = np.frexp(weights)
    exponents = np.where(weights > 0, exponents - 1, 0).astype(np.int64)
    return (others.astype(np.int64) | (exponents << kernels.LOW_BITS.value)).astype(np.int32), 2 * mantissas


def tiles(levels: list[tuple[np.ndarray, Arcs]]) -> Tiles:
    """Return tiles of some levels, each of which has ends and the arcs of each."""
    bounds: list[int] = []
    slices: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for ends, arcs in levels:
        degrees = _counts(arcs.offsets)
        limits = [0, *(NARROW << n for n in range(8)), degrees.max(initial=0)]
        limit = min(limits, key=partial(_count_both, degrees))
        bounds.append(len(slices))
        for is_wide, width in ((degrees > limit, WIDE), (degrees <= limit, NARROW)):
            if width == NARROW:
                bounds.append(len(slices))
            slices += _slices(np.flatnonzero(is_wide), degrees, ends, arcs, width)
    depths = [len(packed) for _, packed, _ in slices]
    empty = np.zeros((1, TILE))
    return Tiles(
        np.array([*bounds, len(slices)]),
        np.append(0, np.cumsum(depths, dtype=int)),
        np.array([named for named, _, _ in slices]),
        np.concatenate([*(packed for _, packed, _ in slices), empty.astype(np.int32)]),
        np.concatenate([*(weights for _, _, weights in slices), empty]),
    )


def _counts(offsets: np.ndarray) -> np.ndarray:
    """Return how many there are from each offset to the next."""
    return offsets[1:].astype(np.int64) - offsets[:-1].astype(np.int64)


def _count(degrees: np.ndarray, width: int) -> int:
    """Return how many tiles ends with so many arcs take."""
    greatest = np.sort(degrees)[::-1][:: TILE // width]
    return int(np.maximum(-(-greatest // width), 1).sum())


def _count_both(degrees: np.ndarray, limit: int) -> int:
    """Return how many tiles ends take if those with more arcs than a limit go into wide ones."""
    return _count(degrees[degrees > limit], WIDE) + _count(degrees[degrees <= limit], NARROW)


def _slices(
    rows: np.ndarray, degrees: np.ndarray, ends: np.ndarray, arcs: Arcs, width: int
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return the slices of some rows: their ends, and the packed arcs and weights of their tiles.

    Rows of as many tiles are in the order of what they read first: what neighbours read lies side by side.
    """
    offsets = arcs.offsets.astype(np.int64)
    packed, weights = pack(arcs.others, arcs.weights)
    firsts = np.append(arcs.others, 0)[offsets[rows]].astype(np.int64)
    order, found = rows[np.lexsort((firsts, -np.ceil(degrees[rows] / width)))], []
    for start in range(0, len(order), TILE // width):
        here = order[start : start + TILE // width]
        depth = max(1, -(-int(degrees[here].max()) // width))
        used = np.arange(depth * width) < degrees[here, None]
        places = (offsets[here, None] + np.arange(depth * width))[used]
        table = np.zeros((TILE // width, depth * width), np.int32), np.zeros((TILE // width, depth * width))
        table[0][: len(here)][used], table[1][: len(here)][used] = packed[places], weights[places]
        named = np.full(TILE // NARROW, -1)
        named[: len(here)] = ends[here]
        tiled = [each.reshape(-1, depth * width).T.reshape(depth, TILE) for each in table]
        found.append((named, tiled[0], tiled[1]))
    return found


def _levels(automaton: Automaton) -> list[tuple[np.ndarray, Arcs]]:
    """Return the links in levels: those of a level lead to nodes whose own links are in later ones."""
    links = automaton.links
    if len(links.targets) == 0:
        return []
    depths = np.zeros(len(automaton.leaving.offsets) - 1, np.int64)
    offsets = links.offsets.astype(np.int64)
    for i, target in enumerate(links.targets.astype(np.int64)):  # links into a node precede those out of it
        depths[target] = 1 + depths[links.sources[offsets[i] : offsets[i + 1]]].max()
    found = []
    for depth in range(1, depths.max() + 1):
        (chosen,) = np.nonzero(depths[links.targets] == depth)
        degrees = (offsets[1:] - offsets[:-1])[chosen]
        places = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in chosen])
        arcs = Arcs(np.append(0, np.cumsum(degrees)), links.sources[places], links.weights[places])
        found.append((links.targets[chosen], arcs))
    return found


def _ancestors(automaton: Automaton) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes that states back off to (depth, S), and how much of those counts at the state."""
    links, num_states = automaton.links, len(automaton.finals)
    parents, factors = np.full(len(automaton.leaving.offsets) - 1, -1), np.zeros(len(automaton.leaving.offsets) - 1)
    sources = links.sources.astype(np.int64)
    parents[sources] = np.repeat(links.targets, _counts(links.offsets))
    factors[sources] = links.weights
    rows, weights = [], []
    at, weight = np.arange(num_states), np.ones(num_states)
    while (parents[at] >= 0).any():
        is_linked = parents[at] >= 0
        weight = weight * np.where(is_linked, factors[at], 0.0)
        at = np.where(is_linked, parents[at], at)
        rows.append(at)
        weights.append(weight)
    return np.array(rows).reshape(-1, num_states), np.array(weights).reshape(-1, num_states)


class Tables(NamedTuple):
    """An automaton on a device."""

    num_levels: int
    links: tuple[Tensor, ...]
    entering: tuple[Tensor, ...]
    leaving: tuple[Tensor, ...]
    depth: int
    ancestors: tuple[Tensor, ...]
    again: tuple[Tensor, ...]
    finals: tuple[Tensor, ...]
    classes: Tensor
    offsets: Tensor


@lru_cache(4)
def _tables(denominator: Denominator, kind: torch.dtype, device: torch.device) -> Tables:
    automaton = denominator.automaton
    num_states = len(automaton.finals)

    def ints(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.int32)).to(device)

    def floats(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float64)).to(device, kind)

    def pair(packed: np.ndarray, weights: np.ndarray) -> tuple[Tensor, ...]:
        return ints(packed), floats(weights)

    def on(levels: list[tuple[np.ndarray, Arcs]]) -> tuple[Tensor, ...]:
        *parts, weights = tiles(levels)
        return *map(ints, parts), floats(weights)

    levels, ancestors, finals = _levels(automaton), _ancestors(automaton), pack(np.zeros(num_states), automaton.finals)
    exponents = np.where(automaton.finals > 0, finals[0] >> kernels.LOW_BITS.value, NOTHING.value)
    own, again = _leaving(automaton)
    return Tables(
        num_levels=len(levels),
        links=on(levels),
        entering=on([(np.arange(num_states), automaton.entering)]),
        leaving=on([own]),
        depth=len(ancestors[0]),
        ancestors=pair(*pack(*ancestors)),
        again=pair(*pack(*again)),
        finals=(floats(finals[1]), ints(exponents)),
        classes=ints(np.repeat(np.arange(denominator.num_classes), _counts(automaton.offsets))),
        offsets=ints(automaton.offsets),
    )


def _leaving(automaton: Automaton) -> tuple[tuple[np.ndarray, Arcs], tuple[np.ndarray, np.ndarray]]:
    """Return nodes with their arcs, and the arc by which each state's label begins again: its end, and its weight."""
    num_states, (offsets, others, weights) = len(automaton.finals), automaton.leaving
    counts, firsts = _counts(offsets), offsets.astype(np.int64)
    is_again = np.zeros(len(counts), bool)
    is_again[num_states : 2 * num_states] = True
    of_again = np.repeat(is_again, counts)
    own = Arcs(np.append(0, np.cumsum(counts[~is_again])), others[~of_again], weights[~of_again])
    ends, factors, some = np.zeros(num_states, np.int64), np.zeros(num_states), counts[is_again] > 0
    at = firsts[:-1][is_again][some]
    ends[some], factors[some] = others[at], weights[at]
    return (np.flatnonzero(~is_again), own), (ends, factors)


def partition(
    logits: Tensor, is_possible: Tensor, lengths: np.ndarray, denominator: Denominator
) -> tuple[Tensor, Tensor]:
    """Return ln Z (B,) in float64 and its gradient at the logits (T, B, C), as `asr.ctc.partition.partition` does.

    Parameters
    ----------
    logits : (T, B, C)
        On a GPU.
    is_possible : (B,)
        Which utterances to do, on the GPU; the others get 0.
    lengths : (B,)
        Frames.
    denominator
        Weights of all label sequences.
    """
    automaton = denominator.automaton
    kind = torch.float64 if logits.dtype == torch.float64 else torch.float32
    grads, totals = torch.zeros_like(logits, dtype=kind), []
    tables = _tables(denominator, kind, logits.device)
    num_states, num_frames = len(automaton.finals), len(logits)
    each = max(1, num_frames * 2 * num_states * (kind.itemsize + 4))
    with torch.cuda.device_of(logits):
        for start in range(0, len(lengths), max(1, MEMORY // each)):
            part = slice(start, start + max(1, MEMORY // each))
            some = logits[:, part], is_possible[part], lengths[part], automaton, tables, grads[:, part]
            totals.append(_partition(*some))
    return torch.cat(totals) if totals else logits.new_zeros(0, dtype=torch.float64), grads


def _partition(
    logits: Tensor, is_possible: Tensor, lengths: np.ndarray, automaton: Automaton, tables: Tables, grads: Tensor
) -> Tensor:
    (num_frames, batch, num_classes), kind, device = logits.shape, grads.dtype, logits.device
    num_states, num_nodes, blank = len(automaton.finals), len(automaton.leaving.offsets) - 1, int(automaton.blank)
    start_state = int(automaton.offsets[blank])
    with np.errstate(divide="ignore"):
        known = np.where(lengths == 0, np.log(automaton.finals[start_state]), np.nan)
    (fixed, weights), (frames, labels, symbols) = on_device(
        device, (known, np.zeros(num_classes)), (lengths, np.full(batch, num_classes - 1), np.arange(num_classes))
    )
    possible = is_possible.to(torch.int32)
    if num_frames == 0:
        return fixed.where(is_possible, 0.0)
    mantissas, exponents = numbers((batch, num_frames, num_classes), kind, device)
    norms, sums = torch.empty((2, batch, num_frames), dtype=torch.float64, device=device)
    width = lanes(num_classes)
    gpu_loss_kernels.emit[num_frames, batch](
        logits, *logits.stride(), num_classes, num_frames, frames, labels, symbols, 0, weights, norms, sums,
        mantissas, exponents, num_classes, width, min(1024, width), num_warps=4,
    )  # fmt: skip
    rows = numbers((batch, num_frames, 2 * num_states), kind, device)
    kept = [numbers((batch, 2 * num_states), kind, device) for _ in range(2)]
    of_nodes = torch.int64 if kind == torch.float32 else kind  # which holds mantissa and exponent
    nodes = [numbers((batch, num_nodes + 2 * num_states), of_nodes, device) for _ in range(2)]
    units = torch.zeros(batch, dtype=torch.int64, device=device)
    wholes = torch.zeros(batch, dtype=torch.int32, device=device)
    for is_second in (False, True):
        kernels.walk[batch, 2](
            frames, mantissas, exponents, num_frames, num_classes, blank, num_states, num_nodes, start_state,
            tables.classes, tables.num_levels, *tables.links, *tables.entering,
            *rows, *kept[0], *nodes[0], units, wholes,
            *tables.finals, tables.depth, *tables.ancestors, *tables.again,
            *tables.leaving, *kept[1], *nodes[1],
            is_second, STATES, num_warps=kernels.WARPS.value,
        )  # fmt: skip
    totals = log_totals(units, wholes, norms)
    kernels.write_gradient[num_frames, batch](
        logits, *logits.stride(), grads, *grads.stride(), num_classes, num_frames, frames, blank, possible, sums,
        rows[0], num_states, tables.offsets, min(1024, width), STATES,
        num_warps=4,
    )  # fmt: skip
    return totals.where(fixed.isnan(), fixed).where(is_possible, 0.0)
