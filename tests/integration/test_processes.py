"""Training in two processes on the processor: they learn what one would, share what is prepared, and resume exactly."""

import itertools
import json
import os
import subprocess
import sys
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.conftest import ROOT, SETTINGS

# A file, since Lightning starts the second process by the name of the first one's. Nothing can be locked, so that
# processes that prepare the same at the same time are seen; and the first process is killed once, if it shall be.
WATCHED = """
import json, os, signal
from pathlib import Path
from asr.core import turns
from asr.data import feature_store
from asr.training.network import RecogniserModule
from data_prep import timit

folder, rank = Path(os.environ["NOTES"]), os.environ.get("LOCAL_RANK", "0")
turns.fcntl = None

def noted(module, name, index):
    function = getattr(module, name)
    def call(*arguments):
        with (folder / f"{name}-{rank}").open("a") as notes:
            print(arguments[index], file=notes)
        return function(*arguments)
    setattr(module, name, call)

noted(timit, "prepare", 1)
noted(feature_store, "_write_features", 4)
step = RecogniserModule.training_step

def watched(self, batch, batch_idx):
    if self.global_step == int(os.environ.get("KILLED_AT", -1)) and self.global_rank == 0:
        if not (folder / "killed").exists():
            (folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    with (folder / f"batches-{rank}").open("a") as notes:
        print(json.dumps([self.global_step, batch.is_spare, batch.ids]), file=notes)
    return step(self, batch, batch_idx)

RecogniserModule.training_step = watched
if __name__ == "__main__":
    from asr.cli.app import main
    main()
"""
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1")


class Run(SimpleNamespace):
    """A finished training: its folder, and what its processes noted."""

    def notes(self, name):
        return {
            path.name.rpartition("-")[2]: path.read_text().splitlines() for path in self.folder.glob(f"notes/{name}-*")
        }

    def batches(self):
        """Return the utterances of each update, by the processes that had them."""
        found = defaultdict(dict)
        for rank, lines in self.notes("batches").items():
            for update, is_spare, ids in map(json.loads, lines):
                found[update][rank] = [] if is_spare else ids
        return found

    def epochs(self):
        return json.loads((self.folder / "run" / "history.json").read_text())["epochs"]

    def weights(self):
        return load_file(self.folder / "run" / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def trained_in(mini_tree, tmp_path_factory):
    """Train without dropout, whose masks differ in several processes."""

    def train(name, *launcher, settings=(), **environment):
        folder = tmp_path_factory.mktemp(name)
        (folder / "notes").mkdir()
        script = folder / "watched.py"
        script.write_text(WATCHED)
        options = ("train.max_epochs=2", "train.accelerator=cpu", "model.dropout=0", "--data", str(mini_tree))
        command = [sys.executable, *(["-m", *launcher, "--"] if launcher else []), script, "train"]
        command += ["recipes/timit/blstm_ctc.yaml", *SETTINGS, *options, *settings]
        command += [f"data.manifests={folder / 'data'}", "--run", folder / "run"]
        process = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "NOTES": str(folder / "notes")} | environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        return Run(folder=folder, code=process.returncode, out=process.stdout, err=process.stderr)

    return train


@pytest.fixture(scope="module")
def alone(trained_in):
    return trained_in("alone")


@pytest.fixture(scope="module")
def together(trained_in):
    """Two processes that Lightning starts."""
    return trained_in("together", settings=("train.devices=2",))


@pytest.fixture(scope="module")
def killed(trained_in):
    """Two processes that torchrun starts, the first of which is killed in the middle of the second epoch."""
    often, renewed = ("train.checkpoint_minutes=1e-6",), {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    return trained_in("killed", *TORCHRUN, settings=often, KILLED_AT="22", **renewed)


def test_all_end_well(alone, together, killed):
    for run in (alone, together, killed):
        assert run.code == 0, run.err
        assert run.out.count("model folder: ") == run.out.count(" of dev speakers") == 1


def test_two_processes_share_each_batch_of_one(alone, together):
    shared = together.batches()
    for update, whole in alone.batches().items():
        parts = shared[update].values()
        assert sorted(itertools.chain.from_iterable(parts)) == sorted(whole["0"])
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    first = (part for update in range(together.epochs()[0]["updates"]) for part in shared[update].values())
    in_an_epoch = list(itertools.chain.from_iterable(first))
    assert len(in_an_epoch) == len(set(in_an_epoch)) == 40


def test_two_processes_follow_the_curve_of_one(alone, together):
    for one, two in zip(alone.epochs(), together.epochs(), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-4)
        assert two | {"seconds": 0, "loss": 0} == one | {"seconds": 0, "loss": 0}
    weights = together.weights()
    for name, value in alone.weights().items():
        np.testing.assert_allclose(weights[name], value, atol=1e-3, err_msg=name)


def test_a_killed_process_makes_no_difference(together, killed):
    assert (killed.folder / "notes" / "killed").exists()
    for ours, theirs in zip(together.epochs(), killed.epochs(), strict=True):
        assert ours | {"seconds": 0} == theirs | {"seconds": 0}
    weights = killed.weights()
    for name, value in together.weights().items():
        np.testing.assert_array_equal(weights[name], value, err_msg=name)


def test_the_first_process_alone_prepares_and_logs(together, killed):
    for run in (together, killed):
        for name, count in (("prepare", 1), ("_write_features", 3)):
            notes = run.notes(name)
            assert list(notes) == ["0"]
            made = notes["0"]
            assert len(made) == len(set(made)) == count
        log = (run.folder / "run" / "train.log").read_text()
        assert log.count("epoch 2 ") == 1


@pytest.mark.slow
def test_a_size_that_leaves_a_process_without_a_part_is_named_once(trained_in):
    small = ("data.max_frames=50", "data.num_buckets=40")
    run = trained_in("small", settings=("train.devices=2", *small))
    assert run.code == 2
    lines = [line for line in run.err.splitlines() if line.startswith("asr: ")]
    assert lines == [
        "asr: data.max_frames is 50: no batch has more than 1 utterances, for 2 processes: raise it, or start fewer"
    ]
    assert "Traceback" not in run.err
