"""Corpora in shards, which `asr prepare --shar` wrote: dev and test become files, train stays where it is.

Beside the manifests of dev and test, ``shar_train.json`` says where the training speech is and ``shar_train.npy`` how
long its utterances are. Training reads its shards one after another.
"""

import logging
from pathlib import Path
from urllib.parse import quote

import numpy as np
import soundfile
from lhotse import RecordingSet, SupervisionSet
from lhotse.serialization import deserialize_item
from lhotse.utils import fastcopy

from asr.core import files, places
from asr.core.errors import AsrError, CorpusError
from asr.core.terminal import track
from asr.speech.label_folder import LABELS
from asr.speech.shar import TRAIN_SHARDS, Shar
from data_prep.manifests import COPIES, recording

TRAIN = "train"

log = logging.getLogger(__name__)


def prepare(shar: Shar, output_dir: Path) -> None:
    """Write the manifests of dev and test, whose sound is copied, and what training needs to know of train.

    Raises
    ------
    CorpusError
        A shard is missing or damaged, or nothing is left of a split.
    """
    for split in shar.sizes:
        shar.check(split)
    for pattern in ("recordings_*.jsonl.gz", "supervisions_*.jsonl.gz", LABELS):  # of when the corpus was in files
        for path in output_dir.glob(pattern):
            path.unlink()
    if not shar.phone_set:
        with files.replacing(output_dir / LABELS) as temporary:
            temporary.write_bytes(places.read(places.join(shar.place, LABELS)))
    for split in shar.sizes:
        if split == TRAIN:
            path = output_dir / TRAIN_SHARDS
            with files.replacing(path.with_suffix(".npy")) as temporary, temporary.open("wb") as file:
                np.save(file, shar.durations(split))
            files.write_json(path, shar.to_json())
        else:
            _unpack(shar, split, output_dir)


def _unpack(shar: Shar, split: str, output_dir: Path) -> None:
    """Write each sound of a split as a file, and the manifests of these."""
    count, copies = 0, output_dir.absolute() / COPIES / split
    recordings, supervisions = (output_dir / f"{kind}_{split}.jsonl.gz" for kind in ("recordings", "supervisions"))
    with (
        files.replacing_folder(copies) as temporary,
        files.replacing(recordings) as first_path,
        files.replacing(supervisions) as second_path,
        RecordingSet.open_writer(first_path) as first,
        SupervisionSet.open_writer(second_path) as second,
    ):
        for number in track(range(len(shar.sizes[split])), f"copying {split}, shards"):
            shard = shar.open(split, number)
            for i in range(len(shard)):
                cut = deserialize_item(shard.cut(i))
                name = f"{quote(cut.id, safe='')}{shard.suffix(i)}"
                (temporary / name).write_bytes(shard.sound(i))
                try:
                    found = recording(cut.id, temporary / name)
                except (AsrError, soundfile.LibsndfileError) as error:
                    log.warning("%s left out: %s", cut.id, error)
                    continue
                found.sources[0].source = str(copies / name)
                first.write(found)
                second.write(fastcopy(cut.supervisions[0], id=cut.id, recording_id=cut.id, duration=found.duration))
                count += 1
        if count == 0:
            raise CorpusError(f"{shar.place}: {split} has no utterance with sound: write the Shar again")
