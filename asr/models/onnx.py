"""A CTC recogniser in onnxruntime, from the same model folder and without torch.

Loading a model folder makes the graph from its weights (`asr.models.onnx_graph`), or reads ``model.onnx`` where
`asr export --onnx` has put one beside them.

Letters: T feature frames, F values a frame, T' output frames, C classes.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from asr.core import files, workers
from asr.core.config import Config
from asr.core.errors import AsrError, ModelError
from asr.core.settings import model_options
from asr.encoders.blstm_sizes import BLSTMSizes
from asr.models.base import Storage
from asr.models.ctc import CTCModel
from asr.models.onnx_features import PREFIX, with_features
from asr.models.onnx_graph import PROVIDERS, Graph, build, session_options
from asr.models.onnx_messages import note
from asr.speech.features import FeatureExtractor

WEIGHTS = "weights"  # the note in a graph that holds the hash of what it was made of


class OnnxEncoder:
    """A graph that is ready to run; several threads may run it at once.

    Parameters
    ----------
    session
        Returns the graph in onnxruntime.
    subsampling
        Feature frames in an output frame.
    """

    def __init__(self, session: Callable[[], onnxruntime.InferenceSession], subsampling: int):
        self._session, self.subsampling = session, subsampling

    @property
    def notes(self) -> dict[str, str]:
        """The texts in the graph's metadata."""
        return dict(self._session().get_modelmeta().custom_metadata_map)

    def __call__(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return natural-log posteriors (T', C) float32 of each utterance (T, F)."""
        lengths = np.array([len(each) for each in features])
        padded = np.zeros((len(features), lengths.max(), features[0].shape[1]), np.float32)
        for row, each in zip(padded, features, strict=True):
            row[: len(each)] = each
        log_probs, steps = self._session().run(None, {"features": padded, "lengths": lengths})
        return [np.ascontiguousarray(log_probs[:count, i]) for i, count in enumerate(steps)]


def graph_of(
    config: Config, num_classes: int, tensors: Mapping[str, np.ndarray], stateful: bool = False
) -> tuple[Graph, int]:
    """Return the graph of a configuration's network with given weights, and the feature frames in a step.

    Raises
    ------
    KeyError, ValueError
        Weights are missing, or have other shapes than the configuration says.
    """
    num_features = FeatureExtractor(config.features).num_features
    sizes = model_options(config.model, BLSTMSizes)
    expected = {f"encoder.{name}": shape for name, shape in sizes.shapes(num_features, num_classes).items()}
    given = {name: value.shape for name, value in tensors.items()}
    wrong = next((name for name in sorted({*expected, *given}) if given.get(name) != expected.get(name)), None)
    if wrong is not None:
        raise ValueError(f"{wrong} is {given.get(wrong)} and not {expected.get(wrong)}")
    window = sizes.chunk, sizes.lookahead
    return build(tensors, num_features, sizes.stack, sizes.num_layers, window, stateful), sizes.stack


@dataclass(frozen=True)
class OnnxModel(CTCModel):
    """A CTC model whose network runs in onnxruntime.

    Attributes
    ----------
    encoder
        The graph.
    weights
        The weights that it was made of.
    """

    encoder: OnnxEncoder  # type: ignore[assignment]
    weights: dict[str, np.ndarray]

    @classmethod
    def parts(cls, config: Config, tokens: tuple[str, ...], tensors: dict[str, np.ndarray]) -> dict[str, Any]:
        """Make the graph."""
        graph, subsampling = graph_of(config, len(tokens), tensors)
        session = workers.in_background(graph.session)  # what else a recogniser needs is read at the same time
        return {"encoder": OnnxEncoder(session, subsampling), "weights": tensors}

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the network's weights."""
        return self.weights

    @property
    def num_parameters(self) -> int:
        """Weights of the network."""
        return sum(value.size for value in self.weights.values())

    def emissions(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return natural-log posteriors (T', C) float32 of each utterance."""
        return self.encoder(features)


def read_graph(path: Path, model: OnnxModel) -> OnnxModel:
    """Return a model that runs the graph which `asr export` wrote beside its weights.

    Raises
    ------
    ModelError
        The graph is damaged, or was made of other weights.
    """
    graph = path.read_bytes()
    try:
        session = onnxruntime.InferenceSession(graph, session_options(), providers=PROVIDERS)
    except Exception as error:  # onnxruntime's own have no common base
        raise ModelError(f"{path} is damaged ({str(error).splitlines()[0]}): export it again") from error
    encoder = OnnxEncoder(lambda: session, model.encoder.subsampling)
    if encoder.notes.get(WEIGHTS) != _hash(model):
        raise ModelError(f"{path} was made of other weights than lie beside it: export it again, or delete it")
    return replace(model, encoder=encoder)


def _hash(model: OnnxModel) -> str:
    """Return a hash of a model's weights."""
    found = hashlib.sha256()
    for name, value in sorted(model.weights.items()):
        found.update(name.encode() + np.ascontiguousarray(value).tobytes())
    return found.hexdigest()


def write_graph(
    path: Path, model: OnnxModel, int8: bool = False, from_waveform: bool = False, storage: Storage = "float32"
) -> None:
    """Write a model's graph for onnxruntime.

    Parameters
    ----------
    int8
        Whether the layers compute in 8 bits.
    from_waveform
        Whether the features are in the graph, too.
    storage
        How the file holds weights that are computed with as float32.

    Raises
    ------
    AsrError
        8 bits are asked for, and the package onnx is not installed.
    ConfigError
        The features have no graph.
    """
    graph, _ = graph_of(model.config, len(model.tokens), model.tensors())
    if storage != "float32":
        graph = graph.halved() if storage == "float16" else graph.rounded()
    if from_waveform:
        graph = with_features(graph, model.normaliser)
    with files.replacing(path) as temporary:
        temporary.write_bytes(graph.model(has_weights=True))
        if int8:
            _quantize(temporary)
        with temporary.open("ab") as file:
            file.write(note(WEIGHTS, _hash(model)))


def _quantize(path: Path) -> None:
    """Give the layers' weights in an ONNX file 8 bits."""
    try:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise AsrError("--int8 needs the package onnx: pip install onnx") from error
    front = [node.name for node in onnx.load(path).graph.node if node.name.startswith(PREFIX)]
    quantize_dynamic(
        path, path, weight_type=QuantType.QInt8, op_types_to_quantize=["LSTM", "MatMul"], nodes_to_exclude=front
    )
