"""Utterances become batches: cached features, normalisation, augmentation, bucketing.

    splits.load_split ─▶ CutSet ─ cache_features ─▶ FeatureStore ─ SpeechDataset ─▶ utterances ─ collate ─▶ Batch

What an epoch holds follows from the seed, the epoch's number and the utterance's id alone, so that a run which was
killed and resumed sees what the uninterrupted run would have seen.

Letters: B utterances, T feature frames of the longest, F values a frame, S labels of the longest target.
"""

import logging
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset import DynamicBucketingSampler

from asr.core.config import ConditionsConfig, Config, SpecAugmentConfig
from asr.core.errors import AudioError, CorpusError, InfeasibleError
from asr.ctc import required_frames
from asr.data.augmentation import change_conditions, mask_features
from asr.data.feature_store import Features
from asr.data.splits import reference
from asr.speech.features import FRAME_SHIFT
from asr.speech.normaliser import Normaliser

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

    def rows(self) -> list[np.ndarray]:
        """Return the features (T, F) of each utterance without padding."""
        lengths = self.feature_lengths.tolist()
        return [each[:length].cpu().numpy() for each, length in zip(self.features, lengths, strict=True)]

    def to(self, device: torch.device, **options: Any) -> "Batch":
        """Return the batch on a device."""
        moved = {key: value.to(device, **options) for key, value in vars(self).items() if key != "ids"}
        return Batch(self.ids, **moved)


class Targets(Protocol):
    """What utterances are trained on."""

    def __contains__(self, cut: Cut) -> bool:
        """Tell whether there are targets for an utterance."""
        ...

    def __call__(self, cut: Cut, speed: float) -> list[int]:
        """Return an utterance's targets at a speed."""
        ...


class LabelTargets:
    """The indices of an utterance's labels among a model's tokens.

    Parameters
    ----------
    tokens
        The model's.
    label_set
        Their phone set.
    """

    def __init__(self, tokens: Sequence[str], label_set: str):
        self._ids = {token: i for i, token in enumerate(tokens)}
        self._label_set = label_set

    def __contains__(self, cut: Cut) -> bool:
        """There are, for all."""
        return True

    def __call__(self, cut: Cut, speed: float = 1.0) -> list[int]:
        """Return the labels' indices, which do not depend on the speed."""
        return [self._ids[label] for label in reference(cut, self._label_set)]


class NoTargets:
    """Targets of utterances that are only to be recognised."""

    def __contains__(self, cut: Cut) -> bool:
        """Any utterance can be recognised."""
        return True

    def __call__(self, cut: Cut, speed: float = 1.0) -> list[int]:
        """Return nothing."""
        return []


class SpeechDataset(torch.utils.data.Dataset):
    """Batches of cuts become Batch objects.

    Parameters
    ----------
    stores
        Features at each speed.
    normaliser
        Applied to the features as they leave the store.
    targets
        What an utterance is trained or scored on.
    spec_augment
        Masks for training; None leaves the features whole.
    seed
        Of the choice of speeds, conditions and masks.
    conditions
        Voices, rooms, noises and lines for training; None leaves the recording as it is.
    """

    def __init__(
        self,
        stores: Mapping[float, Features],
        normaliser: Normaliser,
        targets: "Targets",
        spec_augment: SpecAugmentConfig | None = None,
        seed: int = 0,
        conditions: ConditionsConfig | None = None,
    ):
        self.stores, self.normaliser, self.spec_augment, self.seed = stores, normaliser, spec_augment, seed
        self.targets, self.conditions = targets, conditions
        self.epoch = 0

    def __getitem__(self, cuts: CutSet) -> Batch:
        """Load, normalise, augment and pad the utterances; one that cannot be read is named and left out."""
        utterances = []
        for cut in cuts:
            try:
                utterances.append((cut.id, *self.utterance(cut)))
            except AudioError as error:
                log.warning("skipped %s: %s", cut.id, error)
        if not utterances:
            raise CorpusError(f"no utterance of a batch could be read, the first of them {next(iter(cuts)).id}")
        return collate(utterances)

    def utterance(self, cut: Cut) -> tuple[np.ndarray, list[int]]:
        """Return features (T, F) as the encoder sees them in this epoch, and the targets."""
        rng = np.random.default_rng((self.seed, self.epoch, zlib.crc32(cut.id.encode())))
        speeds = sorted(self.stores)
        speed = speeds[rng.integers(len(speeds))]
        features = self.stores[speed][cut.id]
        if self.conditions is not None:
            features = change_conditions(features, self.conditions, rng)
        features = self.normaliser(features, cut.supervisions[0].speaker)
        if self.spec_augment is not None:
            features = mask_features(features, self.spec_augment, rng)
        return features, self.targets(cut, speed)


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
    >>> check_feasible("u7", ["AA", "AA"], num_frames=6, subsampling=3)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    asr.core.errors.InfeasibleError: u7: its 2 labels need 3 output frames and it has 2 (6 feature frames, ...
    """
    have = -(-num_frames // subsampling)
    need = required_frames(labels)
    if have < need:
        raise InfeasibleError(
            f"{utterance_id}: its {len(labels)} labels need {need} output frames and it has {have} "
            f"({num_frames} feature frames, {subsampling} an output frame)"
        )
