"""Training of language models: `asr lm train`. N-grams are counted here, and without torch.

runs/<recipe>/lm/<name>/
    config.yaml  train.log  history.json                 what was run, and how it went
    checkpoints/last.pt                                  of a recurrent model, to go on from
    model/                                               the model folder (asr/lm/folder.py)
"""

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from asr.core import files
from asr.core.errors import ConfigError
from asr.lm import config as configuration
from asr.lm import folder as folders
from asr.lm import text
from asr.lm.config import LmConfig, NGramConfig
from asr.lm.estimation import estimate
from asr.lm.language_model import UNKNOWN, LanguageModel, perplexity
from asr.models import run_folder
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
        No text, or the run folder holds another model or is in use.
    """
    with run_folder.held(run):
        _claim(config, run)
        return _train(config, run)


def _train(config: LmConfig, run: Path) -> Path:
    sentences, dev = read(config)
    started = time.monotonic()
    lm: LanguageModel
    tokens = _vocabulary(config, sentences)
    dev = _known(dev, tokens)
    if isinstance(config.model, NGramConfig):
        lm = estimate(sentences, config.text.unit, config.model.order, config.model.smoothing, tokens)
        history: list[dict[str, Any]] = []
    else:
        from asr.training import recurrent_lm

        lm, history = recurrent_lm.train(config, tokens, sentences, dev, run)
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
    from asr.data import splits

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
        theirs, ours = (configuration.to_dict(_placeless(each)) for each in (configuration.load(path), config))
        different = run_folder.differences(theirs, ours)
        if different:
            raise ConfigError(f"{run} holds a run with {', '.join(different)}: {run_folder.MEND}")
    files.write_text(path, OmegaConf.to_yaml(OmegaConf.create(configuration.to_dict(config))))
    run_folder.log_to(run / "train.log")


def _placeless(config: LmConfig) -> LmConfig:
    """Return a configuration without the folders of the corpora."""
    return replace(config, text=replace(config.text, corpora=dict.fromkeys(config.text.corpora)))


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
