"""Systems of HMMs by the commands that a user types, from a flat start to a hybrid that is trained on alignments."""

import difflib
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from asr.core import config as configuration
from asr.core import files
from asr.core.errors import ModelError
from asr.evaluation.boundaries import boundary_errors, summary
from asr.evaluation.evaluate import evaluate_run
from asr.evaluation.inputs import load_configured
from asr.evaluation.recognise import recognise
from asr.models import model_folder
from asr.models.hmm import GMMModel, HybridModel
from asr.recognition.align import align
from asr.recognition.recogniser import Recogniser
from asr.speech.phones import PhoneSet, fold
from asr.speech.segments import Segment
from asr.training import gmm as hmm_train

STAGES = {
    "mono": {"model": {"name": "gmm_hmm", "num_gaussians": 220, "algorithm": "baum_welch", "num_iterations": 5}},
    "tri": {
        "model": {"name": "gmm_hmm", "num_pdfs": 200, "num_gaussians": 260, "num_iterations": 4},
        "train": {"alignments": "mono"},
    },
    "lda": {
        "model": {
            "name": "gmm_hmm",
            "num_pdfs": 200,
            "num_gaussians": 260,
            "num_iterations": 5,
            "transform": "lda_mllt",
            "splice": 3,
            "num_values": 20,
        },
        "train": {"alignments": "tri"},
    },
    "hybrid": {
        "data": {"max_frames": 800, "num_buckets": 3, "speeds": [0.9, 1.0]},
        "model": {"name": "blstm", "num_layers": 1, "hidden_size": 32, "stack": 2},
        "train": {"alignments": "lda", "max_epochs": 4, "learning_rate": 0.02},
    },
}
SCORED = ("lda", "hybrid")
FEATURES = {"kind": "mfcc", "num_mel_bins": 23, "num_ceps": 13, "use_energy": False, "delta_order": 2}


def write_recipe(folder, name, manifests, **changes):
    """Write a recipe of the stages above, its sections changed, and return its path."""
    given = {"features": FEATURES, "data": {}} | STAGES[name]
    values = {section: given.get(section, {}) | changes.get(section, {}) for section in {*given, *changes}}
    corpus = {"corpora": {"timit": None}, "manifests": str(manifests), "labels": "timit61", "scoring": "timit39"}
    values["data"] = corpus | values["data"]
    path = folder / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True, parents=True)
    files.write_text(path, configuration.to_yaml(configuration.from_dict(values)))
    return path


@pytest.fixture(scope="module")
def ladder(cli, mini_tree, tmp_path_factory):
    """The folder of four runs, of which only the last was asked for."""
    folder = tmp_path_factory.mktemp("hmm")
    for name in STAGES:
        write_recipe(folder / "recipes", name, folder / "data")
    run = folder / "runs" / "hybrid"
    code, out, err = cli("train", folder / "recipes" / "hybrid.yaml", "--data", mini_tree, "--run", run)
    assert code == 0, err
    (folder / "stdout.txt").write_text(out)
    return folder


def history(run):
    return json.loads((run / "history.json").read_text())


def tensors(run):
    return load_file(run / "model" / "model.safetensors")


def assert_same_model(run, other):
    ours, theirs = tensors(run), tensors(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_one_command_trains_the_stages_before(ladder):
    built = [line for line in (ladder / "stdout.txt").read_text().splitlines() if line.startswith("model folder")]
    assert built == [f"model folder: {ladder / 'runs' / name / 'model'}" for name in STAGES]
    kinds = {"hybrid": HybridModel}
    for name in STAGES:
        run = ladder / "runs" / name
        assert isinstance(model_folder.load(run), kinds.get(name, GMMModel))
        assert (run / "model" / "calibration.json").is_file()
        assert not list(run.rglob("*partial*"))
    assert all((ladder / "runs" / name / "likelihood.png").is_file() for name in ("mono", "tri", "lda"))


def test_each_run_logs_to_its_own_file(ladder):
    for name, count in {"mono": 5, "tri": 4, "lda": 5, "hybrid": 0}.items():
        log = (ladder / "runs" / name / "train.log").read_text()
        assert log.count(" Gaussians  ") == count, name
        assert log.count("decode.lm_weight=") == 1, name


def test_likelihood_never_falls_where_nothing_is_split(ladder):
    checked = 0
    for name in ("mono", "tri", "lda"):
        rows = history(ladder / "runs" / name)["iterations"]
        assert [row["number"] for row in rows] == list(range(1, len(rows) + 1))
        for i in range(1, len(rows)):
            before = rows[i - 2]["num_gaussians"] if i > 1 else None
            if rows[i - 1]["num_gaussians"] == before and not rows[i]["turned"]:
                checked += 1
                assert rows[i]["log_likelihood"] >= rows[i - 1]["log_likelihood"] - 1e-6
        assert rows[-1]["log_likelihood"] > rows[0]["log_likelihood"] + 0.3
    assert checked >= 3
    turned = [row["number"] for row in history(ladder / "runs" / "lda")["iterations"] if row["turned"]]
    assert turned == [2, 4]


def test_the_weight_of_the_bigram_is_the_best_one_tried_on_dev_speakers(ladder):
    for name in STAGES:
        run = ladder / "runs" / name
        tried = json.loads((run / "tuning.json").read_text())["tried"]
        rates = {(row["lm_weight"], row["insertion_penalty"]): row["dev_rate"] for row in tried}
        decode = model_folder.load(run).config.decode
        assert rates[decode.lm_weight, decode.insertion_penalty] == min(rates.values()) < 60, name
        assert len(set(rates.values())) > 2


def test_silence_is_one_of_timits_labels_and_none_is_added(ladder):
    for name in STAGES:
        assert model_folder.load(ladder / "runs" / name).tokens == ("<blank>", *PhoneSet.load("timit61").labels)


# --- evaluation


@pytest.fixture(scope="module")
def scored(ladder):
    """What `asr evaluate` says of two of them, and writes."""
    return "\n".join(evaluate_run(str(ladder / "runs" / name)) for name in SCORED)


def evaluation(ladder, name):
    return json.loads((ladder / "runs" / name / "evaluation-timit-test.json").read_text())


def test_evaluation_scores_the_viterbi_search(ladder, scored, mini_tree):
    for name in SCORED:
        found = evaluation(ladder, name)
        assert (found["system"], found["decoder"], found["frame_shift"]) == (name, "Viterbi", 0.01)
        assert found["regimes"][0]["num_utterances"] == 16
        assert found["regimes"][0]["per"] < 65
        assert found["times_real_time"] > 1
        (row,) = json.loads((ladder / "runs" / name / "metrics.json").read_text())["results"]
        assert f"timit test, Viterbi: PER {row['per']:.2f} %" in scored


def test_boundaries_are_near_the_synthesisers(ladder, scored):
    (ours,) = evaluation(ladder, "lda")["boundaries"]
    assert ours["num_boundaries"] > 400
    assert ours["within"]["20"] > 75


def test_evaluation_tells_how_training_went(ladder, scored):
    before = 0.0
    for name in STAGES:
        run = ladder / "runs" / name
        kept = history(run)
        own = (kept.get("iterations") or kept["epochs"])[-1]["seconds"]
        assert kept["seconds_before"] == pytest.approx(before)
        before += own
        if name in SCORED:
            assert evaluation(ladder, name)["training_seconds"] == pytest.approx(before)
            assert evaluation(ladder, name)["iterations"] == kept.get("iterations", [])
            assert evaluation(ladder, name)["training"] == kept.get("epochs", [])


def test_parameters_are_counted(ladder, scored):
    """Weights, means and variances of the Gaussians, LDA, and transitions: two from a state, but of silence's three
    states the first and the last have three.
    """
    size = tensors(ladder / "runs" / "mono")["gmm.weights"].size * (1 + 39 + 39)
    assert model_folder.load(ladder / "runs" / "mono").num_parameters == size + 58 * 6 + 3 * 8
    found = tensors(ladder / "runs" / "lda")
    size = found["gmm.weights"].size * (1 + 20 + 20) + 20 * 7 * 13
    ways = evaluation(ladder, "lda")["parameters"] - size
    assert ways == 2 * len(found["hmm.log_transitions"]) + 3 * 2
    network = sum(value.size for name, value in tensors(ladder / "runs" / "hybrid").items() if "encoder" in name)
    assert evaluation(ladder, "hybrid")["parameters"] == network + ways


def test_every_key_is_documented(ladder, scored):
    text = (Path(__file__).parents[2] / "docs" / "reference" / "evaluation.md").read_text(encoding="utf8")
    documented = set(re.findall(r"`([a-z_]+)`", text[text.index("## The JSON") :]))
    found = evaluation(ladder, "lda")
    assert set(found) - documented == set()
    assert set(found["iterations"][0]) - documented == set()


def test_settings_of_the_search_change_what_is_found(ladder):
    counts = []
    for penalty in (0, 200):
        _, model = load_configured(str(ladder / "runs" / "mono"), [f"decode.insertion_penalty={penalty}"])
        found = recognise(model, "timit", "dev", with_sound=False)
        counts.append(sum(len(each.segments) for each in found.utterances))
    assert counts[1] < 0.7 * counts[0]


def test_calibrating_again_finds_the_same(cli, ladder):
    run = ladder / "runs" / "hybrid"
    before = (run / "model" / "calibration.json").read_text()
    code, out, err = cli("calibrate", run)
    assert code == 0, err
    assert re.search(r"calibrated on \d+ phones of dev speakers; times move by [+-]\d+ ms", out)
    assert (run / "model" / "calibration.json").read_text() == before


def test_they_stand_side_by_side(cli, ladder, scored, tmp_path):
    code, _, err = cli("compare", ladder / "runs", "--output", tmp_path)
    assert code == 0, err
    (found,) = json.loads((tmp_path / "compare.json").read_text())["comparisons"]
    assert {row["name"] for row in found["systems"]} == set(SCORED)
    assert all(row["training_seconds"] > 0 < row["parameters"] for row in found["systems"])
    (difference,) = found["differences"]
    assert {*difference["systems"]} == set(SCORED)


# --- transcription and alignment


@pytest.fixture
def wav(mini_tree):
    return min(mini_tree.glob("TEST/*/*/*.WAV"))


def true_times(wav):
    """What TIMIT's label file says: seconds and labels."""
    rows = [line.split() for line in wav.with_suffix(".PHN").read_text().splitlines()]
    return [Segment(label, int(start) / 16000, int(end) / 16000) for start, end, label in rows]


@pytest.mark.parametrize("name", ["lda", "hybrid"])
def test_transcription_is_what_evaluation_wrote(cli, ladder, scored, wav, name):
    run = ladder / "runs" / name
    code, out, err = cli("transcribe", "--model", run, "--format", "json", wav)
    assert (code, err) == (0, "")
    phones = json.loads(out)["phones"]
    lines = (run / "hypotheses-timit-test_full-Viterbi.txt").read_text().splitlines()
    written = {line.split()[0]: line.split()[1:] for line in lines}
    assert [phone["label"] for phone in phones] == written[f"{wav.parent.name}_{wav.stem}"]
    assert phones[0]["start"] == 0
    assert phones[-1]["end"] == pytest.approx(json.loads(out)["duration"], abs=0.011)
    for left, right in pairwise(phones):
        assert left["start"] < left["end"] == right["start"]
    assert all(0 <= phone["confidence"] <= 1 for phone in phones)
    assert len({phone["confidence"] for phone in phones}) > 3


@pytest.mark.parametrize("name", ["mono", "lda", "hybrid"])
def test_known_phones_get_their_times(cli, ladder, wav, name):
    true = true_times(wav)
    labels = " ".join(segment.label for segment in true)
    code, out, err = cli("align", wav, "--phones", labels, "--model", ladder / "runs" / name, "--format", "json")
    assert code == 0, err
    values = json.loads(out)
    assert [phone["label"] for phone in values["phones"]] == labels.split()
    found = [Segment(**phone) for phone in values["phones"]]
    assert summary(name, [boundary_errors(true, found)])["within"]["50"] > 70
    assert values["score"] < 0 or name == "hybrid"


def test_a_wrong_text_scores_less(ladder, wav):
    recogniser = Recogniser.from_pretrained(ladder / "runs" / "lda")
    labels = [segment.label for segment in true_times(wav)]
    right = align(recogniser, wav, phones=labels)
    wrong = align(recogniser, wav, phones=[labels[0], *labels[-2:0:-1], labels[-1]])
    assert wrong.score < right.score - 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "hello"], r"words can be aligned by a model of ARPAbet phones only"),
        (["--phones", "h# XX h#"], r"phone 'XX' at position 2 of 3 is not one of the model's"),
        (["--phones", "h# " + 700 * "aa t " + "h#"], r"WAV has \d+ frames; the states of its phones need 4204"),
        (["--phones", "h# h#", "--gop", "--format", "json"], r"pronunciation is rated from CTC posteriors: choose"),
    ],
)
def test_what_cannot_be_aligned_is_one_line(cli, ladder, wav, arguments, message):
    code, _, err = cli("align", wav, *arguments, "--model", ladder / "runs" / "lda")
    assert code == 2
    assert re.search(message, err)
    assert err.count("\n") == 1


def test_an_exported_model_hears_much_the_same(cli, ladder, wav, tmp_path):
    code, _, err = cli("export", ladder / "runs" / "lda", tmp_path / "half")
    assert code == 0, err
    whole, half = (Recogniser.from_pretrained(path) for path in (ladder / "runs" / "lda", tmp_path / "half"))
    texts = [fold([phone.label for phone in each.transcribe(wav)], "timit61", "timit39") for each in (whole, half)]
    assert len(texts[0]) > 5
    assert difflib.SequenceMatcher(None, *texts).ratio() > 0.9


# --- a run that is stopped goes on, and what goes wrong is one line


def test_a_killed_run_ends_as_the_uninterrupted_one(cli, ladder, mini_tree, tmp_path, monkeypatch):
    """Ctrl-C in the third iteration: features had been turned once, and are turned again after it."""
    recipe = write_recipe(tmp_path, "lda", ladder / "data", train={"alignments": str(ladder / "runs" / "tri")})
    arguments = ("train", recipe, "--data", mini_tree, "--run", tmp_path / "run")
    calls = []

    def stop(*given):
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return iterate(*given)

    with monkeypatch.context() as patch:
        iterate = hmm_train.iterate
        patch.setattr(hmm_train, "iterate", stop)
        code, _, err = cli(*arguments)
    assert code == 130
    assert "asr: stopped; the same command goes on from the last checkpoint" in err
    assert len(history(tmp_path / "run")["iterations"]) == 2
    so_far, last = (tensors(run) for run in (tmp_path / "run", ladder / "runs" / "lda"))
    np.testing.assert_allclose(
        so_far["hmm.log_bigram"], last["hmm.log_bigram"], rtol=1e-6
    )  # their labels have the pauses
    assert Recogniser.from_pretrained(tmp_path / "run").transcribe(next(mini_tree.glob("TEST/*/*/*.WAV"))).phones
    code, _, err = cli(*arguments)
    assert code == 0, err
    ours, theirs = (history(run)["iterations"] for run in (tmp_path / "run", ladder / "runs" / "lda"))
    assert [row | {"seconds": 0} for row in ours] == [row | {"seconds": 0} for row in theirs]
    assert_same_model(tmp_path / "run", ladder / "runs" / "lda")


@pytest.fixture
def finished(ladder, tmp_path):
    """A copy of the monophones' run, and how to train them."""
    return shutil.copytree(ladder / "runs" / "mono", tmp_path / "mono")


def test_a_finished_run_is_not_trained_again(cli, ladder, mini_tree, finished):
    shutil.rmtree(finished / "model")
    code, _, err = cli("train", ladder / "recipes" / "mono.yaml", "--data", mini_tree, "--run", finished)
    assert code == 0, err
    assert history(finished) == history(ladder / "runs" / "mono")
    assert_same_model(finished, ladder / "runs" / "mono")


def test_another_configuration_does_not_go_on_with_a_run(cli, ladder, mini_tree, finished):
    arguments = ("train", ladder / "recipes" / "mono.yaml", "model.num_iterations=9", "--data", mini_tree)
    code, _, err = cli(*arguments, "--run", finished)
    assert code == 2
    assert err.startswith(f"asr: {finished} holds a run with model.num_iterations=5 and not 9: delete it, or name")
    assert err.count("\n") == 1


def test_a_stage_that_was_stopped_is_finished_before_the_next_one(cli, ladder, mini_tree, tmp_path, finished):
    (finished / "history.json").write_text(json.dumps(history(finished) | {"ended": False}))
    for name in ("mono", "tri"):
        write_recipe(tmp_path / "recipes", name, ladder / "data", model={"num_iterations": 5 if name == "mono" else 1})
    arguments = ("train", tmp_path / "recipes" / "tri.yaml", "--data", mini_tree, "--run", tmp_path / "tri")
    for built in (["mono", "tri"], ["tri"]):
        code, out, err = cli(*arguments)
        assert code == 0, err
        folders = [line for line in out.splitlines() if line.startswith("model folder")]
        assert folders == [f"model folder: {tmp_path / name / 'model'}" for name in built]


@pytest.mark.parametrize("damage", [b"", b"half"])
def test_a_damaged_checkpoint_is_one_line(cli, ladder, mini_tree, finished, damage):
    checkpoint = finished / "checkpoints" / "last.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000] if damage else damage)
    code, _, err = cli("train", ladder / "recipes" / "mono.yaml", "--data", mini_tree, "--run", finished)
    assert code == 2
    fault = [line for line in err.splitlines() if line.startswith("asr: ")]
    assert len(fault) == 1
    assert f"{checkpoint} is damaged" in fault[0]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("mono", {"model": {"num_pdfs": 100}}, r"triphones \(model.num_pdfs\) start from the alignments of another"),
        (
            "tri",
            {"model": {"num_pdfs": 0}, "train": {"alignments": "{mono}"}},
            r"alignments, or model.num_pdfs=0",
        ),
        ("mono", {"model": {"gaussians": 100}}, r"unknown key 'model.gaussians': did you mean model.num_gaussians\?"),
        ("mono", {"model": {"num_gaussians": 0}}, r"model.num_gaussians must be positive"),
        ("mono", {"model": {"algorithm": "em"}}, r"model.algorithm must be one of baum_welch, viterbi"),
        ("mono", {"model": {"transform": "lda_mllt"}}, r"model.num_pdfs must be set for LDA"),
        ("tri", {"train": {"alignments": "{network}"}}, r"\(train.alignments\) is no GMM-HMM of the same feat"),
        ("tri", {"features": {"num_ceps": 12}, "train": {"alignments": "{mono}"}}, r"is no GMM-HMM of the same featur"),
        ("hybrid", {"train": {"alignments": "{network}"}}, r"\(train.alignments\) is no GMM-HMM of timit61"),
        ("tri", {}, r"no file .*mono.yaml; the recipes stand in"),
    ],
)
def test_wrong_use_is_one_line(cli, ladder, trained, mini_tree, tmp_path, name, changes, message):
    places = {"network": trained.run, "mono": ladder / "runs" / "mono"}
    if "train" in changes:
        changes = changes | {"train": {key: value.format(**places) for key, value in changes["train"].items()}}
    recipe = write_recipe(tmp_path / "recipes", name, ladder / "data", **changes)
    code, _, err = cli("train", recipe, "--data", mini_tree, "--run", tmp_path / "run")
    assert code == 2
    fault = [line for line in err.splitlines() if line.startswith("asr: ")]
    assert len(fault) == 1
    assert re.search(message, fault[0]), fault
    assert "Traceback" not in err
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("name", ["lda", "hybrid"])
@pytest.mark.parametrize("lost", ["hmm.pdfs", "hmm.log_bigram", "gmm.means", "transform.offset", "hmm.log_priors"])
def test_a_model_without_one_of_its_parts_is_one_line(ladder, tmp_path, name, lost):
    folder = shutil.copytree(ladder / "runs" / name / "model", tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    if weights.pop(lost, None) is None:
        pytest.skip("it has none")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ModelError, match=rf"does not fit config.yaml and tokens.txt \('{lost}'\)") as caught:
        model_folder.load(folder)
    assert "\n" not in str(caught.value)
