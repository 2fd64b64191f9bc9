"""The `asr` command: one verb a stage, and no algorithm here."""

import errno
import gc
import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from asr.cli.lm import app as lm_app
from asr.core import config as configuration
from asr.core.errors import AsrError

EVERYTHING = 'for the rest, in a checkout: pip install -e ".[train]"'

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Phone recognition with CTC: prepare a corpus, train, measure the phone error rate, transcribe recordings.",
)

app.add_typer(lm_app, name="lm")

Recipe = Annotated[Path, typer.Argument(help="A recipe's YAML, such as recipes/mini/blstm_ctc.yaml.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings to change: train.max_epochs=3 seed=2 …")]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Where the corpora lie.", show_default="download or synthesise them into corpora/"),
]
Run = Annotated[Path | None, typer.Option("--run", help="The run folder.", show_default="runs/<recipe>/<system>")]


def run_folder(recipe: Path) -> Path:
    """Return the run folder of a recipe.

    >>> run_folder(Path("recipes/mini/blstm_ctc.yaml")).as_posix()
    'runs/mini/blstm_ctc'
    """
    return Path("runs") / recipe.absolute().parent.name / recipe.stem


def configure(recipe: Path, overrides: list[str] | None, data: Path | None) -> configuration.Config:
    """Resolve a recipe with what the command line says."""
    config = configuration.load(recipe, overrides or ())
    return config if data is None else configuration.with_corpora_in(config, data)


@app.command()
def prepare(recipe: Recipe, overrides: Overrides = None, data: Data = None) -> None:
    """Make the manifests of a recipe's corpora, and download or synthesise the corpora where that is allowed.

    asr prepare recipes/mini/blstm_ctc.yaml
    asr prepare recipes/timit/blstm_ctc.yaml --data /path/to/TIMIT
    """
    from asr.data import splits

    config = configure(recipe, overrides, data)
    for name, folder in splits.prepare(config.data.corpora, config.data.manifests).items():
        typer.echo(f"{name}: manifests in {folder}")


@app.command()
def train(recipe: Recipe, overrides: Overrides = None, data: Data = None, run: Run = None) -> None:
    """Train a recipe's system; a run that was stopped goes on from its last checkpoint.

    asr train recipes/mini/blstm_ctc.yaml
    asr train recipes/mini/blstm_ctc.yaml model.num_layers=2 seed=2 --run runs/mini/two_layers
    asr train recipes/mini/blstm_ctc.yaml "seeds=[1,2,3]" --run runs/mini/three_seeds
    """
    from asr.evaluation.calibrate import calibrate as fit
    from asr.training.network import train as run_training

    config, base = configure(recipe, overrides, data), run or run_folder(recipe)
    of_data = [each for each in overrides or () if each.startswith("data.")]  # a model folder does not keep places
    config = configuration.align_beside(config, base)
    before = config.train.alignments
    if before is not None and not (Path(before) / "model" / "model.safetensors").is_file():
        stage = recipe.with_name(Path(before).name + ".yaml")
        typer.echo(f"first {stage}, whose alignments {recipe} is trained on", err=True)
        train(stage, of_data, data, Path(before))
    for folder, each in configuration.each_seed(config, base).items():
        typer.echo(f"model folder: {run_training(each, folder)}")
        typer.echo(fit(str(folder), of_data, data))


@app.command()
def calibrate(
    model: Annotated[str, typer.Argument(help="A run or model folder.")],
    overrides: Overrides = None,
    data: Data = None,
) -> None:
    """Fit a model's confidences and times on its dev speakers, as `asr train` does at its end.

    asr calibrate runs/mini/blstm_ctc
    """
    from asr.evaluation.calibrate import calibrate as fit

    typer.echo(fit(model, overrides or (), data))


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A run or model folder, or the name of a shipped model.")],
    overrides: Overrides = None,
    data: Data = None,
    split: Annotated[str, typer.Option(help="Which speakers: test, or dev to choose between systems.")] = "test",
    output: Annotated[Path | None, typer.Option(help="Where results go.", show_default="the run folder")] = None,
) -> None:
    """Score a model and write report.html: error rates, confusions, times, confidences, and every utterance.

    Also metrics.json, evaluation-CORPUS-SPLIT.json, the hypotheses and the figures.

    asr evaluate runs/mini/blstm_ctc
    asr evaluate runs/mini/blstm_ctc decode.beam_size=50 --split dev
    asr evaluate en-us-phones --data /path/to/corpora --output scores
    """
    from asr.evaluation.evaluate import evaluate_run

    typer.echo(evaluate_run(model, overrides or (), data, split, output))
    typer.echo(f"transcribe a file with it: {os.path.relpath(sys.argv[0])} transcribe --model {model} a.wav")


@app.command()
def tune(
    model: Annotated[str, typer.Argument(help="A run or model folder, or the name of a shipped model, of CTC.")],
    overrides: Annotated[list[str], typer.Argument(help="decode.lm=FOLDER, and other settings.")],
    data: Data = None,
    output: Annotated[Path | None, typer.Option(help="Where the curve goes.", show_default="the run folder")] = None,
) -> None:
    """Find the weight of a language model and the penalty of a phone or word on the dev speakers.

    asr tune runs/mini/blstm_ctc decode.lm=runs/mini/lm/phone_trigram
    asr tune runs/mini_librispeech/blstm_ctc decode.lm=runs/mini_librispeech/lm/word_trigram decode.beam_size=50
    """
    from asr.evaluation.inputs import load_configured
    from asr.models.model_folder import PRETRAINED
    from asr.training.tuning import tune as find

    folder, recogniser = load_configured(model, overrides, data)
    typer.echo(find(recogniser, output or (Path("runs") / model if folder.parent == PRETRAINED else folder.parent)))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders that `asr evaluate` has scored, or folders of them.")],
    output: Annotated[Path, typer.Option(help="Where compare.html, .md, .png and .json go.")] = Path("runs/compare"),
) -> None:
    """Put systems side by side: rates with intervals, size, times, whether they differ; one page and figure for all.

    asr compare runs/mini/blstm_ctc runs/mini/three_layers
    asr compare runs/mini
    """
    from asr.evaluation.compare import compare_runs

    typer.echo(compare_runs(runs, output))


@app.command()
def score(
    reference: Annotated[Path, typer.Argument(help="Reference labels.")],
    hypothesis: Annotated[Path, typer.Argument(help="Recognised labels of the same utterances.")],
    phone_set: Annotated[
        str | None, typer.Option(help="timit61, timit48, timit39 or arpabet39.", show_default="what the labels fit")
    ] = None,
    speakers: Annotated[Path | None, typer.Option(help="Kaldi's utt2spk, for intervals by speaker.")] = None,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format", help="kaldi, trn, ctm, textgrid, phn, json, audacity or plain.", show_default="by the suffix"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Score anybody's output in every regime that its labels allow: 61 labels, 39 with silence scored, forgiven, ….

    Kaldi text, sclite's .trn, CTM, TextGrids (a file or a folder), TIMIT's .PHN, or plain text, a line an utterance.

    asr score references.txt hypotheses.txt
    asr score ref.trn hyp.trn --speakers utt2spk --json
    """
    from asr.evaluation.score import score_files
    from asr.evaluation.tables import error_tables, regime_table

    found = score_files(reference, hypothesis, phone_set, speakers, file_format)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        typer.echo(f"phone set: {found['phone_set'] or 'none of ours, labels as they stand'}")
        if found["hypothesis_phone_set"] != found["phone_set"]:
            typer.echo(f"hypotheses: {found['hypothesis_phone_set'] or 'none of ours'}")
        typer.echo(regime_table(found["regimes"]))
        if "confusions" in found:
            typer.echo("\n" + error_tables(found["confusions"], 10))


@app.command()
def align(
    recordings: Annotated[list[Path], typer.Argument(help="Audio files, or folders of them.")],
    text: Annotated[str | None, typer.Option(help="What is said, of one recording.")] = None,
    phones: Annotated[str | None, typer.Option(help="The phones that are said, of one recording.")] = None,
    model: Annotated[str, typer.Option(help="A run or model folder, or the name of a shipped model.")] = "en-us-phones",
    g2p: Annotated[bool, typer.Option("--g2p", help="Pronounce words that are in no dictionary by rules.")] = False,
    gop: Annotated[bool, typer.Option("--gop", help="Rate each phone's pronunciation; with --format json.")] = False,
    output_format: Annotated[
        str, typer.Option("--format", help="textgrid, ctm, json or audacity (words and phones in the first and third).")
    ] = "textgrid",
    output_dir: Annotated[
        Path | None, typer.Option(help="A file for each recording goes here.", show_default="print")
    ] = None,
) -> None:
    """Find where the words and phones of a known text are in a recording.

    Without --text or --phones each recording's text is the .txt or .lab file beside it, or its line in a LibriSpeech
    *.trans.txt. A recording that fails is reported and skipped; the exit code then is 1, or 2 if all fail.

    asr align hello.wav --text "hello world"
    asr align hello.wav --phones "HH AH L OW" --format json --gop
    asr align recordings/ --output-dir aligned --format audacity
    """
    from asr.cli.recordings import check_stems, collect
    from asr.core.files import write_text
    from asr.core.terminal import track
    from asr.recognition import align
    from asr.recognition.recogniser import Recogniser

    configuration.one_of("--format", output_format, tuple(align.FORMATS))
    if text is not None and phones is not None:
        raise AsrError("--text and --phones exclude each other: give one")
    if gop and output_format != "json":
        raise AsrError("--gop needs --format json: the other formats have no place for it")
    given = text if phones is None else phones
    if given is not None and not given.strip():
        raise AsrError("the text is empty: give the words or phones that are said")
    texts, faults = collect(recordings, given)
    if output_dir is not None or output_format == "ctm":
        check_stems(texts)
    recogniser = Recogniser.from_pretrained(model)
    if output_dir is not None:
        output_dir.mkdir(parents=True, exist_ok=True)
    num_aligned = 0
    items = list(texts.items())
    for path, said in items if output_dir is None else track(items, "aligning"):  # a bar only where nothing is printed
        try:
            words, labels = (said, None) if phones is None else (None, said)
            aligned = align.align(recogniser, path, words, labels, g2p=g2p, with_goodness=gop)
        except AsrError as error:
            faults.append(str(error) if str(path) in str(error) else f"{path}: {error}")
            continue
        num_aligned += 1
        rendered = align.render(aligned, output_format, str(path) if output_format == "json" else path.stem)
        if output_dir is None:
            typer.echo(rendered.rstrip("\n"))
        else:
            write_text(output_dir / (path.stem + align.FORMATS[output_format]), rendered.rstrip("\n") + "\n")
    for fault in faults:
        typer.echo(f"asr: {fault}", err=True)
    if faults:
        raise typer.Exit(1 if num_aligned else 2)


@app.command()
def transcribe(
    recordings: Annotated[
        list[str] | None, typer.Argument(help="WAV, SPHERE, FLAC, OGG, MP3, any rate; folders, patterns, - for stdin.")
    ] = None,
    model: Annotated[str, typer.Option(help="A run or model folder, or the name of a shipped model.")] = "en-us-phones",
    output_format: Annotated[
        str, typer.Option("--format", help="text, json (a line each), ctm, textgrid, srt or tsv.")
    ] = "text",
    output_dir: Annotated[
        Path | None, typer.Option(help="A file for each recording goes here.", show_default="print")
    ] = None,
    ipa: Annotated[bool, typer.Option("--ipa", help="Phones in IPA instead of ARPAbet.")] = False,
    channel: Annotated[int | None, typer.Option(min=0, help="One channel, from 0.", show_default="their mean")] = None,
    nbest: Annotated[int, typer.Option(min=1, help="With --format json: so many hypotheses.")] = 1,
    beam_size: Annotated[int | None, typer.Option(min=1, help="1: best path.", show_default="the model's own")] = None,
    lm: Annotated[
        str | None, typer.Option("--lm", help="A language model over phones or words: a folder or an ARPA file.")
    ] = None,
    lm_weight: Annotated[
        float | None, typer.Option(min=0, help="Of the language model, as `asr tune` finds it.", show_default="1")
    ] = None,
    penalty: Annotated[
        float | None, typer.Option(help="Nats a phone or word, found likewise.", show_default="0")
    ] = None,
    lexicon: Annotated[
        str | None, typer.Option(help="For words: a file of a word and its phones a line.", show_default="CMUdict")
    ] = None,
    words: Annotated[bool, typer.Option("--words", help="Words instead of phones; --lm must be over words.")] = False,
    mic: Annotated[bool, typer.Option("--mic", help="Record from the microphone until Enter is pressed.")] = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="Print phones as the speech comes; of a model in one direction.")
    ] = False,
) -> None:
    """Write down the phones in recordings; one that fails is reported, and the exit code is 1, or 2 if all fail.

    asr transcribe a.wav
    asr transcribe talks/ --format textgrid --output-dir phones
    ffmpeg -i film.mkv -f wav - | asr transcribe - --format srt
    asr transcribe *.flac --format json --nbest 5 --ipa
    asr transcribe a.wav --words --lm LANGUAGE_MODEL --lm-weight 0.7 --beam-size 50 --model ITS_RECOGNISER
    asr transcribe --mic --stream --model runs/mini_librispeech/streaming
    """
    from asr.cli.transcribe import Request, stream_all, transcribe_all

    if bool(recordings) == mic:
        raise typer.BadParameter("name recordings, or give --mic", param_hint="RECORDINGS")
    given = {"lm": lm, "lexicon": lexicon, "lm_weight": lm_weight, "insertion_penalty": penalty}
    decode = {key: value for key, value in given.items() if value is not None} | {"nbest": nbest}
    request = Request(model, beam_size, decode, output_format, output_dir, ipa, channel, words)
    if not stream:
        raise typer.Exit(transcribe_all(recordings or [], mic, request))
    if request != Request(model, None, {"nbest": 1}, "text", None, False, channel, False):
        raise AsrError("--stream prints phones as they come: only --model, --channel and --mic go with it")
    raise typer.Exit(stream_all(recordings or [], mic, model, channel))


@app.command()
def sensitivity(
    runs: Annotated[list[Path], typer.Argument(help="Run or model folders of networks.")],
    output: Annotated[Path, typer.Option(help="The picture.")] = Path("runs/sensitivity.png"),
    data: Data = None,
) -> None:
    """Draw how much a network's outputs depend on inputs long past: the vanishing gradient.

    asr sensitivity runs/mini/elman runs/mini/gru runs/mini/lstm
    """
    from asr.evaluation.sensitivity import draw

    typer.echo(draw(runs, output, data))


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A run or model folder, or the name of a shipped model.")],
    folder: Annotated[Path, typer.Argument(help="The model folder to write.")],
    onnx: Annotated[bool, typer.Option("--onnx", help="With the network as model.onnx, for onnxruntime.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="With --onnx: its weights in 8 bits.")] = False,
) -> None:
    """Copy a model folder with its weights as float16: half the size, to keep or to pass on.

    asr export runs/mini/blstm_ctc my-model
    asr transcribe --model my-model a.wav
    asr export en-us-phones small --onnx --int8    # features (B, T, F) and lengths (B,) to log_probs (T', B, C)
    """
    from asr.models.model_folder import export as write

    configuration.check(onnx or not int8, "--int8", "come with --onnx", int8)
    write(model, folder, onnx, int8)
    typer.echo(f"model folder: {folder}")


def main() -> None:
    """Run the command line; a fault that the user can mend is one line and exit code 2."""
    # IPA whatever the locale; names of files need not be UTF-8.
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    gc.set_threshold(300_000)  # starting makes a quarter of a million objects and no garbage: two tenths of a second
    console = Console(stderr=True)
    handler = RichHandler(console=console, show_path=False, show_time=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    for name in ("asr", "data_prep"):
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        app()
    except AsrError as error:
        typer.echo(f"asr: {error}", err=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if (error.name or "asr").partition(".")[0] == "asr":
            raise
        typer.echo(f"asr: no {error.name} here: this install recognises and aligns; {EVERYTHING}", err=True)
        sys.exit(2)
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        where = error.filename or "what is printed"
        typer.echo(f"asr: {where}: {error.strerror}: check the path, permissions and free space", err=True)
        if error.filename is None:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - what could not be printed is not tried again at the end
        sys.exit(2)
    except SystemExit as stop:
        if stop.code == 130:  # what typer makes of Ctrl-C
            goes_on = "; the same command goes on from the last checkpoint" if sys.argv[1:2] == ["train"] else ""
            typer.echo(f"\nasr: stopped{goes_on}", err=True)
        raise
    finally:
        gc.freeze()  # what lives till the end is not looked through for garbage then: a third of a second
