"""Echo-state network: a fixed random recurrent network, and a linear readout, which alone is trained.

    drive_t = W_in u_t + b
    x_t = (1 − a) x_{t−1} + a tanh(drive_t + W x_{t−1})
    logits_t = W_out [x_t; u_t]

W is sparse. It is scaled so that its largest eigenvalue has a given modulus below 1: then the states forget the initial
state, and each is an echo of the recent input.

Sources: H. Jaeger, "The 'echo state' approach to analysing and training recurrent neural networks", GMD report 148,
2001; with the leak a: M. Lukoševičius and H. Jaeger, "Reservoir computing approaches to recurrent neural network
training", Computer Science Review 3(3), 2009, section 5; in phone recognition: F. Triefenbach, A. Jalalvand,
B. Schrauwen and J.-P. Martens, "Phoneme recognition with large hierarchical reservoirs", NIPS 2010.

Letters: B utterances, T feature frames, F values a frame, n stacked frames, T' = ⌈T / n⌉, N units, C classes.
"""

import contextlib
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import ArpackNoConvergence, eigs
from torch import Tensor, nn

from asr.core import workers
from asr.core.jit import njit
from asr.core.settings import check
from asr.encoders.blstm import _Reverse, output_lengths, stack_frames

SMALL = 200  # number of units up to which all eigenvalues are computed


@dataclass(frozen=True)
class EncoderConfig:
    """The `model` section of an echo-state network's recipe.

    Attributes
    ----------
    reservoir_size
        Units of each reservoir, at most 10,000.
    spectral_radius
        Modulus of the largest eigenvalue of W, above 0 and below 2.
    leak
        a, above 0 and at most 1. With 1, a unit keeps its previous state only through W.
    input_scale
        Standard deviation of W_in u_t for uncorrelated features of variance 1.
    density
        Share of the units that each unit is connected to, above 0 and at most 1.
    bidirectional
        Whether a second reservoir runs over reversed time.
    reservoir_seed
        Seed of the reservoirs. The seed of the run draws the readout only.
    stack
        Feature frames that are joined into one, 1 to 8.
    """

    reservoir_size: int = 1000
    spectral_radius: float = 0.9
    leak: float = 0.4
    input_scale: float = 0.5
    density: float = 0.01
    bidirectional: bool = True
    reservoir_seed: int = 1
    stack: int = 1

    def __post_init__(self) -> None:
        check(1 <= self.reservoir_size <= 10_000, "model.reservoir_size", "lie in 1..10000", self.reservoir_size)
        check(0 < self.spectral_radius < 2, "model.spectral_radius", "lie between 0 and 2", self.spectral_radius)
        check(0 < self.leak <= 1, "model.leak", "lie above 0, and be 1 at most", self.leak)
        check(self.input_scale > 0, "model.input_scale", "be positive", self.input_scale)
        check(0 < self.density <= 1, "model.density", "lie above 0, and be 1 at most", self.density)
        check(self.reservoir_seed >= 0, "model.reservoir_seed", "be 0 or more", self.reservoir_seed)
        check(1 <= self.stack <= 8, "model.stack", "lie in 1..8", self.stack)

    def build(self, num_features: int, num_classes: int) -> "EchoState":
        """Make the network for F features and C classes."""
        return EchoState(self, num_features, num_classes)


class Reservoir(nn.Module):
    """Fixed recurrent units, whose weights are buffers: saved with the model but never trained.

    Parameters
    ----------
    config
        Size, spectral radius, scales and leak.
    num_inputs
        Values of an input frame, I.
    rng
        Source of the random weights.
    """

    weights: Tensor
    input_weights: Tensor
    bias: Tensor

    def __init__(self, config: EncoderConfig, num_inputs: int, rng: np.random.Generator):
        super().__init__()
        self.leak = config.leak
        size = config.reservoir_size
        weights = draw_weights(size, config.density, config.spectral_radius, rng)
        input_weights = rng.standard_normal((num_inputs, size)) * config.input_scale / np.sqrt(num_inputs)
        bias = rng.standard_normal(size) * 0.2 * config.input_scale  # without it, x(−u) = −x(u)
        for name, values in (("weights", weights), ("input_weights", input_weights), ("bias", bias)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))

    @torch.no_grad()
    def forward(self, inputs: Tensor, lengths: Tensor, state: Tensor | None = None) -> Tensor:
        """Return the states (T', B, N) for inputs (T', B, I) from a state (B, N), zeros by default; padding gives 0.

        Raises
        ------
        ValueError
            Lengths (B,) or a state that do not fit the inputs.
        """
        num_frames, batch, _ = inputs.shape
        start = torch.zeros(batch, self.weights.shape[0]) if state is None else state.float()
        inside = lengths.shape == (batch,) and bool(((lengths >= 0) & (lengths <= num_frames)).all())
        if not inside or start.shape != (batch, self.weights.shape[0]):
            raise ValueError(
                f"lengths {lengths.tolist()} or a state {tuple(start.shape)} do not fit inputs of {num_frames} frames, "
                f"{batch} utterances and {self.weights.shape[0]} units"
            )
        with torch.autocast(inputs.device.type, enabled=False):
            drive = torch.addmm(self.bias, inputs.float().flatten(0, 1), self.input_weights)  # (T'B, N)
        states = drive.unflatten(0, inputs.shape[:2]).transpose(0, 1).contiguous().cpu().numpy()  # (B, T', N)
        graph = csr_matrix(self.weights.cpu().numpy())
        args = states, lengths.cpu().numpy(), start.cpu().numpy(), (graph.indptr, graph.indices, graph.data), self.leak
        workers.side_by_side([partial(run_reservoirs, share, *args) for share in workers.shares(len(states))])
        return torch.from_numpy(states).to(inputs.device).transpose(0, 1)


class EchoState(nn.Module):
    """One reservoir, or two in opposite directions of time, and a linear layer that also sees the input.

    Examples
    --------
    >>> network = EncoderConfig(reservoir_size=20, density=0.2, stack=3).build(num_features=5, num_classes=4)
    >>> logits, lengths = network(torch.zeros(2, 10, 5), torch.tensor([10, 7]))
    >>> tuple(logits.shape), lengths.tolist(), [name for name, _ in network.named_parameters()]
    ((4, 2, 4), [4, 3], ['output.weight', 'output.bias'])
    """

    def __init__(self, config: EncoderConfig, num_features: int, num_classes: int):
        super().__init__()
        self.subsampling = config.stack
        rng = np.random.default_rng(config.reservoir_seed)
        inputs, directions = num_features * config.stack, 1 + config.bidirectional
        self.reservoirs = nn.ModuleList(Reservoir(config, inputs, rng) for _ in range(directions))
        self.output = nn.Linear(directions * config.reservoir_size + inputs, num_classes)

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (B, T, F) and their lengths (B,) to logits (T', B, C) and their lengths (B,)."""
        inputs = stack_frames(features, feature_lengths, self.subsampling).transpose(0, 1).contiguous()  # (T', B, nF)
        lengths = output_lengths(feature_lengths, self.subsampling)
        seen = [self.reservoirs[0](inputs, lengths), inputs]
        if len(self.reservoirs) == 2:
            reversed_inputs = _Reverse.apply(inputs, lengths)
            seen.append(_Reverse.apply(self.reservoirs[1](reversed_inputs, lengths), lengths))
        with torch.autocast(inputs.device.type, enabled=False):
            return self.output(torch.cat(seen, dim=2)), lengths


def draw_weights(size: int, density: float, spectral_radius: float, rng: np.random.Generator) -> np.ndarray:
    """Draw recurrent weights (N, N), with the same number of inputs for each unit, scaled to a spectral radius.

    Parameters
    ----------
    size
        N.
    density
        Share of the weights that are not 0; each row has at least one.
    spectral_radius
        Modulus of the largest eigenvalue.
    rng
        Source of the positions and of the normal weights.

    Examples
    --------
    >>> weights = draw_weights(50, 0.1, 0.8, np.random.default_rng(1))
    >>> np.unique((weights != 0).sum(axis=1)).tolist(), round(float(np.abs(np.linalg.eigvals(weights)).max()), 6)
    ([5], 0.8)
    """
    heard = max(1, round(density * size))
    radius = 0.0
    while radius < 1e-3:  # the graph of a few units may have no cycle, and then the radius is 0
        weights = np.zeros((size, size))
        for row in weights:
            row[rng.choice(size, heard, replace=False)] = rng.standard_normal(heard)
        radius = _radius(weights, rng.standard_normal(size))
    return weights * (spectral_radius / radius)


def _radius(weights: np.ndarray, start: np.ndarray) -> float:
    """Return the largest modulus of the eigenvalues; for many units by Arnoldi's iteration, 100 times as fast."""
    size = len(weights)
    if size > SMALL:
        with contextlib.suppress(ArpackNoConvergence):
            options = {"k": 6, "ncv": 120, "v0": start, "return_eigenvectors": False}
            return float(np.abs(eigs(csr_matrix(weights), **options)).max())
    return float(np.abs(np.linalg.eigvals(weights)).max())


@njit(cache=True, nogil=True)
def run_reservoirs(utterances, states, lengths, start, graph, leak):
    """Replace the drives of some utterances, states (B, T', N), by the states that they lead to; padding becomes 0.

    `start` (B, N) are the states before the first frame, `graph` is W in compressed rows: offsets, columns, weights.
    """
    offsets, columns, weights = graph
    for b in utterances:
        before = start[b].copy()
        for t in range(lengths[b]):
            now = states[b, t]
            for i in range(len(now)):
                total = np.float64(now[i])
                for k in range(offsets[i], offsets[i + 1]):
                    total += weights[k] * before[columns[k]]
                now[i] = (1 - leak) * before[i] + leak * np.tanh(total)
            for i in range(len(now)):
                before[i] = now[i]
        states[b, lengths[b] :] = 0
