"""Model folders: everything that a trained recogniser needs, in plain files.

=================== ==========================================================================
``config.yaml``     the resolved configuration, features and encoder included
``tokens.txt``      one label a line, in the order of the outputs; the first is the blank, which HMMs do not use
``model.safetensors`` weights, and the normalisation statistics where there are any
``metrics.json``    what the model scored, on which data
``calibration.json`` the map from posteriors to confidences and the lag of times, once fitted on dev speakers
``boundaries.safetensors`` what places phone boundaries, where `asr train-boundaries` put it
``pronunciation.*`` what scores pronunciation, and its figures, where `asr train-scorer` put them
``model.onnx``      the network for onnxruntime, where `asr export --onnx` put it
``README.md``       the model card
``phones.tsv``      labels of one's own with their IPA, and other files of `asr.speech.label_folder`
``NAME/``           the n-gram that a network was trained with by CTC-CRF, named by ``train.criterion.lm``; and a
                    language model over phones to decode with, named by ``decode.lm``, that `asr tune --store` put there
=================== ==========================================================================

Nothing here is unpickled, so loading a folder never runs code from it.
"""

import importlib
import importlib.util
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asr.core import config as configuration
from asr.core.config import Config, DecodeConfig
from asr.core.errors import ConfigError, ModelError
from asr.core.files import read_tensors, replacing, write_tensors, write_text
from asr.models import calibration
from asr.models.base import BLANK, AcousticModel, Storage
from asr.models.calibration import Calibration
from asr.models.kinds import Kind, has_graph, kind_of
from asr.speech import label_folder
from asr.speech.features import FeatureExtractor
from asr.speech.normaliser import Normaliser

if TYPE_CHECKING:
    from asr.lm.ngram import NGram
    from asr.models.boundaries import PhoneBoundaries

SCALE = ".scale"  # ends the name of the scales of a matrix in 8 bits
GRAPH = "model.onnx"  # written by `asr export --onnx`
WAVEFORM_GRAPH = "waveform.onnx"  # by `asr export --waveform`
ADDED = ("pronunciation.*", "boundaries.*")  # trained for a model that is there already
BOUNDARIES = "boundaries.safetensors"
ABOUT = ("README.md", "metrics.json")  # what tells of a model, and is no part of it
PRETRAINED = Path(__file__).parent / "pretrained"
CLASSES = {  # module and name, since a module is imported for its own kind of system only
    Kind.CTC: ("asr.models.ctc", "CTCModel"),
    Kind.ATTENTION: ("asr.models.attention", "AttentionModel"),
    Kind.HYBRID: ("asr.models.hmm", "HybridModel"),
    Kind.GMM_HMM: ("asr.models.hmm", "GMMModel"),
}


def save(folder: Path, model: AcousticModel, card: str, storage: Storage = "float32") -> None:
    """Write a model folder, each file under a temporary name first; the calibration is not written.

    Parameters
    ----------
    model
        The acoustic model.
    card
        The text of README.md.
    storage
        How the weights are stored. With ``int8``, each row of a network's weight matrix has 8 bits a value and a scale;
        the rest is float16.
    """
    weights = model.tensors()
    if storage == "int8":
        weights = _rounded(weights)
    kind = np.float32 if storage == "float32" else np.float16
    weights = {name: _cast(value, np.float32 if name.endswith(SCALE) else kind) for name, value in weights.items()}
    normaliser = model.normaliser
    if normaliser.mean is not None and normaliser.std is not None:
        weights["cmvn.mean"], weights["cmvn.std"] = (
            _cast(each, np.float32) for each in (normaliser.mean, normaliser.std)
        )
    folder.mkdir(parents=True, exist_ok=True)
    for file in _added(folder):  # to another model
        file.unlink()
    # A model folder is passed on: it does not tell where this machine keeps corpora and language models.
    config = model.config
    train, criterion = config.train, config.train.criterion
    lm, words = (each and Path(each).name for each in (criterion.lm, criterion.words))
    named = replace(criterion, lm=lm, words=words, frames=criterion.frames and name_of(Path(criterion.frames)))
    data = label_folder.copy(config.data, folder)
    beside, init = train.alignments and Path(train.alignments).name, train.init and name_of(Path(train.init))
    public = replace(
        config,
        data=replace(data, corpora=dict.fromkeys(data.corpora), exclude=data.exclude and Path(data.exclude).name),
        train=replace(train, alignments=beside, init=init, criterion=named),
        decode=replace(config.decode, lm=None, rescore_lm=None, lexicon="cmudict", hints=()),
    )
    if model.lm is not None:
        from asr.lm import folder as lm_folder  # most models have none

        lm_folder.save(folder / str(named.lm), model.lm, f"# {model.lm.order}-gram of CTC-CRF\n")
    write_text(folder / "config.yaml", configuration.to_yaml(public))
    write_text(folder / "tokens.txt", "".join(f"{token}\n" for token in model.tokens))
    write_text(folder / "README.md", card)
    write_tensors(folder / "model.safetensors", weights)


def export(name: str | Path, folder: Path, graphs: Collection[str] = (), int8: bool = False) -> None:
    """Copy a model folder, with its weights as float16 or in 8 bits.

    Parameters
    ----------
    name
        A run or model folder, or a shipped model's name.
    folder
        The model folder to write.
    graphs
        What to add for onnxruntime: `GRAPH`, the network; `WAVEFORM_GRAPH`, the network with the features before it.
    int8
        Whether the network's weights have 8 bits, here and in the graphs, instead of float16 and float32.

    Raises
    ------
    ModelError
        There is no such model, or `folder` is a shipped one.
    ConfigError
        Its network or its features have no ONNX graph.
    """
    source = find(name)
    check_output(folder)
    model = load(source, light=True)
    if graphs and not has_graph(model.config):
        raise ConfigError(f"{model.config.model['name']} has no ONNX graph: only systems of `blstm` with CTC have one")
    beside = [source / name for name in ("README.md", "metrics.json", calibration.FILE)]
    texts = {file.name: file.read_text(encoding="utf8") if file.is_file() else None for file in beside}
    added = {file.name: file.read_bytes() for file in _added(source)}
    save(folder, model, texts.pop("README.md") or "", "int8" if int8 else "float16")
    for name, text in texts.items():
        if text is None:
            (folder / name).unlink(missing_ok=True)  # an older model's
        else:
            write_text(folder / name, text)
    for name, content in added.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)
    for name in (GRAPH, WAVEFORM_GRAPH):
        (folder / name).unlink(missing_ok=True)
    if model.config.decode.lm is not None:
        store_decoding(folder, model.config.decode)
    if graphs:
        from asr.models.onnx import OnnxModel, write_graph

        rounded = load(folder, light=True)
        assert isinstance(rounded, OnnxModel)
        for name in graphs:
            write_graph(folder / name, rounded, int8, from_waveform=name == WAVEFORM_GRAPH)


def average(name: str | Path, other: str | Path, share: float, folder: Path) -> None:
    """Write a model folder whose weights, as float16, are a mean of those of two networks.

    Where one was trained on from the other, for other conditions than the other's, a mean may be better than both in
    either's (M. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022). What was fitted to one of the
    networks, such as calibration and a language model to decode with, is not copied.

    Parameters
    ----------
    name, other
        Run or model folders, or shipped models' names. All but the weights is of the first one.
    share
        Of the other one's weights, 0 to 1.
    folder
        The model folder to write.

    Raises
    ------
    ModelError
        There is no such model, it is no network, the two have other labels, features or shapes, or `folder` is one of
        them or a shipped one.
    ConfigError
        The share is none.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"the share is {share:g}: give one from 0 to 1")
    sources = find(name), find(other)
    check_output(folder)
    if folder.resolve() in {source.resolve() for source in sources}:
        raise ModelError(f"{folder} is averaged and stays as it is: name another folder")
    models = [load(source, light=True) for source in sources]
    if any(kind_of(model.config) not in (Kind.CTC, Kind.ATTENTION) for model in models):
        raise ModelError(f"{name} and {other} must be networks of CTC or attention: HMMs have no average")
    model, second = models
    networks = [{**each.config.model, "dropout": 0} for each in models]
    weights, others = model.tensors(), second.tensors()
    shapes = [{key: value.shape for key, value in each.items()} for each in (weights, others)]
    statistics = [(each.normaliser.mean, each.normaliser.std) for each in models]
    if (
        (model.tokens, model.config.features, networks[0]) != (second.tokens, second.config.features, networks[1])
        or shapes[0] != shapes[1]
        or not all(np.array_equal(*pair) for pair in zip(*statistics, strict=True))
    ):
        raise ModelError(
            f"{name} and {other} have other labels, features or shapes: average two of which one was trained on from "
            "the other"
        )
    ours, theirs = np.float64(1 - share), np.float64(share)  # so that the mean is rounded once
    mean = {key: ours * value + theirs * others[key] for key, value in weights.items()}
    config = replace(model.config, decode=DecodeConfig())
    model = replace(model, config=config, **type(model).parts(config, model.tokens, mean))
    card = sources[0] / "README.md"
    text = card.read_text(encoding="utf8").partition("\n## Scores")[0] if card.is_file() else ""
    save(
        folder,
        model,
        f"{text}\nThe mean of its weights and, with a share of {share:g}, {name_of(sources[1])}'s.\n",
        "float16",
    )
    for file in ("metrics.json", calibration.FILE, GRAPH, WAVEFORM_GRAPH):
        (folder / file).unlink(missing_ok=True)  # another model's


def read_config(folder: Path, overrides: Sequence[str] = ()) -> Config:
    """Read the configuration of a model folder, with dotted overrides applied; files that it names are in the folder.

    Raises
    ------
    ConfigError
        As `asr.core.config.load`.
    """
    config = configuration.load(folder / "config.yaml", overrides)
    decode = config.decode
    if decode.lm is not None and not any(each.startswith("decode.lm=") for each in overrides):
        decode = replace(decode, lm=None if decode.beam_size == 1 else str(folder / decode.lm))  # or for the best path
    return replace(config, data=label_folder.resolve(config.data, folder), decode=decode)


def load(folder: str | Path, light: bool = False) -> AcousticModel:
    """Read a model folder, a run folder that holds one, or a shipped model by its name.

    Parameters
    ----------
    light
        Whether to run the network in onnxruntime where it has a graph: it starts sooner, and needs no torch.

    Raises
    ------
    ModelError
        There is no such folder; a file is missing, or does not fit the others.
    ConfigError
        The model needs torch, and it is not installed.
    """
    folder = find(folder)
    try:
        config = read_config(folder)
    except ConfigError as error:
        raise ModelError(f"{error}: the model folder is damaged, or of another version of asr") from error
    tokens = tuple((folder / "tokens.txt").read_text(encoding="utf8", errors="replace").split("\n")[:-1])
    if not tokens or tokens[0] != BLANK or len({*tokens}) < len(tokens):
        raise ModelError(
            f"{folder / 'tokens.txt'}: the first line must be {BLANK}, and no two alike; take the file from the "
            "training run"
        )
    weights, _ = read_tensors(folder / "model.safetensors")
    try:
        weights = {name: _cast(value, np.float32) for name, value in _restored(weights).items()}
    except ValueError as error:  # scales of another shape
        raise ModelError(f"{folder / 'model.safetensors'} is damaged ({error}): copy or make it again") from error
    networks = (name for name in weights if name.startswith("encoder."))  # tensors of HMMs may be infinite
    lost = next((name for name in networks if not np.isfinite(weights[name]).all()), None)
    if lost is not None:
        raise ModelError(f"{folder / 'model.safetensors'}: {lost} holds NaN or infinity: take it from the training run")
    normaliser = _normaliser(config, weights, folder)
    cls = _light_class(config) if light else _class(config)
    try:
        parts = cls.parts(config, tokens, weights)
    except ConfigError:
        raise
    except (RuntimeError, TypeError, ValueError, KeyError, IndexError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(
            f"{folder / 'model.safetensors'} does not fit config.yaml and tokens.txt ({reason}): copy the folder again"
        ) from error
    parts |= {"lm": _ngram(config, tokens, folder), "boundaries": _boundaries(config, tokens, folder)}
    model = cls(config, tokens, normaliser, Calibration.load(folder), **parts)
    if light and (folder / GRAPH).is_file():
        from asr.models.onnx import OnnxModel, read_graph

        return read_graph(folder / GRAPH, model) if isinstance(model, OnnxModel) else model
    return model


def _cast(value: np.ndarray, dtype: type) -> np.ndarray:
    """Convert a floating-point array to a type; others stay as they are."""
    return value.astype(dtype) if value.dtype.kind == "f" else value


def _rounded(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Round each row of a network's matrices to 255 levels, the largest value to the last one."""
    found = {}
    for name, value in weights.items():
        found[name] = value
        if name.startswith("encoder.") and value.ndim > 1 and value.dtype.kind == "f":
            scale = np.abs(value).max(axis=tuple(range(1, value.ndim)), keepdims=True) / 127
            found[name + SCALE] = np.where(scale > 0, scale, 1)
            found[name] = np.rint(value / found[name + SCALE]).astype(np.int8)
    return found


def _restored(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Undo `_rounded`, but for the rounding."""
    return {
        name: value * weights[name + SCALE] if name + SCALE in weights else value
        for name, value in weights.items()
        if not name.endswith(SCALE)
    }


def _class(config: Config) -> type[AcousticModel]:
    """Return the class of a configuration's kind of system; the modules of the other kinds are not imported."""
    module, name = CLASSES[kind_of(config)]
    return getattr(importlib.import_module(module), name)


def _light_class(config: Config) -> type[AcousticModel]:
    """Return the class that runs a configuration's system in onnxruntime, where there is one."""
    if has_graph(config):
        from asr.models.onnx import OnnxModel

        return OnnxModel
    if importlib.util.find_spec("torch") is None:
        raise ConfigError(f'a model of {config.model["name"]} needs PyTorch: in a checkout, pip install ".[train]"')
    return _class(config)


def _ngram(config: Config, tokens: tuple[str, ...], folder: Path) -> "NGram | None":
    """Return the n-gram of a network that was trained with CTC-CRF."""
    name = config.train.criterion.lm
    if name is None:
        return None
    from asr.lm import folder as lm_folder
    from asr.lm.fusion import classes
    from asr.lm.ngram import NGram

    path = folder / Path(name).name
    if not path.is_dir():
        raise ModelError(f"{folder} lacks {path.name}, its n-gram: copy the whole model folder, or train again")
    lm = lm_folder.load(path)
    if not isinstance(lm, NGram):
        raise ModelError(f"{path} is no n-gram: take the folder from the training run")
    classes(lm, tokens)
    return lm


def _boundaries(config: Config, tokens: tuple[str, ...], folder: Path) -> "PhoneBoundaries | None":
    """Return what places boundaries in a model folder; without it the HMMs' modules are not imported."""
    if not (folder / BOUNDARIES).is_file():
        return None
    from asr.models.boundaries import PhoneBoundaries

    return PhoneBoundaries.load(folder / BOUNDARIES, tokens, config.data.labels)


def _added(folder: Path) -> list[Path]:
    """Return the files that `asr train-scorer` and `asr train-boundaries` have put into a model folder."""
    return [file for pattern in ADDED for file in folder.glob(pattern)]


def _normaliser(config: Config, weights: dict[str, np.ndarray], folder: Path) -> Normaliser:
    """Remove the statistics of normalisation from the weights, and return the normaliser."""
    statistics = {name: weights.pop(name) for name in ("cmvn.mean", "cmvn.std") if name in weights}
    normaliser = Normaliser(config.features, statistics.get("cmvn.mean"), statistics.get("cmvn.std"))
    shapes = [statistic.shape for statistic in (normaliser.mean, normaliser.std) if statistic is not None]
    num_features = FeatureExtractor(config.features).num_features
    fits = shapes == ([(num_features,)] * 2 if config.features.cmvn in ("global", "running") else [])
    if not fits or (normaliser.std is not None and not (normaliser.std > 0).all()):
        raise ModelError(
            f"{folder / 'model.safetensors'}: cmvn.mean and cmvn.std are not what config.yaml asks for: copy it again"
        )
    return normaliser


def name_of(folder: Path) -> str:
    """Return the name by which a word model knows a model folder: its own, or that of the run folder that it is in.

    >>> name_of(Path("runs/mini/blstm_ctc/model")), name_of(PRETRAINED / "en-us-phones")
    ('blstm_ctc', 'en-us-phones')
    """
    folder = folder.resolve()
    return folder.parent.name if folder.name == "model" else folder.name


def is_shipped(folder: Path) -> bool:
    """Tell whether a model folder is one of the package, however its path is written."""
    return folder.resolve().parent == PRETRAINED.resolve()


def check_output(folder: Path) -> None:
    """Check that a model may be written into a folder.

    Raises
    ------
    ModelError
        It is a shipped model's, or a run's, whose model is in a folder of its own.
    """
    if is_shipped(folder):
        raise ModelError(f"{folder.name} is a shipped model and stays as it is: name a folder for a copy")
    if (folder / "model").is_dir():
        raise ModelError(f"{folder} is the folder of a run, whose model is in {folder / 'model'}: name another folder")


def store_decoding(folder: Path, decode: DecodeConfig) -> None:
    """Put a copy of a language model over phones into a model folder, and the settings that decode with it.

    Raises
    ------
    ModelError
        The model is a shipped one.
    ConfigError
        The language model has the name of another one in the folder.
    """
    if is_shipped(folder):
        raise ModelError(f"{folder.name} is a shipped model and stays as it is: asr export writes a copy, to tune")
    from asr.lm.folder import locate

    path, config = Path(str(decode.lm)), configuration.load(folder / "config.yaml")
    if path.name == config.train.criterion.lm:
        raise ConfigError(
            f"{folder} holds the n-gram of its training as {path.name}: call {path} otherwise", "decode.lm"
        )
    if path.resolve() != (folder / path.name).resolve():
        copy(locate(path), folder / path.name)
    kept = {key: getattr(decode, key) for key in ("beam_size", "lm_weight", "insertion_penalty", "label_prior_scale")}
    config = replace(config, decode=replace(config.decode, lm=path.name, **kept))
    write_text(folder / "config.yaml", configuration.to_yaml(config))


def copy(source: Path, folder: Path) -> None:
    """Copy the files of a model folder into another one, which is made."""
    for file in source.rglob("*"):
        if file.is_file():
            with replacing(folder / file.relative_to(source)) as temporary:
                shutil.copyfile(file, temporary)


def find(name: str | Path) -> Path:
    """Return the model folder of a path, or of a shipped model's name.

    Raises
    ------
    ModelError
        There is none, or a file of it is missing.
    """
    places = [Path(name) / "model", Path(name), PRETRAINED / name]
    folder = next((place for place in places if (place / "config.yaml").is_file()), None)
    if folder is None:
        shipped = ", ".join(sorted(path.name for path in PRETRAINED.glob("*/"))) or "none"
        raise ModelError(
            f"no model folder at {name}: give a run or model folder, or a shipped model's name ({shipped})"
        )
    missing = [file for file in ("tokens.txt", "model.safetensors") if not (folder / file).is_file()]
    if missing:
        raise ModelError(f"{folder} lacks {' and '.join(missing)}: copy the whole model folder, or train again")
    return folder


def files_of(name: str | Path) -> list[Path]:
    """Return the files of a model folder that results depend on, which cards and scores are not, in one order always.

    Errors are those of `find`.
    """
    return [file for file in sorted(find(name).rglob("*")) if file.is_file() and file.name not in ABOUT]
