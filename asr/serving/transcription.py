"""Transcripts in the forms of OpenAI's transcriptions."""

import json
import math
import zlib
from collections.abc import Iterator, Sequence
from statistics import mean
from typing import Any

from asr.recognition.recogniser import Transcript
from asr.recognition.render import between_pauses, joined, render
from asr.speech.phones import is_own
from asr.speech.segments import Segment

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
EVENTS = "events"  # server-sent
LEAST = 1e-6  # a confidence whose logarithm is taken


def language_of(phone_set: str) -> str:
    """Return the language of a model by its phone set, as OpenAI names it."""
    return "unknown" if is_own(phone_set) else "english"


def write(said: Transcript, form: str, granularities: Sequence[str], name: str) -> str:
    r"""Return what was said in one of `FORMATS`, or as `EVENTS`.

    Parameters
    ----------
    said
        With words, or where there are none, its phones stand for them.
    form
        One of these.
    granularities
        ``word`` and ``segment``, those that ``verbose_json`` has.
    name
        Of the recording.

    Examples
    --------
    >>> said = Transcript([Segment("HH", 0.1, 0.2), Segment("AY", 0.2, 0.3)], 0.5, [Segment("hi", 0.1, 0.3, 0.8)])
    >>> write(said, "text", [], "a"), json.loads(write(said, "verbose_json", ["word"], "a"))["words"]
    ('hi\n', [{'word': 'hi', 'start': 0.1, 'end': 0.3}])
    """
    if form in ("text", "srt", "vtt"):
        return render(said, form, name, words=said.words is not None)
    units = said.phones if said.words is None else said.words
    usage = {"type": "duration", "seconds": math.ceil(said.duration)}
    if form == EVENTS:
        return "".join(_events(said.text, units))
    if form == "json":
        return json.dumps({"text": said.text, "usage": usage}, ensure_ascii=False)
    values: dict[str, Any] = {"task": "transcribe", "language": language_of(said.phone_set), "duration": said.duration}
    values |= {"text": said.text}
    if "word" in granularities:
        values["words"] = [{"word": unit.label, "start": unit.start, "end": unit.end} for unit in units]
    if "segment" in granularities:
        values["segments"] = [_segment(number, group) for number, group in enumerate(between_pauses(units))]
    return json.dumps(values | {"usage": usage}, ensure_ascii=False)


def _segment(number: int, group: Sequence[Segment]) -> dict[str, Any]:
    """Return what is said between two pauses. Whisper's tokens, temperature and the like are there for its clients."""
    whole = joined(group)
    text = whole.label.encode()
    return {
        "id": number,
        "seek": 0,
        "start": whole.start,
        "end": whole.end,
        "text": whole.label,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(mean(math.log(max(unit.confidence or 0.0, LEAST)) for unit in group), 4),
        "compression_ratio": round(len(text) / len(zlib.compress(text)), 3),
        "no_speech_prob": 0.0,
    }


def _events(text: str, units: Sequence[Segment]) -> Iterator[str]:
    """Yield server-sent events: the text between pauses, and all of it."""
    gap = ""
    for group in between_pauses(units):
        yield _event({"type": "transcript.text.delta", "delta": gap + joined(group).label})
        gap = " "
    yield _event({"type": "transcript.text.done", "text": text})
    yield "data: [DONE]\n\n"


def _event(values: dict[str, str]) -> str:
    return f"data: {json.dumps(values, ensure_ascii=False)}\n\n"
