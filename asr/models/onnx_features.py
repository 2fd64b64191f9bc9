"""The features of a recording as an ONNX graph, so that one file turns a waveform into log posteriors.

    waveform (N,) ─ frames (T, 400) ─ spectrum (T, 514) ─ log mel (T, M) [─ cepstra] ─ Δ, ΔΔ ─ normalised (1, T, F)

It computes what `asr.speech.features` and `asr.speech.normaliser` do, in float64 up to the logarithms as they do. The
mean's removal, pre-emphasis, window and Fourier transform are one matrix (400, 514), since all of them are linear.

Letters: N samples, T frames, M mel bins, F features, C classes.
"""

from dataclasses import replace

import numpy as np

from asr.core.config import FeatureConfig
from asr.core.errors import ConfigError
from asr.models import onnx_messages as messages
from asr.models.onnx_graph import Graph, Operators
from asr.speech import features
from asr.speech.normaliser import Normaliser

PREFIX = "front_"
"""Of the names of the nodes before the network."""


def with_features(graph: Graph, normaliser: Normaliser) -> Graph:
    """Put the features and their normalisation before a network.

    Parameters
    ----------
    graph
        Of `asr.models.onnx_graph.build`: features (B, T, F) and lengths (B,) to log posteriors (T', B, C).
    normaliser
        Of the same model; an unknown speaker's features are normalised as it does.

    Returns
    -------
    Graph
        ``waveform`` (N,) float32, 16 kHz, in [-1, 1], at least 400 samples, to ``log_probs`` (T', 1, C) and
        ``output_lengths`` (1,).

    Raises
    ------
    ConfigError
        The features are normalised by a running mean, which is for streams.
    """
    if normaliser.config.cmvn == "running":
        raise ConfigError("features.cmvn: running has no graph from the waveform: export a model of whole recordings")
    front = Operators(PREFIX)
    values = _deltas(front, _statics(front, normaliser.config), normaliser.config.delta_order)
    normalised = _normalise(front, values, normaliser)
    front.add("Unsqueeze", normalised, front.integers(0), output="features")
    front.add("Slice", front.add("Shape", values), front.integers(0), front.integers(1), output="lengths")
    return replace(
        graph,
        nodes=front.nodes + graph.nodes,
        inputs=[messages.value_info("waveform", messages.FLOAT, ["samples"])],
        constants=front.constants | graph.constants,
    )


def _statics(graph: Operators, config: FeatureConfig) -> str:
    """Add the features (T, ·) float32 without deltas."""
    frames = _frames(graph)
    spectrum = graph.add("MatMul", frames, graph.constant("spectrum", _spectrum_matrix()))
    triangles = graph.constant("triangles", np.repeat(_triangles(config.num_mel_bins), 2, axis=0))
    statics = _log(graph, graph.add("MatMul", graph.add("Mul", spectrum, spectrum), triangles), features.MEL_FLOOR)
    if config.kind == "mfcc":
        cosines = graph.constant("cosines", features.cosines(config.num_mel_bins, config.num_ceps))
        lifter = graph.constant("lifter", features.lifter(config.num_ceps))
        statics = graph.add("Mul", graph.add("MatMul", statics, cosines), lifter)
    if not config.use_energy:
        return statics
    centred = graph.add("Sub", frames, graph.add("ReduceMean", frames, axes=[1]))
    squares = graph.add("ReduceSum", graph.add("Mul", centred, centred), graph.integers(1))
    energy = _log(graph, graph.add("Mul", squares, _double(graph, features.KALDI_SCALE**2)), features.ENERGY_FLOOR)
    if config.kind == "mfcc":  # in the place of C0
        statics = graph.add("Slice", statics, graph.integers(1), graph.integers(config.num_ceps), graph.integers(1))
    return graph.add("Concat", energy, statics, axis=1)


def _frames(graph: Operators) -> str:
    """Add the frames (T, 400) float64 of the waveform."""
    beyond = graph.add("Sub", graph.add("Shape", "waveform"), graph.integers(features.WINDOW_LENGTH - 1))
    starts = graph.add("Range", graph.scalar(0), graph.add("Squeeze", beyond), graph.scalar(features.HOP_LENGTH))
    offsets = graph.constant("offsets", np.arange(features.WINDOW_LENGTH))
    places = graph.add("Add", graph.add("Unsqueeze", starts, graph.integers(1)), offsets)
    return graph.add("Cast", graph.add("Gather", "waveform", places), to=messages.DOUBLE)


def _spectrum_matrix() -> np.ndarray:
    """Return the matrix (400, 514) from a frame to its spectrum: real and imaginary part of each bin in turn."""
    centred = np.eye(features.WINDOW_LENGTH) - 1 / features.WINDOW_LENGTH
    emphasised = centred - features.PREEMPHASIS * centred[:, np.maximum(np.arange(features.WINDOW_LENGTH) - 1, 0)]
    return np.fft.rfft(emphasised * features.scaled_window(), features.FFT_LENGTH).view(np.float64)


def _triangles(num_mel_bins: int) -> np.ndarray:
    """Return the weight (257, M) of each bin's power in each mel bin."""
    starts, rising = features.mel_segments(num_mel_bins)
    weights = np.zeros((len(rising), num_mel_bins + 2))
    for j in range(1, len(starts)):  # between the edges j - 1 and j one triangle falls, and the next one rises
        segment = slice(starts[j - 1], starts[j])
        weights[segment, j - 1], weights[segment, j] = 1 - rising[segment], rising[segment]
    return weights[:, 1:-1]


def _log(graph: Operators, energies: str, floor: float) -> str:
    """Add the natural logarithms, float32, of floored energies; float64 where they are counted in."""
    single = graph.add("Cast", graph.add("Max", energies, _double(graph, floor)), to=messages.FLOAT)
    return graph.add("Log", single)


def _deltas(graph: Operators, statics: str, order: int) -> str:
    """Append Δ and ΔΔ (`asr.speech.features.add_deltas`)."""
    parts = [statics]
    for _ in range(order):
        series = graph.add("Unsqueeze", graph.add("Transpose", parts[-1], perm=[1, 0]), graph.integers(1))  # (F, 1, T)
        padded = graph.add("Pad", series, graph.integers(0, 0, 2, 0, 0, 2), mode="edge")
        slopes = graph.constant("slopes", np.arange(-2, 3, dtype=np.float32).reshape(1, 1, 5) / 10)
        delta = graph.add("Squeeze", graph.add("Conv", padded, slopes), graph.integers(1))
        parts.append(graph.add("Transpose", delta, perm=[1, 0]))
    return graph.add("Concat", *parts, axis=1) if order else statics


def _normalise(graph: Operators, values: str, normaliser: Normaliser) -> str:
    """Add the normalisation of features (T, F) float32."""
    mode = normaliser.config.cmvn
    if mode == "none":
        return values
    if mode == "global":
        mean, std = (graph.constant(name, getattr(normaliser, name)) for name in ("mean", "std"))
    else:  # of the utterance, since no speaker is known here
        heard = values
        if mode == "speech":
            is_speech = _speech_frames(graph, values, normaliser.config)
            values = graph.add("Max", values, graph.constant("quietest", features.quietest(normaliser.config)))
            heard = graph.add("Compress", values, is_speech, axis=0)
        heard = graph.add("Cast", heard, to=messages.DOUBLE)
        average = graph.add("ReduceMean", heard, axes=[0])
        spread = graph.add("Sub", heard, average)
        variance = graph.add("ReduceMean", graph.add("Mul", spread, spread), axes=[0])
        deviation = graph.add("Max", graph.add("Sqrt", variance), _double(graph, features.STD_FLOOR))
        mean, std = (graph.add("Cast", each, to=messages.FLOAT) for each in (average, deviation))
    return graph.add("Div", graph.add("Sub", values, mean), std)


def _speech_frames(graph: Operators, values: str, config: FeatureConfig) -> str:
    """Add which frames are speech (T,), as `asr.speech.features.speech_frames` tells."""
    # The level is linear in the features: its weights are the levels of unit features.
    units = np.eye(features.FeatureExtractor(config).num_features, dtype=np.float32)
    weights, silence = features.frame_levels(units, config)
    levels = graph.add("MatMul", values, graph.constant("level_weights", weights.astype(np.float32)))  # (T,)
    heard = graph.add("Greater", levels, graph.scalar(silence + features.ALIVE))
    most = graph.add("ReduceMax", graph.add("Cast", heard, to=messages.INT32))
    is_silent = graph.add("Not", graph.add("Cast", most, to=messages.BOOL))
    alive = graph.add("Or", heard, is_silent)  # of silence alone, every frame counts
    series = graph.add("Unsqueeze", graph.add("Cast", levels, to=messages.FLOAT), graph.integers(0, 1))
    around = features.SMOOTHING // 2
    padded = graph.add("Pad", series, graph.integers(0, 0, around, 0, 0, around), mode="edge")
    window = np.full((1, 1, features.SMOOTHING), 1 / features.SMOOTHING, np.float32)
    smooth = graph.add("Squeeze", graph.add("Conv", padded, graph.constant("smoothing", window)), graph.integers(0, 1))
    loudness = graph.add("Compress", smooth, alive, axis=0)
    count = graph.add("Shape", loudness)
    falling = graph.add("TopK", loudness, count, more=[f"{PREFIX}order"])
    last = graph.add("Min", graph.integers(features.TOP_FRAMES), count)
    top = graph.add("Gather", falling, graph.add("Sub", last, graph.integers(1)))
    share = graph.add("Mul", graph.add("Cast", count, to=messages.DOUBLE), _double(graph, features.BACKGROUND))
    lowest = graph.add("Sub", count, graph.integers(1))
    quantile = graph.add("Sub", lowest, graph.add("Cast", share, to=messages.INT64))
    least = graph.add("Sub", top, graph.scalar(features.LEVEL_RANGE))
    bottom = graph.add("Max", graph.add("Gather", falling, quantile), least)
    part = graph.add("Mul", graph.add("Sub", top, bottom), graph.scalar(features.QUIET_SHARE))
    is_loud = graph.add("GreaterOrEqual", smooth, graph.add("Add", bottom, part))
    return graph.add("Or", is_silent, graph.add("And", alive, is_loud))


def _double(graph: Operators, value: float) -> str:
    return graph.scalar(value, np.float64)
