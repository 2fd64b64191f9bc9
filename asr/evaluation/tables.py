"""Scores as text: lines to read, tables of regimes, errors and boundaries, and the tables of a model card."""

from collections.abc import Mapping, Sequence
from typing import Any

from asr.core.terminal import columns
from asr.evaluation.boundaries import TOLERANCES_MS
from asr.evaluation.confusions import most_frequent, phone_rows

NUM_ERRORS = 8  # lines of each table of errors in `evaluation_text`
CHARACTERS = "characters"  # the unit of a model of letters
GAP = "(nothing)"  # where a label is missing


def number(value: float | None) -> str:
    """Return a number with three digits, or with all digits before the point; a dash where it is not known.

    >>> [number(value) for value in (None, 0.123456, 9.96, 25.04, 1234.5)]
    ['–', '0.123', '9.96', '25', '1,234']
    """
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """Return a duration in seconds, minutes or hours; a dash where it is not known.

    >>> [duration(seconds) for seconds in (None, 4.2, 90, 7200)]
    ['–', '4 s', '1.5 min', '2.0 h']
    """
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def unit_of(rows: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return what the error rate of rows is called, and what is counted: phones, or characters.

    >>> unit_of([{"per": 9.5}]), unit_of([{"per": 9.5, "unit": "characters"}])
    (('PER', 'phones'), ('CER', 'characters'))
    """
    return ("CER", CHARACTERS) if any(row.get("unit") == CHARACTERS for row in rows) else ("PER", "phones")


def score_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows of ``metrics.json`` as a Markdown table.

    >>> row = {"corpus": "mini", "split": "test", "decoder": "beam 16", "scoring": "timit39", "per": 9.5}
    >>> row |= {"interval": [9.0, 10.0], "num_phones": 84, "num_utterances": 3}
    >>> print(score_markdown([row]))  # doctest: +NORMALIZE_WHITESPACE
    | corpus | split | decoder | phones | PER | 95 % interval | scored |
    |---|---|---|---|---|---|---|
    | mini | test | beam 16 | timit39 | 9.50 % | 9.00 - 10.00 | 3 utterances, 84 phones |

    Settings are added where they alone tell two rows apart.
    """
    rate, unit = unit_of(rows)
    head = f"| corpus | split | decoder | {unit} | {rate} | 95 % interval | scored |\n|---|---|---|---|---|---|---|\n"
    return head + "".join(
        f"| {row['corpus']} | {row['split']} | {_decoder(row, rows)} | {row['scoring']} | {row['per']:.2f} % | "
        f"{row['interval'][0]:.2f} - {row['interval'][1]:.2f} | "
        f"{row['num_utterances']:,} utterances, {row['num_phones']:,} {unit} |\n"
        for row in rows
    )


def _decoder(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of a row's decoder, with those settings that a row of the same decoder has otherwise.

    >>> row = {"corpus": "mini", "split": "test", "decoder": "beam 16 + book"}
    >>> rows = [row | {"decode": {"lm": "book", "lm_weight": weight}} for weight in (0.5, 0.8)]
    >>> [_decoder(row, rows) for row in rows], _decoder(rows[0], rows[:1])
    (['beam 16 + book, lm_weight 0.5', 'beam 16 + book, lm_weight 0.8'], 'beam 16 + book')
    """
    like = [each for each in rows if all(each[key] == row[key] for key in ("corpus", "split", "decoder"))]
    settings = row.get("decode", {})
    told = [key for key in settings if any(each.get("decode", {}).get(key) != settings[key] for each in like)]
    return ", ".join([row["decoder"], *(f"{key} {settings[key]}" for key in told)])


def group_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table of the rates by gender, and of children and adults, for the rows that have them.

    >>> women = {"group": "female", "per": 9.5, "num_phones": 84, "num_utterances": 3}
    >>> print(group_markdown([{"corpus": "mini", "split": "test", "decoder": "beam 16",
    ...     "groups": {"gender": [women]}}]))  # doctest: +NORMALIZE_WHITESPACE
    | corpus | split | decoder | speakers | PER | scored |
    |---|---|---|---|---|---|
    | mini | test | beam 16 | female | 9.50 % | 3 utterances, 84 phones |
    """
    rate, unit = unit_of(rows)
    head = f"| corpus | split | decoder | speakers | {rate} | scored |\n|---|---|---|---|---|---|\n"
    return head + "".join(
        f"| {row['corpus']} | {row['split']} | {row['decoder']} | {group['group']} | {group['per']:.2f} % | "
        f"{group['num_utterances']:,} utterances, {group['num_phones']:,} {unit} |\n"
        for row in rows
        for groups in row.get("groups", {}).values()
        for group in groups
    )


def score_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line to read for each row of ``metrics.json``.

    >>> print(*score_lines([{"corpus": "mini", "split": "test", "decoder": "beam 16", "per": 9.5,
    ...     "interval": [9.0, 10.0], "substitutions": 5, "insertions": 1, "deletions": 2, "num_phones": 84,
    ...     "num_utterances": 3}]))
    mini test, beam 16: PER 9.50 % [9.00, 10.00]  (5 sub, 1 ins, 2 del of 84 phones, 3 utterances)
    """
    rate, unit = unit_of(rows)
    return [
        f"{row['corpus']} {row['split']}, {row['decoder']}: {rate} {row['per']:.2f} % "
        f"[{row['interval'][0]:.2f}, {row['interval'][1]:.2f}]  ({row['substitutions']} sub, {row['insertions']} ins, "
        f"{row['deletions']} del of {row['num_phones']} {unit}, {row['num_utterances']} utterances)"
        + (_word_error_text(row["words"]) if "words" in row else "")
        for row in rows
    ]


def _word_error_text(words: Mapping[str, Any]) -> str:
    low, high = words["interval"]
    return (
        f"; WER {words['wer']:.2f} % [{low:.2f}, {high:.2f}]  ({words['substitutions']} sub, "
        f"{words['insertions']} ins, {words['deletions']} del of {words['num_words']} words)"
    )


def evaluation_text(evaluation: Mapping[str, Any]) -> str:
    """Return an evaluation as text: regimes, frequent errors, feature errors, confidences and boundaries."""
    parts = [
        f"{evaluation['corpus']} {evaluation['split']}, {evaluation['decoder']}",
        regime_table(evaluation["regimes"]),
        "\n" + error_tables(evaluation["confusions"], NUM_ERRORS, unit_of([evaluation])[1][:-1]) + "\n",
    ]
    if evaluation["pfer"] is not None:
        parts.append(f"phonetic feature error rate: {evaluation['pfer']:.2f} %")
    if evaluation["calibration"] is not None:
        raw, ece = evaluation["calibration"]["ece_raw"], evaluation["calibration"]["ece"]
        parts.append(f"expected calibration error of confidences: {ece:.3f} (of the network's posteriors: {raw:.3f})")
    if evaluation["boundaries"] is not None:
        parts.append(boundary_table(evaluation["boundaries"]))
    return "\n".join(parts)


def regime_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows of `asr.evaluation.score.regime_rows` as a text table.

    >>> from asr.evaluation.score import regime_rows
    >>> print(regime_table(regime_rows({"a": ["HH", "AY"]}, {"a": ["HH", "EY"]}, "arpabet39")))
    regime      PER %  95 % by utterance  95 % by speaker  sub  ins  del  phones  utterances
    39 ARPAbet  50.00      50.00 - 50.00                -    1    0    0       2           1
    """
    rate = next((key for key in ("wer", "ler") if key in rows[0]), "per")  # of words, of labels of no known set
    unit = {"per": "phones", "wer": "words", "ler": "labels"}[rate]
    name = "CER" if rows[0]["name"] == CHARACTERS else rate.upper()
    head = ["regime", f"{name} %", "95 % by utterance", "95 % by speaker", "sub", "ins", "del"]
    lines = [[*head, CHARACTERS if name == "CER" else unit, "utterances"]]
    for row in rows:
        intervals = [_between(row["interval"]), _between(row["interval_speakers"])]
        counts = [row[key] for key in ("substitutions", "insertions", "deletions", f"num_{unit}", "num_utterances")]
        lines.append([row["name"], f"{row[rate]:.2f}", *intervals, *(f"{count:,}" for count in counts)])
    return columns(lines)


def _between(bounds: Sequence[float] | None) -> str:
    return "-" if bounds is None else f"{bounds[0]:.2f} - {bounds[1]:.2f}"


def error_tables(confusions: Mapping[str, Any], limit: int, unit: str = "phone") -> str:
    """Return two text tables: the most frequent errors, and the phones or characters with the most errors.

    Parameters
    ----------
    confusions
        From `asr.evaluation.confusions.Confusions.to_json`.
    limit
        The most lines in each table.
    unit
        ``phone`` or ``character``.

    Examples
    --------
    >>> from asr.evaluation.confusions import Confusions
    >>> found = Confusions.of([[("t", "d"), ("t", "d"), ("t", "t"), (None, "iy")]], "timit39").to_json()
    >>> print(error_tables(found, 1))
    reference  recognised  count  % of the phone
    t                   d      2            66.7
    <BLANKLINE>
    phone  in reference  sub  del  ins  PER %
    t                 3    2    0    0   66.7
    """
    rows = phone_rows(confusions)
    said = {row["label"]: row["num_phones"] for row in rows}
    errors = [["reference", "recognised", "count", f"% of the {unit}"]]
    for reference, hypothesis, count in most_frequent(confusions, limit):
        share = "-" if reference is None else f"{100 * count / said[reference]:.1f}"
        errors.append([reference or GAP, hypothesis or GAP, f"{count:,}", share])
    worst = [[unit, "in reference", "sub", "del", "ins", f"{unit[0].upper()}ER %"]]
    kinds = ("substitutions", "deletions", "insertions")
    for row in sorted(rows, key=lambda row: -sum(row[kind] for kind in kinds))[:limit]:
        rate = "-" if row["per"] is None else f"{row['per']:.1f}"
        worst.append([row["label"], f"{row['num_phones']:,}", *(f"{row[kind]:,}" for kind in kinds), rate])
    return f"{columns(errors)}\n\n{columns(worst)}"


def boundary_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `asr.evaluation.boundaries.summary` as a text table.

    >>> from asr.evaluation.boundaries import summary
    >>> print(boundary_table([summary("ours", [[0.004, -0.012, 0.060]])]))
    boundaries  ≤ 10 ms  ≤ 20 ms  ≤ 50 ms     mean  median  number
    ours         33.3 %   66.7 %   66.7 %  17.3 ms  4.0 ms       3
    """

    def cell(value: float | None, unit: str) -> str:
        return "–" if value is None else f"{value:.1f} {unit}"

    lines = [["boundaries", *(f"≤ {ms} ms" for ms in TOLERANCES_MS), "mean", "median", "number"]]
    for row in rows:
        shares = [cell(row["within"][str(ms)], "%") for ms in TOLERANCES_MS]
        lines.append(
            [
                row["name"],
                *shares,
                cell(row["mean_ms"], "ms"),
                cell(row["median_ms"], "ms"),
                f"{row['num_boundaries']:,}",
            ]
        )
    return columns(lines)


def spread_line(row: dict[str, Any]) -> str:
    """Return the rates of several seeds as a line to read.

    >>> spread_line({"corpus": "mini", "split": "test", "decoder": "beam 16", "per": 2.5, "standard_deviation": 0.71,
    ...     "rates": [2.0, 3.0]})
    'mini test, beam 16: PER 2.50 ± 0.71 % over 2 seeds (2.00, 3.00)'
    """
    rates = ", ".join(f"{rate:.2f}" for rate in row["rates"])
    rate, deviation = unit_of([row])[0], row["standard_deviation"]
    return (
        f"{row['corpus']} {row['split']}, {row['decoder']}: {rate} {row['per']:.2f} ± {deviation:.2f} % "
        f"over {len(row['rates'])} seeds ({rates})"
    )
