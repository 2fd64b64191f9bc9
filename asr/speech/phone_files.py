"""Phone sets of one's own: files with a phone on each line.

A line is ``label``, ``label TAB ipa`` or ``label TAB ipa TAB scoring``. Without IPA the label is the IPA. The third
column has the label that errors are counted in, several with blanks between, or nothing for a label that is not
counted. A first line ``label TAB ipa TAB scoring`` names the columns; it may be left out.
"""

import functools
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from asr.core.errors import AsrError
from asr.core.files import write_text

COLUMNS = ("label", "ipa", "scoring")
NOT_LABELS = ("<blank>", "<unk>", "<s>")


@dataclass(frozen=True)
class PhoneTable:
    """The content of a file.

    Attributes
    ----------
    ipa
        The labels in order, each with its IPA.
    scoring
        What each label counts as; None if the file has no third column.
    """

    ipa: Mapping[str, str]
    scoring: Mapping[str, tuple[str, ...]] | None = None

    def scored(self) -> "PhoneTable":
        """Return the set in which errors are counted.

        >>> PhoneTable({"a": "a", "aː": "aː"}, {"a": ("a",), "aː": ("a",)}).scored().ipa
        {'a': 'a'}
        """
        if self.scoring is None:
            return self
        counted = dict.fromkeys(new for several in self.scoring.values() for new in several)
        return PhoneTable({label: self.ipa.get(label, label) for label in counted})


def read(path: str | Path) -> PhoneTable:
    """Read a phone set.

    Raises
    ------
    AsrError
        The file is missing, not UTF-8 or empty, or a line is not one phone; the message names the line.
    """
    path = Path(path)
    status = path.stat() if path.is_file() else None
    return _read(path, status and (status.st_mtime_ns, status.st_size))


@functools.lru_cache(maxsize=64)
def _read(path: Path, state: tuple[int, int] | None) -> PhoneTable:
    try:
        text = unicodedata.normalize("NFC", path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise AsrError(f"{path}, line {number} is not UTF-8: save the file as UTF-8") from error
    except OSError as error:
        raise AsrError(f"cannot read the phones in {path}: {error.strerror}: check the path") from error
    ipa, scoring, lines = dict[str, str](), dict[str, tuple[str, ...]](), dict[str, int]()
    for number, line in enumerate(text.split("\n"), 1):
        fields = [field.strip() for field in line.split("\t")]
        if not line.strip() or (not ipa and tuple(fields) == COLUMNS[: len(fields)]):
            continue
        label = _checked(fields, f"{path}, line {number}")
        if label in lines:
            raise AsrError(f"{path}, line {number}: {label!r} stands in line {lines[label]}, too: leave one of them")
        lines[label] = number
        ipa[label] = (fields[1] if len(fields) > 1 else "") or label
        if len(fields) == len(COLUMNS):
            scoring[label] = tuple(fields[2].split())
    if not ipa:
        raise AsrError(f"{path} has no phones: write one on each line")
    lacking = next((label for label in ipa if label not in scoring), None)
    if scoring and lacking is not None:
        raise AsrError(f"{path}, line {lines[lacking]}: {lacking!r} has no third column, and other lines have one")
    return PhoneTable(ipa, scoring or None)


def _checked(fields: list[str], place: str) -> str:
    """Return the label of a line."""
    label = fields[0]
    if len(fields) > len(COLUMNS):
        raise AsrError(f"{place} has {len(fields)} columns: write {' TAB '.join(COLUMNS)}")
    if not label or label.split() != [label]:
        raise AsrError(f"{place}: {label!r} is not one phone: write one on each line, and a tab before its IPA")
    if label in NOT_LABELS:
        raise AsrError(f"{place}: {label!r} is no phone: take the line out")
    return label


def write(path: Path, table: PhoneTable) -> None:
    """Write a file that `read` reads."""
    scoring = table.scoring
    names = COLUMNS if scoring is not None else COLUMNS[:2]
    rows = [names, *((each, table.ipa[each], *([" ".join(scoring[each])] if scoring else [])) for each in table.ipa)]
    write_text(path, "".join("\t".join(row) + "\n" for row in rows))


def of_labels(labels: Iterable[str]) -> PhoneTable:
    """Return a set whose labels are IPA, sorted.

    >>> list(of_labels(["t", "a", "t"]).ipa.items())
    [('a', 'a'), ('t', 't')]
    """
    return PhoneTable({label: label for label in sorted({*labels})})
