"""Run folders: what a training writes, and the check that no two trainings share one.

runs/<recipe>/<system>/
    config.yaml  inputs.json  git.txt                    what was run, and on what
    train.log  history.json                              how it went
    checkpoints/                                         to go on from, and to keep
    tensorboard/                                         a network's curves, live
    model/                                               the model folder (asr/models/model_folder.py), from the first
                                                         epoch or iteration on
"""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from asr.core import config as configuration
from asr.core import files, terminal
from asr.core.config import Config
from asr.core.errors import ConfigError
from asr.core.turns import turn

HISTORY = "history.json"
INPUTS = "inputs.json"
MEND = "delete it, or name another folder with --run (RUN= of make)"


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Keep other processes from training in a run folder; a folder that is new and stays empty does not remain.

    Raises
    ------
    ConfigError
        Another process trains in it.
    """

    def refuse() -> None:
        raise ConfigError(f"another process trains in {run}: wait for its end, or name another folder with --run")

    new = [each for each in (run, *run.parents) if not each.exists()]
    try:
        with turn(run, refuse):
            yield
    finally:
        for folder in new:
            with suppress(OSError):  # it is not there, or not empty
                folder.rmdir()


@contextmanager
def starting(run: Path, config: Config, prepare: Callable[[Config], Mapping[str, str]]) -> Iterator[None]:
    """Check that a run folder is free for a training, and claim it once the block has prepared the training.

    Parameters
    ----------
    run
        The run folder.
    config
        The configuration of the training. More epochs than the folder's are no other configuration.
    prepare
        Makes what is trained on, and returns a hash of each thing that the weights depend on besides the configuration.

    Raises
    ------
    ConfigError
        The folder holds a run with another configuration or on something else.
    """
    _check_that_it_is_the_same(run, config)
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    with written_at_the_end(run) as texts:
        inputs = prepare(config)
        _check_that_they_are_the_same(run, inputs)
        yield
        texts["config.yaml"] = configuration.to_yaml(config)
        texts[INPUTS] = files.as_json(dict(inputs))
        texts["git.txt"] = git.stdout or "not a git checkout\n"


@contextmanager
def written_at_the_end(run: Path) -> Iterator[dict[str, str]]:
    """Write texts and the log of a block into a run folder when the block ends, and from then on the log as it comes.

    A block that fails writes nothing. What is new of the folder is then empty, and `held` deletes it.

    Parameters
    ----------
    run
        The run folder.

    Yields
    ------
    dict
        To be filled: contents of files by their names.
    """
    logger = logging.getLogger("asr")
    for earlier in [each for each in logger.handlers if isinstance(each, logging.FileHandler)]:  # of another run
        logger.removeHandler(earlier)
        earlier.close()
    lines = MemoryHandler(sys.maxsize, flushLevel=sys.maxsize, flushOnClose=False)
    lines.addFilter(_is_no_progress)
    texts: dict[str, str] = {}
    run.mkdir(parents=True, exist_ok=True)  # now, since a folder that cannot be made should not come as a late surprise
    logger.addHandler(lines)
    try:
        yield texts
    finally:
        logger.removeHandler(lines)
    for name, text in texts.items():
        files.write_text(run / name, text)
    handler = logging.FileHandler(run / "train.log", encoding="utf8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(_is_no_progress)
    lines.setTarget(handler)
    lines.flush()
    logger.addHandler(handler)


def _is_no_progress(record: logging.LogRecord) -> bool:
    """Tell whether a line is of interest afterwards."""
    return record.name != terminal.__name__


def _check_that_it_is_the_same(run: Path, config: Config) -> None:
    path = run / "config.yaml"
    if path.is_file() and _counts(run):
        before = configuration.load(path)
        check_settings(run, _trained_by(before), _trained_by(config))
        check_epochs(run, before.train.max_epochs, config.train.max_epochs)


def _check_that_they_are_the_same(run: Path, inputs: Mapping[str, str]) -> None:
    path = run / INPUTS
    before = _read_json(path) if _counts(run) else {}  # runs of older versions have no such file
    changed = [name for name, found in inputs.items() if before.get(name, found) != found]
    if changed:
        raise ConfigError(
            f"{' and '.join(changed)} changed after {run} was trained on it: {MEND}; if only times of change are "
            f"others, delete {path}"
        )


def _counts(run: Path) -> bool:
    """Tell whether a run folder has a checkpoint: one without does not count."""
    return any((run / "checkpoints").glob("last.*"))


def check_settings(run: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise ConfigError if settings differ from those of the run that a folder holds."""
    different = differences(theirs, ours)
    if different:
        raise ConfigError(f"{run} holds a run with {', '.join(different)}: {MEND}")


def check_epochs(run: Path, before: int, now: int) -> None:
    """Raise ConfigError if a run would have fewer epochs than before."""
    if now < before:
        raise ConfigError(
            f"{run} holds a run of {before} epochs: train.max_epochs can be raised, but {now} are fewer; {MEND}"
        )


def _trained_by(config: Config) -> dict[str, Any]:
    """Return the settings that the weights of an epoch depend on: not the corpora's folders, and not the decoding."""
    values = configuration.to_dict(config)
    del values["decode"]
    for key in ("checkpoint_minutes", "max_epochs", "devices"):
        del values["train"][key]
    values["data"]["corpora"] = sorted(values["data"]["corpora"])
    return values


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Name the settings that differ, with both values.

    >>> differences({"seed": 1, "train": {"patience": 3}}, {"seed": 2, "train": {"patience": 3}})
    ['seed=1 and not 2']
    """
    found = []
    for key in sorted(theirs.keys() | ours.keys()):
        before, now = (values.get(key, "the default") for values in (theirs, ours))
        if isinstance(before, dict) and isinstance(now, dict):
            found += differences(before, now, f"{prefix}{key}.")
        elif before != now:
            found.append(f"{prefix}{key}={before} and not {now}")
    return found


def read_history(run: Path) -> dict[str, Any]:
    """Return a run's history: ``epochs`` of a network or ``iterations`` of a GMM-HMM, empty if there is none."""
    return _read_json(run / HISTORY)


def _read_json(path: Path) -> dict[str, Any]:
    """Read a file of the run folder; nothing if there is none."""
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
