"""How far an alignment can be trusted: a value for each word and for the recording, and what is odd about them.

Three things are looked at: how sure the model is of the word, whether its phones last as long as such phones do, and
how far its sound is above the noise around the words. The Montreal Forced Aligner writes like figures for each
utterance (``alignment_analysis.csv``: speech_log_likelihood, phone_duration_deviation, snr).

Letters: N samples, L steps of 10 ms.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from asr.models.calibration import recognised_confidence
from asr.recognition.alignment import Alignment
from asr.speech.audio import SAMPLE_RATE
from asr.speech.features import HOP_LENGTH
from asr.speech.segments import Segment

STEP = HOP_LENGTH / SAMPLE_RATE  # seconds
USUAL, ODDEST = 2.5, 5.0  # standard deviations of a phone's log duration: up to here usual, from here on worth nothing
AUDIBLE = 10.0  # dB above the noise that make a word well audible; at 0 dB it is worth nothing
FEWEST = 20  # steps without words that tell how loud the noise is; else the quietest steps do
QUIETEST = 5  # percent
LOW_CONFIDENCE, LOW_SNR = 0.3, 5.0  # what is worth a note
LEAST_POWER = 1e-10


@dataclass(frozen=True)
class WordQuality:
    """What a word's place is worth.

    Attributes
    ----------
    label, start, end
        Of the word.
    quality
        In [0, 1]: `confidence` times a factor each for an odd duration and for noise; 0 for a word that is not said.
    confidence
        Geometric mean of the confidences of its phones.
    deviation
        By how many standard deviations the log duration of its oddest phone differs from the mean of such phones.
    snr
        Its level above the noise, in dB.
    notes
        What is odd, in words.
    """

    label: str
    start: float
    end: float
    quality: float
    confidence: float
    deviation: float
    snr: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Quality:
    """What an alignment is worth.

    Attributes
    ----------
    words
        In order; of phones without words each phone.
    quality
        Mean of the words'.
    confidence, deviation
        Means over the phones, the deviation of its absolute value.
    snr
        Level of the words above the noise, in dB.
    """

    words: list[WordQuality]
    quality: float
    confidence: float
    deviation: float
    snr: float

    def summary(self) -> dict[str, Any]:
        """Return the values of the recording."""
        return {
            "quality": round(self.quality, 3),
            "confidence": round(self.confidence, 3),
            "duration_deviation": round(self.deviation, 2),
            "snr": round(self.snr, 1),
        }


def assess(aligned: Alignment, waveform: np.ndarray) -> Quality:
    """Rate an alignment.

    Parameters
    ----------
    aligned
        With the phones of the model; those of other sets than ARPAbet have no odd durations.
    waveform : (N,)
        At 16 kHz.
    """
    units = aligned.words or aligned.phones
    powers = _powers(waveform)
    noise = _noise(powers, units, aligned.unspoken)
    deviations = [_deviation(phone) for phone in aligned.phones]
    rows, first = list[WordQuality](), 0
    for unit in units:
        last = first
        while unit.end > unit.start and last < len(aligned.phones) and aligned.phones[last].end <= unit.end + 1e-6:
            last += 1
        rows.append(_rate(unit, aligned.phones[first:last], deviations[first:last], _snr(powers, [unit], noise)))
        first = last
    sure = [phone.confidence or 0.0 for phone in aligned.phones]
    return Quality(
        rows,
        float(np.mean([row.quality for row in rows])) if rows else 0.0,
        float(np.mean(sure)) if sure else 0.0,
        float(np.mean(np.abs(deviations))) if deviations else 0.0,
        _snr(powers, units, noise),
    )


def joined(parts: Sequence[Quality]) -> Quality:
    """Return the qualities of several alignments of a recording as one, with means weighted by the words."""
    counts = np.array([max(len(part.words), 1) for part in parts])
    values = np.array([(part.quality, part.confidence, part.deviation, part.snr) for part in parts])
    return Quality([word for part in parts for word in part.words], *(counts @ values / counts.sum()).tolist())


def _rate(unit: Segment, phones: Sequence[Segment], deviations: Sequence[float], snr: float) -> WordQuality:
    """Return a word's quality from its phones, their deviations and its level above the noise."""
    if not phones:
        return WordQuality(unit.label, unit.start, unit.end, 0.0, 0.0, 0.0, 0.0, ("not said",))
    sure = recognised_confidence([phone.confidence or 0.0 for phone in phones])
    k = int(np.abs(deviations).argmax())
    odd = abs(deviations[k])
    notes = [f"unsure ({sure:.2f})"] if sure < LOW_CONFIDENCE else []
    if odd > USUAL:
        seconds = phones[k].end - phones[k].start
        notes.append(f"{phones[k].label} is {'long' if deviations[k] > 0 else 'short'} ({1000 * seconds:.0f} ms)")
    if snr < LOW_SNR:
        notes.append(f"faint ({round(snr)} dB)")
    factors = (min(max((ODDEST - odd) / (ODDEST - USUAL), 0), 1), min(max(snr / AUDIBLE, 0), 1))
    quality = round(sure * factors[0] * factors[1], 3)
    return WordQuality(
        unit.label, unit.start, unit.end, quality, round(sure, 3), round(deviations[k], 2), round(snr, 1), tuple(notes)
    )


def _powers(waveform: np.ndarray) -> np.ndarray:
    """Return the mean square of each step (L,), without a constant offset."""
    steps = waveform[: len(waveform) // HOP_LENGTH * HOP_LENGTH].reshape(-1, HOP_LENGTH)
    offset = float(waveform.mean(dtype=np.float64))
    means = steps.mean(axis=1, dtype=np.float64) - offset
    squares = np.einsum("ij,ij->i", steps, steps, dtype=np.float64) / HOP_LENGTH
    return np.maximum(squares - 2 * offset * (means + offset) + offset**2, 0)


def _noise(powers: np.ndarray, units: Sequence[Segment], unspoken: Sequence[tuple[float, float]]) -> float:
    """Return the mean power of the steps without speech, or of the quietest ones where there are few."""
    free = np.ones(len(powers), bool)
    for start, end in [*((unit.start, unit.end) for unit in units), *unspoken]:
        free[int(start / STEP) : int(np.ceil(end / STEP))] = False
    quiet = powers[free] if free.sum() >= FEWEST else powers[powers <= np.percentile(powers, QUIETEST)]
    return max(float(quiet.mean()), LEAST_POWER)


def _snr(powers: np.ndarray, units: Sequence[Segment], noise: float) -> float:
    """Return the level of segments above the noise, in dB."""
    parts = [powers[int(unit.start / STEP) : max(round(unit.end / STEP), int(unit.start / STEP) + 1)] for unit in units]
    power = float(np.concatenate(parts).mean()) if parts and sum(map(len, parts)) else 0.0
    return float(10 * np.log10(max(power - noise, LEAST_POWER) / noise))


def _deviation(phone: Segment) -> float:
    """Return by how many standard deviations a phone's log duration differs from the mean; 0 where it is not known."""
    mean, deviation = _durations().get(phone.label, (0.0, 0.0))
    return (float(np.log(max(phone.end - phone.start, 1e-3))) - mean) / deviation if deviation else 0.0


@functools.cache
def _durations() -> dict[str, tuple[float, float]]:
    table = resources.files("asr.speech").joinpath("tables", "durations", "arpabet39.tsv").read_text(encoding="utf8")
    rows = [line.split("\t") for line in table.splitlines()[1:]]
    return {label: (float(mean), float(deviation)) for label, mean, deviation in rows}
