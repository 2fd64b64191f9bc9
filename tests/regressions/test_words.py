"""Faults of words on a command line and in Python that were mended."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from asr import Recogniser
from asr.cli.app import app
from asr.core.config import DecodeConfig
from asr.core.errors import ModelError
from asr.lm import folder, search
from asr.lm.estimation import estimate
from asr.lm.folder import CARD, LEXICON
from asr.models.word_model import DEFAULT, SETTINGS, WordModel

RECORDING = Path(__file__).parents[2] / "docs" / "audio" / "glorious-scrap.flac"
SENTENCES = [["the", "zoo"], ["the", "cat"], ["a", "cat"]]
LABELS = ("<blank>", "AH", "DH", "EY", "K", "AE", "T", "UW", "Z", "IY")


@pytest.fixture
def word_model(tmp_path):
    """A folder of a language model over words, with a lexicon and settings."""
    path = tmp_path / "words"
    folder.save(path, estimate(SENTENCES, "words", 2, "witten_bell"), "# words\n\n")
    (path / LEXICON).write_text("the DH AH\nzoo Z UW\ncat K AE T\na AH\n")
    WordModel({"lm_weight": 0.9}).store(path, "mine")
    return path


def later(path):
    """Set the modification time of a file a second later, as a clock of coarse steps may not."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


@pytest.mark.parametrize("option", ["--beam-size", "--lm-weight", "--penalty", "--label-prior-scale", "--lexicon"])
def test_the_help_tells_defaults_of_words(option):
    from typer.main import get_command

    (parameter,) = [each for each in get_command(app).commands["transcribe"].params if option in each.opts]
    assert "with --words" in parameter.show_default


def test_verbs_of_language_models_know_the_shipped_names(cli, tmp_path, monkeypatch, word_model):
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    word_model.rename(shipped / "toy")
    monkeypatch.setattr(search, "PRETRAINED", shipped)
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("the zoo\n")
    for words in (
        ("score", "toy", "text.txt"),
        ("generate", "toy", "--seed", 1),
        ("prune", "toy", "pruned", "--history", "toy"),
        ("quantise", "toy", "quantised"),
        ("export", "toy", "toy.arpa"),
    ):
        code, _, errors = cli("lm", *words)
        assert code == 0, errors
    before = {path: path.read_bytes() for path in (shipped / "toy").iterdir()}
    fault = "asr: toy is a shipped model and stays as it is: name a copy of its folder\n"
    for name in ("toy", shipped / "toy"):
        assert cli("lm", "lexicon", name) == (2, "", fault)
    assert {path: path.read_bytes() for path in (shipped / "toy").iterdir()} == before
    shutil.copytree(shipped / "toy", "copy")
    assert cli("lm", "lexicon", "copy")[0] == 0


def test_the_lexicon_says_what_guesses(cli):
    shown = cli("lm", "lexicon", "--help").out
    assert "letter-to-sound" not in shown
    assert "model of graphones" in shown


@pytest.mark.parametrize("options", [("--unknown", "phones"), ("--lexicon", "lexicon.txt")])
def test_options_of_words_do_not_pass_without_words(cli, options):
    code, out, errors = cli("transcribe", RECORDING, "--model", "en-us-phones-small", *options)
    assert (code, out) == (2, "")
    assert f"Invalid value for {options[0]}: this is for words: add --words" in re.sub(r"[│\s]+", " ", errors)


@pytest.mark.parametrize("more", [(), ("--words",)])
def test_an_empty_name_is_no_language_model(cli, more):
    code, out, errors = cli("transcribe", RECORDING, "--model", "en-us-phones-small", "--lm", "", *more)
    assert (code, out) == (2, "")
    assert "Invalid value for --lm: the name is empty" in errors


def test_an_edited_lexicon_is_read_again(word_model):
    config = DecodeConfig(lm=str(word_model), lexicon=str(word_model / LEXICON))
    log_probs = np.full((2, 1, len(LABELS)), np.log(0.01))
    log_probs[[0, 1], 0, [LABELS.index("Z"), LABELS.index("IY")]] = np.log(1 - 0.01 * (len(LABELS) - 1))

    def found():
        return search.build(config, LABELS)(log_probs, np.array([2]), 8, 1)[0][0]

    assert [LABELS[token] for token in found().tokens] != ["Z", "IY"]
    (word_model / LEXICON).write_text("the DH AH\nzoo Z IY\ncat K AE T\na AH\n")  # of the same size
    later(word_model / LEXICON)
    assert found().words == ("zoo",)
    assert [LABELS[token] for token in found().tokens] == ["Z", "IY"]


def test_a_model_that_was_trained_again_is_read_again(word_model):
    first = search.language_model(str(word_model), LABELS)
    assert search.language_model(str(word_model), LABELS) is first
    folder.save(word_model, estimate([["a", "zoo"], *SENTENCES], "words", 2, "witten_bell"), "# words\n\n")
    later(word_model / folder.WEIGHTS)
    second = search.language_model(str(word_model), LABELS)
    assert second.score([["a", "zoo"]])[0].sum() > first.score([["a", "zoo"]])[0].sum()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[]", "it has no names of acoustic models"),
        ('{"mine": 1}', "'mine' must have decode, posteriors, probabilities, but it is 1"),
        ('{"mine": {"decode": {}, "probabilities": []}}', "'mine' has no 'posteriors'"),
        (
            '{"mine": {"decode": {}, "posteriors": [], "probabilities": [], "prior": 1}}',
            "'mine' has the unknown key 'prior'",
        ),
        (
            '{"mine": {"decode": {}, "posteriors": 1, "probabilities": []}}',
            "the posteriors of 'mine' must be a list, but they are 1",
        ),
    ],
)
def test_damaged_settings_say_what_is_wrong(tmp_path, text, fault):
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(ModelError, match=re.escape(f"is damaged ({fault}):")):
        WordModel.load(tmp_path, "mine")


def test_a_lexicon_too_small_for_graphones(cli, tmp_path):
    (tmp_path / "lexicon.txt").write_text("a AH\n")
    code, _, errors = cli("lm", "graphones", tmp_path / "lexicon.txt", tmp_path / "g")
    assert (code, errors.splitlines()[-1]) == (
        2,
        "asr: the lexicon has too few words to learn 5-grams from, the longest of 1 letters: "
        "give more words, or lower --order",
    )
    assert cli("lm", "graphones", tmp_path / "lexicon.txt", tmp_path / "g", "--order", 4)[0] == 0


@pytest.mark.parametrize("verb", [("prune", "--threshold", "1e-9"), ("quantise", "--bits", "6")])
def test_smaller_models_keep_lexicon_and_settings(cli, tmp_path, word_model, verb):
    name, *options = verb
    assert cli("lm", name, word_model, tmp_path / "small", *options)[0] == 0
    for file in (LEXICON, SETTINGS):
        assert (tmp_path / "small" / file).read_bytes() == (word_model / file).read_bytes()
    assert (tmp_path / "small" / CARD).read_text().startswith("# words\n")
    assert cli("lm", name, word_model, word_model, *options)[0] == 0  # in its own place
    assert (tmp_path / "small" / LEXICON).read_bytes() == (word_model / LEXICON).read_bytes()


def test_more_hypotheses_than_the_beam_has_name_its_size(cli):
    options = ("--format", "json", "--nbest", 5000)
    code, _, errors = cli("transcribe", RECORDING, "--words", *options)
    beam_size = Recogniser.from_pretrained("en-us-phones", words=DEFAULT).beam_size
    fault = f"asr: --nbest must lie in 1..beam_size ({beam_size}), but it is 5000\n"
    assert (code, errors) == (2, fault)
