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
WAYS = ("forward", "backward")
OUTPUT = "output_weight"
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

    def rounded(self) -> "Graph":
        """Return the graph with its weights in 8 bits and a scale a row, of which a session makes float32.

        Those of a model folder that `asr export --int8` wrote stay what they are. Biases are float16.
        """
        matrices = {name: value for name, value in self.weights.items() if not name.endswith("_bias")}
        biases = replace(self, weights={name: self.weights[name] for name in self.weights.keys() - matrices}).halved()
        stored, nodes = dict[str, np.ndarray](), list[bytes]()
        for name, value in matrices.items():
            axes = 0 if name == OUTPUT else (1, 2, 3) if value.ndim == 4 else -1  # all but that of the rows
            scale = np.abs(value).max(axis=axes, keepdims=True) / 127
            stored[f"{name}_scale"] = scale = np.where(scale > 0, scale, 1).astype(np.float32)
            stored[f"{name}_rounded"] = np.rint(value / scale).astype(np.int8)
            nodes.append(messages.node("Cast", [f"{name}_rounded"], [f"{name}_whole"], {"to": messages.FLOAT}))
            nodes.append(messages.node("Mul", [f"{name}_whole", f"{name}_scale"], [name], {}))
        return replace(biases, nodes=nodes + biases.nodes, weights=biases.weights | stored)


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
    tensors: Mapping[str, np.ndarray],
    num_features: int,
    num_steps: int,
    num_layers: int,
    window: tuple[int, int] = (0, 0),
    stateful: bool = False,
) -> Graph:
    """Make the graph of an `asr.encoders.blstm` network.

    Parameters
    ----------
    tensors
        The network's weights, named ``encoder.…`` as in a model folder.
    num_features, num_steps, num_layers
        F, n and the number of layers.
    window
        Steps of a chunk and of its look-ahead (`asr.encoders.chunks`), or (0, 0).
    stateful
        For live speech, by a network in one direction or with chunks: whether the graph has inputs ``h_0``, ``c_0`` …
        (1, B, H), the states of the forward layers before the first frame, and outputs ``h_0_after`` …, their states
        after the last. With chunks, the frames are then those of one chunk and its look-ahead, and the log posteriors
        those of the chunk. For convolutions, n frames of the past and one of the future stand around them.

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
    if stateful and "front.first.weight" in weights:
        hidden = _slice(graph, hidden, graph.integers(1), graph.integers(1 + sum(window)))
    if window[0]:
        hidden = _run_chunks(graph, weights, num_layers, hidden, lengths, window, states)
    else:
        for i in range(num_layers):
            ways = [way for way in WAYS if f"{way}_layers.{i}.weight_hh_l0" in weights]
            hidden = _lstm(graph, weights, i, ways, hidden, lengths, states[2 * i : 2 * i + 2])
    size = weights["forward_layers.0.weight_hh_l0"].shape[1]
    product = graph.add("MatMul", hidden, graph.weight(OUTPUT, weights["output.weight"].T))
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


def _run_chunks(
    graph: Operators,
    weights: Mapping[str, np.ndarray],
    num_layers: int,
    hidden: str,
    lengths: str,
    window: tuple[int, int],
    states: Sequence[str],
) -> str:
    """Add all layers of a network with chunks, (T', B, ·) to (T', B, 2H); with states, those of its first chunk alone.

    Windows stand side by side as a batch, chunk by chunk: those of all utterances' first chunks come first.
    """
    chunk, span = window[0], sum(window)
    size = weights["forward_layers.0.weight_hh_l0"].shape[1]
    x = _slice(graph, hidden, graph.integers(0), graph.integers(chunk)) if states else hidden
    shape = graph.add("Shape", x)
    steps, batch = (_slice(graph, shape, graph.integers(i), graph.integers(i + 1)) for i in range(2))
    count = graph.add("Div", graph.add("Add", steps, graph.integers(chunk - 1)), graph.integers(chunk))
    numbers = graph.add("Range", graph.scalar(0), graph.add("Squeeze", count), graph.scalar(1))
    first = graph.add("Mul", numbers, graph.integers(chunk))  # (windows of an utterance,)
    places = np.arange(span)[:, None]
    direct = graph.add("Add", graph.constant("places", places), first)  # (S, windows of an utterance)
    held = graph.add("Add", graph.constant("held_places", np.minimum(places, chunk - 1)), first)
    left = graph.add(
        "Sub", graph.add("Cast", lengths, to=messages.INT64), graph.add("Unsqueeze", first, graph.integers(1))
    )
    spans = graph.add("Clip", left, graph.scalar(1), graph.scalar(span))
    spans = graph.add("Cast", graph.add("Reshape", spans, graph.integers(-1)), to=messages.INT32)

    def cut(values: str, index: str, width: int) -> str:
        padded = graph.add("Pad", values, graph.integers(0, 0, 0, span, 0, 0))
        return graph.add("Reshape", graph.add("Gather", padded, index), graph.integers(span, -1, width))

    seen = cut(hidden, direct, weights["backward_layers.0.weight_ih_l0"].shape[1])
    apart = graph.add("Concat", graph.integers(chunk), count, graph.integers(-1, size), axis=0)
    together = graph.add("Concat", graph.integers(-1), batch, graph.integers(size), axis=0)
    for i in range(num_layers):
        ahead = _lstm(graph, weights, i, WAYS[:1], x, "" if states else lengths, states[2 * i : 2 * i + 2])
        behind = _lstm(graph, weights, i, WAYS[1:], seen, spans)
        own = _slice(graph, behind, graph.integers(0), graph.integers(chunk))
        own = graph.add("Transpose", graph.add("Reshape", own, apart), perm=[1, 0, 2, 3])
        own = _slice(graph, graph.add("Reshape", own, together), graph.integers(0), steps)
        x = graph.add("Concat", ahead, own, axis=2)
        seen = graph.add("Concat", cut(ahead, held, size), behind, axis=2)
    return x


def _slice(graph: Operators, values: str, start: str, stop: str) -> str:
    """Return values[start:stop] along the first axis; both are (1,)."""
    return graph.add("Slice", values, start, stop, graph.integers(0))


def _lstm(
    graph: Operators,
    weights: Mapping[str, np.ndarray],
    layer: int,
    ways: Sequence[str],
    hidden: str,
    lengths: str,
    states: Sequence[str] = (),
) -> str:
    """Add one direction of a layer or both, (T', B, ·) to (T', B, H or 2H)."""

    def of(kind: str) -> np.ndarray:
        both = [weights[f"{way}_layers.{layer}.{kind}_l0"] for way in ways]
        return np.stack([np.concatenate([np.split(each, 4)[gate] for gate in GATES]) for each in both])

    recurrent, name = of("weight_hh"), f"{'_'.join(ways)}_{layer}"
    inputs = [
        graph.weight(f"{name}_input", of("weight_ih")),
        graph.weight(f"{name}_recurrent", recurrent),
        graph.weight(f"{name}_bias", np.concatenate([of("bias_ih"), of("bias_hh")], axis=1)),
    ]
    outputs = graph.add(  # (T', 1 or 2, B, H)
        "LSTM",
        hidden,
        *inputs,
        lengths,
        *states,
        more=[f"{state}_after" for state in states],
        direction={WAYS: "bidirectional", WAYS[:1]: "forward", WAYS[1:]: "reverse"}[tuple(ways)],
        hidden_size=recurrent.shape[2],
    )
    return graph.add("Reshape", graph.add("Transpose", outputs, perm=[0, 2, 1, 3]), graph.integers(0, 0, -1))
