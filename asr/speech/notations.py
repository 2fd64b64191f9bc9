"""Words that are not written in letters alone, and how they are read by themselves: times, dates, money, addresses.

`spell` tries the rules in turn. A rule takes the parts of a word and returns its readings, the usual one first, or none
if the word is something else. What a reading is says `asr.speech.readings`. Units, currencies and signs stand in
`tables/readings`.
"""

import re
import string
import unicodedata
from collections.abc import Callable, Sequence

from asr.speech import dates, numbers
from asr.speech.dates import month_and_day
from asr.speech.numbers import cardinals, combine, different, ordinals, two_digits
from asr.speech.units import Unit, currencies, signs, units

SCALES = {"k": "thousand", "m": "million", "mn": "million", "bn": "billion", "b": "billion", "tn": "trillion"}
SIGNED = {"": [""], "-": ["minus", "negative", ""], "+": ["plus", ""], "±": ["plus or minus"]}  # or a dash
OPERATORS = {"-": ["minus"], "/": ["divided by", "over"], "*": ["times"], "x": ["times"], "×": ["times"]}
WORD_DOMAINS = ("com", "org", "net", "gov", "mil", "info", "biz", "app", "dev")
LETTER_DOMAINS = ("edu", "io", "tv", "uk", "us", "ca", "au", "de", "fr", "ie", "nz", "eu", "ch", "nl", "it", "es")
VULGAR = "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒"
SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹"

_SAME = str.maketrans(dict.fromkeys("‐‑‒–—―−", "-") | {"⁄": "/", "∕": "/"})
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+"
_HOST = rf"(?:[\w-]+\.)+(?:{'|'.join(WORD_DOMAINS + LETTER_DOMAINS)})"
ADDRESS = re.compile(
    rf"[\w.+-]+@(?:[\w-]+\.)+[a-z]{{2,}}|(?:https?|ftp)://[^\s<>]*[\w/]|www\.[\w.-]+\w(?:/[^\s<>]*[\w/])?|"
    rf"(?<![\w@.]){_HOST}(?![\w.]*\w)(?:/[^\s<>]*[\w/])?",
    re.IGNORECASE,
)
MONEY = re.compile(rf"([-+]?)(US\$|[$£€¥₹])({_NUMBER})(k|mn?|bn?|tn)?", re.IGNORECASE)


def spell(label: str) -> list[str]:
    """Return the readings of a word by itself; none where no rule tells them, as of words in letters.

    >>> spell("10:05")[:2], spell("$5.20")[:2]
    (['ten oh five', 'five past ten'], ['five dollars and twenty cents', 'five dollars twenty cents'])
    >>> spell("MP3"), spell("hello")
    (['M P three'], [])
    """
    if label.isalpha():
        return []
    label = label.translate(_SAME)
    for pattern, rule in _RULES:
        match = pattern.fullmatch(label)
        found = rule(match) if match else []
        if found:
            return found
    return []


def letters(word: str) -> list[str]:
    """Read letters as the names of each, as a word, or both.

    >>> letters("B"), letters("BWV"), letters("snark"), letters("COVID")
    (['B'], ['B W V'], ['snark'], ['COVID', 'C O V I D'])
    """
    from asr.speech.pronounce import is_known  # reads the dictionary: most texts do not need it here

    spelt = " ".join(word.upper())
    if len(word) == 1:
        return [spelt]
    is_word = has_vowel(word) or is_known(word)
    if len(word) > 3 and is_word:
        return [word, spelt] if word.isupper() else [word]
    return [spelt, word] if is_word else [spelt]


def has_vowel(word: str) -> bool:
    """Tell whether letters may be a word."""
    return re.search("[aeiouy]", word, re.IGNORECASE) is not None


def _ordinal(match: re.Match) -> list[str]:
    return ordinals(int(match[1].replace(",", "")))


def _money(match: re.Match) -> list[str]:
    """Read $5, $5.20, $5m and others."""
    sign, (unit, part), amount, scale = match[1], currencies()[match[2].upper()], match[3], match[4]
    whole, _, cents = amount.replace(",", "").partition(".")
    if scale:
        found = combine(numbers.read(amount), [SCALES[scale.lower()]], unit.names(""))
    elif len(cents) != 2:
        found = unit.counted(amount)
    else:
        found = _cents(int(whole or 0), int(cents), unit, part)
    return combine(SIGNED[sign], found)


def _cents(whole: int, cents: int, unit: Unit, part: Unit) -> list[str]:
    large = combine(cardinals(whole)[:2], unit.names(str(whole))[:1])
    if cents == 0:
        return large
    count = cardinals(cents)[0]
    small = f"{count} {part.names(str(cents))[0]}"
    if whole == 0:
        return [small, *combine(large, ["and", ""], [small])]
    named = combine(large, ["and", ""], [small])
    return different([*named, *combine(large, [count]), *combine(cardinals(whole)[:2], [two_digits(cents)])])


def _money_after(match: re.Match) -> list[str]:
    """Read 5€ and 5.20$."""
    return spell(f"{match[2]}{match[1]}")


def _fraction(match: re.Match) -> list[str]:
    """Read 3/4, 24/7 and 9/11: as a fraction, as two numbers, and as a date."""
    above, below = int(match[1]), int(match[2])
    named = numbers.fractions(above, below)
    first, second = (numbers.integer(each)[0] for each in match.groups())
    plain = [f"{first} {second}", *month_and_day(above, below)[:2], *month_and_day(below, above)[:2]]
    plain += [f"{first} {joint} {second}" for joint in ("over", "slash", "out of")]
    return different([*named, *plain] if above < below <= 100 else [*plain, *named])


def _mixed(match: re.Match) -> list[str]:
    """Read 2½, ½ and 2-1/2."""
    if not match[1]:
        return numbers.fractions(*_parts(match[2]))
    fraction = after_whole(match[2])
    return combine(numbers.read(match[1]), fraction) if fraction else []


def after_whole(fraction: str) -> list[str]:
    """Return the readings of a fraction in digits after a whole number.

    >>> after_whole("1/2"), after_whole("¾")
    (['and a half', 'and one half', 'and half'], ['and three quarters', 'and three fourths'])
    """
    named = sorted(numbers.fractions(*_parts(fraction)), key=lambda each: not each.startswith("a "))
    return [f"and {each}" for each in named]


def _parts(fraction: str) -> tuple[int, int]:
    above, below = re.split("[⁄/]", unicodedata.normalize("NFKC", fraction))
    return int(above), int(below)


def _feet(match: re.Match) -> list[str]:
    """Read 6' and 5'10."""
    number, inches = cardinals(int(match[1]))[0], match[2] and cardinals(int(match[2]))[0]
    if not inches:
        return [f"{number} feet", f"{number} foot", number]
    return combine([number], ["foot", "feet", ""], [inches, f"{inches} inches"])


def _groups(match: re.Match) -> list[str]:
    """Read the number of a telephone and others in groups, digit by digit, and 800 also as a number."""
    groups = re.findall(r"\d+", match[0])
    in_hundreds = [cardinals(int(g))[0] if re.fullmatch("[1-9]00", g) else numbers.digits(g)[0] for g in groups]
    plus = ["plus", ""] if match[0][0] == "+" else [""]
    return combine(plus, different([*numbers.digits(match[0]), " ".join(in_hundreds)]))


def _quantity(match: re.Match) -> list[str]:
    """Read numbers with a sign before them or a unit after them."""
    sign, number, unit = match.groups(default="")
    if unit and unit not in units():
        return []
    found = units()[unit].counted(number) if unit else numbers.read(number)
    if unit == "s":  # seconds, or several of that number
        plurals = [numbers.plural(each) for each in numbers.read(number)[:4]]
        found = [*plurals, *found] if len(number) > 2 else [*found, *plurals]
    return combine(SIGNED[sign], found)


def _power(match: re.Match) -> list[str]:
    """Read 5² and mc²; behind a longer word a small number is a note's."""
    exponent = int(unicodedata.normalize("NFKC", match[2]))
    if match[1].isalpha() and len(match[1]) > 2:
        return [match[1]]
    named = {2: ["squared"], 3: ["cubed"]}.get(exponent, [])
    to_the = [f"to the {ordinals(exponent)[0]}", f"to the power of {cardinals(exponent)[0]}"] if exponent else []
    return combine(_piece(match[1]), [*named, *to_the] or ["to the power of zero"])


def _signed_word(match: re.Match) -> list[str]:
    """Read #5, #tag, @name, §5 and C#."""
    sign, word = match[1], match[2]
    names = signs()[sign]
    if sign == "#":
        names = ["number", "hash", "pound", "hashtag"] if word[0].isdigit() else ["hashtag", "hash"]
        word = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", word)
    return combine(names, *map(_piece, word.split()))


def _sharp(match: re.Match) -> list[str]:
    return [f"{match[1].upper()} sharp"]


def _plus(match: re.Match) -> list[str]:
    """Read 18+, A+ and C++."""
    return combine(_piece(match[1]), *[["plus"]] * len(match[2]))


def _formula(match: re.Match) -> list[str]:
    """Read 1+1=2 and R&D."""
    parts = re.findall(r"[^=+×÷*±≈≠≤≥&/-]+|.", match[0])
    return combine(*(OPERATORS.get(part) or signs().get(part) or _piece(part) for part in parts))


def _address(match: re.Match) -> list[str]:
    """Read the addresses of web pages and of e-mail; before www the protocol may be left out."""
    if not ADDRESS.fullmatch(match[0]):
        return []
    protocol, host = re.fullmatch(r"(?:(\w+)://)?(.*)", match[0]).groups()  # type: ignore[union-attr] # it fits all
    parts = re.findall(r"[^\W\d_]+|\d+|.", host.rstrip("/"))
    spoken = [
        [part if part in WORD_DOMAINS else " ".join(part.upper())]
        if i and parts[i - 1] == "." and part.lower() in WORD_DOMAINS + LETTER_DOMAINS
        else [signs()[part][0]] if part in signs() else _piece(part)
        for i, part in enumerate(parts)
    ]  # fmt: skip
    found = combine(*spoken, most=8)
    start = f"{' '.join((protocol or '').upper())} colon slash slash"
    return [*(f"{start} {each}" for each in found), *found] if protocol else found


def _initials(match: re.Match) -> list[str]:
    """Read U.S.A. and Ph.D."""
    from asr.speech.pronounce import is_known

    spelt = " ".join(match[0].replace(".", "").upper())
    known = [match[0]] if is_known(match[0]) else []
    return [spelt, *known] if len(spelt) == len(match[0]) else [*known, spelt]


def _chain(match: re.Match) -> list[str]:
    """Read numbers and words that signs join: 1914-18, 3:1, 2.0.1, 20-year-old, 1,2,3."""
    parts = re.split(r"([-:./,])", match[0])
    if len(parts) == 1 or not all(parts):
        return []
    found = list[Sequence[str]]()
    for i, part in enumerate(parts):
        if i % 2 == 0:
            found.append(_piece(part))
            continue
        if parts[i - 1][-1] in f"{string.digits}%°" and parts[i + 1][0].isdigit():
            found.append(_JOINTS[part])
        elif part == "-":
            found.append([""])
        else:
            return []
    return combine(*found)


def _letters_and_digits(match: re.Match) -> list[str]:
    """Read MP3 and B2B."""
    runs = re.findall(r"[^\W\d_]+|\d+", match[0])
    if not all(run.isalpha() or run.isdecimal() for run in runs):
        return []
    return combine(*(letters(run) if run.isalpha() else numbers.integer(run) for run in runs))


def _by(match: re.Match) -> list[str]:
    """Read 4x4."""
    return combine(numbers.read(match[1]), ["by", "times", "X"], numbers.integer(match[2]))


def _piece(word: str) -> list[str]:
    """Read a part of a word."""
    is_letters = word.isalpha() and (len(word) == 1 or word.isupper() or not has_vowel(word))
    return spell(word) or (letters(word) if is_letters else [word])


def _sign(match: re.Match) -> list[str]:
    return signs().get(match[0], [])


_JOINTS = {"-": ["to", "", "through"], ":": ["to", ""], ".": ["point", "dot"], "/": ["", "slash"], ",": [""]}
_RULES: Sequence[tuple[re.Pattern, Callable[[re.Match], list[str]]]] = [
    (re.compile(pattern, re.IGNORECASE), rule)
    for pattern, rule in (
        *dates.RULES,
        (r"([\d,]+)(?:st|nd|rd|th)", _ordinal),
        (MONEY.pattern, _money),
        (rf"({_NUMBER})([$£€¥₹])", _money_after),
        (r"(\d+)/([1-9]\d*)", _fraction),
        (rf"(\d*)-?([{VULGAR}])", _mixed),
        (r"(\d+)-(\d+/[1-9]\d*)", _mixed),
        (r"(\d)'(\d{1,2})?", _feet),
        (
            r"\+?(?:\d{1,3}-)?(?:\d{3}-)\d{3}-\d{4}|\d{3}-\d{4}|\d{3}\.\d{3}\.\d{4}|\+\d{8,}|\+?\d+(?:-\d{2,}){3,}",
            _groups,
        ),
        (rf"([-+±]?)({_NUMBER})([^\W\d_][\w/²³]*|[%‰°¢][^\W\d_]?)?", _quantity),
        (r"(\d+)x(\d+)", _by),
        (rf"(.+?)([{SUPERSCRIPTS}]+)", _power),
        (r"([#@§])(\w[\w-]*)", _signed_word),
        (r"([A-G])#", _sharp),
        (r"(\w+)(\+{1,2})", _plus),
        (r"[\w.]+(?:[=+×÷*±≈≠≤≥&/-]+[\w.]+)*[=+×÷±≈≠≤≥&][\w.]+(?:[=+×÷*±≈≠≤≥&/-]+[\w.]+)*", _formula),
        (r"\S+\.\S+", _address),
        (r"(?:[^\W\d_]\.)+[^\W\d_]|ph\.d", _initials),
        (r"[^\W_]*\d[^\W_]*", _letters_and_digits),
        (r".*\d.*", _chain),
        (r"\W", _sign),
    )
]
