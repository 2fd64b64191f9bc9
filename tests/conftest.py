import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

# Set before torch and Numba are imported: with tiny networks their threads wait for each other, and on a busy machine
# they do so for most of the time, in loops that keep the processor from those they wait for.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROOT = Path(__file__).parents[1]

# Of a network that learns something from forty utterances in seconds, with each thing that a resumed run must repeat.
SETTINGS = (
    "data.max_frames=800",
    "data.num_buckets=3",
    "data.speeds=[0.9,1.0]",
    "spec_augment.num_time_masks=1",
    "model.num_layers=1",
    "model.hidden_size=32",
    "model.stack=2",
    "model.dropout=0.05",
    "train.max_epochs=6",
    "train.learning_rate=0.02",
    "train.weight_noise=0.01",
    "train.label_prior_scale=0.2",
    "train.average=0.5",
    "decode.beam_size=8",
)


@pytest.fixture
def rng():
    return np.random.default_rng(20260614)


@pytest.fixture(scope="session")
def speech_data():
    """The folder of real speech samples: $ASR_TEST_DATA, or ../shared/data beside the checkout."""
    default = ROOT.parent / "shared" / "data"
    folder = Path(os.environ.get("ASR_TEST_DATA", default))
    if not (folder / "speechocean762-mini").is_dir():
        pytest.skip(f"no real speech at {folder}: set ASR_TEST_DATA to the folder that holds speechocean762-mini")
    return folder


@pytest.fixture(scope="session")
def python():
    """Run Python code in a process of its own."""
    folders = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = os.environ | {"PYTHONPATH": folders, "COLUMNS": "400"}

    def run(code, *arguments, cwd=ROOT, **changes):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(
            command,
            cwd=cwd,
            env=environment | changes,
            capture_output=True,
            encoding="utf8",
            errors="surrogateescape",
            timeout=900,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def run_python(python):
    """Run Python code that must succeed, oracles at hand, in a process of its own with these environment variables."""

    def run(code, **environment):
        process = python(code, **environment)
        assert process.returncode == 0, process.stderr
        return process.stdout

    return run


@pytest.fixture(scope="session")
def run_asr(python):
    """Run the `asr` command as a user does, in a process of its own."""

    def run(*arguments, cwd=ROOT):
        return python("from asr.cli.app import main; main()", *arguments, cwd=cwd)

    return run


@pytest.fixture
def cli(monkeypatch, capsys):
    """Run the `asr` command within this process, which spares the imports; gives exit code, output and errors."""

    def run(*arguments):
        from asr.cli.app import main

        monkeypatch.setattr(sys, "argv", ["asr", *map(str, arguments)])
        monkeypatch.setattr("gc.freeze", lambda: None)  # this process goes on
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def mini_tree(tmp_path_factory):
    """A mini corpus of 5, 1 and 2 speakers: 40 utterances to train on, 8 for dev and 16 for test."""
    from data_prep import mini

    return mini.synthesise(tmp_path_factory.mktemp("corpus") / "mini", 5, 1, 2)


@dataclass(frozen=True)
class TrainedRun:
    """A small finished run of the TIMIT recipe on the mini corpus, and what to say to train another like it."""

    run: Path
    manifests: Path
    arguments: tuple[str, ...]
    process: subprocess.CompletedProcess


@pytest.fixture(scope="session")
def trained(run_asr, mini_tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    manifests, run = folder / "data", folder / "run"
    arguments = ("recipes/timit/blstm_ctc.yaml", f"data.manifests={manifests}", *SETTINGS, "--data", str(mini_tree))
    process = run_asr("train", *arguments, "--run", run)
    assert process.returncode == 0, process.stderr
    return TrainedRun(run, manifests, arguments, process)
