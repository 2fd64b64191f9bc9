"""Run folders: what a training writes, and the check that two configurations do not share one.

runs/<recipe>/<system>/
    config.yaml  git.txt  train.log  history.json        what was run, and how it went
    checkpoints/                                         to go on from, and to keep
    tensorboard/                                         a network's curves, live
    model/                                               the model folder (asr/models/model_folder.py), from the first
                                                         epoch or iteration on
"""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from asr.core import config as configuration
from asr.core import files, terminal
from asr.core.config import Config
from asr.core.errors import ConfigError

HISTORY = "history.json"


@contextmanager
def starting(run: Path, config: Config) -> Iterator[None]:
    """Check that a run folder is free for a configuration, and write both once the block has prepared the training.

    Raises
    ------
    ConfigError
        The folder holds a run with another configuration. More epochs are no other configuration.
    """
    from pytorch_lightning.utilities.rank_zero import rank_zero_only

    _check_that_it_is_the_same(run, config)
    if getattr(rank_zero_only, "rank", 0):  # of several processes that train together the first one writes
        yield
        return
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    texts = {"config.yaml": configuration.to_yaml(config), "git.txt": git.stdout or "not a git checkout\n"}
    with written_at_the_end(run, texts):
        yield


@contextmanager
def written_at_the_end(run: Path, texts: Mapping[str, str]) -> Iterator[None]:
    """Write texts and the log of a block into a run folder when the block ends, and from then on the log as it comes.

    A block that fails leaves no folder behind that was not there before.

    Parameters
    ----------
    run
        The run folder.
    texts
        Contents of files by their names.
    """
    logger = logging.getLogger("asr")
    for earlier in [each for each in logger.handlers if isinstance(each, logging.FileHandler)]:  # of another run
        logger.removeHandler(earlier)
        earlier.close()
    held = MemoryHandler(sys.maxsize, flushLevel=sys.maxsize, flushOnClose=False)
    held.addFilter(_is_no_progress)
    new = [each for each in (run, *run.parents) if not each.exists()]
    run.mkdir(parents=True, exist_ok=True)  # now, since a folder that cannot be made should not come as a late surprise
    logger.addHandler(held)
    try:
        yield
    except BaseException:
        for folder in new:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise
    finally:
        logger.removeHandler(held)
    for name, text in texts.items():
        files.write_text(run / name, text)
    handler = logging.FileHandler(run / "train.log", encoding="utf8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(_is_no_progress)
    held.setTarget(handler)
    held.flush()
    logger.addHandler(handler)


def _is_no_progress(record: logging.LogRecord) -> bool:
    """Tell whether a line is of interest afterwards."""
    return record.name != terminal.__name__


def _check_that_it_is_the_same(run: Path, config: Config) -> None:
    path = run / "config.yaml"
    if not path.is_file() or not any((run / "checkpoints").glob("last.*")):  # a run without a checkpoint does not count
        return
    theirs, ours = (_trained_by(each) for each in (configuration.load(path), config))
    num_before, num_now = (each.pop("train.max_epochs") for each in (theirs, ours))
    different = sorted(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key))
    if different:
        raise ConfigError(
            f"{run} holds a run with another {', '.join(different)}: delete it, or name another with --run"
        )
    check_epochs(run, num_before, num_now)


def check_epochs(run: Path, before: int, now: int) -> None:
    """Raise ConfigError if a run would have fewer epochs than before."""
    if now < before:
        raise ConfigError(
            f"{run} holds a run of {before} epochs: train.max_epochs can be raised, but {now} are fewer; delete the "
            "run, or name another with --run"
        )


def _trained_by(config: Config) -> dict[str, Any]:
    """Return the settings that the weights depend on: not the corpora's folders, and not the decoding."""
    values = configuration.to_dict(config)
    del values["decode"], values["train"]["checkpoint_minutes"]
    values["data"]["corpora"] = sorted(values["data"]["corpora"])
    sections = {name: value for name, value in values.items() if isinstance(value, dict)}
    inner = {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}
    return {name: value for name, value in values.items() if name not in sections} | inner


def read_history(run: Path) -> dict[str, Any]:
    """Return a run's history: ``epochs`` of a network or ``iterations`` of a GMM-HMM, empty if there is none."""
    path = run / HISTORY
    return json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}


def write_history(run: Path, lines: Mapping[str, Any], before: float) -> None:
    """Write the history of a training that goes on.

    Parameters
    ----------
    run
        The run folder.
    lines
        ``epochs`` or ``iterations``.
    before
        Seconds of the runs whose alignments it uses.
    """
    files.write_json(run / HISTORY, {**lines, "seconds_before": before, "ended": False})


def end(run: Path) -> None:
    """Note in the history that the training has ended."""
    files.write_json(run / HISTORY, read_history(run) | {"ended": True})


def goes_on(run: Path) -> bool:
    """Tell whether a run's training has begun and not ended, so that its model is only the best one so far."""
    return not read_history(run).get("ended", True)  # version 0.2.0 did not note it, and had no model before the end


def training_seconds(run: Path) -> float | None:
    """Return the seconds of a run, with the runs whose alignments it used; None if the history has none."""
    history = read_history(run)
    lines = history.get("epochs") or history.get("iterations")
    return history.get("seconds_before", 0.0) + lines[-1]["seconds"] if lines else None
