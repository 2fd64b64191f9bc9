"""The splits of a corpus of one's own: those that it has, or those that are made by speaker or by recording."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.core.errors import CorpusError
from asr.core.terminal import count
from data_prep.manifests import Utterance, choose, lack
from data_prep.own.survey import Columns
from data_prep.stored import Stored

log = logging.getLogger(__name__)


def of(place: Path, utterances: Stored[Utterance], columns: Columns, seed: int) -> dict[str, Stored[Utterance]]:
    """Return the utterances of each split.

    Parameters
    ----------
    place
        The corpus, for messages.
    utterances, columns
        All utterances, and what is in memory of them.
    seed
        Of the choice of speakers for splits that the corpus lacks.

    Raises
    ------
    CorpusError
        Nothing is for training, or too little.
    """
    names = [*columns.split_names]
    if names == [""]:
        numbers = _made(place, utterances, columns, seed)
    elif "train" not in names:
        raise CorpusError(f"{place} has utterances for {' and '.join(names)} only: no row is for training")
    else:
        numbers = {name: columns.of_split(name) for name in names}
        if "dev" not in numbers:
            units = _Units.find(utterances, columns, numbers["train"])
            numbers["train"], numbers["dev"] = units.hold_out(numbers["train"], seed)
            log.info("%s: no dev split: %s held out of train", place, _counted(columns, numbers["dev"]))
    files = np.concatenate([np.unique(columns.files[each]) for each in numbers.values()])
    num_shared = int(np.count_nonzero(np.unique(files, return_counts=True)[1] > 1))
    if num_shared:
        shared = count(num_shared, "recording")
        log.info("%s: parts of %s are in several splits: what is around them is known to the recogniser", place, shared)
    return {name: utterances.take(each) for name, each in numbers.items()}


def _made(place: Path, utterances: Stored[Utterance], columns: Columns, seed: int) -> dict[str, np.ndarray]:
    """Return the numbers in each split; what cannot be used, and is left out later, is where its speaker is."""
    usable, rest = np.flatnonzero(columns.is_usable), np.flatnonzero(~columns.is_usable)
    if len(usable) < 2:
        fault = f"{place} has {count(len(usable), 'utterance')} with sound and phones"
        first = next((f"; {each.named}: {lack(each)}" for each in utterances.take(rest[:1])), "")
        raise CorpusError(f"{fault}: it needs some to train on, and others for dev{first}")
    units, splits = _Units.find(utterances, columns, usable), {"train": usable}
    if len(units.order) > 2:
        splits["train"], splits["test"] = units.hold_out(splits["train"], seed)
    splits["train"], splits["dev"] = units.hold_out(splits["train"], seed)
    parts = ", ".join(
        f"{name} {_counted(columns, splits[name])}" for name in ("train", "dev", "test") if name in splits
    )
    log.info("%s: no splits are named: %s are made by %s", place, parts, units.name)
    for name, numbers in splits.items():
        is_here = np.isin(columns.speakers[rest], columns.speakers[numbers])
        splits[name], rest = np.append(numbers, rest[is_here]), rest[~is_here]
    return {**splits, "train": np.append(splits["train"], rest)}


def _counted(columns: Columns, numbers: np.ndarray) -> str:
    num_speakers = len(np.unique(columns.speakers[numbers]))
    return f"{count(len(numbers), 'utterance')} of {count(num_speakers, 'speaker')}"


@dataclass(frozen=True)
class _Units:
    """What splits are made by: the speakers, of one speaker the files, of few files the utterances.

    Attributes
    ----------
    name
        What they are.
    of : (N,) int64
        The number of each utterance's unit; -1 where it does not matter.
    order
        What the units are sorted by before some are held out, by their numbers.
    """

    name: str
    of: np.ndarray
    order: dict[int, tuple[str, int, int, str]]

    @classmethod
    def find(cls, utterances: Stored[Utterance], columns: Columns, numbers: np.ndarray) -> "_Units":
        """Return the units of utterances with some numbers (n,)."""
        speakers = np.unique(columns.speakers[numbers]).tolist()
        if len(speakers) > 1:
            names = [*columns.speaker_names]
            order = {each: (columns.genders[each], 0, len(names[each]), names[each]) for each in speakers}
            return cls("speaker", columns.speakers, order)
        if len(np.unique(columns.files[numbers])) > 2:
            return cls._of("recording", lambda utterance: str(utterance.audio), utterances, numbers)
        return cls._of("utterance", lambda utterance: utterance.id, utterances, numbers)

    @classmethod
    def _of(
        cls, what: str, key: Callable[[Utterance], str], utterances: Stored[Utterance], numbers: np.ndarray
    ) -> "_Units":
        units, of = dict[str, int](), np.full(len(utterances), -1)
        order = {}
        for number, utterance in zip(numbers.tolist(), utterances.take(numbers), strict=True):
            name = key(utterance)
            of[number] = unit = units.setdefault(name, len(units))
            order[unit] = utterance.gender or "", 0, len(name), name
        return cls(f"{what}, for there is one speaker: error rates will be those of this voice", of, order)

    def hold_out(self, numbers: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what is kept and what is held out, but never more than is kept if one speaker has most of it."""
        there = {unit: self.order[unit] for unit in np.unique(self.of[numbers]).tolist()}
        for each in (seed, seed + 1):
            is_held = np.isin(self.of[numbers], list(choose(there, each)))
            if 2 * np.count_nonzero(is_held) <= len(numbers):
                break
        return numbers[~is_held], numbers[is_held]
