"""Audio folders of Hugging Face's datasets: ``metadata.csv`` or ``metadata.jsonl`` with a column ``file_name``.

The metadata lie in the folder, or in one folder for each split. The other columns are those of `data_prep.forms.table`.
https://huggingface.co/docs/datasets/audio_dataset
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from asr.core.errors import CorpusError
from data_prep.forms import table
from data_prep.forms.record import Record, folder_split

LOOKS_FOR = "metadata.csv or metadata.jsonl with a column file_name"
_NAMES = ("metadata.csv", "metadata.jsonl")


def is_here(place: Path) -> bool:
    """Tell whether a folder holds metadata, directly or in the folder of a split."""
    return any("file_name" in table.columns(path) for path in _metadata(place)) or any(_parquet(place))


def read(place: Path) -> Iterator[Record]:
    """Yield the records of all metadata. The folder of a split names the split of what is in it.

    Raises
    ------
    CorpusError
        Metadata are malformed; the message names the line.
    """
    for path in _parquet(place):
        raise CorpusError(f"{path} is Parquet, which is not read: write it as metadata.jsonl beside the recordings")
    for path in _metadata(place):
        for number, row in table.rows(path):
            name = row.get("file_name")
            if not name:
                raise CorpusError(f"{path}, line {number} has no file_name: write the recording's name in that column")
            found = table.record(path, number, {**row, "path": name})
            yield found if found.split else replace(found, split=folder_split(path.parent / name, place))


def _folders(place: Path) -> list[Path]:
    return [place, *sorted(path for path in place.iterdir() if path.is_dir())] if place.is_dir() else []


def _metadata(place: Path) -> list[Path]:
    return [folder / name for folder in _folders(place) for name in _NAMES if (folder / name).is_file()]


def _parquet(place: Path) -> list[Path]:
    return [path for folder in _folders(place) for path in (folder / "metadata.parquet",) if path.is_file()]
