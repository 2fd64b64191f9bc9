"""How what is said in a corpus of one's own becomes labels: in ARPAbet's 39 phones, in one's own phones, in letters."""

import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from asr.core.errors import CorpusError
from asr.speech import pronounce
from asr.speech.lexicons import Phones

_OF_WORDS = "’‘׳״‰‱§"  # punctuation, by Unicode, that belongs to a word or is read
Pronunciations = Mapping[str, Phones | str]


def bare_words(text: str) -> list[str]:
    """Split a text into words without the punctuation around them, of any script.

    >>> bare_words("Hello, world ..."), bare_words("¿Qué tal? 好。")
    (['Hello', 'world'], ['Qué', 'tal', '好'])
    """
    return [word for word in map(_bare, text.split()) if word]


def _bare(word: str) -> str:
    word = word.strip(pronounce.PUNCTUATION)
    if word.isascii():
        return word
    first, last = 0, len(word)
    while first < last and _parts_words(word[first]):
        first += 1
    while first < last and _parts_words(word[last - 1]):
        last -= 1
    return word[first:last]


def _parts_words(c: str) -> bool:
    return c in pronounce.PUNCTUATION or (unicodedata.category(c)[0] == "P" and not c.isascii() and c not in _OF_WORDS)


def in_english(words: Collection[str]) -> Pronunciations:
    """Return the ARPAbet phones of each word, by CMUdict and rules; for a word that has none, why.

    >>> in_english({"no"})
    {'no': ('N', 'OW')}
    """
    found = dict[str, Phones | str]()
    for word in words:
        try:
            found[word] = tuple(pronounce.pronounce(word))
        except CorpusError as error:
            found[word] = str(error)
    return found


@dataclass(frozen=True)
class Transcription:
    """How texts and phones of a corpus become labels; by default in ARPAbet's 39, from CMUdict.

    Attributes
    ----------
    key
        Tells transcriptions apart that give other labels; empty for the default.
    split
        Splits a text into words.
    pronounce
        Returns the labels of each of many words, or in a text why it has none.
    in_arpabet
        Whether labels are ARPAbet's 39, into which phones that a corpus has are respelt. Otherwise they are taken as
        they are.
    of_characters
        Whether labels are characters: phones that a corpus has are not used.
    """

    key: str = ""
    split: Callable[[str], list[str]] = bare_words
    pronounce: Callable[[Collection[str]], Pronunciations] = in_english
    in_arpabet: bool = True
    of_characters: bool = False
