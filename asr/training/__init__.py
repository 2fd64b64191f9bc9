"""Trainings: what makes run folders and the model folders in them."""

import hashlib
from contextlib import nullcontext
from pathlib import Path

from asr.core.config import Config
from asr.models import model_folder, run_folder
from asr.models.kinds import Kind, kind_of


def train(config: Config, run: Path) -> Path:
    """Train the system that a configuration describes, from its last checkpoint if there is one.

    Parameters
    ----------
    config
        The resolved configuration; corpora that are not prepared yet are prepared.
    run
        The run folder.

    Returns
    -------
    Path
        The model folder in it.

    Raises
    ------
    AsrError
        A corpus cannot be prepared, the run folder holds another run or is in use, or nothing is left to train on.
    """
    from pytorch_lightning.utilities.rank_zero import rank_zero_only  # here, and not above: it imports torch

    from asr.training.memory import tune_malloc

    tune_malloc()
    is_first = rank_zero_only.rank == 0  # type: ignore[attr-defined] # of the processes that train together
    with run_folder.held(run) if is_first else nullcontext():
        run_folder.claim(run, config)
        run_folder.claim_inputs(run, _prepare(config))
        if kind_of(config) is Kind.GMM_HMM:
            from asr.training import gmm

            return gmm.train(config, run)
        from asr.training import network

        return network.train(config, run)


def _prepare(config: Config) -> dict[str, str]:
    """Prepare the corpora, and return hashes of them and of the model whose alignments are used."""
    from asr.data import splits

    data = config.data
    splits.prepare(data.corpora, data.manifests)
    found = {name: splits.contents(data.manifests, name, ("train", "dev")) for name in data.corpora}
    if config.train.alignments is not None:
        weights = model_folder.find(config.train.alignments) / "model.safetensors"
        found["train.alignments"] = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    return found
