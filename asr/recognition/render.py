"""Transcripts and alignments as text in the formats of other tools."""

from collections.abc import Iterator, Sequence

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
PAUSE, LONGEST_CUE = 0.3, 5.0  # seconds: a silence that ends a subtitle, and the longest subtitle


def render(annotation: Annotation, form: str, name: str, words: bool = False) -> str:
    r"""Write a transcript or an alignment in one of the formats of `SUFFIXES`.

    Parameters
    ----------
    annotation
        From `Recogniser.transcribe` or `align`.
    form
        ``text`` (the labels in a line), ``json`` (everything in a line), ``ctm``, ``textgrid`` (a tier each for words
        and phones), ``srt`` (subtitles, cut at pauses), ``tsv`` (a table of starts, ends, labels and confidences) or
        ``audacity`` (a label track).
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
            return "".join(_cue(number, cue) for number, cue in enumerate(_cues(units), 1))
        case "tsv":
            rows = [f"{u.start:.3f}\t{u.end:.3f}\t{u.label}\t{u.confidence or 0:.3f}\n" for u in units]
            return "".join(["start\tend\tlabel\tconfidence\n", *rows])
        case "audacity":
            return label_files.to_audacity(units)
    raise AsrError(f"no format is called {form!r}: choose from {', '.join(SUFFIXES)}")


def _cues(units: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Group units into subtitles; a pause ends a subtitle, and so does its length."""
    cue: list[Segment] = []
    for unit in units:
        if cue and (unit.start - cue[-1].end >= PAUSE or unit.end - cue[0].start > LONGEST_CUE):
            yield cue
            cue = []
        cue.append(unit)
    if cue:
        yield cue


def _cue(number: int, cue: Sequence[Segment]) -> str:
    times = " --> ".join(_clock(seconds) for seconds in (cue[0].start, cue[-1].end))
    return f"{number}\n{times}\n{' '.join(unit.label for unit in cue)}\n\n"


def _clock(seconds: float) -> str:
    """Return hours, minutes, seconds and milliseconds in SubRip's notation."""
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02},{rest % 1000:03}"
