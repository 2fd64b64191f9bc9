"""The recurrent language model: a network that predicts the next token from all previous ones.

T. Mikolov, M. Karafiát, L. Burget, J. Černocký and S. Khudanpur, "Recurrent neural network based language model",
Interspeech 2010. Tied embeddings: O. Press and L. Wolf, "Using the output embedding to improve language models", EACL
2017. It is trained in torch (asr/training/recurrent_lm.py), and runs in NumPy.

Letters: V tokens, K contexts, L tokens of a sentence, E values of an embedding, H units, N layers, G gates, M contexts
of a text.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from asr.lm.config import RecurrentConfig
from asr.lm.language_model import LanguageModel

MOST_TOKENS = 50_000  # of sentences that are scored together
MOST_LOGITS = 20_000_000  # in a batch of contexts whose next tokens are scored together
NUM_GATES = {"elman": 1, "gru": 3, "lstm": 4}
LEAST_SCALE = np.float32(1e-12)  # of a row of zeros
SCALE = ".scale"  # of a matrix of 8 bits: what each row is multiplied by
Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class RecurrentState:
    """The network's state after K contexts.

    Attributes
    ----------
    hidden
        Arrays (N, K, H): one, or two for an LSTM.
    contexts : (K, E or H)
        What the output layer sees.
    """

    hidden: tuple[np.ndarray, ...]
    contexts: np.ndarray


@dataclass(frozen=True, eq=False)
class RecurrentLM(LanguageModel[RecurrentState]):
    """A trained network.

    Attributes
    ----------
    config
        Its kind and size.
    weights
        float32, by torch's names: ``embedding.weight`` (V, E); for each layer ``rnn.weight_ih_l0`` (G·H, E or H),
        ``rnn.weight_hh_l0`` (G·H, H) and their biases; ``projection`` where the output layer sees E and not H values;
        ``output.weight`` (V, E or H), which is left out where it is the embedding, and ``output.bias`` (V,).
    bits
        Of a weight in a file: 32, or 8, as whose multiples in each row they are then written.
    """

    unit: str
    tokens: tuple[str, ...]
    config: RecurrentConfig
    weights: Weights = field(repr=False)
    bits: int = 32

    @property
    def num_parameters(self) -> int:
        """Number of weights; tied ones count once."""
        return sum(weights.size for weights in self.weights.values())

    @cached_property
    def output(self) -> np.ndarray:
        """The weights of the output layer (V, E or H)."""
        return self.weights["embedding.weight" if self.config.tied else "output.weight"]

    def start(self, count: int = 1) -> RecurrentState:
        """Return the state after the edge, `count` times."""
        shape = self.config.num_layers, count, self.config.hidden_size
        hidden = tuple(np.zeros(shape, np.float32) for _ in range(1 + (self.config.cell == "lstm")))
        return self.advance(RecurrentState(hidden, np.empty((count, 0))), np.zeros(count, np.int64))

    def advance(self, states: RecurrentState, tokens: np.ndarray) -> RecurrentState:
        """Return the states after one more token for each, tokens (K,)."""
        values, after = self.weights["embedding.weight"][tokens], [np.empty_like(each) for each in states.hidden]
        for n in range(self.config.num_layers):
            found = self._cell(n, values, [each[n] for each in states.hidden])
            for each, new in zip(after, found, strict=True):
                each[n] = new
            values = found[0]
        if "projection.weight" in self.weights:
            values = values @ self.weights["projection.weight"].T + self.weights["projection.bias"]
        return RecurrentState(tuple(after), values)

    def _cell(self, n: int, values: np.ndarray, before: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Return a layer's state (K, H), one or two arrays, after values (K, E or H); see torch's RNN, GRU and LSTM."""
        of_input, of_state = (
            each @ self.weights[f"rnn.weight_{kind}_l{n}"].T + self.weights[f"rnn.bias_{kind}_l{n}"]
            for kind, each in (("ih", values), ("hh", before[0]))
        )
        if self.config.cell == "elman":
            return (np.tanh(of_input + of_state),)
        if self.config.cell == "gru":
            inputs, states = (np.split(each, 3, axis=1) for each in (of_input, of_state))
            reset, update = (_sigmoid(inputs[i] + states[i]) for i in range(2))
            return ((1 - update) * np.tanh(inputs[2] + reset * states[2]) + update * before[0],)
        enter, keep, new, leave = np.split(of_input + of_state, 4, axis=1)
        cells = _sigmoid(keep) * before[1] + _sigmoid(enter) * np.tanh(new)
        return _sigmoid(leave) * np.tanh(cells), cells

    def select(self, states: RecurrentState, indices: np.ndarray) -> RecurrentState:
        """Return some of the states."""
        return RecurrentState(tuple(each[:, indices] for each in states.hidden), states.contexts[indices])

    def concat(self, states: Sequence[RecurrentState]) -> RecurrentState:
        """Concatenate batches of states."""
        hidden = tuple(np.concatenate(parts, axis=1) for parts in zip(*(each.hidden for each in states), strict=True))
        return RecurrentState(hidden, np.concatenate([each.contexts for each in states]))

    def log_probs(self, states: RecurrentState) -> np.ndarray:
        """Return natural log probabilities of the next token (K, V)."""
        logits = (states.contexts @ self.output.T + self.weights["output.bias"]).astype(np.float64)
        return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)

    def score(self, sentences: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """Return the natural log probability of each token, and of the end, of each sentence (L + 1,).

        What sentences have in common at their beginning is computed once.
        """
        rows, found = [self.indices(sentence) for sentence in sentences], list[np.ndarray]()
        lengths = np.cumsum([len(row) + 1 for row in rows])
        groups = itertools.groupby(zip(lengths // MOST_TOKENS, rows, strict=True), key=lambda each: each[0])
        for _, group in groups:
            found += self._score([row for _, row in group])
        return found

    def _score(self, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return what `score` does of some sentences as indices."""
        contexts, places = self._contexts(rows)
        targets = [np.append(row, 0) for row in rows]
        flat, after = np.concatenate(places), np.concatenate(targets)
        logits = np.einsum("ke,ke->k", contexts[flat], self.output[after]) + self.weights["output.bias"][after]
        found = logits.astype(np.float64) - self._log_sums(contexts)[flat]
        return np.split(found, np.cumsum([len(row) + 1 for row in rows])[:-1])

    def _contexts(self, rows: Sequence[np.ndarray]) -> tuple[np.ndarray, list[list[int]]]:
        """Return what the output layer sees in each different context (M, E or H), and those of each sentence."""
        known: dict[tuple[int, int], int] = {}
        places: list[list[int]] = [[0] for _ in rows]
        states, first = self.start(), 0
        found = [states.contexts]
        for i in range(max(map(len, rows))):
            new: list[tuple[int, int]] = []
            for row, place in zip(rows, places, strict=True):
                if i < len(row):
                    step = place[-1], int(row[i])
                    if step not in known:
                        known[step] = first + len(states.contexts) + len(new)
                        new.append(step)
                    place.append(known[step])
            before, tokens = np.array(new).T
            states, first = self.advance(self.select(states, before - first), tokens), first + len(states.contexts)
            found.append(states.contexts)
        return np.concatenate(found), places

    def _log_sums(self, contexts: np.ndarray) -> np.ndarray:
        """Return the log of the sum of each context's exponentials of logits (M,), of contexts (M, E or H)."""
        size = min(len(contexts), max(1, MOST_LOGITS // len(self.tokens)))
        room, found = np.empty((size, len(self.tokens)), np.float32), np.empty(len(contexts))
        for first in range(0, len(contexts), size):
            some = contexts[first : first + size]
            logits = np.matmul(some, self.output.T, out=room[: len(some)])
            logits += self.weights["output.bias"]
            highest = logits.max(axis=1)
            logits -= highest[:, None]
            found[first : first + size] = highest + np.log(np.exp(logits, out=logits).sum(axis=1))
        return found

    def options(self) -> dict[str, Any]:
        """Return the network's configuration."""
        return asdict(self.config)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the network's weights; those of 8 bits with a scale for each row."""
        if self.bits == 32:
            return dict(self.weights)
        found = {}
        for name, value in self.weights.items():
            if value.ndim == 1:
                found[name] = value
            else:
                found[name + SCALE] = np.maximum(np.abs(value).max(axis=1, keepdims=True) / 127, LEAST_SCALE)
                found[name] = np.rint(value / found[name + SCALE]).astype(np.int8)
        return found

    def rounded(self) -> "RecurrentLM":
        """Return the model with weights of 8 bits: in each row of a matrix multiples of one number."""
        return self.restore(self.unit, self.tokens, self.options(), replace(self, bits=8).arrays())

    @classmethod
    def restore(
        cls, unit: str, tokens: tuple[str, ...], options: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> "RecurrentLM":
        """Check the weights' shapes, and multiply those of 8 bits by their scales."""
        config, bits = RecurrentConfig(**options), 8 if any(name.endswith(SCALE) for name in arrays) else 32
        weights = {
            name: value * arrays[name + SCALE] if name + SCALE in arrays else value
            for name, value in arrays.items()
            if not name.endswith(SCALE)
        }
        expected = shapes(config, len(tokens))
        if {name: value.shape for name, value in weights.items()} != expected:
            raise ValueError("the weights are not of the network that its options describe")
        return cls(unit, tokens, config, weights, bits)


def shapes(config: RecurrentConfig, num_tokens: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each of a network's weights."""
    gates, hidden, size = NUM_GATES[config.cell] * config.hidden_size, config.hidden_size, config.embedding_size
    found: dict[str, tuple[int, ...]] = {"embedding.weight": (num_tokens, size), "output.bias": (num_tokens,)}
    for n in range(config.num_layers):
        found |= {f"rnn.weight_ih_l{n}": (gates, hidden if n else size), f"rnn.weight_hh_l{n}": (gates, hidden)}
        found |= {f"rnn.bias_{kind}_l{n}": (gates,) for kind in ("ih", "hh")}
    if not config.tied:
        return found | {"output.weight": (num_tokens, hidden)}
    if size == hidden:
        return found
    return found | {"projection.weight": (size, hidden), "projection.bias": (size,)}


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * values)
