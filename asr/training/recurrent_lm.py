"""Training of recurrent language models, for `asr.training.lm`."""

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from asr.core import files
from asr.core.errors import AsrError, ConfigError
from asr.core.terminal import pace, track
from asr.lm.config import LmConfig, LmTrainConfig
from asr.lm.language_model import EDGE, perplexity
from asr.lm.recurrent_lm import Network, RecurrentLM, batch
from asr.models.run_folder import MEND

log = logging.getLogger(__name__)


class Training:
    """The training of a recurrent model with teacher forcing; goes on from the last checkpoint of a run folder.

    Parameters
    ----------
    config
        Of the model, and of its optimisation.
    tokens
        The vocabulary, without the edge of a sentence.
    sentences, dev
        To train on, and held out.
    run
        The run folder.

    Raises
    ------
    ConfigError
        The run folder holds a model of another text.
    """

    def __init__(
        self, config: LmConfig, tokens: list[str], sentences: list[list[str]], dev: list[list[str]], run: Path
    ):
        torch.manual_seed(config.seed)
        self.seed, self.config, self.held_out = config.seed, config.train, dev or sentences
        self.network = Network(config.model, 1 + len(tokens))  # type: ignore[arg-type]
        self.lm = RecurrentLM(config.text.unit, (EDGE, *tokens), self.network)
        self.rows = [self.lm.indices(sentence) for sentence in sentences]
        text = hashlib.sha256(json.dumps([self.lm.tokens, sentences, dev]).encode()).hexdigest()
        self.state = _State(self.network, config.train, run, text)

    def run(self, keep_best: Callable[[RecurrentLM, dict[str, Any]], None]) -> tuple[RecurrentLM, list[dict[str, Any]]]:
        """Train until the last epoch.

        Parameters
        ----------
        keep_best
            Is called with the model and the epoch's row when it is the best so far.

        Returns
        -------
        lm : RecurrentLM
            With the weights of the best epoch.
        history : list of dict
            A row for each epoch.

        Raises
        ------
        AsrError
            The loss is not finite.
        """
        network, state, config = self.network, self.state, self.config
        total = config.max_epochs * len(list(_batches(self.rows, config, self.seed)))
        state.note_schedule(total)
        while state.epoch < config.max_epochs:
            torch.manual_seed(self.seed * 1_000_003 + state.epoch)  # so that a resumed run repeats the dropout
            network.train()
            started, losses, count = time.monotonic(), 0.0, 0
            batches = list(_batches(self.rows, config, self.seed + state.epoch))
            for inputs, targets in track(batches, f"epoch {state.epoch + 1} of {config.max_epochs}"):
                logits, _ = network(inputs)
                loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)
                if not torch.isfinite(loss):
                    raise AsrError(f"the loss is {loss.item()} in epoch {state.epoch + 1}: lower train.learning_rate")
                state.step(loss, total)
                known = int((targets >= 0).sum())
                losses, count = losses + float(loss.detach()) * known, count + known
            network.eval()
            held_out = perplexity(self.lm.score(self.held_out))
            if not math.isfinite(held_out):
                raise AsrError(f"the perplexity is {held_out} after epoch {state.epoch + 1}: lower train.learning_rate")
            if state.end_epoch(math.exp(min(700.0, losses / count)), held_out, time.monotonic() - started):
                keep_best(self.lm, state.history[-1])
            state.save()
        network.load_state_dict(state.best)
        network.eval()
        return self.lm, state.history


def _batches(rows: list[np.ndarray], config: LmTrainConfig, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield inputs and targets (K, T) of sentences of similar length, or of windows of the text, in random order."""
    draws = np.random.default_rng(seed)
    if config.window:
        edge = np.zeros(1, np.int64)
        stream = np.concatenate([*(part for row in rows for part in (edge, row)), edge])
        offset = int(draws.integers(min(config.window, max(1, len(stream) - config.window))))
        starts = np.arange(offset, len(stream) - 1, config.window)
        pieces = [stream[start : start + config.window + 1] for start in starts]
        pieces = [piece for piece in pieces if len(piece) == config.window + 1] or [stream]
        size = max(1, config.batch_tokens // config.window)
        order = draws.permutation(len(pieces))
        for first in range(0, len(order), size):
            chosen = torch.from_numpy(np.stack([pieces[i] for i in order[first : first + size]]))
            yield chosen[:, :-1], chosen[:, 1:]
        return
    order = np.lexsort((draws.random(len(rows)), np.array(list(map(len, rows)))))
    groups: list[list[int]] = [[]]
    for i in order:
        if groups[-1] and (len(groups[-1]) + 1) * (len(rows[i]) + 1) > config.batch_tokens:
            groups.append([])
        groups[-1].append(int(i))
    for g in draws.permutation(len(groups)):
        yield batch([rows[i] for i in groups[g]])


class _State:
    """What a resumed run needs: network, optimiser, history and best weights."""

    def __init__(self, network: Network, config: LmTrainConfig, run: Path, text: str):
        self.network, self.config, self.path = network, config, run / "checkpoints" / "last.pt"
        self.text = text
        self.optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, torch.Tensor] = {}
        self.updates = 0
        if self.path.is_file():
            kept = torch.load(self.path, weights_only=True)
            if kept.get("text", text) != text:  # checkpoints of older versions do not tell
                raise ConfigError(f"{run} was trained on another text: {MEND}")
            network.load_state_dict(kept["network"])
            self.optimizer.load_state_dict(kept["optimizer"])
            self.history, self.best, self.updates = kept["history"], kept["best"], kept["updates"]

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return len(self.history)

    def note_schedule(self, total: int) -> None:
        """Log where the learning rate goes on if `train.max_epochs` has been raised."""
        before, now = self.optimizer.param_groups[0]["lr"], self._rate(self.updates, total)
        if self.updates and before != self._rate(self.updates - 1, total):
            epochs = (self.epoch + 1, self.config.max_epochs)
            log.info(
                "epochs %d to %d: the learning rate goes on at %.2g, where it was %.2g, and falls to 0",
                *(*epochs, now, before),
            )

    def _rate(self, updates: int, total: int) -> float:
        """Return the learning rate of the next of `total` updates: it falls along a cosine."""
        return self.config.learning_rate * (1 + math.cos(math.pi * min(1.0, updates / total))) / 2

    def step(self, loss: torch.Tensor, total: int) -> None:
        """Make an update."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(self.updates, total)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        self.updates += 1

    def end_epoch(self, trained: float, held_out: float, seconds: float) -> bool:
        """Log the epoch, keep its weights if they are the best so far, and tell if they are."""
        before = self.history[-1]["seconds"] if self.history else 0.0
        is_best = held_out < min((line["dev_perplexity"] for line in self.history), default=math.inf)
        if is_best:
            self.best = {key: value.clone() for key, value in self.network.state_dict().items()}
        line = {
            "epoch": self.epoch + 1,
            "train_perplexity": round(trained, 3),
            "dev_perplexity": round(held_out, 4),
            "seconds": round(before + seconds, 2),
        }
        self.history.append(line)
        times = pace(seconds, before + seconds, self.config.max_epochs - self.epoch)
        log.info("epoch %d  perplexity %.2f, held out %.2f  %s", line["epoch"], trained, held_out, times)
        return is_best

    def save(self) -> None:
        """Write a checkpoint."""
        kept = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "best": self.best,
            "updates": self.updates,
            "text": self.text,
        }
        with files.replacing(self.path) as temporary, files.as_os_error(RuntimeError):
            torch.save(kept, temporary)
