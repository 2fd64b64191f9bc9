"""Manifests of Lhotse: cut sets, recordings with supervisions, and folders in the format Shar.

A file of cuts is given, or a folder with files whose names contain ``cuts``, or ``recordings`` and ``supervisions``, or
a folder with Shar's ``cuts.000000.jsonl.gz`` and ``recording.000000.tar``, or one with such a folder for each split.
Each supervision is an utterance. Its phones are ``custom["phones"]`` or the alignment ``phone`` where it has one of
them. https://lhotse.readthedocs.io
"""

import gzip
import itertools
import json
import logging
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lhotse import MonoCut, MultiCut, Recording, SupervisionSegment
from lhotse.serialization import deserialize_item
from lhotse.shar.readers.tar import iterate_tarfile_pairwise
from lhotse.shar.utils import fill_shar_placeholder

from asr.core.errors import CorpusError
from asr.core.terminal import count
from asr.speech.segments import Segment
from data_prep.forms.record import Record, span, split_in
from data_prep.stored import Named

LOOKS_FOR = "Lhotse's cuts, or recordings and supervisions, in .jsonl.gz"
_SUFFIXES = (".jsonl.gz", ".jsonl")
_WHOLE = "test_full"  # a split of prepared TIMIT, of which test is a part

log = logging.getLogger(__name__)


def is_here(place: Path) -> bool:
    """Tell whether a place is a file of cuts, or a folder of manifests."""
    if place.is_file():
        return place.name.endswith(_SUFFIXES) and _is_cut(place)
    return bool(_shar(place) or _files(place, "cuts") or _files(place, "supervisions"))


def read(place: Path) -> Iterator[Record]:
    """Yield an utterance for each supervision.

    Raises
    ------
    CorpusError
        A manifest is malformed, or sound is not in a file; the message names the line or the cut.
    """
    if place.is_dir() and _shar(place):
        for folder in _shar(place):
            yield from _read_shar(folder, "" if folder == place else split_in(folder.name))
        return
    cuts, silent = [place] if place.is_file() else _files(place, "cuts"), list[str]()
    for path in cuts:
        for at, cut in _items(path):
            if not isinstance(cut, MonoCut | MultiCut):
                raise CorpusError(f"{at}: {cut.id} is mixed or padded: store its sound with CutSet.save_audios")
            silent += [] if cut.supervisions else [cut.id]
            for segment in cut.supervisions:
                yield _record(at, cut.recording, segment, path, _split(path, place), cut.start)
    if silent:
        log.warning("%s: %s without a supervision: %s is left out", place, count(len(silent), "cut"), silent[0])
    for path in [] if cuts else _files(place, "supervisions"):
        recordings = path.with_name(path.name.replace("supervisions", "recordings"))
        if not recordings.is_file():
            raise CorpusError(f"{path} has no {recordings.name} beside it: copy both")
        by_id = Named((recording.id, recording) for _, recording in _items(recordings))
        for at, segment in _items(path):
            recording = by_id.get(segment.recording_id)
            if recording is None:
                raise CorpusError(f"{at}: {recordings.name} has no {segment.recording_id}: copy both again")
            yield _record(at, recording, segment, path, _split(path, place))


def _files(folder: Path, kind: str) -> list[Path]:
    """Return the manifests of a kind in a folder, or else in the folders for the splits in it."""
    for names in ("*", "*/*"):
        found = (path for path in sorted(folder.glob(names)) if kind in path.name and path.name.endswith(_SUFFIXES))
        there = [path for path in found if _WHOLE not in path.name and (path.parent == folder or _split(path, folder))]
        if there:
            return there
    return []


def _split(path: Path, place: Path) -> str:
    """Return the split that a manifest is of by its name, or that of its folder in a place."""
    return split_in(path.name) or ("" if path.parent == place or path == place else split_in(path.parent.name))


def _shar(place: Path) -> list[Path]:
    """Return the folders in the format Shar."""
    folders = [place, *sorted(path for path in place.iterdir() if path.is_dir())]
    return [each for each in folders if any(each.glob("cuts.*.jsonl*")) and any(each.glob("recording.*.tar"))]


def _is_cut(path: Path) -> bool:
    try:
        return "Cut" in json.loads(next(_lines(path))[1])["type"]
    except (OSError, ValueError, TypeError, KeyError, StopIteration):
        return False


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        yield from enumerate(file, 1)


def _items(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the place and the cut, recording or supervision of each line."""
    number = 0
    try:
        for number, line in _lines(path):
            item = deserialize_item(json.loads(line))
            _ = item.id, getattr(item, "recording", None), getattr(item, "supervisions", None)
            yield f"{path}, line {number}", item
    except (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CorpusError(f"{path}, line {number or 1} is not what Lhotse writes ({reason}): write it again") from error


def _read_shar(folder: Path, split: str) -> Iterator[Record]:
    """Yield the utterances of a folder in the format Shar, whose recordings are in tar archives."""
    for path in sorted(folder.glob("cuts.*.jsonl*")):
        wanted = f"recording.{path.name.split('.')[1]}.tar"
        archive = next(iter(folder.glob(f"{wanted}*")), None)
        if archive is None:
            raise CorpusError(f"{path} has no {wanted} beside it: copy both")
        try:
            with tarfile.open(archive) as members:
                for item, pair in itertools.zip_longest(_items(path), iterate_tarfile_pairwise(members)):
                    if item is None or pair is None:
                        raise CorpusError(f"{path} and {archive.name} have different numbers of cuts: write both again")
                    (at, cut), ((data, name), (about, _)) = item, pair
                    if name.with_suffix("").as_posix() != cut.id:
                        raise CorpusError(f"{at}: {archive.name} has {name} in the place of {cut.id}: write both again")
                    if data is None or about is None:
                        continue
                    recording = deserialize_item(json.loads(about))
                    fill_shar_placeholder(recording, data, name)
                    for segment in cut.supervisions:
                        yield _record(at, recording, segment, path, split, cut.start)
        except (OSError, EOFError, ValueError, RuntimeError, AssertionError, tarfile.TarError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise CorpusError(f"{archive} is not what Lhotse writes as Shar ({reason}): write it again") from error


def _record(
    at: str, recording: Recording, segment: SupervisionSegment, manifest: Path, split: str, offset: float = 0.0
) -> Record:
    """Return the record of a supervision, which begins so many seconds after the start that its cut counts from."""
    custom, alignment = segment.custom or {}, (segment.alignment or {}).get("phone", [])
    times = tuple(Segment(item.symbol, offset + item.start, offset + item.end) for item in alignment)
    several = recording.num_channels > 1 and isinstance(segment.channel, int)
    start, end = span(max(0.0, offset + segment.start), offset + segment.end, at)
    return Record(
        at,
        _audio(at, recording, manifest),
        segment.text or "",
        custom.get("phones") or " ".join(item.symbol for item in alignment),
        segment.speaker or "",
        segment.gender or "",
        split,
        start,
        end,
        segment.channel if several else None,
        segment.id,
        recording.duration,
        times,
    )


def _audio(at: str, recording: Recording, manifest: Path) -> Path | bytes:
    if recording.transforms:
        raise CorpusError(f"{at}: the recording is changed when it is read: store its sound with CutSet.save_audios")
    if len(recording.sources) != 1 or recording.sources[0].type not in ("file", "memory"):
        kinds = " and ".join(source.type for source in recording.sources)
        raise CorpusError(f"{at}: the sound comes from {kinds}: store it in one file with CutSet.save_audios")
    source = recording.sources[0].source
    if isinstance(source, bytes):
        return source
    beside = manifest.parent / source
    return beside if beside.is_file() else Path(source)
