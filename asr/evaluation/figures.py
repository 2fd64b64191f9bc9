"""Pictures of a run: how training went, what the network says of an utterance, and which phones it mixes up."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from asr.speech.audio import SAMPLE_RATE

matplotlib.use("agg")

import librosa.display
import matplotlib.pyplot as plt
from matplotlib.colors import PowerNorm
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from asr.core import files
from asr.core.errors import AsrError
from asr.ctc import best_path
from asr.speech.features import HOP_LENGTH, fbank

BLANK_COLOUR = "0.8"
BAR_COLOUR = "#4878b0"


def number(value: float | None) -> str:
    """Return a number with three digits or all before the point, and a dash where it is not known.

    >>> [number(value) for value in (None, 0.123456, 9.96, 25.04, 1234.5)]
    ['–', '0.123', '9.96', '25', '1,234']
    """
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """Return a time in its largest whole unit.

    >>> [duration(seconds) for seconds in (None, 4.2, 90, 7200)]
    ['–', '4 s', '1.5 min', '2.0 h']
    """
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


MEASURES: tuple[tuple[str, str, Callable[[float | None], str]], ...] = (  # of a system: key, title, in words
    ("parameters", "parameters", number),
    ("training_seconds", "training time", duration),
    ("times_real_time", "× real time", number),
)


TUNED = ("lm_weight", "insertion_penalty")


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
    right.annotate(f"{rates[best]:.1f} %", (numbers[best], rates[best]), textcoords="offset points", xytext=(-20, 8))
    right.set(title="phone error rate on dev speakers", xlabel="epoch", ylabel="%", ylim=(0, 100))
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    save(figure, path)


def likelihood_curve(iterations: Sequence[dict[str, float]], path: Path) -> None:
    """Draw the likelihood of the training speech over the iterations of EM, and where Gaussians were split.

    Parameters
    ----------
    iterations
        The run's history: ``number``, ``log_likelihood`` and ``num_gaussians`` of each.
    path
        The picture to write; its suffix tells the format.
    """
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    numbers = [entry["number"] for entry in iterations]
    axes.plot(numbers, [entry["log_likelihood"] for entry in iterations], marker=".")
    axes.set(title="likelihood of training speech", xlabel="iteration", ylabel="nats a frame")
    count = axes.twinx()
    count.step(numbers, [entry["num_gaussians"] for entry in iterations], where="post", color="C1", alpha=0.6)
    count.set_ylabel("Gaussians", color="C1")
    count.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    save(figure, path)


def posteriors(
    waveform: np.ndarray,
    log_probs: np.ndarray,
    tokens: Sequence[str],
    frame_shift: float,
    texts: Mapping[str, Sequence[str]],
    times: Sequence[tuple[str, float, float]],
    path: Path,
    title: str,
) -> None:
    """Draw an utterance's spectrogram, the phones that were said, and the posteriors under them.

    Parameters
    ----------
    waveform : (N,)
        At 16 kHz.
    log_probs : (T', C)
        Natural logs; column 0 is the blank, drawn in grey.
    tokens
        Label of each column.
    frame_shift
        Seconds from one row of `log_probs` to the next.
    texts
        Lines to print below, such as the reference's labels and the recognised ones, by their names.
    times
        Label, start and end in seconds of each phone said, where the corpus has them; drawn over the spectrogram.
    """
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(12, 5.6), sharex=True, layout="constrained", height_ratios=(2, 3)
    )
    draw_spectrogram(top, waveform, times, title)
    _draw_spikes(bottom, log_probs, tokens, frame_shift)
    lines = "\n".join(f"{name}: {' '.join(labels)}" for name, labels in texts.items())
    bottom.set(ylabel="posterior", ylim=(0, 1.12), xlabel=f"seconds\n\n{lines}")
    bottom.legend(loc="upper right", fontsize=8)
    save(figure, path)


def tuning(rows: Sequence[Mapping[str, float]], path: Path, title: str) -> None:
    """Draw the error rates of settings that were tried: over the weight, and over the penalty.

    Parameters
    ----------
    rows
        ``lm_weight``, ``insertion_penalty`` and ``dev_rate`` in percent.
    path
        The picture.
    title
        The language model's name.
    """
    best = min(rows, key=lambda row: row["dev_rate"])
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    ratios = {round(row["insertion_penalty"] / row["lm_weight"], 1) for row in rows if row["lm_weight"]}
    lines = [
        (
            0,
            f"penalty {ratio:g} × weight",
            [row for row in rows if abs(_off(row, ratio)) < 0.05 * row["lm_weight"] + 0.01],
        )
        for ratio in sorted(ratios)
    ]
    for weight in sorted({row["lm_weight"] for row in rows}):
        lines.append((1, f"weight {weight:g}", [row for row in rows if row["lm_weight"] == weight]))
    for panel, label, members in lines:
        points = sorted((row[TUNED[panel]], row["dev_rate"]) for row in members)
        if len(points) > 2:
            panels[panel].plot(*zip(*points, strict=True), marker=".", label=label)
    for axes, key in zip(panels, TUNED, strict=True):
        axes.plot(best[key], best["dev_rate"], "o", markerfacecolor="none", color="black", markersize=10)
        axes.set_xlabel(key.replace("lm_", "LM ").replace("_", " "))
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("errors on dev, %")
    found = f"weight {best['lm_weight']:g}, penalty {best['insertion_penalty']:g}"
    figure.suptitle(f"{title}: {best['dev_rate']:.2f} % at {found}")
    save(figure, path)


def _off(row: Mapping[str, float], ratio: float) -> float:
    """Return how far a setting's penalty is from so many times its weight."""
    return row["insertion_penalty"] - ratio * row["lm_weight"]


def confusion_heatmap(confusions: Mapping[str, Any], path: Path, title: str = "What was recognised") -> None:
    """Draw a confusion matrix: reference labels in rows, recognised ones in columns, deletions and insertions beside.

    A cell's colour is its share of the reference label, on a square-root scale, so that rare confusions can be seen; of
    the insertions, its share of all. A label that the reference never has leaves its row empty.

    Parameters
    ----------
    confusions
        From `asr.evaluation.confusions.Confusions.to_json`.
    path
        The picture to write; its suffix tells the format.
    title
        Printed above, such as the system's name and the test set's.

    Raises
    ------
    AsrError
        If nothing was counted.
    """
    labels = confusions["labels"]
    size = len(labels)
    if size == 0:
        raise AsrError("no confusion matrix without labels: check the references' phones")
    cells = np.zeros((size + 1, size + 1))
    cells[:size, :size], cells[:size, size], cells[size, :size] = (
        confusions[key] for key in ("counts", "deletions", "insertions")
    )
    percent = 100 * cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    side = 2.4 + 0.22 * (size + 1)
    figure, axes = plt.subplots(figsize=(side + 0.6, side), layout="constrained")
    mesh = axes.pcolormesh(percent, cmap="Blues", norm=PowerNorm(0.5, 0, 100), edgecolors="0.93", linewidth=0.4)
    middles = np.arange(size + 1) + 0.5
    axes.set_xticks(middles, [*labels, "deleted"], rotation=90, fontsize=8)
    axes.set_yticks(middles, [*labels, "inserted"], fontsize=8)
    axes.tick_params(length=0)
    for draw in (axes.axhline, axes.axvline):
        draw(size, color="black", lw=1)
    axes.set(title=title, xlabel="recognised", ylabel="reference", aspect="equal")
    axes.invert_yaxis()
    bar = figure.colorbar(mesh, ax=axes, shrink=0.6, ticks=[0, 1, 5, 10, 25, 50, 100])
    bar.set_label("% of the row")
    save(figure, path)


def comparison(comparisons: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw systems side by side, the best on top: error rates with their intervals, size, and times.

    Parameters
    ----------
    comparisons
        One for each test set, as ``compare.json`` has them: ``corpus``, ``split``, ``scoring`` and ``systems``.
    path
        The picture to write; its suffix tells the format.
    """
    sizes = [len(each["systems"]) for each in comparisons]
    figure, grid = plt.subplots(
        len(sizes),
        1 + len(MEASURES),
        figsize=(12, sum(0.9 + 0.34 * size for size in sizes) + 0.2),
        layout=ConstrainedLayoutEngine(wspace=0.03, hspace=0.06),
        sharey="row",
        squeeze=False,
        height_ratios=[2 + size for size in sizes],
        width_ratios=(2.6, *(1 for _ in MEASURES)),
    )
    for row, each in zip(grid, comparisons, strict=True):
        systems = each["systems"]
        _draw_rates(row[0], systems)
        row[0].set_title(
            f"{each['corpus']} {each['split']}, {each['scoring']}: phone error rate", loc="left", fontsize=11
        )
        for axes, (key, title, formatter) in zip(row[1:], MEASURES, strict=True):
            _draw_measure(axes, [system[key] for system in systems], formatter)
            axes.set_title(title, loc="left", fontsize=11)
        for axes in row:
            axes.spines[["top", "right", "left"]].set_visible(False)
            axes.tick_params(axis="y", length=0)
    save(figure, path)


def _draw_rates(axes: plt.Axes, systems: Sequence[Mapping[str, Any]]) -> None:
    """Draw a bar for each system with its 95 % interval, and its rate in figures beside it."""
    places = np.arange(len(systems))
    rates = np.array([system["per"] for system in systems])
    bounds = np.array([system["interval"] for system in systems])
    axes.barh(places, rates, height=0.62, color=BAR_COLOUR)
    whiskers = (rates - bounds[:, 0], bounds[:, 1] - rates)
    axes.errorbar(rates, places, xerr=whiskers, fmt="none", ecolor="black", elinewidth=1, capsize=3)
    top = max(bounds.max(), 0.01)  # all systems may be right
    for place, system in enumerate(systems):
        axes.text(system["interval"][1] + 0.015 * top, place, f"{system['per']:.2f}", va="center", fontsize=9)
    axes.set_yticks(places, [system["name"] for system in systems])
    axes.set(xlabel="%, with 95 % interval", xlim=(0, 1.12 * top), ylim=(len(systems) - 0.4, -0.6))
    axes.xaxis.grid(alpha=0.3)
    axes.set_axisbelow(True)


def _draw_measure(axes: plt.Axes, values: Sequence[float | None], formatter: Callable[[float | None], str]) -> None:
    """Draw a dot for each value on a logarithmic axis, and the value in figures above it."""
    known = [(value, place) for place, value in enumerate(values) if value]
    axes.set_xscale("log")
    for place in range(len(values)):
        axes.axhline(place, color="0.9", lw=0.8, zorder=0)
    for value, place in known:
        axes.plot(value, place, "o", color=BAR_COLOUR, ms=5)
        axes.annotate(
            formatter(value), (value, place), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=8
        )
    axes.tick_params(axis="x", which="both", bottom=False, labelbottom=False)
    axes.spines["bottom"].set_visible(False)
    numbers = [value for value, _ in known] or [1.0]
    margin = max(4, (max(numbers) / min(numbers)) ** 0.25)  # room for the figures
    axes.set_xlim(min(numbers) / margin, max(numbers) * margin)


def _draw_spikes(axes: plt.Axes, log_probs: np.ndarray, tokens: Sequence[str], frame_shift: float) -> None:
    """Draw posteriors (T', C), each run of a likeliest phone named at its peak."""
    probs = np.exp(log_probs)
    seconds = (np.arange(len(probs)) + 0.5) * frame_shift
    axes.fill_between(seconds, probs[:, 0], color=BLANK_COLOUR, lw=0, label="blank")
    for token in np.flatnonzero(probs[:, 1:].max(axis=0) > 0.1) + 1:
        axes.plot(seconds, probs[:, token], lw=1.2)
    spikes = best_path(log_probs)
    for token, t in zip(spikes.tokens, spikes.timesteps, strict=True):
        place = (seconds[t], probs[t, token])
        axes.annotate(tokens[token], place, ha="center", fontsize=8, xytext=(0, 2), textcoords="offset points")


def draw_spectrogram(
    axes: plt.Axes, waveform: np.ndarray, times: Sequence[tuple[str, float, float]], title: str
) -> None:
    """Draw a mel spectrogram of a waveform (N,) at 16 kHz, with the phones said (label, start, end) above it."""
    mels = fbank(waveform, num_mel_bins=80, use_energy=False).T
    librosa.display.specshow(
        mels, sr=SAMPLE_RATE, hop_length=HOP_LENGTH, x_axis="time", ax=axes, cmap="magma", vmin=np.quantile(mels, 0.1)
    )
    axes.set(ylabel="mel bin", xlabel="", xlim=(0, len(waveform) / SAMPLE_RATE))
    axes.set_title(title, pad=16 if times else 6)
    for label, start, end in times:
        axes.axvline(start, color="white", lw=0.5)
        place = ((start + end) / 2, 1.02)
        axes.annotate(label, place, xycoords=("data", "axes fraction"), ha="center", fontsize=8)


def save(figure: plt.Figure, path: Path) -> None:
    """Write a figure and close it; the path's suffix tells the format.

    Raises
    ------
    AsrError
        Matplotlib knows no such format.
    OutputError
        The file cannot be written.
    """
    try:
        with files.replacing(path) as temporary:
            figure.savefig(temporary, dpi=110)
    except ValueError as error:
        raise AsrError(f"cannot draw {path}: {error}; name it .png, .svg or .pdf") from error
    finally:
        plt.close(figure)


def attention_weights(
    waveform: np.ndarray,
    weights: np.ndarray,
    labels: Sequence[str],
    frame_shift: float,
    times: Sequence[tuple[str, float, float]],
    path: Path,
    title: str,
) -> None:
    """Draw attention weights under the utterance's spectrogram, phone by phone from the top.

    Parameters
    ----------
    waveform : (N,)
        At 16 kHz.
    weights : (L, T')
        α of each phone.
    labels : (L,)
        The phones.
    frame_shift
        Seconds from one column of `weights` to the next.
    times
        Label, start and end in seconds of each phone said, where the corpus has them; drawn over both.
    path
        The picture to write; its suffix tells the format.
    title
        Printed above.
    """
    height = 3 + 0.16 * len(labels)
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(12, height), sharex=True, layout="constrained", height_ratios=(2, height - 2)
    )
    draw_spectrogram(top, waveform, times, title)
    for _, start, _ in times:
        bottom.axvline(start, color="0.8", lw=0.5)
    frames = np.arange(weights.shape[1] + 1) * frame_shift
    bottom.pcolormesh(frames, np.arange(len(labels) + 1), weights, cmap="Greys", vmin=0, alpha=0.9, rasterized=True)
    bottom.set_yticks(np.arange(len(labels)) + 0.5, labels, fontsize=8)
    bottom.set(xlabel="seconds", ylabel="phone written")
    bottom.invert_yaxis()
    save(figure, path)
