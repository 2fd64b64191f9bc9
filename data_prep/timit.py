"""TIMIT, from the user's own copy: read English with the times of phones and words.

TIMIT (J. Garofolo et al., LDC93S1, 1993) has 6,300 sentences of 630 American speakers in
``TRAIN|TEST/DR1-8/SPEAKER/SENTENCE.{WAV,PHN,WRD,TXT}``: NIST SPHERE audio at 16 kHz, and the times of phones (61
labels) and words in samples. The two SA sentences are left out because every speaker reads them, as in K.-F. Lee and
H.-W. Hon (1989).

=============  ==========  ==========  ===================================================
split          speakers    utterances  of
=============  ==========  ==========  ===================================================
``train``      462         3,696       TRAIN
``dev``        50          400         TEST, the speakers of Kaldi's recipe (egs/timit/s5)
``test``       24          192         TEST, the core test set of TIMIT's documentation
``test_full``  168         1,344       TEST, all speakers, those of dev and test included
=============  ==========  ==========  ===================================================

A folder with less than half of TIMIT's speakers, such as the one that `data_prep.mini` makes, is split by the same
lists, but these counts are not checked.
"""

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import soundfile
from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.supervision import AlignmentItem

from asr.core.errors import CorpusError
from asr.speech.phones import PhoneSet
from data_prep.manifests import recording, write

SPLITS = ("train", "dev", "test", "test_full")
NUM_SPEAKERS = {"train": 462, "dev": 50, "test": 24, "test_full": 168}
SENTENCES_PER_SPEAKER = 8

_SPEAKERS = Path(__file__).parent / "tables" / "timit_speakers.tsv"
_HOW_TO_GET = (
    "TIMIT is the corpus LDC93S1, sold by the Linguistic Data Consortium (catalog.ldc.upenn.edu/LDC93S1): pass your "
    "copy as `make train RECIPE=timit TIMIT=/path/to/TIMIT`; RECIPE=mini needs no corpus"
)


@dataclass(frozen=True)
class SentenceFiles:
    """The files of one sentence of one speaker.

    Attributes
    ----------
    speaker, sentence, dialect : str
        Such as ``MDAB0``, ``SX139``, ``DR1``; always in capitals.
    audio, phones, words : Path
        The .WAV, .PHN and .WRD file.
    """

    speaker: str
    sentence: str
    dialect: str
    audio: Path
    phones: Path
    words: Path

    @property
    def id(self) -> str:
        """Speaker and sentence, such as ``MDAB0_SX139``."""
        return f"{self.speaker}_{self.sentence}"


def obtain(target_dir: Path) -> Path:
    """Raise `CorpusError`: TIMIT cannot be downloaded. The error says where it is sold and how to name a copy."""
    raise CorpusError(f"no TIMIT is given. {_HOW_TO_GET}")


def prepare(corpus_dir: Path, output_dir: Path) -> None:
    """Write the manifests of all splits of TIMIT, or of a folder with the same layout.

    File names may be in capitals or lower case. Audio that was converted to RIFF may be named ``SX139.WAV.wav``.

    Parameters
    ----------
    corpus_dir : Path
        The folder with ``TRAIN`` and ``TEST`` inside, or the folder above it.
    output_dir : Path
        Receives ``recordings_SPLIT.jsonl.gz`` and ``supervisions_SPLIT.jsonl.gz``. A supervision has the phones of the
        .PHN file, ``h#`` included, in ``custom["phones"]``, and the alignments ``phone`` and ``word`` in seconds.

    Raises
    ------
    CorpusError
        There is no corpus, a file is missing or malformed, or a full TIMIT is not complete.
    """
    train, test = _find_parts(corpus_dir)
    splits = _split(_utterances(train), _utterances(test))
    _check_counts(train.parent, splits)
    output_dir.mkdir(parents=True, exist_ok=True)
    for split, utterances in splits.items():
        recordings = [_recording(utterance) for utterance in utterances]
        segments = [_supervision(*each) for each in zip(utterances, recordings, strict=True)]
        write(RecordingSet.from_recordings(recordings), output_dir, f"recordings_{split}")
        write(SupervisionSet.from_segments(segments), output_dir, f"supervisions_{split}")


def standard_speakers(split: str) -> list[str]:
    """Return the speakers of TIMIT's standard ``dev`` or ``test`` split, in capitals.

    Examples
    --------
    >>> len(standard_speakers("dev")), len(standard_speakers("test"))
    (50, 24)
    """
    with _SPEAKERS.open(newline="", encoding="utf-8") as lines:
        return [row["speaker"] for row in csv.DictReader(lines, delimiter="\t") if row["split"] == split]


def _child(folder: Path, name: str) -> Path | None:
    """Find the subfolder called `name`, in capitals or lower case."""
    return next((path for path in sorted(folder.iterdir()) if path.is_dir() and path.name.lower() == name), None)


def _find_parts(corpus_dir: Path) -> tuple[Path, Path]:
    """Find TRAIN and TEST in a folder or in a subfolder of it."""
    corpus_dir = Path(corpus_dir).absolute()
    if not corpus_dir.is_dir():
        raise CorpusError(f"no TIMIT at {corpus_dir}. {_HOW_TO_GET}")
    for folder in (corpus_dir, *sorted(path for path in corpus_dir.iterdir() if path.is_dir())):
        train, test = _child(folder, "train"), _child(folder, "test")
        if train and test:
            return train, test
    raise CorpusError(f"{corpus_dir} is not TIMIT: it has no folders TRAIN and TEST; name the folder that holds them")


def _utterances(part: Path) -> list[SentenceFiles]:
    """List the sentences in TRAIN or TEST without SA, sorted by speaker and sentence."""
    found = []
    for folder in sorted(path for path in part.glob("*/*") if path.is_dir()):
        files = {path.name.lower(): path for path in sorted(folder.iterdir())}
        stems = sorted({name.split(".")[0] for name in files if name.endswith((".wav", ".phn", ".wrd"))})
        for stem in stems:
            if not stem.startswith("sa"):
                found.append(_utterance(folder, stem, files))
    return found


def _utterance(folder: Path, stem: str, files: dict[str, Path]) -> SentenceFiles:
    audio = files.get(f"{stem}.wav", files.get(f"{stem}.wav.wav"))
    phones, words = files.get(f"{stem}.phn"), files.get(f"{stem}.wrd")
    if audio is None or phones is None or words is None:
        lacking = next(kind for kind, path in ((".WAV", audio), (".PHN", phones), (".WRD", words)) if path is None)
        raise CorpusError(f"{folder}: sentence {stem.upper()} has no {lacking} file: copy it from your TIMIT again")
    return SentenceFiles(folder.name.upper(), stem.upper(), folder.parent.name.upper(), audio, phones, words)


def _split(train: list[SentenceFiles], test: list[SentenceFiles]) -> dict[str, list[SentenceFiles]]:
    dev_speakers, core_speakers = standard_speakers("dev"), standard_speakers("test")
    return {
        "train": train,
        "dev": [utterance for utterance in test if utterance.speaker in dev_speakers],
        "test": [utterance for utterance in test if utterance.speaker in core_speakers],
        "test_full": test,
    }


def _check_counts(root: Path, splits: dict[str, list[SentenceFiles]]) -> None:
    """Check that a TIMIT (more than half of its speakers) is complete, and that no split is empty."""
    sentences = {split: Counter(utterance.speaker for utterance in splits[split]) for split in SPLITS}
    is_timit = any(len(sentences[split]) > NUM_SPEAKERS[split] / 2 for split in ("train", "test_full"))
    for split, spoken in sentences.items():
        if not spoken:
            raise CorpusError(f"{root} has no speaker for {split}: TIMIT's TRAIN and TEST folders must have DR1 to DR8")
        odd = [f"{speaker} has {n} sentences" for speaker, n in sorted(spoken.items()) if n != SENTENCES_PER_SPEAKER]
        if split in ("dev", "test"):
            odd += [f"{speaker} is missing" for speaker in sorted(set(standard_speakers(split)) - set(spoken))]
        expected = NUM_SPEAKERS[split]
        if is_timit and (odd or len(spoken) != expected):
            shown = ", ".join([f"{len(spoken)} of {expected} speakers", *odd[:5]])
            counts = f"{spoken.total():,} of {expected * SENTENCES_PER_SPEAKER:,} utterances"
            raise CorpusError(f"{root} is not a complete TIMIT: {split} has {counts} ({shown}): copy it again")


def _recording(utterance: SentenceFiles) -> Recording:
    try:
        return recording(utterance.id, utterance.audio)
    except soundfile.LibsndfileError as error:
        raise CorpusError(f"{utterance.audio} is not audio ({error.error_string}): copy it again") from error


def _supervision(utterance: SentenceFiles, audio: Recording) -> SupervisionSegment:
    phones, words = (_times(path, audio.sampling_rate) for path in (utterance.phones, utterance.words))
    known = set(PhoneSet.load("timit61").labels)
    for line, item in enumerate(phones, start=1):
        if item.symbol not in known:
            raise CorpusError(f"{utterance.phones}, line {line}: {item.symbol!r} is not one of TIMIT's 61 labels")
    return SupervisionSegment(
        id=utterance.id,
        recording_id=utterance.id,
        start=0.0,
        duration=audio.duration,
        channel=0,
        text=" ".join(item.symbol for item in words),
        language="English",
        speaker=utterance.speaker,
        gender=utterance.speaker[0].lower(),
        custom={"phones": " ".join(item.symbol for item in phones), "dialect": utterance.dialect},
        alignment={"phone": phones, "word": words},
    )


def _times(path: Path, sample_rate: int) -> list[AlignmentItem]:
    """Read a .PHN or .WRD file, whose lines are first sample, one past the last sample, and label."""
    items = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match line.split():
            case [start, end, label] if start.isdecimal() and end.isdecimal() and int(start) <= int(end):
                duration = (int(end) - int(start)) / sample_rate
                items.append(AlignmentItem(label, int(start) / sample_rate, duration))
            case [_, *_]:
                raise CorpusError(f"{path}, line {number}: {line!r} is not `start end label` with start before end")
    if not items:
        raise CorpusError(f"{path} is empty: copy it from your TIMIT again")
    return items
