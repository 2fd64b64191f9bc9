"""Scores of hypotheses against references, whoever made them, in every regime that their labels allow.

Every edit costs one, as in Kaldi's compute-wer, so that the rate is the lowest that any alignment gives. NIST's sclite
(2.10) aligns by other costs and counts the edits of that alignment: a substitution costs 4, an insertion or a deletion
3, and the deletion of an optional word 2, although it counts as no error. Three deletions and three insertions around
two correct labels (18) then win over five substitutions (20), although they are six errors. So sclite's total is never
below ours and may be above it. Measured with sclite on 1,000 synthetic pairs of 20 to 60 labels at each rate, and on
1,000 pairs of unrelated sequences of up to 30 of the same 39 labels:

================  ==============================  ================================
pairs             silence scored: sclite's, ours  silence forgiven: sclite's, ours
================  ==============================  ================================
a fifth wrong     19.24 %, 19.24 %                17.80 %, 17.79 %
two fifths wrong  37.55 %, 37.55 %                34.16 %, 34.10 %
unrelated         121.50 %, 121.20 %              119.97 %, 119.60 %
================  ==============================  ================================

The split of a total into substitutions, insertions and deletions differs more often, where alignments tie.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from asr.core.errors import AsrError
from asr.evaluation import confusions, metrics, regimes
from asr.speech import phones
from asr.speech.label_files import format_of, read_labels

Texts = Mapping[str, Sequence[str]]


def score_files(
    reference: Path,
    hypothesis: Path,
    phone_set: str | None = None,
    speakers: Path | None = None,
    file_format: str | None = None,
) -> dict[str, Any]:
    """Score a file of hypotheses.

    Parameters
    ----------
    reference, hypothesis
        Label files that `asr.speech.label_files.read_labels` reads: Kaldi text, sclite's .trn, CTM, TextGrid, JSON,
        plain text.
    phone_set
        The phone set of the labels in both files; by default, for each file, the smallest known set that has them all.
    speakers
        Kaldi's utt2spk: an utterance id and its speaker on each line. With it there are intervals by speaker too.
    file_format
        The format of both files, where their names do not tell.

    Returns
    -------
    dict
        ``phone_set`` of the reference and ``hypothesis_phone_set``, None where no known set has the labels;
        ``regimes``, as in docs/reference/evaluation.md; and, where the phone sets are known, ``confusions`` and
        ``classes``.

    Raises
    ------
    AsrError
        A file cannot be read, the files hold different utterances, or a label is not in the phone set; or only the
        reference's labels are in a known phone set, so that the two cannot be compared.
    """
    references, hypotheses = (read_labels(path, file_format) for path in (reference, hypothesis))
    if references and hypotheses and not references.keys() & hypotheses.keys():
        ours, theirs = min(references), min(hypotheses)
        raise AsrError(
            f"{hypothesis} and {reference} share no utterance: one has {theirs!r}, the other {ours!r}; name them alike"
        )
    if (file_format or format_of(hypothesis)) == "ctm":  # has no line for an utterance without labels
        hypotheses = {key: [] for key in references} | hypotheses
    sets = [phone_set or guess_phone_set(texts.values()) for texts in (references, hypotheses)]
    if sets[0] is not None and sets[1] is None:
        sets[1] = _reference_phone_set(sets[0], hypotheses, hypothesis)
    source = common_phone_set(*sets)
    if source is not None:
        references, hypotheses = (
            {key: phones.fold(labels, each or "", source) for key, labels in texts.items()}
            for texts, each in zip((references, hypotheses), sets, strict=True)
        )
    who = None if speakers is None else _read_speakers(speakers, references)
    rows = regime_rows(references, hypotheses, source, who)
    found = {"phone_set": sets[0], "hypothesis_phone_set": sets[1], "regimes": rows}
    if source is None:
        return found
    regime = regimes.for_labels(source)[0]
    pairs = [
        metrics.align(regime.fold(references[key], source), regime.fold(hypotheses[key], source)) for key in references
    ]
    counted = confusions.Confusions.of(pairs, regime.phone_set or "")
    return found | {"confusions": counted.to_json(), "classes": counted.by_class()}


def guess_phone_set(texts: Iterable[Sequence[str]]) -> str | None:
    """Return the name of the smallest phone set that has all labels; None where no set has them.

    >>> guess_phone_set([["HH", "AY"]]), guess_phone_set([["h#", "pcl"]]), guess_phone_set([["a"]])
    ('arpabet39', 'timit61', None)
    """
    used = {label for labels in texts for label in labels}
    sets = [phones.PhoneSet.load(name) for name in phones.names()]
    fitting = [each for each in sets if used <= set(each.labels)]
    return min(fitting, key=lambda each: (len(each.labels), each.name)).name if used and fitting else None


def _reference_phone_set(phone_set: str, hypotheses: Texts, path: Path) -> str:
    """Return the reference's phone set for hypotheses that have no label, and refuse those with unknown labels.

    If they were compared as they stand, a stressed vowel or a label for noise would count as a phone error.
    """
    all_labels = {label for name in phones.names() for label in phones.PhoneSet.load(name).labels}
    for known in (all_labels, set(phones.PhoneSet.load(phone_set).labels)):
        for key, labels in hypotheses.items():
            for label in labels:
                if label not in known:
                    raise AsrError(
                        f"{path}: {label!r} in utterance {key!r} is not in {phone_set}, the references' phone set: "
                        "write both in one set"
                    )
    return phone_set


def common_phone_set(one: str | None, other: str | None) -> str | None:
    """Return the largest phone set that both can be folded into; None unless both are known.

    >>> common_phone_set("timit61", "timit39"), common_phone_set("timit61", "arpabet39")
    ('timit39', 'arpabet39')
    """
    if one is None or other is None:
        return None
    if one == other or one.startswith("timit") != other.startswith("timit"):
        return one if one == other else "arpabet39"
    return min(one, other)  # timit39 < timit48 < timit61


def regime_rows(
    references: Texts,
    hypotheses: Texts,
    phone_set: str | None,
    speakers: Mapping[str, str] | None = None,
    scoring: str | None = None,
) -> list[dict[str, Any]]:
    """Score a test set in every regime that its labels allow.

    Parameters
    ----------
    references, hypotheses
        The labels of each utterance, in the phone set.
    phone_set
        Its name; None where it is not a known set.
    speakers
        The speaker of each utterance, for intervals by speaker.
    scoring
        The phone set of the headline.

    Returns
    -------
    list of dict
        The rows of ``regimes`` in docs/reference/evaluation.md, the headline first.

    Raises
    ------
    AsrError
        Utterances do not match, a label is not in the phone set, or there is nothing to score.
    """
    rows: list[dict[str, Any]] = []
    folded: dict[str | None, list[Texts]] = {}
    for regime in regimes.for_labels(phone_set, scoring):
        if regime.phone_set not in folded:
            folded[regime.phone_set] = [
                {key: regime.fold(labels, phone_set) for key, labels in texts.items()}
                for texts in (references, hypotheses)
            ]
        compared = [
            {key: regime.treat_silence(labels) for key, labels in texts.items()} for texts in folded[regime.phone_set]
        ]
        if rows and not any(compared[0].values()):
            continue  # the references are nothing but silence, which this regime leaves out
        result = metrics.score(compared[0], compared[1], speakers, regime.count)
        rows.append(_regime_row(regime, result, is_headline=not rows))
    return rows


def _regime_row(regime: regimes.Regime, result: metrics.Score, is_headline: bool) -> dict[str, Any]:
    return {
        "name": regime.name,
        "description": regime.description,
        "headline": is_headline,
        "per": _percent(result.rate),
        "interval": [_percent(bound) for bound in result.interval],
        "interval_speakers": result.interval_speakers and [_percent(x) for x in result.interval_speakers],
        "substitutions": result.counts.substitutions,
        "insertions": result.counts.insertions,
        "deletions": result.counts.deletions,
        "num_phones": result.counts.reference_length,
        "num_utterances": result.num_utterances,
    }


def headline(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the row whose rate is quoted for a system."""
    return next(row for row in rows if row["headline"])


def _percent(rate: float) -> float:
    return round(100 * rate, 2)


def _read_speakers(path: Path, references: Texts) -> dict[str, str]:
    """Read Kaldi's utt2spk, which must have each utterance of the references."""
    who = {key: labels[0] for key, labels in read_labels(path, "kaldi").items() if len(labels) == 1}
    missing = sorted(references.keys() - who.keys())
    if missing:
        raise AsrError(
            f"{path} names no speaker for {missing[0]!r} ({len(missing)} lack one): a line is 'UTTERANCE SPEAKER'"
        )
    return who
