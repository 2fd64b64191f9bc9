"""Evaluation of a trained model on held-out speakers: recognise, score, break the errors down, write and draw.

=============  ==========================================================================================
row            scores of one decoder on one corpus, a line of ``metrics.json`` (`corpus_scores.decoder_row`)
evaluation     everything about the last decoder on one corpus, ``evaluation-CORPUS-SPLIT.json``
=============  ==========================================================================================

docs/reference/evaluation.md documents the keys of both.
"""

import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.core import files
from asr.evaluation import breakdown, corpus_scores, examples, figures, inputs, page, results, tables
from asr.evaluation.inputs import load_configured, prepare_corpora
from asr.evaluation.metrics import seed_spread
from asr.models import model_folder
from asr.models.base import AcousticModel
from asr.models.run_folder import goes_on, read_history, training_seconds

log = logging.getLogger(__name__)

Row = dict[str, Any]
Evaluation = dict[str, Any]


def evaluate_run(
    name: str,
    overrides: Sequence[str] = (),
    corpora: Path | None = None,
    split: str = "test",
    output: Path | None = None,
) -> str:
    """Score a model, write the results, and return the rates as text.

    Parameters
    ----------
    name
        A run or model folder, or a shipped model. A run with several seeds is scored seed by seed.
    overrides
        Dotted settings that replace those of the model's own configuration.
    corpora
        The folder that holds the corpora of which the settings name no folder.
    split
        ``test`` or ``dev``.
    output
        Receives ``metrics.json``, ``report.html``, ``evaluation-….json``, hypotheses and figures. By default it is the
        run folder, and ``runs/NAME`` for a shipped model.

    Raises
    ------
    AsrError
        The model or a corpus is missing.
    """
    seeds = sorted(Path(name).glob("seed-*/model/"), key=lambda path: int(path.parent.name.removeprefix("seed-")))
    if seeds:
        return _evaluate_seeds([path.parent for path in seeds], overrides, corpora, split, output or Path(name))
    found = _evaluate_model(name, overrides, corpora, split, output)
    texts = ["\n".join(tables.score_lines(found.rows)), *map(tables.evaluation_text, found.evaluations)]
    return "\n\n".join([*texts, f"report: {found.output / 'report.html'} (and JSON beside it)"])


def _evaluate_seeds(
    runs: Sequence[Path], overrides: Sequence[str], corpora: Path | None, split: str, output: Path
) -> str:
    """Score each seed of a run, and write the mean and the spread of the rates."""
    rows_of = {run.name: _evaluate_model(str(run), overrides, corpora, split, output / run.name).rows for run in runs}
    spread = _spread_rows(list(rows_of.values()))
    files.write_json(output / results.METRICS, {"seeds": list(rows_of), "results": spread})
    lines = [f"{seed}: {line}" for seed, rows in rows_of.items() for line in tables.score_lines(rows)]
    return "\n".join([*lines, *map(tables.spread_line, spread), f"run folder: {output} (a folder a seed)"])


def _spread_rows(rows_of_seeds: Sequence[Sequence[Row]]) -> list[Row]:
    """Return the mean and the standard deviation of the rates over seeds, a row for each corpus and decoder.

    >>> row = {"corpus": "mini", "split": "test", "decoder": "beam 16"}
    >>> (spread,) = _spread_rows([[row | {"per": 2.0}], [row | {"per": 3.0}]])
    >>> spread["per"], spread["standard_deviation"], spread["rates"]
    (2.5, 0.71, [2.0, 3.0])
    """
    spread = []
    for members in zip(*rows_of_seeds, strict=True):
        rates = [row["per"] for row in members]
        mean, deviation = seed_spread(rates)
        about = {key: members[0][key] for key in ("corpus", "split", "decoder", "unit") if key in members[0]}
        spread.append(about | {"per": round(mean, 2), "standard_deviation": round(deviation, 2), "rates": rates})
    return spread


@dataclass(frozen=True)
class _ModelScores:
    """The rows and evaluations of a model on all corpora, and the folder that holds them."""

    output: Path
    rows: list[Row]
    evaluations: list[Evaluation]


def _evaluate_model(
    name: str, overrides: Sequence[str], corpora: Path | None, split: str, output: Path | None
) -> _ModelScores:
    """Score a model on each corpus that has the split, and write everything but the spread over seeds."""
    folder, model = load_configured(name, overrides, corpora)
    output = output or inputs.results_folder(folder)
    if goes_on(folder.parent):
        log.warning("%s: training has not ended: this is its best model so far", folder.parent)
    names = prepare_corpora(model.config, split)
    output.mkdir(parents=True, exist_ok=True)
    about = _about(folder, model, output)
    rows, evaluations = [], []
    for corpus in names:
        corpus_rows, evaluation = _evaluate_corpus(model, corpus, split, output)
        rows += corpus_rows
        evaluations.append(about | evaluation)
        results.write_evaluation(evaluations[-1], output)
    results.write_metrics(rows, model.config.seed, output, folder)
    page.write(output / "report.html", evaluations)
    if about["training"]:
        figures.training_curves(about["training"], output / "training.png")
    return _ModelScores(output, rows, evaluations)


def _about(folder: Path, model: AcousticModel, output: Path) -> dict[str, Any]:
    """Return what an evaluation tells of the model, whatever the corpus."""
    history = read_history(folder.parent)
    return {
        "system": _system_name(folder, output),
        "command": shlex.join(["asr", *sys.argv[1:]]),
        "training": history.get("epochs", []),
        "iterations": history.get("iterations", []),
        "parameters": model.num_parameters,
        "training_seconds": training_seconds(folder.parent),
    }


def _system_name(folder: Path, output: Path) -> str:
    """Name a system by its run folder, with the seed where there are several, or by its shipped name."""
    if model_folder.is_shipped(folder):
        return folder.name
    run = output.absolute()
    return f"{run.parent.name}, {run.name}" if run.name.startswith("seed-") else run.name


def _evaluate_corpus(model: AcousticModel, corpus: str, split: str, output: Path) -> tuple[list[Row], Evaluation]:
    """Score a model on one corpus with each of its decoders, and write hypotheses, references and figures.

    Parameters
    ----------
    model
        Its configuration says where the corpus lies, how to decode, and in which phone set to score.
    corpus, split
        What to score it on.
    output
        The folder of the files.

    Returns
    -------
    rows
        One for each decoder; the last row also has the rates by gender, and of children and adults.
    evaluation
        Of the last decoder.
    """
    scored = corpus_scores.recognise_split(model, corpus, split)
    rows = [corpus_scores.decoder_row(model, scored, decoder) for decoder in scored.recognised.seconds]
    utterances = corpus_scores.scored_utterances(model, scored.core)
    errors = breakdown.analyse(utterances, model.config.data.labels, model.config.data.scoring, model.calibration)
    told = [key for key in (*corpus_scores.ABOUT, "unit", "words") if key in rows[-1]]
    evaluation: Evaluation = {
        **{key: rows[-1][key] for key in told},
        "frame_shift": model.frame_shift,
        **errors,
        "utterances": examples.with_media(model, scored.core, errors["utterances"]),
        "regimes": rows[-1]["regimes"],
        "boundaries": corpus_scores.boundary_rows(model, scored.core),
    }
    corpus_scores.write_texts(model, scored, output)
    title = f"{corpus} {split}, {evaluation['decoder']}"
    figures.confusion_heatmap(errors["confusions"], output / f"confusions-{corpus}-{split}.png", title)
    examples.draw_example(model, scored.core, utterances, output / f"posteriors-{corpus}-{split}.png")
    groups = {name: errors["groups"][name] for name in ("gender", "children") if name in errors["groups"]}
    return [*rows[:-1], rows[-1] | {"groups": groups}], evaluation
