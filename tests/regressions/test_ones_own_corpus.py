"""Shipped models and the corpora of others: neither changed nor fetched when one measures on speech of one's own."""

import hashlib
import shutil
from dataclasses import replace

import pytest

import data_prep
from asr.core import config as configuration
from asr.core.errors import CorpusError
from asr.models import model_folder
from asr.training.tuning import tune
from data_prep import download, mini
from tests.conftest import ROOT

SHIPPED = model_folder.PRETRAINED / "en-us-phones-small"
WORDS = (ROOT / "docs" / "audio" / "glorious-scrap.txt").read_text().strip()


@pytest.fixture
def mine(tmp_path):
    """A table of one recording of real speech, for each split under another name."""
    folder = tmp_path / "mine"
    folder.mkdir()
    rows = ["path\tspeaker\tsplit\twords\n"]
    for split in ("train", "dev", "test"):
        shutil.copy(ROOT / "docs" / "audio" / "glorious-scrap.flac", folder / f"{split}.flac")
        rows.append(f"{split}.flac\t{split}\t{split}\t{WORDS}\n")
    (folder / "utterances.tsv").write_text("".join(rows))
    return folder


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A place without corpora, where to fetch one is an error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(download, "fetch_and_unpack", lambda url, *_: pytest.fail(f"would fetch {url}"))
    return tmp_path


def state(folder):
    return {
        path.name: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(autouse=True)
def shipped_models_stay():
    before = state(model_folder.PRETRAINED)
    yield
    assert state(model_folder.PRETRAINED) == before


@pytest.mark.parametrize("name", ["en-us-phones-small", SHIPPED, SHIPPED / ".." / SHIPPED.name])
def test_a_shipped_model_is_not_calibrated_in_place(cli, alone, mine, name):
    code, _, err = cli("calibrate", name, f"data.corpora.table={mine}")
    assert (code, err) == (
        2,
        "asr: en-us-phones-small is a shipped model and stays as it is: name a folder for a copy\n",
    )


def test_the_calibrated_copy_of_a_shipped_model_goes_where_output_says(cli, alone, mine):
    code, out, err = cli("calibrate", "en-us-phones-small", f"data.corpora.table={mine}", "--output", "own")
    assert code == 0, err
    assert out.endswith(" phones of dev speakers: own/calibration.json\n")
    copied, given = (
        {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        for folder in (alone / "own", SHIPPED)
    )
    assert copied == given
    for name in copied - {"calibration.json"}:
        assert (alone / "own" / name).read_bytes() == (SHIPPED / name).read_bytes()
    ours, theirs = (model_folder.load(folder).calibration for folder in (alone / "own", SHIPPED))
    assert ours.posteriors != theirs.posteriors
    assert ours.boundary_offset == theirs.boundary_offset != 0  # the corpus has no times


def test_results_of_a_shipped_model_named_by_its_path_stay_out_of_the_package(cli, alone, mine):
    code, out, err = cli("evaluate", SHIPPED, f"data.corpora.table={mine}")
    assert code == 0, err
    assert out.startswith("table test, best path: PER ")
    assert (alone / "runs" / "en-us-phones-small" / "report.html").is_file()
    assert "left out: cmu_arctic: it is not prepared: name its folder with data.corpora.cmu_arctic=FOLDER" in err


def test_a_corpus_can_be_scored_alone(cli, alone, mine):
    code, out, err = cli("evaluate", "en-us-phones-small", f"data.corpora={{table: {mine}}}", "--output", "scores")
    assert code == 0, err
    assert out.startswith("table test, best path: PER ")
    assert "left out" not in err


def test_corpora_given_as_a_whole_are_those_and_no_others():
    recipe = ROOT / "recipes" / "en_us_phones" / "small.yaml"
    named = ["mini_librispeech", "speechocean762", "cmu_arctic"]
    assert list(configuration.load(recipe).data.corpora) == named
    assert list(configuration.load(recipe, ["data.corpora.table=mine"]).data.corpora) == [*named, "table"]
    assert configuration.load(recipe, ["data.corpora={table: mine}"]).data.corpora == {"table": "mine"}
    more = ["data.corpora={table: mine}", "data.corpora.mini=here"]
    assert configuration.load(recipe, more).data.corpora == {"table": "mine", "mini": "here"}


@pytest.mark.parametrize(
    "verb",
    [
        ("evaluate", "en-us-phones-small"),
        ("calibrate", "en-us-phones-small", "--output", "own"),
        ("sensitivity", "en-us-phones-small"),
    ],
)
def test_nothing_is_fetched_to_measure_a_model(cli, alone, verb):
    code, _, err = cli(*verb)
    assert code == 2
    assert err.startswith("asr: mini_librispeech: it is not prepared: name its folder with data.corpora.mini_libri")
    assert err.count("\n") == 1


def test_nothing_is_fetched_to_tune_a_model(alone):
    model = model_folder.load(SHIPPED)
    decode = replace(model.config.decode, lm="lm")
    with pytest.raises(CorpusError, match="cmu_arctic: it is not prepared"):
        tune(replace(model, config=replace(model.config, decode=decode)), alone)


@pytest.mark.parametrize("verb", ["prepare", "train"])
def test_a_mistyped_folder_is_not_filled_with_the_synthetic_corpus(cli, alone, monkeypatch, verb):
    monkeypatch.setattr(mini, "_speak_all", lambda *_: pytest.fail("would speak"))
    recipe = ROOT / "recipes" / "mini" / "blstm_ctc.yaml"
    code, _, err = cli(verb, recipe, "--data", "typo")
    assert code == 2
    assert "no mini corpus in typo: without a folder it is made in corpora/mini" in err
    assert not (alone / "typo").exists()


def test_a_prepared_corpus_is_found_without_its_folder(alone, mine):
    data_prep.prepare("table", mine, "data")
    assert data_prep.prepare("table", None, "data", may_obtain=False).name == "table"
    assert (alone / "data" / "table" / "recordings_test.jsonl.gz").is_file()
