"""A prepared corpus is written as Lhotse's Shar (`asr.speech.shar`), to be copied, streamed and trained on."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from lhotse.audio.backend import audio_backend
from lhotse.audio.utils import AudioLoadingError, DurationMismatchError
from lhotse.shar import SharWriter

from asr.core import files
from asr.core.errors import CorpusError, OutputError
from asr.core.terminal import track
from asr.data import splits
from asr.data.utterances import Utterances
from asr.speech import label_folder, phones
from asr.speech.audio import SAMPLE_RATE
from asr.speech.shar import MARK, Shar

log = logging.getLogger(__name__)


def write(manifests: Path, corpus: str, folder: Path, shard_size: int, form: str, seed: int) -> dict[str, int]:
    """Write a prepared corpus as Lhotse's Shar.

    Training speech is written in random order, so that a shard has many speakers.

    Parameters
    ----------
    manifests
        The folder of the prepared manifests.
    corpus
        Its name.
    folder
        Receives a folder for each split.
    shard_size
        Utterances in a shard.
    form
        How sound is stored: ``flac`` or ``opus``, the latter at 16 kHz.
    seed
        Of the order.

    Returns
    -------
    dict
        The number of utterances of each split.

    Raises
    ------
    AsrError
        Nothing can be read, or the folder cannot be written or holds something else.
    """
    if folder.exists() and not (folder / MARK).is_file():
        raise OutputError(f"{folder} is there and has no {MARK}: name another folder with --shar")
    phone_set = splits.phone_set(manifests, corpus)
    own = phones.is_own(phone_set)
    present = [split for split in splits.SPLITS if splits.has_split(manifests, corpus, split)]
    durations = dict[str, list[float]]()
    with files.replacing_folder(folder) as temporary:
        for split in present:
            cuts = Utterances([splits.rows_of(manifests, corpus, split)])
            order = np.random.default_rng(seed).permutation(len(cuts)) if split == "train" else np.arange(len(cuts))
            durations[split] = _write_split(cuts, order, temporary / split, shard_size, form)
            np.save(temporary / f"{split}.npy", np.array(durations[split], np.float32))
        if own:
            (temporary / label_folder.LABELS).write_bytes(Path(phone_set).read_bytes())
        sizes = {
            split: tuple(min(shard_size, len(each) - i) for i in range(0, len(each), shard_size))
            for split, each in durations.items()
        }
        made = Shar("", "" if own else phone_set, splits.contents(manifests, corpus, present), sizes)
        files.write_json(temporary / MARK, made.to_json())
    return {split: len(each) for split, each in durations.items()}


def _write_split(cuts: Utterances, order: np.ndarray, folder: Path, shard_size: int, form: str) -> list[float]:
    """Write the shards of a split, and return the lengths of its utterances in seconds."""
    folder.mkdir()
    durations = []
    # Lhotse's other backends store Opus at 48 kHz, in twice the space, and reading it takes longer.
    with audio_backend("LibsndfileBackend"), SharWriter(folder, {"recording": form}, shard_size) as writer:
        for number in track(order.tolist(), f"{folder.name} in shards"):
            cut = cuts[number]
            if form == "opus" and cut.sampling_rate != SAMPLE_RATE:
                cut = cut.resample(SAMPLE_RATE)
            try:
                writer.write(replace(cut, custom=None))
            except (AudioLoadingError, DurationMismatchError) as error:
                log.warning("%s left out: %s", cut.id, str(error).splitlines()[0])
                continue
            durations.append(cut.duration)
    if not durations:
        raise CorpusError(f"{folder.name} has no utterance with sound: mend the corpus")
    return durations
