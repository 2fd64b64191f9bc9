"""The files that `asr evaluate` keeps in a run folder: written here, and read again by `asr compare`.

====================================== =============================================================
``metrics.json``                       a row for each corpus, split, decoder and its settings
``evaluation-CORPUS-SPLIT.json``       all that is known of one corpus (docs/reference/evaluation.md)
====================================== =============================================================

The rows also go into the model folder and its card, where the model is the run's own.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asr.core import files
from asr.core.errors import AsrError
from asr.core.turns import turn
from asr.evaluation import page, tables

EVALUATION = "evaluation-{corpus}-{split}.json"
METRICS = "metrics.json"
SCORES = "\n## Scores\n"  # the heading in a model card; `asr evaluate` replaces what follows it
COMPARED = (*page.KEYS, "scoring", "times_real_time", "parameters", "training_seconds")  # keys that comparing needs


def write_metrics(rows: Sequence[dict[str, Any]], seed: int, output: Path, folder: Path) -> None:
    """Merge rows into the output's ``metrics.json``, where they replace those of the same corpus, split and decoder.

    A decoder with another language model, weight or penalty is another one. The n-gram of a model folder is named as
    there, wherever the folder lies.

    If the model folder is the output's own, its ``metrics.json`` and the scores in its card are written too.

    Parameters
    ----------
    rows
        One for each corpus and decoder.
    seed
        Of the run.
    output
        The folder of ``metrics.json``.
    folder
        The model folder.
    """
    path = output / METRICS
    rows = [row | {"decode": _named_in(folder, row["decode"])} if "decode" in row else row for row in rows]
    with turn(path):
        before = json.loads(path.read_text(encoding="utf8"))["results"] if path.is_file() else []
        merged = [*(row for row in before if not any(_is_repeated(row, fresh) for fresh in rows)), *rows]
        values = {"seed": seed, "results": merged}
        files.write_json(path, values)
        if folder.parent == output:
            files.write_json(folder / METRICS, values)
            _write_card(folder / "README.md", merged)


def _named_in(folder: Path, decode: dict[str, Any]) -> dict[str, Any]:
    """Return settings with a language model of the model folder by its name there."""
    lm = Path(decode.get("lm") or "")
    return decode | {"lm": lm.name} if lm.parent == folder else decode


def _is_repeated(row: dict[str, Any], fresh: dict[str, Any]) -> bool:
    """Tell whether a new row is of the same decoder with the same settings, which rows of older versions lack."""
    same = all(row[key] == fresh[key] for key in ("corpus", "split", "decoder"))
    return same and row.get("decode", fresh["decode"]) == fresh["decode"]


def _write_card(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Replace the scores in a model card."""
    card = path.read_text(encoding="utf8").split(SCORES)[0]
    scores = [tables.score_markdown(rows), tables.group_markdown(rows)]
    files.write_text(path, card + SCORES + "\n" + "\n".join(scores))


def write_evaluation(evaluation: dict[str, Any], output: Path) -> None:
    """Write the evaluation of one corpus as JSON."""
    name = EVALUATION.format(corpus=evaluation["corpus"], split=evaluation["split"])
    files.write_json(output / name, evaluation)


def scored_folders(run: Path) -> list[Path]:
    """Return the folders with evaluations: the run itself, each of its seeds, or each run in a folder of runs.

    Where there is none, the run itself is returned, and `read_evaluations` names what is missing.
    """
    pattern = EVALUATION.format(corpus="*", split="*")
    if any(run.glob(pattern)):
        return [run]
    seeds = [path for path in run.glob("seed-*/") if path.name.removeprefix("seed-").isdigit()]
    if seeds:
        return sorted(seeds, key=lambda path: int(path.name.removeprefix("seed-")))
    runs = {path.parent for path in run.glob(f"*/{pattern}")}
    runs |= {path.parents[1] for path in run.glob(f"*/seed-*/{pattern}")}
    return [folder for each in sorted(runs) for folder in scored_folders(each)] or [run]


def read_evaluations(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Read the evaluations in a folder, by corpus and split.

    Times of utterances that can be neither played nor looked at are left out: they are most of the file.

    Raises
    ------
    AsrError
        There is no evaluation, or one is damaged or of an older version.
    """
    paths = sorted(folder.glob(EVALUATION.format(corpus="*", split="*")))
    run = folder.parent if folder.name.startswith("seed-") else folder
    if not paths:
        raise AsrError(f"{folder} holds no evaluation: run `asr evaluate {run}` first")
    found = [_read_evaluation(path, run) for path in paths]
    return {(each["corpus"], each["split"]): each for each in found}


def _read_evaluation(path: Path, run: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf8"))
        missing = [key for key in COMPARED if key not in values]
    except (ValueError, TypeError) as error:
        raise AsrError(f"{path} is damaged ({error}): run `asr evaluate {run}` again") from error
    if missing:
        raise AsrError(f"{path} lacks {', '.join(missing)}: run `asr evaluate {run}` again")
    return values | {"utterances": [_without_unused_times(each) for each in values["utterances"]]}


def _without_unused_times(utterance: dict[str, Any]) -> dict[str, Any]:
    shown = any(map(utterance.get, page.MEDIA))
    return utterance if shown else utterance | {"reference": [], "hypothesis": []}
