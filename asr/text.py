"""Text: tables to read in a terminal, and words without what stands at their edges."""

from collections.abc import Sequence

PUNCTUATION = '.,;:!?"()[]{}«»“”„…–—-_/\\*'  # at the edges of a word; apostrophes belong to it


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Line up cells: the first column to the left, the others to the right.

    >>> print(columns([["system", "PER %"], ["a", "2.21"]]))
    system  PER %
    a        2.21
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells))
    return "\n".join(lines)
