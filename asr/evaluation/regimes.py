"""Scoring regimes: the different error rates that are all called phone error rate.

Regimes differ in which phones they tell apart and how they count silence. From the same references and hypotheses each
gives another rate; on TIMIT they differ by percentage points. `for_labels` lists the regimes that a phone set allows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from asr.core.jit import helper, njit
from asr.evaluation.metrics import ErrorCounts, count_errors
from asr.speech import phones

SILENCE = "sil"  # in timit39


@dataclass(frozen=True)
class Regime:
    """One way to count phone errors.

    Attributes
    ----------
    name, description
        Text for people.
    phone_set
        The set that labels are folded into; None leaves them as they are.
    silence
        ``scored``: silence is a label like any other. ``forgiven``: it may be deleted at no cost, and still counts in
        the denominator of the rate. ``merged``: consecutive silences are one. ``dropped``: it is removed from both
        sides.
    """

    name: str
    description: str
    phone_set: str | None
    silence: str = "scored"

    def fold(self, labels: Sequence[str], source: str | None) -> list[str]:
        """Fold a transcription in the phone set `source` into the regime's.

        >>> Regime("", "", "timit39").fold("h# pau q tcl t iy h#".split(), "timit61")
        ['sil', 'sil', 'sil', 't', 'iy', 'sil']
        """
        if self.phone_set is None or source is None:
            return list(labels)
        return phones.fold(labels, source, self.phone_set)

    def treat_silence(self, folded: Sequence[str]) -> list[str]:
        """Return folded labels as they are compared: with silences merged or dropped where the regime says so.

        >>> Regime("", "", "timit39", "merged").treat_silence(["sil", "sil", "t", "iy", "sil"])
        ['sil', 't', 'iy', 'sil']
        """
        if self.silence == "merged":
            before = chain([None], folded)
            return [label for label, last in zip(folded, before, strict=False) if not label == last == SILENCE]
        if self.silence == "dropped":
            return [label for label in folded if label != SILENCE]
        return list(folded)

    @property
    def count(self) -> Callable[[Sequence[str], Sequence[str]], ErrorCounts]:
        """The function that counts the errors of a hypothesis, given reference and hypothesis."""
        return forgiving_errors if self.silence == "forgiven" else count_errors


_TIMIT39 = (
    Regime("39, sil scored", "61 to 48 to 39 labels, q dropped, repeats kept; Kaldi since 2014", "timit39"),
    Regime("39, sil forgiven", "the same, silence may be deleted; Kaldi before 2014", "timit39", "forgiven"),
    Regime(
        "39, sil merged",
        "the same, consecutive silences are one on both sides; SpeechBrain's references",
        "timit39",
        "merged",
    ),
    Regime("39, sil dropped", "the same without silence on either side", "timit39", "dropped"),
)
_UNFOLDED = {
    "timit61": Regime("61 labels", "as transcribed; Graves et al. 2006", "timit61"),
    "timit48": Regime("48 labels", "those that Lee and Hon train on", "timit48"),
}
_ARPABET39 = Regime("39 ARPAbet", "CMUdict's phones without stress; no silence", "arpabet39")


def _of_own(phone_set: str) -> Regime:
    if phones.is_characters(phone_set):
        return Regime("characters", "as the text has them, boundaries of words among them", phone_set)
    return Regime(f"{len(phones.table(phone_set).ipa)} phones", "of one's own", phone_set)


def for_labels(phone_set: str | None, scoring: str | None = None) -> list[Regime]:
    """Return the regimes for transcriptions in a phone set. The first, whose rate is quoted, counts in `scoring`.

    Parameters
    ----------
    phone_set
        The set of references and hypotheses; None where it is not a known set.
    scoring
        The phone set of the first regime; by default the usual one, which for TIMIT's sets is 39 labels with `sil`.

    Examples
    --------
    >>> [regime.name for regime in for_labels("timit61")]
    ['39, sil scored', '61 labels', '39, sil forgiven', '39, sil merged', '39, sil dropped']
    >>> [regime.name for regime in for_labels("arpabet39")]
    ['39 ARPAbet']
    """
    if phone_set is None:
        return [Regime("labels", "as they stand", None)]
    if phones.is_own(phone_set):
        return [_of_own(scoring or phone_set)]
    if phone_set == "arpabet39":
        known = [_ARPABET39, *_TIMIT39[:1]] if scoring == "timit39" else [_ARPABET39]
    else:
        unfolded = [_UNFOLDED[phone_set]] if phone_set in _UNFOLDED else []
        known = [_TIMIT39[0], *unfolded, *_TIMIT39[1:]]
        if scoring == "arpabet39":
            known.append(_ARPABET39)
    quoted = scoring or known[0].phone_set
    return sorted(known, key=lambda regime: (regime.phone_set, regime.silence) != (quoted, "scored"))


def forgiving_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> ErrorCounts:
    """Count the edits between two sequences where silences of the reference may be deleted at no cost.

    NIST's scorer did the same with optionally deletable words, ``(sil)``, in Kaldi's TIMIT recipe before 2014. Other
    errors count as usual: a silence recognised where there is none is an insertion, and a silence recognised as a phone
    is a substitution.

    Examples
    --------
    >>> forgiving_errors("sil b sil iy sil".split(), "b iy sil sil".split())
    ErrorCounts(substitutions=0, insertions=1, deletions=0, reference_length=5)
    """
    number = {SILENCE: 0}
    one, other = (
        np.array([number.setdefault(x, len(number)) for x in each], np.int64) for each in (reference, hypothesis)
    )
    substitutions, insertions, deletions = _forgiving(one, other)
    return ErrorCounts(int(substitutions), int(insertions), int(deletions), len(one))


@njit(cache=True)
def _forgiving(reference, hypothesis):
    """Count the least edits by rows of (total, substitutions, insertions, deletions); silence is 0."""
    row = np.zeros((len(hypothesis) + 1, 4), np.int64)
    for j in range(len(row)):
        row[j, 0] = row[j, 2] = j
    before = row.copy()
    for r in reference:
        before, row = row, before
        cost = 0 if r == 0 else 1
        _take(row, 0, before, 0, 3, cost)
        for j in range(len(hypothesis)):
            wrong = 0 if r == hypothesis[j] else 1
            replaced, deleted, inserted = before[j, 0] + wrong, before[j + 1, 0] + cost, row[j, 0] + 1
            if replaced <= deleted and replaced <= inserted:
                _take(row, j + 1, before, j, 1, wrong)
            elif deleted <= inserted:
                _take(row, j + 1, before, j + 1, 3, cost)
            else:
                _take(row, j + 1, row, j, 2, 1)
    return row[-1, 1], row[-1, 2], row[-1, 3]


@helper()
def _take(row, j, source, i, kind, cost):
    """Write counts i of `source`, and an edit of a kind at its cost, to counts j of a row.

    Number by number: Numba takes 2 s more to compile the assignment of an array to a part of another.
    """
    for k in range(4):
        row[j, k] = source[i, k]
    row[j, 0] += cost
    row[j, kind] += cost
