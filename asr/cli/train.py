"""The verbs that make a model: prepare, train, calibrate, tune, export, train-boundaries, train-scorer."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Copy, Data, KnownData, Model, Overrides, Recipe, Run, check, check_model, note
from asr.core import config as configuration
from asr.core.errors import AsrError

SHAR_FORMATS = ("flac", "opus")


def run_folder(recipe: Path) -> Path:
    """Return the run folder of a recipe.

    >>> run_folder(Path("recipes/mini/blstm_ctc.yaml")).as_posix()
    'runs/mini/blstm_ctc'
    """
    return Path("runs") / recipe.absolute().parent.name / recipe.stem


def configure(recipe: Path, overrides: list[str] | None, data: Path | None) -> configuration.Config:
    """Return a recipe's configuration with the settings of the command line."""
    config = configuration.load(recipe, overrides or ())
    return config if data is None else configuration.with_corpora_in(config, data)


def prepare(
    recipe: Annotated[
        Path | None, typer.Argument(help="A recipe's YAML file, such as recipes/mini/blstm_ctc.yaml.")
    ] = None,
    overrides: Overrides = None,
    data: Data = None,
    corpus: Annotated[
        Path | None, typer.Option(help="A corpus of your own in place of the recipe's: a folder or a table.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Of the splits that --corpus lacks.", show_default="as before, or else 0"),
    ] = None,
    shar: Annotated[
        Path | None,
        typer.Option(help="Also write each corpus as shards into a folder of its name in here, to be trained on."),
    ] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Utterances in a shard.")] = 1000,
    shar_format: Annotated[str, typer.Option(help="How sound is stored in shards: flac or opus.")] = "flac",
) -> None:
    """Make the manifests of a recipe's corpora, and download or synthesise the corpora where that is allowed.

    A corpus of your own needs no recipe. It is called like its folder or file, and its form is recognised.

    asr prepare recipes/mini/blstm_ctc.yaml
    asr prepare recipes/timit/blstm_ctc.yaml --data /path/to/TIMIT
    asr prepare --corpus /path/to/mine
    asr prepare --corpus /path/to/mine --shar shards --shard-size 2000
    """
    if recipe is None and corpus is None:
        raise AsrError("give a recipe, or a corpus of your own with --corpus")
    check(seed is None or corpus is not None, "--seed", "come with --corpus", seed)
    check(shar_format in SHAR_FORMATS, "--shar-format", f"be one of {', '.join(SHAR_FORMATS)}", shar_format)
    corpora: dict[str, str | None] = {}
    manifests = configuration.DataConfig.manifests
    speech = None
    if recipe is not None:
        speech = configure(recipe, overrides, data).data
        corpora, manifests = speech.corpora, speech.manifests

    from asr.data import pronunciations, splits

    if corpus is not None:
        corpora = {splits.name_of(corpus): str(corpus)}
    found = splits.prepare(
        corpora,
        manifests,
        seed=seed,
        said=lambda name: None if speech is None else pronunciations.of_corpus(speech, name),
    )
    for name, folder in found.items():
        typer.echo(f"{name}: manifests in {folder}, contents {splits.contents(manifests, name)}")
    if shar is not None:
        from asr.data.shar import write

        for name in found:
            counts = write(Path(manifests), name, shar / name, shard_size, shar_format, seed or 0)
            parts = ", ".join(f"{count:,} {split}" for split, count in counts.items())
            typer.echo(f"{name}: shards in {shar / name}, {parts}")


def train(recipe: Recipe, overrides: Overrides = None, data: Data = None, run: Run = None) -> None:
    """Train the system of a recipe. A run that was stopped goes on from its last checkpoint.

    asr train recipes/mini/blstm_ctc.yaml
    asr train recipes/mini/blstm_ctc.yaml model.num_layers=2 seed=2 --run runs/mini/two_layers
    asr train recipes/mini/blstm_ctc.yaml "seeds=[1,2,3]" --run runs/mini/three_seeds
    """
    config, base = configure(recipe, overrides, data), run or run_folder(recipe)

    from asr.training.waits import shorten_waits

    shorten_waits()  # before torch is imported
    from asr.evaluation.calibrate import calibrate as fit
    from asr.models.run_folder import goes_on
    from asr.training import check, processes
    from asr.training import train as run_training

    of_data = [each for each in overrides or () if each.startswith("data.")]
    of_stage = [each for each in of_data if not each.startswith("data.speeds")]  # which are for networks
    config = configuration.found_beside(config, base)
    before = config.train.alignments
    check(config)
    processes.join(config.train)  # from here on, the first process alone prints
    aligner = Path(before or "", "model", "model.safetensors")
    if before is not None and processes.by_first(lambda: goes_on(Path(before)) or not aligner.is_file()):
        stage = recipe.with_name(Path(before).name + ".yaml")
        note(f"first {stage}, whose alignments {recipe} is trained on")
        train(stage, of_stage, data, Path(before))
    denominator = config.train.criterion.lm
    stage = recipe.parent / "lm" / f"{Path(denominator or '').name}.yaml"
    if denominator is not None and processes.by_first(lambda: not Path(denominator).exists() and stage.is_file()):
        note(f"first {stage}, with which {recipe} is trained")
        processes.by_first(lambda: _train_lm(stage, config, Path(denominator)))
    places = [each for each in of_data if each.startswith("data.corpora")]  # a model folder keeps all else
    for folder, each in configuration.each_seed(config, base).items():
        typer.echo(f"model folder: {run_training(each, folder)}")
        typer.echo(processes.by_first(partial(fit, str(folder), places, data)))


def _train_lm(recipe: Path, acoustic: configuration.Config, run: Path) -> None:
    """Train a language model on the transcripts of the speech that a system is trained on."""
    from asr.data.labels import settle
    from asr.lm import config as lm_configuration
    from asr.training.inputs import prepare_corpora
    from asr.training.lm import train as run_training

    prepare_corpora(acoustic.data)
    speech = settle(acoustic, run / "labels").data
    config = lm_configuration.load(recipe)
    text = replace(config.text, corpora=speech.corpora, manifests=speech.manifests, labels=speech.labels)
    run_training(replace(config, text=text), run)


def calibrate(
    model: Model,
    overrides: Overrides = None,
    data: KnownData = None,
    output: Copy = None,
) -> None:
    """Fit a model's confidences and times on dev speakers: its own, as `asr train` does at its end, or yours.

    asr calibrate runs/mini/blstm_ctc
    asr calibrate en-us-phones "data.corpora={mine: mine}" --output my-model
    """
    check_model(model, overrides)

    from asr.evaluation.calibrate import calibrate as fit

    typer.echo(fit(model, overrides or (), data, output))


def tune(
    model: Annotated[str, typer.Argument(help="A run or model folder, or the name of a shipped model, of CTC.")],
    overrides: Annotated[list[str], typer.Argument(help="decode.lm=FOLDER, and other settings.")],
    data: KnownData = None,
    output: Annotated[
        Path | None, typer.Option(help="The folder for the curve.", show_default="the run folder")
    ] = None,
    store: Annotated[
        bool,
        typer.Option(
            "--store", help="Keep what is found: of words in the word model's folder, of phones in the model's."
        ),
    ] = False,
) -> None:
    """Find a language model's weight, the penalty for a phone or word, and the scale of priors on the dev speakers.

    asr tune runs/mini/blstm_ctc decode.lm=runs/mini/lm/phone_trigram --store    # the model decodes with it then
    asr tune runs/mini_librispeech/blstm_ctc decode.lm=runs/mini_librispeech/lm/word_trigram decode.beam_size=50
    asr tune en-us-phones decode.lm=WORD_MODEL decode.beam_size=50 --store
    """
    check_model(model, overrides)

    from asr.evaluation.inputs import load_configured, results_folder
    from asr.models.ctc import CTCModel
    from asr.training.tuning import tune as find

    folder, recogniser = load_configured(model, overrides, data)
    if not isinstance(recogniser, CTCModel):
        raise AsrError(f"{model} was not trained with CTC: it takes no language model")
    typer.echo(find(recogniser, output or results_folder(folder), folder if store else None))


def export(
    model: Model,
    folder: Annotated[Path, typer.Argument(help="The folder to write.")],
    onnx: Annotated[bool, typer.Option("--onnx", help="Add the network as model.onnx, for onnxruntime.")] = False,
    waveform: Annotated[
        bool, typer.Option("--waveform", help="Add waveform.onnx: the network with the features before it.")
    ] = False,
    web: Annotated[
        bool, typer.Option("--web", help="Write a page that recognises in the browser, in place of a model folder.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Store the network's weights in 8 bits, graphs included.")
    ] = False,
    runtime: Annotated[
        Path | None,
        typer.Option(
            help="With --web: a folder that has onnxruntime-web.", show_default="download it from npm's registry"
        ),
    ] = None,
) -> None:
    """Copy a model folder with its weights as float16, or in 8 bits: half or a quarter of the size, to pass on.

    asr export runs/mini/blstm_ctc my-model
    asr export runs/mini/blstm_ctc my-model --int8
    asr transcribe --model my-model a.wav
    asr export en-us-phones small --onnx --int8    # features (B, T, F) and lengths (B,) to log_probs (T', B, C)
    asr export en-us-phones small --waveform       # waveform (N,), 16 kHz, in [-1, 1], to log_probs (T', 1, C)
    asr export en-us-phones-small page --web       # a static page, for any web server
    """
    from asr.models import model_folder

    if web and (onnx or waveform):
        raise AsrError("--web writes a page, and --onnx and --waveform add to a model folder: give one or the others")
    if runtime is not None and not web:
        raise AsrError("--runtime is for the page that --web writes: give it, too")
    if web:
        from asr.serving import web_export

        size = web_export.export(model, folder, int8, runtime)
        typer.echo(f"page: {folder}, {size / 1e6:.1f} MB")
        return
    graphs = [
        name for name, is_asked in ((model_folder.GRAPH, onnx), (model_folder.WAVEFORM_GRAPH, waveform)) if is_asked
    ]
    model_folder.export(model, folder, graphs, int8)
    typer.echo(f"model folder: {folder}")


def average(
    model: Model,
    other: Annotated[str, typer.Argument(help="The other model, such as what the first was trained on from.")],
    folder: Annotated[Path, typer.Argument(help="The folder to write.")],
    share: Annotated[float, typer.Option(min=0, max=1, help="Of the other model's weights.")] = 0.5,
) -> None:
    """Average the weights of two networks: what was trained on keeps more of what was known before.

    asr average runs/mine/blstm_ctc en-us-phones my-model --share 0.2
    asr calibrate my-model --data /path/to/corpora
    """
    from asr.models import model_folder

    model_folder.average(model, other, share, folder)
    typer.echo(f"model folder: {folder}")


def train_boundaries(
    model: Model,
    overrides: Overrides = None,
    data: KnownData = None,
    output: Copy = None,
) -> None:
    """Train what places phone boundaries for `asr align`, on the model's training speakers or yours: some minutes.

    asr train-boundaries runs/mini/blstm_ctc
    asr train-boundaries en-us-phones "data.corpora={mini_librispeech: null}" --data CORPORA --output my-model
    """
    check_model(model, overrides)

    from asr.training.boundaries import train as run_training

    typer.echo(run_training(model, overrides or (), data, output))


def train_scorer(
    model: Model,
    output: Copy = None,
    data: KnownData = None,
    scores: Annotated[
        Path | None,
        typer.Option(help="The experts' scores.", show_default="resource/scores.json of speechocean762"),
    ] = None,
) -> None:
    """Train what scores pronunciation for `asr pronounce`, on the experts' scores of speechocean762, and rate it.

    asr train-scorer runs/en_us_phones/blstm_ctc --data /path/to/speechocean762
    asr train-scorer en-us-phones --output my-model
    """
    check_model(model)

    from asr.models.model_folder import find
    from asr.training.pronunciation import train as run_training

    typer.echo(run_training(model, find(model) if output is None else output, data, scores))
