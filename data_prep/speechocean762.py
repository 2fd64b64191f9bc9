"""speechocean762 (OpenSLR 101, CC BY 4.0): English read by 250 Mandarin speakers, half of them children, without times.

J. Zhang et al., "speechocean762: an open-source non-native English speech corpus for pronunciation assessment",
Interspeech 2021. Layout: Kaldi's lists in ``train`` and ``test`` (``wav.scp``, ``text``, ``utt2spk``, ``spk2gender``,
``spk2age``), audio in ``WAVE``, and the phones of the prompts in ``resource/text-phone``, one word a line:
``UTTERANCE.WORD<TAB>K_B AO0_I L_E``. These are the phones of a dictionary, not those that the speaker pronounced.
"""

import re
from collections import defaultdict
from pathlib import Path

from asr.core.errors import AsrError, CorpusError
from asr.speech.phones import PhoneSet
from data_prep import download
from data_prep.manifests import Utterance, hold_out, write_manifests

_MARKS = re.compile(r"[0-2]?_[BIES]$")
_NUM_UTTERANCES, _NUM_SPEAKERS = 5000, 250


def obtain(target_dir: Path) -> Path:
    """Download and unpack the corpus, unless it is there.

    OpenSLR publishes no checksum for it. Instead, gzip's own checksum is verified while unpacking, and the audio of all
    5,000 utterances of 250 speakers must be there.

    Parameters
    ----------
    target_dir : Path
        Receives ``speechocean762/speechocean762``. The archive is removed after unpacking.

    Returns
    -------
    Path
        The folder of the corpus, which `prepare` takes.

    Raises
    ------
    CorpusError
        The download fails, or the archive is damaged or incomplete.
    """
    corpus_dir = _root(download.fetch_and_unpack(f"{download.OPENSLR}/101/speechocean762.tar.gz", Path(target_dir)))
    utterances = _read(corpus_dir, "train") + _read(corpus_dir, "test")
    found = sum(utterance.audio.is_file() for utterance in utterances)
    num_speakers = len({utterance.speaker for utterance in utterances})
    if (found, num_speakers) != (_NUM_UTTERANCES, _NUM_SPEAKERS):
        raise CorpusError(
            f"{corpus_dir} has {found} utterances of {num_speakers} speakers instead of {_NUM_UTTERANCES} of "
            f"{_NUM_SPEAKERS}: delete the folder to download it again"
        )
    return corpus_dir


def prepare(corpus_dir: Path, output_dir: Path) -> None:
    """Write the manifests: test as published, and a tenth of the training speakers (12 of 125) for dev.

    `data_prep.manifests.hold_out` chooses the dev speakers, in proportion to genders and ages. ``custom["age"]`` is the
    speaker's age in years where the corpus has it.

    Parameters
    ----------
    corpus_dir : Path
        The folder that holds ``train``, ``test``, ``WAVE`` and ``resource``, or the folder above.
    output_dir : Path
        Receives ``recordings_SPLIT.jsonl.gz`` and ``supervisions_SPLIT.jsonl.gz`` for train, dev and test.

    Raises
    ------
    CorpusError
        A list is missing or malformed, a phone is not in ARPAbet, or a split has no usable utterance.
    """
    corpus_dir = _root(Path(corpus_dir).resolve())
    train, dev = hold_out(_read(corpus_dir, "train"))
    write_manifests({"train": train, "dev": dev, "test": _read(corpus_dir, "test")}, Path(output_dir))


def _root(corpus_dir: Path) -> Path:
    for folder in (corpus_dir, corpus_dir / "speechocean762"):
        if (folder / "resource" / "text-phone").is_file():
            return folder
    raise CorpusError(
        f"{corpus_dir} is not speechocean762, it has no resource/text-phone: give the folder that holds train, test, "
        "WAVE and resource, or none to download it (openslr.org/101)"
    )


def _read(corpus_dir: Path, split: str) -> list[Utterance]:
    audio, words, speakers = (_table(corpus_dir / split / name) for name in ("wav.scp", "text", "utt2spk"))
    genders = _table(corpus_dir / split / "spk2gender")
    ages = _table(corpus_dir / split / "spk2age")
    phones = _read_phones(corpus_dir / "resource" / "text-phone")
    utterances = []
    for name in sorted(audio):
        if name not in speakers:
            raise CorpusError(f"{corpus_dir / split / 'utt2spk'} lacks the utterance {name}: copy the corpus again")
        speaker, path = speakers[name], _find_audio(corpus_dir / audio[name])
        age = {"age": int(ages[speaker])} if ages.get(speaker, "").isdigit() else {}
        labels = phones.get(name, ())
        utterances.append(Utterance(name, path, words.get(name, ""), labels, speaker, genders.get(speaker), age))
    return utterances


def _find_audio(path: Path) -> Path:
    """Return the file, with another suffix where only that exists: copies of the corpus are often kept as FLAC."""
    endings = (path.suffix, ".flac", ".FLAC", ".wav", ".WAV")
    return next((path.with_suffix(ending) for ending in endings if path.with_suffix(ending).is_file()), path)


def _table(path: Path) -> dict[str, str]:
    """Read a list of Kaldi's: a key and its value on each line."""
    if not path.is_file():
        raise CorpusError(f"{path} is missing: give the folder of speechocean762 as openslr.org/101 has it")
    rows = (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())
    return {row[0]: row[1].strip() for row in rows if len(row) == 2}


def _read_phones(path: Path) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Read the phones of each word of each utterance, without stress and without Kaldi's marks of word position."""
    spelled: dict[str, list[tuple[int, tuple[str, ...]]]] = defaultdict(list)
    for key, row in _table(path).items():
        name, _, position = key.rpartition(".")
        if not position.isdigit():
            raise CorpusError(f"{path}: {key!r} is not UTTERANCE.WORD: copy the corpus again")
        spelled[name].append((int(position), tuple(_MARKS.sub("", phone) for phone in row.split())))
    phones = {name: tuple(word for _, word in sorted(rows)) for name, rows in spelled.items()}
    _check_phones(path, phones)
    return phones


def _check_phones(path: Path, phones: dict[str, tuple[tuple[str, ...], ...]]) -> None:
    arpabet = PhoneSet.load("arpabet39")
    for name, words in phones.items():
        try:
            arpabet.check([phone for word in words for phone in word])
        except AsrError as error:
            raise CorpusError(f"{path}: utterance {name}: {error}") from error
