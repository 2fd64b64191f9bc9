"""Praat's TextGrids: both text formats are read, and the short one is written.

To Praat such a file is a row of strings in double quotes, of numbers that stand free and of flags in angle brackets;
all else, such as ``intervals [1]:`` and ``xmin =``, is for people
(https://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html).
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from asr.speech.segments import Segment

_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<!\S)([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)(?!\S)')
_IS_OF_POINTS = {"IntervalTier": False, "TextTier": True}
LEAST = 1e-8  # seconds; gaps of less are none


class Tier(NamedTuple):
    """A tier of a TextGrid: its intervals, which may have no label, or its points, which have no length."""

    name: str
    is_of_points: bool
    entries: Sequence[Segment]


class TextGrid(NamedTuple):
    """A TextGrid: its times in seconds, and its tiers, of which several may have one name."""

    start: float
    end: float
    tiers: Sequence[Tier]


def read(path: Path) -> TextGrid:
    """Read a TextGrid in UTF-8 or UTF-16, with all that it has.

    Raises
    ------
    ValueError
        The file is not as Praat writes it; or it is in neither encoding.
    """
    data = path.read_bytes()
    is_wide = data.startswith((b"\xfe\xff", b"\xff\xfe"))
    return parse(data.decode("utf-16" if is_wide else "utf-8-sig"))


def parse(text: str) -> TextGrid:
    r"""Return the TextGrid that a text says; errors are those of `read`.

    >>> grid = TextGrid(0.0, 1.0, [Tier("words", False, [Segment('say "hi"', 0.0, 1.0)])])
    >>> parse(to_text(grid)) == grid
    True
    """
    found = _TOKEN.finditer(text)
    tokens = ((match[2] is not None, match[2] or match[1].replace('""', '"')) for match in found)
    if (_string(tokens), _string(tokens)) != ("ooTextFile", "TextGrid"):
        raise ValueError("it holds no TextGrid")
    start, end, tiers = _number(tokens), _number(tokens), list[Tier]()
    for _ in range(int(_number(tokens))):
        kind, name, _, _ = _string(tokens), _string(tokens), _number(tokens), _number(tokens)
        if kind not in _IS_OF_POINTS:
            raise ValueError(f"a tier is a {kind!r}")
        entries = list[Segment]()
        for _ in range(int(_number(tokens))):
            first = _number(tokens)
            last = first if _IS_OF_POINTS[kind] else _number(tokens)
            if (last <= first and not _IS_OF_POINTS[kind]) or (entries and first < entries[-1].start):
                raise ValueError(f"the tier {name!r} goes back in time at {first} s")
            entries.append(Segment(_string(tokens), first, last))
        tiers.append(Tier(name, _IS_OF_POINTS[kind], entries))
    return TextGrid(start, end, tiers)


def _string(tokens: Iterator[tuple[bool, str]]) -> str:
    is_number, token = next(tokens, (True, "its end"))
    if is_number:
        raise ValueError(f"{token} stands where a text is due")
    return token


def _number(tokens: Iterator[tuple[bool, str]]) -> float:
    is_number, token = next(tokens, (False, "its end"))
    if not is_number:
        raise ValueError(f"{token!r} stands where a number is due")
    return float(token)


def to_text(grid: TextGrid) -> str:
    """Return a TextGrid in Praat's short text format; intervals without a label fill the gaps of interval tiers."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += [_time(grid.start), _time(grid.end), "<exists>", str(len(grid.tiers))]
    for name, is_of_points, entries in grid.tiers:
        rows = list(entries) if is_of_points else _filled(entries, grid.start, grid.end)
        lines += [_quoted("TextTier" if is_of_points else "IntervalTier"), _quoted(name)]
        lines += [_time(grid.start), _time(grid.end), str(len(rows))]
        for each in rows:
            lines += [_time(each.start), *([] if is_of_points else [_time(each.end)]), _quoted(each.label)]
    return "\n".join([*lines, ""])


def _filled(entries: Sequence[Segment], start: float, end: float) -> list[Segment]:
    found, last = list[Segment](), start
    for each in entries:
        if each.start - last > LEAST:
            found.append(Segment("", last, each.start))
            last = each.start
        found.append(Segment(each.label, last, each.end))
        last = each.end
    return [*found, Segment("", last, end)] if end - last > LEAST or not found else found


def _time(seconds: float) -> str:
    return repr(float(seconds)).removesuffix(".0")  # as many digits as tell it from others


def _quoted(text: str) -> str:
    return '"{}"'.format(text.replace('"', '""'))
