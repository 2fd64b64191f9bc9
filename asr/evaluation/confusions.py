"""Where the errors are: confusions of phones, errors by manner and place of articulation, errors in features.

``asr/speech/tables/articulation/phones.tsv`` has a line for each IPA symbol that `asr.speech.phones.ipa` gives:
manner, place, voicing, and the segments that stand for it among articulatory features (an affricate is one, a
diphthong two, a closure or a silence none). The vowel of "strut" counts as central, as English has it: foldings put the
schwa into it.
"""

import csv
import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources, util
from typing import Any

import numpy as np
from numba import njit

from asr.core.errors import AsrError
from asr.core.terminal import columns
from asr.speech import phones

Pairs = Sequence[tuple[str | None, str | None]]
GAP = "(nothing)"  # in tables, where a label is missing
MANNERS = [
    *("silence", "plosive", "affricate", "fricative", "nasal", "tap"),
    *("lateral approximant", "approximant", "vowel", "diphthong"),
]
PLACES = [  # from the lips inwards
    *("silence", "unspecified", "bilabial", "labiodental", "labial-velar", "dental", "alveolar", "postalveolar"),
    *("palatal", "velar", "glottal", "front vowel", "central vowel", "back vowel"),
]


@dataclass(frozen=True)
class Articulation:
    """How a phone is made; `segments` are its parts in IPA."""

    manner: str
    place: str
    voicing: str
    segments: tuple[str, ...]


@functools.cache
def articulations(phone_set: str) -> dict[str, Articulation]:
    """Return the articulation of every label of a phone set.

    Examples
    --------
    >>> articulations("arpabet39")["CH"]
    Articulation(manner='affricate', place='postalveolar', voicing='voiceless', segments=('t͡ʃ',))
    """
    text = resources.files("asr.speech").joinpath("tables", "articulation", "phones.tsv").read_text(encoding="utf8")
    rows = {row["ipa"]: row for row in csv.DictReader(text.splitlines(), delimiter="\t")}
    found = {}
    for label in phones.PhoneSet.load(phone_set).labels:
        row = rows[phones.ipa(label, phone_set)]
        found[label] = Articulation(row["manner"], row["place"], row["voicing"], tuple(row["segments"].split()))
    return found


@dataclass(frozen=True)
class Confusions:
    """What was recognised for each phone of a test set.

    Attributes
    ----------
    phone_set
        Name of the labels' set.
    labels
        Those that occur, ordered by manner, then by place.
    counts : (C, C)
        Reference labels in rows, recognised ones in columns.
    deletions, insertions : (C,)
        Of each label.
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
            Of each the pairs of `asr.evaluation.metrics.align`.
        phone_set
            Of the labels.

        Raises
        ------
        AsrError
            If a label is not in the set, or if there is no such set.

        Examples
        --------
        >>> found = Confusions.of([[("t", "d"), ("iy", None), (None, "s"), ("t", "t")]], "timit39")
        >>> found.labels, found.counts[1].tolist(), found.deletions.tolist()
        (('d', 't', 's', 'iy'), [1, 1, 0, 0], [0, 0, 0, 1])
        """
        made = articulations(phone_set)
        tally = Counter(pair for pairs in utterances for pair in pairs)
        used = {label for pair in tally for label in pair if label is not None}
        _check(used, phone_set)
        labels = sorted(used, key=lambda x: (MANNERS.index(made[x].manner), PLACES.index(made[x].place), x))
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
            Under ``manner`` and ``place`` a row for each class that occurs in the reference: ``group``; ``per``, the
            share of its phones that were substituted or deleted, in percent (an insertion belongs to no reference
            phone); ``num_phones``; ``most_confused_with``, the other class most often recognised in its place.

        Examples
        --------
        >>> Confusions.of([[("t", "d"), ("t", "s"), (None, "m")]], "timit39").by_class()["manner"]
        [{'group': 'plosive', 'per': 100.0, 'num_phones': 2, 'most_confused_with': 'fricative'}]
        """
        made = [articulations(self.phone_set)[label] for label in self.labels]
        return {
            "manner": self._classes([each.manner for each in made], MANNERS),
            "place": self._classes([each.place for each in made], PLACES),
        }

    def _classes(self, classes: Sequence[str], names: Sequence[str]) -> list[dict[str, Any]]:
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


def top(confusions: Mapping[str, Any], number: int) -> list[tuple[str | None, str | None, int]]:
    """Return the most frequent errors: reference, recognised and how often; None where one is missing.

    Parameters
    ----------
    confusions
        From `Confusions.to_json`.
    number
        At most so many.

    Examples
    --------
    >>> top(Confusions.of([[("t", "d"), ("t", "d"), ("iy", None)]], "timit39").to_json(), 1)
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
    return sorted(found, key=lambda error: (-error[2], error[0] or "", error[1] or ""))[:number]


def by_phone(confusions: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the errors of each label, in the order of the labels.

    Parameters
    ----------
    confusions
        From `Confusions.to_json`.

    Returns
    -------
    list of dict
        ``label``; ``num_phones``, how often the reference has it; ``substitutions`` and ``deletions`` of it, and
        ``per``, their share of it in percent (None where the reference never has it); ``insertions``, how often it
        was recognised where nothing was said.

    Examples
    --------
    >>> by_phone(Confusions.of([[("t", "t"), ("t", None), (None, "t")]], "timit39").to_json())
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


def table(confusions: Mapping[str, Any], number: int) -> str:
    """Return the most frequent errors, and below them the phones with most errors, as text tables.

    Parameters
    ----------
    confusions
        From `Confusions.to_json`.
    number
        At most so many lines in each.

    Examples
    --------
    >>> found = Confusions.of([[("t", "d"), ("t", "d"), ("t", "t"), (None, "iy")]], "timit39").to_json()
    >>> print(table(found, 1))
    reference  recognised  count  % of the phone
    t                   d      2            66.7
    <BLANKLINE>
    phone  in reference  sub  del  ins  PER %
    t                 3    2    0    0   66.7
    """
    phone_rows = by_phone(confusions)
    said = {row["label"]: row["num_phones"] for row in phone_rows}
    errors = [["reference", "recognised", "count", "% of the phone"]]
    for reference, hypothesis, count in top(confusions, number):
        share = "-" if reference is None else f"{100 * count / said[reference]:.1f}"
        errors.append([reference or GAP, hypothesis or GAP, f"{count:,}", share])
    worst = [["phone", "in reference", "sub", "del", "ins", "PER %"]]
    kinds = ("substitutions", "deletions", "insertions")
    for row in sorted(phone_rows, key=lambda row: -sum(row[kind] for kind in kinds))[:number]:
        rate = "-" if row["per"] is None else f"{row['per']:.1f}"
        worst.append([row["label"], f"{row['num_phones']:,}", *(f"{row[kind]:,}" for kind in kinds), rate])
    return f"{columns(errors)}\n\n{columns(worst)}"


def has_features() -> bool:
    """Tell whether panphon is installed, which `feature_error_rate` needs."""
    return util.find_spec("panphon") is not None


def feature_error_rate(
    references: Iterable[Sequence[str]], hypotheses: Iterable[Sequence[str]], phone_set: str
) -> float:
    """Phonetic feature error rate: what has to be changed in articulatory features, per reference segment.

    A substitution costs the share of panphon's 24 features that differ; an insertion or a deletion costs 1. Silences
    and closures are left out; an affricate is one segment, and the parts of a diphthong count one by one. Length is
    summed over the test set, as for phone error rates. Figures of other papers compare only where these choices are the
    same: some give the mean distance of an utterance, undivided.
    Source: D. R. Mortensen et al., "PanPhon: a resource for mapping IPA segments to articulatory feature vectors",
    COLING 2016 (the features; the distance is the package's ``hamming_feature_edit_distance``); as an error rate of
    recognisers, C. Taguchi et al., "Universal automatic phonetic transcription into the International Phonetic
    Alphabet", Interspeech 2023.

    Parameters
    ----------
    references, hypotheses
        Labels of as many utterances each.
    phone_set
        Of the labels.

    Returns
    -------
    float
        0 is perfect.

    Raises
    ------
    AsrError
        panphon is not installed, a label is not in the set, or the references have nothing but silence.
    ValueError
        If there are not as many hypotheses as references.
    """
    parts, costs = _features(phone_set)
    total, length = 0.0, 0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        _check({*reference, *hypothesis}, phone_set)
        one, other = (
            np.array([i for label in each for i in parts[label]], np.int64) for each in (reference, hypothesis)
        )
        total += _edit_distance(one, other, costs)
        length += len(one)
    if length == 0:
        raise AsrError("no feature error rate without reference phones other than silence")
    return total / length


def _check(labels: set[str], phone_set: str) -> None:
    unknown = sorted(labels - articulations(phone_set).keys())
    if unknown:
        raise AsrError(f"label {unknown[0]!r} is not in the phone set {phone_set}: fold the labels into it first")


@functools.cache
def _features(phone_set: str) -> tuple[dict[str, list[int]], np.ndarray]:
    """Return the numbers of each label's segments, and the cost of one segment for another (segments, segments)."""
    if not has_features():
        raise AsrError('the feature error rate needs panphon: in a checkout, pip install ".[pfer]"')
    import panphon  # slow to import

    made = articulations(phone_set)
    segments = sorted({segment for each in made.values() for segment in each.segments})
    table = panphon.FeatureTable()
    values = np.array([table.fts(segment).numeric() for segment in segments])  # (segments, 24): −1, 0 or 1
    costs = (values[:, None] != values).mean(axis=2)
    return {label: [segments.index(part) for part in each.segments] for label, each in made.items()}, costs


@njit(cache=True)
def _edit_distance(reference, hypothesis, costs):
    """Least cost of edits between two sequences of numbers, substitutions at costs[reference, hypothesis]."""
    row = np.arange(len(hypothesis) + 1.0)
    for r in reference:
        diagonal, row[0] = row[0], row[0] + 1
        for j, h in enumerate(hypothesis):
            best = min(row[j] + 1, row[j + 1] + 1, diagonal + costs[r, h])
            diagonal, row[j + 1] = row[j + 1], best
    return row[-1]
