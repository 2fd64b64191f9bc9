"""Texts as characters, for a recogniser of letters: any script, and no lexicon.

A character is a code point of Unicode in composed form (NFC) and in lower case: a letter, a mark that stands on one, a
digit, or within a word an apostrophe or a dot of Catalan or Hebrew. Everything else parts words. `BOUNDARY` stands
between two words.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from statistics import mean

from asr.speech.segments import Segment

BOUNDARY = "▁"
_APOSTROPHES = "'’‘"
_WITHIN = "·׳״"  # of Catalan and Hebrew
_EDGES = re.compile(rf"(?<!\w)['{_WITHIN}]|['{_WITHIN}](?!\w)")
_UNSEEN = str.maketrans({"İ": "i", "ـ": ""})  # lower() makes two characters of it; Arabic's is a longer line


def words(text: str) -> list[str]:
    """Split a text into words, in which only characters are left.

    >>> words("“Well-known” — isn't it?"), words("Чай с 2 лимонами!")
    (['well', 'known', "isn't", 'it'], ['чай', 'с', '2', 'лимонами'])
    """
    plain = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).translate(_UNSEEN).lower())
    return _EDGES.sub(" ", "".join(map(_kept, plain))).split()


def _kept(c: str) -> str:
    if c in _APOSTROPHES:
        return "'"
    category = unicodedata.category(c)
    return "" if category == "Cf" else c if category[0] in "LMN" or c in _WITHIN else " "


def spell(said: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the characters of each word; those of all but the first begin with `BOUNDARY`.

    >>> spell(["an", "ox"])
    [('a', 'n'), ('▁', 'o', 'x')]
    """
    return [(BOUNDARY, *word) if i else tuple(word) for i, word in enumerate(said)]


def join(labels: Sequence[str]) -> list[str]:
    """Return the words that characters spell.

    >>> join(["a", "n", "▁", "▁", "o", "x", "▁"])
    ['an', 'ox']
    """
    return "".join(labels).replace(BOUNDARY, " ").split()


def timed(labels: Sequence[Segment]) -> list[Segment]:
    """Return the words that characters with times spell; the confidence of a word is the mean of theirs.

    >>> timed([Segment("o", 0.1, 0.2, 0.5), Segment("x", 0.2, 0.4, 0.7), Segment("▁", 0.4, 0.5, 1.0)])
    [Segment(label='ox', start=0.1, end=0.4, confidence=0.6)]
    """
    found = list[Segment]()
    for is_boundary, group in itertools.groupby(labels, lambda each: each.label == BOUNDARY):
        if not is_boundary:
            word = list(group)
            confidence = round(mean(each.confidence or 0.0 for each in word), 3)
            found.append(Segment("".join(each.label for each in word), word[0].start, word[-1].end, confidence))
    return found
