"""Phone sets and the foldings between them, read from the tables in ``asr/speech/tables``.

============= ====== ===========================================================================
set           labels description
============= ====== ===========================================================================
``timit61``   61     TIMIT's own transcription: closures, releases, three silences, allophones
``timit48``   48     the labels that Lee and Hon train on; the glottal stop ``q`` is dropped
``timit39``   39     the labels that they score on: 38 phones and ``sil``, which includes the closures
``arpabet39`` 39     CMUdict's phones without stress: no silences, no closures, no flap
============= ====== ===========================================================================

Source of the first three: K.-F. Lee and H.-W. Hon, "Speaker-independent phone recognition using hidden Markov models",
IEEE Trans. ASSP 37(11), 1989, as Kaldi reads it (egs/timit/s5): ``epi`` is a label of its own among the 48.

From TIMIT to ARPAbet, closures, silences and ``q`` are dropped, and with the closures all stops that are never
released; ``ax`` and ``ax-h`` become AH, ``ix`` IH, ``axr`` ER, ``dx`` T, ``nx`` N; a syllabic consonant becomes AH and
the consonant. From ARPAbet to ``timit39``, AO becomes ``aa`` and ZH ``sh``, as in Lee and Hon's folding. No folding
adds a distinction.
"""

import csv
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.core.errors import AsrError

_TABLES = Path(__file__).parent / "tables"


@dataclass(frozen=True)
class PhoneSet:
    """The labels of a phone set, in the order of its table.

    Examples
    --------
    >>> phone_set = PhoneSet.load("timit39")
    >>> len(phone_set.labels), "sil" in phone_set.labels
    (39, True)
    """

    name: str
    labels: tuple[str, ...]

    @classmethod
    def load(cls, name: str) -> "PhoneSet":
        """Read a phone set by its name.

        Raises
        ------
        AsrError
            There is no such set.
        """
        return cls(name, tuple(_ipa_names(name)))

    def check(self, labels: Sequence[str]) -> None:
        """Raise `AsrError` if a label is not in the set; the message names the label and its position.

        Examples
        --------
        >>> PhoneSet.load("arpabet39").check(["HH", "AY1"])
        Traceback (most recent call last):
        ...
        asr.core.errors.AsrError: label 'AY1' at position 2 of 2 is not in the phone set arpabet39
        """
        known = set(self.labels)
        for position, label in enumerate(labels, start=1):
            if label not in known:
                place = f"at position {position} of {len(labels)}"
                raise AsrError(f"label {label!r} {place} is not in the phone set {self.name}")


def names() -> list[str]:
    """Return the names of all phone sets.

    Examples
    --------
    >>> names()
    ['arpabet39', 'timit39', 'timit48', 'timit61']
    """
    return sorted(path.stem for path in _TABLES.glob("*.tsv") if "_to_" not in path.stem)


def ipa(label: str, phone_set: str) -> str:
    """Return a phone in the International Phonetic Alphabet; the edge of an utterance is ``‖`` and a pause ``|``.

    Parameters
    ----------
    label : str
        A label of the set.
    phone_set : str
        Name of the set.

    Raises
    ------
    AsrError
        There is no such set, or no such label in it.

    Examples
    --------
    >>> ipa("axr", "timit61"), ipa("NG", "arpabet39")
    ('ɚ', 'ŋ')
    """
    table = _ipa_names(phone_set)
    if label not in table:
        raise AsrError(f"label {label!r} is not in the phone set {phone_set}")
    return table[label]


def fold(labels: Sequence[str], source: str, target: str) -> list[str]:
    """Fold a transcription from one phone set into another.

    Neighbours that become equal, such as ``pcl`` after ``pau``, stay two labels.

    Parameters
    ----------
    labels : sequence of str
        Labels of `source`.
    source, target : str
        Names of phone sets.

    Returns
    -------
    list of str
        Labels of `target`; shorter than `labels` where a label has no counterpart, longer where it has two.

    Raises
    ------
    AsrError
        A label is not in `source`; the message names its position. Or no folding leads from `source` to `target`.

    Examples
    --------
    >>> fold("h# q ao l tcl b ax dx el h#".split(), "timit61", "timit39")
    ['sil', 'aa', 'l', 'sil', 'b', 'ah', 'dx', 'l', 'sil']
    >>> fold("h# q ao l tcl b ax dx el h#".split(), "timit61", "arpabet39")
    ['AO', 'L', 'B', 'AH', 'T', 'AH', 'L']
    """
    PhoneSet.load(source).check(labels)
    folded = list(labels)
    route = _route(source, target)
    for step in itertools.pairwise(route):
        folding = _folding(*step)
        folded = [new for label in folded for new in folding[label]]
    return folded


def _rows(stem: str) -> list[list[str]]:
    with (_TABLES / f"{stem}.tsv").open(newline="", encoding="utf-8") as lines:
        return list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]


@functools.cache
def _ipa_names(phone_set: str) -> dict[str, str]:
    if phone_set not in names():
        raise AsrError(f"no phone set is called {phone_set!r}: choose from {', '.join(names())}")
    return dict(_rows(phone_set))


@functools.cache
def _folding(source: str, target: str) -> dict[str, list[str]]:
    return {label: folded.split() for label, folded in _rows(f"{source}_to_{target}")}


@functools.cache
def _route(source: str, target: str) -> list[str]:
    """Find the shortest chain of folding tables, breadth first; a chain through ARPAbet would lose the silences."""
    steps = [path.stem.split("_to_") for path in sorted(_TABLES.glob("*_to_*.tsv"))]
    steps = [step for step in steps if step[0] in (source, "timit48", "timit39")]
    routes = [[source]]
    for route in routes:
        if route[-1] == target:
            return route
        routes += [[*route, after] for before, after in steps if before == route[-1] and after not in route]
    raise AsrError(f"no folding leads from the phone set {source!r} to {target!r}: labels can be merged, not split")
