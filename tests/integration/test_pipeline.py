"""The way of the data end to end, by the commands that a user types: train, evaluate, transcribe, stop and go on."""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from lhotse import load_manifest
from safetensors.numpy import load_file

from asr import Recogniser
from asr.ctc import best_path
from asr.models.model_folder import find
from asr.speech.phones import PhoneSet, fold


def edit_distance(left, right):
    """Levenshtein's table, by hand."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        above, row = row, [i]
        for j, b in enumerate(right, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (a != b)))
    return row[-1]


def history(run):
    return json.loads((run / "history.json").read_text())["epochs"]


def weights(run):
    return load_file(run / "model" / "model.safetensors")


def results(folder):
    return json.loads((folder / "metrics.json").read_text())["results"]


def wavs(tree):
    """The core test set's recordings by utterance id."""
    return {f"{path.parent.name}_{path.stem}": path for path in sorted(tree.glob("TEST/*/*/*.WAV")) if is_core(path)}


def is_core(path):
    from data_prep.timit import standard_speakers

    return path.parent.name in standard_speakers("test")


def reference(wav):
    """What TIMIT's own label file says, as it is scored."""
    labels = [line.split()[2] for line in wav.with_suffix(".PHN").read_text().splitlines()]
    return fold(labels, "timit61", "timit39")


# --- training: the TIMIT recipe on a tree that data_prep.mini made


def test_a_run_folder_holds_what_was_run_and_how_it_went(trained):
    names = {path.relative_to(trained.run).as_posix() for path in trained.run.rglob("*") if path.is_file()}
    model = {f"model/{name}" for name in ("config.yaml", "model.safetensors", "tokens.txt", "calibration.json")}
    assert names >= model | {"model/README.md"}
    assert names >= model | {"config.yaml", "git.txt", "train.log", "history.json"}
    assert names >= {"checkpoints/last.ckpt", "checkpoints/best.ckpt"}
    assert any(name.startswith("tensorboard/events") for name in names)
    assert not [name for name in names if "partial" in name]
    first, last = trained.out.splitlines()[-2:]
    assert first == f"model folder: {trained.run / 'model'}"
    assert re.fullmatch(r"calibrated on [\d,]+ phones of dev speakers; times move by [+-]\d+ ms: .*", last)
    assert (trained.run / "train.log").read_text().count("dev PER") == 6


def test_training_learns_and_its_history_is_whole(trained):
    epochs = history(trained.run)
    assert [entry["epoch"] for entry in epochs] == [1, 2, 3, 4, 5, 6]
    assert epochs[0]["updates"] * 3 < epochs[-1]["updates"]
    assert epochs[-1]["loss"] < 0.7 * epochs[0]["loss"]
    assert epochs[-1]["dev_per"] < 80
    assert epochs[-1]["learning_rate"] == pytest.approx(1e-5, rel=1e-3)
    assert all(left["seconds"] <= right["seconds"] for left, right in pairwise(epochs))  # of a tenth of a second
    assert epochs[0]["seconds"] < epochs[-1]["seconds"]


def test_the_model_emits_the_recipes_61_labels(trained):
    tokens = (trained.run / "model" / "tokens.txt").read_text().splitlines()
    assert tokens == ["<blank>", *PhoneSet.load("timit61").labels]
    assert weights(trained.run)["encoder.output.bias"].shape == (62,)
    assert str(trained.manifests.parent / "mini") not in (trained.run / "model" / "config.yaml").read_text()


# --- evaluation


@pytest.fixture(scope="module")
def scored(cli, trained):
    """`asr evaluate RUN`, which needs no word of where the corpus lies."""
    code, out, err = cli("evaluate", trained.run)
    assert code == 0, err
    return out


def hypotheses(run, decoder):
    lines = (run / f"hypotheses-timit-test-{decoder}.txt").read_text().splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines}


@pytest.mark.parametrize("decoder", ["best path", "beam 8"])
def test_the_rate_is_that_of_the_hypotheses_against_timits_label_files(trained, scored, mini_tree, decoder):
    (row,) = [row for row in results(trained.run) if (row["decoder"], row["split"]) == (decoder, "test")]
    written = hypotheses(trained.run, decoder.replace(" ", "-"))
    found = {name: fold(labels, "timit61", "timit39") for name, labels in written.items()}
    references = {name: reference(wav) for name, wav in wavs(mini_tree).items()}
    assert found.keys() == references.keys()
    errors = sum(edit_distance(references[name], found[name]) for name in references)
    assert row["num_utterances"] == len(references) == 16
    assert row["num_phones"] == sum(map(len, references.values()))
    assert row["substitutions"] + row["insertions"] + row["deletions"] == errors
    assert row["per"] == pytest.approx(100 * errors / row["num_phones"], abs=0.006)
    low, high = row["interval"]
    assert low < row["per"] < high
    assert (row["corpus"], row["scoring"]) == ("timit", "timit39")
    seconds = sum(soundfile.info(str(wav)).duration for wav in wavs(mini_tree).values())
    assert row["hours"] == pytest.approx(seconds / 3600, abs=6e-4)
    assert row["times_real_time"] > 1
    assert f"timit test, {decoder}: PER {row['per']:.2f} %" in scored


def test_the_manifests_count_what_is_scored(trained, scored):
    manifest = load_manifest(trained.manifests / "timit" / "supervisions_test.jsonl.gz")
    folded = [fold(each.custom["phones"].split(), "timit61", "timit39") for each in manifest]
    assert {row["num_utterances"] for row in results(trained.run)} == {len(folded)}
    assert {row["num_phones"] for row in results(trained.run)} == {sum(map(len, folded))}


def test_evaluation_leaves_figures_and_says_where(trained, scored):
    for name in ("training.png", "posteriors-timit-test.png", "confusions-timit-test.png"):
        picture = (trained.run / name).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 10_000
    assert f"report: {trained.run / 'report.html'}" in scored
    assert f"transcribe --model {trained.run} a.wav" in scored.splitlines()[-1]
    assert results(trained.run / "model") == results(trained.run)
    card = (trained.run / "model" / "README.md").read_text()
    assert f"{min(row['per'] for row in results(trained.run)):.2f}" in card


def test_seeds_are_trained_one_by_one_and_reported_together(cli, trained, tmp_path):
    run = tmp_path / "seeds"
    code, out, err = cli("train", *trained.arguments, "train.max_epochs=1", "seeds=[1,5]", "--run", run)
    assert code == 0, err
    assert all(str(run / f"seed-{seed}" / "model") in out for seed in (1, 5))
    one, other = (weights(run / f"seed-{seed}")["encoder.output.weight"] for seed in (1, 5))
    assert not np.allclose(one, other)
    code, out, _ = cli("evaluate", run, "decode.beam_size=1")
    assert code == 0
    rates = [results(run / f"seed-{seed}")[0]["per"] for seed in (1, 5)]
    (row,) = results(run)
    assert row["rates"] == rates
    assert row["per"] == pytest.approx(sum(rates) / 2, abs=0.006)
    assert row["standard_deviation"] == pytest.approx(abs(rates[0] - rates[1]) / 2**0.5, abs=0.006)
    assert f"PER {row['per']:.2f} ± {row['standard_deviation']:.2f} % over 2 seeds" in out


@pytest.fixture(scope="module")
def evaluation(trained, scored):
    return json.loads((trained.run / "evaluation-timit-test.json").read_text(encoding="utf8"))


def test_what_evaluation_writes_can_be_scored_by_itself(cli, trained, evaluation):
    files = [trained.run / f"{name}.txt" for name in ("references-timit-test", "hypotheses-timit-test-beam-8")]
    code, out, _ = cli("score", *files, "--json")
    assert code == 0
    rows = {row["name"]: row for row in evaluation["regimes"]}
    found = json.loads(out)
    for row in found["regimes"]:
        assert {**rows[row["name"]], "interval_speakers": None} == row
    assert found["confusions"] == evaluation["confusions"]


def test_the_full_test_stands_beside_the_core_test(evaluation):
    names = [row["name"] for row in evaluation["regimes"]]
    assert names[0] == "39, sil scored"
    assert names[5:] == [f"{name}; full test" for name in names[:5]]
    assert {row["num_utterances"] for row in evaluation["regimes"][5:]} == {24}
    (quoted,) = [row for row in evaluation["regimes"] if row["headline"]]
    assert quoted["num_utterances"] == 16
    assert quoted["interval_speakers"][0] <= quoted["per"] <= quoted["interval_speakers"][1]


def test_every_part_of_the_evaluation_counts_the_same_phones(evaluation):
    quoted = evaluation["regimes"][0]
    confusions = evaluation["confusions"]
    assert sum(map(sum, confusions["counts"])) + sum(confusions["deletions"]) == quoted["num_phones"]
    assert sum(confusions["deletions"]) == quoted["deletions"]
    assert sum(confusions["insertions"]) == quoted["insertions"]
    for rows in (*evaluation["groups"].values(), *evaluation["classes"].values()):
        assert sum(row["num_phones"] for row in rows) == quoted["num_phones"]
    assert len(evaluation["utterances"]) == quoted["num_utterances"]


def test_times_are_compared_with_timits(evaluation, mini_tree):
    """Each boundary of the label files but the recordings' starts; far better than chance, in the middle of nothing."""
    ours, firsts, middles = evaluation["boundaries"]
    labels = [wav.with_suffix(".PHN").read_text().splitlines() for wav in wavs(mini_tree).values()]
    assert ours["num_boundaries"] == sum(map(len, labels)) - len(labels)
    assert ours["within"]["20"] > max(firsts["within"]["20"], middles["within"]["20"])
    assert ours["within"]["20"] > 60
    assert sum(ours["histogram"]["counts"]) == ours["num_boundaries"]


def test_confidences_are_calibrated_on_other_speakers(evaluation):
    found = evaluation["calibration"]
    assert 0 <= found["ece"] <= 0.15
    sure = [phone["confidence"] for row in evaluation["utterances"] for phone in row["hypothesis"]]
    assert 0 <= min(sure) < max(sure) <= 1


def test_every_key_of_the_json_is_documented(trained, evaluation):
    text = (Path(__file__).parents[2] / "docs" / "reference" / "evaluation.md").read_text(encoding="utf8")
    documented = set(re.findall(r"`([a-z_]+)`", text[text.index("## The JSON") :]))

    def keys(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                yield key
                yield from keys(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from keys(inner)

    numbers = {"10", "20", "50"}  # of milliseconds
    undocumented = set(keys([evaluation, results(trained.run)])) - documented - numbers
    assert undocumented == set()
    assert documented >= {"regimes", "boundaries", "utterances"}


def test_the_page_holds_the_evaluation(trained, evaluation):
    page = (trained.run / "report.html").read_text(encoding="utf8")
    assert page.startswith("<!doctype html>")
    assert all(row["id"] in page for row in evaluation["utterances"])


def test_the_dev_score_of_training_is_that_of_evaluation(cli, trained, tmp_path):
    """The kept weights are those of the best epoch, and scoring them again gives the same rate."""
    code, out, _ = cli("evaluate", trained.run, "decode.beam_size=1", "--split", "dev", "--output", tmp_path)
    assert code == 0, out
    (row,) = results(tmp_path)
    assert (row["split"], row["decoder"], row["num_utterances"]) == ("dev", "best path", 8)
    assert row["per"] == pytest.approx(min(entry["dev_per"] for entry in history(trained.run)), abs=0.011)


def test_scoring_another_split_keeps_the_rows_there_are(cli, trained, scored, tmp_path):
    output = tmp_path / "scores"
    for split in ("test", "dev", "test"):
        code, out, _ = cli("evaluate", trained.run, "decode.beam_size=1", "--split", split, "--output", output)
        assert code == 0, out
    assert [row["split"] for row in results(output)] == ["dev", "test"]
    assert {row["split"] for row in results(trained.run)} == {"test"}


def test_a_corpus_that_is_not_there_is_left_out_of_the_scores(cli, trained, tmp_path):
    code, out, err = cli(
        "evaluate", trained.run, "data.corpora.speechocean762=/nowhere", "decode.beam_size=1", "--output", tmp_path
    )
    assert code == 0, out
    assert {row["corpus"] for row in results(tmp_path)} == {"timit"}
    assert "left out: speechocean762: " in err


# --- transcription


@pytest.fixture(scope="module")
def recordings(mini_tree, tmp_path_factory):
    """One sentence as TIMIT's SPHERE file, as FLAC, and as MP3 at 44.1 kHz in stereo."""
    folder = tmp_path_factory.mktemp("recordings")
    sphere = next(iter(wavs(mini_tree).values()))
    samples, rate = soundfile.read(sphere)
    flac, mp3 = folder / "a.flac", folder / "a.mp3"
    soundfile.write(flac, samples, rate)
    music = soxr.resample(samples, rate, 44100)
    soundfile.write(mp3, np.stack([music, music], axis=1), 44100)
    return sphere, flac, mp3


def test_transcribe_prints_a_line_for_each_recording(run_asr, trained, recordings):
    process = run_asr("transcribe", "--model", trained.run, *recordings)
    assert process.returncode == 0, process.stderr
    lines = [line.split(": ") for line in process.stdout.splitlines()]
    assert [path for path, _ in lines] == [str(path) for path in recordings]
    sphere, flac, mp3 = (phones.split() for _, phones in lines)
    assert set(sphere) <= set(PhoneSet.load("timit61").labels)
    assert len(sphere) > 5
    assert sphere == flac
    assert edit_distance(sphere, mp3) <= 0.3 * len(sphere)
    assert process.stderr == ""


def test_transcribe_to_json_has_times_and_confidences(cli, trained, recordings):
    code, out, err = cli("transcribe", "--model", trained.run, "--format", "json", *recordings[:2])
    assert (code, err) == (0, "")
    sphere, flac = map(json.loads, out.splitlines())
    assert sphere["path"] == str(recordings[0])
    assert sphere["phones"] == flac["phones"]
    assert sphere["duration"] == pytest.approx(soundfile.info(str(recordings[0])).duration, abs=1e-3)
    end = 0.0
    for phone in sphere["phones"]:
        assert phone.keys() == {"label", "start", "end", "confidence"}
        assert end <= phone["start"] < phone["end"] <= sphere["duration"]
        assert 0 < phone["confidence"] <= 1
        end = phone["end"]


def test_one_recording_is_printed_without_its_name(cli, trained, recordings):
    code, out, _ = cli("transcribe", "--model", trained.run / "model", recordings[0])
    assert code == 0
    assert out.strip() == str(Recogniser.from_pretrained(trained.run).transcribe(recordings[0]))


@pytest.mark.parametrize(("beam_size", "decoder"), [(1, "best-path"), (8, "beam-8")])
def test_transcribing_a_test_file_gives_what_evaluation_wrote(trained, scored, mini_tree, beam_size, decoder):
    """Alone or in a batch, from the cache or from the file."""
    recogniser = Recogniser.from_pretrained(str(trained.run), beam_size)
    written = hypotheses(trained.run, decoder)
    differing = 0
    for name, wav in wavs(mini_tree).items():
        differing += [phone.label for phone in recogniser.transcribe(wav)] != written[name]
    assert differing <= 1  # padding moves posteriors in the last bit, and so perhaps a near tie


def test_confidence_is_the_calibrated_posterior_at_the_spike(trained, recordings):
    recogniser = Recogniser.from_pretrained(trained.run, beam_size=1)
    waveform, _ = soundfile.read(recordings[1], dtype="float32")
    log_probs = recogniser.emissions(waveform)
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1, atol=1e-4)
    spikes = best_path(log_probs)
    posteriors = np.exp([log_probs[frame, token] for token, frame in zip(spikes.tokens, spikes.timesteps, strict=True)])
    phones = list(recogniser.transcribe(waveform, 16000))
    assert [phone.label for phone in phones] == [recogniser.model.tokens[token] for token in spikes.tokens]
    expected = recogniser.model.calibration.confidence(posteriors)
    assert not np.allclose(expected, posteriors, atol=1e-2)  # this small network is not calibrated by itself
    np.testing.assert_allclose([phone.confidence for phone in phones], expected, atol=1e-3)


def test_an_exported_model_needs_nothing_of_the_run(cli, trained, recordings, tmp_path):
    code, _, err = cli("export", trained.run, tmp_path / "mine")
    assert code == 0, err
    code, out, _ = cli("transcribe", "--model", tmp_path / "mine", recordings[1])
    assert code == 0
    whole = str(Recogniser.from_pretrained(trained.run).transcribe(recordings[1])).split()
    assert edit_distance(out.split(), whole) <= 1
    exported, own = ((path / "model.safetensors").stat().st_size for path in (tmp_path / "mine", find(trained.run)))
    assert exported < 0.65 * own


# --- a run that is stopped goes on

KILLED = """
import os, signal, sys
from asr.training.network import RecogniserModule
signal_name, hook, update = sys.argv.pop(1), sys.argv.pop(1), int(sys.argv.pop(1))
step = getattr(RecogniserModule, hook)

def stop(self, batch, batch_idx):
    if self.global_step >= update:
        os.kill(os.getpid(), getattr(signal, signal_name))
    return step(self, batch, batch_idx)

setattr(RecogniserModule, hook, stop)
signal.signal(signal.SIGINT, signal.default_int_handler)  # which what a shell runs in the background has not
from asr.cli.app import main
main()
"""


def test_a_killed_run_ends_as_the_uninterrupted_one(python, cli, trained, tmp_path):
    """SIGKILL in the first epoch and while the fourth is scored, Ctrl-C in the second; features computed anew.

    The first and the last time it goes on within the epoch, else from the end of the one before.
    """
    run, per_epoch = tmp_path / "run", history(trained.run)[0]["updates"]
    seldom = (*trained.arguments, "data.cache_features=false", "--run", run)
    often = (*seldom, "train.checkpoint_minutes=1e-6")
    assert python(KILLED, "SIGKILL", "training_step", 4, "train", *often).returncode == -9
    stopped = python(KILLED, "SIGINT", "training_step", per_epoch + 3, "train", *seldom)
    assert stopped.returncode == 130
    assert "asr: stopped; the same command goes on from the last checkpoint" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert len(history(run)) == 1
    killed = python(KILLED, "SIGKILL", "validation_step", 4 * per_epoch - 5, "train", *often)
    assert killed.returncode == -9
    assert len(history(run)) == 3
    assert not list(run.glob(".*"))
    code, _, err = cli("train", *often)
    assert code == 0, err
    for ours, theirs in zip(history(run), history(trained.run), strict=True):
        assert ours | {"seconds": 0} == theirs | {"seconds": 0}
    expected = weights(trained.run)
    assert weights(run).keys() == expected.keys()
    for name, value in weights(run).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert not list(run.rglob("*partial*"))


def test_a_finished_run_is_not_trained_again(cli, trained, tmp_path):
    run = shutil.copytree(trained.run, tmp_path / "run")
    expected = weights(run)
    shutil.rmtree(run / "model")  # as if killed just before it was written
    code, _, err = cli("train", *trained.arguments, "--run", run)
    assert code == 0, err
    assert history(run) == history(trained.run)
    assert (run / "train.log").read_text().count("dev PER") == 6
    for name, value in weights(run).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_another_configuration_does_not_go_on_with_a_run(cli, trained):
    before = (trained.run / "config.yaml").read_bytes()
    code, _, err = cli("train", *trained.arguments, "train.learning_rate=0.01", "seed=2", "--run", trained.run)
    assert code == 2
    different = "seed=1 and not 2, train.learning_rate=0.02 and not 0.01"
    assert err.startswith(f"asr: {trained.run} holds a run with {different}: delete it, or name another folder with")
    assert err.count("\n") == 1
    assert (trained.run / "config.yaml").read_bytes() == before
