"""Triton's interpreter, which runs kernels for GPUs on the processor. To be imported before the kernels are."""

import os

os.environ["TRITON_INTERPRET"] = "1"

from triton.runtime import interpreter

_patch = interpreter._patch_lang_tensor


def _patched(tensor, scope):
    _patch(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())  # numpy 2.4 refuses int() of an array


interpreter._patch_lang_tensor = _patched
