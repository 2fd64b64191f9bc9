"""Training speech in shards: what is in each batch of an epoch, and features that are computed when they are needed.

    Shards ─ _Plan ─▶ utterances of a batch ─ ShardDataset ─▶ Batch, computed ahead by ShardLoader's threads

Batches never span shards. What is in them follows from the lengths of a shard's utterances, the seed and the epoch, so
that the batches of an epoch are counted, shared and skipped without a look at any sound. A few shards are open at a
time, and a few batches are in memory, whatever the size of the corpus; 4 bytes an utterance, its length, are mapped.
"""

import json
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from lhotse.cut import Cut
from lhotse.serialization import deserialize_item

from asr.core.config import Config
from asr.core.errors import ConfigError, CorpusError
from asr.core.workers import get_num_threads
from asr.data import splits
from asr.data.batches import NUM_VOICES, Batch, BatchLoader, Members, SpeechDataset, check_feasible
from asr.data.feature_store import extract
from asr.data.utterances import INDEX, Utterances, hash_of
from asr.speech.features import FRAME_SHIFT, FeatureExtractor
from asr.speech.shar import Shar, Shard

NUM_OPEN = 4  # shards that are kept open for the batches ahead
JITTER = 0.1  # share by which lengths change before utterances are sorted by them, so that batches differ each epoch
SAMPLE = 2.0  # hours of speech that statistics of the training data are taken from

log = logging.getLogger(__name__)


class Shards:
    """The training speech of corpora in shards.

    Parameters
    ----------
    corpora
        Each with what its cuts get as their `custom`, and the lengths of its utterances in seconds.
    held_out
        The speakers of each corpus who are left out, because another corpus has them for dev or test.

    Attributes
    ----------
    keys
        The corpus of each shard, and its number there.
    """

    def __init__(
        self,
        corpora: Sequence[tuple[Shar, Mapping[str, str], np.ndarray]],
        held_out: Mapping[str, Collection[str]] | None = None,
    ):
        self._corpora, self._held_out = corpora, held_out or {}
        self._opened, self._lock = OrderedDict[int, Future[OpenShard]](), threading.Lock()
        self._ends = [np.cumsum(shar.sizes[splits.TRAIN]) for shar, _, _ in corpora]
        self.keys = [(c, k) for c, ends in enumerate(self._ends) for k in range(len(ends))]

    @classmethod
    def find(cls, config: Config) -> "Shards | None":
        """Return the shards of a configuration's prepared corpora, or None if no corpus is in shards.

        Raises
        ------
        ConfigError
            Some corpora are in shards and others are not, or something needs all utterances before the first batch.
        """
        data = config.data
        with_train = [name for name in data.corpora if splits.has_split(data.manifests, name, splits.TRAIN)]
        others = [name for name in with_train if not splits.shards_of(data.manifests, name).is_file()]
        if len(others) == len(with_train):
            return None
        if others:
            fault = f"{', '.join(others)} beside corpora in shards: write all with `asr prepare --shar`, or none"
            raise ConfigError(f"config: data.corpora has {fault}", "data.corpora")
        for key, needs_all in (
            ("features.cmvn", config.features.cmvn == "speaker"),
            ("data.exclude", data.exclude is not None),
            ("train.alignments", config.train.alignments is not None),
            ("train.criterion.frames", config.train.criterion.frames is not None),
        ):
            if needs_all:
                raise ConfigError(f"{key} needs all of the corpus at once, which is in shards: prepare its files", key)
        corpora = []
        for name in with_train:
            path = splits.shards_of(data.manifests, name)
            custom = {"corpus": name, "phone_set": splits.phone_set(data.manifests, name)}
            shar = Shar.from_json(json.loads(path.read_text(encoding="utf8")))
            corpora.append((shar, custom, np.load(path.with_suffix(".npy"), mmap_mode="r")))
        return cls(corpora, splits.held_out(data.manifests, with_train, splits.TRAIN))

    def is_allowed(self, cut: Cut) -> bool:
        """Tell whether no other corpus holds out the speaker of an utterance."""
        return cut.supervisions[0].speaker not in self._held_out.get(cut.corpus, ())

    def lengths(self, shard: int) -> np.ndarray:
        """Return the lengths (n,) of a shard's utterances in seconds."""
        corpus, number = self.keys[shard]
        end = int(self._ends[corpus][number])
        shar, _, durations = self._corpora[corpus]
        return durations[end - shar.sizes[splits.TRAIN][number] : end]

    def open(self, shard: int) -> "OpenShard":
        """Open a shard; the last ones stay open. Of several threads that ask for one, the first opens it.

        Raises
        ------
        CorpusError
            It is missing or damaged.
        """
        with self._lock:
            is_new = shard not in self._opened
            found = self._opened.setdefault(shard, Future())
            self._opened.move_to_end(shard)
            if len(self._opened) > NUM_OPEN:
                self._opened.popitem(last=False)
        if is_new:
            corpus, number = self.keys[shard]
            shar, custom, _ = self._corpora[corpus]
            try:
                found.set_result(OpenShard(shar.open(splits.TRAIN, number), custom))
            except Exception as error:
                found.set_exception(error)
        return found.result()

    def sample(self, seed: int) -> Utterances:
        """Return some hours of utterances: those of random shards."""
        parts, seconds = list[OpenShard](), 0.0
        for shard in np.random.default_rng(seed).permutation(len(self.keys)).tolist():
            if seconds < 3600 * SAMPLE:
                parts.append(self.open(shard))
                seconds += float(self.lengths(shard).sum())
        return Utterances(parts).filter(self.is_allowed)


class OpenShard:
    """The utterances of a shard by their numbers."""

    def __init__(self, shard: Shard, custom: Mapping[str, Any]):
        self._shard, self._custom = shard, custom

    def __len__(self) -> int:
        return len(self._shard)

    def __getitem__(self, number: int) -> Cut:
        """Return an utterance with its sound, still encoded."""
        cut = deserialize_item(self._shard.cut(number))
        cut.recording.sources[0].type, cut.recording.sources[0].source = "memory", self.sound(number)
        cut.custom = {**self._custom, "shard": self}
        return cut

    def sound(self, number: int) -> bytes:
        """Return the sound of an utterance, as a file."""
        return self._shard.sound(number)

    @property
    def index(self) -> np.ndarray:
        """The lengths of the utterances in seconds, and hashes of their ids (n,)."""
        cuts = map(self._shard.cut, range(len(self)))
        return np.array([(0, cut["duration"], hash_of(cut["id"])) for cut in cuts], INDEX)


class ShardDataset(SpeechDataset):
    """Makes a Batch of the cuts of a batch, whose sound is with them.

    Parameters
    ----------
    extractor
        Computes the features of a waveform.
    subsampling
        Feature frames in an output frame. An utterance with too few frames for its labels is left out, with a warning.
    arguments
        Those of `SpeechDataset`; of the stores the speeds alone are used.
    """

    def __init__(self, extractor: FeatureExtractor, subsampling: int, *arguments: Any):
        super().__init__(*arguments)
        self._extractor, self._subsampling = extractor, subsampling

    def utterance(self, cut: Cut, view: int = 0) -> tuple[np.ndarray, list[int]]:
        """Return features (T, F) as the encoder sees them in this epoch, and the targets.

        Raises
        ------
        AudioError
            The sound cannot be decoded.
        InfeasibleError
            There are too few frames for the labels.
        """
        features, targets = super().utterance(cut, view)
        check_feasible(cut.id, targets, len(features), self._subsampling)
        return features, targets

    def features(self, cut: Cut, speed: float) -> np.ndarray:
        """Return the features (T, F) of an utterance before normalisation."""
        return extract(cut.recording.sources[0].source, self._extractor, speed)

    def voices(self, cut: Cut, speed: float, rng: np.random.Generator) -> list[np.ndarray]:
        """Return the features of some utterances of the same shard, at random."""
        chosen = rng.integers(len(cut.shard), size=NUM_VOICES)
        return [extract(cut.shard.sound(number), self._extractor, speed) for number in chosen]


class ShardLoader(BatchLoader):
    """Batches of utterances from shards, in an order that depends on the seed and the epoch, computed by threads ahead.

    Each process has as many batches of its own, next to each other in that order, so that no shard but the first and
    the last is read by two. Of N processes up to N - 1 batches of an epoch are left out. A resumed loader skips batches
    by their number: it opens the shard that it stopped in, and no other before it.

    Parameters
    ----------
    shards
        The speech.
    dataset
        Turns the cuts of a batch into a Batch.
    config
        Its `data` says what is in a batch: the frames of all processes' batches together, padding and all views
        included, are `max_frames`.
    world_size, rank
        The number of processes that share an epoch, and the index of this one.
    """

    def __init__(self, shards: Shards, dataset: SpeechDataset, config: Config, world_size: int = 1, rank: int = 0):
        self._shards, self._max_duration = shards, config.data.max_duration
        share = config.data.max_frames // world_size
        super().__init__([], dataset, share, 1, True, config.seed, world_size, rank)

    def _drawn(self, epoch: int) -> Sequence[Sequence[Cut]]:
        seconds = self.max_frames * FRAME_SHIFT / self.dataset.views
        return _Plan(self._shards, seconds, self._max_duration, (self.seed, epoch), self.world_size, self.rank)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of this epoch from the present position."""
        if not self._resumed:
            self.position = 0
        self._resumed = False
        for batch in _ahead(partial(self._batch, self.batches), range(self.position, len(self.batches))):
            self.position += 1
            yield batch

    def _batch(self, drawn: Sequence[Sequence[Cut]], number: int) -> Batch:
        """Return a batch without held out speakers; if none of it can be used, the next one."""
        for i in range(len(drawn)):
            allowed = [cut for cut in drawn[(number + i) % len(drawn)] if self._shards.is_allowed(cut)]
            with suppress(CorpusError):  # warnings have named the utterances, none of which can be used
                if allowed:
                    return self.dataset[allowed]
        raise CorpusError("no utterance of the training speech in shards can be used; the warnings above say why")


def _ahead(compute: Callable[[int], Batch], numbers: Iterable[int]) -> Iterator[Batch]:
    """Yield what is computed of numbers, in their order; threads, as many as kernels have, compute the next ones."""
    num_threads = get_num_threads()
    with ThreadPoolExecutor(num_threads) as pool:
        pending = deque[Future[Batch]]()
        try:
            for number in numbers:
                pending.append(pool.submit(compute, number))
                if len(pending) > num_threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for each in pending:
                each.cancel()


class _Plan(Sequence[Sequence[Cut]]):
    """The batches that a process has in an epoch, which are read when they are asked for."""

    def __init__(
        self,
        shards: Shards,
        seconds: float,
        max_duration: float,
        seeds: tuple[int, int],
        world_size: int,
        rank: int,
    ):
        self._shards, self._seconds, self._max_duration, self._seeds = shards, seconds, max_duration, seeds
        self._order = np.random.default_rng(seeds).permutation(len(shards.keys))
        self._ends = np.cumsum([len(self._batches(shard)) for shard in self._order.tolist()])
        self._length = int(self._ends[-1]) // world_size
        self._first = rank * self._length
        if self._length == 0:
            fault = f"{self._ends[-1]} batches of utterances up to data.max_duration, and {world_size} processes"
            raise CorpusError(f"the training speech in shards has {fault}: lower data.max_frames")

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: Any) -> Any:
        """Return the utterances of a batch."""
        number = self._first + range(self._length)[number]
        place = int(np.searchsorted(self._ends, number, "right"))
        shard = int(self._order[place])
        numbers = self._batches(shard)[number - int(self._ends[place])]  # counted from the end
        return Members(lambda each: self._shards.open(shard)[each], numbers.tolist())

    def _batches(self, shard: int) -> list[np.ndarray]:
        rng = np.random.default_rng((*self._seeds, shard))
        return pack(self._shards.lengths(shard), self._seconds, self._max_duration, rng)


def pack(
    lengths: np.ndarray, seconds: float, max_duration: float, rng: np.random.Generator | None = None
) -> list[np.ndarray]:
    """Return batches of utterances of like length.

    Parameters
    ----------
    lengths : (n,)
        Of the utterances in seconds.
    seconds
        In a batch, padding included; an utterance that is longer is alone in one.
    max_duration
        Longer utterances are in none.
    rng
        Draws the order of the batches, and which utterances of like length come together; None takes their order.

    Returns
    -------
    list of (B,)
        The numbers of the utterances of each batch.

    Examples
    --------
    >>> [each.tolist() for each in pack(np.array([1.0, 3.0, 9.0, 1.2, 3.1]), 6.5, 5.0)]
    [[0, 3], [1, 4]]
    """
    key = lengths if rng is None else lengths * (1 + JITTER * rng.uniform(-1, 1, len(lengths)))
    order = np.argsort(key, kind="stable")
    order = order[lengths[order] <= max_duration]
    starts, longest = [0], 0.0
    for i, length in enumerate(lengths[order].tolist()):
        longest = max(longest, length)
        if i > starts[-1] and longest * (i + 1 - starts[-1]) > seconds:
            starts.append(i)
            longest = length
    batches = np.split(order, starts[1:]) if len(order) else []
    if rng is not None:
        rng.shuffle(batches)  # type: ignore[arg-type]
    return batches
