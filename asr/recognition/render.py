"""Transcripts as text: a line of phones, JSON, CTM, TextGrids, subtitles, tables."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from asr.recognition.recogniser import Transcript
from asr.speech import label_files, phones
from asr.speech.segments import Segment

FORMATS = {"text": ".txt", "json": ".json", "ctm": ".ctm", "textgrid": ".TextGrid", "srt": ".srt", "tsv": ".tsv"}
PAUSE, LONGEST_CUE = 0.3, 5.0  # seconds of silence that end a subtitle, and that one lasts at most


def in_ipa(transcript: Transcript, phone_set: str) -> Transcript:
    """Return a transcript with its phones in the International Phonetic Alphabet.

    >>> str(in_ipa(Transcript([Segment("HH", 0.1, 0.2), Segment("AY", 0.2, 0.3)], 0.5), "arpabet39"))
    'h aɪ'
    """
    spelt = [replace(phone, label=phones.ipa(phone.label, phone_set)) for phone in transcript.phones]
    others = [(tuple(phones.ipa(label, phone_set) for label in labels), score) for labels, score in transcript.nbest]
    return replace(transcript, phones=spelt, nbest=others)


def render(transcript: Transcript, form: str, name: str, words: bool = False) -> str:
    r"""Write a transcript in one of the `FORMATS`.

    Parameters
    ----------
    transcript
        Of `Recogniser.transcribe`.
    form
        ``text``, the phones in a line; ``json``, everything in a line; ``ctm``, ``textgrid`` (tiers of words and
        phones), ``srt`` (subtitles, a phrase between pauses each), ``tsv`` (a table of starts, ends, labels and
        confidences).
    name
        Of the recording, which JSON and CTM carry.
    words
        Write words, where the format has room for one kind only.

    Examples
    --------
    >>> said = Transcript([Segment("HH", 0.1, 0.2, 0.9), Segment("AY", 0.2, 0.3, 0.8)], duration=0.5)
    >>> render(said, "tsv", "a")
    'start\tend\tlabel\tconfidence\n0.100\t0.200\tHH\t0.900\n0.200\t0.300\tAY\t0.800\n'
    >>> render(said, "srt", "a")
    '1\n00:00:00,100 --> 00:00:00,300\nHH AY\n\n'
    """
    units = (transcript.words or []) if words else transcript.phones
    if form == "json":
        return transcript.to_json(name) + "\n"
    if form == "ctm":
        return label_files.to_ctm(name, units)
    if form == "textgrid":
        tiers = {} if transcript.words is None else {"words": transcript.words}
        return label_files.to_textgrid(tiers | {"phones": transcript.phones}, transcript.duration)
    if form == "srt":
        return "".join(_cue(number, cue) for number, cue in enumerate(_cues(units), 1))
    if form == "tsv":
        rows = [f"{u.start:.3f}\t{u.end:.3f}\t{u.label}\t{u.confidence or 0:.3f}\n" for u in units]
        return "".join(["start\tend\tlabel\tconfidence\n", *rows])
    return " ".join(unit.label for unit in units) + "\n"


def _cues(units: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Cut where somebody pauses, or has spoken for long."""
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
    """Return hours, minutes, seconds and milliseconds as SubRip writes them."""
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02},{rest % 1000:03}"
