"""Triton's interpreter, which runs kernels for GPUs on the processor; tests/conftest.py turns it on without a GPU."""

from triton import knobs
from triton.runtime import interpreter

_patch, _launch, _patched = interpreter._patch_lang_tensor, interpreter.GridExecutor.__call__, set()


def _patch_lang_tensor(tensor, scope):
    _patch(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())  # numpy 2.4 refuses int() of an array


def _launch_kernel(self, *args, **kwargs):
    _patched.clear()
    return _launch(self, *args, **kwargs)


def _call_function(self, *args, **kwargs):
    if self.fn.__module__ not in _patched:  # once in a launch, and not at each call, which takes half of the time
        _patched.add(self.fn.__module__)
        interpreter._patch_lang(self.fn)
    return self.rewrite()(*args, **kwargs)


if knobs.runtime.interpret:
    interpreter._patch_lang_tensor = _patch_lang_tensor
    interpreter.GridExecutor.__call__ = _launch_kernel
    interpreter.InterpretedFunction.__call__ = _call_function
