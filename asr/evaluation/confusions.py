"""Confusions of phones, errors by manner and place of articulation, and errors in articulatory features.

Manner and place of a phone, and the segments whose articulatory features describe it (one for an affricate, two for a
diphthong, none for a closure or a silence), are those of `asr.speech.articulation`. Characters have none of these.

Letters: C labels.
"""

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.core.errors import AsrError
from asr.evaluation.metrics import Pairs
from asr.speech import articulatory_features, phones
from asr.speech.articulation import MANNERS, PLACES, articulations


@dataclass(frozen=True)
class Confusions:
    """What was recognised for each phone of a test set.

    Attributes
    ----------
    phone_set
        Name of the labels' set.
    labels
        The labels that occur, ordered by manner, then by place.
    counts : (C, C)
        Reference labels in rows, recognised labels in columns.
    deletions, insertions : (C,)
        How often each label was deleted and inserted.
    """

    phone_set: str
    labels: tuple[str, ...]
    counts: np.ndarray
    deletions: np.ndarray
    insertions: np.ndarray

    @classmethod
    def of(cls, utterances: Iterable[Pairs], phone_set: str) -> "Confusions":
        """Count aligned labels.

        Parameters
        ----------
        utterances
            The aligned labels of each utterance, as `asr.evaluation.metrics.align` returns them.
        phone_set
            The name of the labels' set.

        Raises
        ------
        AsrError
            A label is not in the set, or there is no such set.

        Examples
        --------
        >>> found = Confusions.of([[("t", "d"), ("iy", None), (None, "s"), ("t", "t")]], "timit39")
        >>> found.labels, found.counts[1].tolist(), found.deletions.tolist()
        (('d', 't', 's', 'iy'), [1, 1, 0, 0], [0, 0, 0, 1])
        """
        tally = Counter((reference, hypothesis) for pairs in utterances for reference, hypothesis in pairs)
        used = {label for pair in tally for label in pair if label is not None}
        if phones.is_characters(phone_set):
            labels = sorted(used)
        else:
            _check_labels(used, phone_set)
            labels = _ordered(used, phone_set)
        number = {label: i for i, label in enumerate(labels)}
        counts = np.zeros((len(labels) + 1, len(labels) + 1), np.int64)  # the last row and column are the gaps
        for (reference, hypothesis), count in tally.items():
            counts[number.get(reference or "", -1), number.get(hypothesis or "", -1)] += count
        return cls(phone_set, tuple(labels), counts[:-1, :-1], counts[:-1, -1], counts[-1, :-1])

    def to_json(self) -> dict[str, Any]:
        """Return plain lists: ``labels``, ``counts``, ``deletions`` and ``insertions``."""
        return {
            "labels": list(self.labels),
            "counts": self.counts.tolist(),
            "deletions": self.deletions.tolist(),
            "insertions": self.insertions.tolist(),
        }

    def by_class(self) -> dict[str, list[dict[str, Any]]]:
        """Return the errors by manner and by place of articulation.

        Returns
        -------
        dict
            ``manner`` and ``place``: each a list with a row for each class that occurs in the reference. A row has
            ``group``; ``per``, the percentage of its phones that were substituted or deleted (an insertion belongs to
            no reference phone); ``num_phones``; ``most_confused_with``, the class that was most often recognised
            instead. Characters have no rows.

        Examples
        --------
        >>> Confusions.of([[("t", "d"), ("t", "s"), (None, "m")]], "timit39").by_class()["manner"]
        [{'group': 'plosive', 'per': 100.0, 'num_phones': 2, 'most_confused_with': 'fricative'}]
        """
        if phones.is_characters(self.phone_set):
            return {"manner": [], "place": []}
        articulated = [articulations(self.phone_set)[label] for label in self.labels]
        return {
            "manner": self._class_rows([each.manner for each in articulated], MANNERS),
            "place": self._class_rows([each.place for each in articulated], PLACES),
        }

    def _class_rows(self, classes: Sequence[str], names: Sequence[str]) -> list[dict[str, Any]]:
        """Return a row for each class of `names` that occurs, given the class of each label."""
        member = (np.array(names)[:, None] == np.array(classes, str)).astype(np.int64)  # (classes, labels)
        between = member @ self.counts @ member.T
        total = member @ (self.counts.sum(axis=1) + self.deletions)
        right = member @ np.diag(self.counts)
        rows = []
        for i, name in enumerate(names):
            if total[i] == 0:
                continue
            others = np.where(np.arange(len(names)) == i, 0, between[i])
            rows.append(
                {
                    "group": name,
                    "per": round(100 * (1 - float(right[i] / total[i])), 2),
                    "num_phones": int(total[i]),
                    "most_confused_with": names[int(others.argmax())] if others.any() else None,
                }
            )
        return rows


def _ordered(labels: Iterable[str], phone_set: str) -> list[str]:
    """Sort labels by manner of articulation, then by place, then by name."""
    of_label = articulations(phone_set)
    return sorted(labels, key=lambda x: (MANNERS.index(of_label[x].manner), PLACES.index(of_label[x].place), x))


def most_frequent(confusions: Mapping[str, Any], limit: int) -> list[tuple[str | None, str | None, int]]:
    """Return the most frequent errors: reference label, recognised label, count. None stands for a missing label.

    Parameters
    ----------
    confusions
        From `Confusions.to_json`.
    limit
        The most errors to return.

    Examples
    --------
    >>> most_frequent(Confusions.of([[("t", "d"), ("t", "d"), ("iy", None)]], "timit39").to_json(), 1)
    [('t', 'd', 2)]
    """
    labels = confusions["labels"]
    errors: list[tuple[str | None, str | None, int]] = [
        (reference, labels[j], count)
        for reference, row in zip(labels, confusions["counts"], strict=True)
        for j, count in enumerate(row)
        if reference != labels[j]
    ]
    errors += [(label, None, count) for label, count in zip(labels, confusions["deletions"], strict=True)]
    errors += [(None, label, count) for label, count in zip(labels, confusions["insertions"], strict=True)]
    found = [error for error in errors if error[2] > 0]
    return sorted(found, key=lambda error: (-error[2], error[0] or "", error[1] or ""))[:limit]


def phone_rows(confusions: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the errors of each label, in the order of the labels.

    Parameters
    ----------
    confusions
        From `Confusions.to_json`.

    Returns
    -------
    list of dict
        ``label``; ``num_phones``, how often it is in the reference; ``substitutions`` and ``deletions`` of it;
        ``per``, their sum in percent of ``num_phones`` (None where that is 0); ``insertions``, how often it was
        recognised where nothing was said.

    Examples
    --------
    >>> phone_rows(Confusions.of([[("t", "t"), ("t", None), (None, "t")]], "timit39").to_json())
    [{'label': 't', 'num_phones': 2, 'substitutions': 0, 'deletions': 1, 'insertions': 1, 'per': 50.0}]
    """
    rows = []
    for i, label in enumerate(confusions["labels"]):
        heard, deletions = sum(confusions["counts"][i]), confusions["deletions"][i]
        substitutions, num_phones = heard - confusions["counts"][i][i], heard + deletions
        rows.append(
            {
                "label": label,
                "num_phones": num_phones,
                "substitutions": substitutions,
                "deletions": deletions,
                "insertions": confusions["insertions"][i],
                "per": round(100 * (substitutions + deletions) / num_phones, 2) if num_phones else None,
            }
        )
    return rows


def feature_error_rate(
    references: Iterable[Sequence[str]], hypotheses: Iterable[Sequence[str]], phone_set: str
) -> float:
    """Return the phonetic feature error rate: the cost of edits in articulatory features, per reference segment.

    A substitution costs the share of panphon's 24 features that differ; an insertion or a deletion costs 1. Silences
    and closures are left out; an affricate is one segment, and a diphthong is two. Costs and segments are summed over
    the test set, as for phone error rates. Published figures are comparable only where these choices are the same: some
    papers give the mean cost of an utterance instead of a rate.
    Source: D. R. Mortensen et al., "PanPhon: a resource for mapping IPA segments to articulatory feature vectors",
    COLING 2016 (the features; the distance is the package's ``hamming_feature_edit_distance``); as an error rate of
    recognisers, C. Taguchi et al., "Universal automatic phonetic transcription into the International Phonetic
    Alphabet", Interspeech 2023.

    Parameters
    ----------
    references, hypotheses
        The labels of each utterance.
    phone_set
        The name of the labels' set.

    Returns
    -------
    float
        0 is perfect.

    Raises
    ------
    AsrError
        panphon is not installed, a label is not in the set, or the references hold nothing but silence.
    ValueError
        There are not as many hypotheses as references.
    """
    parts, costs = _segment_costs(phone_set)
    total, length = 0.0, 0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        _check_labels({*reference, *hypothesis}, phone_set)
        one, other = (
            np.array([i for label in each for i in parts[label]], np.int64) for each in (reference, hypothesis)
        )
        total += articulatory_features.edit_distance(one, other, costs)
        length += len(one)
    if length == 0:
        raise AsrError("no feature error rate without reference phones other than silence")
    return total / length


def _check_labels(labels: set[str], phone_set: str) -> None:
    unknown = sorted(labels - articulations(phone_set).keys())
    if unknown:
        raise AsrError(f"label {unknown[0]!r} is not in the phone set {phone_set}: fold the labels into it first")


@functools.cache
def _segment_costs(phone_set: str) -> tuple[dict[str, list[int]], np.ndarray]:
    """Return the indices of each label's segments, and the cost of each substitution (segments, segments)."""
    segments_of = {label: each.segments for label, each in articulations(phone_set).items()}
    segments = sorted({segment for parts in segments_of.values() for segment in parts})
    found = {label: [segments.index(part) for part in parts] for label, parts in segments_of.items()}
    return found, articulatory_features.costs(segments)
