"""Files of labels, phones or words, in the formats of other tools: reading them and writing them.

========== ============================ ==============================================================
format     suffix                       content, and the name of an utterance
========== ============================ ==============================================================
kaldi      any other                    each line: ``utterance label label …``
trn        .trn                         each line: ``label label … (utterance)``; NIST's sclite
ctm        .ctm, or a folder            each line: ``utterance channel start duration label [confidence]``
textgrid   .TextGrid, or a folder       Praat's format: a tier of labels; the utterance is the file's name
phn        .phn, .wrd, or a folder      each line: ``start end label`` in samples, as in TIMIT; the utterance is the
                                        file's name
json       .json, .jsonl, or a folder   each line: an object, as ``asr transcribe`` and ``asr align`` print with
                                        ``--format json``; the utterance is the recording's name without its suffix
tsv        .tsv, or a folder            a table with the columns ``start``, ``end`` and ``label``, as ``asr transcribe``
                                        writes it; a row may have several labels; the utterance is the file's name
audacity   .labels.txt, or a folder     each line: ``start end label`` between tabs, in seconds; the utterance is the
                                        file's name
text       any other; .txt in a folder  each line: ``recording: label label …``, as ``asr transcribe`` prints; in a
                                        folder labels alone, and the utterance is the file's name
plain      any other                    each line: labels; the utterance is the line's number, counted from 1
========== ============================ ==============================================================

Which of several formats a suffix stands for the lines tell (`asr.speech.label_formats`), or it is given by name.
"""

import json
import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from asr.core.errors import AsrError
from asr.speech import textgrids
from asr.speech.audio import SAMPLE_RATE
from asr.speech.label_formats import TSV_HEAD, fault_of_textgrid, files_in, format_of, lines_of
from asr.speech.segments import Segment

T = TypeVar("T")
TOUCHING = 1e-3  # seconds by which neighbours may overlap before it is an error; a TextGrid is written without overlap


def read_labels(path: Path, file_format: str | None = None) -> dict[str, list[str]]:
    """Read the labels of many utterances.

    Parameters
    ----------
    path
        A file, or a folder with a file for each utterance.
    file_format
        A format of the table above; None takes what `asr.speech.label_formats.format_of` finds.

    Returns
    -------
    dict
        Labels of each utterance. A CTM of many has no line for an utterance without labels, which then is missing.

    Raises
    ------
    AsrError
        The file is missing, empty, not UTF-8 or not of that format, or it has an utterance twice. The message names the
        line.
    """
    file_format = file_format or format_of(path)
    if file_format in _TIMED:
        timed = read_segments(path, file_format)
        return {key: [label for each in found for label in each.label.split()] for key, found in timed.items()}
    if file_format == "text":
        return _read_text(path)
    parse = _LABEL_LINES.get(file_format)
    if parse is None:
        raise AsrError(f"no format of labels is called {file_format!r}: choose from {', '.join(FORMATS)}")
    texts: dict[str, list[str]] = {}
    for number, line in lines_of(path):
        key, labels = parse(line, number, path)
        if key in texts:
            hint = ", or give --format plain if the lines have no names" if file_format == "kaldi" else ""
            raise AsrError(
                f"{path}, line {number}: utterance {key!r} stands here a second time: leave one of them{hint}"
            )
        texts[key] = labels
    if not texts:
        raise AsrError(f"{path} is empty: it should have a line for each utterance")
    return texts


def read_segments(path: Path, file_format: str | None = None) -> dict[str, list[Segment]]:
    """Read labels with their times, sorted by their starts.

    Parameters
    ----------
    path
        A CTM, a TIMIT file, JSON, a table, Audacity's labels or a TextGrid, or a folder of them.
    file_format
        ``ctm``, ``textgrid``, ``phn``, ``json``, ``tsv`` or ``audacity``; None takes what
        `asr.speech.label_formats.format_of` finds.

    Raises
    ------
    AsrError
        As `read_labels`.
    """
    file_format = file_format or format_of(path)
    read = _TIMED.get(file_format)
    if read is None:
        raise AsrError(f"{path} has no times: times are read from .ctm, .TextGrid, .phn, .wrd, .json, .jsonl and .tsv")
    found = _read_folder(path, file_format, read) if path.is_dir() else read(path)
    if not found:
        raise AsrError(f"{path} is empty: it should have a line or a file for each utterance")
    return {key: sorted(segments, key=lambda segment: segment.start) for key, segments in found.items()}


def _read_folder(
    folder: Path, file_format: str, read: Callable[[Path], dict[str, list[Segment]]]
) -> dict[str, list[Segment]]:
    """Read a folder in which a file is an utterance, or holds many that it names."""
    found: dict[str, list[Segment]] = {}
    for name, path in files_in(folder, file_format).items():
        inside = read(path)
        if len(inside) <= 1:
            inside = {name: [segment for segments in inside.values() for segment in segments]}
        for key, segments in inside.items():
            if key in found:
                raise AsrError(f"{path}: utterance {key!r} stands in another file of {folder}, too: leave one of them")
            found[key] = segments
    return found


def _read_text(path: Path) -> dict[str, list[str]]:
    """Read what `asr transcribe` prints of several recordings, or the files that it writes into a folder."""
    if not path.is_dir():
        rows = []
        for number, line in lines_of(path):
            recording, colon, labels = f"{line.rstrip()} ".rpartition(": ")
            if not colon:
                raise AsrError(f"{path}, line {number}: {line.strip()!r} is not 'recording: labels'")
            rows.append((number, recording, labels.split()))
        return _by_utterance(rows, path)
    found = {}
    for name, file in files_in(path, "text").items():
        lines = [line for _, line in lines_of(file)]
        if len(lines) > 1:
            raise AsrError(f"{file} has {len(lines)} lines: in a folder a text file is one utterance, on one line")
        found[name] = lines[0].split() if lines else []
    return found


def _by_utterance(rows: Sequence[tuple[int, str, list[T]]], path: Path) -> dict[str, list[T]]:
    """Return what each line (number, recording, labels) says, by the names of the utterances.

    An utterance is called like its recording's file without suffix, or where several are called so, by the whole path.
    """
    recordings = [Path(recording) for _, recording, _ in rows]
    for names in ([each.stem for each in recordings], [each.with_suffix("").as_posix() for each in recordings]):
        if len(set(names)) == len(names):
            return {name: labels for name, (*_, labels) in zip(names, rows, strict=True)}
    found: dict[str, list[T]] = {}
    for number, recording, labels in rows:
        if recording in found:
            raise AsrError(f"{path}, line {number}: {recording!r} stands here a second time: leave one of them")
        found[recording] = labels
    return found


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
    for number, line in lines_of(path):
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
    for number, line in lines_of(path):
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
    for number, line in lines_of(path):
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


def _read_tsv(path: Path) -> dict[str, list[Segment]]:
    (_, head), *rows = [*lines_of(path)] or [(0, "")]
    if head.split()[:3] != TSV_HEAD:
        raise AsrError(f"{path}: the first line must name the columns: {', '.join(TSV_HEAD)}, with tabs between")
    segments = []
    for number, line in rows:
        try:
            start, end, label, *confidence = line.rstrip("\r").split("\t")
            segment = Segment(label, float(start), float(end), float(confidence[0]) if confidence else None)
        except ValueError as error:
            raise AsrError(f"{path}, line {number}: {line.strip()!r} is not 'start end label' between tabs") from error
        if not 0 <= segment.start <= segment.end < math.inf:
            raise AsrError(f"{path}, line {number}: start and end must be 0 or more, in seconds and in order")
        segments.append(segment)
    return {path.stem: segments}


def _read_json(path: Path) -> dict[str, list[Segment]]:
    rows = []
    for number, line in lines_of(path):
        try:
            values = json.loads(line)
            recording = str(Path(values["path"]))
            phones = [(each["label"], each["start"], each["end"], each.get("confidence")) for each in values["phones"]]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise AsrError(
                f"{path}, line {number} is not an object with 'path' and 'phones': write it by --format json"
            ) from error
        rows.append((number, recording, composed([Segment(*phone) for phone in phones])))
    return _by_utterance(rows, path)


def _read_textgrid(path: Path) -> dict[str, list[Segment]]:
    if not path.exists():
        raise AsrError(f"no file or folder {path}: check the path")
    return {path.stem: _tier(path)}


def composed(segments: Sequence[Segment]) -> list[Segment]:
    """Return segments whose labels are in Unicode's composed form, in which all labels are read.

    >>> composed([Segment("a\u0303", 0.0, 0.1)]) == [Segment("ã", 0.0, 0.1)]
    True
    """
    return [replace(each, label=unicodedata.normalize("NFC", each.label)) for each in segments]


def _tier(path: Path) -> list[Segment]:
    """Read the tier of phones of a TextGrid, or its only interval tier."""
    tiers = read_tiers(path)
    named = [name for name in tiers if name.lower() in ("phones", "phone")] or (list(tiers) if len(tiers) == 1 else [])
    if not named:
        raise AsrError(
            f"{path} has tiers {', '.join(map(repr, tiers)) or 'of points alone'}: name one of them 'phones'"
        )
    return composed(tiers[named[0]])


def read_tiers(path: Path) -> dict[str, list[Segment]]:
    """Read the interval tiers of a TextGrid by their names, without the intervals that have no label.

    Raises
    ------
    AsrError
        The file is not a TextGrid, or two of its tiers have one name.
    """
    try:
        grid = textgrids.read(path)
    except ValueError as error:
        fault = fault_of_textgrid(path) or f" is not a TextGrid that can be read ({error})"
        raise AsrError(f"{path}{fault}: save it again from Praat, as a text file") from error
    tiers = [tier for tier in grid.tiers if not tier.is_of_points]
    names = [tier.name for tier in tiers]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise AsrError(f"{path} has several tiers called {twice!r}: give each a name of its own in Praat")
    return {
        tier.name: [replace(each, label=each.label.strip()) for each in tier.entries if each.label.strip()]
        for tier in tiers
    }


_TIMED: dict[str, Callable[[Path], dict[str, list[Segment]]]] = {
    "ctm": _read_ctm,
    "textgrid": _read_textgrid,
    "phn": _read_phn,
    "json": _read_json,
    "tsv": _read_tsv,
    "audacity": _read_audacity,
}
FORMATS = (*_LABEL_LINES, "text", *_TIMED)


def to_ctm(utterance: str, segments: Sequence[Segment], channel: int = 1) -> str:
    """Return the CTM lines of an utterance; blanks in its name and in labels become underscores.

    Channels are counted from 1, as NIST's tools do.

    >>> print(to_ctm("u1", [Segment("HH", 0.1, 0.25, 0.9), Segment("AY", 0.25, 0.5)]), end="")
    u1 1 0.100 0.150 HH 0.900
    u1 1 0.250 0.250 AY
    """
    name, lines = "_".join(utterance.split()), []
    for segment in segments:
        start, end = round(segment.start, 3), round(segment.end, 3)  # so that neighbours still touch when read again
        confidence = "" if segment.confidence is None else f" {segment.confidence:.3f}"
        label = "_".join(segment.label.split())
        lines.append(f"{name} {channel} {start:.3f} {end - start:.3f} {label}{confidence}\n")
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
    kept = [textgrids.Tier(name, False, without_overlap(name, tiers[name], duration)) for name in tiers]
    return textgrids.to_text(textgrids.TextGrid(0.0, duration, kept))


def without_overlap(name: str, segments: Sequence[Segment], duration: float) -> list[Segment]:
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
