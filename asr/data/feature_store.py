"""Features of whole corpora: cached in one file a corpus, or computed on demand.

Letters: T feature frames, F values a frame.
"""

import hashlib
import json
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soxr
from lhotse.cut import Cut

from asr.core import files
from asr.core.config import FeatureConfig
from asr.core.errors import AsrError, CorpusError
from asr.core.terminal import track
from asr.core.turns import turn
from asr.data.utterances import Utterances
from asr.speech import audio
from asr.speech.features import VERSION, FeatureExtractor, num_frames

log = logging.getLogger(__name__)


class Features(Protocol):
    """Features of many utterances by id, before normalisation: read from a file, or computed on demand."""

    def __getitem__(self, utterance_id: str) -> np.ndarray:
        """Return (T, F) float32."""

    def __contains__(self, utterance_id: str) -> bool:
        """Tell whether the utterance has features."""

    def num_frames(self, utterance_id: str) -> int:
        """Return T."""


class FeatureStore:
    """Features in a file of `cache_features`, which is mapped into memory."""

    def __init__(self, path: Path):
        self.path = path
        index = json.loads(path.with_suffix(".json").read_text(encoding="utf8"))
        self.spans: dict[str, tuple[int, int]] = {key: (start, stop) for key, start, stop in index["spans"]}
        self.failures: dict[str, str] = index["failures"]
        self._frames = np.memmap(path, np.float32, "r").reshape(-1, index["num_features"])

    def __getitem__(self, utterance_id: str) -> np.ndarray:
        start, stop = self.spans[utterance_id]
        return self._frames[start:stop]

    def __contains__(self, utterance_id: str) -> bool:
        return utterance_id in self.spans

    def num_frames(self, utterance_id: str) -> int:
        """Return T."""
        start, stop = self.spans[utterance_id]
        return stop - start


class LiveFeatures:
    """Features that are computed from the audio each time: slower, but without space on the disk.

    Parameters
    ----------
    cuts
        Utterances by id, one recording each.
    extractor
        Computes the features of a waveform.
    speed
        Factor of tempo and pitch, by resampling: 1.1 is 10 % faster.
    """

    def __init__(self, cuts: Utterances, extractor: FeatureExtractor, speed: float = 1.0):
        self._cuts, self._extractor, self._speed = cuts, extractor, speed

    def __getitem__(self, utterance_id: str) -> np.ndarray:
        return extract(self._cuts[utterance_id].recording.sources[0].source, self._extractor, self._speed)

    def __contains__(self, utterance_id: str) -> bool:
        return utterance_id in self._cuts

    def num_frames(self, utterance_id: str) -> int:
        """Return T, computed from the length in the recording's header."""
        recording = self._cuts[utterance_id].recording
        return num_frames(int(recording.num_samples / recording.sampling_rate / self._speed * audio.SAMPLE_RATE))


def extract(recording: audio.Recording, extractor: FeatureExtractor, speed: float = 1.0) -> np.ndarray:
    """Load a recording, change its speed, and return its features (T, F).

    Raises
    ------
    AudioError
        The file cannot be read, or is too short.
    """
    waveform = audio.load(recording)
    if speed != 1.0:
        waveform = soxr.resample(waveform, round(audio.SAMPLE_RATE * speed), audio.SAMPLE_RATE)
    return extractor(waveform)


def cache_features(
    cuts: Iterable[Cut], config: FeatureConfig, folder: Path, label: str, speed: float = 1.0
) -> FeatureStore:
    """Compute the features of all utterances once; a later call with the same arguments opens the file.

    Of several processes that call it at the same time one computes the features, and the others wait.

    Parameters
    ----------
    cuts
        Utterances, one recording each.
    config
        The features; the file holds them before normalisation.
    folder
        The folder of the file.
    label
        The beginning of the file's name; a hash of everything that the features depend on follows: the version of the
        extractor, and the sizes and times of change of the recordings, among others.
    speed
        Factor of tempo and pitch, by resampling: 1.1 is 10 % faster.

    Raises
    ------
    AsrError
        No recording can be read, or the file cannot be written, as on a full disk.
    """
    values = {key: value for key, value in asdict(config).items() if key != "cmvn"}
    sources = [[cut.id, *_identity(Path(cut.recording.sources[0].source))] for cut in cuts]
    digest = hashlib.sha256(json.dumps([VERSION, values, speed, sources], sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"{label}-{speed:g}-{digest}.f32"
    title, index = f"features of {label}, speed {speed:g}", path.with_suffix(".json")
    if not index.is_file():
        with turn(path, lambda: log.info("waiting for another process: it computes the %s", title)):
            if not index.is_file():  # by then
                _write_features(sources, FeatureExtractor(config), speed, path, title)
    store = FeatureStore(path)
    for utterance_id, reason in store.failures.items():
        log.warning("skipped %s: %s", utterance_id, reason)
    return store


def _identity(path: Path) -> tuple[str, int, int]:
    """Return what tells a file from another one, or from itself before a change: its path, size and time of change."""
    try:
        status = path.stat()
    except OSError:  # whoever reads it says why
        return str(path), 0, 0
    return str(path), status.st_size, status.st_mtime_ns


def _write_features(
    sources: list[list[Any]], extractor: FeatureExtractor, speed: float, path: Path, title: str
) -> None:
    # An exception that a thread returned would keep its frames alive in a circle, with all that they hold.
    def compute(source: list[Any]) -> np.ndarray | str:
        try:
            return extract(source[1], extractor, speed)
        except AsrError as error:
            return str(error)

    spans, failures, total = [], {}, 0
    with files.replacing(path) as temporary, ThreadPoolExecutor() as pool, temporary.open("wb") as file:
        for block in track([sources[i : i + 64] for i in range(0, len(sources), 64)], title):
            for (utterance_id, *_), features in zip(block, pool.map(compute, block), strict=True):
                if isinstance(features, str):
                    failures[utterance_id] = features
                    continue
                features.astype(np.float32, copy=False).tofile(file)
                spans.append((utterance_id, total, total + len(features)))
                total += len(features)
        if not spans:
            raise CorpusError(
                f"{title}: no utterance could be read; the first: {next(iter(failures.values()), 'none')}"
            )
    index = {"num_features": extractor.num_features, "spans": spans, "failures": failures}
    files.write_text(path.with_suffix(".json"), json.dumps(index))
