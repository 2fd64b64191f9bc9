"""Several systems side by side on the same utterances: rates, size, time, and whether they differ."""

import itertools
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.core import files
from asr.core.errors import AsrError
from asr.evaluation import comparison_figure, comparison_tables, page, results, score
from asr.evaluation.metrics import ErrorCounts, PairedDifference, aligned_errors, holm, matched_pairs

Evaluation = dict[str, Any]
Member = tuple[Path, Evaluation]  # a run folder, and its evaluation on one test set


def compare_runs(runs: Sequence[Path], output: Path) -> str:
    """Compare what `asr evaluate` wrote into run folders, on each test set that all of them were scored on.

    Parameters
    ----------
    runs
        Run folders, or folders of run folders, of which every scored run is compared. Each seed counts as a system.
    output
        Receives ``compare.html``, the page of `asr evaluate` for all systems; ``compare.md``, the tables for a README;
        ``compare.png``, the same as bars; and ``compare.json``, which has every difference.

    Returns
    -------
    str
        For each test set a table of the systems, the best first, and their differences.

    Raises
    ------
    AsrError
        There are fewer than two systems, a run was not scored, or no test set is shared by all runs.
    """
    test_sets = _shared_test_sets([folder for run in runs for folder in results.scored_folders(run)])
    comparisons = [_comparison(members) for members in test_sets]
    output.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["asr", *sys.argv[1:]])
    _write_page(output / "compare.html", test_sets, comparisons)
    comparison_figure.draw(comparisons, output / "compare.png")
    files.write_text(output / "compare.md", comparison_tables.markdown(comparisons, command))
    files.write_json(output / "compare.json", {"command": command, "comparisons": comparisons})
    shown = comparison_tables.text(comparisons)
    return f"{shown}\n\npage: {output / 'compare.html'} (and .md, .png and .json beside it)"


def _shared_test_sets(folders: Sequence[Path]) -> list[list[Member]]:
    """Return the systems on each test set that all were scored on, the best first."""
    if len(folders) < 2:
        there = ", ".join(map(str, folders)) or "none"
        raise AsrError(f"asr compare needs two scored runs or more, and was given {there}: score another first")
    found = [results.read_evaluations(folder) for folder in folders]
    shared = [key for key in found[0] if all(key in other for other in found)]
    if not shared:
        each = "; ".join(f"{run}: {', '.join(map(' '.join, keys))}" for run, keys in zip(folders, found, strict=True))
        raise AsrError(f"no test set that all runs were scored on ({each}): run `asr evaluate` on the same one")
    systems = list(zip(folders, found, strict=True))
    return [sorted(((folder, other[key]) for folder, other in systems), key=_error_rate) for key in shared]


def _error_rate(member: Member) -> float:
    return score.headline(member[1]["regimes"])["per"]


def _write_page(path: Path, test_sets: Sequence[Sequence[Member]], comparisons: Sequence[dict[str, Any]]) -> None:
    """Write the page of all systems; it shows differences that have a line each as notes, the others as a triangle."""
    evaluations = [evaluation for members in test_sets for _, evaluation in members]
    notes = []
    for each in filter(comparison_tables.is_listed, comparisons):
        notes.append(f"{comparison_tables.heading(each)}. {comparison_tables.PAIRS}")
        notes += comparison_tables.difference_lines(each)
    page.write(path, evaluations, notes, [each for each in comparisons if not comparison_tables.is_listed(each)])


def _comparison(members: Sequence[Member]) -> dict[str, Any]:
    """Compare systems on one test set; ``comparisons`` in docs/reference/evaluation.md describes the result."""
    evaluations = [evaluation for _, evaluation in members]
    names, first = page.distinct_names(evaluations), evaluations[0]
    headline = score.headline(first["regimes"])
    return {
        **{key: first[key] for key in ("corpus", "split", "scoring")},
        **{key: headline[key] for key in ("num_phones", "num_utterances")},
        "systems": [_system_row(name, *member) for name, member in zip(names, members, strict=True)],
        "differences": _differences(names, evaluations),
    }


def _system_row(name: str, run: Path, evaluation: Evaluation) -> dict[str, Any]:
    headline = score.headline(evaluation["regimes"])
    epochs = evaluation["training"]  # unlike `training_seconds`, without the systems that made the alignments
    return {
        "name": name,
        "run": str(run),
        "decoder": evaluation["decoder"],
        **{key: headline[key] for key in ("per", "interval", "substitutions", "insertions", "deletions")},
        **{key: evaluation[key] for key in ("parameters", "training_seconds", "times_real_time")},
        "seconds_per_epoch": round(epochs[-1]["seconds"] / epochs[-1]["epoch"], 1) if epochs else None,
    }


@dataclass(frozen=True)
class _System:
    """What a test of differences needs of a system: its errors in each utterance, and what was scored, by id."""

    name: str
    scoring: str
    phones: dict[str, list[str]]
    counts: dict[str, ErrorCounts]
    speakers: dict[str, str]

    @classmethod
    def of(cls, name: str, evaluation: Evaluation) -> "_System":
        rows = {row["id"]: row for row in evaluation["utterances"]}
        return cls(
            name,
            evaluation["scoring"],
            {key: [label for label, _ in row["pairs"] if label is not None] for key, row in rows.items()},
            {key: aligned_errors(row["pairs"]) for key, row in rows.items()},
            {key: row["speaker"] for key, row in rows.items()},
        )


def _differences(names: Sequence[str], evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Test each system against each better one."""
    systems = [_System.of(name, evaluation) for name, evaluation in zip(names, evaluations, strict=True)]
    pairs = [(worse, better) for better, worse in itertools.combinations(systems, 2)]
    found = [_paired_difference(worse, better) for worse, better in pairs]
    corrected = holm([each.p_value for each in found])
    return [
        _difference_row(worse.name, better.name, each, p_value)
        for (worse, better), each, p_value in zip(pairs, found, corrected, strict=True)
    ]


def _paired_difference(worse: _System, better: _System) -> PairedDifference:
    if worse.scoring != better.scoring or worse.phones != better.phones:
        raise AsrError(
            f"{worse.name} and {better.name} were not scored on the same phones of the same utterances: run "
            "`asr evaluate` on both again, with the same data.scoring"
        )
    ids = sorted(worse.counts)
    speakers = [worse.speakers[i] for i in ids]
    groups = speakers if len(set(speakers)) > 1 else None
    return matched_pairs([worse.counts[i] for i in ids], [better.counts[i] for i in ids], groups)


def _difference_row(worse: str, better: str, found: PairedDifference, p_value_corrected: float) -> dict[str, Any]:
    difference, low, high = (round(100 * value, 2) + 0.0 for value in (found.difference, *found.interval))  # no -0.0
    return {
        "systems": [worse, better],
        "difference": difference,
        "interval": [low, high],
        "p_value": found.p_value,
        "p_value_corrected": p_value_corrected,
    }
