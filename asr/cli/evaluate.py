"""The verbs that measure: evaluate, compare, score, sensitivity."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import KnownData, Model, Overrides, check, check_exist, check_model

SPLITS = ("test", "dev", "train", "test_full")  # the last of TIMIT and mini


def evaluate(
    model: Model,
    overrides: Overrides = None,
    data: KnownData = None,
    split: Annotated[str, typer.Option(help="The speakers: test, or dev to choose between systems.")] = "test",
    output: Annotated[
        Path | None, typer.Option(help="The folder for the results.", show_default="the run folder")
    ] = None,
) -> None:
    """Score a model and write report.html: error rates, confusions, times, confidences, and every utterance.

    It also writes metrics.json, evaluation-CORPUS-SPLIT.json, the hypotheses and the figures.

    asr evaluate runs/mini/blstm_ctc
    asr evaluate runs/mini/blstm_ctc decode.beam_size=50 --split dev
    asr evaluate en-us-phones --data /path/to/corpora --output scores
    asr evaluate en-us-phones "data.corpora={mine: mine}" --output scores-mine
    """
    check(split in SPLITS, "--split", f"be one of {', '.join(SPLITS)}", split)
    check_model(model, overrides)

    from asr.evaluation.evaluate import evaluate_run

    typer.echo(evaluate_run(model, overrides or (), data, split, output))
    typer.echo(f"transcribe a file with it: {os.path.relpath(sys.argv[0])} transcribe --model {model} a.wav")


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders that `asr evaluate` has scored, or folders of them.")],
    output: Annotated[Path, typer.Option(help="The folder for compare.html, .md, .png and .json.")] = Path(
        "runs/compare"
    ),
) -> None:
    """Put systems side by side: rates with intervals, sizes, times, and which differences are significant.

    asr compare runs/mini/blstm_ctc runs/mini/three_layers
    asr compare runs/mini
    """
    check_exist(runs)

    from asr.evaluation.compare import compare_runs

    typer.echo(compare_runs(runs, output))


def score(
    reference: Annotated[Path, typer.Argument(help="Reference labels.")],
    hypothesis: Annotated[Path, typer.Argument(help="Recognised labels of the same utterances.")],
    phone_set: Annotated[
        str | None,
        typer.Option(
            help="timit61, timit48, timit39, arpabet39 or a file of phones.", show_default="what the labels fit"
        ),
    ] = None,
    speakers: Annotated[Path | None, typer.Option(help="Kaldi's utt2spk, for intervals by speaker.")] = None,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="kaldi, trn, ctm, textgrid, phn, json, tsv, audacity, text or plain.",
            show_default="by the suffix, or else by the lines",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Score any recogniser's output in every regime that its labels allow, such as 61 labels or 39 without silence.

    It reads what `asr transcribe` and `asr align` print or write into a folder, Kaldi's text, sclite's .trn, CTM,
    TextGrids, TIMIT's .PHN, and plain text with one utterance on each line. Labels that are words give the word error
    rate.

    asr score references.txt hypotheses.txt
    asr score aligned/ recognised/
    asr score ref.trn hyp.trn --speakers utt2spk --json
    """
    check_exist([reference, hypothesis])

    from asr.evaluation.score import score_files
    from asr.evaluation.tables import error_tables, regime_table

    found = score_files(reference, hypothesis, phone_set, speakers, file_format)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        none = "none, these are words" if "wer" in found["regimes"][0] else "none of ours, labels as they stand"
        typer.echo(f"phone set: {found['phone_set'] or none}")
        if found["hypothesis_phone_set"] != found["phone_set"]:
            typer.echo(f"hypotheses: {found['hypothesis_phone_set']}")
        for line in found["notes"]:
            typer.echo(line)
        typer.echo(regime_table(found["regimes"]))
        if "confusions" in found:
            typer.echo("\n" + error_tables(found["confusions"], 10))


def sensitivity(
    runs: Annotated[list[Path], typer.Argument(help="Run or model folders of networks.")],
    output: Annotated[Path, typer.Option(help="The picture.")] = Path("runs/sensitivity.png"),
    data: KnownData = None,
) -> None:
    """Draw how much a network's outputs depend on inputs long past: the vanishing gradient.

    asr sensitivity runs/mini/elman runs/mini/gru runs/mini/lstm
    """
    for run in runs:
        check_model(str(run))

    from asr.evaluation.sensitivity import draw

    typer.echo(draw(runs, output, data))
