"""Run folders: what a training writes, and the check that two configurations do not share one.

runs/<recipe>/<system>/
    config.yaml  git.txt  train.log  history.json        what was run, and how it went
    checkpoints/                                         to go on from, and to keep
    tensorboard/                                         a network's curves, live
    model/                                               the model folder (asr/models/model_folder.py)
"""

import json
import logging
import subprocess
from pathlib import Path
from typing import Any

from asr.core import config as configuration
from asr.core import files, terminal
from asr.core.config import Config
from asr.core.errors import ConfigError

HISTORY = "history.json"


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
    if path.is_file() and any((run / "checkpoints").glob("last.*")):  # a run without a checkpoint does not count
        theirs, ours = (_trained_by(c) for c in (configuration.load(path), config))
        different = [key for key in ours if ours[key] != theirs[key]]
        if different:
            raise ConfigError(
                f"{run} holds a run with another {', '.join(different)}: delete it, or name another with --run"
            )
    files.write_text(path, configuration.to_yaml(config))
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    files.write_text(run / "git.txt", git.stdout or "not a git checkout\n")
    log_to(run / "train.log")


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


def read_history(run: Path) -> dict[str, Any]:
    """Return a run's history: ``epochs`` of a network or ``iterations`` of a GMM-HMM, empty if there is none."""
    path = run / HISTORY
    return json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}


def training_seconds(run: Path) -> float | None:
    """Return the seconds of a run, with the runs whose alignments it used; None if the history has none."""
    history = read_history(run)
    lines = history.get("epochs") or history.get("iterations")
    return history.get("seconds_before", 0.0) + lines[-1]["seconds"] if lines else None
