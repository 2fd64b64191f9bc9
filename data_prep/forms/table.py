"""Tables: CSV, TSV or JSON lines whose first line, or whose keys, name the columns.

=========== ==========================================================================================
column      what it holds
=========== ==========================================================================================
path        the recording, relative to the table's folder; needed
text        the words
phones      the phones, with spaces between them; where both are given, the phones count
speaker     a name
gender      f or m
split       train, dev or test
start, end  the utterance's place in the recording, in seconds
channel     of the recording, counted from 0
id          the utterance's name
=========== ==========================================================================================

One of text and phones is needed. `COLUMNS` has other names of the columns; columns with other names are not read. A
folder may hold one table, or one for each split, such as ``train.tsv`` and ``test.tsv``.
"""

import csv
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from asr.core.errors import CorpusError
from data_prep.forms.record import Record, lines_of, raw_lines_of, seconds, span, split_in, split_of

LOOKS_FOR = "a .tsv, .csv or .jsonl with a column path"
NAME = "utterances"
SUFFIXES = (".tsv", ".csv", ".jsonl")
COLUMNS = {
    "path": ("path", "audio", "file", "filename", "wav"),
    "text": ("text", "words", "sentence", "transcript", "transcription"),
    "phones": ("phones", "phonemes"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "gender": ("gender", "sex"),
    "split": ("split",),
    "start": ("start",),
    "end": ("end",),
    "channel": ("channel",),
    "id": ("id", "utterance"),
}


def is_here(place: Path) -> bool:
    """Tell whether a place is a table, or a folder with one."""
    return place.suffix.lower() in SUFFIXES if place.is_file() else bool(_tables(place))


def read(place: Path) -> Iterator[Record]:
    """Yield the records of a table, or of the tables in a folder.

    Raises
    ------
    CorpusError
        A table is malformed; the message names the line.
    """
    tables = [place] if place.is_file() else _tables(place)
    if len(tables) > 1 and not all(split_in(path.name) for path in tables):
        names = ", ".join(path.name for path in tables)
        raise CorpusError(f"{place} has the tables {names}: name one of them in place of the folder")
    for path in tables:
        for number, row in rows(path):
            yield record(path, number, row, split_in(path.stem) if len(tables) > 1 else "")


def _tables(folder: Path) -> list[Path]:
    """Return the table that is called ``utterances``, or else every file whose first line names a column of paths."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    named = [path for path in found if path.stem == NAME]
    return named[:1] or [path for path in found if not columns(path).isdisjoint(COLUMNS["path"])]


def columns(path: Path) -> set[str]:
    """Return the names of a table's columns, as far as its first line tells; nothing of a file that is not text."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = file.readline(1 << 16)
        names = json.loads(line) if path.suffix.lower() == ".jsonl" else next(_reader([line], path, line))
        return set(_names(names))
    except (OSError, ValueError, TypeError, AttributeError, csv.Error, StopIteration):
        return set()


def rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of each line of a table, counted from 1, and its values by the names of their columns.

    Raises
    ------
    CorpusError
        A line is not an object of JSON, or has more fields than the first line; or there is no line.
    """
    number = 0
    for number, row in _json_rows(path) if path.suffix.lower() == ".jsonl" else _separated_rows(path):
        yield number, row
    if number == 0:
        raise CorpusError(f"{path} has no utterances: write one on each line, in CSV and TSV below the columns' names")


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in lines_of(path):
        try:
            values = json.loads(line)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise CorpusError(f'{path}, line {number} is not an object of JSON: write {{"path": "a.wav", "text": "…"}}')
        yield number, {name.lower(): _plain(value) for name, value in values.items()}


def _plain(value: object) -> str:
    return "" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _separated_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    lines = raw_lines_of(path)
    first = next(lines, "")
    reader = _reader(itertools.chain([first], lines), path, first)
    names: list[str] = []
    try:
        for values in reader:
            if not any(values):
                continue
            if not names:
                names = _names(values)
                twice = next((name for name in names if name and names.count(name) > 1), None)
                if twice is not None:
                    raise CorpusError(
                        f"{path}, line {reader.line_num} names the column {twice} twice: call one otherwise"
                    )
                continue
            if len(values) > len(names):
                mend = "take out a tab" if path.suffix.lower() == ".tsv" else "put quotes around a field with commas"
                fields = f"has {len(values)} fields where line 1 names {len(names)} columns"
                raise CorpusError(f"{path}, line {reader.line_num} {fields}: {mend}")
            yield reader.line_num, dict(itertools.zip_longest(names, map(str.strip, values), fillvalue=""))
    except csv.Error as error:
        raise CorpusError(f"{path}, line {reader.line_num}: {error}: save the table anew") from error


def _reader(lines: Iterable[str], path: Path, first: str) -> Any:
    """Return a reader of csv; tabs, commas, semicolons or bars separate the columns, and a tab needs no quotes."""
    if path.suffix.lower() == ".tsv":
        return csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    return csv.reader(lines, delimiter=max(",;\t|", key=first.count))


def _names(values: list[str]) -> list[str]:
    return [name.strip().lower() for name in values]


def _mend(needed: Sequence[str], row: Mapping[str, str]) -> str:
    """Return what to do about a row that lacks what is needed: its column is not there, or has nothing there."""
    there = [name for column in needed for name in COLUMNS[column] if name in row]
    if there:
        return f"write it in the column {there[0]}, or take the line out"
    return f"its columns are {', '.join(row)}: call one of them {' or '.join(needed)}"


def record(path: Path, number: int, row: dict[str, str], split: str = "") -> Record:
    """Return the record of a row.

    Parameters
    ----------
    path, number
        The table and the line, counted from 1.
    row
        Values by the names of their columns.
    split
        That of a row that names none.

    Raises
    ------
    CorpusError
        The row has no recording, no text and no phones, or a value that is wrong.
    """
    place = f"{path}, line {number}"
    values = {column: next((row[name] for name in names if row.get(name)), "") for column, names in COLUMNS.items()}
    for needed in (("path",), ("text", "phones")):
        if not any(values[name] for name in needed):
            raise CorpusError(f"{place} has no {' and no '.join(needed)}: {_mend(needed, row)}")
    if values["channel"] and not values["channel"].isdecimal():
        raise CorpusError(f"{place} has the channel {values['channel']!r}: write a number, counted from 0")
    start, end = (seconds(values[name], name, place) for name in ("start", "end"))
    start, end = span(start, end, place)
    return Record(
        place,
        path.parent / values["path"],
        values["text"],
        values["phones"],
        values["speaker"],
        values["gender"],
        split_of(values["split"], place) if values["split"] else split,
        start,
        end,
        int(values["channel"]) if values["channel"] else None,
        values["id"],
    )
