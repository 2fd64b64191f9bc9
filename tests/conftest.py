import contextlib
import gc
import io
import logging
import os
import subprocess
import sys
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest

# Set before torch and Numba are imported: with tiny networks their threads wait for each other, and on a busy machine
# they do so for most of the time, in loops that keep the processor from those they wait for. `make test` has a process
# for each of two processors; tests of threads ask for more themselves.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")
# Set before Triton is imported: without a GPU its kernels are interpreted.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from hypothesis import HealthCheck, settings
from numba.core import event

# A busy machine is no fault of what is tested, nor is the first example, which compiles.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

ROOT = Path(__file__).parents[1]
PATIENCE = 300  # seconds to wait for what takes a moment on an idle machine


class TextInKernel(event.Listener):
    """Refuses kernels that Numba compiles with its functions of text, which take 2 s more.

    Assigning an array to a part of another brings them in, for the message of an error. Kernels that Numba finds on
    disk are not compiled.
    """

    def __init__(self):
        self.modules = []

    def on_start(self, event):
        self.modules.append(event.data["dispatcher"].py_func.__module__)
        if self.modules[-1] == "numba.cpython.unicode" and self.modules[0].startswith("asr."):
            pytest.fail(f"a kernel of {self.modules[0]} brings in the text of an error: assign number by number")

    def on_end(self, event):
        self.modules.pop()


event.register("numba:compile", TextInKernel())

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


@contextlib.contextmanager
def started(command, **options):
    """A process that does not outlast the block, whatever fails in it, and ends some time if the block waits for it."""
    with subprocess.Popen(command, **options) as process:
        limit = threading.Timer(2 * PATIENCE, process.kill)
        limit.start()
        try:
            yield process
        finally:
            limit.cancel()
            process.kill()


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
            timeout=2 * PATIENCE,
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
def say(run_python):
    """Let espeak-ng say a text into a file; its pitch depends on what it has said before in a process: here nothing."""

    def run(text, path):
        run_python(
            f"""
import soundfile
from asr.speech.espeak import synthesise
speech = synthesise({text!r})
soundfile.write({str(path)!r}, speech.samples, speech.sample_rate)
"""
        )

    return run


# Without the note that tells of kernels being compiled: whether there are any depends on what ran before.
RUN_ASR = """
import logging
logging.getLogger("asr.core.compilation").disabled = True
from asr.cli.app import main
main()
"""


@pytest.fixture(scope="session")
def run_asr(python):
    """Run the `asr` command as a user does, in a process of its own; for tests of what a process does."""

    def run(*arguments, cwd=ROOT):
        return python(RUN_ASR, *arguments, cwd=cwd)

    return run


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@contextlib.contextmanager
def fresh_process():
    """Take pytest's handlers from the loggers, and undo what the command leaves for its process's end to undo."""
    loggers = [logging.getLogger(name) for name in (None, "asr", "data_prep")]
    before = [(logger, logger.handlers[:], logger.level) for logger in loggers]
    threshold = gc.get_threshold()
    try:
        with mock.patch.dict(os.environ, COLUMNS="400"), mock.patch("gc.freeze"), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PyTorch Lightning's, as are the next
            warnings.simplefilter("ignore", UserWarning)
            for logger in loggers:
                logger.handlers[:] = []
            with mock.patch.object(
                logging.getLogger("asr.core.compilation"), "disabled", True
            ):  # as if compiled before
                yield
    finally:
        gc.set_threshold(*threshold)
        for logger, handlers, level in before:
            for handler in logger.handlers:
                handler.close()
            logger.handlers[:] = handlers
            logger.setLevel(level)


@pytest.fixture(scope="session")
def cli():
    """Run the `asr` command within this process, which spares the imports; gives exit code, output and errors."""

    def run(*arguments):
        from asr.cli.app import main

        out, err = (io.TextIOWrapper(io.BytesIO(), "utf8", "surrogateescape", write_through=True) for _ in range(2))
        code = 0
        argv = mock.patch("sys.argv", ["asr", *map(str, arguments)])
        with fresh_process(), argv, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as stop:
                code = stop.code
        return Outcome(code, *(stream.buffer.getvalue().decode("utf8", "surrogateescape") for stream in (out, err)))

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
    out: str


@pytest.fixture(scope="session")
def trained(cli, mini_tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    manifests, run = folder / "data", folder / "run"
    arguments = ("recipes/timit/blstm_ctc.yaml", f"data.manifests={manifests}", *SETTINGS, "--data", str(mini_tree))
    code, out, err = cli("train", *arguments, "--run", run)
    assert code == 0, err
    return TrainedRun(run, manifests, arguments, out)


@pytest.fixture(scope="session")
def served():
    """A server of the shipped models whose limits are narrow enough to be met by tests."""
    pytest.importorskip("starlette", reason="the extra `serve` is not installed")
    pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
    from asr.serving.settings import MEGABYTE, Limits, Models
    from tests.serving import serving

    limits = Limits(
        workers=1,
        queue=4,
        streams=2,
        upload_bytes=4 * MEGABYTE,
        upload_seconds=PATIENCE,
        sound_seconds=60,
        work_seconds=PATIENCE,
    )
    with serving(Models("en-us-phones", "en-us-words"), limits) as server:
        yield server


@pytest.fixture(scope="session")
def http_client(served):
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")
    with httpx.Client(base_url=served.url, timeout=PATIENCE) as client:
        yield client
