import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from scipy.stats import ttest_rel

from asr.core.errors import AsrError
from asr.evaluation import figures, page
from asr.evaluation.compare import compare_runs
from asr.evaluation.metrics import holm

NUM_PHONES = 20  # in each utterance


def write(folder, errors, corpus="mini", **changes):
    """Write the evaluation of a system that got the first `errors[i]` phones of utterance i wrong."""
    rows = []
    for i, wrong in enumerate(errors):
        pairs = [["t", "d"]] * wrong + [["t", "t"]] * (NUM_PHONES - wrong)
        row = {"id": f"u{i}", "speaker": "anybody", "gender": None, "age": None, "duration": 1.0, "text": ""}
        segment = {"label": "t", "start": 0.0, "end": 0.1, "confidence": 0.5}
        rows.append(row | {"per": 0.0, "pairs": pairs, "reference": [segment], "hypothesis": [segment]})
    per = round(100 * sum(errors) / (NUM_PHONES * len(errors)), 2)
    regime = {"name": "39", "headline": True, "per": per, "interval": [per - 1, per + 1], "substitutions": sum(errors)}
    regime |= {"insertions": 7, "deletions": 8, "num_phones": NUM_PHONES * len(errors), "num_utterances": len(errors)}
    values = dict.fromkeys(page.KEYS) | {"system": folder.name, "corpus": corpus, "split": "test"}
    values |= {"decoder": "beam 16", "scoring": "timit39", "regimes": [regime], "utterances": rows}
    values |= {
        "training": [{"epoch": 1, "seconds": 41.0}, {"epoch": 3, "seconds": 90.0}],
        "parameters": 3812345,
        "training_seconds": 90.0,
    }
    values |= {"times_real_time": 1250.0} | changes
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"evaluation-{corpus}-test.json"
    path.write_text(json.dumps({key: value for key, value in values.items() if value != "left out"}))
    return folder


def contents(output):
    return json.loads((output / "compare.json").read_text(encoding="utf8"))["comparisons"]


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture
def ladder(tmp_path, rng):
    """Six systems, each worse than the one before by about one error in each of 30 utterances."""
    base = rng.integers(0, 3, 30)
    errors = [base + i + rng.integers(0, 2, 30) for i in range(6)]
    runs = [write(tmp_path / f"system_{i}", found.tolist()) for i, found in enumerate(errors)]
    return runs, errors


def test_the_correction_is_that_of_r():
    """``p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")``."""
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02], rtol=1e-12)
    assert holm([0.5]) == [0.5]
    assert holm([0.6, 0.7]) == [1, 1]


@pytest.mark.parametrize("level", [0.01, 0.05, 0.2])
def test_the_correction_rejects_what_the_sequential_procedure_does(rng, level):
    num_rejected = 0
    for _ in range(50):
        p_values = rng.uniform(0, 1, 6) ** 3
        rejected = set()
        for step, i in enumerate(np.argsort(p_values)):  # stop at the first that is not rejected
            if p_values[i] > level / (6 - step):
                break
            rejected.add(i)
        assert {i for i, p in enumerate(holm(p_values.tolist())) if p <= level} == rejected
        num_rejected += len(rejected)
    assert 0 < num_rejected < 300


def test_every_pair_is_tested_and_the_better_system_stands_first(ladder, tmp_path):
    runs, errors = ladder
    compare_runs(runs[::-1], tmp_path / "out")
    (found,) = contents(tmp_path / "out")
    assert [row["name"] for row in found["systems"]] == [run.name for run in runs]
    assert len(found["differences"]) == 15
    for each in found["differences"]:
        worse, better = (int(name.removeprefix("system_")) for name in each["systems"])
        assert worse > better
        expected = ttest_rel(errors[worse], errors[better])
        assert each["p_value"] == pytest.approx(expected.pvalue, rel=1e-9)
        gap = 100 * (errors[worse].sum() - errors[better].sum()) / (30 * NUM_PHONES)
        assert each["difference"] == pytest.approx(gap, abs=0.0051)
    raw = [each["p_value"] for each in found["differences"]]
    assert [each["p_value_corrected"] for each in found["differences"]] == holm(raw)


def test_a_row_has_rate_errors_size_and_times(tmp_path):
    runs = [write(tmp_path / "ctc", [1, 2, 0]), write(tmp_path / "hmm", [3, 3, 5], training_seconds=7500.0)]
    text = compare_runs(runs, tmp_path / "out")
    first, second = (re.split(r"\s{2,}", line.strip()) for line in text.splitlines()[2:4])
    assert first == ["ctc", "5.00", "4.00–6.00", "3", "7", "8", "3,812,345", "1.5 min", "1,250"]
    assert second == ["hmm", "18.33", "17.33–19.33", "11", "7", "8", "3,812,345", "2.1 h", "1,250"]
    rows = contents(tmp_path / "out")[0]["systems"]
    assert [row["seconds_per_epoch"] for row in rows] == [30.0, 30.0]  # the second was not scored
    assert [row["run"] for row in rows] == [str(run) for run in runs]
    table = (tmp_path / "out" / "compare.md").read_text(encoding="utf8").splitlines()
    assert cells(table[4]) == [*first, "125,000", "30"]
    assert cells(table[5]) == [*second, "125,000", "30"]


@pytest.mark.parametrize("num", [5, 16])
def test_many_systems_stand_in_a_triangle(tmp_path, rng, num):
    """In blocks no wider than a terminal, each pair once, marked by what its p-values are."""
    errors = [rng.integers(0, 9, 30) + rng.integers(0, 3) for _ in range(num)]
    runs = [write(tmp_path / f"bidirectional_{i:02}", found.tolist()) for i, found in enumerate(errors)]
    text = compare_runs(runs, tmp_path / "out")
    assert max(map(len, text.splitlines()[:-1])) <= 100
    (found,) = contents(tmp_path / "out")
    names = [row["name"] for row in found["systems"]]
    expected = {}
    for each in found["differences"]:
        mark = "*" if each["p_value_corrected"] < 0.05 else "°" if each["p_value"] < 0.05 else ""
        expected[tuple(each["systems"])] = f"{each['difference']:.2f}{mark}"
    printed, columns = {}, []
    for line in text.split("\n\n")[1].splitlines()[1:-1]:
        if re.fullmatch(r"[\d ]+", line):
            columns = [int(number) - 1 for number in line.split()]
        else:
            number, name, *values = line.split()
            assert names[int(number) - 1] == name
            printed |= {(name, names[column]): value for column, value in zip(columns, values, strict=False)}
    assert printed == expected
    assert any(value.endswith("*") for value in expected.values())
    markdown = (tmp_path / "out" / "compare.md").read_text(encoding="utf8")
    last = cells(next(line for line in reversed(markdown.splitlines()) if line.startswith(f"| {num} ")))
    assert last == [f"{num} {names[-1]}", *(expected[names[-1], better] for better in names[:-1])]


def test_few_systems_have_a_line_for_each_difference(ladder, tmp_path):
    runs, _ = ladder
    text = compare_runs(runs[:3], tmp_path / "out")
    first = contents(tmp_path / "out")[0]["differences"][0]
    low, high = first["interval"]
    line = f"system_1 - system_0: {first['difference']:+.2f} [{low:+.2f}, {high:+.2f}], p < 0.001, Holm p < 0.001"
    assert f"  {line}\n" in text
    assert f"- {line}\n" in (tmp_path / "out" / "compare.md").read_text(encoding="utf8")
    assert line.replace("<", "\\u003c") in (tmp_path / "out" / "compare.html").read_text(encoding="utf8")
    assert "Holm" not in compare_runs(runs[:2], tmp_path / "out")  # one test needs no correction


def test_each_shared_test_set_has_its_table(tmp_path):
    runs = [write(tmp_path / name, errors) for name, errors in (("a", [1, 2]), ("b", [2, 1]))]
    write(runs[0], [4, 2], "real")
    write(runs[1], [1, 1], "real")
    write(runs[0], [0, 0], "alone")
    text = compare_runs(runs, tmp_path / "out")
    mini, real = contents(tmp_path / "out")
    assert (mini["corpus"], real["corpus"]) == ("mini", "real")
    assert [row["name"] for row in real["systems"]] == ["b", "a"]
    assert "mini test, timit39: 2 utterances, 40 phones" in text
    assert "alone" not in text


def test_seeds_are_systems_of_their_own(tmp_path):
    other = write(tmp_path / "other", [2, 3])
    for seed in (2, 10):
        write(tmp_path / "run" / f"seed-{seed}", [seed, 1], system=f"run, seed-{seed}")
    compare_runs([tmp_path / "run", other], tmp_path / "out")
    assert [row["name"] for row in contents(tmp_path / "out")[0]["systems"]] == ["run, seed-2", "other", "run, seed-10"]
    (tmp_path / "run" / "seed-11").mkdir()
    with pytest.raises(AsrError, match=r"seed-11 holds no evaluation: run `asr evaluate \S*run` first"):
        compare_runs([tmp_path / "run", other], tmp_path / "out")


def test_a_folder_of_runs_means_those_that_were_scored(tmp_path):
    runs = tmp_path / "runs"
    write(runs / "a", [1, 2])
    write(runs / "b" / "seed-1", [3, 3], system="b, seed-1")
    (runs / "c" / "model").mkdir(parents=True)
    write(runs / "a" / "seed-1", [0, 0])  # of a run that has an evaluation of its own
    compare_runs([runs], tmp_path / "out")
    assert [row["run"] for row in contents(tmp_path / "out")[0]["systems"]] == [str(runs / "a"), str(runs / "b/seed-1")]
    with pytest.raises(AsrError, match=r"c holds no evaluation"):
        compare_runs([runs / "a", runs / "c"], tmp_path / "out")
    with pytest.raises(AsrError, match=r"needs two scored runs or more, and was given \S*runs/a: "):
        compare_runs([runs / "a"], tmp_path / "out")


def test_one_run_of_several_seeds_is_enough(tmp_path):
    for seed in (1, 2):
        write(tmp_path / "run" / f"seed-{seed}", [seed, 1], system=f"run, seed-{seed}")
    assert "run, seed-2 - run, seed-1: +2.50" in compare_runs([tmp_path / "run"], tmp_path / "out")


@pytest.mark.parametrize("key", ["parameters", "training_seconds", "times_real_time", "scoring", "pfer"])
def test_an_evaluation_of_old_must_be_made_again(tmp_path, key):
    runs = [write(tmp_path / "new", [1, 2]), write(tmp_path / "old", [1, 2], **{key: "left out"})]
    with pytest.raises(AsrError, match=rf"old\S*json lacks {key}: run `asr evaluate \S*old` again"):
        compare_runs(runs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_not_known_is_a_dash(tmp_path):
    """Of a shipped model nobody knows how long it was trained."""
    unknown = {"training_seconds": None, "training": []}
    runs = [write(tmp_path / "shipped", [1, 2], **unknown), write(tmp_path / "run", [2, 2])]
    text = compare_runs(runs, tmp_path / "out")
    assert re.search(r"shipped .* 3,812,345 +– +1,250$", text, re.MULTILINE)
    assert contents(tmp_path / "out")[0]["systems"][0]["seconds_per_epoch"] is None


@pytest.fixture
def drawn(monkeypatch):
    kept = []
    monkeypatch.setattr(figures.plt, "close", kept.append)
    yield kept
    monkeypatch.undo()
    for figure in kept:
        plt.close(figure)


def test_the_figure_shows_rates_intervals_and_sizes(ladder, tmp_path, drawn):
    runs, _ = ladder
    write(runs[5], [19] * 30, parameters=1000, training_seconds=None)
    compare_runs(runs, tmp_path / "out")
    systems = contents(tmp_path / "out")[0]["systems"]
    rates, sizes, seconds, speeds = drawn[-1].axes
    assert [tick.get_text() for tick in rates.get_yticklabels()] == [run.name for run in runs]
    assert [bar.get_width() for bar in rates.patches] == [row["per"] for row in systems]
    assert [text.get_text() for text in rates.texts] == [f"{row['per']:.2f}" for row in systems]
    whiskers = [segment[:, 0].tolist() for segment in rates.collections[0].get_segments()]
    np.testing.assert_allclose(whiskers, [row["interval"] for row in systems], rtol=1e-12)
    assert rates.yaxis_inverted()  # the best on top
    assert [text.get_text() for text in sizes.texts] == ["3,812,345"] * 5 + ["1,000"]
    assert [text.get_text() for text in seconds.texts] == ["1.5 min"] * 5
    assert len(speeds.texts) == 6
    assert sizes.get_xscale() == "log"
    for axes in (sizes, seconds, speeds):  # no figure is cut off
        box = axes.get_window_extent()
        assert all(
            box.x0 <= text.get_window_extent().x0 and text.get_window_extent().x1 <= box.x1 for text in axes.texts
        )
    with Image.open(tmp_path / "out" / "compare.png") as picture:
        assert picture.width > 1000


def test_systems_without_errors_can_be_drawn(tmp_path):
    perfect = [{"name": "39", "headline": True, "per": 0.0, "interval": [0.0, 0.0], "num_phones": 40}]
    perfect[0] |= {"num_utterances": 2, "substitutions": 0, "insertions": 0, "deletions": 0}
    runs = [write(tmp_path / name, [0, 0], regimes=perfect) for name in ("a", "b")]
    assert "b - a: +0.00 [+0.00, +0.00], p = 1.000" in compare_runs(runs, tmp_path / "out")
    assert (tmp_path / "out" / "compare.png").is_file()


def test_a_test_set_is_a_row_of_the_figure(tmp_path, drawn):
    runs = [write(tmp_path / name, [1, 2]) for name in ("a", "b")]
    for run in runs:
        write(run, [2, 3], "real")
    compare_runs(runs, tmp_path / "out")
    titles = [axes.get_title(loc="left") for axes in drawn[-1].axes]
    assert [title for title in titles if "rate" in title] == [
        "mini test, timit39: phone error rate",
        "real test, timit39: phone error rate",
    ]
