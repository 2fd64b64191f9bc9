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
        and phones), ``srt`` (subtitles, cut at pauses), ``tsv`` (a table of starts, ends, labels and confidences; of
        words a sentence between pauses in each row, with the mean of their confidences) or ``audacity`` (a label
        track).
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
        case "srt":
            cues = _between_pauses(units, LONGEST_CUE)
            return "".join(_cue(number, _joined(cue)) for number, cue in enumerate(cues, 1))
        case "tsv":
            if words:
                units = [_joined(sentence) for sentence in _between_pauses(units)]
            rows = [f"{u.start:.3f}\t{u.end:.3f}\t{u.label}\t{u.confidence or 0:.3f}\n" for u in units]
            return "".join(["start\tend\tlabel\tconfidence\n", *rows])
        case "audacity":
            return label_files.to_audacity(units)
    raise AsrError(f"no format is called {form!r}: choose from {', '.join(SUFFIXES)}")


def _between_pauses(units: Sequence[Segment], longest: float = math.inf) -> Iterator[list[Segment]]:
    """Group units; a pause ends a group, and so do the seconds that it may last at most."""
    group: list[Segment] = []
    for unit in units:
        if group and (unit.start - group[-1].end >= PAUSE or unit.end - group[0].start > longest):
            yield group
            group = []
        group.append(unit)
    if group:
        yield group


def _joined(group: Sequence[Segment]) -> Segment:
    """Return a group of units as one, with the mean of their confidences: the share of them that should be right."""
    confidence = mean(unit.confidence or 0.0 for unit in group)
    return Segment(" ".join(unit.label for unit in group), group[0].start, group[-1].end, confidence)


def _cue(number: int, cue: Segment) -> str:
    times = " --> ".join(_clock(seconds) for seconds in (cue.start, cue.end))
    return f"{number}\n{times}\n{cue.label}\n\n"


def _clock(seconds: float) -> str:
    """Return hours, minutes, seconds and milliseconds in SubRip's notation."""
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02},{rest % 1000:03}"
