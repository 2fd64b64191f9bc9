"""The layout of the LJ Speech Dataset: ``wavs`` beside ``metadata.csv``, whose lines are ``NAME|text|text in full``.

The last column, in which numbers and abbreviations are written out, is what is read. One voice speaks.
K. Ito and L. Johnson, "The LJ Speech Dataset", 2017. https://keithito.com/LJ-Speech-Dataset
"""

from collections.abc import Iterator
from pathlib import Path

from asr.core.errors import CorpusError
from data_prep.forms.record import Record, lines_of

LOOKS_FOR = "wavs beside a metadata.csv with bars between its columns"
_LIST = "metadata.csv"


def is_here(place: Path) -> bool:
    """Tell whether a folder has the layout."""
    return (place / "wavs").is_dir() and (place / _LIST).is_file()


def read(place: Path) -> Iterator[Record]:
    """Yield the utterances.

    Raises
    ------
    CorpusError
        A line has no name or no text, or other columns.
    """
    path = place / _LIST
    for number, line in lines_of(path):
        name, *texts = (field.strip() for field in line.split("|"))
        if not name or len(texts) not in (1, 2) or not texts[-1]:
            raise CorpusError(f"{path}, line {number}: {line.strip()!r} is not 'NAME|text|text in full': mend the line")
        files = [place / "wavs" / f"{name}{suffix}" for suffix in (".wav", ".flac", "")]
        audio = next((each for each in files if each.is_file()), files[0])
        yield Record(f"{path}, line {number}", audio, texts[-1], speaker=place.name, id=name)
