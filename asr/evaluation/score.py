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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asr.core.errors import AsrError
from asr.evaluation import confusions, metrics, regimes
from asr.speech import label_formats, phones
from asr.speech.label_files import read_labels
from asr.speech.label_spellings import ARPABET, Spelling, recognise

SIDES = ("references", "hypotheses")
RATES = {
    "phones": ("per", "num_phones"),
    "words": ("wer", "num_words"),
    "labels": ("ler", "num_labels"),
}  # keys of rows

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
        Label files or folders that `asr.speech.label_files.read_labels` reads: what `asr transcribe` and `asr align`
        write, Kaldi text, sclite's .trn, CTM, TextGrids, plain text.
    phone_set
        The phone set of the labels in both files; by default, for each file, the smallest known set that has them all.
    speakers
        Kaldi's utt2spk: an utterance id and its speaker on each line. With it there are intervals by speaker too.
    file_format
        The format of both files, where their names do not tell.

    Returns
    -------
    dict
        ``phone_set`` of the reference and ``hypothesis_phone_set``, None where no known set has the labels; ``notes``,
        what was done with labels and names before they were compared, a line each; ``regimes``, as in
        docs/reference/evaluation.md; and, where the phone sets are known, ``confusions`` and ``classes``.

    Raises
    ------
    AsrError
        A file cannot be read, the files hold different utterances, or a label is not in the phone set; or only the
        labels of one are in a known phone set, so that the two cannot be compared.
    """
    sides = _paired([_read(name, path, file_format) for name, path in zip(SIDES, (reference, hypothesis), strict=True)])
    sides = [_in_set(side, phone_set) for side in sides] if phone_set else _in_known_sets(sides)
    references, hypotheses = (side.texts for side in sides)
    if references and hypotheses and not references.keys() & hypotheses.keys():
        ours, theirs = min(references), min(hypotheses)
        raise AsrError(
            f"{hypothesis} and {reference} share no utterance: one has {theirs!r}, the other {ours!r}; name them alike"
        )
    if sides[1].file_format == "ctm":  # has no line for an utterance without labels
        hypotheses = {key: [] for key in references} | {**hypotheses}
    sets = [side.phone_set for side in sides]
    source = common_phone_set(*sets)
    if source is not None:
        references, hypotheses = (
            {key: phones.fold(labels, each or "", source) for key, labels in texts.items()}
            for texts, each in zip((references, hypotheses), sets, strict=True)
        )
    who = None if speakers is None else _read_speakers(speakers, references)
    unit = "phones" if source else _unit(references.values())
    rows = regime_rows(references, hypotheses, source, who, unit=unit)
    notes = [f"{side.name}: {note}" for side in sides for note in side.notes]
    found = {"phone_set": sets[0], "hypothesis_phone_set": sets[1], "notes": notes, "regimes": rows}
    if source is None:
        return found
    regime = regimes.for_labels(source)[0]
    pairs = [
        metrics.align(regime.fold(references[key], source), regime.fold(hypotheses[key], source)) for key in references
    ]
    counted = confusions.Confusions.of(pairs, regime.phone_set or "")
    return found | {"confusions": counted.to_json(), "classes": counted.by_class()}


@dataclass(frozen=True)
class _Side:
    """References or hypotheses: their labels by utterance, and what was done with them."""

    name: str
    path: Path
    file_format: str
    texts: Texts
    phone_set: str | None = None
    notes: tuple[str, ...] = ()

    def noted(self, *notes: str) -> "_Side":
        return replace(self, notes=(*self.notes, *filter(None, notes)))

    def respelt(self, spelling: Spelling, phone_set: str | None = None) -> "_Side":
        """Return the side with its labels as the tables write them."""
        note = spelling.note(self.texts)
        texts = {key: [new for x in labels for new in spelling.respell(x)] for key, labels in self.texts.items()}
        return replace(self, texts=texts, phone_set=phone_set).noted(note)


def _unit(texts: Iterable[Sequence[str]]) -> str:
    """Tell words from labels of a phone set that is not known, which are short.

    >>> _unit([["the", "cat", "sat"]]), _unit([["pʲ", "aː", "t"]]), _unit([["spn", "HH", "AH"]])
    ('words', 'labels', 'labels')
    """
    used = {label for labels in texts for label in labels}
    return "words" if recognise([[*used]]) is None and sum(map(len, used)) > 2 * len(used) else "labels"


def _read(name: str, path: Path, file_format: str | None) -> _Side:
    """Read one side; where neither the suffix nor the command names the format, a note does."""
    known = file_format or label_formats.format_of(path)
    side = _Side(name, path, known, read_labels(path, known))
    is_guess = file_format is None and path.is_file() and label_formats.format_of_suffix(path) is None
    if is_guess and known != "kaldi":
        other = "lines without names; --format kaldi takes the first label for one" if known == "plain" else known
        return side.noted(f"read as {other}")
    return side


def _paired(sides: list[_Side]) -> list[_Side]:
    """Give one utterance without a name that of the other file's only one."""
    if any(len(side.texts) != 1 for side in sides) or all(side.file_format != "plain" for side in sides):
        return sides
    name = next((key for side in sides if side.file_format != "plain" for key in side.texts), "1")
    return [replace(side, texts={name: labels}) for side in sides for labels in side.texts.values()]


def _in_set(side: _Side, phone_set: str) -> _Side:
    """Return a side whose labels are spelt as in a phone set.

    Raises
    ------
    AsrError
        A label is not in the set.
    """
    spelling = recognise(side.texts.values(), [phone_set])
    spelt = (
        side.respelt(spelling, phone_set) if spelling and spelling.share == 1 else replace(side, phone_set=phone_set)
    )
    for labels in spelt.texts.values():
        phones.PhoneSet.load(phone_set).check(labels)
    return spelt


def _in_known_sets(sides: list[_Side]) -> list[_Side]:
    """Return both sides spelt as in the phone set of each, or, where neither is in one, as they stand.

    Raises
    ------
    AsrError
        One of them only is in a known set, or they are near to different ones. If they were compared as they stand, a
        stressed vowel or a label for noise would count as a phone error.
    """
    found = [recognise(side.texts.values()) for side in sides]
    in_arpabet = [recognise(side.texts.values(), [ARPABET]) for side in sides]
    if all(each is not None and each.share == 1 for each in in_arpabet):
        found = in_arpabet  # in lower case most of its labels are TIMIT's, too, which fold otherwise
    if all(each is not None and each.name == "IPA" for each in found):
        return sides  # dictionaries tell apart more than ARPAbet does
    whole = [each is not None and each.share == 1 for each in found]
    silent = [not any(side.texts.values()) for side in sides]
    if all(one or two for one, two in zip(whole, silent, strict=True)):
        spelt = [side.respelt(each, each.phone_set) if each else side for side, each in zip(sides, found, strict=True)]
        return [
            replace(one, phone_set=one.phone_set or two.phone_set) for one, two in zip(spelt, spelt[::-1], strict=True)
        ]
    sets = [each and each.phone_set for each in found]
    if any(whole) or (all(sets) and sets[0] != sets[1]):
        strange = whole.index(False)
        known = sets[1 - strange] or ""
        raise AsrError(_strange(sides[strange], found[strange], known, SIDES[1 - strange]))
    return [side.respelt(each) if each else side for side, each in zip(sides, found, strict=True)]


def _strange(side: _Side, spelling: Spelling | None, phone_set: str, other: str) -> str:
    """Return what is said of the first label that is in no phone set, or not in that of the other side."""
    known = {label for name in phones.names() for label in phones.PhoneSet.load(name).labels}
    for labels in (known, set(phones.PhoneSet.load(phone_set).labels)):
        for key, text in side.texts.items():
            for label in text:
                if not labels.issuperset(spelling.respell(label) if spelling else [label]):
                    return (
                        f"{side.path}: {label!r} in utterance {key!r} is not in {phone_set}, the {other}' phone set: "
                        "take it out, or write both in one set"
                    )
    return f"{side.path} and the {other} are in different phone sets: write both in one"


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
    unit: str = "phones",
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
    unit
        What labels of no known set are: ``words``, ``labels`` of other sets, or ``phones``.

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
        rows.append(_regime_row(regime, result, not rows, unit))
    return rows


def _regime_row(regime: regimes.Regime, result: metrics.Score, is_headline: bool, unit: str) -> dict[str, Any]:
    rate, number = RATES[unit]
    return {
        "name": regime.name if unit == "phones" else unit,
        "description": regime.description,
        "headline": is_headline,
        rate: _percent(result.rate),
        "interval": [_percent(bound) for bound in result.interval],
        "interval_speakers": result.interval_speakers and [_percent(x) for x in result.interval_speakers],
        "substitutions": result.counts.substitutions,
        "insertions": result.counts.insertions,
        "deletions": result.counts.deletions,
        number: result.counts.reference_length,
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
