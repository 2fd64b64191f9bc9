"""What the files of an output folder were made from, so that a batch can go on where it stopped.

The file ``.made-from`` in the folder has a line for each result: a hash of everything that it was made from, its name
and its summary. A result is done if the file is there and its last line has the same hash. Before a result is
written, a line without a hash takes the old one's place, so that a batch that is killed in between leaves nothing that
looks done.
Lines are appended whole, so that several processes can share the file, and each begins with a line break, so that one
that was cut off spoils no other.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from asr.core.errors import OutputError

FILE = ".made-from"
UNDONE = "-"


class Entry(NamedTuple):
    """A result: the hash of what it was made from, and its summary."""

    made_from: str
    summary: dict[str, Any]


def read(folder: Path) -> dict[str, Entry]:
    """Return the results in a folder by their names; lines that are cut off or damaged are none."""
    path, found = folder / FILE, dict[str, Entry]()
    if not path.is_file():
        return found
    for line in path.read_text(encoding="utf8", errors="surrogateescape").splitlines():
        try:
            made_from, name, summary = line.split("\t", 2)
            found[name] = Entry(made_from, json.loads(summary))
        except ValueError:
            continue
    return {name: entry for name, entry in found.items() if entry.made_from != UNDONE}


def note(folder: Path, name: str, entry: Entry) -> None:
    """Append a line.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    line = f"\n{entry.made_from}\t{name}\t{json.dumps(entry.summary, ensure_ascii=False)}"
    try:
        with (folder / FILE).open("a", encoding="utf8", errors="surrogateescape") as file:
            file.write(line)
    except OSError as error:
        raise OutputError(f"cannot write {folder / FILE}: {error.strerror}: name another folder") from error


def forget(folder: Path, name: str) -> None:
    """Note that a result is about to be made anew; errors are those of `note`."""
    note(folder, name, Entry(UNDONE, {}))
