"""Pictures of a run: how training went, and what the network says of an utterance."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import librosa.display
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from asr.audio import SAMPLE_RATE
from asr.features import HOP_LENGTH, fbank

BLANK_COLOUR = "0.8"


def training_curves(epochs: Sequence[dict[str, float]], path: Path) -> None:
    """Draw loss and dev PER over the epochs.

    Parameters
    ----------
    epochs
        The run's history: ``epoch``, ``loss`` and ``dev_per`` of each.
    path
        The picture to write; its suffix tells the format.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    numbers = [entry["epoch"] for entry in epochs]
    left.plot(numbers, [entry["loss"] for entry in epochs], marker=".")
    left.set(title="CTC loss on training speech", xlabel="epoch", ylabel="nats a label")
    rates = [entry["dev_per"] for entry in epochs]
    right.plot(numbers, rates, marker=".", color="C1")
    best = int(np.argmin(rates))
    right.annotate(f"{rates[best]:.1f} %", (numbers[best], rates[best]), textcoords="offset points", xytext=(0, 8))
    right.set(title="phone error rate on dev speakers", xlabel="epoch", ylabel="%", ylim=(0, 100))
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    _save(figure, path)


def posteriors(
    waveform: np.ndarray,
    log_probs: np.ndarray,
    tokens: Sequence[str],
    frame_shift: float,
    reference: Sequence[str],
    hypothesis: Sequence[str],
    path: Path,
    title: str,
) -> None:
    """Draw an utterance's spectrogram, the phone posteriors under it, and what should have been said.

    Parameters
    ----------
    waveform : (N,)
        At 16 kHz.
    log_probs : (T', C)
        Natural logs; column 0 is the blank, drawn in grey.
    frame_shift
        Seconds from one row of `log_probs` to the next.
    """
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(12, 5.6), sharex=True, layout="constrained", height_ratios=(2, 3)
    )
    mels = fbank(waveform, num_mel_bins=80, use_energy=False).T
    librosa.display.specshow(
        mels, sr=SAMPLE_RATE, hop_length=HOP_LENGTH, x_axis="time", ax=top, cmap="magma", vmin=np.quantile(mels, 0.1)
    )
    top.set(title=title, ylabel="mel bin", xlabel="")
    probs = np.exp(log_probs)
    times = (np.arange(len(probs)) + 0.5) * frame_shift
    bottom.fill_between(times, probs[:, 0], color=BLANK_COLOUR, lw=0, label="blank")
    last = None
    for token in np.flatnonzero(probs[:, 1:].max(axis=0) > 0.1) + 1:
        bottom.plot(times, probs[:, token], lw=1.2)
    for t, token in enumerate(probs.argmax(axis=1)):
        if token != 0 and token != last:
            bottom.annotate(
                tokens[token],
                (times[t], probs[t, token]),
                ha="center",
                fontsize=8,
                xytext=(0, 2),
                textcoords="offset points",
            )
        last = token
    text = f"reference   {' '.join(reference)}\nrecognised {' '.join(hypothesis)}"
    bottom.set(ylabel="posterior", ylim=(0, 1.12), xlabel=f"seconds\n\n{text}")
    bottom.legend(loc="upper right", fontsize=8)
    _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> None:
    partial = path.with_name("partial-" + path.name)
    figure.savefig(partial, dpi=110)
    plt.close(figure)
    partial.replace(path)
