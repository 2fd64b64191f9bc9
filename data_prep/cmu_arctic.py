"""CMU ARCTIC (free for any use): a US woman and a US man read 1,132 sentences each in a studio; words without times.

J. Kominek and A. W. Black, "CMU ARCTIC databases for speech synthesis", CMU-LTI-03-177, 2003. Layout:
``cmu_us_SPEAKER_arctic/etc/txt.done.data`` has a line ``( NAME "TEXT" )`` for each utterance, whose audio is
``cmu_us_SPEAKER_arctic/wav/NAME.wav``. `asr.speech.pronounce` turns the words into phones. Every utterance is for
training.
"""

import re
from pathlib import Path

from asr.core.errors import CorpusError
from asr.speech.transcription import bare_words
from data_prep import download
from data_prep.manifests import Utterance, phones_of, write_manifests

_ARCHIVES = {  # torchaudio.datasets.CMUARCTIC has the same checksums
    "bdl": "sha256:26b91aaf48b2799b2956792b4632c2f926cd0542f402b5452d5adecb60942904",
    "slt": "sha256:7c173297916acf3cc7fcab2713be4c60b27312316765a90934651d367226b4ea",
}
_GENDERS = {"bdl": "m", "clb": "f", "rms": "m", "slt": "f"}
_LINE = re.compile(r'\(\s*(\S+)\s+"(.*)"\s*\)')


def obtain(target_dir: Path) -> Path:
    """Download and unpack the two speakers, unless they are there; return `target_dir`, which `prepare` takes.

    Raises
    ------
    CorpusError
        A download fails, or its checksum is wrong.
    """
    for speaker, checksum in _ARCHIVES.items():
        url = f"http://festvox.org/cmu_arctic/packed/cmu_us_{speaker}_arctic.tar.bz2"
        download.fetch_and_unpack(url, Path(target_dir), checksum)
    return Path(target_dir)


def prepare(corpus_dir: Path, output_dir: Path) -> None:
    """Write the manifests of every speaker in a folder.

    Parameters
    ----------
    corpus_dir : Path
        Holds ``cmu_us_SPEAKER_arctic``, directly or up to two folders deeper.
    output_dir : Path
        Receives ``recordings_train.jsonl.gz`` and ``supervisions_train.jsonl.gz``.

    Raises
    ------
    CorpusError
        There is no speaker, a line is malformed, or a word has no pronunciation.
    """
    corpus_dir = Path(corpus_dir).resolve()
    lists = sorted(path for depth in range(3) for path in corpus_dir.glob("*/" * depth + "cmu_us_*/etc/txt.done.data"))
    if not lists:
        raise CorpusError(
            f"{corpus_dir} has no cmu_us_SPEAKER_arctic/etc/txt.done.data: give the folder that holds CMU ARCTIC's "
            "speakers, or none to download two of them (festvox.org/cmu_arctic)"
        )
    write_manifests({"train": [utterance for path in lists for utterance in _read(path)]}, Path(output_dir))


def _read(path: Path) -> list[Utterance]:
    folder = path.parent.parent
    speaker = folder.name.split("_")[2]
    utterances = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise CorpusError(f'{path}, line {number}: {line!r} is not ( NAME "TEXT" ): copy the corpus again')
        name, text = found.groups()
        words = bare_words(text.replace("--", " "))
        phones = phones_of(words, f"{path}, line {number}")
        audio = folder / "wav" / f"{name}.wav"
        utterances.append(
            Utterance(f"{speaker}-{name}", audio, " ".join(words), phones, speaker, _GENDERS.get(speaker))
        )
    return utterances
