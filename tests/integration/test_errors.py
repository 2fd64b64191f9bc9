"""Faults that a user can mend: one line that says what, where and how to mend it, exit code 2, and no traceback."""

import json
import shutil

import numpy as np
import pytest
import soundfile

TIMIT = "recipes/timit/blstm_ctc.yaml"


def assert_one_line(outcome, *words, code=2):
    """Check the exit code and that the only line on stderr is the fault, with all that it must name."""
    returncode, _, err = outcome
    assert returncode == code, err
    assert err.count("\n") == 1, err
    assert err.startswith("asr: ")
    for word in words:
        assert word in err


def outcome(process):
    return process.returncode, process.stdout, process.stderr


# --- as a user meets them, in a process of their own


def test_no_timit(run_asr, tmp_path):
    process = run_asr("prepare", TIMIT, f"data.manifests={tmp_path}")
    words = ("LDC93S1", "catalog.ldc.upenn.edu", "make train RECIPE=timit TIMIT=/path/to/TIMIT", "RECIPE=mini")
    assert_one_line(outcome(process), *words)


def test_good_and_bad_recordings_together(run_asr, trained, bad_files, good_wav):
    files = [bad_files / "text.wav", good_wav, bad_files / "empty.wav", good_wav]
    process = run_asr("transcribe", "--model", trained.run, *files)
    assert process.returncode == 1
    assert [line.split(": ")[0] for line in process.stdout.splitlines()] == [str(good_wav)] * 2
    first, second, total = process.stderr.splitlines()
    assert first.startswith(f"asr: {bad_files / 'text.wav'}: damaged, or not audio")
    assert second.startswith(f"asr: {bad_files / 'empty.wav'}: the file is empty")
    assert total == "asr: 2 of 4 recordings could not be read"


def test_training_goes_on_without_the_utterances_that_it_cannot_use(cli, mini_tree, tmp_path):
    """A file without samples, one cut short, one of NaN, one with more labels than frames: each is named, left out."""
    tree = shutil.copytree(mini_tree, tmp_path / "tree")
    empty, cut, hurried, nan = sorted(tree.glob("TRAIN/*/*/*.WAV"))[:4]
    soundfile.write(empty, np.zeros(0, np.int16), 16000, format="NIST", subtype="PCM_16")
    cut.write_bytes(cut.read_bytes()[:9000])
    soundfile.write(hurried, soundfile.read(hurried, dtype="int16")[0][4000:6000], 16000, format="NIST")
    soundfile.write(nan, np.full(16000, np.nan, np.float32), 16000, format="WAV", subtype="FLOAT")
    names = [f"{path.parent.name}_{path.stem}" for path in (empty, cut, hurried, nan)]
    quick = ("train.max_epochs=1", "model.hidden_size=8", "model.num_layers=1", "model.stack=2")
    run = tmp_path / "run"
    places = (f"data.manifests={tmp_path / 'data'}", f"data.corpora.timit={tree}")  # calibration finds it there, too
    code, _, err = cli("train", TIMIT, *places, *quick, "--data", tmp_path / "elsewhere", "--run", run)
    assert code == 0, err
    log = (run / "train.log").read_text()
    assert f"skipped {names[0]}: {empty}: there are no samples" in log
    assert f"skipped {names[1]}: {cut}: cut short" in log
    assert f"skipped {names[3]}: {nan}: 16000 of 16000 samples are NaN or infinite" in log
    labels = len(hurried.with_suffix(".PHN").read_text().splitlines())
    assert f"skipped {names[2]}: its {labels} labels need " in log
    assert "output frames and it has 6 (11 feature frames, 2 an output frame)" in log
    assert log.count("skipped") == 4
    assert all(name in err for name in names)
    assert "Traceback" not in err
    (epoch,) = json.loads((run / "history.json").read_text())["epochs"]
    assert epoch["updates"] > 0


# --- the rest, without the imports of a new process each time


@pytest.fixture(scope="module")
def good_wav(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "good.wav"
    soundfile.write(path, np.random.default_rng(1).normal(scale=0.1, size=16000), 16000)
    return path


@pytest.fixture(scope="module")
def bad_files(good_wav, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    samples, _ = soundfile.read(good_wav)
    (folder / "empty.wav").touch()
    (folder / "truncated.wav").write_bytes(good_wav.read_bytes()[:20000])
    (folder / "text.wav").write_text("This is a sentence, not a recording of one.\n" * 30)
    soundfile.write(folder / "nan.wav", np.where(np.arange(16000) == 7, np.nan, samples), 16000, subtype="FLOAT")
    soundfile.write(folder / "no_samples.wav", samples[:0], 16000)
    soundfile.write(folder / "short.wav", samples[:300], 16000)
    (folder / "folder.wav").mkdir()
    return folder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.wav", ["no such file or folder", "check the path"]),
        ("folder.wav", ["no audio files in this folder"]),
        ("empty.wav", ["the file is empty", "copy or record it again"]),
        ("truncated.wav", ["cut short, it has 9978 of 16000 samples", "copy or convert it again"]),
        ("text.wav", ["damaged, or not audio", "convert it to WAV"]),
        ("nan.wav", ["1 of 16000 samples are NaN or infinite", "convert or record it again"]),
        ("no_samples.wav", ["there are no samples", "record it again"]),
        ("short.wav", ["300 samples", "give at least 400 samples (25 ms)"]),
    ],
)
def test_a_recording_that_cannot_be_transcribed(cli, trained, bad_files, name, words):
    path = bad_files / name
    assert_one_line(cli("transcribe", path, "--model", trained.run), f"asr: {path}: ", *words)


def test_all_of_several_recordings_bad(cli, trained, bad_files):
    code, out, err = cli("transcribe", bad_files / "empty.wav", bad_files / "text.wav", "--model", trained.run)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == "asr: 2 of 2 recordings could not be read"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--format", "xml"],
            ["asr: --format must be one of text, json, ctm, textgrid, srt, vtt, tsv, audacity, but it is 'xml'"],
        ),
        (["--model", "/nowhere"], ["no model folder at /nowhere", "give a run or model folder"]),
    ],
)
def test_options_of_transcribe(cli, good_wav, arguments, words):
    assert_one_line(cli("transcribe", good_wav, *arguments), *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "tokens.txt").unlink(), ["lacks tokens.txt", "copy the whole model folder"]),
        (lambda folder: (folder / "model.safetensors").unlink(), ["lacks model.safetensors"]),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 5000), ["model.safetensors is damaged"]),
        (lambda folder: (folder / "config.yaml").write_text("model: ["), ["cannot read", "config.yaml: line"]),
    ],
)
def test_a_broken_model_folder(cli, trained, good_wav, tmp_path, change, words):
    folder = shutil.copytree(trained.run / "model", tmp_path / "model")
    change(folder)
    assert_one_line(cli("transcribe", good_wav, "--model", folder), str(folder), *words)
    assert_one_line(cli("evaluate", folder), str(folder), *words)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (
            "train.epochs=3",
            ["asr: unknown key 'train.epochs'", "mean train.max_epochs?", "train has max_epochs"],
        ),
        ("trian.max_epochs=3", ["asr: unknown key 'trian.max_epochs'", "did you mean train.max_epochs?"]),
        ("train.max_epochs=many", ["asr: train.max_epochs must be of type int, but it is 'many'"]),
        ("train.learning_rate=-1", ["train.learning_rate must be positive, but it is -1"]),
        ("train.max_epochs", ["asr: 'train.max_epochs' is not of the form section.key=value"]),
        ("model.name=transformer", ["model.name must be one of ", "blstm", "'transformer'"]),
        ("model.cells=3", ["asr: unknown key 'model.cells'", "model has num_layers"]),
        ("model.hidden_size=large", ["model.hidden_size must be of type int, but it is 'large'"]),
        ("data.labels=timit99", ["no phone set is called 'timit99'", "timit61"]),
        ("data.scoring=arpabet99", ["arpabet99"]),
        ("data.corpora.timid=/x", ["data.corpora has 'timid'", "the corpora are mini, timit"]),
        ("train.devices=9", ["train.accelerator, train.devices"]),
    ],
)
def test_settings_that_cannot_be(cli, trained, tmp_path, setting, words):
    extra = ("train.accelerator=gpu",) if "devices" in setting else ()
    outcome = cli("train", *trained.arguments, setting, *extra, "--run", tmp_path / "run")
    assert_one_line(outcome, *words)


def test_a_mistyped_setting_does_not_bar_the_run_folder(cli, trained, tmp_path):
    run = tmp_path / "run"
    assert_one_line(cli("train", *trained.arguments, "model.name=transformer", "--run", run), "transformer")
    code, _, err = cli("train", *trained.arguments, "data.scoring=arpabet99", "--run", run)
    assert code == 2
    assert "another" not in err


def test_a_missing_recipe(cli):
    words = ("no file recipes/none/blstm_ctc.yaml", "the recipes stand in recipes/<recipe>/<system>.yaml")
    assert_one_line(cli("train", "recipes/none/blstm_ctc.yaml"), *words)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("timit", ["is not TIMIT: it has no folders TRAIN and TEST", "name the folder that holds them"]),
        ("speechocean762", ["is not speechocean762", "openslr.org/101"]),
        ("mini_librispeech", ["train-clean-5", "openslr.org/31"]),
        ("mini", ["no mini corpus in"]),
    ],
)
def test_the_wrong_folder(cli, tmp_path, recipe, words):
    folder = tmp_path / "holiday"
    folder.mkdir()
    (folder / "photo.jpg").touch()
    data = f"data.manifests={tmp_path / 'data'}"
    assert_one_line(cli("prepare", f"recipes/{recipe}/blstm_ctc.yaml", data, "--data", folder), str(folder), *words)
    missing = cli("prepare", "recipes/timit/blstm_ctc.yaml", data, "--data", tmp_path / "nowhere")
    assert_one_line(missing, f"no TIMIT at {tmp_path / 'nowhere'}", "LDC93S1")


def test_a_folder_that_cannot_be_written(cli, trained):
    arguments = trained.arguments
    assert_one_line(cli("train", *arguments, "--run", "/proc/run"), "/proc/run: No such file or directory")
    outcome = cli("prepare", "recipes/timit/blstm_ctc.yaml", "data.manifests=/proc/data", *arguments[-2:])
    assert_one_line(outcome, "/proc/data")


def test_evaluation_of_what_cannot_be(cli, trained, tmp_path):
    assert_one_line(cli("evaluate", "/nowhere"), "no model folder at /nowhere")
    split = cli("evaluate", trained.run, "--split", "exam", "--output", tmp_path)
    assert_one_line(split, "--split must be one of test, dev, train, test_full", "exam")
    for setting in ("features.num_mel_bins=20", "model.stack=3", "data.labels=timit39"):
        outcome = cli("evaluate", trained.run, setting, "--output", tmp_path)
        assert_one_line(outcome, f"asr: {setting.partition('=')[0]} belongs to the trained model", "leave it out")
    output = tmp_path / "output"
    outcome = cli("evaluate", trained.run, f"data.manifests={tmp_path / 'none'}", "--output", output)
    assert_one_line(outcome, "timit: it is not prepared: name its folder with data.corpora.timit=FOLDER")
    assert not output.exists()


def test_an_unknown_option_or_verb_is_a_matter_of_usage(cli):
    for arguments in (["transcribe", "a.wav", "--frmat", "json"], ["trane"], ["transcribe"]):
        code, _, err = cli(*arguments)
        assert code == 2
        assert "Usage:" in err
        assert "--help" in err
        assert "Traceback" not in err
