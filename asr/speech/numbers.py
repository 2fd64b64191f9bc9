"""Numbers in digits as they are read aloud in English.

Each function returns the ways in which a number is read, the usual one first, as words with blanks between. A single
capital is the name of a letter. `asr.speech.readings` finds the numbers in a text.
"""

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

MOST = 16  # readings of a token
LONGEST = 12  # digits of a number that is read as one
YEARS = range(1100, 2100)  # numbers of four digits that are first of all years
DENOMINATORS = {2: ("half", "halves"), 4: ("quarter", "quarters")}
ROMAN = {"M": 1000, "D": 500, "C": 100, "L": 50, "X": 10, "V": 5, "I": 1}

_ROMAN = re.compile("(?=.)M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})")


def combine(*parts: Sequence[str], most: int = MOST) -> list[str]:
    """Join a reading of each part to one, in all ways, those first that take the first readings of most parts.

    >>> combine(["two", "too"], ["", "and"], ["a half"])
    ['two a half', 'two and a half', 'too a half', 'too and a half']
    """
    ways = (" ".join(filter(None, way)) for way in by_deviations(parts))
    return different(itertools.islice(ways, most))


def by_deviations(parts: Sequence[Sequence]) -> Iterator[tuple]:
    """Yield all choices of one item of each part, first the first items, then choices with one other item, and so on.

    >>> list(by_deviations(["ab", "cd"]))
    [('a', 'c'), ('a', 'd'), ('b', 'c'), ('b', 'd')]
    """
    first = tuple(part[0] for part in parts)
    movable = [i for i, part in enumerate(parts) if len(part) > 1]
    yield first
    for count in range(1, len(movable) + 1):
        for places in reversed(list(itertools.combinations(movable, count))):
            for others in itertools.product(*(parts[i][1:] for i in places)):
                way = list(first)
                for i, other in zip(places, others, strict=True):
                    way[i] = other
                yield tuple(way)


def different(readings: Iterable[str], most: int = MOST) -> list[str]:
    """Return the first different readings.

    >>> different(["ten", "ten", "one oh"])
    ['ten', 'one oh']
    """
    return list(itertools.islice(dict.fromkeys(readings), most))


def read(text: str) -> list[str]:
    """Read digits, with commas between thousands or not, and with decimals or not.

    >>> read("1,234")[:2]
    ['one thousand two hundred and thirty four', 'one thousand two hundred thirty four']
    >>> read("3.14"), read("007")[:2]
    (['three point one four', 'three point fourteen', 'three fourteen'], ['zero zero seven', 'oh oh seven'])
    """
    whole, _, decimals = text.replace(",", "").partition(".")
    if decimals:
        return _decimal(whole, decimals)
    if "," in text:
        return different([*cardinals(int(whole)), *hundreds(int(whole))])
    return integer(whole)


def _decimal(whole: str, decimals: str) -> list[str]:
    starts = ["zero", "", "oh", "nought"] if not whole.strip("0") else cardinals(int(whole))
    spelt = combine(starts, ["point"], digits(decimals))
    if len(decimals) == 2 and decimals[0] != "0":
        pair = cardinals(int(decimals))
        return different([*spelt[: MOST - 4], *combine(starts[:1], ["point", ""], pair)])
    return spelt


def integer(text: str) -> list[str]:
    """Read digits as a number, as a year if they may be one, by pairs of digits, and digit by digit.

    >>> integer("1905")[:4]
    ['nineteen oh five', 'nineteen hundred and five', 'nineteen hundred five', 'one thousand nine hundred and five']
    >>> integer("747")
    ['seven hundred and forty seven', 'seven hundred forty seven', 'seven forty seven', 'seven four seven']
    """
    number = int(text)
    if len(text) > LONGEST or (text[0] == "0" and len(text) > 1):
        return digits(text)
    if len(text) < 3:
        return cardinals(number) if number else ["zero", "oh", "nought"]
    spelt = digits(text)
    if len(text) > 4:
        return different([*(cardinals(number) if len(text) < 7 else cardinals(number)[:2]), *spelt])
    pairs = [] if number % 100 == 0 else combine(cardinals(number // 100), [two_digits(number % 100)])
    if number in YEARS:
        return different([*years(number), *cardinals(number), *spelt])
    return different([*cardinals(number), *(hundreds(number) if number >= 1000 else []), *pairs, *spelt])


def digits(text: str) -> list[str]:
    """Read digits one by one, zeros as "zero" or "oh", and equal ones as "double"; other characters part groups.

    >>> digits("505-3"), digits("44")
    (['five zero five three', 'five oh five three'], ['four four', 'double four'])
    """
    groups = [" ".join(cardinals(int(digit))[0] for digit in group) for group in re.findall(r"\d+", text)]
    doubled = [re.sub(r"\b(\w+) \1\b", r"double \1", group) for group in groups]
    return different(" ".join(each).replace("zero", zero) for each in (groups, doubled) for zero in ("zero", "oh"))


@functools.cache
def cardinals(number: int) -> list[str]:
    """Read a number with "and" and without, and with "a" for "one".

    >>> cardinals(101)
    ['one hundred and one', 'one hundred one', 'a hundred and one', 'a hundred one']
    """
    spelt = _words(number, "cardinal")
    forms = [spelt, spelt.replace(" and ", " ")]
    scale = 10 ** (len(str(number)) - 1)
    if scale in (100, 1000, 10**6, 10**9) and number < scale + 100:
        forms += [each.replace("one", "a", 1) for each in forms]
    return different(forms)


def hundreds(number: int) -> list[str]:
    """Read a number of four digits in hundreds, where it is.

    >>> hundreds(1500), hundreds(3000)
    (['fifteen hundred'], [])
    """
    if not (1000 < number < 10000 and number // 100 % 10):
        return []
    rest = [f"{joint} {each}" for joint in ("and", "") for each in cardinals(number % 100)] if number % 100 else [""]
    return combine(cardinals(number // 100), ["hundred"], [each.strip() for each in rest])


@functools.cache
def ordinals(number: int) -> list[str]:
    """Read the ordinal of a number.

    >>> ordinals(121)
    ['one hundred and twenty first', 'one hundred twenty first']
    """
    spelt = _words(number, "ordinal")
    return different([spelt, spelt.replace(" and ", " ")])


def years(number: int) -> list[str]:
    """Read a year.

    >>> years(1998), years(2005)
    (['nineteen ninety eight'], ['two thousand and five', 'two thousand five', 'twenty oh five'])
    >>> years(1900), years(2010)
    (['nineteen hundred'], ['twenty ten', 'two thousand and ten', 'two thousand ten'])
    """
    century, rest = divmod(number, 100)
    if century % 10 == 0 and (century == 0 or rest == 0):
        return cardinals(number)
    named = [] if rest == 0 else combine(cardinals(century), [two_digits(rest)])
    if century % 10 == 0:
        return different([*named, *cardinals(number)] if rest > 9 else [*cardinals(number), *named])
    return different([*named, *hundreds(number)] if rest < 10 else named)


def two_digits(number: int) -> str:
    """Read what stands behind the hundreds of a year or the hour of a time.

    >>> two_digits(5), two_digits(15)
    ('oh five', 'fifteen')
    """
    return f"oh {cardinals(number)[0]}" if number < 10 else cardinals(number)[0]


def fractions(numerator: int, denominator: int) -> list[str]:
    """Read a fraction; none where no English speaker would call it by an ordinal.

    >>> fractions(3, 4), fractions(1, 2)
    (['three quarters', 'three fourths'], ['one half', 'half', 'a half'])
    """
    if denominator < 2:
        return []
    named = [DENOMINATORS[denominator]] if denominator in DENOMINATORS else []
    named += [(each, f"{each}s") for each in ordinals(denominator)] if denominator > 2 else []
    if numerator == 1:
        found = [f"{start} {one}" for one, _ in named for start in ("one", "a")]
        return different([found[0], "half", *found[1:]] if denominator == 2 else found)
    return combine(cardinals(numerator), [more for _, more in named])


def plural(words: str) -> str:
    """Return the plural of a number or of a letter's name.

    >>> plural("nineteen sixty"), plural("two thousand six"), plural("D V D")
    ('nineteen sixties', 'two thousand sixes', "D V D's")
    """
    if words[-1:].isupper():
        return f"{words}'s"
    if words.endswith("y"):
        return f"{words[:-1]}ies"
    return f"{words}es" if words.endswith("x") else f"{words}s"


def roman(text: str) -> int | None:
    """Return the value of a roman numeral; None if it is none.

    >>> roman("XIV"), roman("IC")
    (14, None)
    """
    if not _ROMAN.fullmatch(text):
        return None
    values = [ROMAN[letter] for letter in text]
    return sum(-value if value < max(values[i + 1 :], default=0) else value for i, value in enumerate(values))


def _words(number: int, kind: str) -> str:
    from num2words import num2words  # a tenth of a second: most texts have no digits

    return num2words(number, to=kind).replace(",", "").replace("-", " ")
