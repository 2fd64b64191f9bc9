"""Distances between phones in the articulatory features of panphon, an optional package.

Source: D. R. Mortensen et al., "PanPhon: a resource for mapping IPA segments to articulatory feature vectors",
COLING 2016. The distance is the package's ``hamming_feature_edit_distance``.

Letters: S segments.
"""

import functools
from collections.abc import Iterable, Sequence
from importlib import util
from typing import Any

import numpy as np

from asr.core.errors import AsrError
from asr.core.jit import njit
from asr.speech.articulation import articulation
from asr.speech.ipa import is_phone


def are_installed() -> bool:
    """Tell whether panphon is installed, which all other functions but `edit_distance` need."""
    return util.find_spec("panphon") is not None


def costs(segments: Sequence[str]) -> np.ndarray:
    """Return the cost of each substitution, the share of panphon's 24 features that differ.

    Parameters
    ----------
    segments : (S,)
        In IPA, as `asr.speech.articulation.articulation` parts phones.

    Returns
    -------
    (S, S)
        0 where no feature differs.

    Raises
    ------
    AsrError
        panphon is not installed.
    """
    values = np.array([_features(segment) for segment in segments]).reshape(len(segments), -1)  # (S, 24): −1, 0 or 1
    return (values[:, None] != values).mean(axis=2)


@functools.cache
def _table() -> Any:
    if not are_installed():
        raise AsrError('the feature error rate needs panphon: in a checkout, pip install ".[pfer]"')
    import panphon  # slow to import

    return panphon.FeatureTable()


@functools.cache
def _features(segment: str) -> list[int]:
    """Return panphon's features of a segment: of its letter if it does not know a diacritic, and else of nothing."""
    known = _table().fts(segment) or _table().fts(segment[0])
    return known.numeric() if known else [0] * len(_table().names)


@njit(cache=True)
def edit_distance(reference, hypothesis, costs):
    """Return the least cost of edits between two sequences of numbers.

    Substitutions cost ``costs[reference, hypothesis]``, insertions and deletions 1.
    """
    row = np.arange(len(hypothesis) + 1.0)
    for r in reference:
        diagonal, row[0] = row[0], row[0] + 1
        for j, h in enumerate(hypothesis):
            best = min(row[j] + 1, row[j + 1] + 1, diagonal + costs[r, h])
            diagonal, row[j + 1] = row[j + 1], best
    return row[-1]


def nearest(phone: str, among: Iterable[str]) -> str | None:
    """Return the phone of a set that is articulated most like another; of several the first.

    A phone whose articulation is not known is like none, and none is like it. Tones count for nothing.

    Parameters
    ----------
    phone, among
        In IPA.

    Raises
    ------
    AsrError
        panphon is not installed.

    Examples
    --------
    >>> nearest("aː˥˩", ["i", "a", "u"]), nearest("x", ["k", "ʃ", "h"]), nearest("#", ["k"])
    ('a', 'k', None)
    """
    known = {each: _segments(each) for each in among}
    own, others = _segments(phone), {each: parts for each, parts in known.items() if parts}
    if not own or not others:
        return None
    segments = sorted({part for parts in (own, *others.values()) for part in parts})
    place, between = {part: i for i, part in enumerate(segments)}, costs(segments)

    def distance(other: str) -> float:
        one, two = (np.array([place[part] for part in parts]) for parts in (own, others[other]))
        return float(edit_distance(one, two, between))

    return min(others, key=distance)


def _segments(phone: str) -> tuple[str, ...]:
    """Return the segments of a phone; none if its articulation is not known, or it is no one phone."""
    found = articulation(phone)
    return found.segments if found.manner != "unspecified" and is_phone(phone) else ()
