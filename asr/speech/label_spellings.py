"""Other spellings of phones: stress digits, positions in the word, upper and lower case, IPA.

Of the labels of many utterances `recognise` tells the phone set and the spelling:

========= ====================== ===========================================================================
spelling  a label and its phone  who writes so
========= ====================== ===========================================================================
as is     ``AH``, ``ix``         the tables of `asr.speech.phones`
bare      ``AH0``, ``AH_I``      CMUdict and the Montreal Forced Aligner; Kaldi's alignments (``AH0_I``, too)
upper     ``ah``, ``Ah0``        ARPAbet in lower case
lower     ``IX``, ``H#``         TIMIT's labels in upper case
IPA       ``ʌ``, ``ˈʌ``, ``iː``  dictionaries in IPA; what the tables write alike for TIMIT and ARPAbet
========= ====================== ===========================================================================
"""

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from asr.speech import phones

ARPABET = "arpabet39"
_POSITION, _STRESS = re.compile(r"_[BIES]$"), re.compile(r"^([A-Za-z]{2})[012]$")
_MARKS = dict.fromkeys(map(ord, "ˈˌː͜͡"))  # stress, length and ties, which no table has
_LIKE = {"g": "ɡ", "r": "ɹ", "ɫ": "l", "əʊ": "oʊ", "ɜ": "ɝ"}  # other letters for the same phones


def _as_is(label: str) -> list[str]:
    return [label]


def _bare(label: str) -> list[str]:
    label = _POSITION.sub("", label)
    stressed = _STRESS.match(label)
    return [stressed[1] if stressed else label]


def _upper(label: str) -> list[str]:
    return [_bare(label.upper())[0]]


def _lower(label: str) -> list[str]:
    return [_bare(label)[0].lower()]


def _from_ipa(label: str) -> list[str]:
    letters = label.translate(_MARKS)
    return _ipa_table().get(_LIKE.get(letters, letters), [label])


@functools.cache
def _ipa_table() -> dict[str, list[str]]:
    """Return the ARPAbet of each sign of IPA in the tables; where TIMIT has a sign too, ARPAbet's own phone counts."""
    return {
        phones.ipa(label, name).translate(_MARKS): phones.fold([label], name, ARPABET)
        for name in ("timit61", ARPABET)
        for label in phones.PhoneSet.load(name).labels
    }


@dataclass(frozen=True)
class Spelling:
    """How labels are written.

    Attributes
    ----------
    name
        One of the table above.
    phone_set
        The phone set of what `respell` returns.
    share
        Of the labels, counted as often as they occur, those that are in the phone set.
    """

    name: str
    phone_set: str
    share: float

    def respell(self, label: str) -> list[str]:
        """Return a label as the tables of its phone set write it; what they do not have stays as it is.

        >>> Spelling("bare", "arpabet39", 1.0).respell("AH0_I"), Spelling("IPA", "arpabet39", 1.0).respell("ˈiː")
        (['AH'], ['IY'])
        """
        spelt = _SPELLINGS[self.name](label)
        return spelt if set(spelt) <= _labels(self.phone_set) else [label]

    def note(self, texts: Mapping[str, Sequence[str]]) -> str:
        """Return what changes, with an example; nothing where nothing does."""
        example = next((x for labels in texts.values() for x in labels if self.respell(x) != [x]), None)
        if example is None:
            return ""
        return f"{_NOTES[self.name]}: {example} is {' '.join(self.respell(example)) or 'left out'}"


_SPELLINGS: dict[str, Callable[[str], list[str]]] = {
    "as is": _as_is,
    "bare": _bare,
    "upper": _upper,
    "lower": _lower,
    "IPA": _from_ipa,
}
_CASES: dict[str, Callable[[str], bool]] = {
    "upper": lambda label: len(label) == 1 or not _bare(label)[0].isupper(),
    "lower": lambda label: label.upper() == label,
}
_NOTES = {
    "bare": "without stress digits and word positions",
    "upper": "taken for ARPAbet in lower case",
    "lower": "taken for TIMIT's labels in upper case",
    "IPA": "taken for IPA",
}


@functools.cache
def _labels(phone_set: str) -> frozenset[str]:
    return frozenset(phones.PhoneSet.load(phone_set).labels)


def recognise(texts: Iterable[Iterable[str]], phone_sets: Sequence[str] = ()) -> Spelling | None:
    """Return the spelling in which most labels are in a phone set: the first of the table, the smallest set.

    Parameters
    ----------
    texts
        Labels of each utterance.
    phone_sets
        Those to choose from; without any, all.

    Returns
    -------
    Spelling or None
        None if there are no labels, or less than half of them are in any set.

    Examples
    --------
    >>> recognise([["HH", "AH0"]])
    Spelling(name='bare', phone_set='arpabet39', share=1.0)
    >>> recognise([["hello", "world"]])
    """
    counts = Counter(label for labels in texts for label in labels)
    sets = sorted(phone_sets or phones.names(), key=lambda name: (len(_labels(name)), name))
    best = Spelling("as is", "", 0.0)
    for name, respell in _SPELLINGS.items():
        if name in _CASES and not all(_CASES[name](label) for label in counts):
            continue  # labels in both cases are not in another case
        spelt = {label: respell(label) for label in counts}
        for phone_set in (ARPABET,) if name in ("upper", "IPA") else sets:
            if phone_set not in sets:
                continue
            known = sum(count for label, count in counts.items() if set(spelt[label]) <= _labels(phone_set))
            if known > best.share * counts.total():
                best = Spelling(name, phone_set, known / counts.total())
    return best if best.share >= 0.5 else None
