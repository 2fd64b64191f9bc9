"""A recognised test set becomes the dictionary that `asr evaluate` writes as JSON and the report shows.

docs/reference/evaluation.md documents every key of it.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from asr.evaluation import confusions, metrics, reliability
from asr.evaluation.metrics import ErrorCounts
from asr.models.calibration import Calibration
from asr.speech import phones
from asr.speech.segments import Segment

LENGTHS = (0, 2, 4, 8, 16, np.inf)  # seconds: edges of the groups by length
AGES = (0, 10, 20, 30, 40, 50, 60, np.inf)
ADULT = 16  # years


@dataclass(frozen=True)
class Utterance:
    """One utterance of a test set and what was recognised in it.

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
        The same with their times, where the corpus has them, in the corpus's phone set; else empty.
    hypothesis
        The phones recognised, in the model's phone set; the confidence is the network's posterior.
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


def analyse(utterances: Sequence[Utterance], labels: str, scoring: str, fitted: Calibration) -> dict[str, Any]:
    """Count a test set's errors in every way of docs/reference/evaluation.md that needs no audio and no posteriors.

    Parameters
    ----------
    utterances
        The test set.
    labels, scoring
        The model's phone set, and the one that its headline rate is counted in.
    fitted
        The model's calibration.

    Returns
    -------
    dict
        ``scoring``, ``groups``, ``confusions``, ``classes``, ``pfer``, ``calibration`` and ``utterances``.
    """
    pairs = {each.id: align(each, labels, scoring) for each in utterances}
    counted = confusions.Confusions.of(pairs.values(), scoring)
    return {
        "scoring": scoring,
        "groups": groups(utterances, pairs),
        "confusions": counted.to_json(),
        "classes": counted.by_class(),
        "pfer": _feature_errors(list(pairs.values()), scoring),
        "calibration": _calibration(utterances, pairs, labels, scoring, fitted),
        "utterances": [_row(each, pairs[each.id], fitted) for each in utterances],
    }


def _feature_errors(utterances: Sequence[confusions.Pairs], scoring: str) -> float | None:
    """Return the phonetic feature error rate in percent, where panphon is installed."""
    references = [[reference for reference, _ in pairs if reference is not None] for pairs in utterances]
    hypotheses = [[hypothesis for _, hypothesis in pairs if hypothesis is not None] for pairs in utterances]
    made = confusions.articulations(scoring)
    spoken = any(made[label].segments for labels in references for label in labels)
    if not spoken or not confusions.has_features():
        return None
    return round(100 * confusions.feature_error_rate(references, hypotheses, scoring), 2)


def align(utterance: Utterance, labels: str, scoring: str) -> list[tuple[str | None, str | None]]:
    """Pair reference and hypothesis, folded for scoring, at the least edit distance."""
    both = (phones.fold(each, labels, scoring) for each in (utterance.reference, utterance.labels))
    return metrics.align(*both)


def count(pairs: Sequence[Sequence[str | None]]) -> ErrorCounts:
    """Count the errors in aligned labels.

    >>> count([("t", "d"), (None, "s"), ("iy", "iy")])
    ErrorCounts(substitutions=1, insertions=1, deletions=0, reference_length=2)
    """
    insertions = sum(reference is None for reference, _ in pairs)
    deletions = sum(hypothesis is None for _, hypothesis in pairs)
    different = sum(reference != hypothesis for reference, hypothesis in pairs)
    return ErrorCounts(different - insertions - deletions, insertions, deletions, len(pairs) - insertions)


def groups(utterances: Sequence[Utterance], pairs: Mapping[str, Sequence]) -> dict[str, list[dict[str, Any]]]:
    """Break a test set down by speaker, gender, children and adults, age and length.

    Returns
    -------
    dict
        Under each of these, rows with ``group``, ``per`` in percent, ``num_phones`` and ``num_utterances``; what the
        corpus does not tell is left out.
    """
    ways: dict[str, Callable[[Utterance], str | None]] = {
        "speaker": lambda each: each.speaker,
        "gender": lambda each: {"f": "female", "m": "male"}.get(each.gender or "", each.gender),
        "children": lambda each: None if each.age is None else "children" if each.age < ADULT else "adults",
        "age": lambda each: None if each.age is None else _range(each.age, AGES, "years"),
        "length": lambda each: _range(each.duration, LENGTHS, "s"),
    }
    found = {}
    for name, group_of in ways.items():
        members: dict[str, list[ErrorCounts]] = defaultdict(list)
        for each in utterances:
            group = group_of(each)
            if group is not None:
                members[group].append(count(pairs[each.id]))
        totals = {group: sum(counts, ErrorCounts()) for group, counts in sorted(members.items(), key=_number_first)}
        found[name] = [
            {
                "group": group,
                "per": _percent(total),
                "num_phones": total.reference_length,
                "num_utterances": len(members[group]),
            }
            for group, total in totals.items()
            if total.reference_length
        ]
    return {name: rows for name, rows in found.items() if rows}


def _range(value: float, edges: Sequence[float], unit: str) -> str:
    """Name the range that a value lies in.

    >>> _range(2.0, LENGTHS, "s"), _range(70, AGES, "years")
    ('2 - 4 s', '60 years and more')
    """
    i = int(np.searchsorted(edges, value, side="right")) - 1
    if np.isinf(edges[i + 1]):
        return f"{edges[i]} {unit} and more"
    return f"{edges[i]} - {edges[i + 1]} {unit}"


def _number_first(item: tuple[str, Any]) -> tuple[float, str]:
    first = item[0].split(" ")[0]
    return (float(first) if first.isdigit() else np.inf, item[0])


def _percent(counts: ErrorCounts) -> float:
    return round(100 * counts.rate, 2)


def _calibration(
    utterances: Sequence[Utterance], pairs: Mapping[str, Sequence], labels: str, scoring: str, fitted: Calibration
) -> dict[str, Any] | None:
    raw, correct = scored_confidences(utterances, pairs, labels, scoring)
    return reliability.evaluation(raw, fitted.confidence(raw), correct)


def scored_confidences(
    utterances: Sequence[Utterance], pairs: Mapping[str, Sequence], labels: str, scoring: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the posterior of every recognised phone that is scored (N,), and whether it is right (N,)."""
    raw: list[float] = []
    correct: list[bool] = []
    for each in utterances:
        posteriors = [float(segment.confidence or 0) for segment in each.hypothesis]
        raw += reliability.fold_confidences(each.labels, posteriors, labels, scoring)[1]
        correct += reliability.correctness(pairs[each.id])
    return np.array(raw), np.array(correct, bool)


def _row(utterance: Utterance, pairs: Sequence[tuple[str | None, str | None]], fitted: Calibration) -> dict[str, Any]:
    counts = count(pairs)
    sure = fitted.confidence(np.array([float(segment.confidence or 0) for segment in utterance.hypothesis]))
    hypothesis = [
        replace(segment, confidence=round(float(value), 3))
        for segment, value in zip(utterance.hypothesis, sure, strict=True)
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
