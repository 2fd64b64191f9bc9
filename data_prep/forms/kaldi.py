"""Data directories of Kaldi: ``wav.scp`` and ``text``, with ``segments``, ``utt2spk``, ``spk2gender`` and ``reco2dur``.

A file ``phones``, which `asr data export` writes, has phones of utterances, and these count more than words.

``wav.scp`` names files; commands that end in a pipe and offsets into archives are refused. A file is looked for from
the data directory and from the folders above it. One directory is given, or the folder that holds one for each split,
such as ``train`` and ``test_clean``. https://kaldi-asr.org/doc/data_prep.html
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from asr.core.errors import CorpusError
from data_prep.forms.record import Record, are_phones, lines_of, seconds, span, split_in
from data_prep.stored import Named

LOOKS_FOR = "wav.scp"
_ABOVE = 4  # folders above a data directory in which the files of wav.scp are looked for
Table = Named[tuple[str, int]]  # the rest of each line, and its number, by the line's first word
Span = tuple[str, float, float | None]  # a recording with a start and an end

log = logging.getLogger(__name__)


def is_here(place: Path) -> bool:
    """Tell whether a folder is a data directory, or holds some."""
    return bool(_directories(place))


def read(place: Path) -> Iterator[Record]:
    """Yield the utterances of a data directory, or of those for the splits.

    Raises
    ------
    CorpusError
        A file is missing or malformed, or a recording is not a plain file; the message names the line.
    """
    directories = _directories(place)
    for directory in directories:
        split = "" if directory == place else split_in(directory.name)
        if directory != place and not split:
            raise CorpusError(f"{directory} is called like no split: call it train, dev or test, or give it alone")
        yield from _read(directory, split)


def _directories(place: Path) -> list[Path]:
    if (place / "wav.scp").is_file():
        return [place]
    return sorted(path.parent for path in place.glob("*/wav.scp")) if place.is_dir() else []


def _read(directory: Path, split: str) -> Iterator[Record]:
    recordings, texts = (_table(directory / name) for name in ("wav.scp", "text"))
    spans = _spans(directory / "segments", recordings)
    silent = [number for number, (name, _) in enumerate(spans.pairs) if name not in texts]
    if silent:
        first, _ = spans.pairs[silent[0]]
        log.warning("%s: text lacks %d of %d utterances: %s is left out", directory, len(silent), len(spans), first)
    speakers, genders, durations, spelt = (
        _table(directory / name) if (directory / name).is_file() else None
        for name in ("utt2spk", "spk2gender", "reco2dur", "phones")
    )
    phones = are_phones(text for _, (text, _) in texts.pairs)
    for name, (text, number) in texts.pairs:
        place = f"{directory / 'text'}, line {number}"
        found = spans.get(name)
        if found is None:
            listed = "segments" if (directory / "segments").is_file() else "wav.scp"
            raise CorpusError(f"{place}: {listed} has no {name}: copy the directory again, or take the line out")
        recording, start, end = found
        speaker, _ = _looked_up(speakers, name)
        if speakers is not None and not speaker:
            raise CorpusError(f"{place}: utt2spk has no {name}: copy the directory again, or take the line out")
        stated, line = _looked_up(durations, recording)
        listed_phones, number = _looked_up(spelt, name)
        yield Record(
            f"{directory / 'phones'}, line {number}" if listed_phones else place,
            _audio(directory, *_looked_up(recordings, recording)),
            "" if phones and not listed_phones else text,
            listed_phones or (text if phones else ""),
            speaker,
            _looked_up(genders, speaker)[0],
            split,
            start,
            end,
            id=name,
            duration=seconds(stated, "duration", f"{directory / 'reco2dur'}, line {line}"),
        )


def _table(path: Path) -> Table:
    """Read a list of Kaldi's: a name, and what stands behind it, on each line."""
    found = Named(_lines(path))
    if not found:
        raise CorpusError(f"{path} is empty: copy the directory again")
    twice = found.twice()
    if twice is not None:
        (name, (_, first)), (_, (_, second)) = (found.pairs[number] for number in twice)
        raise CorpusError(f"{path}, line {second}: {name} stands in line {first}, too: leave one of them")
    return found


def _looked_up(table: Table | None, name: str) -> tuple[str, int]:
    """Return what a list, which may be missing, has of a name, and in which line."""
    return (table.get(name) if table is not None else None) or ("", 0)


def _lines(path: Path) -> Iterator[tuple[str, tuple[str, int]]]:
    for number, line in lines_of(path):
        name, *rest = line.strip().split(maxsplit=1)
        yield name, (rest[0] if rest else "", number)


def _spans(path: Path, recordings: Table) -> Named[Span]:
    """Return recording, start and end of each utterance; without segments a recording is an utterance."""
    if not path.is_file():
        return Named((name, (name, 0.0, None)) for name, _ in recordings.pairs)
    return Named(
        (name, _span(f"{path}, line {number}", name, line, recordings)) for name, (line, number) in _table(path).pairs
    )


def _span(place: str, name: str, line: str, recordings: Table) -> Span:
    recording, *times = line.split()
    if len(times) not in (2, 3):  # the last is a channel of the NIST's, which no script uses
        raise CorpusError(f"{place}: {name} {line!r} is not 'utterance recording start end': mend the line")
    if recording not in recordings:
        raise CorpusError(f"{place}: wav.scp has no {recording}: copy the directory again, or take the line out")
    end = None if times[1] == "-1" else seconds(times[1], "end", place)
    return recording, *span(seconds(times[0], "start", place), end, place)


def _audio(directory: Path, named: str, number: int) -> Path:
    place = f"{directory / 'wav.scp'}, line {number}"
    if named.endswith("|") or named == "-":
        raise CorpusError(f"{place}: {named!r} is a command: run it, and name the file that it writes")
    if re.search(r"\.ark:\d+$", named):
        raise CorpusError(f"{place}: {named!r} lies in an archive: write it to a file with wav-copy, and name that")
    if not named:
        raise CorpusError(f"{place} names no file: write 'recording path'")
    candidates = [folder / named for folder in (directory, *directory.parents[:_ABOVE])]
    return next((path for path in candidates if path.is_file()), candidates[0])
