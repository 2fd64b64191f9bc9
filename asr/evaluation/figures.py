"""Pictures of a run: how training went, the posteriors of an utterance, and which phones are confused.

Letters: N samples, T' output frames, C classes, L phones.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np

from asr.speech.audio import SAMPLE_RATE

matplotlib.use("agg")

import librosa.display
import matplotlib.pyplot as plt
from matplotlib.colors import PowerNorm
from matplotlib.ticker import MaxNLocator

from asr.core import files
from asr.core.errors import AsrError
from asr.ctc import best_path
from asr.evaluation.lettering import make_legible
from asr.speech.features import HOP_LENGTH, fbank

if TYPE_CHECKING:
    from asr.data.check import Checked
    from asr.evaluation.sensitivity import Curve

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
    right.annotate(f"{rates[best]:.1f} %", (numbers[best], rates[best]), textcoords="offset points", xytext=(-20, 8))
    right.set(title="phone error rate on dev speakers", xlabel="epoch", ylabel="%", ylim=(0, 100))
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    save(figure, path)


def likelihood_curve(iterations: Sequence[dict[str, float]], path: Path) -> None:
    """Draw the likelihood of the training speech and the number of Gaussians over the iterations of EM.

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
    """Draw an utterance's spectrogram with the phones said, and the posteriors below it.

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
        Labels to print below, such as the reference and the hypothesis, by the name of their line.
    times
        Label, start and end in seconds of each phone said, drawn over the spectrogram; empty where the corpus has no
        times.
    path
        The picture to write; its suffix tells the format.
    title
        Printed above.
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


def tuning(rows: Sequence[Mapping[str, float]], best: Mapping[str, float], path: Path, title: str) -> None:
    """Draw the error rates of the settings that were tried: over each setting.

    Parameters
    ----------
    rows
        ``lm_weight``, ``insertion_penalty``, ``label_prior_scale`` where it was tried, and ``dev_rate`` in percent of
        each setting.
    best
        The one of them that is kept.
    path
        The picture to write; its suffix tells the format.
    title
        The language model's name.
    """
    over = {"lm_weight": _of_one_ratio(rows), "insertion_penalty": _alike(rows, "insertion_penalty")}
    found = f"weight {best['lm_weight']:g}, penalty {best['insertion_penalty']:g}"
    if "label_prior_scale" in best:
        over["label_prior_scale"] = _alike(rows, "label_prior_scale")
        found += f", prior scale {best['label_prior_scale']:g}"
    figure, panels = plt.subplots(1, len(over), figsize=(4.5 * len(over), 3.4), sharey=True, layout="constrained")
    for axes, (key, lines) in zip(panels, over.items(), strict=True):
        _draw_tuning(axes, key, lines, best)
    panels[0].set_ylabel("errors on dev, %")
    figure.suptitle(f"{title}: {best['dev_rate']:.2f} % at {found}")
    save(figure, path)


def _of_one_ratio(rows: Sequence[Mapping[str, float]]) -> dict[str, list[Mapping[str, float]]]:
    """Return the settings with the same scale of the priors and the same ratio of penalty to weight up to rounding.

    They are given by the name of their line.
    """
    ratios = {round(row["insertion_penalty"] / row["lm_weight"], 1) for row in rows if row["lm_weight"]}
    scales = {row.get("label_prior_scale", 0.0) for row in rows}

    def has(row: Mapping[str, float], ratio: float, scale: float) -> bool:
        near = abs(row["insertion_penalty"] - ratio * row["lm_weight"]) < 0.05 * row["lm_weight"] + 0.01
        return near and row.get("label_prior_scale", 0.0) == scale

    return {
        f"penalty {ratio:g} × weight" + (f", prior scale {scale:g}" if scale else ""): [
            row for row in rows if has(row, ratio, scale)
        ]
        for scale in sorted(scales)
        for ratio in sorted(ratios)
    }


def _alike(rows: Sequence[Mapping[str, float]], key: str) -> dict[str, list[Mapping[str, float]]]:
    """Return the settings that differ in one value only, by the name of their line: what they have in common."""
    found: dict[str, list[Mapping[str, float]]] = {}
    for row in rows:
        common = [f"{name} {value:g}" for name, value in row.items() if name not in (key, "dev_rate")]
        found.setdefault(", ".join(common).replace("lm_", "").replace("_", " "), []).append(row)
    return found


def _draw_tuning(
    axes: plt.Axes, key: str, lines: Mapping[str, Sequence[Mapping[str, float]]], best: Mapping[str, float]
) -> None:
    """Draw error rates over one setting, a line for each group of more than two settings, and mark the best."""
    for label, members in lines.items():
        points = sorted((row[key], row["dev_rate"]) for row in members)
        if len(points) > 2:
            axes.plot(*zip(*points, strict=True), marker=".", label=label)
    axes.plot(best[key], best["dev_rate"], "o", markerfacecolor="none", color="black", markersize=10)
    axes.set_xlabel(key.replace("lm_", "LM ").replace("_", " "))
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)


def sensitivity_curves(curves: "Sequence[Curve]", path: Path) -> None:
    """Draw how the sensitivity of systems falls with the distance into the past.

    Parameters
    ----------
    curves
        One for each system.
    path
        The picture to write; its suffix tells the format.
    """
    figure, axes = plt.subplots(figsize=(7.5, 4.4), layout="constrained")
    for each in curves:
        label = each.name + (" (past frames only)" if each.ahead else "")
        axes.plot(each.seconds, np.where(each.norms > 0, each.norms, np.nan), label=label)
    axes.set(yscale="log", xlabel="T − t in seconds", ylabel="‖∂v_T / ∂x_t‖, largest = 1", ylim=(1e-6, 2))
    axes.set_title("what the logits of a frame owe to the frames before it; mean over dev utterances", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    save(figure, path)


def corpus_histograms(utterances: "Sequence[Checked]", path: Path) -> None:
    """Draw what the utterances of a corpus are like: lengths, phone rates, silence, loudness, and who says how much.

    Parameters
    ----------
    utterances
        From `asr.data.check.check`; those that could not be read are left out.
    path
        The picture to write; its suffix tells the format.

    Raises
    ------
    AsrError
        No utterance could be read.
    """
    heard = [each for each in utterances if each.duration]
    if not heard:
        raise AsrError("no utterance could be read: mend what is left out")
    values = {
        "length in seconds": [each.duration for each in heard],
        "phones a second": [each.num_phones / each.duration for each in heard if each.num_phones],
        "silence in %": [100 * each.silence for each in heard],
        "loudest sample in dB": [each.peak for each in heard],
        "clipped samples in %": [100 * each.clipped for each in heard],
    }
    figure, panels = plt.subplots(2, 3, figsize=(11, 5.6), layout="constrained")
    for axes, (label, numbers) in zip(panels.flat, values.items(), strict=False):
        axes.hist(numbers, bins=40, color="C0")
        axes.set(xlabel=label, ylabel="utterances")
    minutes: dict[str, float] = {}
    for each in heard:
        minutes[each.speaker] = minutes.get(each.speaker, 0.0) + each.duration / 60
    panels[1, 2].plot(range(1, len(minutes) + 1), sorted(minutes.values(), reverse=True), marker=".", color="C1")
    panels[1, 2].set(xlabel="speaker, by amount", ylabel="minutes", ylim=(0, None))
    panels[1, 2].xaxis.set_major_locator(MaxNLocator(integer=True))
    save(figure, path)


def confusion_heatmap(confusions: Mapping[str, Any], path: Path, title: str = "What was recognised") -> None:
    """Draw a confusion matrix: reference labels in rows, recognised labels in columns, deletions and insertions beside.

    The colour of a cell is its share of the row, on a square-root scale, so that rare confusions can be seen. The row
    of a label that is never in the reference is empty.

    Parameters
    ----------
    confusions
        From `asr.evaluation.confusions.Confusions.to_json`.
    path
        The picture to write; its suffix tells the format.
    title
        Printed above, such as the names of the test set and the decoder.

    Raises
    ------
    AsrError
        Nothing was counted.
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


def _draw_spikes(axes: plt.Axes, log_probs: np.ndarray, tokens: Sequence[str], frame_shift: float) -> None:
    """Draw posteriors (T', C), and name each phone of the best path at its peak."""
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
    """Draw the mel spectrogram of a waveform (N,) at 16 kHz, with the phones said (label, start, end) above it."""
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
        make_legible(figure)
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
    """Draw an utterance's spectrogram and, below it, the attention weights of each recognised phone in a row.

    Parameters
    ----------
    waveform : (N,)
        At 16 kHz.
    weights : (L, T')
        The attention weights of each recognised phone.
    labels : (L,)
        The recognised phones.
    frame_shift
        Seconds from one column of `weights` to the next.
    times
        Label, start and end in seconds of each phone said, drawn over both; empty where the corpus has no times.
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
