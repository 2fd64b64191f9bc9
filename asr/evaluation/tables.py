"""Scores as text: lines to read, the table of a model card, and the spread over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

from asr.evaluation import boundaries, confusions, score
from asr.evaluation.metrics import seed_spread

NUM_ERRORS = 8  # in each table


def score_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table.

    >>> print(score_table([{"corpus": "mini", "split": "test", "decoder": "beam 16", "scoring": "timit39", "per": 9.5,
    ...     "interval": [9.0, 10.0], "num_phones": 84, "num_utterances": 3}]))  # doctest: +NORMALIZE_WHITESPACE
    | corpus | split | decoder | phones | PER | 95 % interval | scored |
    |---|---|---|---|---|---|---|
    | mini | test | beam 16 | timit39 | 9.50 % | 9.00 - 10.00 | 3 utterances, 84 phones |
    """
    head = "| corpus | split | decoder | phones | PER | 95 % interval | scored |\n|---|---|---|---|---|---|---|\n"
    return head + "".join(
        f"| {row['corpus']} | {row['split']} | {row['decoder']} | {row['scoring']} | {row['per']:.2f} % | "
        f"{row['interval'][0]:.2f} - {row['interval'][1]:.2f} | "
        f"{row['num_utterances']:,} utterances, {row['num_phones']:,} phones |\n"
        for row in rows
    )


def group_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table of the rates by gender, and of children and adults, of the rows that have them.

    >>> women = {"group": "female", "per": 9.5, "num_phones": 84, "num_utterances": 3}
    >>> print(group_table([{"corpus": "mini", "split": "test", "decoder": "beam 16",
    ...     "groups": {"gender": [women]}}]))  # doctest: +NORMALIZE_WHITESPACE
    | corpus | split | decoder | speakers | PER | scored |
    |---|---|---|---|---|---|
    | mini | test | beam 16 | female | 9.50 % | 3 utterances, 84 phones |
    """
    head = "| corpus | split | decoder | speakers | PER | scored |\n|---|---|---|---|---|---|\n"
    return head + "".join(
        f"| {row['corpus']} | {row['split']} | {row['decoder']} | {group['group']} | {group['per']:.2f} % | "
        f"{group['num_utterances']:,} utterances, {group['num_phones']:,} phones |\n"
        for row in rows
        for groups in row.get("groups", {}).values()
        for group in groups
    )


def lines(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as lines to read.

    >>> print(lines([{"corpus": "mini", "split": "test", "decoder": "beam 16", "per": 9.5, "interval": [9.0, 10.0],
    ...     "substitutions": 5, "insertions": 1, "deletions": 2, "num_phones": 84, "num_utterances": 3}]))
    mini test, beam 16: PER 9.50 % [9.00, 10.00]  (5 sub, 1 ins, 2 del of 84 phones, 3 utterances)
    """
    return "\n".join(
        f"{row['corpus']} {row['split']}, {row['decoder']}: PER {row['per']:.2f} % "
        f"[{row['interval'][0]:.2f}, {row['interval'][1]:.2f}]  ({row['substitutions']} sub, {row['insertions']} ins, "
        f"{row['deletions']} del of {row['num_phones']} phones, {row['num_utterances']} utterances)"
        + _say_words(row.get("words"))
        for row in rows
    )


def _say_words(words: Mapping[str, Any] | None) -> str:
    if words is None:
        return ""
    low, high = words["interval"]
    return (
        f"; WER {words['wer']:.2f} % [{low:.2f}, {high:.2f}]  ({words['substitutions']} sub, "
        f"{words['insertions']} ins, {words['deletions']} del of {words['num_words']} words)"
    )


def details(evaluation: Mapping[str, Any]) -> str:
    """Return what an evaluation found on one corpus: all regimes, the commonest errors, features, times, confidence."""
    parts = [
        f"{evaluation['corpus']} {evaluation['split']}, {evaluation['decoder']}",
        score.table(evaluation["regimes"]),
        "\n" + confusions.table(evaluation["confusions"], NUM_ERRORS) + "\n",
    ]
    if evaluation["pfer"] is not None:
        parts.append(f"phonetic feature error rate: {evaluation['pfer']:.2f} %")
    if evaluation["calibration"] is not None:
        raw, ece = evaluation["calibration"]["ece_raw"], evaluation["calibration"]["ece"]
        parts.append(f"expected calibration error of confidences: {ece:.3f} (of the network's posteriors: {raw:.3f})")
    if evaluation["boundaries"] is not None:
        parts.append(boundaries.table(evaluation["boundaries"]))
    return "\n".join(parts)


def seed_rows(found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the mean and the standard deviation of the rates of several seeds, a row for each decoder and corpus.

    >>> rows = {"seed-1": [{"corpus": "mini", "split": "test", "decoder": "beam 16", "per": 2.0}],
    ...         "seed-2": [{"corpus": "mini", "split": "test", "decoder": "beam 16", "per": 3.0}]}
    >>> seed_rows(rows)[0]["per"], seed_rows(rows)[0]["standard_deviation"]
    (2.5, 0.71)
    """
    spread = []
    for members in zip(*found.values(), strict=True):
        rates = [row["per"] for row in members]
        mean, deviation = seed_spread(rates)
        about = {key: members[0][key] for key in ("corpus", "split", "decoder")}
        spread.append(about | {"per": round(mean, 2), "standard_deviation": round(deviation, 2), "rates": rates})
    return spread


def say_spread(row: dict[str, Any]) -> str:
    """Return a row of `seed_rows` as a line to read.

    >>> say_spread({"corpus": "mini", "split": "test", "decoder": "beam 16", "per": 2.5, "standard_deviation": 0.71,
    ...     "rates": [2.0, 3.0]})
    'mini test, beam 16: PER 2.50 ± 0.71 % over 2 seeds (2.00, 3.00)'
    """
    rates = ", ".join(f"{rate:.2f}" for rate in row["rates"])
    return (
        f"{row['corpus']} {row['split']}, {row['decoder']}: PER {row['per']:.2f} ± {row['standard_deviation']:.2f} % "
        f"over {len(row['rates'])} seeds ({rates})"
    )
