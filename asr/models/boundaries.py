"""The second pass of alignment in a model folder: HMMs of the phones, which place their boundaries by the sound.

A CTC network knows which phones are said and roughly where; its spikes do not say where one ends. HMMs with Gaussian
mixtures model each phone's beginning, middle and end at every 10 ms. Each phone is looked for about the place where the
network has put it, with silence allowed between words and where a pause was found.

A boundary is put at the median of its place over all paths, which minimises the expected absolute error, and not where
the likeliest path has it: of two places that fit almost alike, a little noise would make it choose the other one. The
likelihoods are scaled for that, since frames are not independent, as HMMs have it (F. Wessel et al., "Confidence
measures for large vocabulary continuous speech recognition", IEEE Trans. Speech and Audio Processing 9(3), 2001).

A model folder keeps them as ``boundaries.safetensors``, trained by `asr train-boundaries`. They depend on the labels,
and not on the network: its times are only where the search begins.

Letters: T frames of 10 ms, L phones, N states of a transcript, P densities, K Gaussians, D features, S states a phone.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from asr.core.config import FeatureConfig
from asr.core.errors import InfeasibleError, ModelError
from asr.core.files import read_tensors, write_tensors
from asr.hmm.em import GmmHmm
from asr.hmm.inference import forward_backward
from asr.hmm.mixtures import Mixtures
from asr.hmm.phone_hmms import NUM_STATES, PhoneHMMs, Transcript, silences_of
from asr.hmm.tying import Tying
from asr.speech.audio import SAMPLE_RATE
from asr.speech.features import HOP_LENGTH, WINDOW_LENGTH, FeatureExtractor
from asr.speech.normaliser import Normaliser
from asr.speech.segments import Segment

FEATURES = FeatureConfig(kind="mfcc", num_mel_bins=23, num_ceps=13, use_energy=False, delta_order=2, cmvn="speech")
NORMALISER = Normaliser(FEATURES)
STEP = HOP_LENGTH / SAMPLE_RATE  # seconds
REACH = 15  # frames that a phone may lie outside of where the network has put it
DOUBT = 5.0  # nats that each of these frames costs: HMMs err by more where they disagree with the network than it does
SCALE = 0.07  # of these nats and of the HMMs' log likelihoods
SHORTEST = 2  # frames of a silence: it has a first and a last one
AROUND = 800  # frames on both sides of a run over which features are normalised, too
GAP = 100  # frames without phones that part the phones before and after them
BLOCK, MARGIN = 48, 4  # phones that are placed at once, and those on both sides of them that are placed again


class _Run(NamedTuple):
    """Phones of a recording that are placed together, and those of them whose places are kept."""

    first: int
    last: int
    kept_first: int
    kept_last: int


def frames(waveform: np.ndarray) -> np.ndarray:
    """Return features (T, D) of a waveform (N,), not normalised, each frame with its step of 10 ms in its middle.

    >>> frames(np.zeros(1601, np.float32)).shape
    (11, 39)
    """
    before = (WINDOW_LENGTH - HOP_LENGTH) // 2
    extractor = FeatureExtractor(FEATURES)
    return extractor(np.pad(waveform, (before, WINDOW_LENGTH), "edge"))[: -(-len(waveform) // HOP_LENGTH)]


@dataclass(frozen=True, eq=False)
class PhoneBoundaries:
    """HMMs that place phones whose rough places are known.

    Attributes
    ----------
    model
        The HMMs, without context.
    """

    model: GmmHmm

    @classmethod
    def load(cls, path: Path, tokens: Sequence[str], phone_set: str) -> Self:
        """Read a file for a model with these labels of a phone set.

        Raises
        ------
        ModelError
            The file is damaged, or of a model with other labels.
        """
        tensors, notes = read_tensors(path)
        if notes.get("tokens", "").split() != [*tokens]:
            raise ModelError(f"{path} is of a model with other labels: make it again with asr train-boundaries")
        labels, silences = silences_of(phone_set)
        try:
            tying = Tying.monophones(len(labels))
            transitions, weights, means, covars = (
                tensors[name].astype(np.float64) for name in ("transitions", "weights", "means", "covars")
            )
            offsets = tensors["offsets"].astype(np.int64)
            mixtures = Mixtures(offsets, weights, means, covars)
            _check(mixtures, transitions, tying)
            return cls(GmmHmm(PhoneHMMs(labels, silences, tying, transitions), mixtures))
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise ModelError(f"{path} is damaged ({error!r}): copy or train it again") from error

    def save(self, path: Path, tokens: Sequence[str], notes: dict[str, str]) -> None:
        """Write them into a file, with notes on how they came about."""
        mixtures, half = self.model.mixtures, np.float16
        tensors: dict[str, np.ndarray] = {
            "transitions": self.model.hmms.log_transitions.astype(np.float32),
            "offsets": mixtures.offsets.astype(np.int32),
            "weights": mixtures.weights_.astype(np.float32),
            "means": mixtures.means_.astype(half),
            "covars": mixtures.covars_.astype(half),
        }
        write_tensors(path, tensors, {"tokens": " ".join(tokens)} | notes)

    def place(
        self,
        phones: Sequence[Segment],
        word_lengths: Sequence[int],
        waveform: np.ndarray,
        unspoken: Sequence[Sequence[float]] | np.ndarray = (),
    ) -> list[Segment]:
        """Return phones (L,) with better times.

        Phones that have no path near their places stay where they are.

        Parameters
        ----------
        phones
            With rough times, in order.
        word_lengths
            The number of phones in each word; none where words are not known.
        waveform : (N,)
            The recording at 16 kHz.
        unspoken
            Starts and ends in seconds of speech that is none of the phones'; they move no further into it.
        """
        if not phones:
            return []
        features, duration = frames(waveform), len(waveform) / SAMPLE_RATE
        rough = np.array([[phone.start, phone.end] for phone in phones])
        edges = np.rint(rough / STEP).astype(int)
        is_free = np.ones(len(features), bool)
        for start, end in unspoken:
            is_free[round(start / STEP) : round(end / STEP)] = False
        rests = {*np.cumsum(word_lengths).tolist(), *(1 + np.flatnonzero(edges[1:, 0] > edges[:-1, 1])).tolist()}
        times = rough.copy()
        for run in _runs(edges):
            labels = [phone.label for phone in phones[run.first : run.last]]
            inner = sorted(rest - run.first for rest in rests if run.first < rest < run.last)
            lengths = np.diff([0, *inner, len(labels)]).tolist()
            try:
                found = self._place(labels, lengths, edges[run.first : run.last], features, is_free)
            except InfeasibleError:
                continue
            kept = slice(run.kept_first - run.first, run.kept_last - run.first)
            times[run.kept_first : run.kept_last, 0] = STEP * found[kept, 0]
            if run.kept_first > run.first:  # what follows a phone says where it ends
                times[run.kept_first - 1, 1] = STEP * found[kept.start - 1, 1]
            times[run.kept_first : run.kept_last, 1] = STEP * found[kept, 1]
        ordered = np.maximum.accumulate(times.ravel()).clip(0, duration).round(3).reshape(-1, 2)
        ordered = np.minimum(ordered, duration)  # rounding may have passed the last sample
        return [
            replace(phone, start=float(start), end=float(end))
            for phone, (start, end) in zip(phones, ordered, strict=True)
        ]

    def _place(
        self,
        labels: Sequence[str],
        word_lengths: Sequence[int],
        edges: np.ndarray,
        features: np.ndarray,
        is_free: np.ndarray,
    ) -> np.ndarray:
        """Return the first frames of phones and those after their last ones (L, 2), from rough ones (L, 2)."""
        hmms, mixtures = self.model.hmms, self.model.mixtures
        start, stop = max(edges[0, 0] - REACH, 0), min(edges[-1, 1] + REACH, len(features))
        transcript = hmms.transcript(labels, word_lengths)
        graph = transcript.graph(hmms)
        around = max(start - AROUND, 0)
        normalised = NORMALISER(features[around : stop + AROUND])[start - around :][: stop - start]
        places = _places(transcript, edges - start, len(normalised))
        spans = np.clip(places + np.array((-REACH, REACH)), 0, len(normalised))
        scores = mixtures.log_likelihoods_within(normalised, graph.pdfs, spans)
        scores += _log_prior(places, transcript.instances % 2 == 1, is_free[start:stop])
        posteriors = forward_backward(SCALE * scores, graph._replace(pdfs=np.arange(len(graph.pdfs)))).states
        numbers = 1 + np.arange(2 * len(labels))  # of phones and, after each, of what follows it
        order = np.argsort(-transcript.instances, kind="stable")
        later = np.pad(posteriors[:, order].cumsum(axis=1), ((0, 0), (1, 0)))  # of so many states, the last ones first
        has_begun = later[:, (transcript.instances[:, None] >= numbers).sum(axis=0)]
        found = start + (has_begun < 0.5).sum(axis=0).reshape(-1, 2)
        pauses = found[1:, 0] - found[:-1, 1]
        found[:-1, 1] += np.where(pauses < SHORTEST, pauses, 0)
        return found


def _places(transcript: Transcript, edges: np.ndarray, num_frames: int) -> np.ndarray:
    """Return the frames of each state's phone or silence (N, 2), from the rough ones of the phones (L, 2)."""
    number = transcript.instances
    starts, ends = np.concatenate([edges[:, 0], [num_frames]]), np.concatenate([[0], edges[:, 1]])
    is_phone = number % 2 == 1
    low = np.where(is_phone, starts[number // 2], ends[number // 2])
    high = np.where(is_phone, ends[(number + 1) // 2], starts[number // 2])
    return np.stack([low, high], axis=1)


def _log_prior(places: np.ndarray, is_phone: np.ndarray, is_free: np.ndarray) -> np.ndarray:
    """Return the log prior of each state in each frame (T, N): 0 in the frames of its place (N, 2), else -`DOUBT`.

    It is -inf outside of the place for states of phones (N,) in frames (T,) that are not free for them.
    """
    times = np.arange(len(is_free))[:, None]
    is_there = (times >= places[:, 0]) & (times < places[:, 1])
    return np.where(is_there, 0.0, np.where(is_free[:, None] | ~is_phone, -DOUBT, -np.inf))


def _runs(edges: np.ndarray) -> Iterator[_Run]:
    """Part phones at long gaps and into blocks."""
    gaps = 1 + np.flatnonzero(edges[1:, 0] - edges[:-1, 1] >= GAP)
    for first, last in itertools.pairwise([0, *gaps.tolist(), len(edges)]):
        for start in range(first, last, BLOCK):
            stop = min(start + BLOCK, last)
            yield _Run(max(start - MARGIN, first), min(stop + MARGIN, last), start, stop)


def _check(mixtures: Mixtures, transitions: np.ndarray, tying: Tying) -> None:
    """Raise ValueError where the parts do not fit each other."""
    width, offsets = FeatureExtractor(FEATURES).num_features, mixtures.offsets
    count = len(mixtures.weights_)
    if mixtures.means_.shape != (count, width) or mixtures.covars_.shape != (count, width):
        raise ValueError(f"Gaussians {mixtures.means_.shape} for {width} features")
    if (
        len(offsets) != tying.num_pdfs + 1
        or offsets[-1] != count
        or transitions.shape != (tying.num_pdfs, NUM_STATES + 1)
    ):
        raise ValueError(f"{len(offsets) - 1} densities and transitions {transitions.shape}")
    is_right = np.isfinite(mixtures.means_).all() and (mixtures.covars_ > 0).all() and (mixtures.weights_ > 0).all()
    if offsets[0] != 0 or (np.diff(offsets) < 1).any() or not is_right or np.isnan(transitions).any():
        raise ValueError("offsets that do not rise, or numbers out of range")
