"""Transcripts and alignments as text in the formats of other tools."""

import math
from collections.abc import Iterator, Sequence
from statistics import mean

from asr.core.errors import AsrError
from asr.recognition.annotation import Annotation
from asr.speech import label_files
from asr.speech.segments import Segment

SUFFIXES = {
    "text": ".txt",
    "json": ".json",
    "ctm": ".ctm",
    "textgrid": ".TextGrid",
    "srt": ".srt",
    "vtt": ".vtt",
    "tsv": ".tsv",
    "audacity": ".labels.txt",
}
PAUSE, LONGEST_CUE = 0.3, 5.0  # seconds: a silence that ends a sentence or subtitle, and the longest subtitle


def render(annotation: Annotation, form: str, name: str, words: bool = False) -> str:
    r"""Write a transcript or an alignment in one of the formats of `SUFFIXES`.

    Parameters
    ----------
    annotation
        From `Recogniser.transcribe` or `align`.
    form
        ``text`` (the labels in a line), ``json`` (everything in a line), ``ctm``, ``textgrid`` (a tier each for words
        and phones), ``srt`` and ``vtt`` (subtitles, cut at pauses), ``tsv`` (a table of starts, ends, labels and
        confidences; of words a sentence between pauses in each row, with the mean of their confidences) or ``audacity``
        (a label track).
    name
        Of the recording, for JSON and CTM.
    words
        Write words in the formats that hold only one kind of unit; phones otherwise.

    Raises
    ------
    AsrError
        There is no such format.

    Examples
    --------
    >>> from asr import Transcript
    >>> said = Transcript([Segment("HH", 0.1, 0.2, 0.9), Segment("AY", 0.2, 0.3, 0.8)], duration=0.5)
    >>> render(said, "tsv", "a")
    'start\tend\tlabel\tconfidence\n0.100\t0.200\tHH\t0.900\n0.200\t0.300\tAY\t0.800\n'
    >>> render(said, "srt", "a")
    '1\n00:00:00,100 --> 00:00:00,300\nHH AY\n\n'
    """
    units = (annotation.words or []) if words else annotation.phones
    match form:
        case "text":
            return " ".join(unit.label for unit in units) + "\n"
        case "json":
            return annotation.to_json(name) + "\n"
        case "ctm":
            return label_files.to_ctm(name, units)
        case "textgrid":
            return annotation.to_textgrid()
        case "srt" | "vtt":
            return subtitles(list(map(joined, between_pauses(units, LONGEST_CUE))), form)
        case "tsv":
            if words:
                units = [joined(sentence) for sentence in between_pauses(units)]
            rows = [f"{u.start:.3f}\t{u.end:.3f}\t{u.label}\t{u.confidence or 0:.3f}\n" for u in units]
            return "".join(["start\tend\tlabel\tconfidence\n", *rows])
        case "audacity":
            return label_files.to_audacity(units)
    raise AsrError(f"no format is called {form!r}: choose from {', '.join(SUFFIXES)}")


def between_pauses(units: Sequence[Segment], longest: float = math.inf) -> Iterator[list[Segment]]:
    """Group units; a pause ends a group, and so do the seconds that it may last at most."""
    group: list[Segment] = []
    for unit in units:
        if group and (unit.start - group[-1].end >= PAUSE or unit.end - group[0].start > longest):
            yield group
            group = []
        group.append(unit)
    if group:
        yield group


def joined(group: Sequence[Segment]) -> Segment:
    """Return a group of units as one, with the mean of their confidences: the share of them that should be right."""
    confidence = mean(unit.confidence or 0.0 for unit in group)
    return Segment(" ".join(unit.label for unit in group), group[0].start, group[-1].end, confidence)


def subtitles(cues: Sequence[Segment], form: str) -> str:
    r"""Return cues as SubRip (``srt``) or WebVTT (``vtt``).

    >>> subtitles([Segment("Tom & I", 3599.9, 3601.25)], "vtt")
    'WEBVTT\n\n00:59:59.900 --> 01:00:01.250\nTom &amp; I\n\n'
    """
    if form == "vtt":
        texts = (each.label.replace("&", "&amp;").replace("<", "&lt;") for each in cues)
        rows = (f"{_clock(c.start, '.')} --> {_clock(c.end, '.')}\n{text}" for c, text in zip(cues, texts, strict=True))
        return "".join(["WEBVTT\n\n", *(f"{row}\n\n" for row in rows)])
    rows = (f"{_clock(c.start, ',')} --> {_clock(c.end, ',')}\n{c.label}" for c in cues)
    return "".join(f"{number}\n{row}\n\n" for number, row in enumerate(rows, 1))


def _clock(seconds: float, point: str) -> str:
    """Return hours, minutes, seconds and milliseconds, with a sign between the last two."""
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
