"""The segment: a labelled stretch of a recording, such as a phone, a word or an HMM's state."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """A label with its place in a recording.

    Attributes
    ----------
    label
        A phone, a word or a state.
    start, end
        Seconds from the start of the recording.
    confidence
        Probability that the label is right, in [0, 1]; None where it is unknown.
    """

    label: str
    start: float
    end: float
    confidence: float | None = None
