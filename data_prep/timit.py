"""TIMIT, the user's own copy, to Lhotse manifests with phone and word alignments.

TIMIT (J. Garofolo et al., LDC93S1, 1993) has 6,300 sentences of 630 American speakers in
``TRAIN|TEST/DR1-8/SPEAKER/SENTENCE.{WAV,PHN,WRD,TXT}``: NIST SPHERE audio at 16 kHz, and the times of phones (61
labels) and words in samples. Everybody reads the two SA sentences, so they are left out, as in K.-F. Lee and
H.-W. Hon (1989).

=============  ==========  ==========  ===================================================
split          speakers    utterances  of
=============  ==========  ==========  ===================================================
``train``      462         3,696       TRAIN
``dev``        50          400         TEST, the speakers of Kaldi's recipe (egs/timit/s5)
``test``       24          192         TEST, the core test set of TIMIT's documentation
``test_full``  168         1,344       TEST, all speakers, those of dev and test included
=============  ==========  ==========  ===================================================

A tree with less than half of TIMIT's speakers, such as the one that `data_prep.mini` makes, is split by the same lists
without a check of these counts.
"""

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import soundfile
from lhotse import AudioSource, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.supervision import AlignmentItem

from asr.core.errors import CorpusError
from asr.speech.phones import PhoneSet
from data_prep.manifests import write

SPLITS = ("train", "dev", "test", "test_full")
NUM_SPEAKERS = {"train": 462, "dev": 50, "test": 24, "test_full": 168}
SENTENCES_PER_SPEAKER = 8

_SPEAKERS = Path(__file__).parent / "tables" / "timit_speakers.tsv"
_HOW_TO_GET = (
    "TIMIT is the corpus LDC93S1, sold by the Linguistic Data Consortium (catalog.ldc.upenn.edu/LDC93S1): pass your "
    "copy as `make train RECIPE=timit TIMIT=/path/to/TIMIT`; RECIPE=mini needs no corpus"
)


@dataclass(frozen=True)
class Utterance:
    """The files of one sentence of one speaker.

    Attributes
    ----------
    speaker, sentence, dialect : str
        ``MDAB0``, ``SX139``, ``DR1``, in capitals whatever the files' case.
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
        """``MDAB0_SX139``."""
        return f"{self.speaker}_{self.sentence}"


def obtain(target_dir: Path) -> Path:
    """Raise `CorpusError`, which says where TIMIT is sold and how to name one's copy: it cannot be downloaded."""
    raise CorpusError(f"no TIMIT is given. {_HOW_TO_GET}")


def prepare(corpus_dir: Path, output_dir: Path) -> None:
    """Write the manifests of all splits of TIMIT, or of a tree laid out like it.

    Names in capitals or lower case are taken, and audio that was converted to RIFF as ``SX139.WAV.wav``.

    Parameters
    ----------
    corpus_dir : Path
        The folder with ``TRAIN`` and ``TEST`` inside, or one above it.
    output_dir : Path
        Gets ``recordings_{split}.jsonl.gz`` and ``supervisions_{split}.jsonl.gz``. Supervisions have the phones as in
        the .PHN file (``h#`` included) in ``custom["phones"]``, and alignments ``phone`` and ``word`` in seconds.

    Raises
    ------
    CorpusError
        If there is no corpus, if a file is missing or malformed, or if a full TIMIT is not complete.
    """
    train, test = _find_parts(corpus_dir)
    splits = _split(_utterances(train), _utterances(test))
    _check_counts(train.parent, splits)
    output_dir.mkdir(parents=True, exist_ok=True)
    for split, utterances in splits.items():
        pairs = [_manifests(utterance) for utterance in utterances]
        write(RecordingSet.from_recordings(recording for recording, _ in pairs), output_dir, f"recordings_{split}")
        write(SupervisionSet.from_segments(segment for _, segment in pairs), output_dir, f"supervisions_{split}")


def standard_speakers(split: str) -> set[str]:
    """Names of the speakers of TIMIT's standard ``dev`` or ``test`` split, in capitals.

    Examples
    --------
    >>> len(standard_speakers("dev")), len(standard_speakers("test"))
    (50, 24)
    """
    with _SPEAKERS.open(newline="", encoding="utf-8") as lines:
        return {row["speaker"] for row in csv.DictReader(lines, delimiter="\t") if row["split"] == split}


def _child(folder: Path, name: str) -> Path | None:
    """Find the subfolder called `name` in whatever case."""
    return next((path for path in sorted(folder.iterdir()) if path.is_dir() and path.name.lower() == name), None)


def _find_parts(corpus_dir: Path) -> tuple[Path, Path]:
    """Find TRAIN and TEST in the folder or in one below it."""
    corpus_dir = Path(corpus_dir).absolute()
    if not corpus_dir.is_dir():
        raise CorpusError(f"no TIMIT at {corpus_dir}. {_HOW_TO_GET}")
    for folder in (corpus_dir, *sorted(path for path in corpus_dir.iterdir() if path.is_dir())):
        train, test = _child(folder, "train"), _child(folder, "test")
        if train and test:
            return train, test
    raise CorpusError(f"{corpus_dir} is not TIMIT: it has no folders TRAIN and TEST; name the folder that holds them")


def _utterances(part: Path) -> list[Utterance]:
    """List the sentences below TRAIN or TEST, SA left out, in order of speaker and sentence."""
    found = []
    for folder in sorted(path for path in part.glob("*/*") if path.is_dir()):
        files = {path.name.lower(): path for path in sorted(folder.iterdir())}
        stems = sorted({name.split(".")[0] for name in files if name.endswith((".wav", ".phn", ".wrd"))})
        for stem in stems:
            if not stem.startswith("sa"):
                found.append(_utterance(folder, stem, files))
    return found


def _utterance(folder: Path, stem: str, files: dict[str, Path]) -> Utterance:
    audio = files.get(f"{stem}.wav", files.get(f"{stem}.wav.wav"))
    phones, words = files.get(f"{stem}.phn"), files.get(f"{stem}.wrd")
    if audio is None or phones is None or words is None:
        lacking = next(kind for kind, path in ((".WAV", audio), (".PHN", phones), (".WRD", words)) if path is None)
        raise CorpusError(f"{folder}: sentence {stem.upper()} has no {lacking} file: copy it from your TIMIT again")
    return Utterance(folder.name.upper(), stem.upper(), folder.parent.name.upper(), audio, phones, words)


def _split(train: list[Utterance], test: list[Utterance]) -> dict[str, list[Utterance]]:
    dev_speakers, core_speakers = standard_speakers("dev"), standard_speakers("test")
    return {
        "train": train,
        "dev": [utterance for utterance in test if utterance.speaker in dev_speakers],
        "test": [utterance for utterance in test if utterance.speaker in core_speakers],
        "test_full": test,
    }


def _check_counts(root: Path, splits: dict[str, list[Utterance]]) -> None:
    """Raise unless a TIMIT (more than half of its speakers) is complete, and no split of anything else is empty."""
    sentences = {split: Counter(utterance.speaker for utterance in splits[split]) for split in SPLITS}
    is_timit = any(len(sentences[split]) > NUM_SPEAKERS[split] / 2 for split in ("train", "test_full"))
    for split, spoken in sentences.items():
        if not spoken:
            raise CorpusError(f"{root} has no speaker for {split}: TIMIT's TRAIN and TEST folders must have DR1 to DR8")
        odd = [f"{speaker} has {n} sentences" for speaker, n in sorted(spoken.items()) if n != SENTENCES_PER_SPEAKER]
        if split in ("dev", "test"):
            odd += [f"{speaker} is missing" for speaker in sorted(standard_speakers(split) - set(spoken))]
        expected = NUM_SPEAKERS[split]
        if is_timit and (odd or len(spoken) != expected):
            shown = ", ".join([f"{len(spoken)} of {expected} speakers", *odd[:5]])
            counts = f"{spoken.total():,} of {expected * SENTENCES_PER_SPEAKER:,} utterances"
            raise CorpusError(f"{root} is not a complete TIMIT: {split} has {counts} ({shown}): copy it again")


def _manifests(utterance: Utterance) -> tuple[Recording, SupervisionSegment]:
    try:
        info = soundfile.info(str(utterance.audio))
    except soundfile.LibsndfileError as error:
        raise CorpusError(f"{utterance.audio} is not audio ({error.error_string}): copy it again") from error
    recording = Recording(
        id=utterance.id,
        sources=[AudioSource(type="file", channels=[0], source=str(utterance.audio))],
        sampling_rate=info.samplerate,
        num_samples=info.frames,
        duration=info.frames / info.samplerate,
    )
    phones = _times(utterance.phones, info.samplerate)
    words = _times(utterance.words, info.samplerate)
    known = set(PhoneSet.load("timit61").labels)
    for line, item in enumerate(phones, start=1):
        if item.symbol not in known:
            raise CorpusError(f"{utterance.phones}, line {line}: {item.symbol!r} is not one of TIMIT's 61 labels")
    segment = SupervisionSegment(
        id=utterance.id,
        recording_id=utterance.id,
        start=0.0,
        duration=recording.duration,
        channel=0,
        text=" ".join(item.symbol for item in words),
        language="English",
        speaker=utterance.speaker,
        gender=utterance.speaker[0].lower(),
        custom={"phones": " ".join(item.symbol for item in phones), "dialect": utterance.dialect},
        alignment={"phone": phones, "word": words},
    )
    return recording, segment


def _times(path: Path, sample_rate: int) -> list[AlignmentItem]:
    """Read a .PHN or .WRD file: first sample, one past the last sample, label."""
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
