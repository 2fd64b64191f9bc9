"""Trainings: what makes run folders and the model folders in them."""

from pathlib import Path

from asr.core.config import Config
from asr.models.kinds import Kind, kind_of


def check(config: Config) -> None:
    """Raise ConfigError if the `model` section of a configuration is wrong: before the stages before it are trained."""
    if kind_of(config) is Kind.GMM_HMM:
        from asr.training import gmm

        gmm.options_of(config)
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
        A corpus cannot be prepared, the run folder holds another configuration, or nothing is left to train on.
    """
    from asr.training.memory import tune_malloc  # here, and not above: to name the package imports no torch

    tune_malloc()
    if kind_of(config) is Kind.GMM_HMM:
        from asr.training import gmm

        return gmm.train(config, run)
    from asr.training import network

    return network.train(config, run)
