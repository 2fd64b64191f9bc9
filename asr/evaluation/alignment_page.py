"""Pages about alignments: their quality, or the agreement of two of them, with the places that are worth a look.

Like that of an evaluation each is one HTML file that needs neither network nor server. What is to be heard and seen of
a place comes as an HTML element (`asr.recognition.notebook`).
"""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asr.core.files import write_text
from asr.core.terminal import duration
from asr.evaluation import boundaries
from asr.evaluation.agreement import Agreement, cells
from asr.evaluation.page import fill, template

BINS = 10  # of the histogram of qualities
ROWS = 200  # of recordings that are listed


class Place(NamedTuple):
    """A place that is worth a look: a line about it, and its sound, picture and labels as an HTML element."""

    heading: str
    element: str


def write_quality(path: Path, rows: Mapping[str, Mapping[str, Any]], places: Sequence[Place]) -> None:
    """Write the page of the alignments of a batch.

    Parameters
    ----------
    path
        The HTML file.
    rows
        The summary of each recording by its name: ``seconds``, ``words``, ``unsaid``, ``unspoken``, ``misfit``,
        ``quality``, ``confidence``, ``duration_deviation``, ``snr`` and ``rated``, the words.
    places
        The words that are worth a look.
    """
    words = [word["quality"] for row in rows.values() for word in row["rated"]]
    counts, _ = np.histogram(words, BINS, (0, 1))
    edges = [f"{k / BINS:.1f} to {(k + 1) / BINS:.1f}" for k in range(BINS)]
    head = ("recording", "length", "quality", "confidence", "duration deviation", "SNR", "words", "not said",
            "speech not in text", "remark")  # fmt: skip
    worst = sorted(rows, key=lambda name: rows[name]["quality"])
    lines = [
        (
            name,
            duration(row["seconds"]),
            f"{row['quality']:.2f}",
            f"{row['confidence']:.2f}",
            f"{row['duration_deviation']:.2f}",
            f"{row['snr']:.0f} dB",
            str(row["words"]),
            str(row["unsaid"]),
            duration(row["unspoken"]),
            row["misfit"] or "",
        )
        for name, row in ((name, rows[name]) for name in worst[:ROWS])
    ]
    more = f"<p>The worst {ROWS} of {len(rows)}.</p>" if len(rows) > ROWS else ""
    sections = [
        _section("Words by quality", _table(("quality", "words"), zip(edges, map(str, counts), strict=True))),
        _section("Recordings", more + _table(head, lines)),
        _places("Words worth a look", places),
    ]
    _write(path, f"Alignment of {len(rows)} recordings, {len(words)} words", sections)


def write_agreement(path: Path, names: tuple[str, str], found: Agreement, places: Sequence[Place]) -> None:
    """Write the page of the agreement of two alignments.

    Parameters
    ----------
    path
        The HTML file.
    names
        Of the two sides.
    found
        Their agreement.
    places
        The phones whose starts differ most.
    """
    head = ("phones", *(f"≤ {ms} ms" for ms in boundaries.TOLERANCES_MS), "mean |Δ|", "mean Δ", "median Δ", "number")
    worst = [(name, f"{mean:.1f} ms", str(count)) for name, mean, count in found.by_utterance()[:ROWS]]
    notes = [f"{len(found.utterances)} utterances are in both; Δ is positive where {names[1]} is later"]
    notes += found.notes(names)
    sections = [
        _section("Starts of phones", f"<p>{html.escape('; '.join(notes))}</p>{_table(head, map(cells, found.rows()))}"),
        _section("Utterances, worst first", _table(("utterance", "mean |Δ|", "phones"), worst)),
        _places("Where they differ most", places),
    ]
    _write(path, f"{names[0]} and {names[1]}", sections)


def _write(path: Path, title: str, sections: Sequence[str]) -> None:
    values = {"title": html.escape(title), "style": template("report.css"), "sections": "\n".join(sections)}
    write_text(path, fill(template("alignment.html"), values))


def _section(title: str, content: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{content}</section>"


def _places(title: str, places: Sequence[Place]) -> str:
    found = "".join(f"<h3>{html.escape(place.heading)}</h3>{place.element}" for place in places)
    return _section(title, found or "<p>None.</p>")


def _table(head: Sequence[str], rows: Any) -> str:
    heads = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    lines = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{heads}</tr>{lines}</table></div>'
