"""The sizes of a BLSTM: the keys of its recipe, and the shapes of its weights. Torch is not needed for them.

`asr.encoders.blstm` builds the network from them, and `asr.models.onnx` its graph.
"""

from dataclasses import dataclass

from asr.core.settings import check


@dataclass(frozen=True)
class BLSTMSizes:
    """The `model` section of a BLSTM recipe; the defaults are the 3 × 250 network of Graves (2013).

    Attributes
    ----------
    num_layers : int
        LSTM layers.
    hidden_size : int
        LSTM cells in each direction.
    dropout : float
        Probability of dropping a unit after each layer. All frames of an utterance share one mask (Gal and Ghahramani
        2016).
    stack : int
        Feature frames that are joined into one, 1 to 8. With 3, a step is 30 ms long and the work is a third.
    channels : int
        Channels of two convolutions over time and frequency that join the frames. With 0 there are no convolutions, and
        the frames are concatenated.
    bidirectional : bool
        With false, the network uses no future frames, so it can follow speech as it comes.
    chunk : int
        Steps for which the backward layers begin anew (`asr.encoders.chunks`), so that the network can follow speech,
        too. With 0 they see the whole utterance.
    lookahead : int
        Steps after a chunk that they see, too: no output needs more than chunk + lookahead − 1 steps of the future.
    """

    num_layers: int = 3
    hidden_size: int = 250
    dropout: float = 0.0
    stack: int = 1
    channels: int = 0
    bidirectional: bool = True
    chunk: int = 0
    lookahead: int = 0

    def __post_init__(self) -> None:
        check(self.num_layers >= 1, "model.num_layers", "be 1 or more", self.num_layers)
        check(self.hidden_size >= 1, "model.hidden_size", "be 1 or more", self.hidden_size)
        check(0 <= self.dropout < 1, "model.dropout", "lie in 0..1", self.dropout)
        check(1 <= self.stack <= 8, "model.stack", "lie in 1..8", self.stack)
        check(self.channels >= 0, "model.channels", "be 0 or more", self.channels)
        check(self.chunk >= 0, "model.chunk", "be 0 or more", self.chunk)
        check(self.chunk == 0 or self.bidirectional, "model.chunk", "be 0 in a network of one direction", self.chunk)
        check(self.lookahead >= 0, "model.lookahead", "be 0 or more", self.lookahead)
        check(self.chunk > 0 or self.lookahead == 0, "model.lookahead", "be 0 without model.chunk", self.lookahead)

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions that the layers run in."""
        return ("forward", "backward") if self.bidirectional else ("forward",)

    @property
    def output_size(self) -> int:
        """Values that a layer gives for each step: H, or 2 H in two directions."""
        return len(self.directions) * self.hidden_size

    def input_sizes(self, num_features: int) -> list[int]:
        """Return the values that each layer takes for each step, from F values in a feature frame.

        >>> BLSTMSizes(num_layers=3, hidden_size=4, stack=2).input_sizes(num_features=5)
        [10, 8, 8]
        >>> BLSTMSizes(num_layers=1, stack=3, channels=16).input_sizes(num_features=80)  # 2 K ⌈F / 4⌉
        [640]
        """
        first = 2 * self.channels * -(-num_features // 4) if self.channels else num_features * self.stack
        return [first] + [self.output_size] * (self.num_layers - 1)

    def shapes(self, num_features: int, num_classes: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the weights by name, for F values in a feature frame and C classes."""
        gates, channels = 4 * self.hidden_size, self.channels
        found: dict[str, tuple[int, ...]] = {}
        if channels:
            found |= {"front.first.weight": (channels, 1, 3, 3), "front.first.bias": (channels,)}
            found["front.second.weight"] = (2 * channels, channels, self.stack, 3)
            found["front.second.bias"] = (2 * channels,)
        for layer, width in enumerate(self.input_sizes(num_features)):
            for prefix in (f"{direction}_layers.{layer}." for direction in self.directions):
                found |= {f"{prefix}weight_ih_l0": (gates, width), f"{prefix}weight_hh_l0": (gates, self.hidden_size)}
                found |= {f"{prefix}bias_ih_l0": (gates,), f"{prefix}bias_hh_l0": (gates,)}
        return found | {"output.weight": (num_classes, self.output_size), "output.bias": (num_classes,)}
