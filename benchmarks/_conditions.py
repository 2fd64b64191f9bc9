"""What recordings go through in use: functions of a waveform (N,) at 16 kHz and a random generator."""

import io
from collections.abc import Callable, Sequence
from functools import partial

import av
import numpy as np
import soundfile
import soxr
from scipy.signal import butter, fftconvolve, sosfilt

from asr.speech.audio import SAMPLE_RATE

Condition = Callable[[np.ndarray, np.random.Generator], np.ndarray]
FAINT = 10 ** (-60 / 20)  # root mean square of full scale


def around(waveform: np.ndarray, rng: np.random.Generator, seconds: float, level: float) -> np.ndarray:
    """Put half of so many seconds of zeros or noise before, and half behind."""
    size = round(seconds * SAMPLE_RATE / 2)
    before, after = (level * rng.standard_normal(size, np.float32) for _ in range(2))
    return np.concatenate([before, waveform, after])


def mixed(waveform: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """Add a noise (N,) so many dB below the mean power of the waveform."""
    power = np.square(waveform).mean() / max(np.square(noise).mean(), 1e-12)
    return (waveform + noise * np.sqrt(power * 10 ** (-snr / 10))).astype(np.float32)


def white(waveform: np.ndarray, rng: np.random.Generator, snr: float) -> np.ndarray:
    """Add white noise."""
    return mixed(waveform, rng.standard_normal(len(waveform)), snr)


def music(waveform: np.ndarray, rng: np.random.Generator, snr: float) -> np.ndarray:
    """Add chords."""
    return mixed(waveform, chords(len(waveform), rng), snr)


def chords(length: int, rng: np.random.Generator) -> np.ndarray:
    """Return chords (N,) of three harmonic tones, two chords a second, which decay."""
    times, found = np.arange(length) / SAMPLE_RATE, np.zeros(length)
    for start in np.arange(0, times[-1], 0.5):
        beat = slice(round(start * SAMPLE_RATE), round((start + 0.5) * SAMPLE_RATE))
        since = times[beat] - start
        root = 110 * 2 ** (rng.integers(24) / 12)
        for step in (0, rng.integers(3, 5), 7):
            tone = root * 2 ** (step / 12)
            found[beat] += sum(np.sin(2 * np.pi * k * tone * since) / k for k in range(1, 8)) * np.exp(-3 * since)
    return found


def rumble(waveform: np.ndarray, rng: np.random.Generator, snr: float) -> np.ndarray:
    """Add brown noise from 10 Hz on, as of ventilation or traffic."""
    return mixed(waveform, brown(len(waveform), rng), snr)


def brown(length: int, rng: np.random.Generator) -> np.ndarray:
    """Return brown noise (N,) from 10 Hz on."""
    noise = np.cumsum(rng.standard_normal(length))
    return sosfilt(butter(1, 10, "highpass", fs=SAMPLE_RATE, output="sos"), noise)


def hum(length: int, rng: np.random.Generator) -> np.ndarray:
    """Return a mains hum (N,) of 50 or 60 Hz with some harmonics."""
    times, mains = np.arange(length) / SAMPLE_RATE, rng.choice([50, 60])
    return sum(rng.uniform() / k * np.sin(2 * np.pi * (k * mains * times + rng.uniform())) for k in range(1, 8))


def babble(waveform: np.ndarray, rng: np.random.Generator, snr: float, voices: Sequence[np.ndarray]) -> np.ndarray:
    """Add six voices that read something else, or as many as there are."""
    others = [voice for voice in voices if not np.array_equal(voice, waveform)]
    chosen = rng.choice(len(others), min(6, len(others)), replace=False)
    parts = [np.resize(others[i], len(waveform) + SAMPLE_RATE)[rng.integers(SAMPLE_RATE) :] for i in chosen]
    return mixed(waveform, sum(part[: len(waveform)] / part.std() for part in parts), snr)


def through_file(waveform: np.ndarray, rng: np.random.Generator, subtype: str) -> np.ndarray:
    """Write a telephone's band at 8 kHz in a format, and read it."""
    band = sosfilt(butter(4, (300, 3400), "bandpass", fs=SAMPLE_RATE, output="sos"), waveform)
    file = io.BytesIO()
    soundfile.write(file, soxr.resample(band, SAMPLE_RATE, 8000).clip(-1, 1), 8000, format="WAV", subtype=subtype)
    file.seek(0)
    return soxr.resample(soundfile.read(file, dtype="float32")[0], 8000, SAMPLE_RATE)


def mp3(waveform: np.ndarray, rng: np.random.Generator, bit_rate: int) -> np.ndarray:
    """Encode and decode as MP3."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=SAMPLE_RATE, layout="mono", bit_rate=bit_rate)
        samples = (waveform.clip(-1, 1) * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16p", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        parts = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    return np.concatenate(parts).astype(np.float32)


def room(waveform: np.ndarray, rng: np.random.Generator, reverberation_time: float) -> np.ndarray:
    """Put the speaker into a room whose echoes have half the power of the direct sound."""
    times = np.arange(round(reverberation_time * SAMPLE_RATE)) / SAMPLE_RATE
    echoes = rng.standard_normal(len(times)) * 10 ** (-3 * times / reverberation_time)
    response = echoes * np.sqrt(0.5 / np.square(echoes).sum())
    response[0] = 1.0
    return fftconvolve(waveform, response)[: len(waveform)].astype(np.float32)


def speed(waveform: np.ndarray, rng: np.random.Generator, factor: float) -> np.ndarray:
    """Play faster or slower; the voice is higher or lower."""
    return soxr.resample(waveform, SAMPLE_RATE * factor, SAMPLE_RATE).astype(np.float32)


def clipped(waveform: np.ndarray, rng: np.random.Generator, decibels: float) -> np.ndarray:
    """Cut off all peaks so far below the highest."""
    most = np.abs(waveform).max() * 10 ** (-decibels / 20)
    return waveform.clip(-most, most)


def loudest(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Amplify as far as a file of integers can hold."""
    return waveform / max(np.abs(waveform).max(), 1e-6)


def scaled(waveform: np.ndarray, rng: np.random.Generator, decibels: float, offset: float = 0.0) -> np.ndarray:
    """Amplify, and add a constant."""
    return (waveform * 10 ** (decibels / 20) + offset).astype(np.float32)


def conditions(voices: Sequence[np.ndarray]) -> dict[str, Condition]:
    """Return all conditions by name; the voices (N,) are for babble."""
    found: dict[str, Condition] = {"as it is": lambda waveform, rng: waveform}
    for seconds in (1, 2, 5, 30):
        found[f"{seconds} s of zeros around"] = partial(around, seconds=seconds, level=0.0)
        found[f"{seconds} s of faint noise around"] = partial(around, seconds=seconds, level=FAINT)
    for snr in (20, 10, 5):
        found[f"white noise, {snr} dB"] = partial(white, snr=snr)
        found[f"babble, {snr} dB"] = partial(babble, snr=snr, voices=voices)
        found[f"music, {snr} dB"] = partial(music, snr=snr)
    return found | {
        "telephone, 8 kHz": partial(through_file, subtype="PCM_16"),
        "telephone, µ-law": partial(through_file, subtype="ULAW"),
        "telephone, GSM": partial(through_file, subtype="GSM610"),
        "MP3, 32 kbit/s": partial(mp3, bit_rate=32_000),
        "a room, 0.5 s": partial(room, reverberation_time=0.5),
        "0.85 × speed": partial(speed, factor=0.85),
        "1.15 × speed": partial(speed, factor=1.15),
        "clipped by 12 dB": partial(clipped, decibels=12),
        "gain -30 dB": partial(scaled, decibels=-30),
        "as loud as can be": loudest,
        "offset 0.03": partial(scaled, decibels=0, offset=0.03),
    }


def without_speech(seconds: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return sounds (N,) in which nobody speaks, by name."""
    length = round(seconds * SAMPLE_RATE)
    sounds = {"white noise": rng.standard_normal(length), "rumble": brown(length, rng), "a hum": hum(length, rng)}
    sounds["chords"] = chords(length, rng)
    levels = {name: rng.uniform(0.01, 1) / np.abs(sound).max() for name, sound in sounds.items()}
    found = {name: (levels[name] * sound).astype(np.float32) for name, sound in sounds.items()}
    return {"zeros": np.zeros(length, np.float32), **found}
