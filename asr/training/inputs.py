"""What trainings of acoustic models learn from: prepared corpora, and models whose alignments or weights are used."""

import hashlib
from functools import partial
from pathlib import Path

from asr.core.config import Config, DataConfig
from asr.data import pronunciations, splits
from asr.lm import search
from asr.lm.folder import weights_of
from asr.models import model_folder


def prepare(config: Config) -> dict[str, str]:
    """Prepare the corpora, and return hashes of them and of the models that are used.

    Raises
    ------
    AsrError
        A corpus cannot be prepared, or the model is missing.
    """
    data = config.data
    prepare_corpora(data)
    found = {name: splits.contents(data.manifests, name, ("train", "dev")) for name in data.corpora}
    for key, name in (("labels", data.labels), ("exclude", data.exclude)):
        if name is not None and Path(name).is_file():
            found[f"data.{key}"] = _hash(Path(name))
    train = config.train
    systems = {"alignments": train.alignments, "init": train.init, "criterion.frames": train.criterion.frames}
    for key, name in systems.items():
        if name is not None:
            found[f"train.{key}"] = _hash(model_folder.find(name) / "model.safetensors")
    for key, name in (("lm", config.train.criterion.lm), ("words", config.train.criterion.words)):
        if name is not None:
            found[f"train.criterion.{key}"] = _hash(weights_of(search.find(name)))
    return found


def prepare_corpora(data: DataConfig) -> None:
    """Prepare the corpora with the labels that are trained on.

    Raises
    ------
    AsrError
        A corpus cannot be prepared.
    """
    splits.prepare(data.corpora, data.manifests, said=partial(pronunciations.of_corpus, data))


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
