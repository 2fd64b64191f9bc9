"""The plan of a batch: which recordings are in which shard, and what all rows are made from.

It is a folder ``_plan`` in the output folder, which readers of Parquet pass by:

==================== =============================================================================================
``recordings.jsonl`` a line for each recording (`asr.recognition.batch.items`)
``shards.npy``       where the lines of each shard begin in it, in bytes
``plan.json``        what the rows are made from: the input with its identity, the model's, and the settings
==================== =============================================================================================

It is written once, by one process while others wait, and with one line in memory at a time.
"""

import itertools
import json
import logging
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asr.core.errors import AsrError, CorpusError
from asr.core.files import as_json, digest, replacing_folder
from asr.core.terminal import track
from asr.core.turns import turn
from asr.recognition.batch.items import Item

FOLDER, ITEMS, OFFSETS, ABOUT = "_plan", "recordings.jsonl", "shards.npy", "plan.json"
GROUP = 32  # recordings that a worker has at once

log = logging.getLogger(__name__)


class Group(NamedTuple):
    """Some recordings of a shard in a row: what a worker does at once.

    Attributes
    ----------
    shard, number
        Of the shard in the plan, and of the group in the shard.
    """

    shard: int
    number: int


@dataclass(frozen=True)
class Plan:
    """The plan in an output folder.

    Attributes
    ----------
    folder
        The output folder.
    about
        What ``plan.json`` has.
    """

    folder: Path
    about: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "Plan":
        """Read the plan of an output folder.

        Raises
        ------
        AsrError
            There is none, or it cannot be read.
        """
        path = folder / FOLDER / ABOUT
        try:
            return cls(folder, json.loads(path.read_text(encoding="utf8")))
        except (OSError, ValueError) as error:
            mend = "every machine must reach the output folder by the same path"
            raise AsrError(f"{path} cannot be read ({error}): {mend}") from error

    @cached_property
    def key(self) -> str:
        """A hash of what the rows are made from; the names of the shards' files have it."""
        return digest([as_json(self.about["made_from"]).encode()])[:8]

    @property
    def num_items(self) -> int:
        """All recordings."""
        return int(self.about["recordings"])

    @property
    def num_shards(self) -> int:
        """All shards."""
        return -(-self.num_items // self.shard_size)

    @property
    def shard_size(self) -> int:
        """Recordings in each shard but the last."""
        return int(self.about["made_from"]["shard_size"])

    def size(self, shard: int) -> int:
        """Return the number of recordings in a shard."""
        return min(self.shard_size, self.num_items - shard * self.shard_size)

    def groups(self, shard: int) -> list[Group]:
        """Return the groups of a shard."""
        return [Group(shard, number) for number in range(-(-self.size(shard) // GROUP))]

    def items(self, group: Group) -> list[Item]:
        """Read the recordings of a group."""
        first, last = GROUP * group.number, min(GROUP * (group.number + 1), self.size(group.shard))
        with (self.folder / FOLDER / ITEMS).open("rb") as file:
            file.seek(int(self._offsets[group.shard]))
            return [Item.from_json(line) for line in itertools.islice(file, first, last)]

    @cached_property
    def _offsets(self) -> np.ndarray:
        return np.load(self.folder / FOLDER / OFFSETS)


def make(folder: Path, place: str, made_from: dict[str, Any], items: Callable[[], Iterable[Item]]) -> Plan:
    """Return the plan of an output folder, which is written if there is none.

    Parameters
    ----------
    folder
        The output folder.
    place
        The input.
    made_from
        What the rows are made from, with ``shard_size`` and texts that tell a change.
    items
        Returns the recordings; called only if there is no plan.

    Raises
    ------
    AsrError
        What is in the folder was made from something else, or the input has no recordings.
    OutputError
        The folder cannot be written.
    """
    path = folder / FOLDER
    with turn(path, partial(log.info, "waiting for another process: it writes the plan")):
        if not (path / ABOUT).is_file():
            if next(folder.glob("part-*"), None) is not None:
                raise AsrError(f"{folder} has results and no {FOLDER}: name another folder")
            with replacing_folder(path) as temporary:
                _write(temporary, place, made_from, items())
    plan = Plan.open(folder)
    differing = [name for name, value in made_from.items() if plan.about["made_from"].get(name) != value]
    if differing:
        what = " and ".join(each.replace("_", " ") for each in differing)
        raise AsrError(f"{folder} has results of another {what}: name another folder, or delete this one")
    return plan


def _write(folder: Path, place: str, made_from: dict[str, Any], items: Iterable[Item]) -> None:
    offsets, count, position = array("q"), 0, 0
    with (folder / ITEMS).open("wb") as file:
        for count, item in enumerate(track(items, "planning"), 1):
            if count % made_from["shard_size"] == 1 or made_from["shard_size"] == 1:
                offsets.append(position)
            position += file.write(item.to_json().encode() + b"\n")
    if count == 0:
        raise CorpusError(f"{place} has no recordings: give a folder with .wav, .flac, .mp3 or the like, or a list")
    np.save(folder / OFFSETS, np.array(offsets, np.int64))
    (folder / ABOUT).write_text(as_json({"input": place, "recordings": count, "made_from": made_from}), "utf8")
