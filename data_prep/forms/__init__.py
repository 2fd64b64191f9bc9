"""The forms in which people keep speech and its text: one module each, which reads a form into `Record`.

A module has `LOOKS_FOR`, what the form is recognised by; `is_here`, which tells whether that is at a place; and `read`,
which yields the records. `FORMS` has the modules in the order in which they are asked.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from asr.core.errors import AsrError, CorpusError
from data_prep.forms import audio_folder, common_voice, kaldi, labelled_folder, lhotse_manifests, ljspeech, table
from data_prep.forms.record import Record


@dataclass(frozen=True)
class Form:
    """A form of data.

    Attributes
    ----------
    name
        What it is called in messages.
    module
        Recognises and reads it.
    """

    name: str
    module: ModuleType

    def read(self, folder: Path) -> Iterator[Record]:
        """Yield the records of what lies at a place.

        Raises
        ------
        CorpusError
            A file is malformed; the message names it and, where it has lines, the line.
        """
        try:
            yield from self.module.read(folder)
        except CorpusError:
            raise
        except AsrError as error:
            raise CorpusError(str(error)) from error


FORMS = (
    Form("a data directory of Kaldi", kaldi),
    Form("manifests of Lhotse", lhotse_manifests),
    Form("Common Voice", common_voice),
    Form("an audio folder of Hugging Face", audio_folder),
    Form("the layout of LJ Speech", ljspeech),
    Form("a table", table),
    Form("a folder of recordings with labels", labelled_folder),
)


def form_of(place: Path) -> tuple[Form, Path]:
    """Return the form of what lies at a place, and the place itself or, if that holds one folder only, that folder.

    Raises
    ------
    CorpusError
        Nothing is there, or none of the forms.
    """
    if not place.exists():
        raise CorpusError(f"no file or folder {place}: check the path")
    for form in FORMS:
        if form.module.is_here(place):
            return form, place
    inside = sorted(place.iterdir()) if place.is_dir() else []
    if len(inside) == 1 and inside[0].is_dir():  # as archives are unpacked
        return form_of(inside[0])
    looked_for = "; ".join(form.module.LOOKS_FOR for form in FORMS)
    raise CorpusError(f"{place} has no form of speech data that is known, for it has none of these: {looked_for}")
