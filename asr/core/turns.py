"""Turns: of several processes that would write the same files, one does it while the others wait."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows nobody waits
    fcntl = None  # type: ignore[assignment]


@contextmanager
def turn(path: Path, when_taken: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Let one process at a time into the block.

    A file ``.NAME.lock`` beside `path` is locked as long as a process is in the block. The system takes the lock back
    when the process ends, however it ends. Where a file cannot be locked (a folder that cannot be written, some network
    drives), nobody waits.

    Parameters
    ----------
    path
        What the block writes.
    when_taken
        Called before waiting, if another process has the turn. It may log why this one waits, or raise an error.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with turn(path):
    ...     print([each.name for each in path.parent.iterdir()])
    ['.a.txt.lock']
    >>> list(path.parent.iterdir())
    []
    """
    lock = path.with_name(f".{path.name}.lock")
    descriptor = _locked(lock, when_taken)
    try:
        yield
    finally:
        if descriptor is not None:
            lock.unlink(missing_ok=True)
            os.close(descriptor)


def _locked(lock: Path, when_taken: Callable[[], object]) -> int | None:
    """Return the descriptor of a file when it is locked, or None where it cannot be."""
    with suppress(OSError):
        lock.parent.mkdir(parents=True, exist_ok=True)
        while fcntl is not None:
            with ExitStack() as unless_locked:
                descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
                unless_locked.callback(os.close, descriptor)
                _wait(descriptor, when_taken)
                if _is_there(descriptor, lock):
                    unless_locked.pop_all()
                    return descriptor
    return None


def _wait(descriptor: int, when_taken: Callable[[], object]) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        when_taken()
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_there(descriptor: int, lock: Path) -> bool:
    """Tell whether an open file still has its name: the process that had the turn before deletes its own."""
    try:
        return os.path.samestat(os.fstat(descriptor), lock.stat())
    except FileNotFoundError:
        return False
