"""The table at the end of `asr align --output-dir`: what became of the recordings, and which are worth a look."""

from collections.abc import Mapping, Sequence
from typing import Any

from asr.core.terminal import columns, duration

WORST = 10  # recordings that are named
POOR = 0.5  # the quality below which they are


def table(rows: Mapping[str, Mapping[str, Any]], num_failed: int) -> str:
    """Return lines that sum up a batch.

    Parameters
    ----------
    rows
        The summary of each recording that was aligned, or had been before, by its name.
    num_failed
        How many could not be aligned.

    Examples
    --------
    >>> row = {"seconds": 90.0, "words": 200, "unsaid": 0, "unspoken": 0.0, "misfit": None, "quality": 0.9, "snr": 25.0}
    >>> print(table({"a": row, "b": row | {"quality": 0.2, "misfit": "the text does not fit"}}, 0))
    aligned                 2
    speech              3 min
    words                 400
    words not said          0
    speech not in text  0.0 s
    texts that misfit       1
    quality              0.55
    <BLANKLINE>
    worth a look  quality  SNR dB  words  not said  not in text
    b                0.20      25    200         0        0.0 s
    """
    passed = sum(bool(row.get("passed")) for row in rows.values())
    counts = [
        ("aligned", str(len(rows) - passed)),
        *([("done before", str(passed))] if passed else []),
        *([("failed", str(num_failed))] if num_failed else []),
    ]
    if rows:
        words = sum(row["words"] for row in rows.values())
        weights = [max(row["words"], 1) for row in rows.values()]
        mean = sum(row["quality"] * weight for row, weight in zip(rows.values(), weights, strict=True)) / sum(weights)
        counts += [
            ("speech", duration(sum(row["seconds"] for row in rows.values()))),
            ("words", str(words)),
            ("words not said", str(sum(row["unsaid"] for row in rows.values()))),
            ("speech not in text", duration(sum(row["unspoken"] for row in rows.values()))),
            ("texts that misfit", str(sum(row["misfit"] is not None for row in rows.values()))),
            ("quality", f"{mean:.2f}"),
        ]
    parts = [columns(counts)]
    poor = [name for name, row in rows.items() if row["quality"] < POOR or row["misfit"]]
    worst = sorted(poor, key=lambda name: rows[name]["quality"])[:WORST]
    if worst:
        parts.append(columns([HEAD, *([name, *_cells(rows[name])] for name in worst)]))
    return "\n\n".join(parts)


HEAD: Sequence[str] = ("worth a look", "quality", "SNR dB", "words", "not said", "not in text")


def _cells(row: Mapping[str, Any]) -> list[str]:
    figures = f"{row['quality']:.2f}", f"{row['snr']:.0f}", str(row["words"]), str(row["unsaid"])
    return [*figures, duration(row["unspoken"])]
