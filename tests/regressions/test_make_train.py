"""`make train` prints the result of what is asked for, on what is there now, and does nothing twice."""

import os
import shutil
import subprocess

import pytest

from tests.conftest import ROOT

STUB = """#!/bin/sh
echo "$*" >> calls
case "$1" in
prepare) cat corpus ;;
train)
    mkdir -p run
    if [ -e run/config.yaml ] && [ "$*" != "$(cat run/config.yaml)" ]; then exit 2; fi
    echo "$*" > run/config.yaml ;;
evaluate) echo "result of $(cat run/config.yaml)" ;;
esac
"""


class Checkout:
    """The Makefile beside an `asr` that notes what it is asked, and refuses to train something else in a run folder."""

    def __init__(self, folder):
        self.folder = folder
        shutil.copy(ROOT / "Makefile", folder)
        for name in ("pyproject.toml", "requirements.lock", "corpus", "recipes/mini/blstm_ctc.yaml", ".venv/bin/asr"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"{name}\n")
        (folder / ".venv/bin/asr").write_text(STUB)
        (folder / ".venv/bin/asr").chmod(0o755)
        (folder / ".venv/.ready").touch()

    def train(self, *variables):
        """The exit code of `make train`, what it prints, and the verbs that it calls."""
        (self.folder / "calls").write_text("")
        command = ["make", "--silent", "train", "RUN=run", *variables]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        calls = (self.folder / "calls").read_text().splitlines()
        return done.returncode, done.stdout, [each.split()[0] for each in calls]


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_make_train_does_a_finished_run_no_second_time(checkout):
    code, out, verbs = checkout.train("ARGS=seed=1")
    assert (code, verbs) == (0, ["prepare", "train", "evaluate"])
    assert checkout.train("ARGS=seed=1") == (0, out, ["prepare"])
    assert "seed=1" in out


@pytest.mark.parametrize("other", ["ARGS=seed=3", "DATA=/elsewhere", "TIMIT=/elsewhere"])
def test_make_train_does_not_print_the_result_of_other_settings(checkout, other):
    _, result, _ = checkout.train()
    code, out, verbs = checkout.train(other)
    assert (code, out, verbs) == (2, "", ["prepare", "train"])
    assert checkout.train() == (0, result, ["prepare"])  # the run is still that of the first settings
    assert checkout.train(other, "RUN=run")[0] == 2


@pytest.mark.parametrize("name", ["corpus", "recipes/mini/blstm_ctc.yaml"])
def test_make_train_notices_another_corpus_and_another_recipe(checkout, name):
    checkout.train()
    (checkout.folder / name).write_text("changed")
    assert checkout.train()[2] == ["prepare", "train", "evaluate"]
    assert checkout.train()[2] == ["prepare"]


def test_make_train_notices_that_something_else_has_trained_in_the_folder(checkout):
    checkout.train()
    os.utime(checkout.folder / "run" / "config.yaml", (2**32, 2**32))
    assert checkout.train()[2][:2] == ["prepare", "train"]


def test_make_train_takes_settings_with_quotes(checkout):
    settings = "ARGS=\"seeds=[1,2]\" 'data.corpora={table: mine}'"
    assert checkout.train(settings)[2] == ["prepare", "train", "evaluate"]
    assert checkout.train(settings)[2] == ["prepare"]
