"""What trainings of acoustic models learn from: prepared corpora, and a model whose alignments are used."""

import hashlib

from asr.core.config import Config
from asr.data import splits
from asr.models import model_folder


def prepare(config: Config) -> dict[str, str]:
    """Prepare the corpora, and return hashes of them and of the model whose alignments are used.

    Raises
    ------
    AsrError
        A corpus cannot be prepared, or the model is missing.
    """
    data = config.data
    splits.prepare(data.corpora, data.manifests)
    found = {name: splits.contents(data.manifests, name, ("train", "dev")) for name in data.corpora}
    if config.train.alignments is not None:
        weights = model_folder.find(config.train.alignments) / "model.safetensors"
        found["train.alignments"] = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    return found
