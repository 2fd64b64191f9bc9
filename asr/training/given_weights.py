"""Training that starts from the weights of a trained network (`train.init`), as far as they fit."""

import re
from collections.abc import Sequence

import torch
from torch import nn

from asr.core.config import TrainConfig
from asr.core.errors import ConfigError
from asr.models import model_folder
from asr.models.base import BLANK
from asr.models.ctc import CTCModel
from asr.speech import articulatory_features, ipa, phones
from asr.training.resizing import resized

OUTPUT = "output."  # the layer whose rows are classes, in every encoder


def take(encoder: nn.Module, tokens: Sequence[str], phone_set: str, name: str) -> str:
    """Copy the weights of a trained network into a new one.

    Tensors of equal name and shape are copied; of a network with more LSTM cells, those that weigh most, and to fewer
    cells new ones are added (`asr.training.resizing`). Of the output layer each class takes the row that `like` finds
    for its label; labels for which it finds none start as they are.

    Parameters
    ----------
    encoder
        The new network.
    tokens : (C,)
        Its labels, class 0 the blank; none if its classes are no labels.
    phone_set
        The set of the labels.
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
    own = encoder.state_dict()
    whole = model.encoder.state_dict()
    given = resized(whole, own)
    alike = like(tokens[1:], phone_set, model.config.data.labels) if tokens else {}
    known = {BLANK: BLANK} | {label: other for label, other in alike.items() if other}
    rows = [i for i, token in enumerate(tokens) if token in known]
    sources = [model.tokens.index(known[tokens[i]]) for i in rows]
    taken = []
    with torch.no_grad():
        for key, weights in own.items():
            theirs = given.get(key)
            if theirs is None or theirs.shape[1:] != weights.shape[1:]:
                continue
            if key.startswith(OUTPUT) and rows:
                weights[rows] = theirs[sources]
            elif theirs.shape == weights.shape and not key.startswith(OUTPUT):
                weights.copy_(theirs)
            else:
                continue
            taken.append(key)
    if not any(not key.startswith(OUTPUT) for key in taken):
        raise ConfigError(f"no layer of {name} has the shape of this network's: take its model section", "train.init")
    new = [key for key in own if key not in taken]
    grown = {len(given[key]) > len(whole[key]) for key in taken if len(given[key]) != len(whole[key])}
    parts = [f"{len(taken)} of {len(own)} tensors are those of {model_folder.name_of(model_folder.find(name))}"]
    parts += ["LSTM cells are added" if more else "of its LSTM cells those that weigh most" for more in grown]
    parts += [f"new are {', '.join(new)}"] if new else []
    return "; ".join(parts + _told(alike))


def _told(alike: dict[str, str | None]) -> list[str]:
    """Return what is to be said of labels that do not start as labels of the same name."""
    others = [f"{label} as {other}" for label, other in alike.items() if other and other != label]
    lacking = [label for label, other in alike.items() if other is None]
    parts = [f"labels start as those that are alike: {', '.join(others)}"] if others else []
    parts += [f"it has nothing like {' '.join(lacking)}"] if lacking else []
    if lacking and not articulatory_features.are_installed():
        parts.append('pip install ".[pfer]" finds phones that are alike')
    return parts


def like(labels: Sequence[str], phone_set: str, theirs: str) -> dict[str, str | None]:
    """Return the label of another set that is the same phone in IPA, or else the one that is articulated most like it.

    None stands for a label whose articulation is not known and, where panphon is not installed, for every label that
    the other set lacks. Characters of a script are no phones: each is like itself alone.

    Parameters
    ----------
    labels
        Labels of `phone_set`.
    phone_set, theirs
        The two phone sets.

    Examples
    --------
    >>> like(["HH", "AA", "ZH"], "arpabet39", "timit39")
    {'HH': 'hh', 'AA': 'aa', 'ZH': 'sh'}
    """
    own, other = phones.table(phone_set).ipa, phones.table(theirs).ipa
    same = {ipa.normal(sound): label for label, sound in reversed([*other.items()])}
    found = {label: label if own[label] == other.get(label) else same.get(ipa.normal(own[label])) for label in labels}
    if phones.is_characters(phone_set) or phones.is_characters(theirs) or not articulatory_features.are_installed():
        return found
    written = {sound: label for label, sound in reversed([*other.items()])}
    for label in labels:
        if found[label] is None:
            near = articulatory_features.nearest(own[label], written)
            found[label] = None if near is None else written[near]
    return found


def origin(train: TrainConfig, taken: str) -> str:
    """Return what a model card says of where the weights come from, in lines: those that were given, and whence these.

    Parameters
    ----------
    train
        Of the training.
    taken
        What `take` has returned, if weights are given.
    """
    lines = []
    if train.init is not None:
        folder = model_folder.find(train.init)
        name, corpora = model_folder.name_of(folder), ", ".join(model_folder.read_config(folder).data.corpora)
        lines = [f"training began with the weights of {name}, which was trained on {corpora}: {taken}"]
        card = (folder / "README.md").read_text("utf8") if (folder / "README.md").is_file() else ""
        before = re.findall(r"^- training( of .+)? (began with .+)$", card, re.MULTILINE)
        lines += [f"training{of or f' of {name}'} {began}" for of, began in before]
    lines += [f"layers frozen from the input up: {train.freeze}"] if train.freeze else []
    return "".join(f"- {line}\n" for line in lines)
