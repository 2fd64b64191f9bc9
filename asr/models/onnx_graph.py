"""The BLSTM as an ONNX graph, written operator by operator from its weights: no tracing, no torch.

    features (B, T, F), lengths (B,) ──▶ log_probs (T', B, C), output_lengths (B,)

Frames from `lengths` on count as 0, whatever fills them.

Letters: B utterances, T feature frames, F values a frame, n frames a step, T' = ⌈T / n⌉, H cells a direction, K
channels, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnxruntime

from asr.core.workers import get_num_threads
from asr.models import onnx_messages as messages

GATES = (0, 3, 1, 2)  # torch's i, f, g, o in ONNX's order: i, o, f, c
PROVIDERS = ("CPUExecutionProvider",)


def session_options() -> onnxruntime.SessionOptions:
    """Return options by which onnxruntime keeps to one thread where this process does."""
    options = onnxruntime.SessionOptions()
    if get_num_threads() == 1:
        options.intra_op_num_threads = 1
    return options


@dataclass(frozen=True)
class Graph:
    """A network for onnxruntime.

    Attributes
    ----------
    nodes, inputs, outputs
        Its operators, and what goes in and comes out, as ONNX's messages.
    constants
        By name, int64, float32 or float64.
    weights
        By name, float32. A session takes them from outside the model, as it would copy them four times from it.
    """

    nodes: list[bytes]
    inputs: list[bytes]
    outputs: list[bytes]
    constants: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]

    def session(self) -> onnxruntime.InferenceSession:
        """Return the graph in onnxruntime."""
        options = session_options()
        values = map(onnxruntime.OrtValue.ortvalue_from_numpy, self.weights.values())
        options.add_external_initializers([*self.weights], [*values])
        return onnxruntime.InferenceSession(self.model(has_weights=False), options, providers=PROVIDERS)

    def model(self, has_weights: bool) -> bytes:
        """Return the ONNX model, with the weights in it or without."""
        weights = [messages.tensor(*each, is_external=not has_weights) for each in self.weights.items()]
        constants = [messages.tensor(*each) for each in self.constants.items()]
        return messages.model(messages.graph("blstm", self.nodes, constants + weights, self.inputs, self.outputs))

    def halved(self) -> "Graph":
        """Return the graph with its weights as float16, which a session makes float32 again when it is loaded."""
        halves = {f"{name}_half": value.astype(np.float16) for name, value in self.weights.items()}
        casts = [messages.node("Cast", [f"{name}_half"], [name], {"to": messages.FLOAT}) for name in self.weights]
        return replace(self, nodes=casts + self.nodes, weights=halves)


class Operators:
    """The nodes and constants of a graph; each gets its name when it is added, with a prefix where one is given."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self.nodes: list[bytes] = []
        self.constants: dict[str, np.ndarray] = {}
        self.weights: dict[str, np.ndarray] = {}

    def weight(self, name: str, value: np.ndarray) -> str:
        """Add a weight of the network; return its name."""
        self.weights[name] = np.ascontiguousarray(value, np.float32)
        return name

    def integers(self, *values: int) -> str:
        """Add a constant (n,) int64; return its name."""
        return self.constant(f"integers_{'_'.join(map(str, values))}", np.array(values, np.int64))

    def scalar(self, value: int | float, kind: type[np.generic] = np.float32) -> str:
        """Add a constant without dimensions, int64 if it is an integer; return its name."""
        array = np.array(value, np.int64 if isinstance(value, int) else kind)
        return self.constant(f"{array.dtype}_{value}", array)

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add a constant; return its name."""
        self.constants[name] = value
        return name

    def add(
        self, operator: str, *inputs: str, output: str | None = None, more: Sequence[str] = (), **attributes: Any
    ) -> str:
        """Add a node; return the name of its first output."""
        name = output or f"{self._prefix}{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(messages.node(operator, inputs, [name, *more], attributes))
        return name


def build(
    tensors: Mapping[str, np.ndarray], num_features: int, num_steps: int, num_layers: int, stateful: bool = False
) -> Graph:
    """Make the graph of an `asr.encoders.blstm` network.

    Parameters
    ----------
    tensors
        The network's weights, named ``encoder.…`` as in a model folder.
    num_features, num_steps, num_layers
        F, n and the number of layers.
    stateful
        For a network in one direction: whether the graph has inputs ``h_0``, ``c_0`` … (1, B, H), the states of the
        layers before the first frame, and outputs ``h_0_after`` …, their states after the last.

    Raises
    ------
    KeyError
        A weight is missing.
    """
    weights = {name.removeprefix("encoder."): value for name, value in tensors.items()}
    graph = Operators()
    hidden = _join(graph, weights, num_features, num_steps)
    rounded = graph.add("Add", "lengths", graph.integers(num_steps - 1))
    graph.add("Div", rounded, graph.integers(num_steps), output="output_lengths")
    lengths = graph.add("Cast", "output_lengths", to=messages.INT32)
    states = [f"{kind}_{i}" for i in range(num_layers) for kind in "hc"] if stateful else []
    for i in range(num_layers):
        hidden = _lstm(graph, weights, i, hidden, lengths, states[2 * i : 2 * i + 2])
    size = weights["forward_layers.0.weight_hh_l0"].shape[1]
    product = graph.add("MatMul", hidden, graph.weight("output_weight", weights["output.weight"].T))
    logits = graph.add("Add", product, graph.weight("output_bias", weights["output.bias"]))
    graph.add("LogSoftmax", logits, axis=2, output="log_probs")
    num_classes = len(weights["output.bias"])
    inputs = [
        messages.value_info("features", messages.FLOAT, ["batch", "frames", num_features]),
        messages.value_info("lengths", messages.INT64, ["batch"]),
        *(messages.value_info(state, messages.FLOAT, [1, "batch", size]) for state in states),
    ]
    outputs = [
        messages.value_info("log_probs", messages.FLOAT, ["steps", "batch", num_classes]),
        messages.value_info("output_lengths", messages.INT64, ["batch"]),
        *(messages.value_info(f"{each}_after", messages.FLOAT, [1, "batch", size]) for each in states),
    ]
    return Graph(graph.nodes, inputs, outputs, graph.constants, graph.weights)


def _join(graph: Operators, weights: Mapping[str, np.ndarray], num_features: int, num_steps: int) -> str:
    """Join n frames into a step (T', B, ·): side by side, or by the two convolutions."""
    frames = graph.add("Slice", graph.add("Shape", "features"), graph.integers(1), graph.integers(2))
    lacking = graph.add("Mod", graph.add("Neg", frames), graph.integers(num_steps))
    pads = graph.add("Concat", graph.integers(0, 0, 0, 0), lacking, graph.integers(0), axis=0)
    padded = graph.add("Pad", _mask(graph, frames), pads)
    if "front.first.weight" not in weights:
        stacked = graph.add("Reshape", padded, graph.integers(0, -1, num_steps * num_features))
        return graph.add("Transpose", stacked, perm=[1, 0, 2])
    maps = graph.add("Unsqueeze", padded, graph.integers(1))
    for name, strides, pads_around in (("first", [1, 2], [1, 1, 1, 1]), ("second", [num_steps, 2], [0, 1, 0, 1])):
        parts = [graph.weight(f"{name}_{part}", weights[f"front.{name}.{part}"]) for part in ("weight", "bias")]
        maps = graph.add("Relu", graph.add("Conv", maps, *parts, strides=strides, pads=pads_around))
    return graph.add("Reshape", graph.add("Transpose", maps, perm=[2, 0, 1, 3]), graph.integers(0, 0, -1))


def _mask(graph: Operators, frames: str) -> str:
    """Return the features (B, T, F) with zeros from each utterance's length on; `frames` (1,) holds T."""
    time = graph.add("Range", graph.scalar(0), graph.add("Squeeze", frames), graph.scalar(1))
    inside = graph.add("Less", time, graph.add("Unsqueeze", "lengths", graph.integers(1)))  # (B, T)
    return graph.add("Where", graph.add("Unsqueeze", inside, graph.integers(2)), "features", graph.scalar(0.0))


def _lstm(
    graph: Operators, weights: Mapping[str, np.ndarray], layer: int, hidden: str, lengths: str, states: Sequence[str]
) -> str:
    """Add a layer of one direction or two, (T', B, ·) to (T', B, H or 2H)."""
    ways = [way for way in ("forward", "backward") if f"{way}_layers.{layer}.weight_hh_l0" in weights]

    def of(kind: str) -> np.ndarray:
        both = [weights[f"{way}_layers.{layer}.{kind}_l0"] for way in ways]
        return np.stack([np.concatenate([np.split(each, 4)[gate] for gate in GATES]) for each in both])

    recurrent = of("weight_hh")
    inputs = [
        graph.weight(f"lstm_{layer}_input", of("weight_ih")),
        graph.weight(f"lstm_{layer}_recurrent", recurrent),
        graph.weight(f"lstm_{layer}_bias", np.concatenate([of("bias_ih"), of("bias_hh")], axis=1)),
    ]
    outputs = graph.add(  # (T', 1 or 2, B, H)
        "LSTM",
        hidden,
        *inputs,
        lengths,
        *states,
        more=[f"{state}_after" for state in states],
        direction="bidirectional" if len(ways) == 2 else "forward",
        hidden_size=recurrent.shape[2],
    )
    return graph.add("Reshape", graph.add("Transpose", outputs, perm=[0, 2, 1, 3]), graph.integers(0, 0, -1))
