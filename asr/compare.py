"""Several systems side by side on the same utterances: their rates, and whether they differ."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asr import html_report, model_folder, score
from asr.analysis import count
from asr.errors import AsrError
from asr.metrics import matched_pairs

EVALUATION = "evaluation-{corpus}-{split}.json"


def compare_runs(runs: Sequence[Path], output: Path) -> str:
    """Compare what `asr evaluate` wrote into run folders, on each test set that all of them have been scored on.

    Parameters
    ----------
    runs
        Two run folders or more.
    output
        Folder of ``compare.html``, the page of `asr evaluate` for all systems, and ``compare.json``.

    Returns
    -------
    str
        A table of the systems and one of their differences for each test set.

    Raises
    ------
    AsrError
        Fewer than two runs, a run that was not scored, or none that all were scored on.
    """
    if len(runs) < 2:
        raise AsrError("asr compare needs two run folders or more")
    found = [_evaluations(run) for run in runs]
    shared = [key for key in found[0] if all(key in other for other in found)]
    if not shared:
        each = "; ".join(f"{run}: {', '.join(map(' '.join, keys))}" for run, keys in zip(runs, found, strict=True))
        raise AsrError(f"no test set that all runs were scored on ({each}): run `asr evaluate` on the same one")
    lines: list[str] = []
    results: list[dict[str, Any]] = []
    pages: list[dict[str, Any]] = []
    for key in shared:
        evaluations = [other[key] for other in found]
        names = html_report.names(evaluations)
        differences = [
            _difference(names[i], names[j], evaluations[i], evaluations[j])
            for i, j in itertools.combinations(range(len(names)), 2)
        ]
        lines += [
            f"{' '.join(key)}, {evaluations[0]['scoring']}",
            *_systems(names, evaluations),
            *map(_say, differences),
        ]
        results.append({"corpus": key[0], "split": key[1], "systems": names, "differences": differences})
        pages += evaluations
    output.mkdir(parents=True, exist_ok=True)
    notes = [_say(difference) for result in results for difference in result["differences"]]
    html_report.write(output / "compare.html", pages, notes)
    model_folder.write_json(output / "compare.json", {"comparisons": results})
    return "\n".join([*lines, f"page: {output / 'compare.html'}"])


def _evaluations(run: Path) -> dict[tuple[str, str], dict[str, Any]]:
    paths = sorted(run.glob(EVALUATION.format(corpus="*", split="*")))
    if not paths:
        raise AsrError(f"{run} holds no evaluation: run `asr evaluate {run}` first")
    found = {}
    for path in paths:
        try:
            value = json.loads(path.read_text(encoding="utf8"))
            missing = [key for key in (*html_report.KEYS, "scoring") if key not in value]
        except (ValueError, TypeError) as error:
            raise AsrError(f"{path} is damaged ({error}): run `asr evaluate {run}` again") from error
        if missing:
            raise AsrError(f"{path} lacks {', '.join(missing)}: run `asr evaluate {run}` again")
        found[value["corpus"], value["split"]] = value
    return found


def _difference(name: str, other: str, a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    phones, other_phones = (
        {row["id"]: [label for label, _ in row["pairs"] if label is not None] for row in each["utterances"]}
        for each in (a, b)
    )
    if a["scoring"] != b["scoring"] or phones != other_phones:
        raise AsrError(
            f"{name} and {other} were not scored on the same phones of the same utterances: run `asr evaluate` on both "
            "again, with the same data.scoring"
        )
    ours, theirs = ({row["id"]: count(row["pairs"]) for row in each["utterances"]} for each in (a, b))
    speakers = {utterance["id"]: utterance["speaker"] for utterance in a["utterances"]}
    ids = sorted(ours)
    several = len(set(speakers.values())) > 1
    groups = [speakers[i] for i in ids] if several else None
    found = matched_pairs([ours[i] for i in ids], [theirs[i] for i in ids], groups)
    low, high = (round(100 * bound, 2) for bound in found.interval)
    return {
        "systems": [name, other],
        "difference": round(100 * found.difference, 2),
        "interval": [low, high],
        "p_value": found.p_value,
    }


def _systems(names: Sequence[str], evaluations: Sequence[dict[str, Any]]) -> list[str]:
    width = max(map(len, names))
    rows = []
    for name, row in zip(names, (score.headline(each["regimes"]) for each in evaluations), strict=True):
        low, high = row["interval"]
        counts = f"{row['substitutions']} sub, {row['insertions']} ins, {row['deletions']} del"
        rows.append(f"  {name:{width}}  PER {row['per']:6.2f} % [{low:.2f}, {high:.2f}]  {counts}")
    return rows


def _say(difference: dict[str, Any]) -> str:
    """Return a difference as a line to read.

    >>> _say({"systems": ["a", "b"], "difference": -1.5, "interval": [-2.0, -1.0], "p_value": 0.0004})
    '  a - b: -1.50 points [-2.00, -1.00], matched pairs p < 0.001'
    """
    low, high = difference["interval"]
    p = difference["p_value"]
    chance = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    (a, b) = difference["systems"]
    return f"  {a} - {b}: {difference['difference']:+.2f} points [{low:+.2f}, {high:+.2f}], matched pairs {chance}"
