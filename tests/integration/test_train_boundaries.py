"""asr train-boundaries on the embedded corpus, whose phones have exact times."""

import re

import pytest


@pytest.fixture(scope="module")
def taught(cli, trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("boundaries") / "model"
    code, out, errors = cli("train-boundaries", trained.run, "--output", folder)
    assert code == 0, errors
    return folder, out


def test_boundaries_of_dev_speakers_come_nearer(taught):
    folder, out = taught
    assert (folder / "boundaries.safetensors").is_file()
    assert out.startswith("boundaries learnt from 40 utterances")
    now, before = map(float, re.search(r"within 20 ms: ([\d.]+) %, before ([\d.]+) %", out).groups())
    assert now > before + 10


def test_the_copy_aligns_by_them_and_the_model_stays_as_it_was(taught, cli, trained, mini_tree):
    recording = next(mini_tree.glob("TEST/*/*/*.WAV"))
    rows = [line.split() for line in recording.with_suffix(".PHN").read_text().splitlines()]
    truth = [int(row[0]) / 16000 for row in rows[1:]]
    text = " ".join(row[2] for row in rows)
    errors = {}
    for name, model in (("ours", taught[0]), ("before", trained.run)):
        code, out, said = cli("align", recording, "--phones", text, "--model", model, "--format", "ctm")
        assert code == 0, said
        starts = [float(line.split()[2]) for line in out.splitlines()][1:]
        errors[name] = [abs(start - right) for start, right in zip(starts, truth, strict=True)]
    assert not (trained.run / "model" / "boundaries.safetensors").exists()
    assert sum(errors["ours"]) < sum(errors["before"])


def test_a_shipped_model_stays_as_it_is(cli):
    code, _, errors = cli("train-boundaries", "en-us-phones")
    assert code != 0
    assert "en-us-phones is a shipped model and stays as it is: name a folder for a copy" in errors
