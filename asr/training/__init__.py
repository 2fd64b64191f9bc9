"""Trainings: what makes run folders and the model folders in them."""

from contextlib import ExitStack
from pathlib import Path

from asr.core.config import Config
from asr.core.errors import ConfigError
from asr.models import run_folder
from asr.models.kinds import Kind, kind_of


def check(config: Config) -> None:
    """Raise ConfigError if a configuration's model cannot be trained: before the stages before it are."""
    if kind_of(config) is Kind.GMM_HMM:
        from asr.training import gmm

        gmm.options_of(config)
        if config.train.init is not None:
            raise ConfigError("train.init is for networks: leave it out", "train.init")
        return
    from asr import encoders

    encoders.config_of(config.model)


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
    from asr.training import processes  # here, and not above: it imports torch
    from asr.training.memory import tune_malloc

    tune_malloc()
    with ExitStack() as held:
        processes.by_first(lambda: held.enter_context(run_folder.held(run)))
        if kind_of(config) is Kind.GMM_HMM:
            from asr.training import gmm

            return processes.by_first(lambda: gmm.train(config, run))
        from asr.training import network

        return network.train(config, run)
