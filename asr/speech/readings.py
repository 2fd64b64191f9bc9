"""How the words of an English text are read aloud: numbers, dates, money, abbreviations, symbols, acronyms.

A *reading* is the words that are spoken, with blanks between. A single capital in a reading of several words is the
name of that letter. Where people differ, or where only the sound can tell, a word has several readings, the usual one
first. They depend on the word itself (`asr.speech.notations`) and on its neighbours: "5 km", "$5 million", "May 5",
"Henry VIII", "Dr. Ford".
"""

import functools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from asr.speech import notations, numbers, units
from asr.speech.dates import MONTHS
from asr.speech.notations import MONEY, VULGAR, spell
from asr.speech.numbers import cardinals, combine, different, ordinals

STREETS = ("dr", "st")  # titles which may also end a name: drive and street
SCALE_WORDS = ("hundred", "thousand", "million", "billion", "trillion")
ACRONYM = 5  # letters, at most, of an acronym that the dictionary has as a word

_ROMAN_LETTERS = re.compile("[ivxlcdm]+|[IVXLCDM]")
_BARE_DAY = re.compile(r"(\d{1,2})(st|nd|rd|th)?")


class Token(NamedTuple):
    """A word of a text.

    Attributes
    ----------
    label
        The word, without the punctuation at its edges.
    raw
        The word and all punctuation beside it.
    """

    label: str
    raw: str

    @property
    def has_dot(self) -> bool:
        """Whether a dot follows."""
        return self.raw[self.raw.find(self.label) + len(self.label) :].startswith(".")

    @property
    def goes_on(self) -> bool:
        """Whether no comma or other stop parts it from the next word; a dot may be that of an abbreviation."""
        return self.raw[-1] not in ",;:!?)" and not (self.raw[-1] == "." and self.label[-1].isdigit())

    @property
    def is_number(self) -> bool:
        """Whether it ends in a digit or in a sign that stands for one."""
        return self.label[-1].isdigit() or self.label[-1] in VULGAR


def read(tokens: Sequence[Token], i: int, shouted: bool = False) -> tuple[str, ...]:
    """Return the readings of a word of a text.

    Parameters
    ----------
    tokens
        The words of the text.
    i
        Which of them.
    shouted
        Whether the text has no small letters, so that capitals do not tell acronyms.

    Examples
    --------
    >>> read([Token("5", "5"), Token("km", "km.")], 1)
    ('kilometers', 'kilometer', 'K')
    >>> read([Token("Henry", "Henry"), Token("VIII", "VIII")], 1)[:2]
    ('the eighth', 'eight')
    """
    label, before = tokens[i].label, _before(tokens, i)
    is_plain = label.isalpha() and (label.islower() or label.istitle()) and label.lower() not in _shorthands()
    is_plain = is_plain and not _ROMAN_LETTERS.fullmatch(label)
    if is_plain and not (before is not None and before.is_number):
        return (label,)
    found = _by_neighbours(tokens, i, shouted) or spell(label) or spell(label.strip("'"))
    if not found and label.endswith("'s") and len(label) > 2:
        stem = Token(label[:-2], tokens[i].raw)
        stems = read([*tokens[max(i - 1, 0) : i], stem, *tokens[i + 1 : i + 2]], min(i, 1), shouted)
        return tuple(f"{each}'s" for each in stems)
    return tuple(different(found or _acronym(label, shouted)))


def _by_neighbours(tokens: Sequence[Token], i: int, shouted: bool) -> list[str]:
    """Return the readings of a word that its neighbours tell; none where they tell nothing."""
    token, before, after = tokens[i], _before(tokens, i), _after(tokens, i)
    if before is not None and before.is_number:
        unit = units.units().get(f"{token.label}.") if token.has_dot else None  # in. is inches, unlike in
        if unit:
            return unit.names(before.label)
        unit = units.units().get(token.label)
        if unit:
            own = [token.label] if len(token.label) == 1 or _is_known(token.label) else []
            return [*unit.names(before.label), *own]
        if before.label.isdigit() and re.fullmatch(rf"\d+/[1-9]\d*|[{VULGAR}]", token.label):
            return [*notations.after_whole(token.label), *spell(token.label)]
    if token.label in SCALE_WORDS and before is not None:
        money = MONEY.fullmatch(before.label)
        return [*combine([token.label], _currency(money).names(""), most=2), token.label] if money else []
    if after is not None and after.label in SCALE_WORDS and (money := MONEY.fullmatch(token.label)):
        return combine(notations.SIGNED[money[1]], numbers.read(money[3]))
    return (
        _abbreviation(tokens, i, shouted)
        or _roman(token.label, before)
        or _day(token.label, before, after)
        or _counted(token, after)
    )


def _before(tokens: Sequence[Token], i: int) -> Token | None:
    """Return the word before a word, unless a stop parts them."""
    return tokens[i - 1] if i and tokens[i - 1].goes_on else None


def _after(tokens: Sequence[Token], i: int) -> Token | None:
    """Return the word behind a word, unless a stop parts them."""
    return tokens[i + 1] if i + 1 < len(tokens) and tokens[i].goes_on else None


def _currency(money: re.Match) -> units.Unit:
    return units.currencies()[money[2].upper()][0]


def _counted(token: Token, after: Token | None) -> list[str]:
    """Read 10.30 before a.m. and p.m., and 1 before a unit."""
    if after is None:
        return []
    if re.fullmatch(r"\d{1,2}\.\d\d", token.label) and re.fullmatch(r"[ap]\.?m", after.label, re.IGNORECASE):
        return spell(token.label.replace(".", ":"))
    return ["one", "a"] if token.label == "1" and after.label in units.units() else []


def _abbreviation(tokens: Sequence[Token], i: int, shouted: bool) -> list[str]:
    label = tokens[i].label
    forms = (label.lower(), label.title()) if shouted else (label, label.lower())
    rows = (row for form in forms for row in _abbreviations().get(form, ()))
    return next((readings for where, readings in rows if _WHERE[where](tokens, i)), [])


def _before_name(tokens: Sequence[Token], i: int) -> bool:
    """Tell whether a title is before a name; the St. of Elm St. is not, though a sentence may follow it."""
    after = _after(tokens, i)
    is_named = after is not None and after.raw[0].isupper() and tokens[i].raw.rstrip(".")[-1].isalnum()
    if tokens[i].label.lower() not in STREETS or i < 2:
        return is_named
    before = tokens[i - 1].raw
    return is_named and not (before[0].isupper() and before[-1].isalnum() and tokens[i - 2].raw[-1] not in ".!?")


def _before_number(tokens: Sequence[Token], i: int) -> bool:
    after = _after(tokens, i)
    is_marked = tokens[i].has_dot or tokens[i].label[0].isupper()
    return is_marked and after is not None and (after.label[0].isdigit() or numbers.roman(after.label) is not None)


def _beside_number(tokens: Sequence[Token], i: int) -> bool:
    return any(each is not None and each.label[0].isdigit() for each in (_before(tokens, i), _after(tokens, i)))


_WHERE: dict[str, Callable[[Sequence[Token], int], bool]] = {
    "any": lambda tokens, i: True,
    "dot": lambda tokens, i: tokens[i].has_dot,
    "name": _before_name,
    "number": _before_number,
    "date": _beside_number,
}


def _roman(label: str, before: Token | None) -> list[str]:
    """Read a roman numeral: after a noun as a number, after a name as an ordinal, and as what else it may be."""
    value = numbers.roman(label.upper())
    if value is None or not (label.isupper() or (label.islower() and len(label) > 1)):
        return []
    kind = _numbered().get(before.label.lower()) if before is not None else None
    follows_capital = before is not None and before.label[0].isupper()
    if len(label) == 1:
        return _roman_letter(label, value, kind, follows_capital)
    others = [*([label] if _is_known(label) else []), " ".join(label.upper())]
    if kind == "noun":
        return [cardinals(value)[0], *others]
    if not set(label.upper()) <= set("IVX"):
        return [label, *numbers.years(value), *others] if label.isupper() and len(label) > 3 else []
    if label.isupper() and follows_capital:
        return [f"the {ordinals(value)[0]}", cardinals(value)[0], *others]
    return [*others[:-1], cardinals(value)[0], ordinals(value)[0], others[-1]]


def _roman_letter(label: str, value: int, kind: str | None, follows_capital: bool) -> list[str]:
    """Read a letter that may be a roman numeral; I and X are most often what they seem."""
    if kind == "noun":
        forms = [cardinals(value)[0], label]
        return forms if follows_capital and label != "X" else forms[::-1]
    if kind == "name" and label in "IVX":
        forms = [f"the {ordinals(value)[0]}", cardinals(value)[0]]
        return [*forms, label] if label == "V" else [label, *forms]
    return [label, cardinals(value)[0], f"the {ordinals(value)[0]}"] if follows_capital and label in "VX" else []


def _day(label: str, before: Token | None, after: Token | None) -> list[str]:
    """Read the day of a month whose name stands before or after it."""
    match = _BARE_DAY.fullmatch(label)
    if match is None or not 1 <= int(match[1]) <= 31:
        return []
    cardinal, ordinal = [] if match[2] else cardinals(int(match[1])), ordinals(int(match[1]))[0]
    if _is_month(before):
        return [ordinal, f"the {ordinal}", *cardinal]
    if not _is_month(after):
        return []
    is_the = before is not None and before.label.lower() == "the"
    return [*([] if is_the else [f"the {ordinal} of"]), f"{ordinal} of", ordinal, *cardinal]


def _is_month(token: Token | None) -> bool:
    return token is not None and token.label.capitalize() in _months() and token.label[0].isupper()


def _acronym(label: str, shouted: bool) -> list[str]:
    """Read capitals as letters and as a word; what the dictionary has is first of all a word."""
    if "-" in label and not shouted and re.search("[A-Z]{2}", label):
        return combine(*(_part(part, shouted) for part in label.split("-") if part))
    match = re.fullmatch("([A-Z]{2,6})(s?)", label)
    if match is None or (shouted and notations.has_vowel(label)):
        return [label]
    spelt = " ".join(match[1])
    if match[2]:
        return [label] if _is_known(label) else [numbers.plural(spelt), label]
    if _is_known(label):
        return [label, spelt] if len(label) <= ACRONYM and not shouted else [label]
    return notations.letters(label)


def _part(word: str, shouted: bool) -> list[str]:
    """Read a part of a hyphenated word."""
    rows = _abbreviations().get(word, ()) if word.isupper() else ()
    return next((found for where, found in rows if where == "any"), None) or _acronym(word, shouted)


def _is_known(word: str) -> bool:
    from asr.speech.pronounce import is_known  # reads the dictionary: most texts do not need it here

    return is_known(word)


@functools.cache
def _abbreviations() -> dict[str, list[tuple[str, list[str]]]]:
    """Return for each abbreviation where it stands, and its readings there."""
    found = dict[str, list[tuple[str, list[str]]]]()
    for written, where, readings in units.table("abbreviations"):
        found.setdefault(written, []).append((where, readings.split("|")))
    return found


@functools.cache
def _numbered() -> dict[str, str]:
    """Return the words after which roman numerals stand: nouns such as chapter, and names such as Henry."""
    return {word.lower(): kind for word, kind in units.table("numbered")}


@functools.cache
def _months() -> frozenset[str]:
    return frozenset([*MONTHS, *(month[:3] for month in MONTHS), "Sept"])


@functools.cache
def _shorthands() -> frozenset[str]:
    """Return the words in small letters that may be something else than they seem."""
    return frozenset([*(written.lower() for written in _abbreviations()), *SCALE_WORDS])
