"""Write version_0_1/: a model folder, and a run that was killed within an epoch, as version 0.1 left them.

Run it with version 0.1 (commit 56e7243) alone on the path, in any folder:

    git worktree add /tmp/version-0.1 56e7243
    PYTHONPATH=/tmp/version-0.1 OMP_NUM_THREADS=1 python tests/golden/make_version_0_1.py

- ``run``: what stood on the disk when the run was killed in its eleventh epoch.
- ``model``: what the same run made when nobody killed it; ``history.json``, what it wrote of its epochs.
- ``emissions.npy``: what that model gives `sound()`.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "version_0_1"

SETTINGS = (
    "data.manifests=data",
    "data.max_frames=800",
    "data.num_buckets=3",
    "data.speeds=[0.9,1.0]",
    "features.num_mel_bins=16",
    "features.use_energy=false",
    "features.delta_order=0",
    "features.cmvn=global",
    "spec_augment.num_time_masks=1",
    "model.num_layers=1",
    "model.hidden_size=8",
    "model.stack=3",
    "model.dropout=0.05",
    "train.max_epochs=12",
    "train.learning_rate=0.03",
    "train.weight_noise=0.01",
    "train.label_prior_scale=0.2",
    "train.average=0.5",
    "decode.beam_size=8",
)

KILLED = """
import os, signal, sys
from asr.train import RecogniserModule
step = RecogniserModule.training_step

def stop(self, batch, batch_idx):
    if self.current_epoch == 10 and batch_idx == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)

RecogniserModule.training_step = stop
from asr.cli import main
main()
"""


def sound():
    """Half a second of noise and three tones at 16 kHz."""
    times = np.arange(8000) / 16000
    tones = sum(np.sin(2 * np.pi * frequency * times) for frequency in (300, 1100, 2500))
    return (0.1 * tones + 0.01 * np.random.default_rng(0).normal(size=len(times))).astype(np.float32)


def main():
    from asr import Recogniser
    from data_prep import mini

    folder = Path(tempfile.mkdtemp())
    mini.synthesise(folder / "mini", 5, 1, 2)
    recipe = Path(mini.__file__).parents[1] / "recipes" / "timit" / "blstm_ctc.yaml"

    def train(code, name, *more):
        command = [sys.executable, "-c", code, "train", recipe, *SETTINGS, *more, "--data", "mini", "--run", name]
        return subprocess.run(command, cwd=folder, check=False).returncode

    assert train("from asr.cli import main; main()", "whole") == 0
    assert train(KILLED, "run", "train.checkpoint_minutes=1e-6") == -signal.SIGKILL
    shutil.rmtree(HERE, ignore_errors=True)
    shutil.copytree(folder / "run", HERE / "run", ignore=shutil.ignore_patterns("tensorboard", ".*"))
    shutil.copytree(folder / "whole" / "model", HERE / "model")
    shutil.copy(folder / "whole" / "history.json", HERE / "history.json")
    for path in HERE.rglob("*"):
        os.chmod(path, 0o755 if path.is_dir() else 0o644)
    np.save(HERE / "emissions.npy", Recogniser.from_pretrained(HERE / "model").evidence(sound()))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
