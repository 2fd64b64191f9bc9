"""Training that starts from the weights of a trained network (`train.init`), as far as they fit."""

from collections.abc import Sequence

import torch
from torch import nn

from asr.core.errors import ConfigError
from asr.models import model_folder
from asr.models.ctc import CTCModel

OUTPUT = "output."  # the layer whose rows are classes, in every encoder


def take(encoder: nn.Module, tokens: Sequence[str], name: str) -> str:
    """Copy the weights of a trained network into a new one.

    Tensors of equal name and shape are copied. Of the output layer each class takes the row of the same label; labels
    that the trained network does not have start as they are.

    Parameters
    ----------
    encoder
        The new network.
    tokens : (C,)
        Its labels, class 0 the blank; none if its classes are no labels.
    name
        Run or model folder of a system trained with CTC, or the name of a shipped model.

    Returns
    -------
    str
        What was copied, as a line.

    Raises
    ------
    AsrError
        There is no such model, it was not trained with CTC, or none of its layers fits.
    """
    model = model_folder.load(name)
    if not isinstance(model, CTCModel):
        raise ConfigError(f"train.init must be trained with CTC, but {name} was not", "train.init")
    given, rows = model.encoder.state_dict(), {token: i for i, token in enumerate(model.tokens)}
    same = [i for i, token in enumerate(tokens) if token in rows]
    taken, own = [], encoder.state_dict()
    with torch.no_grad():
        for key, weights in own.items():
            theirs = given.get(key)
            if theirs is None or theirs.shape[1:] != weights.shape[1:]:
                continue
            if key.startswith(OUTPUT) and same:
                weights[same] = theirs[[rows[tokens[i]] for i in same]]
            elif theirs.shape == weights.shape and not key.startswith(OUTPUT):
                weights.copy_(theirs)
            else:
                continue
            taken.append(key)
    if not any(not key.startswith(OUTPUT) for key in taken):
        raise ConfigError(f"no layer of {name} has the shape of this network's: take its model section", "train.init")
    new = [token for token in tokens if token not in rows]
    anew = [key for key in own if key not in taken]
    parts = [f"{len(taken)} of {len(own)} tensors are those of {name}"]
    parts += [f"new are {', '.join(anew)}"] if anew else []
    parts += [f"it has no {' '.join(new)}"] if new else []
    return "; ".join(parts)
