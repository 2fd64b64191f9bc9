"""Helpers that several files of kernels have a copy of, since Numba's cache does not notice an edit elsewhere."""

import ast
import inspect

import pytest

from asr.ctc import beam_kernels, loss_kernels
from asr.encoders import cell_kernels
from asr.hmm import inference_kernels
from asr.lm import kernels as lm_kernels


def code(module, name):
    """The statements of a function, without its docstring."""
    (found,) = (
        node
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.FunctionDef) and node.name == name
    )
    return ast.unparse(found.args), [ast.unparse(each) for each in found.body[1:]]


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("_logaddexp", (loss_kernels, inference_kernels)),
        ("_logaddexp", (beam_kernels, lm_kernels)),  # with a shortcut for the searches
        ("_exp", (loss_kernels, cell_kernels)),
    ],
)
def test_copies_of_a_helper_are_alike(name, modules):
    first, *others = (code(module, name) for module in modules)
    assert all(other == first for other in others)
