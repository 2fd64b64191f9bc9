"""A corpus of one's own, in any form of `data_prep.forms`: what its files do not say is found or made, and said.

========== ==========================================================================================================
lacking    what is done
========== ==========================================================================================================
speakers   are the folders that the recordings lie in, below those of splits; in one folder there is one speaker
splits     a tenth of the speakers is held out for test and a tenth for dev, at least one each, but not one who says
           most of it; of two speakers one for dev; of one speaker a tenth of the recordings, and with fewer than three
           recordings of the utterances
dev        a tenth of the training speakers
names      are the recordings' without suffix, or their paths where two would be called alike, with the times of a part
phones     are those of the words (`asr.speech.transcription`); an utterance with a word that has none is left out
durations  are read
========== ==========================================================================================================

Phones may be spelled in all ways that `asr.speech.label_spellings` knows; they become ARPAbet's 39, and silences go.
Where labels are one's own, phones stay as they are but for stress, and ``phones.tsv`` beside the manifests lists them.

A corpus may be larger than the memory: records and utterances are in temporary files (`data_prep.stored`), and what
must be known of all of them takes some tens of bytes each.

    form.read ─▶ Record ─ Survey ─▶ file of records ─ Speller ─▶ file of Utterances ─ splits ─▶ write_manifests
"""

import itertools
import logging
import os
import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from asr.core import files
from asr.core.errors import CorpusError
from asr.core.terminal import count
from asr.speech import phone_files
from asr.speech.label_folder import LABELS
from asr.speech.transcription import Transcription
from data_prep import OUTSIDE, forms
from data_prep.forms.record import Record
from data_prep.manifests import COPIES, Utterance, write_manifests
from data_prep.own import splits
from data_prep.own.labels import Speller
from data_prep.own.survey import Columns, Survey
from data_prep.stored import Stored

ENGLISH = Transcription()
SHOWN = 10  # labels in a message
_DASHES = re.compile(r"(?<=\w)(?:--+|[—–…])(?=\w)")  # between two words
_BEGINNINGS = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg"}

log = logging.getLogger(__name__)


def prepare(place: Path, output_dir: Path, seed: int = 0, said: Transcription = ENGLISH) -> None:
    """Write the manifests of a corpus.

    Parameters
    ----------
    place : Path
        A file or folder in one of the forms.
    output_dir : Path
        Receives ``recordings_SPLIT.jsonl.gz`` and ``supervisions_SPLIT.jsonl.gz`` of train, dev and, if there is one,
        test.
    seed : int
        Of the choice of speakers for splits that the corpus lacks.
    said : Transcription
        How texts become labels.

    Raises
    ------
    CorpusError
        No form is recognised, a file is malformed, or nothing is left to train on.
    """
    unpacked = Path(output_dir).absolute() / COPIES / "unpacked"
    place = Path(place).resolve()
    found = read(place, unpacked, seed, said)
    write_manifests(found, Path(output_dir))
    _note_outside(place, itertools.chain.from_iterable(found.values()), Path(output_dir))
    if said.in_arpabet:
        (Path(output_dir) / LABELS).unlink(missing_ok=True)
    else:
        used = {
            split: {label for one in each for word in one.phones for label in word} for split, each in found.items()
        }
        phone_files.write(Path(output_dir) / LABELS, phone_files.of_labels(set[str]().union(*used.values())))
        new = sorted(set[str]().union(*used.values()) - used["train"])
        if new:
            few = ", ".join(new[:SHOWN]) + (", …" if len(new) > SHOWN else "")
            log.warning("%s: train lacks labels that dev or test have, and that it cannot teach: %s", place, few)


def read(place: Path, unpacked: Path, seed: int = 0, said: Transcription = ENGLISH) -> Mapping[str, Stored[Utterance]]:
    """Return the utterances of each split. Those without phones are among them, and `write_manifests` leaves them out.

    Parameters
    ----------
    place
        A file or folder in one of the forms.
    unpacked
        Receives recordings that are in no file of their own.
    seed, said
        As for `prepare`.

    Raises
    ------
    CorpusError
        As `prepare`.
    """
    form, root = forms.form_of(place)
    survey = Survey(root if root.is_dir() else root.parent, said)
    records = Stored(survey.noting(map(_tidy, _in_files(form.read(root), unpacked))))
    if not records:
        raise CorpusError(f"{place}, {form.name}, has no utterances: check that the recordings are there")
    log.info("%s: %s, %s", place, form.name, count(len(records), "utterance"))
    speller, columns = Speller(said, survey), Columns()
    utterances = Stored(columns.noting(_utterances(records, survey, speller)))
    columns.check(records, utterances)
    survey.tell_speakers(columns.num_speakers)
    return splits.of(place, utterances, columns, seed)


def _note_outside(place: Path, utterances: Iterable[Utterance], output_dir: Path) -> None:
    """List the recordings that lie outside a corpus, so that it is prepared anew when they change."""
    inside, path = tuple(f"{each}{os.sep}" for each in (place, output_dir.absolute())), output_dir / OUTSIDE
    with files.replacing(path) as temporary, temporary.open("w", encoding="utf8", errors="surrogateescape") as file:
        for audio, _ in itertools.groupby(os.path.abspath(utterance.audio) for utterance in utterances):
            if not audio.startswith(inside):
                file.write(f"{audio}\n")
    if not path.stat().st_size:
        path.unlink()


def _utterances(records: Iterable[Record], survey: Survey, speller: Speller) -> Iterator[tuple[Record, Utterance]]:
    for record in records:
        yield record, speller.utterance(record, survey.name(record), survey.speaker(record))


def _tidy(record: Record) -> Record:
    """Return a record in Unicode's composed form, in which a name is one, and with single blanks in its text."""
    text, speaker, name = (unicodedata.normalize("NFC", each) for each in (record.text, record.speaker, record.id))
    return replace(record, text=" ".join(_DASHES.sub(" ", text).split()), speaker=speaker, id=name)


def _in_files(records: Iterable[Record], folder: Path) -> Iterator[Record]:
    """Write recordings that are bytes to files, each once for all that is said in it."""
    path, before = folder, b""
    for number, record in enumerate(records):
        if isinstance(record.audio, bytes):
            if record.audio is not before:
                path, before = folder / f"{number:07d}{_BEGINNINGS.get(record.audio[:4], '.audio')}", record.audio
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(record.audio)
                changed = zlib.crc32(record.audio) >> 1  # stands for the content, by which features are known again
                os.utime(path, (changed, changed))
            record = replace(record, audio=path)
        yield record
