"""Training of language models: `asr lm train`. N-grams are counted here, and without torch.

runs/<recipe>/lm/<name>/
    config.yaml  train.log  history.json                 what was run, and how it went
    checkpoints/last.pt                                  of a recurrent model, to go on from
    model/                                               the model folder (asr/lm/folder.py)
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from asr.core import files
from asr.core.errors import ConfigError
from asr.core.terminal import track
from asr.lm import config as configuration
from asr.lm import folder as folders
from asr.lm import text
from asr.lm.config import LmConfig, NGramConfig
from asr.lm.estimation import estimate_from
from asr.lm.language_model import UNKNOWN, LanguageModel, perplexity
from asr.lm.text import Text
from asr.models import run_folder
from asr.speech import phones

log = logging.getLogger(__name__)

Sentences = list[list[str]]
BATCH = 10_000  # sentences that are scored at once
SCORED = 4000  # sentences that a recurrent model's perplexities are of, at most: a large vocabulary makes it a slow sum
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
        No text, or the run folder holds another model or is in use.
    """
    with run_folder.held(run):
        _check_that_it_is_the_same(config, run)
        return _train(config, run)


def _train(config: LmConfig, run: Path) -> Path:
    lm: LanguageModel
    history: list[dict[str, Any]] = []
    with run_folder.written_at_the_end(run) as texts:
        texts["config.yaml"] = OmegaConf.to_yaml(OmegaConf.create(configuration.to_dict(config)))
        given, dev = read(config)
        started = time.monotonic()
        tokens = _vocabulary(config, given)
        given, dev = given.over(tokens), _known(dev, tokens)
        num_tokens = given.num_tokens
        if isinstance(config.model, NGramConfig):
            model = config.model
            lm, train_perplexity = estimate_from(given, model.order, model.smoothing, model.min_counts)
        else:
            from asr.training import recurrent_lm

            trained, dev = given.at_most(SCORED), dev.at_most(SCORED)
            training = recurrent_lm.Training(config, given, trained, dev, run)

    def keep(lm: LanguageModel, values: dict[str, Any], has_ended: bool) -> None:
        with files.replacing_folder(run / "model") as folder:
            folders.save(folder, lm, _card(config, lm, values, num_tokens, has_ended))

    if not isinstance(config.model, NGramConfig):
        lm, history = training.run(partial(keep, has_ended=False))
        train_perplexity = _perplexity(lm, trained)
    seconds = history[-1]["seconds"] if history else time.monotonic() - started
    values = {"seconds": round(seconds, 2), "train_perplexity": round(train_perplexity, 3)}
    if dev.num_sentences:
        values["dev_perplexity"] = round(_perplexity(lm, dev), 3)
    log.info(
        "%s tokens in %s sentences; %s parameters; perplexity %s in training, %s held out; %.1f s",
        f"{num_tokens:,}",
        f"{given.num_sentences:,}",
        f"{lm.num_parameters:,}",
        values["train_perplexity"],
        values.get("dev_perplexity", "unknown"),
        seconds,
    )
    files.write_json(run / "history.json", values | {"num_tokens": num_tokens, "epochs": history})
    keep(lm, values, has_ended=True)
    return run / "model"


def read(config: LmConfig) -> tuple[Text, Text]:
    """Return the training text and what is held out.

    Raises
    ------
    AsrError
        A corpus or a file is missing, or there is no text.
    """
    given, numbering = config.text, text.Numbering(config.text.unit)
    trained, held_out = ([numbering.number(transcripts(given, split))] for split in ("train", "dev"))
    if given.text is not None:
        lines = numbering.text(numbering.read(given.text, given.lowercase))
        if given.dev_text is None and len(held_out[0]) == 0 and lines.num_sentences > HELD_OUT:
            is_held_out = np.arange(1, lines.num_sentences + 1) % HELD_OUT == 0
            held_out = [lines.select(is_held_out).stream[1:]]
            lines = lines.select(~is_held_out)
        trained.append(lines.stream[1:])
    if given.dev_text is not None:
        held_out = list(numbering.read(given.dev_text, given.lowercase))
    if not any(map(len, trained)):
        raise ConfigError(f"the transcripts of {', '.join(given.corpora)} have no {given.unit}: give a text")
    return numbering.text(trained), numbering.text(held_out)


def transcripts(given: configuration.TextConfig, split: str) -> Sentences:
    """Return the transcripts of a split of the corpora, a list of tokens for each utterance.

    Raises
    ------
    AsrError
        A corpus cannot be prepared.
    """
    if not given.corpora:
        return []
    from asr.data import splits

    splits.prepare(given.corpora, given.manifests)
    cuts = splits.load_split(given.manifests, list(given.corpora), split)
    if given.unit == "phones":
        return [splits.reference(cut, given.labels) for cut in cuts]
    said = [splits.words(cut) for cut in cuts]
    return [words if given.unit == "words" else list(" ".join(words)) for words in said if words]


def _check_that_it_is_the_same(config: LmConfig, run: Path) -> None:
    """Raise ConfigError if a run folder holds another model; more epochs make no other one."""
    path = run / "config.yaml"
    if path.is_file() and (run / "checkpoints").is_dir():
        before = configuration.load(path)
        run_folder.check_settings(run, _learnt_by(before), _learnt_by(config))
        run_folder.check_epochs(run, before.train.max_epochs, config.train.max_epochs)


def _learnt_by(config: LmConfig) -> dict[str, Any]:
    """Return the settings that a model depends on: not the corpora's folders, and not the number of epochs."""
    text = replace(config.text, corpora=dict.fromkeys(config.text.corpora))
    return configuration.to_dict(replace(config, text=text, train=replace(config.train, max_epochs=1)))


def _known(dev: Text, tokens: list[str]) -> Text:
    """Return what a model of these tokens can score of the text held out."""
    if UNKNOWN in tokens:
        return dev.over(tokens)
    fits = dev.fits(tokens)
    if not fits.all():
        left, total = np.count_nonzero(~fits), len(fits)
        log.warning("left out %d of %d sentences held out: tokens not seen (text.open_vocabulary)", left, total)
    return dev.select(fits).over(tokens)


def _vocabulary(config: LmConfig, read: Text) -> list[str]:
    """Return the tokens of a model, with UNKNOWN first if its vocabulary is open."""
    given = config.text
    if given.unit == "phones":
        known = list(phones.PhoneSet.load(given.labels).labels)
    elif given.vocabulary is not None:
        listed = chain.from_iterable(chain.from_iterable(text.read(given.vocabulary, given.unit)))
        known = sorted({*listed} - {UNKNOWN})
    else:
        known = text.vocabulary(read, given.min_count, given.max_words)
    return [*([UNKNOWN] if given.open_vocabulary else []), *known]


def _perplexity(lm: LanguageModel, dev: Text) -> float:
    """Return the perplexity of a text that is scored some thousands of sentences at a time."""
    sentences = dev.sentences()
    batches: Iterable[list[list[str]]] = (list(islice(sentences, BATCH)) for _ in range(0, dev.num_sentences, BATCH))
    if dev.num_sentences > BATCH:
        batches = track(batches, "scoring the text held out", -(-dev.num_sentences // BATCH))
    return perplexity(chain.from_iterable(map(lm.score, batches)))


def _card(config: LmConfig, lm: LanguageModel, values: dict[str, Any], num_tokens: int, has_ended: bool) -> str:
    """Return the README.md of a model folder."""
    where = [*config.text.corpora, *([config.text.text] if config.text.text else [])]
    model = configuration.to_dict(config)["model"]
    so_far = "" if has_ended else "- the best model so far: training has not ended\n"
    held_out = f", {values['dev_perplexity']} on text held out" if "dev_perplexity" in values else ""
    most = "" if isinstance(config.model, NGramConfig) else f" (of {SCORED:,} sentences at most)"
    return f"""# {model.pop("name")} over {lm.unit}

Language model trained by `asr lm train`: {", ".join(f"{key} {value}" for key, value in model.items())}.

- text: {", ".join(where)}; {num_tokens:,} tokens; seed {config.seed}
- {lm.num_parameters:,} parameters; {values["seconds"]:.1f} seconds
- perplexity {values["train_perplexity"]} on the training text{held_out}{most}
{so_far}"""
