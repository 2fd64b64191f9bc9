"""The figure of `asr compare`: a row for each test set, a panel for error rates, and one for each other measure."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.layout_engine import ConstrainedLayoutEngine

from asr.evaluation.comparison_tables import MEASURES
from asr.evaluation.figures import plt, save

BAR_COLOUR = "#4878b0"


def draw(comparisons: Sequence[Mapping[str, Any]], path: Path) -> None:
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
    for row, comparison in zip(grid, comparisons, strict=True):
        _draw_comparison(row, comparison)
    save(figure, path)


def _draw_comparison(row: Sequence[plt.Axes], comparison: Mapping[str, Any]) -> None:
    """Draw the systems of one test set: their error rates in the first panel, a measure in each of the others."""
    systems = comparison["systems"]
    _draw_rates(row[0], systems)
    test_set = f"{comparison['corpus']} {comparison['split']}, {comparison['scoring']}"
    row[0].set_title(f"{test_set}: phone error rate", loc="left", fontsize=11)
    for axes, (key, title, formatter) in zip(row[1:], MEASURES, strict=True):
        _draw_measure(axes, [system[key] for system in systems], formatter)
        axes.set_title(title, loc="left", fontsize=11)
    for axes in row:
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)


def _draw_rates(axes: plt.Axes, systems: Sequence[Mapping[str, Any]]) -> None:
    """Draw a bar for each system with its 95 % interval, and print its rate beside it."""
    places = np.arange(len(systems))
    rates = np.array([system["per"] for system in systems])
    bounds = np.array([system["interval"] for system in systems])
    axes.barh(places, rates, height=0.62, color=BAR_COLOUR)
    whiskers = (rates - bounds[:, 0], bounds[:, 1] - rates)
    axes.errorbar(rates, places, xerr=whiskers, fmt="none", ecolor="black", elinewidth=1, capsize=3)
    top = max(bounds.max(), 0.01)  # where no system makes errors
    for place, system in enumerate(systems):
        axes.text(system["interval"][1] + 0.015 * top, place, f"{system['per']:.2f}", va="center", fontsize=9)
    axes.set_yticks(places, [system["name"] for system in systems])
    axes.set(xlabel="%, with 95 % interval", xlim=(0, 1.12 * top), ylim=(len(systems) - 0.4, -0.6))
    axes.xaxis.grid(alpha=0.3)
    axes.set_axisbelow(True)


def _draw_measure(axes: plt.Axes, values: Sequence[float | None], formatter: Callable[[float | None], str]) -> None:
    """Draw a dot for each value on a logarithmic axis, and print the value above it."""
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
    margin = max(4, (max(numbers) / min(numbers)) ** 0.25)  # room for the printed values
    axes.set_xlim(min(numbers) / margin, max(numbers) * margin)
