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

A set of one's own is a file, and its path is its name (`asr.speech.phone_files`). Between it and other sets phones are
found by their IPA (`asr.speech.ipa`); its third column folds it into the set in which errors are counted.
"""

import csv
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.core.errors import AsrError
from asr.speech import phone_files
from asr.speech.characters import BOUNDARY
from asr.speech.ipa import Matcher
from asr.speech.phone_files import PhoneTable

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
        """Read a phone set by its name, or from its file.

        Raises
        ------
        AsrError
            There is no such set, or the file is malformed.
        """
        return cls(name, tuple(table(name).ipa))

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
    """Return the names of the library's phone sets.

    Examples
    --------
    >>> names()
    ['arpabet39', 'timit39', 'timit48', 'timit61']
    """
    return sorted(_library())


def is_own(phone_set: str) -> bool:
    """Tell whether a phone set is a file, and none of the library's.

    >>> is_own("timit61"), is_own("mine/phones.tsv")
    (False, True)
    """
    return phone_set not in _library()


def is_characters(phone_set: str) -> bool:
    """Tell whether the labels of a set are the characters of a script (`asr.speech.characters`), and no phones.

    >>> is_characters("arpabet39")
    False
    """
    return is_own(phone_set) and BOUNDARY in table(phone_set).ipa


def title(phone_set: str) -> str:
    """Return what a phone set is called in results: its name, or that of its file.

    >>> title("timit61"), title("runs/mine/phones.tsv")
    ('timit61', 'phones.tsv')
    """
    return Path(phone_set).name


def table(phone_set: str) -> PhoneTable:
    """Return the labels of a phone set with their IPA.

    Raises
    ------
    AsrError
        There is no such set, or its file is malformed.

    Examples
    --------
    >>> table("arpabet39").ipa["CH"]
    'tʃ'
    """
    if not is_own(phone_set):
        return _of_library(phone_set)
    if not Path(phone_set).is_file():
        raise AsrError(
            f"no phone set is called {phone_set!r}: choose from {', '.join(names())}, or name a file of phones"
        )
    return phone_files.read(phone_set)


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
    known = table(phone_set).ipa
    if label not in known:
        raise AsrError(f"label {label!r} is not in the phone set {phone_set}")
    return known[label]


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
    if is_characters(source):  # a text may have others than were learnt: they count as errors
        counted = table(source).scoring or {} if source != target else {}
        return [new for label in labels for new in counted.get(label, (label,))]
    PhoneSet.load(source).check(labels)
    if source == target:
        return list(labels)
    if is_own(source) or is_own(target):
        return _folded_by_ipa(labels, source, target)
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
def _library() -> frozenset[str]:
    return frozenset(path.stem for path in _TABLES.glob("*.tsv") if "_to_" not in path.stem)


@functools.cache
def _of_library(phone_set: str) -> PhoneTable:
    return PhoneTable(dict(_rows(phone_set)))


def _folded_by_ipa(labels: Sequence[str], source: str, target: str) -> list[str]:
    """Fold from a set of one's own or into one: by the third column of its file, or by IPA."""
    before, after = table(source), table(target)
    scoring = before.scoring or {}
    if {*after.ipa} == {new for several in scoring.values() for new in several}:
        return [new for label in labels for new in scoring[label]]
    matcher, folded = _matcher(tuple(after.ipa.items())), list[str]()
    for label in labels:
        found = (label,) if label in after.ipa and is_own(source) else matcher.find(before.ipa[label])
        if found is None:
            written = "" if before.ipa[label] == label else f", {before.ipa[label]} in IPA,"
            raise AsrError(f"the phone {label!r}{written} of {source} is not in the phone set {target}: add it there")
        folded += found
    return folded


@functools.lru_cache(maxsize=64)
def _matcher(phones: tuple[tuple[str, str], ...]) -> Matcher:
    return Matcher(dict(phones))


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
    others = " or ".join(dict.fromkeys(route[-1] for route in routes))
    fault = f"no folding leads from the phone set {source!r} to {target!r}: labels can be merged, not split"
    raise AsrError(f"{fault}; name {others} instead of {target}")
