"""Run folders: what a training writes, and the check that no two trainings share one.

runs/<recipe>/<system>/
    config.yaml  inputs.json  git.txt                    what was run, and on what
    train.log  history.json                              how it went
    checkpoints/                                         to go on from, and to keep
    tensorboard/                                         a network's curves, live
    model/                                               the model folder (asr/models/model_folder.py)
"""

import json
import logging
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
    """Keep other processes from training in a run folder.

    Raises
    ------
    ConfigError
        Another process trains in it.
    """

    def refuse() -> None:
        raise ConfigError(f"another process trains in {run}: wait for its end, or name another folder with --run")

    with turn(run, refuse):
        yield


def claim(run: Path, config: Config) -> None:
    """Write the configuration into the run folder, or check that the folder has the same one.

    Of several processes that train together the first does it.

    Raises
    ------
    ConfigError
        The folder holds a run with another configuration.
    """
    from pytorch_lightning.utilities.rank_zero import rank_zero_only

    rank_zero_only(_claim)(run, config)


def _claim(run: Path, config: Config) -> None:
    run.mkdir(parents=True, exist_ok=True)
    path = run / "config.yaml"
    if path.is_file() and _counts(run):
        different = differences(_trained_by(configuration.load(path)), _trained_by(config))
        if different:
            raise ConfigError(f"{run} holds a run with {', '.join(different)}: {MEND}")
    files.write_text(path, configuration.to_yaml(config))
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    files.write_text(run / "git.txt", git.stdout or "not a git checkout\n")
    log_to(run / "train.log")


def claim_inputs(run: Path, inputs: Mapping[str, str]) -> None:
    """Write hashes of what is trained on into the run folder, or check that the folder has the same ones.

    Of several processes that train together the first does it.

    Parameters
    ----------
    run
        The run folder.
    inputs
        A hash of each thing that the weights depend on besides the configuration.

    Raises
    ------
    ConfigError
        The folder holds a run on something else.
    """
    from pytorch_lightning.utilities.rank_zero import rank_zero_only

    rank_zero_only(_claim_inputs)(run, inputs)


def _claim_inputs(run: Path, inputs: Mapping[str, str]) -> None:
    path = run / INPUTS
    before = _read_json(path) if _counts(run) else {}  # runs of older versions have no such file
    changed = [name for name, found in inputs.items() if before.get(name, found) != found]
    if changed:
        raise ConfigError(
            f"{' and '.join(changed)} changed after {run} was trained on it: {MEND}; if only times of change are "
            f"others, delete {path}"
        )
    files.write_json(path, dict(inputs))


def _counts(run: Path) -> bool:
    """Tell whether a run folder has a checkpoint: one without does not count."""
    return any((run / "checkpoints").glob("last.*"))


def log_to(path: Path) -> None:
    """Append log lines to a file, and stop appending them to the file of an earlier run of this process."""
    logger = logging.getLogger("asr")
    for handler in [each for each in logger.handlers if isinstance(each, logging.FileHandler)]:
        logger.removeHandler(handler)
        handler.close()
    handler = logging.FileHandler(path, encoding="utf8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(lambda record: record.name != terminal.__name__)  # progress is of no interest afterwards
    logger.addHandler(handler)


def _trained_by(config: Config) -> dict[str, Any]:
    """Return the settings that the weights depend on: not the corpora's folders, and not the decoding."""
    values = configuration.to_dict(config)
    del values["decode"]
    values["data"]["corpora"] = sorted(values["data"]["corpora"])
    values["train"] = {key: value for key, value in values["train"].items() if key != "checkpoint_minutes"}
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


def training_seconds(run: Path) -> float | None:
    """Return the seconds of a run, with the runs whose alignments it used; None if the history has none."""
    history = read_history(run)
    lines = history.get("epochs") or history.get("iterations")
    return history.get("seconds_before", 0.0) + lines[-1]["seconds"] if lines else None
