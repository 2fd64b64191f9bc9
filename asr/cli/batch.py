"""Many recordings, one after the other: the loop of `asr transcribe` and `asr align`.

A recording that fails is reported in one line and skipped. The exit code is 0 if all went well, 1 if some recordings
failed, and 2 if all failed. A result that cannot be written ends the loop.
"""

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.cli import recordings
from asr.cli.recordings import Recording
from asr.core.errors import AsrError, OutputError
from asr.core.files import write_text
from asr.core.terminal import track
from asr.recognition.annotation import Annotation
from asr.recognition.render import SUFFIXES, render

NAMELESS = ("tsv", "srt", "textgrid", "audacity")  # formats that do not say which recording they are of

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


def run(
    found: Sequence[Recording],
    faults: int,
    work: Callable[[Recording], Iterable[str]],
    title: str | None = None,
    named: bool = False,
    fault: str = "could not be read",
) -> int:
    """Print what `work` returns for each recording, and return the exit code.

    Parameters
    ----------
    found, faults
        From `find`.
    work
        Returns the text to print, whole or in parts.
    title
        Of the progress bar; None shows none.
    named
        Print the path of a recording before its text if there are several.
    fault
        What is said of recordings that failed.

    Raises
    ------
    OutputError
        A result cannot be written: no fault of the recording, and the next one would fail alike.
    """
    total = len(found) + faults
    for recording in found if title is None else track(found, title):
        try:
            parts = work(recording)
        except OutputError:
            raise
        except (AsrError, OSError) as error:
            faults += 1
            report(recording.path, error)
            continue
        show(f"{recording.path}: " if named and total > 1 else "")
        for part in parts:
            show(part)
    if faults and total > 1:
        print(f"asr: {faults} of {total} recordings {fault}", file=sys.stderr)
    return 0 if not faults else 1 if faults < total else 2


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
