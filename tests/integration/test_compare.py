import json
import re

import pytest

from asr.core.errors import AsrError


def test_runs_side_by_side(cli, trained, tmp_path):
    """The same model with two beams: both rates as `asr evaluate` has them, and their difference."""
    runs = []
    for beam in (1, 4):
        run = tmp_path / f"beam_{beam}"
        assert cli("evaluate", trained.run, f"decode.beam_size={beam}", "--output", run)[0] == 0
        runs.append(run)
    code, out, _ = cli("compare", *runs, "--output", tmp_path / "both")
    assert code == 0
    rows = [json.loads((run / "metrics.json").read_text())["results"][-1] for run in runs]
    for run, row in zip(runs, rows, strict=True):
        low, high = row["interval"]
        errors = rf"{row['substitutions']} +{row['insertions']} +{row['deletions']}"
        assert re.search(rf"{run.name} +{row['per']:.2f} +{low:.2f}–{high:.2f} +{errors} ", out)
    (comparison,) = json.loads((tmp_path / "both" / "compare.json").read_text())["comparisons"]
    assert [system["per"] for system in comparison["systems"]] == sorted(row["per"] for row in rows)
    for system in comparison["systems"]:
        assert system["parameters"] > 10_000
        assert 0 < system["seconds_per_epoch"] < system["training_seconds"]
    (difference,) = comparison["differences"]
    assert difference["difference"] == pytest.approx(abs(rows[0]["per"] - rows[1]["per"]), abs=0.011)
    low, high = difference["interval"]
    assert low <= difference["difference"] <= high
    assert 0 <= difference["p_value"] <= 1
    page = (tmp_path / "both" / "compare.html").read_text(encoding="utf8")
    table = (tmp_path / "both" / "compare.md").read_text(encoding="utf8")
    assert all(run.name in page and f"| {run.name} |" in table for run in runs)
    assert (tmp_path / "both" / "compare.png").is_file()


def test_a_run_does_not_differ_from_itself(cli, trained, tmp_path):
    assert cli("evaluate", trained.run, "decode.beam_size=1", "--output", tmp_path / "a")[0] == 0
    code, out, _ = cli("compare", tmp_path / "a", tmp_path / "a", "--output", tmp_path / "both")
    assert code == 0
    assert "+0.00 [+0.00, +0.00], p = 1.000" in out


def damaged(run, copy, change):
    (path,) = run.glob("evaluation-*.json")
    copy.mkdir()
    (copy / path.name).write_text(change(path.read_text(encoding="utf8")), encoding="utf8")
    return copy


def test_what_cannot_be_compared_is_said(cli, trained, tmp_path):
    from asr.evaluation.compare import compare_runs

    test, dev = tmp_path / "test", tmp_path / "dev"
    assert cli("evaluate", trained.run, "decode.beam_size=1", "--output", test)[0] == 0
    assert cli("evaluate", trained.run, "decode.beam_size=1", "--output", dev, "--split", "dev")[0] == 0
    for runs, message in (
        ([test], "two scored runs or more, and was given .*test: score another"),
        ([test, dev], r"no test set that all runs were scored on \(.*timit test; .*timit dev\)"),
        ([test, tmp_path / "none"], "holds no evaluation: run `asr evaluate"),
        ([test, damaged(test, tmp_path / "cut", lambda text: text[:100])], "is damaged .*: run `asr evaluate"),
        ([test, damaged(test, tmp_path / "old", lambda _: '{"corpus": "timit"}')], "lacks system, split"),
        ([test, damaged(test, tmp_path / "other", lambda text: text.replace('"timit39"', '"timit61"'))], "same phones"),
    ):
        with pytest.raises(AsrError, match=message):
            compare_runs(runs, tmp_path / "out")
        assert not (tmp_path / "out").exists()
