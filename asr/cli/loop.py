"""Many recordings, one after the other or in several processes: the loop of `asr transcribe` and `asr align`.

A recording that fails is reported in one line and skipped. The exit code is 0 if all went well, 1 if some recordings
failed, and 2 if all failed. A result that cannot be written ends the loop.
"""

import itertools
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from asr.cli import recordings
from asr.cli.recordings import Recording
from asr.core.errors import AsrError, OutputError
from asr.core.files import write_text
from asr.core.terminal import track
from asr.core.workers import processes
from asr.recognition.annotation import Annotation
from asr.recognition.render import SUFFIXES, render

# Formats that do not say which recording they are of.
NAMELESS = ("tsv", "srt", "vtt", "textgrid", "audacity", "eaf", "lab")
MOST_NAMED = 30  # words in a line
GROUP, SHARES = 32, 4  # recordings that a process has at once, at most, and groups for each process, at least

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Output:
    """The form in which results are written, and the place.

    Attributes
    ----------
    form
        One of `asr.recognition.render.SUFFIXES`.
    folder
        Where each recording gets a file; None for standard output.
    words
        Write words instead of phones, where the form has room for one of them.
    """

    form: str
    folder: Path | None
    words: bool = False

    def check(self, count: int) -> None:
        """Raise AsrError if several recordings would be printed in a form in which nothing tells them apart."""
        if self.folder is None and count > 1 and self.form in NAMELESS:
            raise AsrError(
                f"--format {self.form} does not name the recording, and there are {count}: give --output-dir, or "
                "--format json or ctm"
            )

    def make_folder(self) -> None:
        """Make the folder, or raise OutputError."""
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {self.folder}: {error.strerror}: name another one") from error

    def write(self, recording: Recording, annotation: Annotation) -> str:
        """Write what was found in a recording to its file, or return it to be printed."""
        name = str(recording.path) if self.form == "json" else recording.utterance
        text = render(annotation, self.form, name, self.words)
        if self.folder is None:
            return text
        write_text(self.folder / (recording.name + SUFFIXES[self.form]), text)
        return ""


def find(names: Iterable[str]) -> tuple[list[Recording], int]:
    """Return the recordings that names mean, and how many names mean none; each of those is reported."""
    found, faults = list[tuple[Path, Path]](), 0
    for name in names:
        try:
            found += recordings.find(name).items()
        except (AsrError, OSError) as error:
            faults += 1
            report(Path(name), error)
    return recordings.named(found), faults


def each(
    found: Iterable[Recording], faults: int, parts: Callable[[Recording], list[Recording]]
) -> tuple[list[Recording], int]:
    """Return the parts of recordings, and the number of faults with that of those that have none; each is reported."""
    every = list[Recording]()
    for recording in found:
        try:
            every += parts(recording)
        except AsrError as error:
            faults += 1
            report(recording.path, error)
    return every, faults


def run(
    found: Sequence[Recording],
    faults: int,
    work: Callable[[Sequence[Recording]], Iterable[T | Exception]],
    title: str | None = None,
    named: bool = False,
    fault: str = "could not be read",
    *,
    jobs: int = 1,
    finish: Callable[[Recording, T], Iterable[str]] | None = None,
) -> int:
    """Print what `work` yields for each recording, and return the exit code.

    Parameters
    ----------
    found, faults
        From `find`.
    work
        Yields for each of some recordings the text to print, whole or in parts, or with `finish` something to make it
        of; or what is wrong with it. `one_by_one` makes it of a function of one recording. With several jobs it and
        what it yields are pickled.
    title
        Of the progress bar; None shows none.
    named
        Print the path of a recording before its text if there are several.
    fault
        What is said of recordings that failed.
    jobs
        The number of processes. The results are printed in the order of the recordings.
    finish
        Returns the text to print, in this process.

    Raises
    ------
    OutputError
        A result cannot be written: no fault of the recording, and the next one would fail alike.
    """
    total = len(found) + faults
    results = work(found) if jobs == 1 or not found else _results_of_jobs(found, work, jobs)
    for recording, result in zip(found if title is None else track(found, title), results, strict=True):
        if isinstance(result, OutputError):
            raise result
        if isinstance(result, Exception):
            faults += 1
            report(recording.path, result)
            continue
        show(f"{recording.path}: " if named and total > 1 else "")
        for part in finish(recording, result) if finish else result:  # type: ignore[union-attr]
            show(part)
    if faults and total > 1:
        print(f"asr: {faults} of {total} recordings {fault}", file=sys.stderr)
    return 0 if not faults else 1 if faults < total else 2


def one_by_one(work: Callable[[Recording], T]) -> Callable[[Sequence[Recording]], Iterator[T | Exception]]:
    """Return a function of several recordings for `run` from one of a single recording."""
    return lambda found: (attempt(partial(work, recording)) for recording in found)


def attempt(call: Callable[[], T]) -> T | AsrError | OSError:
    """Return the result of a call, or what it raises that is a fault of a recording."""
    try:
        return call()
    except (AsrError, OSError) as error:
        return error


def _results_of_jobs(
    found: Sequence[Recording], work: Callable[[Sequence[Recording]], Iterable[T | Exception]], jobs: int
) -> Iterator[T | Exception]:
    """Yield what `work` does in several processes, each of which keeps to one thread."""
    size = min(GROUP, -(-len(found) // (SHARES * jobs)))
    groups = [found[first : first + size] for first in range(0, len(found), size)]
    with processes(min(jobs, len(groups)), _prepare, work) as pool:
        try:
            yield from itertools.chain.from_iterable(pool.map(_work, groups))
        except BrokenProcessPool as error:
            raise AsrError("a process was killed, perhaps for want of memory: take fewer --jobs") from error
        except BaseException:  # what is being done is not waited for
            for process in list(pool._processes.values()):
                process.terminate()
            raise


def _prepare(work: Callable[[Sequence[Recording]], Iterable[Any]]) -> None:
    global _job
    _job = work


def _work(group: Sequence[Recording]) -> list[Any]:
    return list(_job(group))


_job: Callable[[Sequence[Recording]], Iterable[Any]]


def show(text: str) -> None:
    """Write a part of the results to standard output at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def report(path: Path, error: Exception) -> None:
    """Print a recording's fault as one line on standard error."""
    remark(path, error.strerror if isinstance(error, OSError) and error.strerror else str(error))
    log.debug("where it failed", exc_info=error)


def remark(path: Path, reason: str) -> None:
    """Print what is to be said of a recording as one line on standard error."""
    name = "standard input" if path == recordings.STDIN else str(path)
    print(f"asr: {reason if name in reason else f'{name}: {reason}'}", file=sys.stderr, flush=True)


def shortened(words: Sequence[str]) -> str:
    """Return words with commas between, the first ones if there are many.

    >>> shortened(["snark"] * 32)[-24:]
    'snark, snark, and 2 more'
    """
    more = len(words) - MOST_NAMED
    return ", ".join([*words[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])
