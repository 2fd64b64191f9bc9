"""Lexicons as people have them: each line a word and the phones of a pronunciation of it.

============================ ============================================================================
``word p h o n e s``         Kaldi's lexicon.txt; CMUdict's, in which other pronunciations are ``word(2)``
``word TAB p h o n e s``     WikiPron; the word may have blanks
``word 0.8 p h o n e s``     Kaldi's lexiconp.txt; tabs between the columns are allowed
``word TAB 0.8 TAB … TAB p`` dictionaries of the Montreal Forced Aligner: a probability, and numbers for silences
============================ ============================================================================

Lines that begin with ``;;;`` are comments. Words are looked up in lower case. Entries for noise (``spn``, ``sil``) are
left out, as are marks of stress: ``ˈa`` is ``a``. A number above 1 behind a blank and before a tab is a part of the
word: ``Web 2.0``. ``nan`` and ``inf`` are missing probabilities where other lines have some, and phones where none has.
"""

import hashlib
import itertools
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from asr.core.errors import ConfigError
from asr.core.files import write_text
from asr.speech.ipa import STRESS

COMMENT = ";;;"
NOISE = frozenset({"spn", "sil", "sp", "nsn", "oov", "<unk>"})
_ANOTHER = re.compile(r"(?<=.)\(\d+\)$")  # CMUdict's mark of a further pronunciation
_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?")
_NAN = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)  # of what has no value
_STRESS = str.maketrans(dict.fromkeys(STRESS, ""))
Phones = tuple[str, ...]
Lexicon = Mapping[str, Sequence[Phones]]


def read(path: str | Path) -> dict[str, list[Phones]]:
    """Read a lexicon.

    Returns
    -------
    dict
        The pronunciations of each word in lower case, the most probable one first, others in the order of the lines.

    Raises
    ------
    ConfigError
        The file is missing, not UTF-8 or has no words, a line has no phones, or a probability is not from 0 to 1; the
        message names the line.
    """
    found: dict[str, dict[Phones, float]] = {}
    for _, word, phones, probability in entries(path):
        if not NOISE.issuperset(phone.lower() for phone in phones):
            several = found.setdefault(normal(word), {})
            several[phones] = max(probability, several.get(phones, 0.0))
    if not found:
        raise ConfigError(f"{path} has no words: write a word and its phones on each line")
    return {word: sorted(several, key=lambda each: -several[each]) for word, several in found.items()}


def entries(path: str | Path) -> Iterator[tuple[int, str, Phones, float]]:
    """Yield the number of each line, and the word, the phones and the probability in it.

    Raises
    ------
    ConfigError
        As `read`, but for a file without words.
    """
    lines = enumerate(_text(Path(path)).split("\n"), 1)
    rows = [
        (number, line, *_fields(line.strip("\r\n ")))
        for number, line in lines
        if line.strip() and not line.startswith(COMMENT)
    ]
    has_numbers = any(numbers for _, _, _, numbers, _ in rows)
    for number, line, word, numbers, fields in rows:
        place = f"{path}, line {number}"
        if has_numbers and not numbers and fields and _NAN.fullmatch(fields[0]):
            numbers, fields = fields[:1], fields[1:]
        values = [float(each.replace(",", ".")) for each in numbers]
        for each, value, most in zip(numbers, values, (1, *[math.inf] * len(numbers)), strict=False):
            if not 0 <= value <= most:
                raise ConfigError(f"{place}: the probability of {word!r} is {each}: write a number from 0 to 1")
        phones = tuple(filter(None, map(without_stress, fields)))
        if not word or not phones:
            raise ConfigError(f"{place}: {line.strip()!r} has no phones: write a word and its phones")
        yield number, _ANOTHER.sub("", word), phones, values[0] if values else 1.0


def _text(path: Path) -> str:
    try:
        return unicodedata.normalize("NFC", path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {number} is not UTF-8: save the lexicon as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"cannot read the lexicon {path}: {error.strerror}: check the path") from error


def _fields(line: str) -> tuple[str, Sequence[str], Sequence[str]]:
    """Return the word, the numbers and the phones of a line, as they are written."""
    word, *columns = [field.strip() for field in line.split("\t")] if "\t" in line else line.split(maxsplit=1)
    before, _, last = word.rpartition(" ")
    if before and is_number(last) and float(last.replace(",", ".")) <= 1:  # Kaldi's scripts put a blank before it
        word, columns = before, [last, *columns]
    numbers = [*itertools.takewhile(lambda field: _NUMBER.fullmatch(field) or _NAN.fullmatch(field), columns[:-1])]
    fields = " ".join(columns[len(numbers) :]).split()
    more = [*itertools.takewhile(is_number, fields)]
    return word, numbers + more, fields[len(more) :]


def is_number(field: str) -> bool:
    """Tell whether a field is a number, and no phone: some are called by digits, as tones are, but none has a point.

    >>> is_number("0.5"), is_number("-1"), is_number("5"), is_number("aI")
    (True, True, False, False)
    """
    return _NUMBER.fullmatch(field) is not None and not field.isdigit()


def line_of(path: str | Path, word: str) -> int:
    """Return the number of the first line of a file that `read` has read that is about a word."""
    return next(number for number, each, _, _ in entries(path) if normal(each) == word)


def without_stress(phone: str) -> str:
    """Return a phone without the marks of stress before it.

    >>> without_stress("ˈaː")
    'aː'
    """
    return phone.translate(_STRESS)


def normal(word: str) -> str:
    """Return a word as lexicons have it here: in lower case, composed, with one kind of apostrophe.

    >>> normal("Don’t")
    "don't"
    """
    lower = word.replace("İ", "i").lower()  # of which lower() makes two characters
    return unicodedata.normalize("NFC", lower).replace("’", "'").replace("‘", "'")


def look_up(word: str, lexicon: Lexicon) -> Sequence[Phones]:
    """Return the pronunciations of a word; those of a hyphenated word that is not there are those of its parts.

    >>> look_up("Ox-tail", {"ox": [("ɔ", "k", "s")], "tail": [("t", "eɪ", "l")]})
    [('ɔ', 'k', 's', 't', 'eɪ', 'l')]
    >>> look_up("oxen", {})
    []
    """
    key = normal(word)
    for form in (key, key.strip("'")):
        if form in lexicon:
            return lexicon[form]
    parts = [part for part in key.split("-") if part]
    if len(parts) < 2 or not all(part in lexicon for part in parts):
        return []
    return [tuple(phone for part in parts for phone in lexicon[part][0])]


def phones_of(lexicon: Lexicon) -> list[str]:
    """Return the different phones, sorted."""
    return sorted({phone for several in lexicon.values() for phones in several for phone in phones})


def key_of(lexicon: Lexicon) -> str:
    """Return a hash of what a lexicon says, however its file is written."""
    return hashlib.sha256("".join(_lines(lexicon)).encode()).hexdigest()[:16]


def write(path: Path, lexicon: Lexicon) -> None:
    """Write a file that `read` reads."""
    write_text(path, "".join(_lines(lexicon)))


def _lines(lexicon: Lexicon) -> Iterator[str]:
    for word in sorted(lexicon):
        for phones in lexicon[word]:
            yield f"{word}\t{' '.join(phones)}\n"
