"""Two processes train on shards, local or by URL: they learn what one would that had the batches of both."""

import functools
import http.server
import itertools
import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file

from asr.data import shar
from asr.data.shards import ShardLoader, _Plan
from asr.speech.features import FRAME_SHIFT
from data_prep import mini
from tests.conftest import ROOT

YAML = """
data: {corpora: {mini: PLACE}, max_frames: 800, speeds: [0.9, 1.0], labels: timit48, scoring: timit39}
features: {num_mel_bins: 20, delta_order: 0, use_energy: false, cmvn: global}
spec_augment: {num_time_masks: 1}
model: {name: blstm, num_layers: 1, hidden_size: 16, stack: 3, dropout: 0}
train: {max_epochs: 2, learning_rate: 0.01, accelerator: cpu}
decode: {beam_size: 2}
"""
# A file, since Lightning starts the second process by the name of the first one's. The first one is killed once, if it
# shall be.
WATCHED = """
import json, os, signal
from pathlib import Path
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from asr.data.shards import Shards
from asr.training.network import RecogniserModule

folder, rank = Path(os.environ["NOTES"]), os.environ.get("LOCAL_RANK", "0")

def note(name, *values):
    with (folder / f"{name}-{rank}").open("a") as notes:
        print(json.dumps(values), file=notes)

def watched(self, batch, batch_idx):
    if self.global_step == int(os.environ.get("KILLED_AT", -1)) and self.global_rank == 0:
        if not (folder / "killed").exists():
            (folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    note("batches", self.global_step, batch.ids)
    return step(self, batch, batch_idx)

def saving(self, checkpoint, path, *arguments, **options):
    note("saved", str(path))
    return save(self, checkpoint, path, *arguments, **options)

step, RecogniserModule.training_step = RecogniserModule.training_step, watched
save, TorchCheckpointIO.save_checkpoint = TorchCheckpointIO.save_checkpoint, saving
if __name__ == "__main__":
    from asr.cli.app import main
    main()
"""
TRAIN = ("watched.py", "train", "tiny.yaml", "--run", "run")
RESTARTING = ("--standalone", "--nproc-per-node=2", "--max-restarts=1", "--")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", *RESTARTING, *TRAIN)


class Run(SimpleNamespace):
    """A finished training: its folder, and what its processes noted."""

    def notes(self, name):
        paths = self.folder.glob(f"notes/{name}-*")
        return {path.name[-1]: list(map(json.loads, path.read_text().splitlines())) for path in paths}

    def batches(self):
        """Return the utterances of each update, by the processes that had them."""
        found = defaultdict(dict)
        for rank, rows in self.notes("batches").items():
            for update, ids in rows:
                found[update][rank] = ids
        return found

    def history(self):
        """Return what the run keeps of each epoch; how long each took is not compared."""
        history = json.loads((self.folder / "run" / "history.json").read_text())
        return [each | {"seconds": 0} for each in history["epochs"]]

    def weights(self):
        return load_file(self.folder / "run" / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def written(mini_tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shar")
    mini.prepare(mini_tree, folder / "data" / "mini")
    shar.write(folder / "data", "mini", folder / "shards" / "mini", 7, "flac", 0)
    return folder / "shards"


@pytest.fixture(scope="module")
def server(written):
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=written)) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def trained_in(tmp_path_factory):
    def train(place, *command, **environment):
        folder = tmp_path_factory.mktemp("run")
        (folder / "notes").mkdir()
        (folder / "watched.py").write_text(WATCHED)
        (folder / "tiny.yaml").write_text(YAML.replace("PLACE", str(place)))
        process = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "NOTES": str(folder / "notes")} | environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        return Run(folder=folder, out=process.stdout)

    return train


@pytest.fixture(scope="module")
def together(written, trained_in):
    """Two processes that Lightning starts, on a local folder."""
    return trained_in(written / "mini", sys.executable, *TRAIN, "train.devices=2")


@pytest.fixture(scope="module")
def killed(server, trained_in):
    """Two processes that torchrun starts, on a URL; the first is killed in the middle of the second epoch."""
    pytest.importorskip("fsspec", reason="the extra `scale` is not installed")
    environment = {"KILLED_AT": "29", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    return trained_in(f"{server}/mini", *TORCHRUN, "train.checkpoint_minutes=1e-6", **environment)


class Both:
    """The batches of two processes, joined."""

    def __init__(self, *plans):
        self._plans = plans

    def __len__(self):
        return len(self._plans[0])

    def __getitem__(self, number):
        return list(itertools.chain.from_iterable(plan[number] for plan in self._plans))


@pytest.fixture
def alone(cli, written, tmp_path, monkeypatch):
    """One process that has both batches of two in each update."""

    def drawn(self, epoch):
        share = self.max_frames // 2 * FRAME_SHIFT
        plan = functools.partial(_Plan, self._shards, share, self._max_duration, (self.seed, epoch), 2)
        return Both(plan(0), plan(1))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ShardLoader, "_drawn", drawn)
    (tmp_path / "tiny.yaml").write_text(YAML.replace("PLACE", str(written / "mini")))
    code, out, err = cli("train", "tiny.yaml", "--run", "run")
    assert code == 0, err
    return Run(folder=tmp_path, out=out)


def test_two_processes_follow_the_curve_of_one(alone, together):
    for one, two in zip(alone.history(), together.history(), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-4)
        assert two | {"loss": 0} == one | {"loss": 0}
    assert one["loss"] < alone.history()[0]["loss"]
    weights = together.weights()
    for name, value in alone.weights().items():
        np.testing.assert_allclose(weights[name], value, atol=1e-3, err_msg=name)


def test_no_utterance_is_with_two_processes(together):
    first = [parts for update, parts in together.batches().items() if update < together.history()[0]["updates"]]
    heard = [name for parts in first for ids in parts.values() for name in ids]
    assert all(len(parts) == 2 for parts in first)
    assert 36 <= len(heard) == len(set(heard)) <= 40  # one batch at most is left out


def test_a_killed_process_makes_no_difference_by_url(together, killed):
    assert (killed.folder / "notes" / "killed").exists()
    num_updates = [each["updates"] for each in together.history()]
    assert num_updates[0] < 29 < num_updates[1]
    assert killed.history() == together.history()
    assert killed.batches() == together.batches()
    for name, value in together.weights().items():
        np.testing.assert_array_equal(killed.weights()[name], value, err_msg=name)


def test_the_first_process_alone_writes(together, killed):
    for run in (together, killed):
        assert list(run.notes("saved")) == ["0"]
        assert run.out.count("model folder: ") == run.out.count(" of dev speakers") == 1
