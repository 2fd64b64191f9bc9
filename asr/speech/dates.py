"""Dates, years and times of the day, and how they are read: a part of `asr.speech.notations`."""

import re
from collections.abc import Callable, Sequence

from asr.speech import numbers
from asr.speech.numbers import cardinals, combine, different, ordinals, two_digits

MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)


def _time(match: re.Match) -> list[str]:
    """Read 10:30, 10.30pm, 10pm and 1:02:03."""
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    if hour > 24 or minute > 59:
        return []
    name, half = cardinals(hour)[0], [f"{match['half'][0].upper()} M"] if match["half"] else [""]
    if match["second"]:
        return combine([name], [two_digits(minute)], [two_digits(int(match["second"]))], half)
    if minute == 0:
        return combine([name, f"{name} o'clock"] if match["half"] else [f"{name} o'clock", name], half) + (
            [] if match["half"] else [f"{name} hundred", f"{name} hundred hours"]
        )
    shown = [f"{name} {two_digits(minute)}"] + ([f"{name} {cardinals(minute)[0]}"] if minute < 10 else [])
    return combine([shown[0], *_past(hour, minute), *shown[1:]], half)


def _past(hour: int, minute: int) -> list[str]:
    """Read a time by its distance from the full hour."""
    after, before = cardinals(hour)[0], cardinals(hour % 12 + 1)[0]
    if minute == 30:
        return [f"half past {after}"]
    left, joints, named = (minute, ("past", "after"), after) if minute < 30 else (60 - minute, ("to",), before)
    if left == 15:
        return [f"{article}quarter {joint} {named}" for joint in joints for article in ("", "a ")]
    return [f"{cardinals(left)[0]} {minutes}{joint} {named}" for joint in joints for minutes in ("", "minutes ")]


def _date(match: re.Match) -> list[str]:
    """Read 12/25/1998, 25.12.98 and others; the Americans write the month first, but never with dots."""
    first, second, sign, year = int(match[1]), int(match[3]), match[2], match[4]
    orders = {(first, second): None, (second, first): None}
    dates = [month_and_day(month, day) for month, day in ([*orders][::-1] if sign == "." else orders)]
    dates = [each[:6] if len([*filter(None, dates)]) == 1 else each[:3] for each in dates]
    named = [date for several in dates for date in several]
    if not named:
        return []
    plain = [cardinals(first)[0], cardinals(second)[0]]
    return combine([*named, " ".join(plain), " slash ".join([*plain, ""])], short_years(year))


def _iso_date(match: re.Match) -> list[str]:
    """Read 2024-05-06."""
    named = month_and_day(int(match[3]), int(match[4]))
    plain = [f"{year} {two_digits(int(match[3]))} {two_digits(int(match[4]))}" for year in numbers.years(int(match[1]))]
    return combine(named, numbers.years(int(match[1])), most=10) + plain[:2] if named else []


def month_and_day(month: int, day: int) -> list[str]:
    """Read a day of a month; none if there is no such day.

    >>> month_and_day(12, 25)[:2], month_and_day(25, 12)
    (['December twenty fifth', 'the twenty fifth of December'], [])
    """
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return []
    name, ordinal = MONTHS[month - 1], ordinals(day)[0]
    forms = (f"{name} {ordinal}", f"the {ordinal} of {name}", f"{name} the {ordinal}", f"{ordinal} of {name}")
    return [*forms, f"{ordinal} {name}", f"{name} {cardinals(day)[0]}"]


def short_years(text: str) -> list[str]:
    """Read a year of four digits, or of two.

    >>> short_years("98"), short_years("1066")[0]
    (['ninety eight', 'nineteen ninety eight'], 'ten sixty six')
    """
    number = int(text)
    if len(text) > 2:
        return numbers.years(number)
    return [two_digits(number), *numbers.years(number + (1900 if number > 29 else 2000))]


def _decade(match: re.Match) -> list[str]:
    """Read 1990s and '90s."""
    if len(match[1]) == 4:
        return [numbers.plural(each) for each in numbers.years(int(match[1]))]
    short = "two thousand" if match[1] == "00" else cardinals(int(match[1]))[0]
    return different(map(numbers.plural, [short, *numbers.years(1900 + int(match[1]))]))


RULES: Sequence[tuple[str, Callable[[re.Match], list[str]]]] = [
    (r"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d))?(?P<half>[ap]\.?m)?", _time),
    (r"(?P<hour>\d{1,2})(?:\.(?P<minute>\d\d))?(?P<second>)(?P<half>[ap]\.?m)", _time),
    (r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d\d)", _date),
    (r"(\d{4})([/.-])(\d\d)\2(\d\d)", _iso_date),
    (r"'?(\d0|\d{3}0)'?s", _decade),
    (r"'(\d\d)", lambda match: short_years(match[1])),
]
