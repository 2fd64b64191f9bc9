"""Several systems side by side on the same utterances: rates, size, time, and whether they differ."""

import itertools
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr.core import files
from asr.core.errors import AsrError
from asr.core.terminal import columns
from asr.evaluation import figures, page, score
from asr.evaluation.breakdown import count
from asr.evaluation.metrics import ErrorCounts, matched_pairs
from asr.speech.features import FRAME_SHIFT

EVALUATION = "evaluation-{corpus}-{split}.json"
KEYS = (*page.KEYS, "scoring", "times_real_time", "parameters", "training_seconds")
NUM_LISTED = 4  # systems up to which each difference has a line; above, they stand in a triangle
WIDTH = 100  # characters of a line
LEVEL = 0.05  # of significance

Row = dict[str, Any]
CAPTION = (
    "Phone error rate in percent, 95 % interval, errors, parameters, training time; when recognising, times real time "
    "and 10 ms frames a second; seconds of a training epoch."
)
PAIRS = "Differences in points, by matched pairs:"
TRIANGLE = "Points above the system of the column, by matched pairs:"
MARKS = f"* p < {LEVEL} after Holm's correction for all pairs, ° only before it"


def compare_runs(runs: Sequence[Path], output: Path) -> str:
    """Compare what `asr evaluate` wrote into run folders, on each test set that all of them have been scored on.

    Parameters
    ----------
    runs
        Run folders, or folders of them: of these every run that was scored. Each seed counts as a system.
    output
        Folder of ``compare.html``, the page of `asr evaluate` for all systems; ``compare.md``, the tables for a
        README; ``compare.png``, the same as bars; and ``compare.json``, every difference too.

    Returns
    -------
    str
        For each test set a table of the systems, the best first, and their differences.

    Raises
    ------
    AsrError
        Fewer than two systems, a run that was not scored, or none that all were scored on.
    """
    folders = [folder for run in runs for folder in _scored_folders(run)]
    if len(folders) < 2:
        there = ", ".join(map(str, folders)) or "none"
        raise AsrError(f"asr compare needs two scored runs or more, and was given {there}: score another first")
    found = [_evaluations(folder) for folder in folders]
    shared = [key for key in found[0] if all(key in other for other in found)]
    if not shared:
        each = "; ".join(f"{run}: {', '.join(map(' '.join, keys))}" for run, keys in zip(folders, found, strict=True))
        raise AsrError(f"no test set that all runs were scored on ({each}): run `asr evaluate` on the same one")
    comparisons: list[dict[str, Any]] = []
    pages: list[dict[str, Any]] = []
    for key in shared:
        members = [(folder, other[key]) for folder, other in zip(folders, found, strict=True)]
        members.sort(key=lambda member: score.headline(member[1]["regimes"])["per"])
        comparisons.append(_comparison(members))
        pages += [evaluation for _, evaluation in members]
    output.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["asr", *sys.argv[1:]])
    few = [each for each in comparisons if len(each["systems"]) <= NUM_LISTED]
    notes = [line for each in few for line in (f"{_heading(each)}. {PAIRS}", *_difference_lines(each["differences"]))]
    page.write(output / "compare.html", pages, notes, [each for each in comparisons if each not in few])
    figures.comparison(comparisons, output / "compare.png")
    files.write_text(output / "compare.md", markdown(comparisons, command))
    files.write_json(output / "compare.json", {"command": command, "comparisons": comparisons})
    return f"{text(comparisons)}\n\npage: {output / 'compare.html'} (and .md, .png and .json beside it)"


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for there being several of them, so that one chance find among all stays as rare as in one test.

    The k-th smallest of m is multiplied by m - k + 1, and is no smaller than those before it.
    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics
    6(2), 1979, section 3.

    Parameters
    ----------
    p_values
        Of all the tests in one table.

    Returns
    -------
    list of float
        The corrected ones, in the same order, at most 1.

    Examples
    --------
    >>> holm([0.25, 0.0625, 0.125])
    [0.25, 0.1875, 0.25]
    """
    values = np.asarray(p_values, float)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return corrected.tolist()


def text(comparisons: Sequence[dict[str, Any]]) -> str:
    """Return comparisons, as ``compare.json`` has them, as tables to read.

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


def markdown(comparisons: Sequence[dict[str, Any]], command: str) -> str:
    """Return comparisons, as ``compare.json`` has them, as Markdown.

    Parameters
    ----------
    comparisons
        One for each test set.
    command
        What made them, to stand below.
    """
    lines = []
    for each in comparisons:
        names, differences = [row["name"] for row in each["systems"]], each["differences"]
        numbered = _numbered(names)
        head = ["system", *(title for title, _ in (*COLUMNS, *MORE))]
        rows = [
            [label, *(show(row) for _, show in (*COLUMNS, *MORE))]
            for label, row in zip(numbered, each["systems"], strict=True)
        ]
        lines += [_heading(each), "", *_markdown_table(head, rows), ""]
        if len(names) <= NUM_LISTED:
            lines += [PAIRS, "", *(f"- {line}" for line in _difference_lines(differences))]
        else:
            cells = _triangle(names, differences)
            numbers = [str(i + 1) for i in range(len(names) - 1)]
            rows = [[numbered[i], *cells[i], *[""] * (len(names) - 1 - i)] for i in range(1, len(names))]
            lines += [f"{TRIANGLE} {MARKS}.", ""]
            lines += _markdown_table(["points", *numbers], rows)
        lines.append("")
    return "\n".join([*lines, f"{CAPTION} Made by `{command}`."]) + "\n"


def _scored_folders(run: Path) -> list[Path]:
    """Return the folders with evaluations: the run itself, each of its seeds, or each run in a folder of runs."""
    files = EVALUATION.format(corpus="*", split="*")
    if any(run.glob(files)):
        return [run]
    seeds = [path for path in run.glob("seed-*/") if path.name.removeprefix("seed-").isdigit()]
    if seeds:
        return sorted(seeds, key=lambda path: int(path.name.removeprefix("seed-")))
    runs = {path.parent for path in run.glob(f"*/{files}")} | {
        path.parents[1] for path in run.glob(f"*/seed-*/{files}")
    }
    return [folder for each in sorted(runs) for folder in _scored_folders(each)] or [run]


def _evaluations(run: Path) -> dict[tuple[str, str], dict[str, Any]]:
    paths = sorted(run.glob(EVALUATION.format(corpus="*", split="*")))
    again = run.parent if run.name.startswith("seed-") else run
    if not paths:
        raise AsrError(f"{run} holds no evaluation: run `asr evaluate {again}` first")
    found = {}
    for path in paths:
        try:
            value = json.loads(path.read_text(encoding="utf8"))
            missing = [key for key in KEYS if key not in value]
        except (ValueError, TypeError) as error:
            raise AsrError(f"{path} is damaged ({error}): run `asr evaluate {again}` again") from error
        if missing:
            raise AsrError(f"{path} lacks {', '.join(missing)}: run `asr evaluate {again}` again")
        for utterance in value["utterances"]:
            if not any(map(utterance.get, page.MEDIA)):  # what is neither heard nor drawn: most of the file
                utterance["reference"] = utterance["hypothesis"] = []
        found[value["corpus"], value["split"]] = value
    return found


@dataclass(frozen=True)
class _Scored:
    """What a system's evaluation has of each utterance, by its id."""

    scoring: str
    phones: dict[str, list[str]]
    counts: dict[str, ErrorCounts]
    speakers: dict[str, str]

    @classmethod
    def of(cls, evaluation: dict[str, Any]) -> "_Scored":
        rows = {row["id"]: row for row in evaluation["utterances"]}
        return cls(
            evaluation["scoring"],
            {key: [label for label, _ in row["pairs"] if label is not None] for key, row in rows.items()},
            {key: count(row["pairs"]) for key, row in rows.items()},
            {key: row["speaker"] for key, row in rows.items()},
        )


def _comparison(members: Sequence[tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    evaluations = [evaluation for _, evaluation in members]
    names, first = page.names(evaluations), evaluations[0]
    scored = [_Scored.of(evaluation) for evaluation in evaluations]
    pairs = list(itertools.combinations(range(len(names)), 2))  # the better one first
    differences = [_difference(names[j], names[i], scored[j], scored[i]) for i, j in pairs]
    for difference, corrected in zip(differences, holm([each["p_value"] for each in differences]), strict=True):
        difference["p_value_corrected"] = corrected
    rows = [_system_row(name, run, evaluation) for name, (run, evaluation) in zip(names, members, strict=True)]
    headline = score.headline(first["regimes"])
    return {
        **{key: first[key] for key in ("corpus", "split", "scoring")},
        **{key: headline[key] for key in ("num_phones", "num_utterances")},
        "systems": rows,
        "differences": differences,
    }


def _system_row(name: str, run: Path, evaluation: dict[str, Any]) -> Row:
    headline = score.headline(evaluation["regimes"])
    epochs = evaluation["training"]  # their seconds leave out the systems before, on whose alignments one is trained
    return {
        "name": name,
        "run": str(run),
        "decoder": evaluation["decoder"],
        **{key: headline[key] for key in ("per", "interval", "substitutions", "insertions", "deletions")},
        **{key: evaluation[key] for key in ("parameters", "training_seconds", "times_real_time")},
        "seconds_per_epoch": round(epochs[-1]["seconds"] / epochs[-1]["epoch"], 1) if epochs else None,
    }


def _difference(name: str, other: str, a: _Scored, b: _Scored) -> dict[str, Any]:
    if a.scoring != b.scoring or a.phones != b.phones:
        raise AsrError(
            f"{name} and {other} were not scored on the same phones of the same utterances: run `asr evaluate` on both "
            "again, with the same data.scoring"
        )
    ids = sorted(a.counts)
    several = len(set(a.speakers.values())) > 1
    groups = [a.speakers[i] for i in ids] if several else None
    found = matched_pairs([a.counts[i] for i in ids], [b.counts[i] for i in ids], groups)
    difference, low, high = (round(100 * value, 2) + 0.0 for value in (found.difference, *found.interval))  # no -0.0
    return {
        "systems": [name, other],
        "difference": difference,
        "interval": [low, high],
        "p_value": found.p_value,
    }


COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("PER %", lambda row: f"{row['per']:.2f}"),
    ("95 %", lambda row: "–".join(f"{bound:.2f}" for bound in row["interval"])),
    ("sub.", lambda row: str(row["substitutions"])),
    ("ins.", lambda row: str(row["insertions"])),
    ("del.", lambda row: str(row["deletions"])),
    ("parameters", lambda row: f"{row['parameters']:,}"),
    ("training", lambda row: figures.duration(row["training_seconds"])),
    ("× real time", lambda row: figures.number(row["times_real_time"])),
)
MORE: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("frames/s", lambda row: f"{round(row['times_real_time'] / FRAME_SHIFT, -2):,.0f}"),
    ("s an epoch", lambda row: figures.number(row["seconds_per_epoch"])),
)


def _heading(comparison: dict[str, Any]) -> str:
    return (
        f"{comparison['corpus']} {comparison['split']}, {comparison['scoring']}: "
        f"{comparison['num_utterances']:,} utterances, {comparison['num_phones']:,} phones"
    )


def _numbered(names: Sequence[str]) -> list[str]:
    """Put numbers before the names where a triangle of differences refers to them."""
    return list(names) if len(names) <= NUM_LISTED else [f"{i} {name}" for i, name in enumerate(names, 1)]


def _text_lines(comparison: dict[str, Any]) -> list[str]:
    names, differences = [row["name"] for row in comparison["systems"]], comparison["differences"]
    cells = [["system", *(title for title, _ in COLUMNS)]]
    cells += [
        [label, *(show(row) for _, show in COLUMNS)]
        for label, row in zip(_numbered(names), comparison["systems"], strict=True)
    ]
    few = len(names) <= NUM_LISTED
    below = [PAIRS, *_difference_lines(differences)] if few else _triangle_lines(names, differences)
    return [
        _heading(comparison),
        *(f"  {line}" for line in columns(cells).split("\n")),
        "",
        *(f"  {line}" for line in below),
    ]


def _chance(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def _difference_lines(differences: Sequence[dict[str, Any]]) -> list[str]:
    """Return each difference as a line to read.

    >>> _difference_lines([{"systems": ["a", "b"], "difference": 1.5, "interval": [1.0, 2.0], "p_value": 0.0004}])
    ['a - b: +1.50 [+1.00, +2.00], p < 0.001']
    """
    lines = []
    for each in differences:
        low, high = each["interval"]
        corrected = f", Holm {_chance(each['p_value_corrected'])}" if len(differences) > 1 else ""
        found = f"{each['difference']:+.2f} [{low:+.2f}, {high:+.2f}], {_chance(each['p_value'])}{corrected}"
        lines.append(f"{' - '.join(each['systems'])}: {found}")
    return lines


def _triangle(names: Sequence[str], differences: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return a row for each system: its difference from each better one, marked where it is significant.

    >>> row = {"p_value": 0.01, "p_value_corrected": 0.03}
    >>> _triangle(["a", "b"], [{"systems": ["b", "a"], "difference": 1.5} | row])
    [[], ['1.50*']]
    """
    of_pair = {tuple(each["systems"]): each for each in differences}

    def cell(each: dict[str, Any]) -> str:
        mark = "*" if each["p_value_corrected"] < LEVEL else "°" if each["p_value"] < LEVEL else ""
        return f"{each['difference']:.2f}{mark}"

    return [[cell(of_pair[name, better]) for better in names[:i]] for i, name in enumerate(names)]


def _triangle_lines(names: Sequence[str], differences: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lay the triangle out in blocks of as many columns as a line holds."""
    cells, labels = _triangle(names, differences), _numbered(names)
    label_width = max(map(len, labels))
    width = 2 + max(len(cell.rstrip("*°")) for row in cells for cell in row)
    in_block = max(1, (WIDTH - 2 - label_width) // (width + 1))
    yield TRIANGLE
    for start in range(0, len(names) - 1, in_block):
        block = range(start, min(start + in_block, len(names) - 1))
        yield (" " * label_width + "".join(str(i + 1).rjust(width) + " " for i in block)).rstrip()
        for label, row in list(zip(labels, cells, strict=True))[start + 1 :]:
            shown = row[block.start : block.stop]
            padded = ((cell if cell[-1] in "*°" else cell + " ").rjust(width + 1) for cell in shown)
            yield (label.ljust(label_width) + "".join(padded)).rstrip()
    yield MARKS


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows)]
