"""A worker process at its limits."""

import io
import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import soundfile

pytest.importorskip("starlette", reason="the extra `serve` is not installed")

from asr.core.errors import ModelError
from asr.serving import workers
from asr.serving.recognising import Job
from asr.serving.refusal import Refusal
from asr.serving.settings import MEGABYTE, Limits, Models
from asr.serving.workers import Pool, Worker
from tests.serving import wait_for

SILENCE, JOB = io.BytesIO(), Job("phones", "a", {"response_format": "json"})
soundfile.write(SILENCE, np.zeros(1500 * 16000, np.int16), 16000, format="FLAC")


@pytest.fixture(scope="module")
def worker():
    worker = Worker(Models("en-us-phones-small"), Limits(memory_bytes=400 * MEGABYTE))
    worker.start()
    yield worker
    worker.kill()


def refusal(worker, content=b""):
    with pytest.raises(Refusal) as caught:
        worker.run(JOB, content)
    return caught.value.status, caught.value.code


def test_memory_is_limited(worker):
    assert refusal(worker, SILENCE.getvalue()) == (413, "memory_limit")
    assert worker.is_alive
    assert refusal(worker) == (400, "unusable")


@pytest.mark.parametrize("size", [0, 1 << 22], ids=["", "more than fits on the way"])
def test_time_is_limited_and_a_worker_starts_again(size, worker, monkeypatch):
    folder = worker._folder.name
    monkeypatch.setattr(worker, "_limits", replace(worker._limits, work_seconds=0.1))
    os.kill(worker._process.pid, signal.SIGSTOP)
    assert refusal(worker, bytes(size)) == (504, "time_limit")
    assert not worker.is_alive
    assert not os.path.exists(folder)
    monkeypatch.undo()
    worker.start()
    assert refusal(worker) == (400, "unusable")


def test_a_model_that_is_not_there():
    with pytest.raises(ModelError, match="no-such-model"):
        Pool(Models("no-such-model"), Limits(workers=1)).start()


def test_models_that_take_too_long_to_load_are_given_up(monkeypatch):
    monkeypatch.setattr(workers, "START_SECONDS", 0.01)
    worker = Worker(Models("en-us-phones-small"), Limits())
    with pytest.raises(ModelError, match=r"do not load: too little memory, or longer than 0\.01 s"):
        worker.start()
    assert not worker.is_alive


def test_workers_are_ended_while_they_start(tmp_path, monkeypatch):
    """As by Ctrl-C, which their server would obey only when the models are loaded."""
    monkeypatch.setattr(workers.tempfile, "tempdir", str(tmp_path))
    pool = Pool(Models("en-us-phones-small"), Limits(workers=1))
    (worker,) = pool._workers

    def stop():
        wait_for(lambda: worker._process is not None, "no process starts")
        os.kill(worker._process.pid, signal.SIGSTOP)  # or it might be ready before
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        pool.start()
    signal.signal(signal.SIGINT, handler)
    thread.join()
    assert not worker.is_alive
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_is_ended_before_it_starts_does_not_stay(monkeypatch):
    worker = Worker(Models("en-us-phones-small"), Limits())
    monkeypatch.setattr(Worker, "_receive", lambda self, _: workers._ended() | {"exit": self._process.join()})
    worker.end()
    with pytest.raises(ModelError):
        worker.start()
    assert not worker.is_alive


def test_a_worker_ends_with_its_server(python):
    """It is loading models, and would fail afterwards to say so."""
    done = python(
        """
import os, signal, threading, time
from asr.serving.settings import Limits, Models
from asr.serving.workers import Worker

worker = Worker(Models("en-us-phones-small"), Limits())
threading.Thread(target=worker.start).start()
while worker._process is None:
    time.sleep(0.01)
time.sleep(0.5)
os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
