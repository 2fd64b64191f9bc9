"""A labelled stretch of a recording: a phone, a word or an HMM's state."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """A label and where it lies.

    Attributes
    ----------
    label
        A phone or a word.
    start, end
        Seconds from the start of the recording.
    confidence
        Probability that the label is right, in [0, 1]; None where nobody has estimated it.
    """

    label: str
    start: float
    end: float
    confidence: float | None = None
