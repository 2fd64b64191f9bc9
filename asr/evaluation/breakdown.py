"""Where the errors of a recognised test set are: by speaker, age and length, by phone, by confidence, by utterance.

The result is the dictionary that `asr evaluate` writes as JSON and the report shows; docs/reference/evaluation.md
documents every key of it. Nothing here needs audio or a network.

Letters: N recognised phones.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from asr.evaluation import confusions, metrics, reliability
from asr.evaluation.metrics import ErrorCounts, Pairs, aligned_errors
from asr.models.calibration import Calibration
from asr.speech import articulatory_features, phones
from asr.speech.segments import Segment

LENGTHS = (0, 2, 4, 8, 16, np.inf)  # seconds: edges of the groups by length
AGES = (0, 10, 20, 30, 40, 50, 60, np.inf)
ADULT = 16  # years


@dataclass(frozen=True)
class ScoredUtterance:
    """One utterance of a test set: what was said beside what was recognised.

    Attributes
    ----------
    id, speaker, text
        As the corpus has them.
    gender, age
        None where the corpus does not tell.
    duration
        Seconds.
    reference
        The phones said, in the model's phone set.
    times
        The phones said with their times, in the corpus's phone set; empty where the corpus has no times.
    hypothesis
        The phones recognised, in the model's phone set; their confidences are the network's posteriors.
    """

    id: str
    speaker: str
    text: str
    gender: str | None
    age: float | None
    duration: float
    reference: list[str]
    times: list[Segment]
    hypothesis: list[Segment]

    @property
    def labels(self) -> list[str]:
        """Labels of the hypothesis."""
        return [segment.label for segment in self.hypothesis]


def analyse(utterances: Sequence[ScoredUtterance], labels: str, scoring: str, fitted: Calibration) -> dict[str, Any]:
    """Count the errors of a test set by group, by phone, by class of phones, by confidence and by utterance.

    Parameters
    ----------
    utterances
        The test set.
    labels
        The model's phone set.
    scoring
        The phone set in which errors are counted.
    fitted
        The model's calibration.

    Returns
    -------
    dict
        ``scoring``, ``groups``, ``confusions``, ``classes``, ``pfer``, ``calibration`` and ``utterances``.
    """
    pairs = [align(each, labels, scoring) for each in utterances]
    counted = confusions.Confusions.of(pairs, scoring)
    return {
        "scoring": phones.title(scoring),
        "groups": groups(utterances, pairs),
        "confusions": counted.to_json(),
        "classes": counted.by_class(),
        "pfer": _feature_error_percent(pairs, scoring),
        "calibration": _calibration_summary(utterances, pairs, labels, scoring, fitted),
        "utterances": [_utterance_row(each, its, fitted) for each, its in zip(utterances, pairs, strict=True)],
    }


def _feature_error_percent(utterances: Sequence[Pairs], scoring: str) -> float | None:
    """Return the phonetic feature error rate in percent; None where panphon is missing or nothing was said."""
    references = [[reference for reference, _ in pairs if reference is not None] for pairs in utterances]
    hypotheses = [[hypothesis for _, hypothesis in pairs if hypothesis is not None] for pairs in utterances]
    if phones.is_characters(scoring) or not articulatory_features.are_installed():
        return None
    articulations = confusions.articulations(scoring)
    if not any(articulations[label].segments for labels in references for label in labels):
        return None
    return round(100 * confusions.feature_error_rate(references, hypotheses, scoring), 2)


def align(utterance: ScoredUtterance, labels: str, scoring: str) -> list[tuple[str | None, str | None]]:
    """Fold reference and hypothesis into the phone set of scoring, and pair them at the least edit distance."""
    reference, hypothesis = (phones.fold(each, labels, scoring) for each in (utterance.reference, utterance.labels))
    return metrics.align(reference, hypothesis)


def groups(utterances: Sequence[ScoredUtterance], pairs: Sequence[Pairs]) -> dict[str, list[dict[str, Any]]]:
    """Count the errors by speaker, by gender, of children and adults, by age and by length.

    Parameters
    ----------
    utterances
        The test set.
    pairs
        The aligned labels of each utterance.

    Returns
    -------
    dict
        ``speaker``, ``gender``, ``children``, ``age`` and ``length``: each a list of rows with ``group``, ``per`` in
        percent, ``num_phones`` and ``num_utterances``. What the corpus does not tell is left out.
    """
    group_of: dict[str, Callable[[ScoredUtterance], str | None]] = {
        "speaker": lambda each: each.speaker,
        "gender": lambda each: {"f": "female", "m": "male"}.get(each.gender or "", each.gender),
        "children": lambda each: None if each.age is None else "children" if each.age < ADULT else "adults",
        "age": lambda each: None if each.age is None else _range(each.age, AGES, "years"),
        "length": lambda each: _range(each.duration, LENGTHS, "s"),
    }
    counts = [aligned_errors(each) for each in pairs]
    found = {name: _group_rows([find(each) for each in utterances], counts) for name, find in group_of.items()}
    return {name: rows for name, rows in found.items() if rows}


def _group_rows(names: Sequence[str | None], counts: Sequence[ErrorCounts]) -> list[dict[str, Any]]:
    """Return a row for each group that has phones, given each utterance's group and errors."""
    members: dict[str, list[ErrorCounts]] = defaultdict(list)
    for name, errors in zip(names, counts, strict=True):
        if name is not None:
            members[name].append(errors)
    totals = {name: sum(members[name], ErrorCounts()) for name in sorted(members, key=_number_first)}
    return [
        {
            "group": name,
            "per": _percent(total),
            "num_phones": total.reference_length,
            "num_utterances": len(members[name]),
        }
        for name, total in totals.items()
        if total.reference_length
    ]


def _range(value: float, edges: Sequence[float], unit: str) -> str:
    """Name the range that a value lies in.

    >>> _range(2.0, LENGTHS, "s"), _range(70, AGES, "years")
    ('2 - 4 s', '60 years and more')
    """
    i = int(np.searchsorted(edges, value, side="right")) - 1
    if np.isinf(edges[i + 1]):
        return f"{edges[i]} {unit} and more"
    return f"{edges[i]} - {edges[i + 1]} {unit}"


def _number_first(group: str) -> tuple[float, str]:
    """Return a sort key that puts groups in the order of the number that their names begin with."""
    first = group.split(" ")[0]
    return (float(first) if first.isdigit() else np.inf, group)


def _percent(counts: ErrorCounts) -> float:
    return round(100 * counts.rate, 2)


def _calibration_summary(
    utterances: Sequence[ScoredUtterance], pairs: Sequence[Pairs], labels: str, scoring: str, fitted: Calibration
) -> dict[str, Any] | None:
    raw, correct = scored_confidences(utterances, pairs, labels, scoring)
    return reliability.summary(raw, fitted.confidence(raw), correct)


def scored_confidences(
    utterances: Sequence[ScoredUtterance], pairs: Sequence[Pairs], labels: str, scoring: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the posterior of each recognised phone that is scored (N,), and whether the phone is right (N,)."""
    raw: list[float] = []
    correct: list[bool] = []
    for utterance, its in zip(utterances, pairs, strict=True):
        raw += reliability.fold_confidences(utterance.labels, _posteriors(utterance), labels, scoring)[1]
        correct += reliability.correctness(its)
    return np.array(raw), np.array(correct, bool)


def _posteriors(utterance: ScoredUtterance) -> list[float]:
    return [float(segment.confidence or 0) for segment in utterance.hypothesis]


def _utterance_row(utterance: ScoredUtterance, pairs: Pairs, fitted: Calibration) -> dict[str, Any]:
    """Return what the report shows of an utterance."""
    counts = aligned_errors(pairs)
    confidences = fitted.confidence(np.array(_posteriors(utterance)))
    hypothesis = [
        replace(segment, confidence=round(float(value), 3))
        for segment, value in zip(utterance.hypothesis, confidences, strict=True)
    ]
    return {
        "id": utterance.id,
        "speaker": utterance.speaker,
        "gender": utterance.gender,
        "age": utterance.age,
        "duration": round(utterance.duration, 3),
        "text": utterance.text,
        "per": _percent(counts) if counts.reference_length else None,
        "pairs": [list(pair) for pair in pairs],
        "reference": [{"label": each.label, "start": each.start, "end": each.end} for each in utterance.times],
        "hypothesis": [asdict(each) for each in hypothesis],
    }
