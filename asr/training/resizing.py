"""A network with fewer or more LSTM cells out of a trained one: those that weigh least go, new ones weigh nothing."""

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

CELLS = "forward_layers.0.weight_hh_l0"  # (4H, H)
WAYS = ("forward_layers", "backward_layers")
PARTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def resized(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a trained `asr.encoders.blstm` with as many cells as a network of yours has.

    Of more cells, those h of H remain in each direction of each layer whose outputs are multiplied by the largest
    weights: the Euclidean norm over the columns of W_hh and of the next layer (structured pruning by magnitude, Li et
    al. 2017). To fewer cells, your network's own are added, and nothing that was there hears them: their outputs are
    multiplied by 0, so that the network computes what it did (as in Net2Net, Chen et al. 2016).

    Parameters
    ----------
    given
        The tensors of the trained network.
    own
        Those of yours.

    Returns
    -------
    dict
        Copies of the tensors with h cells; the given ones as they are, if either network has no LSTM layers, both have
        equally many cells, or yours has more and another number of directions.
    """
    if CELLS not in given or CELLS not in own or own[CELLS].shape[1] == given[CELLS].shape[1]:
        return dict(given)
    ways, own_ways = ([way for way in WAYS if f"{way}.0.weight_hh_l0" in each] for each in (given, own))
    depth = sum(name.startswith("forward_layers.") and name.endswith("weight_hh_l0") for name in given)
    if own[CELLS].shape[1] < given[CELLS].shape[1]:
        return _narrowed(given, own[CELLS].shape[1], ways, depth)
    return _widened(given, own, ways, depth) if ways == own_ways else dict(given)


def _narrowed(given: Mapping[str, Tensor], narrow: int, ways: Sequence[str], depth: int) -> dict[str, Tensor]:
    """Return the tensors with the cells that weigh most."""
    wide = given[CELLS].shape[1]
    found, below = dict(given), None
    for i in range(depth):
        after = [f"{way}.{i + 1}.weight_ih_l0" for way in ways] if i + 1 < depth else ["output.weight"]
        columns = torch.cat([given[name].float() for name in after])  # (·, D H)
        kept = []
        for d, way in enumerate(ways):
            mine = torch.cat([columns[:, d * wide : (d + 1) * wide], given[f"{way}.{i}.weight_hh_l0"].float()])
            kept.append(mine.norm(dim=0).topk(narrow).indices.sort().values)
            rows = torch.cat([gate * wide + kept[-1] for gate in range(4)])
            for part in PARTS:
                found[f"{way}.{i}.{part}"] = given[f"{way}.{i}.{part}"][rows]
            if below is not None:
                found[f"{way}.{i}.weight_ih_l0"] = found[f"{way}.{i}.weight_ih_l0"][:, below]
            found[f"{way}.{i}.weight_hh_l0"] = found[f"{way}.{i}.weight_hh_l0"][:, kept[-1]]
        below = torch.cat([d * wide + each for d, each in enumerate(kept)])
    found["output.weight"] = given["output.weight"][:, below]
    return found


def _widened(
    given: Mapping[str, Tensor], own: Mapping[str, Tensor], ways: Sequence[str], depth: int
) -> dict[str, Tensor]:
    """Return the tensors with the own network's cells after those that there are, which do not hear them."""
    size, wide = given[CELLS].shape[1], own[CELLS].shape[1]
    rows = torch.cat([gate * wide + torch.arange(size) for gate in range(4)])
    below = torch.cat([d * wide + torch.arange(size) for d in range(len(ways))])
    found = dict(given)
    for i, way, part in itertools.product(range(depth), ways, PARTS):
        theirs, mine = given[f"{way}.{i}.{part}"], own.get(f"{way}.{i}.{part}")
        if mine is None or (i == 0 and part == "weight_ih_l0" and mine.shape[1] != theirs.shape[1]):
            continue  # it has fewer layers, or other features
        found[f"{way}.{i}.{part}"] = mine = mine.clone()
        mine[rows] = 0
        if theirs.dim() == 1:
            mine[rows] = theirs
        elif part == "weight_hh_l0":
            mine[rows[:, None], torch.arange(size)] = theirs
        else:
            mine[rows[:, None], below if i else torch.arange(theirs.shape[1])] = theirs
    output = given["output.weight"]
    found["output.weight"] = output.new_zeros(len(output), len(ways) * wide)
    found["output.weight"][:, below] = output
    return found
