"""Alignments as text in the formats of other tools: tiers of Praat and ELAN, labels, subtitles.

Words that are not said have no length, and only JSON has them.
"""

from collections.abc import Mapping, Sequence
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
    """

    form: str
    tiers: tuple[str, ...] = ("words", "phones")
    units: str = "phones"
    channel: int = 1


def write(aligned: Alignment, shape: Shape, name: str, recording: Path | None = None) -> str:
    r"""Return an alignment as text; `name` is that of the recording in JSON and CTM.

    >>> aligned = Alignment(phones=[Segment("AH", 0.1, 0.2)], duration=0.5, words=[], score=-0.1)
    >>> write(aligned, Shape("lab"), "a")
    '1000000 2000000 AH\n'
    """
    if shape.form == "json":
        return aligned.to_json(name) + "\n"
    if shape.form in TIERED:
        tiers = aligned.chosen_tiers(shape.tiers)
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


def _said(aligned: Alignment, shape: Shape) -> list[Segment]:
    found = aligned.chosen_tiers([shape.units]).get(shape.units, [])
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
        for kind, segments in aligned.chosen_tiers(shape.tiers).items()
    }
    return tier_files.with_tiers(given, tiers, shape.form, next(iter(found.values())).duration, recording)
