"""The page of a corpus that was checked: histograms, what was found, and the utterances to look at.

Like that of an evaluation it is one HTML file that needs neither network nor server.
"""

import base64
import html
from collections.abc import Callable, Sequence
from pathlib import Path

from asr.core.files import write_json, write_text
from asr.data.check import Checked, Report, lines
from asr.evaluation.figures import corpus_histograms
from asr.evaluation.page import fill, template

ROWS = 20  # of each list
EXTREMES: dict[str, Callable[[Checked], float]] = {
    "longest": lambda each: -each.duration,
    "fewest output frames to spare": lambda each: each.spare_frames,
    "most silence": lambda each: -each.silence,
    "most clipped": lambda each: -each.clipped,
    "quietest": lambda each: each.peak,
}


def write(report: Report, folder: Path) -> Path:
    """Write a report as ``check.html``, ``check.png`` and ``check.json``, and return the page.

    Parameters
    ----------
    report
        From `asr.data.check.check`.
    folder
        Receives the files.

    Raises
    ------
    AsrError
        No utterance could be read.
    """
    corpus_histograms(report.utterances, folder / "check.png")
    heard = [each for each in report.utterances if each.duration]
    title = f"{Path(report.place).name}: {report.form}"
    values = {
        "title": html.escape(title),
        "style": template("report.css"),
        "histograms": base64.b64encode((folder / "check.png").read_bytes()).decode(),
        "findings": html.escape("\n".join(lines(report))),
        "utterances": "".join(_table(name, sorted(heard, key=key)[:ROWS]) for name, key in EXTREMES.items()),
    }
    write_json(folder / "check.json", report.to_json())
    write_text(folder / "check.html", fill(template("check.html"), values))
    return folder / "check.html"


def _table(name: str, utterances: Sequence[Checked]) -> str:
    head = ("utterance", "split", "speaker", "seconds", "phones", "frames to spare", "silence", "clipped", "peak")
    rows = [
        (
            each.id,
            each.split,
            each.speaker,
            f"{each.duration:.2f}",
            f"{each.num_phones}",
            f"{each.spare_frames}",
            f"{each.silence:.0%}",
            f"{each.clipped:.2%}",
            f"{each.peak:.1f} dB",
        )
        for each in utterances
    ]
    cells = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    heads = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    table = f'<div class="scroll"><table><tr>{heads}</tr>{cells}</table></div>'
    return f"<details><summary>{html.escape(name)}</summary>{table}</details>"
