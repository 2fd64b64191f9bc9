"""Trainings: what makes run folders and the model folders in them."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path

from asr.core.config import Config, CriterionConfig
from asr.core.errors import ConfigError
from asr.models import run_folder
from asr.models.kinds import Kind, kind_of


def check(config: Config) -> None:
    """Raise ConfigError if a configuration's model cannot be trained: before the stages before it are."""
    if kind_of(config) is Kind.GMM_HMM:
        from asr.training import gmm

        gmm.options_of(config)
        for key in _of_networks(config):
            raise ConfigError(f"{key} is for networks: leave it out; the section model trains GMM-HMMs", key)
        return
    if kind_of(config) is Kind.ATTENTION and config.train.alignments is not None:
        raise ConfigError("train.alignments is for HMMs: leave it out with attention_decoder", "train.alignments")
    if kind_of(config) is not Kind.CTC:
        _check_without_ctc(config)
    _check_shares(config.train.criterion)
    from asr import encoders

    encoders.config_of(config.model)


def _check_without_ctc(config: Config) -> None:
    why = f"for {config.model['name']}, which is not trained with CTC alone"
    if kind_of(config) is Kind.HYBRID:
        for name in ("padding", "no_speech"):
            if getattr(config.conditions, name) > 0:
                raise ConfigError(f"conditions.{name} must be 0 with train.alignments, which have no frames for it")
    for key in ("consistency", "label_prior_scale"):
        if getattr(config.train, key) > 0:
            raise ConfigError(f"train.{key} must be 0 {why}", f"train.{key}")
    if config.train.criterion.name == "ctc_crf":
        raise ConfigError(f"train.criterion.name must be ctc {why}")
    if config.train.criterion.frames is not None:
        raise ConfigError(f"train.criterion.frames must be null {why}", "train.criterion.frames")


def _check_shares(criterion: CriterionConfig) -> None:
    """Refuse what says how much of a loss counts that is not there."""
    is_crf, has_frames = criterion.name == "ctc_crf", criterion.frames is not None
    needs = (("ctc_weight", "name=ctc_crf", is_crf), ("warmup_epochs", "name=ctc_crf", is_crf))
    for name, other, is_there in (*needs, ("frame_weight", "frames", has_frames)):
        if not is_there and getattr(criterion, name) != getattr(CriterionConfig(), name):
            key = f"train.criterion.{name}"
            raise ConfigError(f"{key} does nothing without train.criterion.{other}: set that, or leave it out", key)


OF_ALL = ("alignments", "accelerator", "precision", "checkpoint_minutes")  # of HMMs, and how a machine works


def _of_networks(config: Config) -> Iterator[str]:
    """Yield the settings that networks alone are trained by, as far as they are not the defaults."""
    for name in ("train", "conditions", "spec_augment"):
        given = getattr(config, name)
        for key in fields(given):
            if key.name not in OF_ALL and getattr(given, key.name) != getattr(type(given)(), key.name):
                yield f"{name}.{key.name}"
    if config.data.speeds != (1.0,):
        yield "data.speeds"


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
        A setting does not fit, a corpus cannot be prepared, the run folder holds another run or is in use, or nothing
        is left to train on.
    """
    check(config)
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
