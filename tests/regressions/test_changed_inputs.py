"""What a result was made from is what is there: changed corpora are prepared anew, changed sound is read anew."""

import logging
import os
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from lhotse import CutSet

import data_prep
from asr.core import config as configuration
from asr.core.config import FeatureConfig
from asr.core.errors import ConfigError
from asr.data import feature_store
from asr.data.batches import BatchLoader, NoTargets, SpeechDataset
from asr.data.feature_store import cache_features
from asr.data.splits import load_split
from asr.speech import audio
from asr.speech.normaliser import Normaliser
from asr.training import train

HEAD = "path\tspeaker\tsplit\twords\n"


@pytest.fixture
def corpus(tmp_path, rng):
    """A table of two recordings for training and one for dev."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("u1", "u2", "u3"):
        soundfile.write(folder / f"{name}.wav", 0.1 * rng.standard_normal(16000), 16000, "PCM_16")
    (folder / "utterances.tsv").write_text(
        HEAD + "u1.wav\ta\ttrain\tone\nu2.wav\tb\ttrain\ttwo\nu3.wav\tc\tdev\tnine\n"
    )
    return folder


def utterances(corpus, tmp_path):
    data_prep.prepare("table", corpus, tmp_path / "data")
    return load_split(tmp_path / "data", ["table"], "train")


def texts(cuts):
    return {cut.id: cut.supervisions[0].text for cut in cuts}


def test_an_edited_table_is_read_again(corpus, tmp_path):
    assert texts(utterances(corpus, tmp_path)) == {"u1": "one", "u2": "two"}
    table = corpus / "utterances.tsv"
    table.write_text(table.read_text().replace("two", "three"))
    assert texts(utterances(corpus, tmp_path)) == {"u1": "one", "u2": "three"}


def test_without_its_folder_named_a_corpus_is_still_looked_at(corpus, tmp_path):
    utterances(corpus, tmp_path)
    table = corpus / "utterances.tsv"
    table.write_text(HEAD + "u1.wav\ta\ttrain\tfour\nu3.wav\tc\tdev\tnine\n")
    assert texts(utterances(None, tmp_path)) == {"u1": "four"}
    for path in corpus.iterdir():
        path.unlink()
    corpus.rmdir()
    assert texts(utterances(None, tmp_path)) == {"u1": "four"}  # what was prepared stays of use


@pytest.mark.parametrize("columns", ["", "\tstart\tend"])
def test_recordings_outside_its_folder_are_looked_at(corpus, tmp_path, rng, columns):
    """Copies of parts stayed as they were."""
    apart = tmp_path / "apart"
    apart.mkdir()
    head, *rows = (corpus / "utterances.tsv").read_text().splitlines()
    more = "\t0.2\t0.7" if columns else ""
    (apart / "utterances.tsv").write_text("\n".join([head + columns, *(f"../corpus/{row}{more}" for row in rows)]))

    def state():
        cut, _ = utterances(apart, tmp_path)
        return cut.duration, hash(audio.load(cut.recording.sources[0].source).tobytes())

    before = state()
    manifest = tmp_path / "data" / "table" / "supervisions_train.jsonl.gz"
    written = manifest.stat().st_mtime_ns
    assert state() == before
    assert manifest.stat().st_mtime_ns == written
    soundfile.write(corpus / "u1.wav", 0.1 * rng.standard_normal(32000), 16000, "PCM_16")
    after = state()
    assert after[0] == (0.5 if columns else 2.0)
    assert after[1] != before[1]


def test_an_unchanged_corpus_is_prepared_once(corpus, tmp_path):
    utterances(corpus, tmp_path)
    manifest = tmp_path / "data" / "table" / "supervisions_train.jsonl.gz"
    before = manifest.stat().st_mtime_ns
    utterances(corpus, tmp_path)
    assert manifest.stat().st_mtime_ns == before


def features(corpus, tmp_path, cuts):
    return np.array(cache_features(cuts, FeatureConfig(), tmp_path / "features", "train")["u1"])


def test_a_recording_overwritten_at_equal_length_is_read_again(corpus, tmp_path):
    cuts = utterances(corpus, tmp_path)
    before = features(corpus, tmp_path, cuts)
    soundfile.write(corpus / "u1.wav", np.zeros(16000), 16000, "PCM_16")
    os.utime(corpus / "u1.wav", (0, 0))
    after = features(corpus, tmp_path, cuts)
    assert before.shape == after.shape
    assert np.ptp(after, axis=0).max() == 0 < np.ptp(before, axis=0).min()


@pytest.mark.parametrize(("count", "num_buckets"), [(1, 20), (2, 1), (2, 20)])
def test_a_split_of_few_utterances_or_one_bucket_has_batches_and_no_warning(corpus, tmp_path, count, num_buckets):
    cuts = CutSet.from_cuts(list(utterances(corpus, tmp_path))[:count])
    store = cache_features(cuts, FeatureConfig(), tmp_path / "features", "few")
    dataset = SpeechDataset({1.0: store}, Normaliser(FeatureConfig()), NoTargets())
    loader = BatchLoader(cuts, dataset, 8000, num_buckets, shuffle=True)
    assert sorted(cut.id for batch in loader.batches for cut in batch) == ["u1", "u2"][:count]


def test_features_of_another_version_of_the_extractor_are_not_used(corpus, tmp_path, monkeypatch):
    cuts = utterances(corpus, tmp_path)
    features(corpus, tmp_path, cuts)
    monkeypatch.setattr(feature_store, "VERSION", 0)
    monkeypatch.setattr(feature_store, "extract", lambda path, extractor, speed: np.zeros((98, extractor.num_features)))
    assert not features(corpus, tmp_path, cuts).any()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::RuntimeWarning")
def test_a_run_is_not_taken_for_one_on_what_its_corpus_is_now(corpus, tmp_path):
    values = {
        "data": {"corpora": {"table": str(corpus)}, "manifests": str(tmp_path / "data")},
        "features": {"num_mel_bins": 8, "delta_order": 0},
        "model": {"name": "blstm", "num_layers": 1, "hidden_size": 4, "stack": 4},
        "train": {"max_epochs": 1},
    }
    config, run = configuration.from_dict(values), tmp_path / "run"
    table = corpus / "utterances.tsv"
    table.write_text(table.read_text() + "u3.wav\tc\tdev\tnine\n".replace("3", "4").replace("c", "d"))
    soundfile.write(corpus / "u4.wav", np.full(16000, 0.1), 16000, "PCM_16")
    train(config, run)
    with table.open("a") as file:
        file.write("u5.wav\te\ttest\tnine\n")  # nothing that it was trained on
    soundfile.write(corpus / "u5.wav", np.full(16000, 0.1), 16000, "PCM_16")
    train(config, run)
    os.utime(corpus / "u4.wav", (0, 0))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    more_epochs = replace(config, train=replace(config.train, max_epochs=2))
    for each in (config, more_epochs):
        with pytest.raises(ConfigError, match="table changed after "):
            train(each, run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    (run / "inputs.json").unlink()
    train(config, run)
    table.write_text(table.read_text().replace("two", "three"))
    with pytest.raises(ConfigError, match="table changed after "):
        train(config, run)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "sections",
    [
        {"model": {"name": "blstm", "num_layers": 1, "hidden_size": 4, "stack": 4}, "train": {"max_epochs": 1}},
        {"model": {"name": "gmm_hmm", "num_gaussians": 200, "num_iterations": 1}},
    ],
    ids=["blstm", "gmm_hmm"],
)
def test_what_was_left_out_is_not_changed_behind_a_run(corpus, tmp_path, caplog, sections):
    left_out = tmp_path / "misread.txt"
    left_out.write_text("u2\n")
    values = {
        "data": {"corpora": {"table": str(corpus)}, "manifests": str(tmp_path / "data"), "exclude": str(left_out)},
        "features": {"num_mel_bins": 8, "delta_order": 0},
    }
    config = configuration.from_dict(values | sections)
    with caplog.at_level(logging.INFO):
        train(config, tmp_path / "run")
    assert f"utterances left out of training, as {left_out} says: 1" in caplog.text
    left_out.write_text("u1\n")
    with pytest.raises(ConfigError, match=r"data.exclude changed after "):
        train(config, tmp_path / "run")
