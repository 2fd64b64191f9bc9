"""Formats of label files: known from the suffix, or else from what all lines have in common.

A line of plain text looks like one of Kaldi's whose utterance has the name of its first label. It is taken for plain
text where all first labels are phones of the set that the others are in; of words nobody can tell, and one line is
taken for plain text, several are refused.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from asr.core.errors import AsrError
from asr.speech.label_spellings import recognise

SUFFIXES = {f".{name}": name for name in ("trn", "ctm", "textgrid", "phn", "json", "tsv")} | {
    ".wrd": "phn",
    ".jsonl": "json",
    ".labels.txt": "audacity",
}
# What a folder is looked through for, one format at a time.
IN_FOLDERS: Mapping[str, Sequence[str]] = {
    "textgrid": (".textgrid",),
    "phn": (".phn",),
    "json": (".json", ".jsonl"),
    "tsv": (".tsv",),
    "ctm": (".ctm",),
    "audacity": (".labels.txt",),
    "text": (".txt", ".lab"),
}
TSV_HEAD = ["start", "end", "label"]
_NUMBER = r"-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_TEXTGRID_NUMBER = re.compile(r"\s*(?:xmin|xmax|time|number|(?:intervals: |points: )?size)\s*=\s*(.*?)\s*")
_LINES = {  # what each line of a format looks like
    "trn": re.compile(r".*\([^()\s]+\)\s*$"),
    "audacity": re.compile(rf"(?:{_NUMBER}\t{_NUMBER}\t.*|\\\t.*)$"),
    "ctm": re.compile(rf"\S+\s+\S+\s+{_NUMBER}\s+{_NUMBER}\s+\S+(?:\s+{_NUMBER})?\s*$"),
    "text": re.compile(r"(?:-|\S.*?\.\w+|.*/.*?):(?:\s|$)"),
}


def fault_of_textgrid(path: Path) -> str:
    """Return which line of a TextGrid cannot be read, and why; nothing if each line is as Praat writes it."""
    data = path.read_bytes()
    is_wide = data.startswith((b"\xfe\xff", b"\xff\xfe"))
    lines = data.decode("utf-16" if is_wide else "utf-8-sig", "replace").rstrip().splitlines() or [""]
    if "ooTextFile" not in lines[0]:
        return ", line 1: it does not begin with 'File type = \"ooTextFile\"'"
    for number, line in enumerate(lines, 1):
        if "\N{REPLACEMENT CHARACTER}" in line:
            return f", line {number} is neither UTF-8 nor UTF-16"
        if (found := _TEXTGRID_NUMBER.fullmatch(line)) and not re.fullmatch(_NUMBER, found[1]):
            return f", line {number}: {line.strip()!r} has no number"
    return "" if lines[-1].endswith(('"', "= 0")) else f", line {len(lines)}: the file ends within an interval"


def format_of(path: Path) -> str:
    """Return the format of a label file, or of the files in a folder.

    Raises
    ------
    AsrError
        The file is missing, the folder holds labels in several formats or none, or the lines may be read in two ways.

    Examples
    --------
    >>> format_of(Path("a.trn")), format_of(Path("b.tsv"))
    ('trn', 'tsv')
    """
    return _format_in(path) if path.is_dir() else format_of_suffix(path) or _format_of_lines(path)


def format_of_suffix(path: Path) -> str | None:
    """Return the format that a file's suffix stands for; None if it stands for none.

    >>> format_of_suffix(Path("a.labels.txt")), format_of_suffix(Path("a.txt"))
    ('audacity', None)
    """
    fitting = [suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)]
    return SUFFIXES[fitting[0]] if fitting else None


def files_in(folder: Path, file_format: str) -> dict[str, Path]:
    """Return the files of a format in a folder, at any depth, by the names of their utterances.

    An utterance is called like its file without the suffix; if two files are called alike, by the paths in the folder.

    Raises
    ------
    AsrError
        Two files would name one utterance.
    """
    names = {}
    for path in sorted(folder.rglob("*")):
        if _format_in_folder(path) == file_format and path.is_file():
            suffix = next(each for each in IN_FOLDERS[file_format] if path.name.lower().endswith(each))
            names[path] = unicodedata.normalize("NFC", path.relative_to(folder).as_posix()[: -len(suffix)])
    stems = [name.rpartition("/")[2] for name in names.values()]
    if len(set(stems)) == len(stems):
        return dict(zip(stems, names, strict=True))
    if len(set(names.values())) < len(names):
        twice = next(name for name in names.values() if list(names.values()).count(name) > 1)
        raise AsrError(f"{folder}: two files are called {twice!r} but for their suffix: leave one of them")
    return {name: path for path, name in names.items()}


def _format_in_folder(path: Path) -> str | None:
    return next((name for name, ends in IN_FOLDERS.items() if path.name.lower().endswith(tuple(ends))), None)


def _format_in(folder: Path) -> str:
    found = {_format_in_folder(path) for path in folder.rglob("*") if path.is_file()} - {None}
    if not found:
        suffixes = [suffix for suffixes in IN_FOLDERS.values() for suffix in suffixes]
        raise AsrError(f"no label files in {folder}: they would end in {', '.join(suffixes)}")
    if "textgrid" in found:
        return "textgrid"  # beside which the text lies that was aligned
    if len(found) > 1:
        raise AsrError(f"{folder} holds {', '.join(sorted(filter(None, found)))}: choose one of them with --format")
    return str(found.pop())


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number, counted from 1, and the text of each line that is neither blank nor a comment of a CTM.

    Raises
    ------
    AsrError
        The file is missing, a folder, or not text.
    """
    if path.is_dir():
        raise AsrError(f"{path} is a folder: of this format one file is read, with all utterances")
    try:
        text = unicodedata.normalize("NFC", path.read_text(encoding="utf-8-sig"))  # a label in two forms is one
    except FileNotFoundError as error:
        raise AsrError(f"no file {path}: check the path") from error
    except UnicodeDecodeError as error:
        raise AsrError(f"{path} is not text in UTF-8 (byte {error.start}): convert it, or check the path") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.startswith(";;"):
            yield number, line


def _format_of_lines(path: Path) -> str:
    lines = [line for _, line in lines_of(path)]
    if lines and lines[0].rstrip("\r").split("\t")[:3] == TSV_HEAD:
        return "tsv"
    if lines and all(map(_is_json, lines)):
        return "json"
    if any(re.match(r"\d\d:\d\d:\d\d[,.]\d+ --> ", line) for line in lines):
        raise AsrError(f"{path} holds subtitles, which no labels are read from: write them as text, JSON or CTM")
    for name, pattern in _LINES.items():
        if lines and all(pattern.match(line) for line in lines):
            return name
    return "plain" if _is_plain(path, [line.split() for line in lines]) else "kaldi"


def _is_json(line: str) -> bool:
    try:
        return line.startswith("{") and "phones" in json.loads(line)
    except ValueError:
        return False


def _is_plain(path: Path, rows: Sequence[Sequence[str]]) -> bool:
    """Tell plain text from Kaldi's, whose lines begin with a name."""
    firsts, others = [row[0] for row in rows], [row[1:] for row in rows]
    spelling = recognise(others) or recognise([firsts])
    if spelling is not None:
        ours = recognise([firsts], [spelling.phone_set])
        return ours is not None and ours.share == 1 and ours.name == spelling.name
    if not any(others) or not all(re.fullmatch(r"[^\W\d_]+(?:['’][^\W\d_]+)*", first) for first in firsts):
        return False
    if all(len(first) == 1 and first.lower() not in "aio" for first in firsts):
        return False
    if len(rows) > 1:
        raise AsrError(
            f"{path}: the first line begins with {firsts[0]!r}, which may be the utterance's name or its first word: "
            "give --format kaldi or --format plain"
        )
    return True
