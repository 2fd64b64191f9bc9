"""Labels that a client sends in JSON, such as those that it has edited, in the formats of other tools."""

import json
import math
from itertools import pairwise
from typing import Any

from asr.core.errors import AsrError
from asr.recognition.recogniser import Transcript
from asr.recognition.render import SUFFIXES, render
from asr.speech import elan
from asr.speech.segments import Segment

FORMATS = ("textgrid", "eaf", *(form for form in SUFFIXES if form != "textgrid"))
TOUCHING = 0.001  # seconds by which rounded times may overlap


def convert(content: bytes, name: str, form: str) -> str:
    r"""Return labels as text in another format.

    Parameters
    ----------
    content
        JSON as `/v1/phones` and `/v1/align` answer: an object with ``duration``, ``phones`` and perhaps ``words``.
        Labels without length, those of words that are not said, are left out.
    name
        Of the recording, for JSON and CTM.
    form
        One of `FORMATS`. Those that hold one kind of label have the words if there are any.

    Raises
    ------
    AsrError
        The JSON is damaged or has no such labels, or labels overlap.

    Examples
    --------
    >>> labels = b'{"duration": 0.5, "phones": [{"label": "HH", "start": 0.1, "end": 0.25}]}'
    >>> convert(labels, "a", "ctm")
    'a 1 0.100 0.150 HH\n'
    """
    said = _read(content)
    if form == "eaf":
        return elan.to_eaf(said.tiers())
    return render(said, form, name, words=said.words is not None)


def _read(content: bytes) -> Transcript:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise AsrError("the labels are no JSON: send an object with duration, phones and words") from error
    if not isinstance(values, dict) or "phones" not in values:
        raise AsrError("the labels lack phones: send an object with duration, phones and words")
    duration = _seconds(values.get("duration"), "duration")
    words = None if values.get("words") is None else _tier(values["words"], "words", duration)
    return Transcript(_tier(values["phones"], "phones", duration), duration, words)


def _tier(rows: Any, name: str, duration: float) -> list[Segment]:
    if not isinstance(rows, list):
        raise AsrError(f"{name} must be a list")
    segments = [_segment(row, f"{name}, number {number}") for number, row in enumerate(rows, 1)]
    ends = [0.0, *(time for each in segments for time in (each.start, each.end)), duration]
    if any(after < before - TOUCHING for before, after in pairwise(ends)):
        raise AsrError(f"{name} must be in order, one behind the other, and within the recording of {duration:.3f} s")
    return [each for each in segments if each.end > each.start]


def _segment(row: Any, where: str) -> Segment:
    if not isinstance(row, dict) or not isinstance(row.get("label"), str) or not row["label"].isprintable():
        raise AsrError(f"{where}: it must be an object with a label that can be printed")
    start, end = (_seconds(row.get(key), f"{where}: {key}") for key in ("start", "end"))
    sure = row.get("confidence")
    return Segment(row["label"], start, end, None if sure is None else _seconds(sure, f"{where}: confidence"))


def _seconds(value: Any, name: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf:
        raise AsrError(f"{name} must be a number from 0")
    return float(value)
