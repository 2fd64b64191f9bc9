"""Alignment of utterances whose places in a recording are known, each within its bounds.

The recording is heard as a whole, so that features are normalised over all of it and a network in two directions hears
what is around an utterance. Each utterance is aligned with its own frames.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from asr.core.errors import AsrError
from asr.recognition.align import known_text, place
from asr.recognition.alignment import Alignment
from asr.recognition.recogniser import Heard, Recogniser
from asr.speech.audio import SAMPLE_RATE
from asr.speech.pronounce import Own
from asr.speech.segments import Segment


def align_utterances(
    recogniser: Recogniser,
    heard: Heard,
    utterances: Sequence[Segment],
    g2p: bool = True,
    with_goodness: bool = False,
    own: Own | None = None,
) -> tuple[Alignment, list[str]]:
    """Find the times of the words of utterances; one that fails stays without words and phones.

    Parameters
    ----------
    recogniser, heard
        The recogniser, and the recording as it heard it.
    utterances
        What is said, from where to where, in order.
    g2p, with_goodness, own
        As for `asr.recognition.align.align`.

    Returns
    -------
    Alignment
        Of all utterances together; its sentences are the utterances that could be aligned.
    list of str
        What is wrong with each of those that could not be aligned.

    Raises
    ------
    AsrError
        None could be aligned.
    """
    found, faults = list[Alignment](), list[str]()
    for utterance in utterances:
        try:
            piece, start = _cut(heard, recogniser.model.frame_shift, utterance)
            text = known_text(recogniser.model, utterance.label, None, g2p, own)
            aligned = place(recogniser.model, text, piece, with_goodness, start)
        except AsrError as error:
            faults.append(f"the utterance at {utterance.start:.2f} s is left out: {error}")
            continue
        moved = _moved(aligned, start, utterance)
        sure = Segment(utterance.label, utterance.start, utterance.end, moved.sentences[0].confidence)
        found.append(replace(moved, sentences=[sure]))
    if not found:
        raise AsrError(faults[0] if faults else f"{heard.name}: no utterance has a text: write what is said")
    return _joined(found, heard), faults


def _cut(heard: Heard, frame_shift: float, utterance: Segment) -> tuple[Heard, float]:
    """Return the frames that an utterance has a part in, and the second at which the first begins."""
    first = math.floor(utterance.start / frame_shift + 1e-6)
    last = min(math.ceil(utterance.end / frame_shift - 1e-6), len(heard.emissions))
    if first >= last:
        raise AsrError("it lies behind the end of the recording")
    start = first * frame_shift
    end = len(heard.waveform) if last == len(heard.emissions) else round(last * frame_shift * SAMPLE_RATE)
    waveform = heard.waveform[round(start * SAMPLE_RATE) : end]
    return Heard(waveform, heard.emissions[first:last], heard.name, None), start


def _moved(aligned: Alignment, shift: float, bounds: Segment) -> Alignment:
    """Return an alignment with its times moved, and cut off at the bounds of its utterance."""

    def clip(time: float) -> float:
        return round(min(max(time + shift, bounds.start), bounds.end), 3)

    def move(segments: Sequence[Segment]) -> list[Segment]:
        return [replace(each, start=clip(each.start), end=clip(each.end)) for each in segments]

    return replace(
        aligned,
        phones=move(aligned.phones),
        words=move(aligned.words or ()),
        states=move(aligned.states),
        sentences=move(aligned.sentences),
        syllables=move(aligned.syllables),
        unspoken=[(clip(start), clip(end)) for start, end in aligned.unspoken],
    )


def _joined(parts: Sequence[Alignment], heard: Heard) -> Alignment:
    """Return alignments of utterances as one of the recording; its score is their mean, weighted by their length."""
    offsets = itertools.accumulate((len(part.words or ()) for part in parts), initial=0)
    misfits = [part.misfit for part in parts if part.misfit]
    seconds = [part.sentences[0].end - part.sentences[0].start for part in parts]
    more = f" (and {len(misfits) - 1} more utterances)" if len(misfits) > 1 else ""
    rated = None if parts[0].goodness is None else [value for part in parts for value in part.goodness or ()]
    return Alignment(
        phones=[each for part in parts for each in part.phones],
        duration=heard.duration,
        words=[each for part in parts for each in part.words or ()],
        score=sum(part.score * length for part, length in zip(parts, seconds, strict=True)) / sum(seconds),
        goodness=rated,
        states=[each for part in parts for each in part.states],
        unspoken=[each for part in parts for each in part.unspoken],
        misfit=f"{misfits[0]}{more}" if misfits else None,
        variants=[each for part in parts for each in part.variants],
        unsaid=[number + offset for part, offset in zip(parts, offsets, strict=False) for number in part.unsaid],
        sentences=[each for part in parts for each in part.sentences],
        syllables=[each for part in parts for each in part.syllables],
        guessed=list(dict.fromkeys(each for part in parts for each in part.guessed)),
        phone_set=parts[0].phone_set,
        sound=heard.sound,
    )
