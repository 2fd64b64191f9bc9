"""The automaton of `asr.ctc.crf_loss` as tables of a GPU, and the sum over all label sequences there.

Arcs that meet at one end are summed in tiles of R ends × K arcs. The ends are sorted by their number of arcs; R of
them make a slice, which takes as many tiles as the first of them has times K arcs. An arc is packed into two numbers:
the mantissa of its weight, and its other end with the exponent of the weight.

Letters: T frames, B utterances, C classes, S states, N nodes.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.ctc import gpu_crf_kernels as kernels
from asr.ctc import gpu_loss_kernels
from asr.ctc.automaton import Arcs, Automaton
from asr.ctc.denominator import Denominator
from asr.ctc.gpu_loss import lanes, log_totals, numbers, on_device

TILE = 4096  # arcs of a tile
WIDTHS = (8, 16, 64)  # K may be one of these: each means a compilation
STATES = 2048  # that a program works on at once
WARPS = 16
MEMORY = 1 << 31  # bytes that the rows of utterances side by side may take, unless one takes more
MOST_NODES = 1 << kernels.LOW_BITS.value


class Tiles(NamedTuple):
    """Sums over arcs.

    Attributes
    ----------
    rows, arcs
        R and K.
    levels : (number of levels + 1,)
        The slices of each level, whose sums need those of the levels before.
    starts : (slices + 1,)
        The first tile of each slice.
    ends : (slices, R)
        The ends at which sums are written, −1 for none.
    packed, weights : (tiles, R, K)
        The arcs.
    """

    rows: int
    arcs: int
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
    """Return tiles of the fewest that hold some levels, each of which has ends and the arcs of each."""
    best = min(WIDTHS, key=lambda arcs: sum(_count(each, arcs) for _, each in levels))
    return _tiles(levels, TILE // best, best)


def _degrees(arcs: Arcs) -> np.ndarray:
    return np.diff(arcs.offsets.astype(np.int64))


def _count(arcs: Arcs, width: int) -> int:
    degrees = -np.sort(-_degrees(arcs))
    return int(np.maximum(-(-degrees[:: TILE // width] // width), 1).sum())


def _tiles(levels: list[tuple[np.ndarray, Arcs]], rows: int, width: int) -> Tiles:
    firsts, starts, all_ends, all_packed, all_weights = [0], [0], [], [], []
    for ends, arcs in levels:
        degrees = _degrees(arcs)
        order = np.argsort(-degrees, kind="stable")
        packed, weights = pack(arcs.others, arcs.weights)
        for start in range(0, len(order), rows):
            here = order[start : start + rows]
            depth = max(1, -(-int(degrees[here[0]]) // width))
            table, values = np.zeros((rows, depth * width), np.int32), np.zeros((rows, depth * width))
            used = np.arange(depth * width) < degrees[here, None]
            places = (arcs.offsets[here].astype(np.int64)[:, None] + np.arange(depth * width))[used]
            table[: len(here)][used], values[: len(here)][used] = packed[places], weights[places]
            named = np.full(rows, -1)
            named[: len(here)] = ends[here]
            all_ends.append(named)
            all_packed.append(table.reshape(rows, depth, width).swapaxes(0, 1))
            all_weights.append(values.reshape(rows, depth, width).swapaxes(0, 1))
            starts.append(starts[-1] + depth)
        firsts.append(len(starts) - 1)
    shape = 0, rows, width
    return Tiles(
        rows, width, np.array(firsts), np.array(starts), np.array(all_ends),
        np.concatenate([np.empty(shape, np.int32), *all_packed]), np.concatenate([np.empty(shape), *all_weights]),
    )  # fmt: skip


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
    parents[sources] = np.repeat(links.targets, np.diff(links.offsets.astype(np.int64)))
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

    levels: int
    link_rows: int
    link_arcs: int
    links: tuple[Tensor, ...]
    entering_shape: tuple[int, int, int]
    entering: tuple[Tensor, ...]
    leaving_shape: tuple[int, int, int]
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
    num_states, num_nodes = len(automaton.finals), len(automaton.leaving.offsets) - 1

    def ints(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.int32)).to(device)

    def floats(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float64)).to(device, kind)

    def on(each: Tiles) -> tuple[Tensor, ...]:
        return ints(each.starts), ints(each.ends), ints(each.packed), floats(each.weights)

    offsets = automaton.leaving.offsets.astype(np.int64)
    nodes = np.delete(np.arange(num_nodes), np.arange(num_states, 2 * num_states))
    degrees = np.diff(offsets)[nodes]
    places = np.concatenate([np.arange(offsets[n], offsets[n + 1]) for n in nodes])
    own = Arcs(np.append(0, np.cumsum(degrees)), automaton.leaving.others[places], automaton.leaving.weights[places])
    has_again = np.diff(offsets)[num_states : 2 * num_states] > 0
    at = offsets[num_states : 2 * num_states][has_again]
    again, weights = np.zeros(num_states, np.int64), np.zeros(num_states)
    again[has_again], weights[has_again] = automaton.leaving.others[at], automaton.leaving.weights[at]
    links, entering = tiles(_levels(automaton)), tiles([(np.arange(num_states), automaton.entering)])
    leaving = tiles([(nodes, own)])
    ancestors = _ancestors(automaton)
    packed_ancestors, ancestor_weights = pack(*ancestors)
    packed_again, again_weights = pack(again, weights)
    final_exponents, finals = pack(np.zeros(num_states, np.int64), automaton.finals)
    final_exponents = np.where(automaton.finals > 0, final_exponents >> kernels.LOW_BITS.value, -(1 << 29))
    return Tables(
        len(links.levels) - 1, links.rows, links.arcs, (ints(links.levels), *on(links)),
        (len(entering.starts) - 1, entering.rows, entering.arcs), on(entering),
        (len(leaving.starts) - 1, leaving.rows, leaving.arcs), on(leaving),
        len(ancestors[0]), (ints(packed_ancestors), floats(ancestor_weights)),
        (ints(packed_again), floats(again_weights)), (floats(finals), ints(final_exponents)),
        ints(np.repeat(np.arange(len(automaton.offsets) - 1), np.diff(automaton.offsets.astype(np.int64)))),
        ints(automaton.offsets),
    )  # fmt: skip


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
    nodes = [numbers((batch, num_nodes + 2 * num_states), kind, device) for _ in range(2)]
    units = torch.zeros(batch, dtype=torch.int64, device=device)
    wholes = torch.zeros(batch, dtype=torch.int32, device=device)
    for is_second in (False, True):
        kernels.walk[batch, 2](
            frames, mantissas, exponents, num_frames, num_classes, blank, num_states, num_nodes, start_state,
            tables.classes, tables.levels, *tables.links, tables.entering_shape[0], *tables.entering,
            *rows, *kept[0], *nodes[0], units, wholes,
            *tables.finals, tables.depth, *tables.ancestors, *tables.again,
            tables.leaving_shape[0], *tables.leaving, *kept[1], *nodes[1],
            is_second, tables.link_rows, tables.link_arcs, *tables.entering_shape[1:], *tables.leaving_shape[1:],
            STATES, num_warps=WARPS,
        )  # fmt: skip
    totals = log_totals(units, wholes, norms)
    kernels.write_gradient[num_frames, batch](
        logits, *logits.stride(), grads, *grads.stride(), num_classes, num_frames, frames, blank, possible, sums,
        rows[0], num_states, tables.offsets, min(1024, width), STATES,
        num_warps=4,
    )  # fmt: skip
    return totals.where(fixed.isnan(), fixed).where(is_possible, 0.0)
