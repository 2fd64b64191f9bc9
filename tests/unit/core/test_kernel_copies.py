"""Kernels as source: copies of helpers, since Numba's cache does not notice an edit elsewhere; and no text in them."""

import ast
import inspect

import numpy as np
import pytest

from asr.core.jit import njit
from asr.ctc import beam_kernels, loss_kernels
from asr.encoders import cell_kernels
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
        ("_logaddexp", (beam_kernels, lm_kernels)),
        ("_exp", (loss_kernels, cell_kernels)),
    ],
)
def test_copies_of_a_helper_are_alike(name, modules):
    first, *others = (code(module, name) for module in modules)
    assert all(other == first for other in others)


def test_a_kernel_that_brings_in_text_fails_the_test_that_compiles_it():
    def assign(target, values):
        target[:2] = values

    assign.__module__ = "asr.kernels"
    with pytest.raises(pytest.fail.Exception, match=r"asr\.kernels brings in the text"):
        njit()(assign)(np.zeros(3), np.ones(2))


def test_the_trees_of_both_searches_have_their_common_columns_in_the_same_places():
    """`make_room` clears both."""
    for name in ("PARENT", "CHILD", "SIBLING", "PLACE", "BORN", "SEEN"):
        assert getattr(lm_kernels, name) == getattr(beam_kernels, name)
    assert lm_kernels.ARC == beam_kernels.TOKEN
