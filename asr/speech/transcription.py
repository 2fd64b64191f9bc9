"""How what is said in a corpus of one's own becomes labels: in ARPAbet's 39 phones, in one's own phones, in letters."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from asr.core.errors import CorpusError
from asr.speech import pronounce
from asr.speech.lexicons import Phones

Pronunciations = Mapping[str, Phones | str]


def bare_words(text: str) -> list[str]:
    """Split a text into words without the punctuation around them.

    >>> bare_words("Hello, world ...")
    ['Hello', 'world']
    """
    return [word for word in (each.strip(pronounce.PUNCTUATION) for each in text.split()) if word]


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
