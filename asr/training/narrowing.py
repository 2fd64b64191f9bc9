"""A network with fewer LSTM cells out of a trained one: the cells go whose outputs weigh least."""

from collections.abc import Mapping

import torch
from torch import Tensor

CELLS = "forward_layers.0.weight_hh_l0"  # (4H, H)
PARTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def narrowed(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a trained `asr.encoders.blstm` with as many cells as a network of yours has.

    In each direction of each layer, those h of H cells remain whose outputs are multiplied by the largest weights: the
    Euclidean norm over the columns of W_hh and of the next layer (structured pruning by magnitude, Li et al. 2017).

    Parameters
    ----------
    given
        The tensors of the trained network.
    own
        Those of yours.

    Returns
    -------
    dict
        Copies of the tensors with h cells; the given ones as they are, if either network has no LSTM layers or yours
        has at least as many cells.
    """
    if CELLS not in given or CELLS not in own or own[CELLS].shape[1] >= given[CELLS].shape[1]:
        return dict(given)
    wide, narrow = given[CELLS].shape[1], own[CELLS].shape[1]
    ways = [way for way in ("forward_layers", "backward_layers") if f"{way}.0.weight_hh_l0" in given]
    depth = sum(name.startswith("forward_layers.") and name.endswith("weight_hh_l0") for name in given)
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
