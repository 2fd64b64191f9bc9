"""How far phone boundaries are from where they should be: share within a tolerance, mean and median, histogram.

A boundary is the start of each phone of an utterance but the first. Both sides have the same labels: an alignment of
known phones is judged, not a recognition. Where a pause goes before a phone, the phone's own start counts, not the
pause's. The start of the first phone and the end of the last are left out: with a model that labels silence they are
the edges of the recording, and no aligner could miss them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from asr.core.errors import AsrError
from asr.core.terminal import columns

TOLERANCES_MS = (10, 20, 50)
EDGES_MS = tuple(range(-100, 101, 10))  # of the histogram; what lies beyond is counted in the outermost bins
TIE = 1e-9  # seconds; an error of exactly the tolerance is within it


class Timed(Protocol):
    """What is compared: an `asr.speech.segments.Segment`, or anything with a label and a start."""

    @property
    def label(self) -> str:
        """A phone."""

    @property
    def start(self) -> float:
        """Seconds."""


def boundary_errors(reference: Sequence[Timed], hypothesis: Sequence[Timed]) -> np.ndarray:
    """Return the signed error in seconds of each boundary (L − 1,): positive where the hypothesis is late.

    Parameters
    ----------
    reference, hypothesis
        Phones with times, of the same labels in the same order.

    Raises
    ------
    AsrError
        The labels differ; the first place where they do is named.

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
    """Return the seconds to add to found starts so that the median error is 0: `Calibration.boundary_offset`.

    The found starts come from `asr.models.times.phone_segments` without the waveform and without an offset: then every
    boundary moves with the offset, so one pass finds it.

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


def report(name: str, errors: Iterable[ArrayLike]) -> dict[str, Any]:
    """Sum up the errors of a system.

    Parameters
    ----------
    name
        Of the system.
    errors
        Of each utterance what `boundary_errors` returns, in seconds.

    Returns
    -------
    dict
        ``name``; ``within``: percent of boundaries off by at most 10, 20 and 50 ms; ``mean_ms`` and ``median_ms`` of
        the signed errors; ``histogram``: ``edges_ms`` and ``counts`` of signed errors, those beyond the edges in the
        outermost bins; ``num_boundaries``. Shares, mean and median are None without boundaries.

    Examples
    --------
    >>> row = report("ours", [[0.004, -0.012], [0.060]])
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


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `report` as text, a line each.

    Examples
    --------
    >>> print(table([report("ours", [[0.004, -0.012, 0.060]])]))
    boundaries  ≤ 10 ms  ≤ 20 ms  ≤ 50 ms     mean  median  number
    ours         33.3 %   66.7 %   66.7 %  17.3 ms  4.0 ms       3
    """

    def cell(value: float | None, unit: str) -> str:
        return "–" if value is None else f"{value:.1f} {unit}"

    lines = [["boundaries", *(f"≤ {ms} ms" for ms in TOLERANCES_MS), "mean", "median", "number"]]
    for row in rows:
        shares = [cell(row["within"][str(ms)], "%") for ms in TOLERANCES_MS]
        lines.append(
            [
                row["name"],
                *shares,
                cell(row["mean_ms"], "ms"),
                cell(row["median_ms"], "ms"),
                f"{row['num_boundaries']:,}",
            ]
        )
    return columns(lines)
