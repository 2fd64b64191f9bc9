"""The names of units, currencies and signs, from `tables/readings`."""

import csv
import functools
from pathlib import Path
from typing import NamedTuple

from asr.speech import numbers
from asr.speech.numbers import combine, different

_TABLES = Path(__file__).parent / "tables" / "readings"


class Unit(NamedTuple):
    """What a unit after a number is called."""

    one: str
    more: str
    others: tuple[str, ...] = ()

    def names(self, number: str) -> list[str]:
        """Return its names after a number in digits; the singular also stands in "a five mile run".

        >>> Unit("mile", "miles").names("5"), Unit("mile", "miles").names("1")
        (['miles', 'mile'], ['mile'])
        """
        return different([self.one, *self.others] if number == "1" else [self.more, self.one, *self.others])

    def counted(self, number: str) -> list[str]:
        """Return the readings of a number in digits with the unit.

        >>> Unit("mile", "miles").counted("1")
        ['one mile', 'a mile']
        """
        several = [*numbers.read(number)[:8], *(["a"] if number == "1" else [])]
        return combine(several, self.names(number))


@functools.cache
def units() -> dict[str, Unit]:
    """Return the names of units, by their signs."""
    return {sign: Unit(one, more, _several(others)) for sign, one, more, others in table("units")}


@functools.cache
def signs() -> dict[str, list[str]]:
    """Return the readings of signs that are neither letters nor digits."""
    return {sign: list(_several(readings)) for sign, readings in table("symbols")}


@functools.cache
def currencies() -> dict[str, tuple[Unit, Unit]]:
    """Return the names of currencies and of their hundredths, by their signs."""
    return {sign: (Unit(one, more), Unit(part, parts)) for sign, one, more, part, parts in table("money")}


def table(name: str) -> list[list[str]]:
    """Return the rows of one of the tables, without their heading."""
    with (_TABLES / f"{name}.tsv").open(newline="", encoding="utf-8") as lines:
        return list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]


def _several(cell: str) -> tuple[str, ...]:
    return tuple(filter(None, cell.split("|")))
