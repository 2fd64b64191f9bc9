"""The files of a batch's rows: one for each shard and form, written whole or not at all."""

import gzip
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.core.errors import AsrError
from asr.core.files import replacing
from asr.core.places import EXTRA
from asr.recognition.batch.plan import Plan

SUFFIXES = {"jsonl": ".jsonl.gz", "parquet": ".parquet"}


@dataclass(frozen=True)
class Parts:
    """The files of the shards of a plan.

    Attributes
    ----------
    plan
        The plan.
    forms
        Some of `SUFFIXES`.
    """

    plan: Plan
    forms: Sequence[str]

    def path(self, shard: int, form: str) -> Path:
        """Return where the rows of a shard are; the name has a hash of what they are made from."""
        name = f"part-{shard:05d}-of-{self.plan.num_shards:05d}-{self.plan.key}{SUFFIXES[form]}"
        return self.plan.folder / name

    def is_done(self, shard: int) -> bool:
        """Tell whether all files of a shard are there."""
        return all(self.path(shard, form).is_file() for form in self.forms)

    def write(self, shard: int, rows: Sequence[dict[str, Any]]) -> None:
        """Write the files of a shard.

        Raises
        ------
        OutputError
            The disk is full, or the folder cannot be written.
        """
        for form in self.forms:
            with replacing(self.path(shard, form)) as temporary:
                _WRITERS[form](temporary, rows)
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())  # or a machine that loses power might have the name without the rows

    def sweep(self) -> None:
        """Delete what killed commands have left half written; nobody else may be writing."""
        for path in self.plan.folder.glob(".????????-part-*"):
            path.unlink(missing_ok=True)


def check_forms(forms: Sequence[str]) -> None:
    """Raise AsrError if what writes one of the forms is not installed."""
    if "parquet" in forms:
        try:
            import pyarrow.parquet  # noqa: F401
        except ModuleNotFoundError as error:
            raise AsrError(f"--format parquet needs the package pyarrow: {EXTRA}, or --format jsonl") from error


def _write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
        for row in rows:
            packed.write(_line(row).encode() + b"\n")


def _line(row: dict[str, Any]) -> str:
    """Return a row as JSON; one with a name that is no UTF-8 is written in ASCII, so that the file stays text."""
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps(row)
    return line


def _write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a table with the columns that tables have a use for; JSON lines have all."""
    import pyarrow
    from pyarrow import parquet

    text, number = pyarrow.string(), pyarrow.float64()
    segment = pyarrow.struct([("label", text), ("start", number), ("end", number), ("confidence", pyarrow.float32())])
    columns = {"id": text, "path": text, "start": number, "error": text, "duration": number, "text": text}
    columns |= {name: pyarrow.list_(segment) for name in ("words", "phones")}
    columns |= {"score": number, "misfit": text}
    named = [row | {key: _utf8(row[key]) for key in ("id", "path", "error") if row[key]} for row in rows]
    parquet.write_table(pyarrow.Table.from_pylist(named, pyarrow.schema(columns.items())), path)


def _utf8(name: str) -> str:
    """Return a name without the bytes that are no UTF-8, which Parquet refuses."""
    return name.encode("utf8", "surrogateescape").decode("utf8", "replace")


_WRITERS = {"jsonl": _write_lines, "parquet": _write_parquet}
