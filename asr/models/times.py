"""Starts and ends of phones: where CTC's labels lie, then where the sound changes.

A CTC network emits a label in a few frames somewhere within the sound, so its spikes tell the order of the phones and
roughly their places. Three steps make durations of them:

1. Each label's mean place and length over all paths that spell the labels (the posteriors of Graves et al. 2006,
   eq. 14–15), in the frames about the likeliest one's. Neighbours meet half-way between the end of one and the start of
   the next, moved by the model's constant lag (`asr.models.calibration.Calibration.boundary_offset`).
2. Where neither neighbour is a silence or a closure, a quiet stretch between two labels is a pause, which belongs to
   neither phone, as does what lies further from both labels than a phone may reach. Quiet is measured above 80 Hz.
3. All boundaries move together, by at most 50 ms, to where the spectra within the segments differ least from their
   means: the maximum-likelihood segmentation of T. Svendsen and F. K. Soong, "On the automatic segmentation of speech
   signals", Proc. ICASSP 1987, with a normal distribution about the places of step 2, found by dynamic programming.

Constants were chosen on the dev speakers of the embedded corpus and two speakers of LibriSpeech.
Letters: T' output frames, C classes, L labels, N samples, K boundaries; times in seconds unless said otherwise.
"""

import functools
from collections.abc import Sequence

import numpy as np

from asr.ctc import TokenAlignment, ctc_posteriors
from asr.ctc.place_kernels import place
from asr.models import time_kernels
from asr.models.calibration import Calibration
from asr.speech import phones
from asr.speech.audio import SAMPLE_RATE
from asr.speech.features import HOP_LENGTH, WINDOW_LENGTH, fbank
from asr.speech.segments import Segment

STEP = HOP_LENGTH / SAMPLE_RATE  # seconds; the grid of pauses and of boundaries that the sound has placed
NEAR = 3  # frames from the likeliest path's, beyond which a label's small posteriors say nothing of its place
BLOCK_LABELS = 48  # whose posteriors are found at once: memory stays proportional to the length of the recording

MIN_PAUSE = 0.08  # seconds; closures of stops are shorter, mostly
FADE, ATTACK = 0.02, 0.03  # seconds of weak sound at a phone's end and start that fall below the threshold of quiet
REACH = 0.25  # seconds that a phone may go beyond its label into a stretch without labels
QUIET_SHARE = 0.3  # of the range of levels, from the bottom, that counts as quiet
RANGE = 40.0  # dB that the range has at most
LOWEST = SAMPLE_RATE // 80  # samples in a period of 80 Hz: what is lower is rumble, hum or an offset, and no speech
BLOCK_STEPS = 6000  # whose levels are found at once

NUM_MEL_BINS = 26
MAX_SHIFT = 5  # steps that a boundary moves at most


def phone_segments(
    log_probs: np.ndarray,
    alignment: TokenAlignment,
    names: Sequence[str],
    frame_shift: float,
    waveform: np.ndarray | None = None,
    confidences: np.ndarray | None = None,
    calibration: Calibration | None = None,
) -> list[Segment]:
    """Turn the labels of an utterance into phones with starts, ends and confidences.

    Phones are in order, do not overlap, and abut but for pauses; all lie within the recording.

    Parameters
    ----------
    log_probs : (T', C)
        Natural logs of the network's posteriors, class 0 the blank.
    alignment : TokenAlignment
        Of the labels with `log_probs`, from `asr.ctc.forced_align`.
    names : sequence of str, (C,)
        The classes' labels. Beside a silence or a closure of TIMIT's sets no pause is looked for.
    frame_shift : float
        Seconds from one output frame to the next.
    waveform : (N,), optional
        At 16 kHz. Without it steps 2 and 3 do what they can without sound: cap the reach, and leave the boundaries.
    confidences : (L,), optional
        Posteriors to give the phones, instead of the alignment's.
    calibration : Calibration, optional
        Of confidences and of the lag; none changes nothing.

    Returns
    -------
    list of Segment
        Times are rounded to milliseconds, confidences to three digits.

    Examples
    --------
    >>> from asr.ctc import forced_align
    >>> probs = np.full((20, 3), 0.01)
    >>> probs[:, 0], probs[4], probs[10] = 0.98, (0.02, 0.97, 0.01), (0.02, 0.01, 0.97)
    >>> alignment = forced_align(np.log(probs)[:, None], np.array([[1, 2]]))[0]
    >>> [(phone.label, phone.start, phone.end) for phone in phone_segments(np.log(probs), alignment, "-AB", 0.02)]
    [('A', 0.0, 0.15), ('B', 0.15, 0.4)]
    """
    if len(alignment.tokens) == 0:
        return []
    calibration = calibration or Calibration()
    duration = len(log_probs) * frame_shift if waveform is None else len(waveform) / SAMPLE_RATE
    labels = [names[token] for token in alignment.tokens]
    lag = calibration.boundary_offset
    starts, ends = (np.clip(frames * frame_shift + lag, 0, duration) for frames in _mean_places(log_probs, alignment))
    owners, boundaries = _segments(labels, starts, ends, _quiet_frames(waveform), duration)
    if waveform is not None and len(boundaries) > 0:
        boundaries = _move_to_changes(boundaries, waveform)
    edges = np.concatenate(([0.0], np.maximum.accumulate(np.clip(boundaries, 0, duration)), [duration])).round(3)
    edges = np.minimum(edges, duration)  # rounding may have passed the last sample
    posteriors = calibration.confidence(alignment.confidences if confidences is None else confidences)
    return [
        Segment(labels[owner], float(edges[k]), float(edges[k + 1]), round(float(posteriors[owner]), 3))
        for k, owner in enumerate(owners)
        if owner is not None
    ]


def _mean_places(log_probs: np.ndarray, alignment: TokenAlignment) -> tuple[np.ndarray, np.ndarray]:
    """Return mean starts and ends (L,) of the labels over all paths, in frames.

    The recording is cut half-way between the labels that end and begin a block. Far from the likeliest path's frames
    posteriors are too small to mean anything, but many, so they are left out.
    """
    tokens, count = alignment.tokens, len(alignment.tokens)
    firsts = np.arange(0, count, BLOCK_LABELS)
    cuts = [0, *((alignment.ends[firsts[1:] - 1] + alignment.starts[firsts[1:]] + 1) // 2), len(log_probs)]
    spans = np.stack([alignment.starts - NEAR, alignment.ends + NEAR], axis=1)
    places = np.empty((count, 2))
    for first, start, stop in zip(firsts, cuts[:-1], cuts[1:], strict=True):
        block = slice(first, min(first + BLOCK_LABELS, count))
        symbols, piece = np.concatenate(([0], tokens[block])), np.ascontiguousarray(log_probs[start:stop])
        if not place(piece, symbols, spans[block] - start, places[block]):
            places[block] = _unlikely_places(piece[:, symbols], spans[block] - start)
        places[block, 0] += start
    centres, lengths = places.T
    return centres - lengths / 2, centres + lengths / 2


def _unlikely_places(log_probs: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Return what `asr.ctc.place_kernels.place` would, from log_probs of the blank and of each label (T', L + 1)."""
    posteriors = ctc_posteriors(log_probs[:, None], np.arange(1, log_probs.shape[1])[None])[:, 0, 1:]
    frames = np.arange(len(log_probs))[:, None]
    posteriors *= (frames >= spans[:, 0]) & (frames < spans[:, 1])
    lengths = posteriors.sum(axis=0)
    return np.stack([(frames[:, 0] + 0.5) @ posteriors / lengths, lengths], axis=1)


def _quiet_frames(waveform: np.ndarray | None) -> np.ndarray | None:
    """Tell for each step of 10 ms whether its middle 20 ms are quiet: near the recording's own lowest level.

    The sound passes twice through a filter that subtracts its moving average over a period of 80 Hz: -5 dB at 50 Hz,
    -20 dB at 20 Hz, nothing left at 0 Hz.
    """
    if waveform is None:
        return None
    size, margin, parts = BLOCK_STEPS * HOP_LENGTH, 2 * LOWEST, []
    for start in range(0, len(waveform), size):
        block = np.ascontiguousarray(waveform[max(start - margin, 0) : start + size + margin])
        parts.append(time_kernels.mean_squares(block, LOWEST, min(start, margin), HOP_LENGTH)[:BLOCK_STEPS])
    levels = 10 * np.log10(np.concatenate(parts) + 1e-10)
    bottom, top = np.percentile(levels, [2, 95])
    bottom = max(bottom, top - RANGE)
    return levels < bottom + QUIET_SHARE * (top - bottom)


@functools.cache
def silences() -> frozenset[str]:
    """Return the labels that stand for quiet, closures among them."""
    sets = ("timit61", "timit48", "timit39")
    labels = {(label, name) for name in sets for label in phones.PhoneSet.load(name).labels}
    return frozenset(label for label, name in labels if phones.fold([label], name, "timit39") == ["sil"])


def _segments(
    labels: Sequence[str], starts: np.ndarray, ends: np.ndarray, quiet: np.ndarray | None, duration: float
) -> tuple[list[int | None], np.ndarray]:
    """Lay out the recording as segments: which label each belongs to, None for a pause, and the boundaries between."""
    owners: list[int | None] = []
    boundaries: list[float] = []
    for i in range(len(labels) + 1):
        left, right = labels[i - 1] if i > 0 else None, labels[i] if i < len(labels) else None
        gap_start, gap_end = ends[i - 1] if left else 0.0, starts[i] if right else duration
        silent = left in silences() or right in silences()
        pause = None if silent else _pause(gap_start, gap_end, quiet, left is not None, right is not None)
        if pause:
            owners.append(None)
            boundaries += pause
        elif left and right:
            boundaries.append((gap_start + gap_end) / 2)
        if right:
            owners.append(i)
    return owners, np.array(boundaries)


def _pause(start: float, end: float, quiet: np.ndarray | None, after: bool, before: bool) -> list[float] | None:
    """Find the pause in a gap after and before a label; return its boundaries other than the recording's edges."""
    late, early = start + REACH if after else 0.0, end - REACH if before else end
    low, high = _longest_run(quiet, start, end) if quiet is not None else (start, start)
    if high - low >= MIN_PAUSE - STEP / 2:
        late, early = min(late, low + FADE) if after else 0.0, max(early, high - ATTACK) if before else end
    if early - late < STEP:
        return None
    return [late] * after + [early] * before


def _longest_run(quiet: np.ndarray, start: float, end: float) -> tuple[float, float]:
    """Return start and end of the longest quiet stretch within a gap; both the gap's start where there is none."""
    first = int(start / STEP)
    within = quiet[first : int(np.ceil(end / STEP))]
    if not within.any():  # as between most phones
        return start, start
    changes = np.diff(within, prepend=False, append=False).nonzero()[0]
    lows, highs = changes[::2], changes[1::2]
    longest = (highs - lows).argmax()
    return max(start, (first + lows[longest]) * STEP), min(end, (first + highs[longest]) * STEP)


def _move_to_changes(boundaries: np.ndarray, waveform: np.ndarray) -> np.ndarray:
    """Move the boundaries (K,) to where the sound changes; the result is on the grid of 10 ms."""
    num_steps = -(-len(waveform) // HOP_LENGTH)
    margin = (WINDOW_LENGTH - HOP_LENGTH) // 2  # so that each frame has its step in its middle
    # Zeros beside a constant offset would be a click, so that the samples at the edges are repeated.
    spectra = fbank(np.pad(waveform, (margin, WINDOW_LENGTH), "edge"), NUM_MEL_BINS, use_energy=False)[:num_steps]
    spectra = spectra.astype(np.float64) - spectra.mean(axis=0, dtype=np.float64)
    spectra /= max(spectra.std(), 1e-6)  # of digital silence it is 0
    sums = np.concatenate((np.zeros((1, NUM_MEL_BINS)), spectra.cumsum(axis=0)))
    squares = np.concatenate(([0.0], np.square(spectra).sum(axis=1).cumsum()))
    expected = boundaries / STEP
    reach = np.arange(-MAX_SHIFT, MAX_SHIFT + 1)
    places = np.clip(np.rint(expected).astype(int)[:, None] + reach, 0, num_steps)
    return STEP * time_kernels.best_places(sums, squares, places, expected)
