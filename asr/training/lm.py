"""Training of language models: `asr lm train`.

runs/<recipe>/lm/<name>/
    config.yaml  train.log  history.json                 what was run, and how it went
    checkpoints/last.pt                                  of a recurrent model, to go on from
    model/                                               the model folder (asr/lm/folder.py)
"""

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import nn

from asr.core import files
from asr.core.errors import AsrError, ConfigError
from asr.core.terminal import pace, track
from asr.data import splits
from asr.lm import config as configuration
from asr.lm import folder as folders
from asr.lm import text
from asr.lm.config import LmConfig, LmTrainConfig, NGramConfig
from asr.lm.estimation import estimate
from asr.lm.language_model import EDGE, UNKNOWN, LanguageModel, perplexity
from asr.lm.recurrent_lm import Network, RecurrentLM, batch
from asr.models.run_folder import log_to
from asr.speech import phones

log = logging.getLogger(__name__)

Sentences = list[list[str]]
HELD_OUT = 20  # every 20th line of a text file is held out where no other text is


def train(config: LmConfig, run: Path) -> Path:
    """Train a language model; a recurrent one goes on from its last checkpoint.

    Parameters
    ----------
    config
        Corpora that are not prepared yet are prepared.
    run
        The run folder.

    Returns
    -------
    Path
        The model folder in it.

    Raises
    ------
    AsrError
        No text, or the run folder holds another model.
    """
    _claim(config, run)
    sentences, dev = read(config)
    started = time.monotonic()
    lm: LanguageModel
    tokens = _vocabulary(config, sentences)
    dev = _known(dev, tokens)
    if isinstance(config.model, NGramConfig):
        lm = estimate(sentences, config.text.unit, config.model.order, config.model.smoothing, tokens)
        history: list[dict[str, Any]] = []
    else:
        lm, history = _train_network(config, tokens, sentences, dev, run)
    seconds = history[-1]["seconds"] if history else time.monotonic() - started
    values = {"seconds": round(seconds, 2), "train_perplexity": round(perplexity(lm.score(sentences)), 3)}
    if dev:
        values["dev_perplexity"] = round(perplexity(lm.score(dev)), 3)
    num_tokens = sum(map(len, sentences))
    log.info(
        "%s tokens in %s sentences; %s parameters; perplexity %s in training, %s held out; %.1f s",
        f"{num_tokens:,}",
        f"{len(sentences):,}",
        f"{lm.num_parameters:,}",
        values["train_perplexity"],
        values.get("dev_perplexity", "unknown"),
        seconds,
    )
    files.write_json(run / "history.json", values | {"num_tokens": num_tokens, "epochs": history})
    folders.save(run / "model", lm, _card(config, lm, values, num_tokens))
    return run / "model"


def read(config: LmConfig) -> tuple[Sentences, Sentences]:
    """Return the training sentences and those held out.

    Raises
    ------
    AsrError
        A corpus or a file is missing, or there is no text.
    """
    given = config.text
    sentences, dev = transcripts(given, "train"), transcripts(given, "dev")
    if given.text is not None:
        lines = _lines(given.text, given)
        if given.dev_text is None and not dev and len(lines) > HELD_OUT:
            dev = lines[HELD_OUT - 1 :: HELD_OUT]
            del lines[HELD_OUT - 1 :: HELD_OUT]
        sentences += lines
    if given.dev_text is not None:
        dev = _lines(given.dev_text, given)
    if not sentences:
        raise ConfigError(f"the transcripts of {', '.join(given.corpora)} have no {given.unit}: give a text")
    return sentences, dev


def transcripts(given: configuration.TextConfig, split: str) -> Sentences:
    """Return the transcripts of a split of the corpora, a list of tokens for each utterance.

    Raises
    ------
    AsrError
        A corpus cannot be prepared.
    """
    if not given.corpora:
        return []
    splits.prepare(given.corpora, given.manifests)
    cuts = splits.load_split(given.manifests, list(given.corpora), split)
    if given.unit == "phones":
        return [splits.reference(cut, given.labels) for cut in cuts]
    said = [splits.words(cut) for cut in cuts]
    return [words if given.unit == "words" else list(" ".join(words)) for words in said if words]


def _lines(path: str, given: configuration.TextConfig) -> Sentences:
    lines = text.read(path, given.unit)
    return [[token.lower() for token in line] for line in lines] if given.lowercase else lines


def _claim(config: LmConfig, run: Path) -> None:
    """Write the configuration into the run folder, or check that the folder has the same one."""
    run.mkdir(parents=True, exist_ok=True)
    path = run / "config.yaml"
    if path.is_file() and (run / "checkpoints").is_dir():
        theirs = configuration.load(path)
        if _placeless(theirs) != _placeless(config):
            raise ConfigError(f"{run} holds another language model: delete it, or name another with --run")
    files.write_text(path, OmegaConf.to_yaml(OmegaConf.create(configuration.to_dict(config))))
    log_to(run / "train.log")


def _placeless(config: LmConfig) -> LmConfig:
    """Return a configuration without the folders of the corpora."""
    return replace(config, text=replace(config.text, corpora=dict.fromkeys(config.text.corpora)))


def _train_network(
    config: LmConfig, tokens: list[str], sentences: Sentences, dev: Sentences, run: Path
) -> tuple[RecurrentLM, list[dict[str, Any]]]:
    """Train a recurrent model with teacher forcing; return it, with the weights of the best epoch, and its history."""
    torch.manual_seed(config.seed)
    network = Network(config.model, 1 + len(tokens))  # type: ignore[arg-type]
    lm = RecurrentLM(config.text.unit, (EDGE, *tokens), network)
    rows = [lm.indices(sentence) for sentence in sentences]
    state = _State(network, config.train, run, list(lm.tokens))
    total = config.train.max_epochs * len(list(_batches(rows, config.train, config.seed)))
    while state.epoch < config.train.max_epochs:
        torch.manual_seed(config.seed * 1_000_003 + state.epoch)  # so that a resumed run repeats the dropout
        network.train()
        started, losses, count = time.monotonic(), 0.0, 0
        batches = list(_batches(rows, config.train, config.seed + state.epoch))
        for inputs, targets in track(batches, f"epoch {state.epoch + 1} of {config.train.max_epochs}"):
            logits, _ = network(inputs)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)
            if not torch.isfinite(loss):
                raise AsrError(f"the loss is {loss.item()} in epoch {state.epoch + 1}: lower train.learning_rate")
            state.step(loss, total)
            known = int((targets >= 0).sum())
            losses, count = losses + float(loss.detach()) * known, count + known
        network.eval()
        held_out = perplexity(lm.score(dev or sentences))
        if not math.isfinite(held_out):
            raise AsrError(f"the perplexity is {held_out} after epoch {state.epoch + 1}: lower train.learning_rate")
        state.end_epoch(math.exp(min(700.0, losses / count)), held_out, time.monotonic() - started)
    network.load_state_dict(state.best)
    network.eval()
    return lm, state.history


def _known(dev: Sentences, tokens: list[str]) -> Sentences:
    """Return the held-out sentences that a model of these tokens can score."""
    known = set(tokens)
    kept = dev if UNKNOWN in known else [sentence for sentence in dev if known.issuperset(sentence)]
    if len(kept) < len(dev):
        left = len(dev) - len(kept)
        log.warning("left out %d of %d sentences held out: tokens not seen (text.open_vocabulary)", left, len(dev))
    return kept


def _vocabulary(config: LmConfig, sentences: Sentences) -> list[str]:
    """Return the tokens of a model, with UNKNOWN first if its vocabulary is open."""
    given = config.text
    of_phones = given.unit == "phones"
    known = phones.PhoneSet.load(given.labels).labels if of_phones else text.vocabulary(sentences, given.min_count)
    return [*([UNKNOWN] if given.open_vocabulary else []), *known]


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

    def __init__(self, network: Network, config: LmTrainConfig, run: Path, tokens: list[str]):
        self.network, self.config, self.path = network, config, run / "checkpoints" / "last.pt"
        self.tokens = tokens
        self.optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, torch.Tensor] = {}
        self.updates = 0
        if self.path.is_file():
            kept = torch.load(self.path, weights_only=True)
            if kept["tokens"] != tokens:
                raise ConfigError(f"{run} was trained on another text: delete it, or name another with --run")
            network.load_state_dict(kept["network"])
            self.optimizer.load_state_dict(kept["optimizer"])
            self.history, self.best, self.updates = kept["history"], kept["best"], kept["updates"]

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return len(self.history)

    def step(self, loss: torch.Tensor, total: int) -> None:
        """Make an update; the learning rate falls along a cosine."""
        rate = self.config.learning_rate * (1 + math.cos(math.pi * min(1.0, self.updates / total))) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        self.updates += 1

    def end_epoch(self, trained: float, held_out: float, seconds: float) -> None:
        """Log the epoch, keep its weights if they are the best so far, and write a checkpoint."""
        before = self.history[-1]["seconds"] if self.history else 0.0
        if held_out < min((line["dev_perplexity"] for line in self.history), default=math.inf):
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
        kept = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "best": self.best,
            "updates": self.updates,
            "tokens": self.tokens,
        }
        with files.replacing(self.path) as temporary, files.as_os_error(RuntimeError):
            torch.save(kept, temporary)


def _card(config: LmConfig, lm: LanguageModel, values: dict[str, Any], num_tokens: int) -> str:
    """Return the README.md of a model folder."""
    where = [*config.text.corpora, *([config.text.text] if config.text.text else [])]
    model = configuration.to_dict(config)["model"]
    held_out = f", {values['dev_perplexity']} on text held out" if "dev_perplexity" in values else ""
    return f"""# {model.pop("name")} over {lm.unit}

Language model trained by `asr lm train`: {", ".join(f"{key} {value}" for key, value in model.items())}.

- text: {", ".join(where)}; {num_tokens:,} tokens; seed {config.seed}
- {lm.num_parameters:,} parameters; {values["seconds"]:.1f} seconds
- perplexity {values["train_perplexity"]} on the training text{held_out}
"""
