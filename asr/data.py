"""Manifests become batches: cached features, normalisation, augmentation, bucketing.

    manifests ─ load_split ─▶ CutSet ─ cache_features ─▶ FeatureStore ─ SpeechDataset ─▶ utterances ─ collate ─▶ Batch

What an epoch holds follows from the seed, the epoch's number and the utterance's id alone, so that a run which was
killed and resumed sees what the uninterrupted run would have seen.

Letters: B utterances, T feature frames of the longest, F values a frame, S labels of the longest target.
"""

import hashlib
import json
import logging
import warnings
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soxr
import torch
from lhotse import CutSet, RecordingSet, SupervisionSet
from lhotse.cut import Cut
from lhotse.dataset import DynamicBucketingSampler

from asr import audio, phones
from asr.config import Config, FeatureConfig, SpecAugmentConfig
from asr.ctc import required_frames
from asr.errors import AsrError, AudioError, CorpusError, InfeasibleError
from asr.features import FRAME_SHIFT, FeatureExtractor, apply_cmvn, cmvn_statistics, num_frames
from asr.progress import track
from data_prep import CORPORA

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """Padded utterances.

    Attributes
    ----------
    ids
        Utterance ids.
    features : (B, T, F) float32
        Normalised; the padding is 0.
    feature_lengths : (B,) int64
        Frames.
    targets : (B, S) int64
        Indices into the model's tokens; the padding is 0, which is the blank.
    target_lengths : (B,) int64
    """

    ids: list[str]
    features: torch.Tensor
    feature_lengths: torch.Tensor
    targets: torch.Tensor
    target_lengths: torch.Tensor

    def to(self, device: torch.device, **options: Any) -> "Batch":
        """Return the batch on a device."""
        moved = {key: value.to(device, **options) for key, value in vars(self).items() if key != "ids"}
        return Batch(self.ids, **moved)


def load_split(manifests: str | Path, corpora: Sequence[str], split: str) -> CutSet:
    """Read the prepared utterances of one split over several corpora.

    Parameters
    ----------
    manifests
        The folder that holds ``<corpus>/recordings_<split>.jsonl.gz`` and its supervisions.
    corpora
        Names in data_prep.CORPORA.
    split
        ``train``, ``dev``, ``test`` or another that the corpus has.

    Returns
    -------
    CutSet
        One cut an utterance, with ``cut.corpus`` added; its first supervision has the labels in ``phones``.

    Raises
    ------
    CorpusError
        The manifests are missing: the corpus was not prepared.
    """
    cuts = []
    for name in corpora:
        folder = Path(manifests) / name
        try:
            recordings = RecordingSet.from_file(folder / f"recordings_{split}.jsonl.gz")
            supervisions = SupervisionSet.from_file(folder / f"supervisions_{split}.jsonl.gz")
        except (FileNotFoundError, AssertionError) as error:
            raise CorpusError(f"no {split} manifests of {name} in {folder}: run `asr prepare` first") from error
        for recording, supervision in zip(recordings, supervisions, strict=True):
            if recording.id != supervision.recording_id:
                raise CorpusError(
                    f"{folder}: recordings and supervisions of {split} differ; delete it and prepare again"
                )
            cut = recording.to_cut().with_id(supervision.id)
            cut.supervisions = [supervision]
            cut.custom = {"corpus": name}
            cuts.append(cut)
    return CutSet.from_cuts(cuts)


def reference(cut: Cut, phone_set: str) -> list[str]:
    """Return an utterance's labels, folded from its corpus's phone set into another."""
    return phones.fold(cut.supervisions[0].custom["phones"].split(), CORPORA[cut.corpus].phone_set, phone_set)


class Features(Protocol):
    """Features of many utterances by id, before normalisation: read from a file or computed when asked for."""

    def __getitem__(self, utterance_id: str) -> np.ndarray:
        """Return (T, F) float32."""

    def __contains__(self, utterance_id: str) -> bool:
        """Tell whether the utterance can be had."""

    def num_frames(self, utterance_id: str) -> int:
        """Return T."""


class FeatureStore:
    """Features in one file, which is mapped into memory; what `cache_features` wrote."""

    def __init__(self, path: Path):
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
    """Features computed from the audio each time that they are asked for: slower, and no space on the disk.

    Parameters
    ----------
    cuts
        Utterances, one recording each.
    extractor
        Makes features of a waveform.
    speed
        Tempo and pitch together: 1.1 is 10 % faster, by resampling.
    """

    def __init__(self, cuts: CutSet, extractor: FeatureExtractor, speed: float = 1.0):
        self._recordings = {cut.id: cut.recording for cut in cuts}
        self._extractor, self._speed = extractor, speed

    def __getitem__(self, utterance_id: str) -> np.ndarray:
        return extract(self._recordings[utterance_id].sources[0].source, self._extractor, self._speed)

    def __contains__(self, utterance_id: str) -> bool:
        return utterance_id in self._recordings

    def num_frames(self, utterance_id: str) -> int:
        """Return T as the header has it."""
        recording = self._recordings[utterance_id]
        return num_frames(int(recording.num_samples / recording.sampling_rate / self._speed * audio.SAMPLE_RATE))


def extract(path: str, extractor: FeatureExtractor, speed: float = 1.0) -> np.ndarray:
    """Load a recording, change its speed, and return its features (T, F).

    Raises
    ------
    AudioError
        The file cannot be read, or is too short.
    """
    waveform = audio.load(path)
    if speed != 1.0:
        waveform = soxr.resample(waveform, round(audio.SAMPLE_RATE * speed), audio.SAMPLE_RATE)
    return extractor(waveform)


def cache_features(cuts: CutSet, config: FeatureConfig, folder: Path, label: str, speed: float = 1.0) -> FeatureStore:
    """Compute the features of all utterances once; a later call with equal arguments opens the file.

    Parameters
    ----------
    cuts
        Utterances, one recording each.
    config
        The features; normalisation is not part of the file.
    folder
        Where the file goes; its name is `label` and a hash of everything that it depends on.
    speed
        Tempo and pitch together: 1.1 is 10 % faster, by resampling.

    Raises
    ------
    AsrError
        The file cannot be written, as on a full disk; nothing half is left.
    """
    values = {key: value for key, value in asdict(config).items() if key != "cmvn"}
    sources = [[cut.id, cut.recording.sources[0].source, cut.recording.num_samples] for cut in cuts]
    digest = hashlib.sha256(json.dumps([values, speed, sources], sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"{label}-{speed:g}-{digest}.f32"
    if not path.with_suffix(".json").is_file():
        _write_features(sources, FeatureExtractor(config), speed, path, f"features of {label}, speed {speed:g}")
    store = FeatureStore(path)
    for utterance_id, reason in store.failures.items():
        log.warning("skipped %s: %s", utterance_id, reason)
    return store


def _write_features(
    sources: list[list[Any]], extractor: FeatureExtractor, speed: float, path: Path, title: str
) -> None:
    def compute(source: list[Any]) -> np.ndarray | AsrError:
        try:
            return extract(source[1], extractor, speed)
        except AsrError as error:
            return error

    spans, failures, total = [], {}, 0
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor() as pool, partial.open("wb") as file:
            for block in track([sources[i : i + 64] for i in range(0, len(sources), 64)], title):
                for (utterance_id, *_), features in zip(block, pool.map(compute, block), strict=True):
                    if isinstance(features, AsrError):
                        failures[utterance_id] = str(features)
                        continue
                    features.astype(np.float32, copy=False).tofile(file)
                    spans.append((utterance_id, total, total + len(features)))
                    total += len(features)
        if not spans:
            raise CorpusError(
                f"{title}: no utterance could be read; the first: {next(iter(failures.values()), 'none')}"
            )
        partial.replace(path)
        index = {"num_features": extractor.num_features, "spans": spans, "failures": failures}
        partial.write_text(json.dumps(index), encoding="utf8")
        partial.replace(path.with_suffix(".json"))
    except OSError as error:
        raise AsrError(
            f"cannot write features to {path}: {error.strerror}; free some space, or set data.manifests"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


class Normaliser:
    """Mean and variance normalisation, global, per speaker, per utterance or none.

    Parameters
    ----------
    mode
        As FeatureConfig.cmvn.
    mean, std : (F,)
        Of the training data; for ``global`` only.
    """

    def __init__(self, mode: str, mean: np.ndarray | None = None, std: np.ndarray | None = None):
        self.mode = mode
        self.mean, self.std = mean, std
        self._speakers: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    @classmethod
    def fit(cls, mode: str, cuts: CutSet, store: Features) -> "Normaliser":
        """Take the statistics that the mode keeps from training data."""
        if mode == "global":
            return cls(mode, *cmvn_statistics(store[cut.id] for cut in cuts if cut.id in store))
        return cls(mode)

    def add_speakers(self, cuts: CutSet, store: Features) -> None:
        """Take each speaker's statistics over all that he or she says in `cuts`; nothing to do in the other modes."""
        if self.mode != "speaker":
            return
        utterances = defaultdict(list)
        for cut in cuts:
            if cut.id in store:
                utterances[cut.supervisions[0].speaker].append(store[cut.id])
        self._speakers.update({speaker: cmvn_statistics(features) for speaker, features in utterances.items()})

    def __call__(self, features: np.ndarray, speaker: str | None = None) -> np.ndarray:
        """Normalise features (T, F); a speaker without statistics is normalised by this utterance alone."""
        if self.mode == "none":
            return np.asarray(features, np.float32)
        if self.mode == "global":
            return apply_cmvn(features, self.mean, self.std)
        return apply_cmvn(features, *self._speakers.get(speaker or "", (None, None)))


class SpeechDataset(torch.utils.data.Dataset):
    """Batches of cuts become Batch objects.

    Parameters
    ----------
    stores
        Features at each speed.
    normaliser
        Applied to the features as they leave the store.
    token_ids
        Label → index of the model's output.
    label_set
        The phone set of those labels.
    spec_augment
        Masks for training; None leaves the features whole.
    seed
        Of the choice of speeds and masks.
    """

    def __init__(
        self,
        stores: Mapping[float, Features],
        normaliser: Normaliser,
        token_ids: dict[str, int],
        label_set: str,
        spec_augment: SpecAugmentConfig | None = None,
        seed: int = 0,
    ):
        self.stores, self.normaliser, self.spec_augment, self.seed = stores, normaliser, spec_augment, seed
        self.token_ids, self.label_set = token_ids, label_set
        self.epoch = 0

    def __getitem__(self, cuts: CutSet) -> Batch:
        """Load, normalise, augment and pad the utterances; one that cannot be read is named and left out."""
        utterances = []
        for cut in cuts:
            try:
                utterances.append((cut.id, self.features(cut), self.targets(cut)))
            except AudioError as error:
                log.warning("skipped %s: %s", cut.id, error)
        if not utterances:
            raise CorpusError(f"no utterance of a batch could be read, the first of them {next(iter(cuts)).id}")
        return collate(utterances)

    def features(self, cut: Cut) -> np.ndarray:
        """Return (T, F) as the encoder sees it in this epoch."""
        rng = np.random.default_rng((self.seed, self.epoch, zlib.crc32(cut.id.encode())))
        speeds = sorted(self.stores)
        store = self.stores[speeds[rng.integers(len(speeds))]]
        features = self.normaliser(store[cut.id], cut.supervisions[0].speaker)
        return features if self.spec_augment is None else mask_features(features, self.spec_augment, rng)

    def targets(self, cut: Cut) -> list[int]:
        """Return the indices of the utterance's labels."""
        return [self.token_ids[label] for label in reference(cut, self.label_set)]


def mask_features(features: np.ndarray, config: SpecAugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Set random bands and spans of normalised features (T, F) to their mean, 0 (SpecAugment, Park et al. 2019).

    >>> config = SpecAugmentConfig(num_freq_masks=1, max_freq_width=4)
    >>> masked = mask_features(np.ones((10, 40), np.float32), config, np.random.default_rng(0))
    >>> bool(masked.any(axis=1).all()), int((masked[0] == 0).sum()) <= 4
    (True, True)
    """
    features = np.array(features)
    num_frames, num_features = features.shape
    for _ in range(config.num_freq_masks):
        width = rng.integers(min(config.max_freq_width, num_features) + 1)
        start = rng.integers(num_features - width + 1)
        features[:, start : start + width] = 0
    for _ in range(config.num_time_masks):
        width = rng.integers(min(config.max_time_width, int(config.max_time_share * num_frames)) + 1)
        start = rng.integers(num_frames - width + 1)
        features[start : start + width] = 0
    return features


def collate(utterances: Sequence[tuple[str, np.ndarray, list[int]]]) -> Batch:
    """Pad (id, features (T, F), target) triples into a Batch.

    >>> batch = collate([("a", np.ones((3, 2), np.float32), [1, 2]), ("b", np.ones((1, 2), np.float32), [1])])
    >>> batch.features.shape, batch.feature_lengths.tolist(), batch.targets.tolist()
    (torch.Size([2, 3, 2]), [3, 1], [[1, 2], [1, 0]])
    """
    ids = [utterance_id for utterance_id, _, _ in utterances]
    feature_lengths = torch.tensor([len(features) for _, features, _ in utterances])
    target_lengths = torch.tensor([len(target) for _, _, target in utterances])
    features = torch.zeros(len(ids), int(feature_lengths.max()), utterances[0][1].shape[1])
    targets = torch.zeros(len(ids), int(target_lengths.max()), dtype=torch.int64)
    for i, (_, values, target) in enumerate(utterances):
        features[i, : len(values)] = torch.from_numpy(values)
        targets[i, : len(target)] = torch.tensor(target, dtype=torch.int64)
    return Batch(ids, features, feature_lengths, targets, target_lengths)


class BatchLoader:
    """Batches of utterances of like length, in an order that follows from the seed and the epoch.

    Lightning iterates it once an epoch, tells it the epoch (`set_epoch`), and saves and restores how far it came
    (`state_dict`).

    Parameters
    ----------
    cuts
        Utterances.
    dataset
        Turns the cuts of a batch into a Batch.
    max_frames
        Feature frames in a batch, padding included; an utterance longer than those before it may end a batch above it.
    shuffle
        Whether utterances and batches change their order from epoch to epoch.
    """

    def __init__(
        self,
        cuts: CutSet,
        dataset: SpeechDataset,
        max_frames: int,
        num_buckets: int = 20,
        shuffle: bool = False,
        seed: int = 0,
    ):
        self.cuts, self.dataset, self.max_frames, self.num_buckets = cuts, dataset, max_frames, num_buckets
        self.shuffle, self.seed = shuffle, seed
        self.sampler, self.batch_sampler = self, None  # Lightning calls `loader.sampler.set_epoch`
        self.position = 0  # batches of this epoch already handed out
        self._resumed = False
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Lay out the batches of an epoch."""
        self.dataset.epoch = epoch
        if self.shuffle or not hasattr(self, "batches"):
            self.batches = list(self._sampler(epoch))

    def _sampler(self, epoch: int) -> DynamicBucketingSampler:
        with warnings.catch_warnings():  # an eager CutSet is meant: the manifests fit in memory
            warnings.filterwarnings("ignore", ".*eagerly read CutSet.*")
            sampler = DynamicBucketingSampler(
                self.cuts,
                max_duration=self.max_frames * FRAME_SHIFT,
                num_buckets=min(self.num_buckets, len(self.cuts)),
                shuffle=self.shuffle,
                seed=self.seed,
            )
        sampler.set_epoch(epoch)
        return sampler

    def __len__(self) -> int:
        """Count the batches of this epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of this epoch from where it stands."""
        if not self._resumed:
            self.position = 0
        self._resumed = False
        while self.position < len(self.batches):
            self.position += 1
            yield self.dataset[self.batches[self.position - 1]]

    def state_dict(self) -> dict[str, int]:
        """Tell the epoch and how many of its batches have been handed out."""
        return {"epoch": self.dataset.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state_dict` stood."""
        self.set_epoch(state["epoch"])
        self.position = state["position"]
        self._resumed = self.position < len(self.batches)


def usable(cuts: CutSet, stores: Mapping[float, Features], config: Config, subsampling: int) -> CutSet:
    """Keep the training utterances that have features, are not too long, and have a CTC path at each speed.

    Each one left out is named in a warning.

    Raises
    ------
    CorpusError
        Nothing is left.
    """
    kept = []
    for cut in cuts:
        if any(cut.id not in store for store in stores.values()):
            continue
        if cut.duration > config.data.max_duration:
            log.warning("skipped %s: %.1f s is longer than data.max_duration", cut.id, cut.duration)
            continue
        try:
            frames = min(store.num_frames(cut.id) for store in stores.values())
            check_feasible(cut.id, reference(cut, config.data.labels), frames, subsampling)
        except InfeasibleError as error:
            log.warning("skipped %s", error)
            continue
        kept.append(cut)
    if not kept:
        raise CorpusError("no utterance is left to train on; the warnings above say why")
    return CutSet.from_cuts(kept)


def check_feasible(utterance_id: str, labels: Sequence[str], num_frames: int, subsampling: int) -> None:
    """Raise InfeasibleError when no CTC path spells the labels in the encoder's output frames.

    >>> check_feasible("fine", ["AA", "AA"], num_frames=9, subsampling=3)
    >>> check_feasible("u7", ["AA", "AA"], num_frames=6, subsampling=3)
    Traceback (most recent call last):
    ...
    asr.errors.InfeasibleError: u7: its 2 labels need 3 output frames and it has 2 (6 feature frames, 3 an output frame)
    """
    have = -(-num_frames // subsampling)
    need = required_frames(labels)
    if have < need:
        raise InfeasibleError(
            f"{utterance_id}: its {len(labels)} labels need {need} output frames and it has {have} "
            f"({num_frames} feature frames, {subsampling} an output frame)"
        )
