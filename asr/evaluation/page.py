"""The page of an evaluation: one HTML file that needs neither network nor server.

The folder ``templates`` holds the page's skeleton, its style sheets and its scripts. `write` puts them into one file
with the evaluations: numbers as JSON, from which the scripts draw tables and charts when the page is opened; sound and
pictures as base64. A content security policy in the page forbids every request.

An evaluation is the dictionary that ``asr evaluate`` writes as JSON. To save room, labels become numbers, times become
whole milliseconds, and a recording that several evaluations share is stored once.
"""

import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from asr.core.errors import AsrError
from asr.core.files import write_text

STYLES = ("report.css", "utterances.css")
SCRIPTS = ("dom.js", "charts.js", "sections.js", "player.js", "utterances.js", "report.js")
KEYS = (  # of an evaluation that the page shows
    *("system", "corpus", "split", "decoder", "command", "regimes", "groups", "confusions", "classes", "training"),
    *("pfer", "boundaries", "calibration", "utterances"),
)
MEDIA = ("audio", "posteriors", "spectrogram")  # of an utterance that can be played and looked at


def write(
    path: Path,
    evaluations: Sequence[Mapping[str, Any]],
    notes: Sequence[str] = (),
    comparisons: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the page of one evaluation, or of several side by side.

    Parameters
    ----------
    path
        The HTML file, written under a temporary name first.
    evaluations
        What ``asr evaluate`` writes as JSON. The page opens on the first.
    notes
        Sentences to print under the comparison, such as the result of a significance test.
    comparisons
        Test sets, as ``compare.json`` has them, whose differences are shown there as a table.

    Raises
    ------
    AsrError
        There is no evaluation, or an evaluation lacks a key.

    Examples
    --------
    >>> write(Path("report.html"), [])
    Traceback (most recent call last):
    ...
    asr.core.errors.AsrError: no evaluation for report.html: run `asr evaluate` first
    """
    if not evaluations:
        raise AsrError(f"no evaluation for {path}: run `asr evaluate` first")
    for evaluation in evaluations:
        missing = [key for key in KEYS if key not in evaluation]
        if missing:
            name = evaluation.get("system", "without a name")
            raise AsrError(f"evaluation {name} lacks {', '.join(missing)}: run `asr evaluate` on it again")
    write_text(path, render(evaluations, notes, comparisons))


def render(
    evaluations: Sequence[Mapping[str, Any]],
    notes: Sequence[str] = (),
    comparisons: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Return the page as text; see `write`."""
    first = evaluations[0]
    title = f"{first['system']} on {first['corpus']} {first['split']}"
    if len(evaluations) > 1:
        title = f"{len(evaluations)} evaluations compared"
    tables = {"notes": list(notes), "comparisons": list(comparisons)}
    return fill(
        template("report.html"),
        {
            "title": html.escape(title),
            "style": "\n".join(map(template, STYLES)),
            "script": "\n".join(map(template, SCRIPTS)),
            "data": _script_json({"title": title, **tables, **_pack(evaluations)}),
        },
    )


def distinct_names(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name each evaluation by those of system, test set and decoder in which it differs from the others.

    >>> a = {"system": "blstm", "corpus": "mini", "split": "test", "decoder": "beam 16"}
    >>> distinct_names([a])
    ['blstm']
    >>> distinct_names([a, a | {"decoder": "best path"}])
    ['beam 16', 'best path']
    >>> distinct_names([a, a | {"system": "hmm", "decoder": "Viterbi"}])
    ['blstm', 'hmm']
    >>> distinct_names([a, a | {"system": "hmm", "split": "dev"}, a])
    ['blstm, mini test (1)', 'hmm, mini dev', 'blstm, mini test (2)']
    """
    parts = [(e["system"], f"{e['corpus']} {e['split']}", e["decoder"]) for e in evaluations]
    varied = [i for i in range(3) if len({part[i] for part in parts}) > 1] or [0]
    if len({part[:2] for part in parts}) == len(set(parts)):  # the decoder tells nothing more
        varied = [i for i in varied if i < 2]
    plain = [", ".join(part[i] for i in varied) for part in parts]
    return [f"{name} ({plain[: i + 1].count(name)})" if plain.count(name) > 1 else name for i, name in enumerate(plain)]


def template(name: str) -> str:
    """Return a file of the folder ``templates``."""
    return resources.files("asr.evaluation").joinpath("templates", name).read_text(encoding="utf8")


def fill(text: str, values: Mapping[str, str]) -> str:
    """Replace each ``{{name}}`` once; the replacements are not searched for names again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], text)


def _script_json(values: Any) -> str:
    """Return JSON that can neither end the script element around it nor open a comment in it."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _pack(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the evaluations without repetition, and the list of sounds and pictures that their numbers point into."""
    media: dict[str, int] = {}
    packed = [
        {**evaluation, "name": name, **_pack_utterances(evaluation["utterances"], media)}
        for evaluation, name in zip(evaluations, distinct_names(evaluations), strict=True)
    ]
    return {"evaluations": packed, "media": list(media)}


def _pack_utterances(utterances: Sequence[Mapping[str, Any]], media: dict[str, int]) -> dict[str, Any]:
    """Replace labels and media by numbers; keep times only of utterances that can be played or looked at."""
    number: dict[str | None, int] = {None: -1}

    def index(label: str | None) -> int:
        return number.setdefault(label, len(number) - 1)

    rows = []
    for utterance in utterances:
        row = {key: value for key, value in utterance.items() if key not in ("reference", "hypothesis", *MEDIA)}
        row["pairs"] = [index(label) for pair in utterance["pairs"] for label in pair]
        shown = {key: utterance[key] for key in MEDIA if utterance.get(key)}
        row |= {key: media.setdefault(value, len(media)) for key, value in shown.items()}
        if shown:
            row |= {key: _pack_segments(utterance[key], index) for key in ("reference", "hypothesis")}
        rows.append(row)
    return {"labels": [label for label in number if label is not None], "utterances": rows}


def _pack_segments(segments: Sequence[Mapping[str, Any]], index: Callable[[str | None], int]) -> list[int | None]:
    """Flatten segments to label, start and end in ms, and confidence in thousandths or null."""
    packed: list[int | None] = []
    for segment in segments:
        confidence = segment.get("confidence")
        packed += [index(segment["label"]), round(1000 * segment["start"]), round(1000 * segment["end"])]
        packed.append(None if confidence is None else round(1000 * confidence))
    return packed
