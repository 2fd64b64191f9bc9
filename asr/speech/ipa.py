"""The International Phonetic Alphabet: one way to write a phone, and phones of one set found again in another.

People write one phone in several ways: with a tie or without (``t͡ʃ``, ``tʃ``, ``ʧ``), with Latin letters for those of
the alphabet (``g``, ``ɡ``), with accents in either of Unicode's forms. `normal` takes these differences away, and no
others. A phone that a set writes otherwise is looked for by its parts (`Matcher`).
"""

import functools
import unicodedata
from collections.abc import Mapping

TIES = "\u0361\u035c"
STRESS = "ˈˌ"
MOST_LETTERS = 4  # of what people call a phone, as in "iang"
BRACKETS = frozenset("/[]")  # around what is said
BOUNDARIES = frozenset({".", "|", "‖", "‿", "#"})  # of syllables, groups and words
TONES = "˥˦˧˨˩¹²³⁴⁵⁶⁷⁸⁹⁰"
LETTERS = frozenset(
    "abcdefhijklmnopqrstuvwxyzæçðøħŋœɐɑɒɓɔɕɖɗɘəɚɛɜɝɞɟɠɡɢɣɤɥɦɧɨɪɫɬɭɮɯɰɱɲɳɴɵɶɸɹɺɻɽɾʀʁʂʃʄʈʉʊʋʌʍʎʏʐʑʒʔʕʘʙʛʜʝʟʡʢβθχǀǁǂǃ"
)
_CEDILLA = "c\u0327"  # a letter, although Unicode takes it apart
_LIKE = {"g": "ɡ", ":": "ː", "ʧ": "tʃ", "ʤ": "dʒ", "ʦ": "ts", "ʣ": "dz", "ʨ": "tɕ", "ʥ": "dʑ", "ɚ": "ə˞", "ɝ": "ɜ˞"}
_REPLACED = str.maketrans(_LIKE | dict.fromkeys(TIES + STRESS + ".", ""))


@functools.cache
def normal(phone: str) -> str:
    """Return a phone without ties and stress, with one character for each sign.

    >>> normal("ˈt͡ʃʰ"), normal("g"), normal("ç") == normal("c\u0327"), normal("ɝ")
    ('tʃʰ', 'ɡ', True, 'ɜ˞')
    """
    plain = unicodedata.normalize("NFD", phone).translate(_REPLACED).replace(_CEDILLA, "ç")
    return plain or phone


def is_modifier(sign: str) -> bool:
    """Tell whether a character modifies the letter before it: length, tone, aspiration, a diacritic.

    >>> [is_modifier(sign) for sign in "ːʰ˥̃ta"]
    [True, True, True, True, False, False]
    """
    return unicodedata.category(sign) in ("Mn", "Lm", "Sk") or sign in TONES


def letters(phone: str) -> str:
    """Return the letters of a phone, without what modifies them.

    >>> letters("t͡ʃʰ"), letters("aː˥˩"), letters("ã")
    ('tʃ', 'a', 'a')
    """
    return "".join(sign for sign in normal(phone) if not is_modifier(sign))


def is_phone(text: str) -> bool:
    """Tell whether a text looks like one phone: one or two letters of the alphabet, with what modifies them.

    >>> [is_phone(text) for text in ("t͡ʃʰ", "aː˥˩", "the", "ж", "#")]
    [True, True, False, False, False]
    """
    found = letters(text)
    return 1 <= len(found) <= 2 and all(letter in LETTERS for letter in found)


def may_be_no_phone(label: str) -> bool:
    """Tell whether a label marks a boundary, or is a part of a phone or more than one; tones may stand alone.

    >>> [may_be_no_phone(label) for label in (".", "ː", "/t", "tʰaŋkʰjuː", "t͡ʃ", "˥˩", "@", "iang")]
    [True, True, True, True, False, False, False, False]
    """
    found = letters(label)
    is_part = not found and any(sign not in TONES for sign in label)
    is_bracketed = len(label) > 1 and (label[0] in BRACKETS or label[-1] in BRACKETS)
    return label in BOUNDARIES or is_part or is_bracketed or len(found) > MOST_LETTERS


class Matcher:
    """Finds phones in a set that may write them otherwise, or tells fewer apart.

    Signs such as length or tone that no phone of the set has are left out. Two phones of the set stand for one where it
    lacks an affricate or a diphthong.

    Parameters
    ----------
    phones
        The labels of the set, each with its IPA.

    Examples
    --------
    >>> matcher = Matcher({"tS": "t͡ʃ", "a": "a", "I": "ɪ", "t": "t"})
    >>> matcher.find("ˈtʃ"), matcher.find("aɪ"), matcher.find("aː"), matcher.find("y")
    (('tS',), ('a', 'I'), ('a',), None)
    """

    def __init__(self, phones: Mapping[str, str]):
        self._exact, self._index = dict[str, str](), dict[str, str]()
        for label, written in phones.items():
            self._exact.setdefault(written, label)
            self._index.setdefault(normal(written), label)
        self._modifiers = {sign for key in self._index for sign in key if is_modifier(sign)}
        self._longest = max(map(len, self._index), default=0)

    def find(self, phone: str) -> tuple[str, ...] | None:
        """Return the labels that stand for a phone in IPA; None if the set has none."""
        if phone in self._exact:
            return (self._exact[phone],)
        key = normal(phone)
        if key in self._index:
            return (self._index[key],)
        rest, found = "".join(c for c in key if not is_modifier(c) or c in self._modifiers), list[str]()
        while rest:
            sizes = range(min(self._longest, len(rest)), 0, -1)
            size = next((size for size in sizes if rest[:size] in self._index), 0)
            if not size:
                return None
            found.append(self._index[rest[:size]])
            rest = rest[size:]
        return tuple(found) or None
