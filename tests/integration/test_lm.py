"""Language models by the commands that a user types: trained on transcripts, tuned, fused, rescored, and over words."""

import functools
import json
import re
import shutil
from pathlib import Path

import pytest

from asr.core.errors import ModelError
from asr.evaluation.evaluate import evaluate_run
from asr.lm import config as configuration
from asr.lm.folder import load
from asr.lm.graphones import Graphones
from asr.models import model_folder
from asr.training.lm import train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def models(trained, tmp_path_factory):
    """The folder of a phone trigram, a phone LSTM and a word bigram of the trained run's transcripts."""
    folder = tmp_path_factory.mktemp("lm")
    corpus = f"corpora: {{timit: null}}, manifests: {trained.manifests}"
    models = {
        "trigram": ("unit: phones, labels: timit61", "{name: ngram}", ""),
        "lstm": (
            "unit: phones, labels: timit61",
            "{name: recurrent, embedding_size: 16, hidden_size: 32}",
            "train: {max_epochs: 2}",
        ),
        "words": ("unit: words, open_vocabulary: true", "{name: ngram, order: 2, smoothing: witten_bell}", ""),
    }
    for name, (text, model, more) in models.items():
        recipe = folder / f"{name}.yaml"
        recipe.write_text(f"text: {{{corpus}, {text}}}\nmodel: {model}\n{more}\n")
        assert train(configuration.load(recipe), folder / name) == folder / name / "model"
        assert re.search("perplexity .* held out", (folder / name / "model" / "README.md").read_text())
    return folder


def hypotheses(folder):
    (path,) = folder.glob("hypotheses-timit-test-beam-8*.txt")
    return path.read_text()


@pytest.fixture(scope="module")
def evaluate(trained, tmp_path_factory):
    """Score the trained run once with some settings, as `asr evaluate` does."""

    @functools.cache
    def run(*settings):
        folder = tmp_path_factory.mktemp("scored")
        return folder, evaluate_run(str(trained.run), settings, None, "test", folder)

    return run


def test_transcripts_are_learnt(models):
    lm = load(models / "trigram")
    assert (lm.unit, lm.order, len(lm.tokens)) == ("phones", 3, 62)
    words = load(models / "words")
    assert {"<unk>", "the"} <= set(words.tokens)
    assert all(token == token.lower() and token[-1] not in ".,?" for token in words.tokens)


def test_weights_are_tuned_on_dev_and_change_the_result(models, trained, cli, evaluate):
    code, out, _ = cli("tune", trained.run, f"decode.lm={models / 'trigram'}", "--output", models / "tuned")
    assert code == 0
    settings, said = out.strip().split("\n")
    pattern = r"decode\.lm_weight=[\d.]+ decode\.insertion_penalty=-?[\d.]+ decode\.label_prior_scale=[\d.]+"
    assert re.fullmatch(pattern, settings)
    rows = json.loads((models / "tuned" / "tuning-trigram.json").read_text())["tried"]
    assert (models / "tuned" / "tuning-trigram.png").is_file()
    best, without = min(row["dev_rate"] for row in rows), rows[0]["dev_rate"]
    assert said.startswith(f"{len(rows)} settings on dev: {best:.2f} % errors, {without:.2f} % with weight 0")
    plain, _ = evaluate()
    folder, out = evaluate(f"decode.lm={models / 'trigram'}", "decode.lm_weight=0.8", "decode.insertion_penalty=0.1")
    assert "timit test, beam 8 + trigram: PER" in out
    assert hypotheses(folder) != hypotheses(plain)


def test_a_model_keeps_the_language_model_that_its_phones_are_decoded_with(models, trained, cli, evaluate, tmp_path):
    mine, copy = tmp_path / "mine", tmp_path / "copy"
    assert cli("export", trained.run, mine)[0] == 0
    data = f"data.manifests={trained.manifests}"
    code, out, err = cli("tune", mine, f"decode.lm={models / 'trigram'}", data, "--output", tmp_path, "--store")
    assert code == 0, err
    weight, penalty = re.match(r"decode\.lm_weight=([\d.]+) decode\.insertion_penalty=(-?[\d.]+)", out).groups()
    assert cli("export", mine, copy, "--int8")[0] == 0
    for folder in (mine, copy):
        shutil.move(folder, tmp_path / "moved")  # it is named by no path
        decode = model_folder.load(tmp_path / "moved").config.decode
        assert decode.lm == str(tmp_path / "moved" / "trigram")
        assert (decode.lm_weight, decode.insertion_penalty) == (float(weight), float(penalty))
        assert "lm: trigram" in (tmp_path / "moved" / "config.yaml").read_text()
        shutil.move(tmp_path / "moved", folder)
    found = evaluate_run(str(mine), [data], None, "test", tmp_path / "scored")
    assert "beam 8 + trigram: PER" in found
    settings = f"decode.lm={models / 'trigram'}", f"decode.lm_weight={weight}", f"decode.insertion_penalty={penalty}"
    assert hypotheses(tmp_path / "scored") == hypotheses(evaluate(*settings)[0])
    with pytest.raises(ModelError, match="en-us-phones is a shipped model"):
        model_folder.store_decoding(model_folder.find("en-us-phones"), model_folder.load(mine).config.decode)


@pytest.mark.parametrize("name", ["trigram", "lstm"])
def test_with_weight_0_the_result_is_that_without(name, models, evaluate):
    plain, _ = evaluate()
    folder, _ = evaluate(f"decode.lm={models / name}", "decode.lm_weight=0")
    assert hypotheses(folder) == hypotheses(plain)


def test_a_beam_is_rescored(models, evaluate):
    plain, _ = evaluate()
    nothing, _ = evaluate(f"decode.rescore_lm={models / 'lstm'}", "decode.rescore_weight=0")
    much, out = evaluate(f"decode.rescore_lm={models / 'lstm'}", "decode.rescore_weight=2")
    assert hypotheses(nothing) == hypotheses(plain) != hypotheses(much)
    assert "beam 8 + lstm" in out


def test_the_share_of_a_model_to_rescore_with_is_tuned_last(models, trained, cli, evaluate):
    lms = f"decode.lm={models / 'trigram'}", f"decode.rescore_lm={models / 'lstm'}"
    code, out, err = cli("tune", trained.run, *lms, "--output", models / "rescored")
    assert code == 0, err
    settings = dict(re.findall(r"decode\.(\w+)=(-?[\d.]+)", out))
    kept = json.loads((models / "rescored" / "tuning-trigram.json").read_text())
    assert [row["dev_rate"] for row in kept["tried"]] == [
        row["dev_rate"] for row in json.loads((models / "tuned" / "tuning-trigram.json").read_text())["tried"]
    ]
    shares = [row["rescore_weight"] + row["rescored_lm_weight"] for row in kept["rescored"]]
    assert shares == pytest.approx([row["lm_weight"] for row in kept["rescored"]], abs=0.002)
    few = {(row["lm_weight"], row["insertion_penalty"]) for row in kept["rescored"]}
    rates = {(row["lm_weight"], row["insertion_penalty"]): row["dev_rate"] for row in kept["tried"]}
    assert len(few) == min(3, len(rates))
    others = [rate for each, rate in rates.items() if each not in few]
    assert max(rates[each] for each in few) <= min(others, default=100)
    best = min(kept["rescored"], key=lambda row: row["dev_rate"])
    assert float(settings["lm_weight"]) == best["lm_weight"]
    assert float(settings["rescore_weight"]) == pytest.approx(best["rescore_weight"])
    assert f"{best['dev_rate']:.2f} % rescored" in out
    found, _ = evaluate(*lms, *(f"decode.{name}={value}" for name, value in settings.items()))
    (row,) = [row for row in json.loads((found / "metrics.json").read_text())["results"] if "lstm" in row["decoder"]]
    assert row["decode"]["rescored_lm_weight"] == float(settings["rescored_lm_weight"])


@pytest.fixture(scope="module")
def lexicon(models):
    path = models / "lexicon.txt"
    path.write_text("the dh ax\nthe dh iy\na ax\nan ae n\nin ih n\n")
    return path


def test_words_are_found_scored_and_written(models, lexicon, evaluate, trained, cli, mini_tree):
    settings = f"decode.lm={models / 'words'}", f"decode.lexicon={lexicon}", "decode.lm_weight=0.5"
    folder, out = evaluate(*settings)
    assert re.search(r"beam 8 \+ words: PER .*; WER [\d.]+ % \[.*\]  \(\d+ sub, \d+ ins, \d+ del of \d+ words\)", out)
    (row,) = [row for row in json.loads((folder / "metrics.json").read_text())["results"] if "words" in row]
    assert row["words"]["num_words"] == sum(
        len(line.split()) - 1 for line in (folder / "words-references-timit-test.txt").read_text().splitlines()
    )
    assert "[" in (folder / "words-hypotheses-timit-test.txt").read_text()  # most words are unknown, and none is lost
    recording = next(mini_tree.glob("TEST/*/*/*.WAV"))
    common = ("transcribe", recording, "--model", trained.run, "--lexicon", lexicon, "--lm", models / "words")
    code, out, _ = cli(*common, "--words")
    assert code == 0
    code, found, _ = cli(*common, "--words", "--format", "json")
    found = json.loads(found)
    assert out.strip() == " ".join(word["label"] for word in found["words"])
    assert found["words"][0]["start"] == found["phones"][0]["start"]
    assert found["words"][-1]["end"] == found["phones"][-1]["end"]
    assert all(0 <= word["confidence"] <= 1 for word in found["words"])


def test_what_cannot_be_asked_for(models, trained, cli, mini_tree):
    recording = next(mini_tree.glob("TEST/*/*/*.WAV"))
    code, _, errors = cli("transcribe", recording, "--model", trained.run, "--words", "--lm", models / "trigram")
    assert (code, errors) == (2, f"asr: {models / 'trigram'} is over phones: words need a language model over words\n")
    code, _, errors = cli("transcribe", recording, "--model", trained.run, "--lm", models / "none")
    assert code == 2
    assert errors.startswith(f"asr: no language model at {models / 'none'}")
    code, _, errors = cli("tune", trained.run, "decode.beam_size=4")
    assert (code, errors) == (2, "asr: nothing to tune: name a language model with decode.lm=FOLDER\n")
    code, _, errors = cli("transcribe", recording, "--model", trained.run, "--lm", models / "words")
    assert code == 2
    fault = "which the acoustic model has no label for: --lexicon must name a file with words in its labels, such as aa"
    assert fault in errors  # CMUdict's phones are not TIMIT's
    code, _, errors = cli("transcribe", recording, "--model", trained.run, "--lm", models / "trigram", "--beam-size", 1)
    assert (code, errors) == (2, "asr: --beam-size must be 2 or more with a language model, but it is 1\n")


def test_an_arpa_file_over_phones_is_known_by_its_tokens(models, trained, cli, mini_tree):
    recording = next(mini_tree.glob("TEST/*/*/*.WAV"))
    assert cli("lm", "export", models / "trigram", models / "phones.arpa")[0] == 0
    said = [
        cli("transcribe", recording, "--model", trained.run, "--lm", models / name, "--lm-weight", 1.5)
        for name in ("trigram", "phones.arpa")
    ]
    assert said[0][0] == 0
    assert said[0][1] == said[1][1] != cli("transcribe", recording, "--model", trained.run)[1]


def test_graphones_are_learnt_from_a_lexicon(cli, tmp_path):
    lexicon = tmp_path / "lexicon.txt"
    words = {"ta": "T AA", "tax": "T AA K S", "ax": "AA K S", "tat": "T AA T", "xat": "K S AA T", "b": "B IY AA T"}
    lexicon.write_text("".join(f"{word} {phones}\n" for word, phones in words.items()))
    code, out, errors = cli("lm", "graphones", lexicon, tmp_path / "g", "--order", 3, "--threshold", 0, "--bits", 8)
    assert code == 0
    assert errors.endswith("1 pronunciations are left out, with more phones than 2 a letter, such as b B IY AA T\n")
    assert re.fullmatch(rf"model folder: {tmp_path / 'g'} \([\d,]+ n-grams, 0.0 MB\)\n", out)
    model = Graphones.load(tmp_path / "g")
    assert model.pronounce(["atax"])[0][0][0] == ("AA", "T", "AA", "K", "S")
    assert model.spell([["K", "S", "AA"]])[0][0][0] == "xa"
    assert "5 pronunciations of lexicon.txt" in (tmp_path / "g" / "README.md").read_text()
    assert cli("lm", "prune", tmp_path / "g", tmp_path / "p", "--threshold", 1)[0] == 0
    assert Graphones.load(tmp_path / "p").letters == model.letters
    code, _, errors = cli("lm", "score", tmp_path / "g", lexicon)
    assert (code, errors) == (2, "asr: unit must be one of phones, characters, words, but it is 'graphones'\n")
    code, _, errors = cli("lm", "graphones", tmp_path / "none.txt", tmp_path / "g")
    assert code == 2
    assert errors.startswith(f"asr: cannot read the lexicon {tmp_path / 'none.txt'}")
