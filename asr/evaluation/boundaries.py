"""Errors of phone boundaries: the share within a tolerance, mean, median and histogram.

The boundaries of an utterance are the starts of its phones except the first. Both sides have the same labels, because
what is judged is an alignment of known phones. Where a pause precedes a phone, its boundary is the phone's own start,
not the pause's. The start of the first phone and the end of the last are left out: for a model that labels silence they
are the edges of the recording, which every aligner gets right.

Letters: L phones of an utterance, K boundaries.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from asr.core.errors import AsrError

TOLERANCES_MS = (10, 20, 50)
EDGES_MS = tuple(range(-100, 101, 10))  # of the histogram's bins; errors beyond them go into the outermost bins
TIE = 1e-9  # seconds; an error equal to the tolerance is within it, whatever rounding does


class Timed(Protocol):
    """A phone with its start: an `asr.speech.segments.Segment`, or any object with these two attributes."""

    @property
    def label(self) -> str:
        """The phone's label."""

    @property
    def start(self) -> float:
        """Its start in seconds."""


def boundary_errors(reference: Sequence[Timed], hypothesis: Sequence[Timed]) -> np.ndarray:
    """Return the signed error in seconds of each boundary (L − 1,); positive where the hypothesis is late.

    Parameters
    ----------
    reference, hypothesis
        Phones with times; both have the same labels in the same order.

    Raises
    ------
    AsrError
        The labels differ. The error names the first phone where they do.

    Examples
    --------
    >>> from asr.speech.segments import Segment
    >>> truth = [Segment("HH", 0.0, 0.1), Segment("AY", 0.1, 0.3)]
    >>> boundary_errors(truth, [Segment("HH", 0.0, 0.12), Segment("AY", 0.12, 0.3)]).round(3)
    array([0.02])
    """
    labels, others = [phone.label for phone in reference], [phone.label for phone in hypothesis]
    if labels != others:
        place = next((i for i, pair in enumerate(zip(labels, others, strict=False)) if pair[0] != pair[1]), None)
        what = f"{len(labels)} and {len(others)} phones" if place is None else f"they differ at phone {place + 1}"
        raise AsrError(f"boundaries of different phones cannot be compared ({what}): align the reference's own labels")
    return np.array([found.start - true.start for true, found in zip(reference[1:], hypothesis[1:], strict=True)])


def fit_boundary_offset(true_starts: ArrayLike, found_starts: ArrayLike) -> float:
    """Return the seconds to add to found starts that make the median error 0: `Calibration.boundary_offset`.

    The found starts must come from `asr.models.times.phone_segments` without a waveform and without an offset. Every
    boundary then moves by the offset, so the median of the differences is the answer.

    Parameters
    ----------
    true_starts, found_starts : (K,)
        Starts of the same phones, in seconds.

    Examples
    --------
    >>> fit_boundary_offset([0.10, 0.20, 0.30], [0.09, 0.18, 0.27])
    0.02
    """
    lags = np.asarray(true_starts, float) - np.asarray(found_starts, float)
    return round(float(np.median(lags)), 4) if lags.size else 0.0


def summary(name: str, errors: Iterable[ArrayLike]) -> dict[str, Any]:
    """Summarise the boundary errors of a system.

    Parameters
    ----------
    name
        The system's name.
    errors
        The errors in each utterance in seconds, as `boundary_errors` returns them.

    Returns
    -------
    dict
        ``name``; ``within``: the percentage of boundaries whose error is at most 10, 20 and 50 ms; ``mean_ms`` and
        ``median_ms`` of the signed errors; ``histogram``: ``edges_ms`` and ``counts`` of signed errors;
        ``num_boundaries``. Percentages, mean and median are None without boundaries.

    Examples
    --------
    >>> row = summary("ours", [[0.004, -0.012], [0.060]])
    >>> {key: round(share, 1) for key, share in row["within"].items()}, row["median_ms"], row["num_boundaries"]
    ({'10': 33.3, '20': 66.7, '50': 66.7}, 4.0, 3)
    """
    every = np.concatenate([np.zeros(0), *(np.asarray(some, float) for some in errors)])
    counts, _ = np.histogram(np.clip(1000 * every, EDGES_MS[0], EDGES_MS[-1]), EDGES_MS)
    shares = {
        ms: float(100 * (np.abs(every) <= ms / 1000 + TIE).mean()) if every.size else None for ms in TOLERANCES_MS
    }
    return {
        "name": name,
        "within": {str(ms): None if share is None else round(share, 2) for ms, share in shares.items()},
        "mean_ms": round(float(1000 * every.mean()), 2) if every.size else None,
        "median_ms": round(float(1000 * np.median(every)), 2) if every.size else None,
        "histogram": {"edges_ms": [float(edge) for edge in EDGES_MS], "counts": counts.tolist()},
        "num_boundaries": int(every.size),
    }
