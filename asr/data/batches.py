"""Utterances become batches: cached features, normalisation, augmentation, bucketing.

    splits.load_split ─▶ Utterances ─ cache_features ─▶ FeatureStore ─ SpeechDataset ─▶ utterances ─ collate ─▶ Batch

What an epoch holds depends on nothing but the seed, the epoch's number and the utterances' ids, so that a run which
is killed and resumed sees what an undisturbed run would see.

Letters: B utterances, T feature frames of the longest, F values a frame, S labels of the longest target.
"""

import logging
import warnings
import zlib
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from lhotse import CutSet
from lhotse.cut import Cut, MonoCut
from lhotse.dataset import DynamicBucketingSampler, SimpleCutSampler
from lhotse.dataset.sampling.base import CutSampler

from asr.core.config import ConditionsConfig, Config, DataConfig, SpecAugmentConfig
from asr.core.errors import AudioError, CorpusError, InfeasibleError
from asr.ctc import required_frames
from asr.data import splits
from asr.data.augmentation import change_conditions, draw_padding, mask_features, without_speech
from asr.data.feature_store import Features
from asr.data.splits import reference
from asr.data.utterances import Utterances
from asr.speech.features import FRAME_SHIFT
from asr.speech.normaliser import Normaliser

log = logging.getLogger(__name__)

Pronunciations = list[tuple[int, ...]]  # of a word, as indices of labels
Text = list[Pronunciations]  # word by word

NUM_VOICES = 4  # that babble is made of


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
        Indices of the model's tokens; the padding is 0, which is the blank.
    target_lengths : (B,) int64
        Labels.
    is_spare
        The utterances are another process's. They are here so that each process has some, and count nowhere.
    texts
        The pronunciations of the words of each utterance, where the loss asks for them.
    frames : (B, T') int64
        The label of each output frame, where the loss asks for them; −100 beyond an utterance.
    """

    ids: list[str]
    features: torch.Tensor
    feature_lengths: torch.Tensor
    targets: torch.Tensor
    target_lengths: torch.Tensor
    is_spare: bool = False
    texts: tuple[Text, ...] = ()
    frames: torch.Tensor = torch.empty(0, 0, dtype=torch.int64)  # noqa: RUF009 - never written to

    def rows(self) -> list[np.ndarray]:
        """Return the features (T, F) of each utterance without padding."""
        lengths = self.feature_lengths.tolist()
        return [each[:length].cpu().numpy() for each, length in zip(self.features, lengths, strict=True)]

    def to(self, device: torch.device, **options: Any) -> "Batch":
        """Return the batch on a device."""
        tensors = {key: value for key, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return Batch(**vars(self) | {key: value.to(device, **options) for key, value in tensors.items()})


class Targets(Protocol):
    """The targets that a network is trained on, by utterance."""

    def __contains__(self, cut: Cut) -> bool:
        """Tell whether an utterance has targets."""
        ...

    def __call__(self, cut: Cut, speed: float) -> list[int]:
        """Return an utterance's targets at a speed."""
        ...


class LabelTargets:
    """The indices of an utterance's labels among a model's tokens.

    Parameters
    ----------
    tokens
        The model's tokens.
    label_set
        The phone set that they are from.
    """

    def __init__(self, tokens: Sequence[str], label_set: str):
        self._ids = {token: i for i, token in enumerate(tokens)}
        self._label_set = label_set

    def __contains__(self, cut: Cut) -> bool:
        """Return true: every utterance has labels."""
        return True

    def __call__(self, cut: Cut, speed: float = 1.0) -> list[int]:
        """Return the labels' indices, which do not depend on the speed."""
        return [self._ids[label] for label in reference(cut, self._label_set)]


class Drawn(NamedTuple):
    """What is drawn for an utterance before all else, for all its views.

    Attributes
    ----------
    rng
        What more is drawn from.
    speed
        Of the speech.
    padding
        Feature frames of something else before and behind it.
    has_speech
        Whether it is heard at all, and not something else in its place.
    """

    rng: np.random.Generator
    speed: float
    padding: tuple[int, int]
    has_speech: bool = True


class RichTargets(ABC):
    """Targets with more than a row of numbers for each utterance."""

    @abstractmethod
    def fields(self, cuts: Sequence[Cut], drawn: Sequence[Drawn], batch: Batch) -> dict[str, Any]:
        """Return further fields of a batch of utterances."""


class TextTargets(LabelTargets, RichTargets):
    """The same, and the other ways in which the words may be said.

    Parameters
    ----------
    tokens, label_set
        As for `LabelTargets`.
    lexicons
        Each tells the pronunciations of a word (`asr.data.pronunciations.alternatives`).
    """

    def __init__(
        self, tokens: Sequence[str], label_set: str, lexicons: Sequence[Callable[[str], Sequence[Sequence[str]]]]
    ):
        super().__init__(tokens, label_set)
        self._lexicons = lexicons
        self._known = dict[tuple[str, tuple[int, ...]], Pronunciations]()

    def fields(self, cuts: Sequence[Cut], drawn: Sequence[Drawn], batch: Batch) -> dict[str, Any]:
        """Return ``texts``."""
        spoken = zip(cuts, drawn, strict=True)
        return {"texts": tuple(self.text(cut) if each.has_speech else [] for cut, each in spoken)}

    def text(self, cut: Cut) -> Text:
        """Return the pronunciations of each word, the one that the labels spell first.

        Where they spell what the lexicon lacks, it is the only one; where it is not known which labels are a word's,
        all of them are one.
        """
        labels = tuple(self(cut))
        words, lengths = splits.words(cut), splits.word_lengths(cut, self._label_set)
        if len(words) != len(lengths) or not all(lengths) or sum(lengths) != len(labels):
            return [[labels]] if labels else []
        ends = np.cumsum(lengths).tolist()
        spelt = [labels[end - length : end] for end, length in zip(ends, lengths, strict=True)]
        return [self._pronunciations(*each) for each in zip(words, spelt, strict=True)]

    def _pronunciations(self, word: str, spelt: tuple[int, ...]) -> Pronunciations:
        if (word, spelt) not in self._known:
            for lexicon in self._lexicons:
                several = [each for each in lexicon(word) if self._ids.keys() >= {*each}]
                ways = [tuple(self._ids[label] for label in each) for each in several]
                if spelt in ways:
                    break
            else:
                ways = []
            self._known[word, spelt] = list(dict.fromkeys([spelt, *ways]))
        return self._known[word, spelt]


class NoTargets:
    """No targets, for utterances that are only recognised."""

    def __contains__(self, cut: Cut) -> bool:
        """Return true: no utterance needs targets to be recognised."""
        return True

    def __call__(self, cut: Cut, speed: float = 1.0) -> list[int]:
        """Return no targets."""
        return []


class SpeechDataset(torch.utils.data.Dataset):
    """Makes a Batch of the cuts of a batch.

    Parameters
    ----------
    stores
        Features at each speed.
    normaliser
        Normalises the features.
    targets
        The targets of the utterances.
    spec_augment
        Masks for training; None leaves the features whole.
    seed
        Seed of the choice of speeds, conditions and masks.
    conditions
        Voices, rooms, noises and lines for training; None leaves the recordings as they are.
    views
        How often each utterance is in a batch, at one speed and under as many conditions and masks: all utterances in
        their first view, then all in their second one.
    others
        Ids of utterances that babble is made of.
    """

    def __init__(
        self,
        stores: Mapping[float, Features],
        normaliser: Normaliser,
        targets: "Targets",
        spec_augment: SpecAugmentConfig | None = None,
        seed: int = 0,
        conditions: ConditionsConfig | None = None,
        views: int = 1,
        others: Sequence[str] = (),
    ):
        self.stores, self.normaliser, self.spec_augment, self.seed = stores, normaliser, spec_augment, seed
        self.targets, self.conditions, self.views, self.others = targets, conditions, views, others
        self.speeds, self.epoch = sorted(stores), 0

    def __getitem__(self, cuts: Sequence[Cut]) -> Batch:
        """Load, normalise, augment and pad the utterances; a warning names one that cannot be read."""
        utterances = []
        for cut in cuts:
            try:
                utterances.append([(cut.id, *self.utterance(cut, view)) for view in range(self.views)])
            except AudioError as error:
                log.warning("skipped %s: %s", cut.id, error)
            except InfeasibleError as error:
                log.warning("skipped %s", error)
        if not utterances:
            raise CorpusError(f"no utterance of a batch could be read, the first of them {cuts[0].id}")
        batch = collate([each for view in zip(*utterances, strict=True) for each in view])
        if isinstance(self.targets, RichTargets):
            named = {cut.id: cut for cut in cuts}
            spoken = [named[key] for key in batch.ids]
            batch = replace(batch, **self.targets.fields(spoken, [self.draw(cut) for cut in spoken], batch))
        return batch

    def utterance(self, cut: Cut, view: int = 0) -> tuple[np.ndarray, list[int]]:
        """Return features (T, F) as the encoder sees them in this epoch, and the targets."""
        rng, speed, padding, has_speech = self.draw(cut)
        if view > 0:
            rng = np.random.default_rng((*self._seeds(cut), view))
        features = self.features(cut, speed)
        if not has_speech:
            features = without_speech(features, rng)
        elif self.conditions is not None:
            voices = self.voices(cut, speed, rng) if self.conditions.babble > 0 else []
            features = change_conditions(features, self.conditions, rng, voices, padding)
        features = self.normaliser(features, cut.supervisions[0].speaker)
        if self.spec_augment is not None:
            features = mask_features(features, self.spec_augment, rng)
        return features, self.targets(cut, speed) if has_speech else []

    def draw(self, cut: Cut) -> Drawn:
        """Draw the speed of an utterance in this epoch, and what is around it or in its place."""
        rng = np.random.default_rng(self._seeds(cut))
        speed = self.speeds[rng.integers(len(self.speeds))]
        if self.conditions is None:
            return Drawn(rng, speed, (0, 0))
        if self.conditions.no_speech and rng.random() < self.conditions.no_speech:
            return Drawn(rng, speed, (0, 0), has_speech=False)
        return Drawn(rng, speed, draw_padding(self.conditions, rng))

    def _seeds(self, cut: Cut) -> tuple[int, int, int]:
        return self.seed, self.epoch, zlib.crc32(cut.id.encode())

    def features(self, cut: Cut, speed: float) -> np.ndarray:
        """Return the features (T, F) of an utterance before normalisation."""
        return self.stores[speed][cut.id]

    def voices(self, cut: Cut, speed: float, rng: np.random.Generator) -> list[np.ndarray]:
        """Return the features of some utterances that babble is made of, at random."""
        return [self.stores[speed][self.others[i]] for i in rng.integers(len(self.others), size=NUM_VOICES)]


def collate(utterances: Sequence[tuple[str, np.ndarray, list[int]]]) -> Batch:
    """Pad (id, features (T, F), target) triples into a Batch.

    >>> batch = collate([("a", np.ones((3, 2), np.float32), [1, 2]), ("b", np.ones((1, 2), np.float32), [1])])
    >>> batch.features.shape, batch.feature_lengths.tolist(), batch.targets.tolist()
    (torch.Size([2, 3, 2]), [3, 1], [[1, 2], [1, 0]])
    """
    ids = [utterance_id for utterance_id, _, _ in utterances]
    feature_lengths = torch.tensor([len(features) for _, features, _ in utterances])
    target_lengths = torch.tensor([len(target) for _, _, target in utterances])
    # filled by NumPy, since torch would divide such copies among threads, which costs more than it saves
    features = np.zeros((len(ids), int(feature_lengths.max()), utterances[0][1].shape[1]), np.float32)
    targets = np.zeros((len(ids), int(target_lengths.max())), np.int64)
    for i, (_, values, target) in enumerate(utterances):
        features[i, : len(values)] = values
        targets[i, : len(target)] = target
    return Batch(ids, torch.from_numpy(features), feature_lengths, torch.from_numpy(targets), target_lengths)


class BatchLoader:
    """Batches of utterances of similar length, in an order that depends on the seed and the epoch.

    Lightning iterates over it once an epoch, tells it the epoch (`set_epoch`), and saves and restores its position
    (`state_dict`).

    Parameters
    ----------
    cuts
        Utterances.
    dataset
        Turns the cuts of a batch into a Batch.
    max_frames
        Feature frames in a batch, padding and all views included. A batch may exceed it if its last utterance is longer
        than those before.
    num_buckets
        Classes of similar length that batches are drawn from.
    shuffle
        Whether utterances and batches change their order from epoch to epoch.
    seed
        Seed of the order.
    world_size, rank
        The number of processes that share each batch, and the index of this one. The batches do not depend on them.
    num_workers
        Processes that make batches ahead of their use; 0 makes each when it is asked for.
    """

    def __init__(
        self,
        cuts: Sequence[Cut],
        dataset: SpeechDataset,
        max_frames: int,
        num_buckets: int = 20,
        shuffle: bool = False,
        seed: int = 0,
        world_size: int = 1,
        rank: int = 0,
        num_workers: int = 0,
    ):
        self.cuts, self.dataset, self.max_frames, self.num_buckets = cuts, dataset, max_frames, num_buckets
        self.shuffle, self.seed, self.world_size, self.rank = shuffle, seed, world_size, rank
        self.num_workers = num_workers
        self.sampler, self.batch_sampler = self, None  # Lightning calls `loader.sampler.set_epoch`
        self.position = 0  # batches of this epoch already handed out
        self._resumed = False
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the batches of an epoch."""
        self.dataset.epoch = epoch
        if self.shuffle or not hasattr(self, "batches"):
            with warnings.catch_warnings():
                # Where a few utterances are of one length, there is nothing between buckets to take the mean of.
                warnings.filterwarnings("ignore", "Mean of empty slice|invalid value encountered", RuntimeWarning)
                self.batches = self._drawn(epoch)

    def _drawn(self, epoch: int) -> Sequence[Sequence[Cut]]:
        return _Batches(self.cuts, self._sampler(epoch))

    def _sampler(self, epoch: int) -> CutSampler:
        options: dict[str, Any] = {
            "max_duration": self.max_frames * FRAME_SHIFT / self.dataset.views,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "world_size": 1,  # Lhotse would take both from the environment, and give each process other batches
            "rank": 0,
        }
        num_buckets = min(self.num_buckets, len(self.cuts))
        sampler: CutSampler
        if num_buckets > 1:
            sampler = DynamicBucketingSampler(_Lengths(self.cuts), num_buckets=num_buckets, **options)
        else:  # which that sampler refuses
            sampler = SimpleCutSampler(CutSet.from_cuts(_Lengths(self.cuts)), **options)
        sampler.set_epoch(epoch)
        return sampler

    def __len__(self) -> int:
        """Count the batches of this epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of this epoch from the present position."""
        if not self._resumed:
            self.position = 0
        self._resumed = False
        for batch in self._made(self.batches[self.position :]):
            self.position += 1
            yield batch

    def _made(self, batches: Sequence[Sequence[Cut]]) -> Iterable[Batch]:
        """Make the batches in the order given, in this process or in others."""
        if self.num_workers == 0:
            return map(self._part, batches)
        made = _Made(self._part, batches)
        return torch.utils.data.DataLoader(made, None, num_workers=self.num_workers, prefetch_factor=4)

    def _part(self, cuts: Sequence[Cut]) -> Batch:
        """Load this process's share of a batch, about as many utterances as the others have, and about as long."""
        if self.world_size == 1:
            return self.dataset[cuts]
        by_length = sorted(cuts, key=lambda cut: -cut.duration)
        own = by_length[self.rank :: self.world_size]
        with suppress(CorpusError):  # none of them can be read, but perhaps some of the others'
            if own:
                return self.dataset[own]
        for other in by_length[:-1]:
            with suppress(CorpusError):
                return replace(self.dataset[[other]], is_spare=True)
        return replace(self.dataset[by_length[-1:]], is_spare=True)

    def state_dict(self) -> dict[str, int]:
        """Return the epoch, and how many of its batches have been handed out."""
        return {"epoch": self.dataset.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from where `state_dict` was called."""
        self.set_epoch(state["epoch"])
        self.position = state["position"]
        self._resumed = self.position < len(self.batches)


class _Made(torch.utils.data.Dataset):
    """The batches that are made of the utterances of each, by number."""

    def __init__(self, make: Callable[[Sequence[Cut]], Batch], batches: Sequence[Sequence[Cut]]):
        self.make, self.batches = make, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return self.make(self.batches[index])


class _Lengths:
    """The lengths of utterances in the form that Lhotse's samplers take: cuts whose ids are numbers.

    They are made anew in each epoch, so that no more of them are in memory than a sampler keeps.
    """

    def __init__(self, cuts: Sequence[Cut]):
        if isinstance(cuts, Utterances):
            self._durations = cuts.durations
        else:
            self._durations = np.array([cut.duration for cut in cuts])

    def __iter__(self) -> Iterator[Cut]:
        return (MonoCut(str(number), 0.0, float(each), 0) for number, each in enumerate(self._durations))


class Members(Sequence[Cut]):
    """The utterances of a batch, which are read when they are asked for.

    Parameters
    ----------
    read
        Returns an utterance by its number.
    numbers
        Of the utterances.
    """

    def __init__(self, read: Callable[[int], Cut], numbers: Sequence[int]):
        self._read, self._numbers = read, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: Any) -> Any:
        return self._read(self._numbers[place])


class _Batches(Sequence[Sequence[Cut]]):
    """The utterances of each batch that a sampler draws."""

    def __init__(self, cuts: Sequence[Cut], sampler: Iterable[Iterable[Cut]]):
        self._cuts, self._numbers, self._ends = cuts, array("q"), [0]
        for batch in sampler:
            self._numbers.extend(int(cut.id) for cut in batch)
            self._ends.append(len(self._numbers))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: Any) -> Any:
        """Return the utterances of a batch, or a sequence of batches for a slice."""
        if isinstance(number, slice):
            return [self[i] for i in range(len(self))[number]]
        place = range(len(self))[number]
        return Members(self._cuts.__getitem__, self._numbers[self._ends[place] : self._ends[place + 1]])


def usable(cuts: Utterances, stores: Mapping[float, Features], config: Config, subsampling: int) -> Utterances:
    """Keep the training utterances that have features, are not too long, and have a CTC path at each speed.

    Warnings name those that are too long or have no path; those without features were named when the stores were made.

    Raises
    ------
    CorpusError
        Nothing is left.
    """
    kept = cuts.filter(
        lambda cut: (
            all(cut.id in store for store in stores.values())
            and is_short_enough(cut, config.data.max_duration)
            and _has_path(cut, stores, config.data.labels, subsampling)
        )
    )
    if not kept:
        raise CorpusError("no utterance is left to train on; the warnings above say why")
    return kept


def included(cuts: Utterances, data: DataConfig) -> Utterances:
    """Return the training utterances that the file of `data.exclude` does not name; a warning tells of unknown names.

    Raises
    ------
    CorpusError
        The file cannot be read, or has none of the names.
    """
    if data.exclude is None:
        return cuts
    try:
        names = frozenset(Path(data.exclude).read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{data.exclude} (data.exclude) is no text file that can be read: {error}") from error
    others = names.difference(cuts.ids)
    if len(others) == len(names):
        raise CorpusError(f"{data.exclude} (data.exclude) names no training utterance: give a name on each line")
    if others:
        log.warning(
            f"{data.exclude}: {len(others)} of {len(names)} names are of no training utterance, such as {min(others)}"
        )
    log.info(f"utterances left out of training, as {data.exclude} says: {len(names) - len(others)}")
    return cuts.filter(lambda cut: cut.id not in names)


def is_short_enough(cut: Cut, max_duration: float) -> bool:
    """Tell whether an utterance lasts no longer than so many seconds; a warning names one that does."""
    if cut.duration > max_duration:
        log.warning("skipped %s: %.1f s is longer than data.max_duration", cut.id, cut.duration)
    return cut.duration <= max_duration


def _has_path(cut: Cut, stores: Mapping[float, Features], label_set: str, subsampling: int) -> bool:
    """Tell whether a CTC path spells an utterance at its fastest speed; a warning names one without."""
    frames = min(store.num_frames(cut.id) for store in stores.values())
    try:
        check_feasible(cut.id, reference(cut, label_set), frames, subsampling)
    except InfeasibleError as error:
        log.warning("skipped %s", error)
        return False
    return True


def check_feasible(utterance_id: str, labels: Sequence[str] | Sequence[int], num_frames: int, subsampling: int) -> None:
    """Raise InfeasibleError when no CTC path spells the labels in the encoder's output frames.

    >>> check_feasible("fine", ["AA", "AA"], num_frames=9, subsampling=3)
    >>> check_feasible("u7", ["AA", "AA"], num_frames=6, subsampling=3)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    asr.core.errors.InfeasibleError: u7: its 2 labels need 3 output frames and it has 2 (6 feature frames, ...)
    """
    have = -(-num_frames // subsampling)
    need = required_frames(labels)
    if have < need:
        raise InfeasibleError(
            f"{utterance_id}: its {len(labels)} labels need {need} output frames and it has {have} "
            f"({num_frames} feature frames, {subsampling} an output frame)"
        )
