"""Files of labels, phones or words, in the formats of other tools: reading them and writing them.

========== ============================ ==============================================================
format     suffix                       content, and the name of an utterance
========== ============================ ==============================================================
kaldi      any other                    each line: ``utterance label label …``
trn        .trn                         each line: ``label label … (utterance)``; NIST's sclite
ctm        .ctm                         each line: ``utterance channel start duration label [confidence]``
textgrid   .TextGrid, or a folder       Praat's format: a tier of labels; the utterance is the file's name
phn        .phn, .wrd                   each line: ``start end label`` in samples, as in TIMIT; the utterance is the
                                        file's name
json       .json, .jsonl                each line: an object, as ``asr transcribe`` and ``asr align`` print with
                                        ``--format json``; the utterance is the recording's name without its suffix
audacity   none                         each line: ``start end label`` between tabs, in seconds; the utterance is the
                                        file's name
plain      none                         each line: labels; the utterance is the line's number, counted from 1
========== ============================ ==============================================================

The format is known from the suffix, or it is given by name; it is never guessed from the content. A line of plain text
looks like a line of Kaldi's whose utterance has the name of a phone, and Audacity calls its tracks .txt.
"""

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from praatio import textgrid
from praatio.utilities.errors import PraatioException

from asr.core.errors import AsrError
from asr.speech.audio import SAMPLE_RATE
from asr.speech.segments import Segment

TOUCHING = 1e-3  # seconds by which neighbours may overlap before it is an error; a TextGrid is written without overlap


def read_labels(path: Path, file_format: str | None = None) -> dict[str, list[str]]:
    """Read the labels of many utterances.

    Parameters
    ----------
    path
        A file, or a folder of TextGrids.
    file_format
        A format of the table above; None takes the one that the suffix stands for.

    Returns
    -------
    dict
        Labels of each utterance. A CTM has no line for an utterance without labels, so such an utterance is missing.

    Raises
    ------
    AsrError
        The file is missing, empty, not UTF-8 or not of that format, or it has an utterance twice. The message names the
        line.
    """
    file_format = file_format or format_of(path)
    if file_format in _TIMED:
        return {key: [segment.label for segment in found] for key, found in read_segments(path, file_format).items()}
    parse = _LABEL_LINES.get(file_format)
    if parse is None:
        raise AsrError(
            f"no format of labels is called {file_format!r}: choose from {', '.join((*_LABEL_LINES, *_TIMED))}"
        )
    texts: dict[str, list[str]] = {}
    for number, line in _lines(path):
        key, labels = parse(line, number, path)
        if key in texts:
            raise AsrError(f"{path}, line {number}: utterance {key!r} stands here a second time")
        texts[key] = labels
    if not texts:
        raise AsrError(f"{path} is empty: it should have a line for each utterance")
    return texts


def read_segments(path: Path, file_format: str | None = None) -> dict[str, list[Segment]]:
    """Read labels with their times, sorted by their starts.

    Parameters
    ----------
    path
        A CTM, a TIMIT file, JSON, Audacity's labels, a TextGrid or a folder of TextGrids.
    file_format
        ``ctm``, ``textgrid``, ``phn``, ``json`` or ``audacity``; None takes the one that the suffix stands for.

    Raises
    ------
    AsrError
        As `read_labels`.
    """
    read = _TIMED.get(file_format or format_of(path))
    if read is None:
        raise AsrError(f"{path} has no times: times are read from .ctm, .TextGrid, .phn, .wrd, .json and .jsonl")
    found = read(path)
    if not found:
        raise AsrError(f"{path} is empty: it should have a line or a file for each utterance")
    return {key: sorted(segments, key=lambda segment: segment.start) for key, segments in found.items()}


def format_of(path: Path) -> str:
    """Return the format that a label file's suffix stands for.

    >>> format_of(Path("a.trn")), format_of(Path("text"))
    ('trn', 'kaldi')
    """
    if path.is_dir():
        return "textgrid"
    return _SUFFIXES.get(path.suffix.lower(), "kaldi")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number, counted from 1, and the text of each line that is neither blank nor a comment of a CTM."""
    if path.is_dir():
        raise AsrError(f"{path} is a folder, which is read as TextGrids alone")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise AsrError(f"no file {path}: check the path") from error
    except UnicodeDecodeError as error:
        raise AsrError(f"{path} is not text in UTF-8 (byte {error.start}): convert it, or check the path") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.startswith(";;"):
            yield number, line


def _kaldi_line(line: str, number: int, path: Path) -> tuple[str, list[str]]:
    key, *labels = line.split()
    return key, labels


def _trn_line(line: str, number: int, path: Path) -> tuple[str, list[str]]:
    text, bracket, key = line.rstrip().rpartition("(")
    if not bracket or not key.endswith(")") or not key[:-1].strip():
        raise AsrError(f"{path}, line {number}: {line.strip()!r} does not end with its utterance in brackets, (id)")
    return key[:-1].strip(), text.split()


def _plain_line(line: str, number: int, path: Path) -> tuple[str, list[str]]:
    return str(number), line.split()


_LABEL_LINES: dict[str, Callable[[str, int, Path], tuple[str, list[str]]]] = {
    "kaldi": _kaldi_line,
    "trn": _trn_line,
    "plain": _plain_line,
}


def _read_ctm(path: Path) -> dict[str, list[Segment]]:
    found: dict[str, list[Segment]] = {}
    for number, line in _lines(path):
        fields = line.split()
        try:
            key, _, start, duration, label, *confidence = fields
            times = float(start), float(start) + float(duration)
            segment = Segment(label, *times, float(confidence[0]) if confidence else None)
        except ValueError as error:
            raise AsrError(
                f"{path}, line {number}: {line.strip()!r} is not 'utterance channel start duration label [confidence]'"
            ) from error
        if not 0 <= segment.start <= segment.end < math.inf or not 0 <= (segment.confidence or 0.0) <= 1:
            raise AsrError(
                f"{path}, line {number}: start and duration must be 0 or more, in seconds, and a confidence in 0..1"
            )
        found.setdefault(key, []).append(segment)
    return found


def _read_phn(path: Path) -> dict[str, list[Segment]]:
    segments = []
    for number, line in _lines(path):
        try:
            start, end, label = line.split()
            segments.append(Segment(label, int(start) / SAMPLE_RATE, int(end) / SAMPLE_RATE))
        except ValueError as error:
            raise AsrError(f"{path}, line {number}: {line.strip()!r} is not 'start end label' in samples") from error
        if not 0 <= segments[-1].start <= segments[-1].end:
            raise AsrError(f"{path}, line {number}: the start must be 0 or more, and the end not before it")
    return {path.stem: segments} if segments else {}


def _read_audacity(path: Path) -> dict[str, list[Segment]]:
    segments = []
    for number, line in _lines(path):
        if line.startswith("\\"):  # a line with the frequency range of the label above
            continue
        try:
            start, end, label = line.split("\t")
            segment = Segment(label.strip(), float(start), float(end))
        except ValueError as error:
            raise AsrError(f"{path}, line {number}: {line.strip()!r} is not 'start end label' between tabs") from error
        if not 0 <= segment.start <= segment.end:
            raise AsrError(f"{path}, line {number}: start and end must be 0 or more, in seconds and in order")
        segments += [segment] if segment.label else []
    return {path.stem: segments} if segments else {}


def _read_json(path: Path) -> dict[str, list[Segment]]:
    found: dict[str, list[Segment]] = {}
    for number, line in _lines(path):
        try:
            values = json.loads(line)
            key = Path(values["path"]).stem
            phones = [(each["label"], each["start"], each["end"], each.get("confidence")) for each in values["phones"]]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise AsrError(
                f"{path}, line {number} is not an object with 'path' and 'phones': write it by --format json"
            ) from error
        if key in found:
            raise AsrError(f"{path}, line {number}: utterance {key!r} stands here a second time")
        found[key] = [Segment(*phone) for phone in phones]
    return found


def _read_textgrids(path: Path) -> dict[str, list[Segment]]:
    if not path.exists():
        raise AsrError(f"no file or folder {path}: check the path")
    paths = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.suffix.lower() == ".textgrid")
    found: dict[str, list[Segment]] = {}
    for each in paths:
        if each.stem in found:
            raise AsrError(f"{each}: another TextGrid below {path} has the same name, and so the same utterance")
        found[each.stem] = _tier(each)
    return found


def _tier(path: Path) -> list[Segment]:
    """Read the tier of phones of a TextGrid, or its only interval tier."""
    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False, reportingMode="error")
    except (PraatioException, ValueError, IndexError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise AsrError(f"{path} is not a TextGrid that can be read ({reason}): save it again from Praat") from error
    tiers = {tier.name: tier for tier in grid.tiers if isinstance(tier, textgrid.IntervalTier)}
    named = [name for name in tiers if name.lower() in ("phones", "phone")] or (list(tiers) if len(tiers) == 1 else [])
    if not named:
        raise AsrError(
            f"{path} has tiers {', '.join(map(repr, tiers)) or 'of points alone'}: name one of them 'phones'"
        )
    return [Segment(label, start, end) for start, end, label in tiers[named[0]].entries if label]


_TIMED: dict[str, Callable[[Path], dict[str, list[Segment]]]] = {
    "ctm": _read_ctm,
    "textgrid": _read_textgrids,
    "phn": _read_phn,
    "json": _read_json,
    "audacity": _read_audacity,
}
_SUFFIXES = {f".{name}": name for name in ("trn", "ctm", "textgrid", "phn", "json")} | {".wrd": "phn", ".jsonl": "json"}


def to_ctm(utterance: str, segments: Sequence[Segment]) -> str:
    """Return the CTM lines of an utterance; blanks in its name become underscores.

    >>> print(to_ctm("u1", [Segment("HH", 0.1, 0.25, 0.9), Segment("AY", 0.25, 0.5)]), end="")
    u1 1 0.100 0.150 HH 0.900
    u1 1 0.250 0.250 AY
    """
    name, lines = "_".join(utterance.split()), []
    for segment in segments:
        start, end = round(segment.start, 3), round(segment.end, 3)  # so that neighbours still touch when read again
        confidence = "" if segment.confidence is None else f" {segment.confidence:.3f}"
        lines.append(f"{name} 1 {start:.3f} {end - start:.3f} {segment.label}{confidence}\n")
    return "".join(lines)


def to_audacity(segments: Sequence[Segment]) -> str:
    """Return a label track for Audacity: start, end and label between tabs.

    >>> to_audacity([Segment("HH", 0.1, 0.25)]).split()
    ['0.100000', '0.250000', 'HH']
    """
    return "".join(f"{segment.start:.6f}\t{segment.end:.6f}\t{segment.label}\n" for segment in segments)


def to_textgrid(tiers: Mapping[str, Sequence[Segment]], duration: float) -> str:
    """Return a TextGrid of interval tiers in Praat's short format; empty intervals fill the gaps.

    Parameters
    ----------
    tiers
        The name of each tier with its segments, which are in order.
    duration
        Length of the recording in seconds.

    Raises
    ------
    AsrError
        Segments of a tier overlap, or pass the end of the recording.
    """
    grid = textgrid.Textgrid(0.0, duration)
    for name, segments in tiers.items():
        entries = [(each.start, each.end, each.label) for each in _without_overlap(name, segments, duration)]
        if entries:
            grid.addTier(textgrid.IntervalTier(name, entries, 0.0, duration))
        else:
            grid.addTier(textgrid.IntervalTier(name, [(0.0, duration, "")], 0.0, duration))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.TextGrid"
        grid.save(str(path), format="short_textgrid", includeBlankSpaces=True)
        return path.read_text(encoding="utf8")


def _without_overlap(name: str, segments: Sequence[Segment], duration: float) -> list[Segment]:
    """Cut off small overlaps, and leave out segments without duration, which Praat does not allow."""
    kept: list[Segment] = []
    for segment in segments:
        before = kept[-1].end if kept else 0.0
        if segment.start < before - TOUCHING or segment.end > duration + TOUCHING or segment.end < segment.start:
            raise AsrError(
                f"tier {name}: {segment.label!r} at {segment.start:.3f} - {segment.end:.3f} s overlaps its neighbour "
                f"or the edges of the recording ({duration:.3f} s)"
            )
        start, end = max(segment.start, before), min(segment.end, duration)
        if end > start:
            kept.append(replace(segment, start=start, end=end))
    return kept
