"""Training in two processes on the processor: they share an epoch, count all dev errors, and resume exactly."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.conftest import ROOT, SETTINGS

# A file, since Lightning starts the second process by the name of the first one's; at that update both are killed.
STOPPED = """
import os, signal
from asr.training.network import RecogniserModule
step = RecogniserModule.training_step

def stop(self, batch, batch_idx):
    if self.global_step == int(os.environ["KILLED_AT"]):
        os.killpg(os.getpgid(0), signal.SIGKILL)
    return step(self, batch, batch_idx)

RecogniserModule.training_step = stop
from asr.cli.app import main
main()
"""


@pytest.fixture
def run(mini_tree, tmp_path):
    """Train in two processes until an update; gives the exit code."""
    script = tmp_path / "stop.py"
    script.write_text(STOPPED)

    def train(folder, killed_at, *more):
        options = ("train.max_epochs=3", "train.devices=2", "train.accelerator=cpu", "--data", str(mini_tree))
        command = [sys.executable, script, "train", "recipes/timit/blstm_ctc.yaml", *SETTINGS, *options, *more]
        command += [f"data.manifests={tmp_path / 'data'}", "--run", tmp_path / folder]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "KILLED_AT": str(killed_at)}
        process = subprocess.run(
            command, cwd=ROOT, env=environment, start_new_session=True, capture_output=True, timeout=900, check=False
        )
        return process.returncode

    return train


@pytest.mark.slow
def test_two_processes_that_are_killed_end_as_two_that_are_not(run, tmp_path):
    often = "train.checkpoint_minutes=1e-6"
    assert run("whole", -1) == 0
    for update in (4, 15):
        assert run("killed", update, often) == -signal.SIGKILL
    assert run("killed", -1) == 0
    histories = [json.loads((tmp_path / name / "history.json").read_text())["epochs"] for name in ("whole", "killed")]
    for ours, theirs in zip(*histories, strict=True):
        assert ours | {"seconds": 0} == theirs | {"seconds": 0}
    whole, killed = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "killed"))
    for name, value in whole.items():
        np.testing.assert_array_equal(killed[name], value, err_msg=name)
