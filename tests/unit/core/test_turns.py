"""Processes take turns: none is in the block beside another, and none that is killed keeps the others out."""

import os
import subprocess
import sys
import threading
import time

import pytest

from asr.core.turns import turn
from tests.conftest import ROOT

COUNT = """
import sys, time
from pathlib import Path
from asr.core.turns import turn
counter = Path(sys.argv[1])
for _ in range(20):
    with turn(counter):
        number = int(counter.read_text())
        time.sleep(0.001)
        counter.write_text(str(number + 1))
"""
HOLD = """
import sys, time
from pathlib import Path
from asr.core.turns import turn
with turn(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def start(code, path, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code, path], env=environment, **options)


def test_no_count_is_lost(tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")
    processes = [start(COUNT, counter) for _ in range(4)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
    assert counter.read_text() == "80"
    assert list(tmp_path.iterdir()) == [counter]


def test_a_process_that_is_killed_keeps_nobody_out(tmp_path):
    process = start(HOLD, tmp_path / "a", stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"

    def taken():
        raise TimeoutError  # an OSError

    with pytest.raises(RuntimeError), turn(tmp_path / "a", lambda: (_ for _ in ()).throw(RuntimeError("taken"))):
        pass
    process.kill()
    process.communicate()
    with turn(tmp_path / "a", taken):
        assert (tmp_path / ".a.lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_threads_take_turns_too(tmp_path):
    inside, most = [], []

    def work():
        with turn(tmp_path / "a"):
            inside.append(1)
            time.sleep(0.02)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5


def test_where_nothing_can_be_locked_nobody_waits(tmp_path):
    (tmp_path / "file").touch()
    with turn(tmp_path / "file" / "below" / "a"), turn(tmp_path / "file" / "below" / "a"):
        pass


def test_what_fails_in_the_block_is_raised(tmp_path):
    with pytest.raises(OSError, match="full"), turn(tmp_path / "a"):
        raise OSError("full")
    assert list(tmp_path.iterdir()) == []
