"""Processes without a home or a writable folder, what they leave behind and send, and how much they compile."""

import os
import shutil
import stat
import subprocess
import sys

import pytest

from tests.conftest import ROOT

KERNEL = """
import sys
from asr.core.jit import njit

@njit(cache=True)
def twice(x):
    return 2 * x

print(twice(21))
"""
TRANSCRIBE = """
import time
import numpy as np
from asr import Recogniser
Recogniser.from_pretrained("en-us-phones-small").transcribe(np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
time.sleep({seconds})
"""


@pytest.fixture(scope="module", autouse=True)
def traced(tmp_path_factory):
    """A process that transcribes and then waits, begun before the first test of this file, and what it sends.

    onnxruntime's telemetry, if it were on, would look up its host 8 s after the transcription.
    """
    if not shutil.which("strace"):
        yield None
        return
    home = tmp_path_factory.mktemp("home")
    trace = home / "trace"
    command = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg", "-o", trace, sys.executable, "-c"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(home)}
    code = TRANSCRIBE.format(seconds=15)
    with subprocess.Popen([*command, code], env=environment, stderr=subprocess.PIPE, text=True) as process:
        yield process, trace
        process.kill()


@pytest.fixture
def kernel_file(tmp_path):
    """A file with a kernel, in a folder where nothing can be written."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "kernel.py").write_text(KERNEL)
    (folder / "__pycache__").write_text("a file where Numba would make a folder")
    return folder / "kernel.py"


def run(file, temporary, **changes):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "NUMBA_CACHE_LOCATOR_CLASSES"):
        environment.pop(name, None)
    return subprocess.run(
        [sys.executable, file], env=environment | changes, capture_output=True, text=True, check=False, cwd=temporary
    )


def check_that_they_are_kept(done, temporary):
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    (folder,) = temporary.glob("asr-kernels-*")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert any(folder.rglob("*.nbc"))
    assert done.stderr.count("\n") == 1
    assert str(folder) in done.stderr


@pytest.mark.parametrize("named", [True, False])
def test_without_a_folder_for_kernels_they_are_kept_in_a_private_one(kernel_file, tmp_path, named):
    home, temporary = tmp_path / "file", tmp_path / "temporary"
    home.touch()
    temporary.mkdir()
    environment = {"NUMBA_CACHE_DIR": str(home / "below")} if named else {}
    check_that_they_are_kept(run(kernel_file, temporary, HOME=str(home), **environment), temporary)


def test_a_user_who_has_no_home_gets_no_folder_named_like_it(kernel_file, tmp_path):
    """Of a user whom the system does not know, `os.path.expanduser` leaves ``~`` as it is."""
    kernel_file.write_text("import os.path\nos.path.expanduser = lambda path: path\n" + KERNEL)
    check_that_they_are_kept(run(kernel_file, tmp_path), tmp_path)
    assert not (tmp_path / "~").exists()


def test_a_folder_that_others_may_write_is_not_trusted(kernel_file, tmp_path):
    (tmp_path / "file").write_text("")
    temporary = tmp_path / "temporary"
    folder = temporary / f"asr-kernels-{os.getuid()}"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    done = run(kernel_file, temporary, HOME=str(tmp_path / "file"))
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    assert "compiled in each process anew" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not any(folder.iterdir())


@pytest.mark.parametrize(("has_home", "line"), [(True, "compiling kernels, once"), (False, "no home for compiled ker")])
def test_one_line_tells_of_compiled_kernels(kernel_file, tmp_path, has_home, line):
    """Without a home two did, of which one said that later starts find the kernels on disk, which need not be so."""
    announced = "import logging\nlogging.basicConfig(level='INFO')\nfrom asr.core import compilation\n"
    kernel_file.write_text(f"{announced}compilation.announce()\n__name__ = 'asr.kernel'\n{KERNEL}")
    home = tmp_path / "home"
    home.mkdir() if has_home else home.touch()
    done = run(kernel_file, tmp_path, HOME=str(home))
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    assert done.stderr.count("\n") == 1
    assert line in done.stderr


def test_a_kernel_whose_folder_is_lost_runs(kernel_file, tmp_path):
    lose = (
        "import pathlib, shutil\nlost = pathlib.Path(twice.stats.cache_path)\nshutil.rmtree(lost)\nlost.touch()\nprint"
    )
    kernel_file.write_text(KERNEL.replace("print", lose))
    done = run(kernel_file, tmp_path, HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    assert "compiled kernels cannot be kept (Not a directory)" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_can_be_called(python):
    done = python("import sys; sys.argv = ['asr', '--version']; from asr.cli import main; main()")
    assert done.stdout.startswith("asr "), done.stderr


def test_a_transcription_leaves_nothing_in_the_home_and_telemetry_is_off(python, tmp_path):
    code = "import asr, os; print(os.environ['ORT_DISABLE_TELEMETRY'])\n" + TRANSCRIBE.format(seconds=0)
    done = python(code, cwd=tmp_path, HOME=str(tmp_path), XDG_CACHE_HOME="")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1\n"
    assert [path for path in tmp_path.rglob("*") if path.is_file() and "numba" not in path.parts] == []
    done = python("import asr, os; print(os.environ['ORT_DISABLE_TELEMETRY'])", ORT_DISABLE_TELEMETRY="0")
    assert done.stdout == "0\n"  # what the user has set stays


def test_a_first_transcription_compiles_each_kernel_once_and_no_text(python, tmp_path):
    """An array assigned to a part of another brings in the text of its error message: 2 s of compilation."""
    watch = """
from numba.core import event
compiled = []
class Listener(event.Listener):
    def on_start(self, event):
        function = event.data["dispatcher"].py_func
        compiled.append((function.__module__, function.__name__))
    def on_end(self, event):
        pass
event.register("numba:compile", Listener())
"""
    code = watch + TRANSCRIBE.format(seconds=0) + "for each in compiled: print(*each)"
    done = python(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    compiled = [line.split() for line in done.stdout.splitlines()]
    assert [each for each in compiled if each[0] == "numba.cpython.unicode"] == []
    ours = [tuple(each) for each in compiled if each[0].startswith("asr.")]
    assert 0 < len(ours) <= 31
    assert [each for each in set(ours) if ours.count(each) > 1] == []


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_nothing_is_sent_and_no_host_is_looked_up(traced):
    """Last in this file, which the process outlives."""
    process, trace = traced
    _, errors = process.communicate()
    if "ptrace" in errors:
        pytest.skip("strace may not trace here")
    assert process.returncode == 0, errors
    assert [line for line in trace.read_text().splitlines() if "AF_INET" in line or "sendto(" in line] == []
