"""Two processes at once on one corpus, one run folder, one result and one kernel: both end as one alone does."""

import os
import subprocess
import sys
import threading
import time

import pytest
import soundfile

import data_prep
from asr.core import config as configuration
from asr.core.errors import ConfigError
from asr.evaluation import results
from asr.models import run_folder
from asr.training import train
from tests.conftest import ROOT

# Each recording takes a while, and leaves a mark each time that its features are computed.
FEATURES = """
import hashlib, os, sys, time
from pathlib import Path
import data_prep
from asr.core.config import FeatureConfig
from asr.data import feature_store
from asr.data.splits import load_split
from data_prep import manifests

folder, marks = Path(sys.argv[1]), Path(sys.argv[2])
extract, recording = feature_store.extract, manifests._recording

def slowly(path, *arguments):
    (marks / f"{Path(path).stem}-{os.getpid()}").touch()
    time.sleep(0.05)
    return extract(path, *arguments)

def read_slowly(utterance, copies):
    (marks / f"header-{utterance.id}-{os.getpid()}").touch()
    time.sleep(0.05)
    return recording(utterance, copies)

feature_store.extract, manifests._recording = slowly, read_slowly
data_prep.prepare("table", folder / "corpus", folder / "data")
cuts = load_split(folder / "data", ["table"], "train")
store = feature_store.cache_features(cuts, FeatureConfig(), folder / "data" / "features", "train")
print([(cut.id, hashlib.sha256(store[cut.id].tobytes()).hexdigest()) for cut in cuts])
"""
MINI = """
import sys
from functools import partial
import data_prep
from data_prep import mini
mini.obtain = partial(mini.synthesise, num_train_speakers=2, num_dev_speakers=1, num_test_speakers=1)
if __name__ == "__main__":
    print(data_prep.prepare("mini", None, "data"))
"""
# Both processes have read the index before either writes it, and the one that writes it first writes its kernel last.
KERNEL = """
import os, sys, time
from pathlib import Path
from numba.core.caching import IndexDataCacheFile

if len(sys.argv) > 2:
    meeting, is_first = Path(sys.argv[2]), sys.argv[1] == "7"
    load_index, save_index, save_data = (getattr(IndexDataCacheFile, f"_{name}") for name in NAMES)

    def meet(self):
        found = load_index(self)
        if sys._getframe(1).f_code.co_name == "save":
            (meeting / str(os.getpid())).touch()
            end = time.monotonic() + 5
            while len(list(meeting.iterdir())) < 2 and time.monotonic() < end:
                time.sleep(0.01)
        return found

    def write_index(self, overloads):
        time.sleep(0 if is_first else 0.5)
        save_index(self, overloads)

    def write_data(self, name, data):
        time.sleep(1.5 if is_first else 0)
        save_data(self, name, data)

    for name, method in zip(NAMES, (meet, write_index, write_data)):
        setattr(IndexDataCacheFile, f"_{name}", method)

from asr.core.jit import njit

@njit(cache=True)
def half(x):
    return x / 2

print(half(eval(sys.argv[1])))
""".replace("NAMES", '("load_index", "save_index", "save_data")')


def start(*command, cwd, **changes):
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | changes
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *command], cwd=cwd, env=environment, stdout=pipe, stderr=pipe, text=True)


def ended(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


@pytest.fixture
def corpus(tmp_path, rng):
    """A folder with a table of five recordings."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    rows = ["path\tspeaker\tsplit\twords\n"]
    for i in range(5):
        soundfile.write(folder / f"u{i}.wav", 0.1 * rng.standard_normal(16000), 16000, "PCM_16")
        rows.append(f"u{i}.wav\t{i}\t{'dev' if i == 4 else 'train'}\tone\n")
    (folder / "utterances.tsv").write_text("".join(rows))
    return folder


def test_manifests_and_features_are_made_once_and_are_those_of_one_process(corpus, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    first, second = (start("-c", FEATURES, tmp_path, marks, cwd=ROOT) for _ in range(2))
    together = [ended(first), ended(second)]
    headers = [path for path in marks.iterdir() if path.name.startswith("header-")]
    assert (len(headers), len(list(marks.iterdir())) - len(headers)) == (5, 4)
    names = sorted(path.relative_to(tmp_path) for path in (tmp_path / "data").rglob("*"))
    assert not [name for name in names if name.name.startswith(".")]
    (tmp_path / "data").rename(tmp_path / "before")
    assert together == [ended(start("-c", FEATURES, tmp_path, marks, cwd=ROOT))] * 2
    assert sorted(path.relative_to(tmp_path) for path in (tmp_path / "data").rglob("*")) == names


def test_a_corpus_is_synthesised_once(tmp_path):
    (tmp_path / "mini_twice.py").write_text(MINI)
    processes = [start("mini_twice.py", cwd=tmp_path) for _ in range(2)]
    assert [ended(process).split()[-1] for process in processes] == ["data/mini"] * 2
    assert sorted(path.name for path in (tmp_path / "corpora").iterdir()) == ["mini"]
    assert len(list((tmp_path / "corpora").rglob("*.WAV"))) == 32


def test_two_trainings_do_not_share_a_run_folder(tmp_path):
    config = configuration.from_dict({"data": {"corpora": {"mini": None}}})
    with run_folder.held(tmp_path / "run"), pytest.raises(ConfigError, match="another process trains in "):
        train(config, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["blstm", "gmm_hmm"])
def test_a_run_folder_is_held_from_before_the_start_to_the_end(corpus, tmp_path, monkeypatch, name):
    run, moments = tmp_path / "runs" / "run", []

    def watched(module, attribute):
        function = getattr(module, attribute)

        def watch(*arguments, **options):
            with pytest.raises(ConfigError, match="another process trains in "), run_folder.held(run):
                pass
            moments.append((attribute, (run / "config.yaml").exists()))
            return function(*arguments, **options)

        monkeypatch.setattr(module, attribute, watch)

    sizes = {"blstm": {"num_layers": 1, "hidden_size": 4, "stack": 4}, "gmm_hmm": {"num_iterations": 1}}
    values = {
        "data": {"corpora": {"table": str(corpus)}, "manifests": str(tmp_path / "data")},
        "features": {"num_mel_bins": 8, "delta_order": 0},
        "model": {"name": name} | sizes[name],
        "train": {"max_epochs": 1} if name == "blstm" else {},
    }
    for module, attribute in ((data_prep, "prepare"), (run_folder, "write_history"), (run_folder, "end")):
        watched(module, attribute)
    train(configuration.from_dict(values), run)
    assert list(dict.fromkeys(moments)) == [("prepare", False), ("write_history", True), ("end", True)]
    assert {path.name for path in run.parent.iterdir()} == {"run"}
    assert (run / "inputs.json").is_file()


def test_rows_of_two_evaluations_are_both_kept(tmp_path, monkeypatch):
    write = results.files.write_json

    def write_slowly(path, values):
        time.sleep(0.2)
        write(path, values)

    monkeypatch.setattr(results.files, "write_json", write_slowly)
    rows = [{"corpus": "mini", "split": split, "decoder": "beam 16", "decode": {}} for split in ("dev", "test")]
    arguments = [([row], 1, tmp_path, tmp_path / "elsewhere" / "model") for row in rows]
    threads = [threading.Thread(target=results.write_metrics, args=each) for each in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = results.json.loads((tmp_path / "metrics.json").read_text())["results"]
    assert {row["split"] for row in kept} == {"dev", "test"}


def test_kernels_for_different_types_are_not_taken_for_each_other(tmp_path):
    (tmp_path / "kernel.py").write_text(KERNEL)
    meeting = tmp_path / "meeting"
    meeting.mkdir()

    def run(*arguments):
        return start("kernel.py", *arguments, cwd=tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"))

    processes = [run("7", meeting), run("7.5", meeting)]
    assert [ended(process) for process in processes] == ["3.5\n", "3.75\n"]
    assert ended(run("7")) == "3.5\n"
    assert ended(run("7.5")) == "3.75\n"  # it was 3.5: the kernel for integers
    assert len(list(tmp_path.glob("cache/*/*.nbc"))) == 2
