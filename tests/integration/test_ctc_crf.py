"""A network trained with CTC-CRF: the n-gram first, a few epochs of CTC, then the criterion."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from asr import Recogniser, align

RECIPE = Path("recipes/mini/blstm_ctc_crf.yaml")
SETTINGS = (
    "data.max_frames=1500",
    "data.num_buckets=2",
    "model.hidden_size=32",
    "model.num_layers=1",
    "train.average=0",
    "train.precision=32-true",
    "train.criterion.warmup_epochs=2",
)


@pytest.fixture(scope="module")
def train(cli, mini_tree, tmp_path_factory):
    """Train in a folder of this name; return code, run folder and errors."""
    folder = tmp_path_factory.mktemp("ctc_crf")

    def run(name, *settings):
        arguments = (*SETTINGS, f"data.manifests={folder / 'data'}", *settings, "--data", mini_tree)
        code, _, errors = cli("train", RECIPE, *arguments, "--run", folder / name)
        return code, folder / name, errors

    return run


@pytest.fixture(scope="module")
def trained(train):
    code, run, errors = train("whole", "train.max_epochs=4")
    assert code == 0, errors
    return run, errors


def epochs(run):
    return json.loads((run / "history.json").read_text())["epochs"]


def test_the_language_model_is_trained_first(trained):
    run, errors = trained
    assert "first recipes/mini/lm/phone_trigram.yaml" in errors
    assert (run.parent / "lm" / "phone_trigram" / "model" / "lm.json").is_file()
    assert "train.criterion.lm" in json.loads((run / "inputs.json").read_text())


def test_ctc_goes_over_into_ctc_crf(trained, train):
    """After the epochs that are CTC's, the losses are others than those of a run that stays with it."""
    code, run, errors = train("ctc", "train.max_epochs=4", "train.criterion.warmup_epochs=4")
    assert code == 0, errors
    losses, those_of_ctc = ([entry["loss"] for entry in epochs(each)] for each in (trained[0], run))
    assert len(losses) == 4
    assert losses[:2] == those_of_ctc[:2]
    assert all(abs(loss - other) > 0.1 for loss, other in zip(losses[2:], those_of_ctc[2:], strict=True))
    assert losses[3] < losses[2]


def test_a_run_repeated_is_the_same(trained, train):
    code, run, errors = train("again", "train.max_epochs=4")
    assert code == 0, errors
    assert [entry["loss"] for entry in epochs(run)] == [entry["loss"] for entry in epochs(trained[0])]
    first, second = (load_file(each / "model" / "model.safetensors") for each in (trained[0], run))
    assert all(value.equal(second[name]) for name, value in first.items())


def test_the_model_says_how_it_was_trained_and_decodes_with_its_language_model(trained, cli, mini_tree):
    run, _ = trained
    card = (run / "model" / "README.md").read_text()
    assert "trained with CTC-CRF and phone_trigram by" in card
    assert "on the dev speakers with the n-gram:" in card
    assert "lm: phone_trigram\n" in (run / "model" / "config.yaml").read_text()  # not where it lies
    recording = next(mini_tree.glob("TEST/*/*/*.WAV"))
    args = ("transcribe", recording, "--model", run, "--format", "json")
    code, found, errors = cli(*args)
    assert code == 0, errors
    assert json.loads(found)["phones"]
    lm = run.parent / "lm" / "phone_trigram"  # the model folder has a copy
    assert cli(*args, "--lm", lm)[:2] == (0, found)
    assert json.loads((run / "tuning.json").read_text())["tried"]


def test_what_a_model_says_comes_from_its_posteriors(trained, mini_tree):
    """Phones by a beam of 1 or more, confidences, times, alignment and goodness are there, and belong together."""
    run, _ = trained
    recording = next(mini_tree.glob("TEST/*/*/*.WAV"))
    for beam_size in (1, 4):
        found = Recogniser.from_pretrained(run, beam_size).transcribe(recording)
        assert all(0 < phone.confidence <= 1 for phone in found)
        assert found.phones == sorted(found.phones, key=lambda phone: phone.start)
    aligned = align(Recogniser.from_pretrained(run), recording, phones=str(found), with_goodness=True)
    assert [phone.label for phone in aligned.phones] == [phone.label for phone in found]
    assert all(-60 < each <= 0 for each in aligned.goodness)


def test_another_language_model_is_another_run(trained, train):
    run, _ = trained
    weights = run.parent / "lm" / "phone_trigram" / "model" / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-4] + bytes([before[-4] ^ 1]) + before[-3:])
    try:
        code, _, errors = train("whole", "train.max_epochs=5")
    finally:
        weights.write_bytes(before)
    assert code == 2
    assert "train.criterion.lm" in errors


def test_wrong_settings_are_one_line(train):
    for settings, message in (
        (["train.criterion.lm=null"], "train.criterion.lm must name an n-gram for ctc_crf"),
        (["train.criterion.name=crf"], "train.criterion.name must be one of ctc, ctc_crf"),
        (["train.criterion.lm=nowhere/lm"], "no language model at nowhere/lm"),
        (["train.label_prior_scale=0.3"], "train.criterion.name must be ctc with label priors"),
        (["train.consistency=-1"], "train.consistency must be 0 or more"),
        (["model={name: attention_decoder}"], "train.criterion.name must be ctc for attention_decoder"),
    ):
        code, _, errors = train("wrong", *settings)
        assert code == 2, errors
        assert message in errors
        assert "Traceback" not in errors


def test_training_from_given_weights(trained, train):
    """It goes on where the given network is, and says so; the folder is another run if the given weights change."""
    given, _ = trained
    settings = (f"train.init={given}", "train.max_epochs=1", "train.criterion.warmup_epochs=0")
    code, run, errors = train("further", *settings)
    assert code == 0, errors
    assert f"tensors are those of {given.name}" in errors
    assert epochs(run)[0]["loss"] < epochs(given)[2]["loss"]
    card = (run / "model" / "README.md").read_text()
    assert f"began with the weights of {given.name}, which was trained on mini: " in card
    assert f"init: {given.name}\n" in (run / "model" / "config.yaml").read_text()
    assert "train.init" in json.loads((run / "inputs.json").read_text())
    code, _, errors = train("wrong", "train.init=nowhere")
    assert code == 2
    assert "no model folder at nowhere" in errors


def test_frozen_layers_keep_the_weights_that_they_are_given(trained, train):
    """To the bit, averaged or not; what is above them learns, and a run that goes on repeats its learning rates."""
    given, _ = trained
    settings = (f"train.init={given}", "train.freeze=1", "train.layer_decay=0.5", "train.average=0.9")
    settings += ("train.criterion.warmup_epochs=0",)
    code, run, errors = train("frozen", *settings, "train.max_epochs=1")
    assert code == 0, errors
    code, run, errors = train("frozen", *settings, "train.max_epochs=2")
    assert code == 0, errors
    before, after = (load_file(each / "model" / "model.safetensors") for each in (given, run))
    changed = {name for name, weights in after.items() if not weights.equal(before[name])}
    assert changed == {"encoder.output.weight", "encoder.output.bias"}
    assert "- layers frozen from the input up: 1\n" in (run / "model" / "README.md").read_text()
    code, _, errors = train("wrong", f"train.init={given}", "train.freeze=2")
    assert code == 2
    assert "train.freeze is 2, but the network has 1 layer below" in errors


def test_training_with_all_pronunciations(train):
    """Where each word has one, as in this corpus, it is CTC-CRF; repeated it is the same, also beside two views."""
    settings = ("train.max_epochs=3", "train.criterion.warmup_epochs=1")
    several = (*settings, "train.criterion.pronunciations=all")
    runs = [train("one-each", *settings), train("all", *several), train("all-again", *several)]
    assert [code for code, _, _ in runs] == [0, 0, 0], runs
    first, those, again = ([entry["loss"] for entry in epochs(run)] for _, run, _ in runs)
    assert those == again
    assert those == pytest.approx(first, abs=2e-3)
    code, _, errors = train("all-views", *several, "train.max_epochs=2", "train.consistency=0.2")
    assert code == 0, errors


def test_training_with_frames_that_a_trained_system_places(trained, train):
    """It learns faster, is the same when it is repeated, and the model folder has the classes of the labels alone."""
    given, _ = trained
    settings = ("train.max_epochs=2", "train.criterion.warmup_epochs=1", f"train.criterion.frames={given}")
    runs = [train(name, *settings) for name in ("frames", "frames-again")]
    assert [code for code, _, _ in runs] == [0, 0], runs
    (first, again), (run, _) = ([entry["loss"] for entry in epochs(run)] for _, run, _ in runs), runs[0][1:]
    assert first == again
    weights = load_file(run / "model" / "model.safetensors")
    tokens = (run / "model" / "tokens.txt").read_text().splitlines()
    assert weights["encoder.output.weight"].shape[0] == len(tokens)
    assert "train.criterion.frames" in json.loads((run / "inputs.json").read_text())
    assert f", and on the frames of {given.name}, by `asr train`" in (run / "model" / "README.md").read_text()
    assert f"frames: {given.name}\n" in (run / "model" / "config.yaml").read_text()
    code, again, errors = train("frames-on", *settings, "train.max_epochs=1")
    assert code == 0, errors
    code, again, errors = train("frames-on", *settings)
    assert code == 0, errors
    resumed = load_file(again / "model" / "model.safetensors")
    assert resumed.keys() == weights.keys()
    code, _, errors = train("frames-init", *settings, f"train.init={run}", "train.max_epochs=1")
    assert code == 0, errors
    code, _, errors = train("wrong", "train.criterion.frames=nowhere")
    assert code == 2
    assert "no model folder at nowhere" in errors


def test_training_with_two_views(train):
    """A run with the consistency of two views learns, and is the same when it is repeated."""
    conditions = "conditions={noise: 0.5, music: 0.5, babble: 0.5, padding: 0.8}"
    settings = ("train.max_epochs=2", "train.criterion.warmup_epochs=1", "train.consistency=0.2", conditions)
    settings += ("features.delta_order=0", "features.use_energy=false")
    code, run, errors = train("views", *settings)
    assert code == 0, errors
    code, again, errors = train("views-again", *settings)
    assert code == 0, errors
    losses, those_again = ([entry["loss"] for entry in epochs(each)] for each in (run, again))
    assert losses == those_again
    code, _, errors = train(
        "attention", "train.consistency=0.2", "train.criterion={name: ctc, lm: null}", "model={name: attention_decoder}"
    )
    assert code == 2
    assert "train.consistency must be 0 for attention_decoder" in errors
