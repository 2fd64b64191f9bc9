"""Initial weights, by the name of the method.

============== ==========================================================================================
``zeros``       all equal, to show that it fails: units that start equal stay equal (docs/theory/recurrent.md)
``normal``      N(0, std²), recurrent weights included
``xavier``      uniform of variance 2 / (fan in + fan out): X. Glorot and Y. Bengio (2010), eq. 16
``he``          normal of variance 2 / fan in, for rectified linear units: K. He et al. (2015), eq. 10
``orthogonal``  orthonormal rows or columns: A. Saxe, J. McClelland and S. Ganguli (2014)
============== ==========================================================================================

The method applies to input and feed-forward weights. Xavier's and He's rules are derived for a sequence of different
layers, not for one matrix that is applied at every frame; with them recurrent weights are orthogonal, which preserves
the length of a state. The matrices of a cell's gates are drawn separately, although they are stored as one matrix.
Biases and peepholes start at 0, gains at 1, and the bias of a forget gate at 1, so that a cell remembers from the start
(F. Gers, J. Schmidhuber and F. Cummins 2000; R. Jozefowicz et al. 2015).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from asr.core.settings import one_of
from asr.encoders.cells import PeepholeLSTM

STD = 0.1
NAMES = ("zeros", "normal", "xavier", "he", "orthogonal")

_LSTMS = (PeepholeLSTM, nn.LSTM, nn.LSTMCell)
_GATES = ((_LSTMS, 4), ((nn.GRU, nn.GRUCell), 3))
FORGET = 1  # index of the forget gate among an LSTM's gates

Draw = Callable[[Tensor], object]


def initialise(encoder: nn.Module, name: str, generator: torch.Generator | None = None, std: float = STD) -> None:
    """Initialise all weights of a network; buffers, such as a reservoir, stay as they are.

    Parameters
    ----------
    encoder
        Any network; it is changed in place.
    name
        One of NAMES.
    generator
        Source of randomness, by default torch's.
    std
        Standard deviation of ``normal``.

    Raises
    ------
    ConfigError
        There is no initialiser of that name.

    Examples
    --------
    >>> layer = nn.RNN(2, 3)
    >>> initialise(layer, "orthogonal", torch.Generator().manual_seed(1))
    >>> weights = layer.weight_hh_l0.detach()
    >>> bool(torch.allclose(weights @ weights.T, torch.eye(3), atol=1e-6))
    True
    """
    one_of("train.initialiser", name, NAMES)
    draw, draw_recurrent = _draws(name, generator, std)
    with torch.no_grad():
        for module in encoder.modules():
            for key, values in module.named_parameters(recurse=False):
                if values.ndim < 2 or key == "peepholes":
                    _fill(module, key, values)
                    continue
                for block in gates(module, values):
                    (draw_recurrent if is_recurrent(key) else draw)(block)


def _draws(name: str, generator: torch.Generator | None, std: float) -> tuple[Draw, Draw]:
    """Return the functions that draw a matrix of feed-forward weights and one of recurrent weights."""
    init = nn.init
    draws: dict[str, Draw] = {
        "zeros": init.zeros_,
        "normal": lambda block: init.normal_(block, std=std, generator=generator),
        "xavier": lambda block: init.xavier_uniform_(block, generator=generator),
        "he": lambda block: init.kaiming_normal_(block, nonlinearity="relu", generator=generator),
        "orthogonal": lambda block: init.orthogonal_(block, generator=generator),
    }
    return draws[name], draws[name if name in ("zeros", "normal") else "orthogonal"]


def is_recurrent(key: str) -> bool:
    """Tell from a parameter's name whether its weights feed a layer's state or output back into the layer.

    >>> [is_recurrent(key) for key in ("recurrent_weights", "weight_hh_l0", "weight_ih_l0", "weight")]
    [True, True, False, False]
    """
    return key.startswith(("recurrent_weights", "weight_hh"))


def gates(module: nn.Module, weights: Tensor) -> tuple[Tensor, ...]:
    """Return the views of a stored matrix (g · H, ·) for its g gates; one view if there are no gates.

    >>> [tuple(block.shape) for block in gates(nn.LSTM(5, 2), torch.zeros(8, 5))]
    [(2, 5), (2, 5), (2, 5), (2, 5)]
    """
    count = next((count for kinds, count in _GATES if isinstance(module, kinds)), 1)
    return weights.chunk(count) if len(weights) % count == 0 else (weights,)


def _fill(module: nn.Module, key: str, values: Tensor) -> None:
    """Initialise a vector: gains and the forget gate's bias to 1, other biases and peepholes to 0."""
    is_gain = key == "weight"
    values.fill_(1.0 if is_gain else 0.0)
    if isinstance(module, _LSTMS) and key.startswith("bias") and "hh" not in key:  # torch has two biases, which it adds
        gates(module, values)[FORGET].fill_(1.0)
