"""Restricted Boltzmann machines, and networks initialised with their weights (deep belief networks).

Sources: G. Hinton, S. Osindero and Y.-W. Teh (2006) for greedy training layer by layer; A. Mohamed, G. Dahl and
G. Hinton (2012) for speech, with real-valued features below and contrastive divergence of one step. With hidden units h
in {0, 1}:

    E(v, h) = −Σ b_j h_j − Σ v_i W_ij h_j − Σ a_i v_i            visible units in {0, 1}
    E(v, h) = −Σ b_j h_j − Σ v_i W_ij h_j + Σ (v_i − a_i)² / 2    real visible units, of variance 1 (Gaussian)

and p(v, h) ∝ exp(−E). The free energy is F(v) = −ln Σ_h exp(−E).

Letters: N examples, V visible units, H hidden units.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asr.encoders.cells import Jordan
from asr.encoders.initialisers import is_recurrent


@dataclass(frozen=True)
class Options:
    """Training of a machine; the defaults are those of Mohamed et al. (2012), but with few epochs."""

    epochs: int = 5
    batch_size: int = 128
    learning_rate: float = 0.02  # visible units in {0, 1}
    gaussian_learning_rate: float = 0.002  # real visible units, whose reconstruction is unbounded
    momentum: float = 0.9
    weight_decay: float = 2e-4
    num_examples: int = 20_000  # at most; a random choice of all


@dataclass(frozen=True)
class RBM:
    """A restricted Boltzmann machine.

    Attributes
    ----------
    weights : (V, H)
    visible_bias : (V,)
    hidden_bias : (H,)
    gaussian
        Whether visible units are real, of variance 1, instead of binary.

    Examples
    --------
    >>> machine = RBM(torch.zeros(2, 3), torch.zeros(2), torch.zeros(3))
    >>> machine.free_energy(torch.zeros(1, 2)).exp().item()  # 2³ states of the hidden units, each of energy 0
    0.125
    """

    weights: Tensor
    visible_bias: Tensor
    hidden_bias: Tensor
    gaussian: bool = False

    @classmethod
    def small(cls, num_visible: int, num_hidden: int, gaussian: bool, generator: torch.Generator | None) -> "RBM":
        """Return a machine of weights from N(0, 0.01²)."""
        weights = 0.01 * torch.randn(num_visible, num_hidden, generator=generator)
        return cls(weights, torch.zeros(num_visible), torch.zeros(num_hidden), gaussian)

    def hidden(self, visible: Tensor) -> Tensor:
        """Return p(h = 1 | v) (N, H) of visible units (N, V)."""
        return torch.sigmoid(visible @ self.weights + self.hidden_bias)

    def visible(self, hidden: Tensor) -> Tensor:
        """Return the mean of p(v | h) (N, V) of hidden units (N, H)."""
        mean = hidden @ self.weights.T + self.visible_bias
        return mean if self.gaussian else torch.sigmoid(mean)

    def free_energy(self, visible: Tensor) -> Tensor:
        """Return F(v) (N,) in nats; −F(v) is ln p(v) up to a constant."""
        squares = 0.5 * ((visible - self.visible_bias) ** 2).sum(dim=1)
        own = squares if self.gaussian else -(visible @ self.visible_bias)
        return own - nn.functional.softplus(visible @ self.weights + self.hidden_bias).sum(dim=1)

    def reconstruction_error(self, visible: Tensor) -> float:
        """Return the mean squared difference between examples (N, V) and their reconstructions."""
        return float(((self.visible(self.hidden(visible)) - visible) ** 2).mean())


def contrastive_divergence(
    machine: RBM, visible: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return CD-1's estimate of the mean gradient of ln p(v) at the weights (V, H), visible and hidden biases.

    The hidden units are sampled once, and the reconstruction is a mean instead of a sample, as G. Hinton's practical
    guide (2010) advises for the last step.

    Parameters
    ----------
    machine
        The machine.
    visible : (N, V)
        Examples.
    generator
        Source of randomness; by default torch's.

    Examples
    --------
    >>> machine = RBM(torch.zeros(1, 1), torch.zeros(1), torch.zeros(1))
    >>> [float(part) for part in contrastive_divergence(machine, torch.ones(4, 1))]  # seen: 1, reconstructed: 1/2
    [0.25, 0.5, 0.0]
    """
    hidden = machine.hidden(visible)
    sample = torch.bernoulli(hidden, generator=generator)
    again = machine.visible(sample)
    hidden_again = machine.hidden(again)
    of_weights = (visible.T @ hidden - again.T @ hidden_again) / len(visible)
    return of_weights, (visible - again).mean(dim=0), (hidden - hidden_again).mean(dim=0)


def train_rbm(
    examples: Tensor,
    num_hidden: int,
    gaussian: bool,
    options: Options | None = None,
    generator: torch.Generator | None = None,
) -> RBM:
    """Train a machine by contrastive divergence.

    Parameters
    ----------
    examples : (N, V)
        Each value of mean 0 and variance 1 if `gaussian`; otherwise probabilities in 0..1.
    num_hidden
        H.
    gaussian
        Whether visible units are real.
    options
        By default Options().
    generator
        Source of randomness, by default torch's.
    """
    options = options or Options()
    rate = options.gaussian_learning_rate if gaussian else options.learning_rate
    machine = RBM.small(examples.shape[1], num_hidden, gaussian, generator)
    parts = machine.weights, machine.visible_bias, machine.hidden_bias
    speeds = [torch.zeros_like(part) for part in parts]
    for _ in range(options.epochs):
        for batch in examples[torch.randperm(len(examples), generator=generator)].split(options.batch_size):
            gradients = contrastive_divergence(machine, batch, generator)
            for part, speed, gradient in zip(parts, speeds, gradients, strict=True):
                decay = options.weight_decay if part is machine.weights else 0.0
                speed.mul_(options.momentum).add_(gradient - decay * part, alpha=rate)
                part.add_(speed)
    return machine


def pretrain(
    encoder: nn.Module,
    utterances: Sequence[Tensor],
    options: Options | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, RBM]:
    """Initialise a network's feed-forward and input weights with machines trained on the inputs of each layer.

    Layers are initialised from the lowest up, in the order in which the network calls them: fully connected layers,
    convolutions over time (on windows of their width) and the input weights of recurrent layers, whose gates count as
    hidden units. A fully connected layer that is called last is the classifier and stays as it is, and so do recurrent
    weights, for which there is no such machine. A layer with inputs in −1..1, as above tanh and sigmoid units, gets a
    machine with binary visible units, any other a Gaussian one.

    A tanh layer takes half the weights, since tanh(a / 2) = 2 σ(a) − 1: its output is then the machine's hidden
    probability, scaled to −1..1. Other layers take the weights as they are.

    Parameters
    ----------
    encoder
        Network that takes features (1, T, F) and lengths (1,). It is changed in place and keeps its mode.
    utterances
        Normalised features (T, F).
    options, generator
        As for `train_rbm`.

    Returns
    -------
    dict
        The machine of each layer, by the layer's name in the encoder.

    Examples
    --------
    >>> from asr import encoders
    >>> network = encoders.build({"name": "blstm", "num_layers": 1, "hidden_size": 4}, num_features=5, num_classes=3)
    >>> sorted(pretrain(network, [torch.randn(20, 5)], Options(epochs=1)))
    ['backward_layers.0', 'forward_layers.0']
    """
    options = options or Options()
    was_training = encoder.training
    encoder.eval()
    machines = {}
    names = _layers(encoder, utterances[0])
    has_classifier = isinstance(encoder.get_submodule(names[-1]), nn.Linear)
    for name in names[:-1] if has_classifier else names:
        layer = encoder.get_submodule(name)
        share = -(-options.num_examples // len(utterances))
        seen = torch.cat([_some(rows, share, generator) for rows in _seen(encoder, layer, utterances)])
        machines[name] = _start(layer, seen.float(), options, generator)
    encoder.train(was_training)
    return machines


def _weights(layer: nn.Module) -> tuple[Tensor, Tensor | None] | None:
    """Return the input weights of a layer (H, …) and their bias, or None for a layer of another kind."""
    if isinstance(layer, nn.Linear | nn.Conv1d):
        return layer.weight, layer.bias
    own = dict(layer.named_parameters(recurse=False))
    if not any(is_recurrent(key) for key in own):
        return None
    weights = next((value for key, value in own.items() if key.startswith(("input_weights", "weight_ih"))), None)
    bias = next((value for key, value in own.items() if key.startswith("bias") and "hh" not in key), None)
    return None if weights is None else (weights, bias)


def _layers(encoder: nn.Module, utterance: Tensor) -> list[str]:
    """Return the names of the layers that have input weights, in the order in which they are called."""
    called: list[str] = []
    hooks = []
    for name, layer in encoder.named_modules():
        if _weights(layer) is not None:
            hooks.append(layer.register_forward_pre_hook(lambda _, __, name=name: called.append(name)))
    _call(encoder, utterance)
    for hook in hooks:
        hook.remove()
    return list(dict.fromkeys(called))


def _seen(encoder: nn.Module, layer: nn.Module, utterances: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the inputs of a layer for each utterance, (N, V)."""
    caught: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: caught.append(_windows(layer, inputs[0].detach())))
    for utterance in utterances:
        caught.clear()
        _call(encoder, utterance)
        yield torch.cat(caught)  # with truncation a layer is called once for each chunk
    hook.remove()


def _some(rows: Tensor, number: int, generator: torch.Generator | None) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)[:number]]


def _call(encoder: nn.Module, utterance: Tensor) -> None:
    with torch.no_grad():
        encoder(utterance[None], torch.tensor([len(utterance)]))


def _windows(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Return rows (N, V) of one utterance's inputs; those of a convolution are (1, V', T)."""
    if not isinstance(layer, nn.Conv1d):
        return inputs.reshape(-1, inputs.shape[-1])
    (width,), (step,) = layer.kernel_size, layer.dilation
    windows = inputs[0].unfold(1, (width - 1) * step + 1, 1)[:, :, ::step]  # (V', T − …, width)
    return windows.permute(1, 0, 2).reshape(windows.shape[1], -1)


def _start(layer: nn.Module, seen: Tensor, options: Options, generator: torch.Generator | None) -> RBM:
    """Train a machine on normalised examples and give the layer its weights, adapted to the original examples."""
    found = _weights(layer)
    assert found is not None
    weights, bias = found
    gaussian = bool(seen.abs().max() > 1)
    if gaussian:
        shift, scale = seen.mean(dim=0), seen.std(dim=0, correction=0).clamp(min=1e-5)
    else:  # maps −1..1 to 0..1; values that are in 0..1 stay
        low = -1.0 if bool(seen.min() < 0) else 0.0
        shift, scale = torch.full_like(seen[0], low), torch.full_like(seen[0], 1.0 - low)
    machine = train_rbm((seen - shift) / scale, len(weights), gaussian, options, generator)
    is_tanh = isinstance(layer, Jordan) or getattr(layer, "nonlinearity", None) == "tanh"
    half = 0.5 if is_tanh else 1.0
    rows = machine.weights.T / scale  # (H, V)
    with torch.no_grad():
        weights.copy_(half * rows.reshape(weights.shape))
        if bias is not None:
            bias.copy_(half * (machine.hidden_bias - rows @ shift))
    return machine
