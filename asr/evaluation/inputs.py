"""The inputs of an evaluation: a model as the command line configures it, and utterances of a corpus with features."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from asr.core import config as configuration
from asr.core.config import Config
from asr.core.errors import ConfigError, CorpusError
from asr.data import pronunciations, splits
from asr.data.feature_store import Features, cache_features
from asr.data.utterances import Utterances
from asr.models import model_folder
from asr.models.base import AcousticModel

log = logging.getLogger(__name__)


def load_configured(
    name: str, overrides: Sequence[str] = (), corpora: Path | None = None
) -> tuple[Path, AcousticModel]:
    """Load a model with the settings of the command line in its configuration.

    Parameters
    ----------
    name
        A run or model folder, or a shipped model.
    overrides
        Dotted settings that replace those of the model's own configuration.
    corpora
        The folder that holds the corpora of which the settings name no folder.

    Returns
    -------
    folder : Path
        The model folder.
    model : AcousticModel

    Raises
    ------
    AsrError
        The model is missing or damaged, or an override would need another model.
    """
    folder = model_folder.find(name)
    config = model_folder.read_config(folder, overrides)
    if corpora is not None:
        config = configuration.with_corpora_in(config, corpora)
    model = model_folder.load(folder)
    asked, own = _trained_with(config), _trained_with(model.config)
    changed = next((key for key in {**asked, **own} if asked.get(key) != own.get(key)), None)
    if changed is not None:
        fault = f"{changed} belongs to the trained model, as all of features, model and data.labels do"
        raise ConfigError(f"{fault}: leave it out, or train another model")
    return folder, replace(model, config=config).with_decoding(config.decode)


def results_folder(folder: Path) -> Path:
    """Return where results of a model go by default: its run folder, and ``runs/NAME`` for a shipped model."""
    return Path("runs") / folder.name if model_folder.is_shipped(folder) else folder.parent


def _trained_with(config: Config) -> dict[str, Any]:
    """Return the settings that a trained model cannot change, by their dotted names."""
    features = {f"features.{key}": value for key, value in asdict(config.features).items()}
    model = {f"model.{key}": value for key, value in config.model.items()}
    return {**features, **model, "data.labels": config.data.labels}


def prepare_corpora(config: Config, split: str) -> list[str]:
    """Prepare those corpora of a configuration that can be found, and return the names of those that have a split.

    Nothing is downloaded or synthesised. A corpus that cannot be found is named in a warning: few users have every
    corpus that a shipped model was trained on.

    Raises
    ------
    CorpusError
        No corpus was found, or none of those found has the split.
    """
    found, faults = [], []
    for corpus, place in config.data.corpora.items():
        try:
            said = partial(pronunciations.of_corpus, config.data)
            splits.prepare({corpus: place}, config.data.manifests, may_obtain=False, said=said)
        except CorpusError as error:
            faults.append(f"{corpus}: {error}")
            continue
        if splits.has_split(config.data.manifests, corpus, split):
            found.append(corpus)
    if not found and faults:
        raise CorpusError("; ".join(faults))
    if not found:
        raise CorpusError(f"{', '.join(config.data.corpora)}: no {split} utterances: name a corpus that has some")
    for fault in faults:
        log.warning("left out: %s", fault)
    return found


def cuts_with_features(model: AcousticModel, corpora: Sequence[str], split: str) -> tuple[Utterances, Features]:
    """Return the utterances of a split whose audio can be read, and their features.

    The model's normaliser learns the statistics of their speakers, where it normalises by speaker.

    Parameters
    ----------
    model
        Its configuration names the manifests and the kind of features.
    corpora
        Names of prepared corpora.
    split
        A split of theirs.

    Raises
    ------
    AsrError
        The manifests of the split are missing, or no recording can be read.
    """
    manifests = model.config.data.manifests
    cuts = splits.load_split(manifests, corpora, split)
    store = cache_features(cuts, model.config.features, Path(manifests) / "features", f"{'+'.join(corpora)}-{split}")
    cuts = cuts.filter(lambda cut: cut.id in store)
    model.normaliser.add_speakers(cuts, store)
    return cuts, store
