"""Kernels that are kept on disk."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import asr

HELPER = """
from asr.core.jit import helper, njit


@{}
def number():
    return {}
"""
CALLER = """
from asr.core.jit import njit
from helper import number


@njit(cache=True)
def twice():
    return 2 * number()


print(twice())
"""


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing is compiled")
@pytest.mark.parametrize("kind", ["njit(cache=True)", "helper()"])
def test_a_kept_kernel_notices_an_edit_of_another_file_whose_code_it_calls(tmp_path, kind):
    (tmp_path / "caller.py").write_text(CALLER)
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(tmp_path / "kept"),
        "PYTHONPATH": str(Path(asr.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for expected in (3, 3, 44):
        (tmp_path / "helper.py").write_text(HELPER.format(kind, expected))
        run = [sys.executable, "caller.py"]
        found = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
        assert found == f"{2 * expected}\n"
