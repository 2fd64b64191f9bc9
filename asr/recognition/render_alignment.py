"""Alignments as text in the formats of other tools: tiers of Praat and ELAN, labels, subtitles.

Words that are not said have no length, and only JSON has them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.recognition import render
from asr.recognition.alignment import Alignment
from asr.speech import elan, label_files, tier_files
from asr.speech.segments import Segment

SUFFIXES = {form: render.SUFFIXES[form] for form in ("textgrid", "ctm", "json", "audacity", "srt", "vtt")} | {
    "eaf": ".eaf",
    "lab": ".lab",
}
TIERED = ("textgrid", "eaf")
UNKNOWN = "<unk>"  # speech that the text lacks
LEAST = 0.02  # seconds of it that are labelled
HTK = 1e7  # units of HTK's times in a second


@dataclass(frozen=True)
class Shape:
    """What is written of an alignment.

    Attributes
    ----------
    form
        One of `SUFFIXES`.
    tiers
        Those of sentences, words, syllables and phones that TextGrids and .eaf files get.
    units
        Which of them a format with one kind of unit has.
    channel
        Of the recording, from 1, as CTM counts them.
    with_unknown
        Whether speech that the text lacks is labelled as `UNKNOWN`; JSON lists it by itself.
    """

    form: str
    tiers: tuple[str, ...] = ("words", "phones")
    units: str = "phones"
    channel: int = 1
    with_unknown: bool = False


def write(aligned: Alignment, shape: Shape, name: str, recording: Path | None = None) -> str:
    r"""Return an alignment as text; `name` is that of the recording in JSON and CTM.

    >>> aligned = Alignment(phones=[Segment("AH", 0.1, 0.2)], duration=0.5, words=[], score=-0.1)
    >>> write(aligned, Shape("lab"), "a")
    '1000000 2000000 AH\n'
    """
    if shape.form == "json":
        return aligned.to_json(name, with_unspoken=shape.with_unknown) + "\n"
    if shape.form in TIERED:
        tiers = _tiers(aligned, shape, shape.tiers)
        return (
            elan.to_eaf(tiers, recording) if shape.form == "eaf" else label_files.to_textgrid(tiers, aligned.duration)
        )
    units = _said(aligned, shape)
    match shape.form:
        case "ctm":
            return label_files.to_ctm(name, units, shape.channel)
        case "audacity":
            return label_files.to_audacity(units)
        case "lab":
            rows = [(round(HTK * each.start), round(HTK * each.end), each.label) for each in units]
            return "".join(f"{start} {end} {'_'.join(label.split())}\n" for start, end, label in rows)
    return render.subtitles(_cues(aligned, units) if shape.units == "sentences" else units, shape.form)


def _tiers(aligned: Alignment, shape: Shape, names: Sequence[str]) -> dict[str, list[Segment]]:
    """Return some tiers by their names, with what the text lacks where it is asked for."""
    found = aligned.chosen_tiers(names)
    if not shape.with_unknown:
        return found
    return {name: with_unknown(tier, aligned.unspoken) if name in names else tier for name, tier in found.items()}


def with_unknown(segments: Sequence[Segment], unspoken: Iterable[tuple[float, float]]) -> list[Segment]:
    """Put speech that the text lacks between segments, which keep their places.

    >>> words = [Segment("a", 0.2, 0.5), Segment("b", 0.6, 0.9)]
    >>> [(each.label, each.start, each.end) for each in with_unknown(words, [(0.4, 1.0)])]
    [('a', 0.2, 0.5), ('<unk>', 0.5, 0.6), ('b', 0.6, 0.9), ('<unk>', 0.9, 1.0)]
    """
    found = list(segments)
    for start, end in unspoken:
        inside = [each for each in segments if each.end > start and each.start < end]
        edges = [start, *(time for each in inside for time in (each.start, each.end)), end]
        pairs = zip(edges[::2], edges[1::2], strict=True)
        found += [Segment(UNKNOWN, before, after) for before, after in pairs if after - before >= LEAST]
    return sorted(found, key=lambda each: each.start)


def _said(aligned: Alignment, shape: Shape) -> list[Segment]:
    found = _tiers(aligned, shape, [shape.units]).get(shape.units, [])
    return [each for each in found if each.end > each.start]


def _cues(aligned: Alignment, sentences: Sequence[Segment]) -> list[Segment]:
    """Return subtitles: sentences, and those that are too long cut between words, at pauses if there are any."""
    found = list[Segment]()
    for sentence in sentences:
        words = [
            each
            for each in aligned.words or ()
            if sentence.start <= each.start and each.end <= sentence.end and each.end > each.start
        ]
        parts = list(render.between_pauses(words, render.LONGEST_CUE))
        if sentence.end - sentence.start <= render.LONGEST_CUE or len(parts) < 2:
            found.append(sentence)
        else:
            found += [Segment(" ".join(each.label for each in part), part[0].start, part[-1].end) for part in parts]
    return found


def merge(given: Path, found: Mapping[str, Alignment], shape: Shape, recording: Path) -> str:
    """Return a TextGrid or an .eaf file with all that a file of either kind has, and the tiers of alignments.

    Parameters
    ----------
    given
        The file with the utterances.
    found
        The alignment of each tier of utterances, by its name. Where there are several, tiers are called like it and
        their kind, ``anna - words``.
    shape, recording
        As for `write`.
    """
    several = len(found) > 1
    tiers = {
        f"{name} - {kind}" if several else kind: segments
        for name, aligned in found.items()
        for kind, segments in _tiers(aligned, shape, shape.tiers).items()
    }
    return tier_files.with_tiers(given, tiers, shape.form, next(iter(found.values())).duration, recording)
