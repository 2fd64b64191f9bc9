"""What a batch can be made of, read one recording at a time.

======================= ===========================================================================================
input                   read
======================= ===========================================================================================
a folder                its files of sound, to any depth
a folder of Shar        ``cuts.*.jsonl.gz`` and the ``recording.*.tar`` beside them, whose files are read in place
``.jsonl``, ``.json``   JSON lines, also gzipped: cuts or recordings of Lhotse, objects with a path or URL, or these
                        alone as strings
``.parquet``            a table with a column of paths or URLs
======================= ===========================================================================================

Paths and URLs in a file count from its folder. `COLUMNS` has the names of what else is read.
"""

import gzip
import hashlib
import itertools
import json
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import PurePosixPath
from typing import Any

from asr.core import places
from asr.core.errors import CorpusError
from asr.core.places import EXTRA, Found
from asr.recognition.batch.items import Item
from asr.speech.media_files import SOUND_SUFFIXES
from asr.speech.texts_beside import TEXT_SUFFIXES

LISTS = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
COLUMNS = {
    "path": ("path", "url", "audio_filepath", "audio", "file", "filename", "wav"),
    "id": ("id", "utterance"),
    "text": ("text", "words", "sentence", "transcript", "transcription"),
    "start": ("start", "offset"),
    "end": ("end",),
    "duration": ("duration",),
    "channel": ("channel",),
}
ROWS = 10_000  # of a Parquet file that are held at a time


def read(place: str) -> Iterator[Item]:
    """Yield the recordings of an input, in an order that does not change.

    Parameters
    ----------
    place
        A path or URL in one of the forms above.

    Raises
    ------
    AsrError
        Nothing is there, or it is in none of the forms.
    CorpusError
        A line is malformed; the message names it.
    """
    if places.is_folder(place):
        archives = shar_files(place)
        return _shar(archives) if archives else _folder(place)
    if place.lower().endswith(".parquet"):
        return _rows(place, _parquet(place))
    if place.lower().endswith(LISTS):
        return _rows(place, _lines(place))
    forms = f"a folder, a file of JSON lines ({', '.join(LISTS)}) or .parquet"
    raise CorpusError(f"{place}: a batch is made of {forms}; `asr transcribe` takes single recordings")


def identity(place: str, with_texts: bool = False) -> str:
    """Return a hash by which an input is known again.

    Of a file that lists recordings it depends on the contents; of a folder on the places, sizes and times of change of
    the recordings or of Shar's files, and with texts on those of the texts beside them. The recordings that a file
    lists are not looked at.
    """
    found = hashlib.sha256(place.encode("utf8", "surrogateescape"))
    if places.is_folder(place):
        suffixes = {*SOUND_SUFFIXES, *(TEXT_SUFFIXES if with_texts else ())}
        several: Iterable[Found] = shar_files(place) or (
            each for each in places.walk(place) if PurePosixPath(each.path).suffix.lower() in suffixes
        )
        for each in several:
            found.update(f"{each.path}\0{each.size}\0{each.changed}\n".encode("utf8", "surrogateescape"))
    else:
        with places.open_file(place) as file:
            while block := file.read(1 << 20):
                found.update(block)
    return found.hexdigest()[:32]


def _folder(place: str) -> Iterator[Item]:
    root = f"{place.rstrip('/')}/"
    for found in places.walk(place):
        if PurePosixPath(found.path).suffix.lower() in SOUND_SUFFIXES:
            yield Item(found.path.removeprefix(root), found.path)


def shar_files(place: str) -> list[Found]:
    """Return the cuts and archives in a folder of Shar in pairs, or nothing for another folder."""
    names = {*places.names(place)}
    found = list[Found]()
    for name in sorted(names):
        if name.startswith("cuts.") and name.endswith((".jsonl", ".jsonl.gz")):
            archive = f"recording.{name.split('.')[1]}.tar"
            if archive not in names:
                raise CorpusError(
                    f"{place}: {name} has no {archive} beside it: copy it, and unpack it if it is gzipped"
                )
            found += [places.about(f"{place.rstrip('/')}/{each}") for each in (name, archive)]
    return found


def _shar(files: list[Found]) -> Iterator[Item]:
    """Yield the recordings of Shar: each is a file in an archive, which a JSON file follows."""
    for cuts, archive in zip(files[::2], files[1::2], strict=True):
        try:
            with places.open_file(archive.path) as file, tarfile.open(fileobj=file) as members:
                sounds = (each for each in members if PurePosixPath(each.name).suffix not in (".json", ".nometa"))
                for (at, cut), member in zip(_lines(cuts.path), sounds, strict=True):
                    name = PurePosixPath(member.name)
                    if name.with_suffix("").as_posix() != cut["id"]:
                        raise CorpusError(f"{at}: {archive.path} has {name} in its place: write both again")
                    fault = "it has no sound in the archive" if name.suffix == ".nodata" else None
                    where = {"offset": member.offset_data, "size": member.size}
                    yield Item(cut["id"], archive.path, text=_said(cut), fault=fault, **where)
        except (OSError, ValueError, KeyError, TypeError, tarfile.TarError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise CorpusError(f"{archive.path} is not what Lhotse writes as Shar ({reason}): write it again") from error


def _lines(place: str) -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of each JSON line."""
    number = 0
    with ExitStack() as files:
        lines: Any = files.enter_context(places.open_file(place))
        if place.endswith(".gz"):
            lines = files.enter_context(gzip.open(lines))
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"{place}, line {number}", json.loads(line)
        except ValueError as error:
            raise CorpusError(f"{place}, line {number}: no JSON ({error}): write an object on each line") from error
        except (EOFError, OSError, zlib.error) as error:
            raise CorpusError(f"{place}, line {number + 1}: damaged ({error}): copy it again") from error


def _parquet(place: str) -> Iterator[tuple[str, Any]]:
    """Yield the place and the values of each row; the columns that nobody asks for are not read."""
    try:
        from pyarrow import ArrowInvalid, parquet
    except ModuleNotFoundError as error:
        raise CorpusError(f"{place}: Parquet needs the package pyarrow: {EXTRA}") from error
    with places.open_file(place) as file:
        try:
            table = parquet.ParquetFile(file)
            known = {name for names in COLUMNS.values() for name in names}
            columns = [name for name in table.schema_arrow.names if name in known]
            batches = table.iter_batches(ROWS, columns=columns)
            every = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
            for number, row in enumerate(every, 1):
                yield f"{place}, row {number}", row
        except (ArrowInvalid, OSError) as error:
            raise CorpusError(f"{place} is no Parquet file ({str(error).splitlines()[0]}): write it again") from error


def _rows(place: str, rows: Iterable[tuple[str, Any]]) -> Iterator[Item]:
    """Yield the recordings of lines or rows; a scheme of URLs that cannot be read is noticed here."""
    for at, row in rows:
        try:
            item = _row(place, row)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            reason = str(error) or type(error).__name__
            raise CorpusError(f"{at}: not what is expected ({reason}): write it again") from error
        if item is None:
            names = ", ".join(COLUMNS["path"])
            raise CorpusError(f"{at}: nothing says where the sound is: name it in one of {names}")
        if places.is_url(item.path):
            places.filesystem(places.scheme_of(item.path))
        yield item


def _row(place: str, row: Any) -> Item | None:
    """Return the recording of a line or row; None if nothing in it says where the sound is."""
    if isinstance(row, str):
        return Item(row, places.beside(place, row))
    if "Cut" in str(row.get("type", "")) and "supervisions" in row:
        return _cut(place, row)
    if "sources" in row:
        return _of_recording(place, row, row["id"])
    values: dict[str, Any] = {
        key: next((row[name] for name in names if row.get(name) is not None), None) for key, names in COLUMNS.items()
    }
    if not isinstance(values["path"], str) or not values["path"]:
        return None
    start = float(values["start"] or 0)
    duration = None if values["duration"] is None else float(values["duration"])
    if values["end"] is not None:
        duration = float(values["end"]) - start
    elif values["start"] is None:
        duration = None  # of the whole file
    channel = None if values["channel"] is None else int(values["channel"])
    name = values["path"] if values["id"] is None else str(values["id"])
    text = None if values["text"] is None else str(values["text"])
    return Item(name, places.beside(place, values["path"]), start, duration, channel, text)


def _cut(place: str, cut: Mapping[str, Any]) -> Item:
    """Return the recording of a cut of Lhotse."""
    if "recording" not in cut:
        return Item(cut["id"], place, fault=f"{cut['type']} has no one recording: store it with CutSet.save_audios")
    several = len(cut["recording"]["sources"][0]["channels"]) > 1
    return _of_recording(
        place,
        cut["recording"],
        cut["id"],
        start=cut["start"],
        duration=cut["duration"],
        channel=cut["channel"] if several and isinstance(cut.get("channel"), int) else None,
        text=_said(cut),
    )


def _said(cut: Mapping[str, Any]) -> str | None:
    return " ".join(each["text"] for each in cut["supervisions"] if each.get("text")) or None


def _of_recording(place: str, recording: Mapping[str, Any], name: str, **values: Any) -> Item:
    """Return a recording of Lhotse, or a part of it."""
    sources = recording["sources"]
    kinds, fault = {each["type"] for each in sources}, None
    if recording.get("transforms"):
        fault = "the recording is changed when it is read: store its sound with CutSet.save_audios"
    elif len(sources) != 1 or not kinds <= {"file", "url"}:
        fault = f"the sound comes from {' and '.join(sorted(kinds))}: store it in one file with CutSet.save_audios"
    if fault is not None:
        return Item(name, place, fault=fault)
    source = sources[0]["source"]
    joined = places.beside(place, source)  # else the path counts from the folder that this is run in
    return Item(name, joined if places.is_url(joined) or os.path.exists(joined) else source, **values)
