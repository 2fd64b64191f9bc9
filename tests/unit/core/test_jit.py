"""Kernels that are kept on disk."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import asr

FUNCTION = """
from asr.core.jit import helper, njit


@{}
def number():
    return NUMBER
"""
INTRINSIC = """
from numba import types
from numba.extending import intrinsic


@intrinsic
def number(typing):
    def generate(context, builder, signature, arguments):
        return context.get_constant(types.intp, NUMBER)

    return types.intp(), generate
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
@pytest.mark.parametrize("code", [FUNCTION.format("njit(cache=True)"), FUNCTION.format("helper()"), INTRINSIC])
def test_a_kept_kernel_notices_an_edit_of_another_file_whose_code_it_calls(tmp_path, code):
    (tmp_path / "caller.py").write_text(CALLER)
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(tmp_path / "kept"),
        "PYTHONPATH": str(Path(asr.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for expected in (3, 3, 44):
        (tmp_path / "helper.py").write_text(code.replace("NUMBER", str(expected)))
        run = [sys.executable, "caller.py"]
        found = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
        assert found == f"{2 * expected}\n"
