"""Triton compiles the losses for a GPU, which needs none: its interpreter takes more than its compiler does."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytest.importorskip("triton")
pytestmark = pytest.mark.slow  # a minute or two of ptxas

# Losses of a batch of which each launch compiles its kernel for an H100 in place of running it.
CODE = """
import sys
import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from asr.ctc import Denominator, TokenModel, crf_loss, ctc_loss, gpu

TYPES = {torch.float32: "*fp32", torch.float64: "*fp64", torch.int32: "*i32", torch.int64: "*i64"}

def compile_for_gpu(kernel, *args, grid, warmup, num_warps, **named):
    signature, constants = {}, {}
    args += tuple(named[parameter.name] for parameter in kernel.params[len(args):])
    for parameter, value in zip(kernel.params, args, strict=True):
        if parameter.is_constexpr:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        else:
            signature[parameter.name] = TYPES[value.dtype] if isinstance(value, torch.Tensor) else "i32"
    options = {"num_warps": num_warps}
    made = triton.compile(ASTSource(kernel, signature, constants), GPUTarget("cuda", 90, 32), options)
    code = made.asm["ptx"]
    # What threads hand over by way of memory must not come from a cache that does not see it.
    print(kernel.module, kernel.__name__, len(made.asm["cubin"]) > 0, "ld.global.nc" in code, "atom." in code)

triton.JITFunction.run, gpu.serves = compile_for_gpu, lambda tensor: True
kind = getattr(torch, sys.argv[1])
args = torch.tensor([[1, 1]]), torch.tensor([3]), torch.tensor([2])
scores = np.log(np.random.default_rng(0).dirichlet(np.ones(4), 4))
denominator = Denominator.of(TokenModel(scores, np.tile(np.arange(4), (4, 1)), scores[:, 0]))
for loss in (ctc_loss, lambda *args: crf_loss(*args, denominator)):
    logits = torch.randn(3, 1, 4, dtype=kind, requires_grad=True)
    loss(logits, *args).sum().backward()
"""


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_kernels_compile(kind, tmp_path):
    changes = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CODE, kind]
    done = subprocess.run(command, env=os.environ | changes, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {line.removeprefix("asr.ctc.") for line in done.stdout.splitlines()}
    names = ["gpu_loss_kernels emit", "gpu_loss_kernels walk", "gpu_loss_kernels write_gradient"]
    names += ["gpu_crf_kernels walk", "gpu_crf_kernels write_gradient"]
    assert found == {f"{name} True False False" for name in names}
