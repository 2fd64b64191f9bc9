"""A note, when a kernel is compiled: the first use of a kernel takes seconds, and then Numba keeps it on disk."""

import logging

from numba.core import event

from asr.core import jit

log = logging.getLogger(__name__)


class _Announcer(event.Listener):
    """Logs a note at the first compilation of a kernel of this package in this process."""

    def __init__(self) -> None:
        self._is_silent = False

    def on_start(self, event: event.Event) -> None:
        """Log the note; kernels that Numba finds on disk cause no event."""
        if not self._is_silent and event.data["dispatcher"].py_func.__module__.startswith("asr."):
            self._is_silent = True
            if not jit.has_moved():  # or else what was said of it would be said twice, or be wrong
                log.info("compiling kernels, once: later starts find them on disk")

    def on_end(self, event: event.Event) -> None:
        """Say nothing."""


def announce() -> None:
    """Log a note when a kernel of this package is compiled, the first time in this process."""
    event.register("numba:compile", _Announcer())
