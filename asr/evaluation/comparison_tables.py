"""Comparisons of systems as text and as Markdown: a table for each test set, and the differences of its systems.

A comparison is what ``compare.json`` has for one test set (docs/reference/evaluation.md). Few systems have a line for
each difference; the differences of many stand in a triangle: a row and a column for each system, below the diagonal.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from asr.core.terminal import columns
from asr.evaluation.tables import duration, number
from asr.speech.features import FRAME_SHIFT

NUM_LISTED = 4  # the most systems whose differences have a line each
WIDTH = 100  # characters of a line
LEVEL = 0.05  # of significance

Row = dict[str, Any]
Column = tuple[str, Callable[[Row], str]]  # its title, and its cell for a system

CAPTION = (
    "Phone error rate in percent, 95 % interval, errors, parameters, training time; when recognising, times real time "
    "and 10 ms frames a second; seconds of a training epoch."
)
PAIRS = "Differences in points, by matched pairs:"
TRIANGLE = "Points above the system of the column, by matched pairs:"
MARKS = f"* p < {LEVEL} after Holm's correction for all pairs, ° only before it"
COLUMNS: tuple[Column, ...] = (
    ("PER %", lambda row: f"{row['per']:.2f}"),
    ("95 %", lambda row: "–".join(f"{bound:.2f}" for bound in row["interval"])),
    ("sub.", lambda row: str(row["substitutions"])),
    ("ins.", lambda row: str(row["insertions"])),
    ("del.", lambda row: str(row["deletions"])),
    ("parameters", lambda row: f"{row['parameters']:,}"),
    ("training", lambda row: duration(row["training_seconds"])),
    ("× real time", lambda row: number(row["times_real_time"])),
)
MARKDOWN_COLUMNS: tuple[Column, ...] = (
    *COLUMNS,
    ("frames/s", lambda row: f"{round(row['times_real_time'] / FRAME_SHIFT, -2):,.0f}"),
    ("s an epoch", lambda row: number(row["seconds_per_epoch"])),
)
MEASURES: tuple[tuple[str, str, Callable[[float | None], str]], ...] = (  # in figures: key, title, text of a value
    ("parameters", "parameters", number),
    ("training_seconds", "training time", duration),
    ("times_real_time", "× real time", number),
)


def text(comparisons: Sequence[dict[str, Any]]) -> str:
    """Return comparisons as text tables.

    >>> row = {"per": 9.5, "interval": [9.0, 10.0], "substitutions": 5, "insertions": 1, "deletions": 2,
    ...     "parameters": 1200, "training_seconds": 90.0, "times_real_time": 250.0}
    >>> found = {"corpus": "mini", "split": "test", "scoring": "timit39", "num_phones": 84, "num_utterances": 3}
    >>> difference = {"systems": ["hmm", "ctc"], "difference": 0.0, "interval": [-1.0, 1.0]}
    >>> found |= {"systems": [{"name": "ctc"} | row, {"name": "hmm"} | row]}
    >>> found |= {"differences": [difference | {"p_value": 1.0, "p_value_corrected": 1.0}]}
    >>> print(text([found]))  # doctest: +NORMALIZE_WHITESPACE
    mini test, timit39: 3 utterances, 84 phones
    system  PER %        95 %  sub.  ins.  del.  parameters  training  × real time
    ctc      9.50  9.00–10.00     5     1     2       1,200   1.5 min          250
    hmm      9.50  9.00–10.00     5     1     2       1,200   1.5 min          250
    <BLANKLINE>
    Differences in points, by matched pairs:
    hmm - ctc: +0.00 [-1.00, +1.00], p = 1.000
    """
    return "\n\n".join("\n".join(_text_lines(each)) for each in comparisons)


def _text_lines(comparison: dict[str, Any]) -> list[str]:
    table = columns(_system_cells(comparison, COLUMNS)).split("\n")
    below = [PAIRS, *difference_lines(comparison)] if is_listed(comparison) else _triangle_lines(comparison)
    return [heading(comparison), *(f"  {line}" for line in table), "", *(f"  {line}" for line in below)]


def markdown(comparisons: Sequence[dict[str, Any]], command: str) -> str:
    """Return comparisons as Markdown.

    Parameters
    ----------
    comparisons
        One for each test set.
    command
        The command that made them, which is printed below.
    """
    lines = [line for each in comparisons for line in _markdown_lines(each)]
    return "\n".join([*lines, f"{CAPTION} Made by `{command}`."]) + "\n"


def _markdown_lines(comparison: dict[str, Any]) -> list[str]:
    table = _markdown_table(_system_cells(comparison, MARKDOWN_COLUMNS))
    if is_listed(comparison):
        below = [PAIRS, "", *(f"- {line}" for line in difference_lines(comparison))]
    else:
        labels, cells = _labels(comparison), _triangle(comparison)
        width = len(labels) - 1
        rows = [[labels[i], *cells[i], *[""] * (width - i)] for i in range(1, len(labels))]
        below = [f"{TRIANGLE} {MARKS}.", "", *_markdown_table([["points", *map(str, range(1, width + 1))], *rows])]
    return [heading(comparison), "", *table, "", *below, ""]


def _markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, whose first row is its head."""
    head, *body = rows
    return [f"| {' | '.join(row)} |" for row in (head, ["---", *["---:"] * (len(head) - 1)], *body)]


def heading(comparison: dict[str, Any]) -> str:
    """Return a line that names the test set, the phones that are scored, and how much was scored."""
    return (
        f"{comparison['corpus']} {comparison['split']}, {comparison['scoring']}: "
        f"{comparison['num_utterances']:,} utterances, {comparison['num_phones']:,} phones"
    )


def is_listed(comparison: dict[str, Any]) -> bool:
    """Tell whether each difference has a line; otherwise they stand in a triangle."""
    return len(comparison["systems"]) <= NUM_LISTED


def _labels(comparison: dict[str, Any]) -> list[str]:
    """Return the names of the systems, with the numbers that a triangle refers to where there is one."""
    names = [row["name"] for row in comparison["systems"]]
    return names if is_listed(comparison) else [f"{i} {name}" for i, name in enumerate(names, 1)]


def _system_cells(comparison: dict[str, Any], shown: Sequence[Column]) -> list[list[str]]:
    """Return the table of the systems: the titles, then a row of cells for each system."""
    rows = zip(_labels(comparison), comparison["systems"], strict=True)
    return [
        ["system", *(title for title, _ in shown)],
        *([label, *(cell(row) for _, cell in shown)] for label, row in rows),
    ]


def difference_lines(comparison: dict[str, Any]) -> list[str]:
    """Return each difference as a line to read.

    >>> row = {"systems": ["a", "b"], "difference": 1.5, "interval": [1.0, 2.0], "p_value": 0.0004}
    >>> difference_lines({"differences": [row]})
    ['a - b: +1.50 [+1.00, +2.00], p < 0.001']
    """
    differences = comparison["differences"]
    lines = []
    for each in differences:
        low, high = each["interval"]
        corrected = f", Holm {_p_text(each['p_value_corrected'])}" if len(differences) > 1 else ""
        found = f"{each['difference']:+.2f} [{low:+.2f}, {high:+.2f}], {_p_text(each['p_value'])}{corrected}"
        lines.append(f"{' - '.join(each['systems'])}: {found}")
    return lines


def _p_text(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def _triangle(comparison: dict[str, Any]) -> list[list[str]]:
    """Return a row for each system: its difference from each better system, marked where it is significant.

    >>> row = {"p_value": 0.01, "p_value_corrected": 0.03}
    >>> systems = [{"name": "a"}, {"name": "b"}]
    >>> _triangle({"systems": systems, "differences": [{"systems": ["b", "a"], "difference": 1.5} | row]})
    [[], ['1.50*']]
    """
    names = [row["name"] for row in comparison["systems"]]
    of_pair = {tuple(each["systems"]): each for each in comparison["differences"]}
    return [[_triangle_cell(of_pair[name, better]) for better in names[:i]] for i, name in enumerate(names)]


def _triangle_cell(difference: dict[str, Any]) -> str:
    mark = "*" if difference["p_value_corrected"] < LEVEL else "°" if difference["p_value"] < LEVEL else ""
    return f"{difference['difference']:.2f}{mark}"


def _triangle_lines(comparison: dict[str, Any]) -> Iterator[str]:
    """Lay the triangle out in blocks of as many columns as fit in a line."""
    labels, cells = _labels(comparison), _triangle(comparison)
    label_width = max(map(len, labels))
    width = 2 + max(len(cell.rstrip("*°")) for row in cells for cell in row)
    in_block = max(1, (WIDTH - 2 - label_width) // (width + 1))
    yield TRIANGLE
    for start in range(0, len(labels) - 1, in_block):
        block = range(start, min(start + in_block, len(labels) - 1))
        yield (" " * label_width + "".join(str(i + 1).rjust(width) + " " for i in block)).rstrip()
        for label, row in list(zip(labels, cells, strict=True))[start + 1 :]:
            shown = row[block.start : block.stop]
            padded = ((cell if cell[-1] in "*°" else cell + " ").rjust(width + 1) for cell in shown)
            yield (label.ljust(label_width) + "".join(padded)).rstrip()
    yield MARKS
