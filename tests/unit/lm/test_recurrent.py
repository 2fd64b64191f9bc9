"""Recurrent language models: the lectures' examples, states side by side, sampling, training that resumes."""

import json
import math
import re
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr.core.errors import AsrError, ConfigError, ModelError
from asr.lm import config as configuration
from asr.lm.config import LmTrainConfig, RecurrentConfig
from asr.lm.folder import load, save
from asr.lm.generation import Sampling, continuation
from asr.lm.language_model import EDGE, perplexity
from asr.training.lm import train
from asr.training.recurrent_lm import CELLS, Network

# The sentences of the lectures on recurrent networks.
KOREAN = ["경마장에 있는 말이 뛰고 있다", "그의 말이 법이다", "가는 말이 고와야 오는 말이 곱다"]
SMALL = {"embedding_size": 16, "hidden_size": 32, "dropout": 0.0}


def write(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf8")
    return str(path)


def learn(tmp_path, lines, unit, run="run", **changes):
    """Train a small recurrent model on lines of text and return it."""
    values = {
        "text": {"text": write(tmp_path / "text.txt", lines), "unit": unit},
        "model": {"name": "recurrent", "cell": "lstm"} | SMALL | changes.pop("model", {}),
        "train": {"max_epochs": 60, "learning_rate": 0.02} | changes.pop("train", {}),
    }
    return load(train(configuration.from_dict(values | changes), tmp_path / run))


def greedy(lm, beginning, length=40):
    return list(islice(continuation(lm, beginning, Sampling(temperature=0)), length))


@pytest.mark.parametrize("cell", CELLS)
def test_four_letters_learn_hello(cell, tmp_path):
    lm = learn(tmp_path, ["hello"], "characters", model={"cell": cell})
    assert set(lm.tokens) == {EDGE, *"helo"}
    assert greedy(lm, "h") == list("ello")  # the two l are followed by different letters: the state tells them apart
    assert greedy(lm, "hel") == list("lo")
    assert perplexity(lm.score(["hello"])) < 1.2


@pytest.mark.parametrize("cell", CELLS)
def test_three_korean_sentences_go_on_from_their_first_word(cell, tmp_path):
    lm = learn(tmp_path, KOREAN, "words", model={"cell": cell}, train={"max_epochs": 150})
    for sentence in KOREAN:
        first, *rest = sentence.split()
        assert greedy(lm, [first]) == rest


PARAGRAPHS = [
    "A train ran along the river in the morning, and the people in it read their papers.",
    "In the evening it came back, and the people slept; the river ran on without them.",
]


def test_a_window_of_ten_characters_goes_on_with_a_paragraph(tmp_path):
    lm = learn(
        tmp_path,
        PARAGRAPHS,
        "characters",
        model={"hidden_size": 96, "embedding_size": 32},
        train={"window": 10, "max_epochs": 250, "batch_tokens": 60, "learning_rate": 0.01},
    )
    beginning = PARAGRAPHS[0][:10]
    assert "".join(greedy(lm, beginning, 12)) == PARAGRAPHS[0][10:22]


def test_without_a_beginning_a_sentence_is_made(tmp_path):
    lm = learn(tmp_path, ["ab", "ab", "ab"], "characters")
    assert greedy(lm, "") == ["a", "b"]


def network(**options):
    torch.manual_seed(1)
    tokens = (EDGE, *"abcd")
    return Network(RecurrentConfig(**(SMALL | options)), 5).lm("characters", tokens)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_step_by_step_as_all_at_once(cell, num_layers):
    lm = network(cell=cell, num_layers=num_layers, tied=num_layers == 1)
    sentences = ["abca", "d", "", "ddcb"]
    whole = lm.score(sentences)
    for sentence, expected in zip(sentences, whole, strict=True):
        states = lm.start()
        for token, log_prob in zip([*lm.indices(sentence), 0], expected, strict=True):
            assert lm.log_probs(states)[0, token] == pytest.approx(log_prob, abs=1e-5)
            states = lm.advance(states, np.array([token]))


def test_contexts_side_by_side_and_chosen():
    lm = network()
    states = lm.advance(lm.start(3), lm.indices("abc"))
    chosen = lm.select(states, np.array([2, 0, 2]))
    assert lm.log_probs(chosen).shape == (3, 5)
    np.testing.assert_array_equal(lm.log_probs(chosen), lm.log_probs(states)[[2, 0, 2]])
    after = lm.advance(chosen, lm.indices("dda"))
    alone = lm.advance(lm.advance(lm.start(), lm.indices("a")), lm.indices("d"))
    np.testing.assert_allclose(lm.log_probs(after)[1], lm.log_probs(alone)[0], atol=1e-6)


def test_probabilities_sum_to_one_and_sentences_do_not_feel_each_other():
    lm = network(cell="gru")
    np.testing.assert_allclose(np.exp(lm.log_probs(lm.start(2))).sum(axis=1), 1)
    together, alone = lm.score(["abcd", "a"]), lm.score(["a"])
    np.testing.assert_allclose(together[1], alone[0], atol=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_a_folder_read_again_says_the_same(tied, tmp_path):
    lm = network(tied=tied, cell="elman")
    save(tmp_path, lm, "card")
    again = load(tmp_path)
    assert again.num_parameters == lm.num_parameters
    np.testing.assert_array_equal(again.score(["abc"])[0], lm.score(["abc"])[0])
    about = json.loads((tmp_path / "lm.json").read_text())
    (tmp_path / "lm.json").write_text(json.dumps(about | {"tokens": about["tokens"][:-1]}))
    with pytest.raises(ModelError, match="is damaged"):
        load(tmp_path)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize(("tied", "embedding_size"), [(True, 6), (True, 8), (False, 6)])
@pytest.mark.parametrize("cell", CELLS)
def test_numpy_computes_what_torch_does(cell, tied, embedding_size, num_layers):
    torch.manual_seed(1)
    config = RecurrentConfig(cell, num_layers, embedding_size, hidden_size=8, tied=tied)
    network = Network(config, 5).eval()
    for weights in network.parameters():
        weights.data.mul_(2)  # opinions to be felt
    lm = network.lm("characters", (EDGE, *"abcd"))
    sentences = ["abc", "abd", "", "d", "abcabc"]  # which have beginnings in common
    assert lm.score([]) == []
    assert lm.log_probs(lm.start(0)).shape == (0, 5)
    for sentence, found in zip(sentences, lm.score(sentences), strict=True):
        tokens = torch.from_numpy(lm.indices(sentence))
        targets = torch.nn.functional.pad(tokens, (0, 1))
        with torch.no_grad():
            log_probs = network(torch.nn.functional.pad(tokens, (1, 0))[None])[0].log_softmax(1)
        np.testing.assert_allclose(found, log_probs[torch.arange(len(targets)), targets], atol=1e-5)


def test_weights_of_8_bits(cli, tmp_path):
    lm = network(num_layers=2, hidden_size=64, embedding_size=32)
    save(tmp_path / "lm", lm, "# card\n\n")
    code, out, _ = cli("lm", "quantise", tmp_path / "lm", tmp_path / "small")
    assert code == 0
    assert f"{lm.num_parameters:,} weights" in out
    small = load(tmp_path / "small")
    for name, weights in lm.weights.items():
        step = np.abs(weights).max(axis=-1, keepdims=True) / 127 if weights.ndim == 2 else 0
        assert (np.abs(small.weights[name] - weights) <= 0.501 * step).all()
    before, after = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("lm", "small"))
    assert after < 0.4 * before
    assert perplexity(small.score(["abcd"])) == pytest.approx(perplexity(lm.score(["abcd"])), rel=0.02)
    save(tmp_path / "again", small, "")
    assert (tmp_path / "again/model.safetensors").read_bytes() == (tmp_path / "small/model.safetensors").read_bytes()
    assert cli("lm", "quantise", tmp_path / "lm", tmp_path / "six", "--bits", 6) == (
        2, "", "asr: --bits must be 8 for a recurrent model, but it is 6\n",
    )  # fmt: skip


LOG_PROBS = np.log([0.4, 0.3, 0.2, 0.1])


@given(st.floats(0.05, 5), st.integers(0, 4), st.floats(0.01, 1))
def test_what_is_drawn_from(temperature, top_k, top_p):
    found = Sampling(temperature, top_k, top_p).probabilities(LOG_PROBS)
    assert found.sum() == pytest.approx(1)
    assert found[0] > 0
    assert (found > 0).sum() <= (top_k or 4)
    kept = found > 0
    assert kept.tolist() == sorted(kept.tolist(), reverse=True)  # the likeliest, none left out
    ratio = np.log(found[kept] / found[0]) * temperature
    np.testing.assert_allclose(ratio, LOG_PROBS[kept] - LOG_PROBS[0], atol=1e-6)


def test_the_nucleus_is_the_smallest_that_has_the_share():
    assert (Sampling(top_p=0.69).probabilities(LOG_PROBS) > 0).sum() == 2
    assert (Sampling(top_p=0.71).probabilities(LOG_PROBS) > 0).sum() == 3


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_sampling_that_makes_no_sense(wrong):
    with pytest.raises(ConfigError, match="must"):
        Sampling(**wrong)


def test_a_seed_repeats_a_sentence():
    lm = network()
    first, again, other = (list(islice(continuation(lm, "a", seed=seed), 30)) for seed in (3, 3, 4))
    assert first == again != other


def test_training_goes_on_where_it_stopped(tmp_path, monkeypatch):
    whole = learn(tmp_path, KOREAN, "words", "whole", train={"max_epochs": 6}, model={"dropout": 0.3})
    from asr.training import recurrent_lm

    class Killed(Exception):
        pass

    end_epoch = recurrent_lm._State.end_epoch

    def die(state, *arguments):
        end_epoch(state, *arguments)
        if state.epoch == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(recurrent_lm._State, "end_epoch", die)
        with pytest.raises(Killed):
            learn(tmp_path, KOREAN, "words", "parts", train={"max_epochs": 6}, model={"dropout": 0.3})
    parts = learn(tmp_path, KOREAN, "words", "parts", train={"max_epochs": 6}, model={"dropout": 0.3})
    for name, value in whole.arrays().items():
        np.testing.assert_array_equal(value, parts.arrays()[name])
    history = json.loads((tmp_path / "parts" / "history.json").read_text())["epochs"]
    assert [line["epoch"] for line in history] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ConfigError, match=r"holds a run with model\.dropout=0\.3 and not 0\.0: delete it"):
        learn(tmp_path, KOREAN, "words", "parts", train={"max_epochs": 7})
    written = (tmp_path / "parts/config.yaml").read_text()
    with pytest.raises(ConfigError, match="was trained on another text"):
        learn(tmp_path, KOREAN[:2], "words", "parts", train={"max_epochs": 8}, model={"dropout": 0.3})
    assert (tmp_path / "parts/config.yaml").read_text() == written


def test_a_sampled_softmax_over_every_token_once_is_the_whole_one(rng):
    from asr.training.recurrent_lm import sampled_loss

    output = torch.nn.Linear(6, 9)
    contexts, targets = torch.randn(20, 6), torch.from_numpy(rng.integers(9, size=20))
    whole = torch.nn.functional.cross_entropy(output(contexts), targets)
    found = sampled_loss(contexts, targets, output, torch.randperm(9), torch.zeros(9))
    torch.testing.assert_close(found, whole)


def test_the_mean_over_many_draws_has_the_gradient_of_the_whole_softmax(rng):
    from asr.training.recurrent_lm import sampled_loss

    torch.manual_seed(1)
    output, shares = torch.nn.Linear(4, 30), torch.from_numpy(rng.dirichlet(np.ones(30)))
    contexts, targets = torch.randn(50, 4), torch.multinomial(shares, 50, replacement=True)
    whole = torch.autograd.grad(torch.nn.functional.cross_entropy(output(contexts), targets), output.weight)[0]
    found, count = torch.zeros_like(whole), 400
    for _ in range(300):
        sampled = torch.multinomial(shares, count, replacement=True)
        loss = sampled_loss(contexts, targets, output, sampled, (count * shares).log().float())
        found += torch.autograd.grad(loss, output.weight)[0] / 300
    assert torch.linalg.norm(found - whole) < 0.05 * torch.linalg.norm(whole)


def test_sampled_tokens_and_epochs_of_a_part_learn_the_same(tmp_path):
    draws = np.random.default_rng(0)
    lines = [" ".join("abcdefgh"[(start + i) % 8] for i in range(6)) for start in draws.integers(8, size=400)]
    options = {"learning_rate": 0.02, "batch_tokens": 200, "max_epochs": 20, "epoch_tokens": 800}
    whole = learn(tmp_path, lines, "words", "whole", train=options)
    found = learn(tmp_path, lines, "words", "sampled", train=options | {"sampled_tokens": 100})
    expected = 8 ** (1 / 7)  # only the first of seven tokens is uncertain
    rates = [
        json.loads((tmp_path / run / "history.json").read_text())["dev_perplexity"] for run in ("whole", "sampled")
    ]
    assert rates == pytest.approx([expected] * 2, rel=0.05)
    assert perplexity(found.score([line.split() for line in lines])) == pytest.approx(
        perplexity(whole.score([line.split() for line in lines])), rel=0.05
    )


def test_the_pieces_of_an_epoch(rng):
    from asr.training.recurrent_lm import _batches, _tensors

    lengths = rng.integers(1, 12, size=200)
    stream = np.concatenate([[0], *(np.append(rng.integers(1, 9, size=n), 0) for n in lengths)]).astype(np.int32)
    whole = _batches(stream, LmTrainConfig(batch_tokens=40), seed=1)
    seen = []
    for starts, sizes in whole:
        inputs, targets = _tensors(stream, starts, sizes)
        assert inputs.numel() <= 40
        for fed, target in zip(inputs.numpy(), targets.numpy(), strict=True):
            size = int((target >= 0).sum())
            assert fed[0] == 0 == target[size - 1]
            np.testing.assert_array_equal(fed[1:size], target[: size - 1])
            seen.append(tuple(target[:size]))
    sentences = [tuple(part) for part in np.split(stream[1:], np.flatnonzero(stream[1:] == 0)[:-1] + 1)]
    assert sorted(seen) == sorted(sentences)
    for window in (0, 7):
        config = LmTrainConfig(batch_tokens=40, window=window, epoch_tokens=300)
        parts = [_batches(stream, config, seed) for seed in (1, 2)]
        for part in parts:
            assert 280 <= sum(int(sizes.sum()) for _, sizes in part) <= 300
        assert {*np.concatenate([starts for starts, _ in parts[0]])} != {*np.concatenate([s for s, _ in parts[1]])}


def test_the_best_epoch_is_kept(tmp_path):
    held_out = "말이 그의 고와야 있다"  # in an order that training never has: it surprises more and more
    values = {
        "text": {"text": write(tmp_path / "a.txt", KOREAN), "unit": "words"},
        "model": {"name": "recurrent"} | SMALL,
        "train": {"max_epochs": 12, "learning_rate": 0.05},
    }
    values["text"]["dev_text"] = write(tmp_path / "dev.txt", [held_out])
    lm = load(train(configuration.from_dict(values), tmp_path / "run"))
    rates = [line["dev_perplexity"] for line in json.loads((tmp_path / "run" / "history.json").read_text())["epochs"]]
    assert min(rates) < 0.9 * rates[-1]
    assert perplexity(lm.score([held_out.split()])) == pytest.approx(min(rates), abs=1e-3)


def test_a_loss_that_is_not_finite_is_an_error(tmp_path):
    with pytest.raises(AsrError, match=r"lower train\.learning_rate"):
        learn(tmp_path, KOREAN, "words", train={"learning_rate": 1e30, "gradient_clip": 1e30})


def test_an_ngram_of_a_file_holds_every_twentieth_line_out(tmp_path):
    lines = [f"w{i % 7} w{i % 3}" for i in range(60)]
    values = {"text": {"text": write(tmp_path / "a.txt", lines), "unit": "words"}, "model": {"name": "ngram"}}
    lm = load(train(configuration.from_dict(values), tmp_path / "run"))
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert history["num_tokens"] == 2 * 57
    held_out = [line.split() for line in lines[19::20]]
    assert history["dev_perplexity"] == pytest.approx(perplexity(lm.score(held_out)), abs=1e-3)
    assert not math.isnan(history["train_perplexity"])


@pytest.mark.parametrize("model", [{"name": "ngram"}, {"name": "recurrent"} | SMALL])
def test_a_held_out_line_of_a_closed_vocabulary_may_have_what_training_has_not(model, tmp_path, caplog):
    lines = ["a b"] * 19 + ["a c"] + ["b a"] * 19 + ["b b"]
    values = {"text": {"text": write(tmp_path / "a.txt", lines), "unit": "words"}, "model": model}
    lm = load(train(configuration.from_dict(values), tmp_path / "run"))
    assert set(lm.tokens) == {EDGE, "a", "b"}
    assert "left out 1 of 2 sentences held out" in caplog.text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"text": {}}, "name corpora or a text file"),
        ({"text": {"text": "none.txt", "unit": "tones"}}, "unit must be one of"),
        ({"model": {"name": "other"}}, "model.name must be one of ngram, recurrent"),
        ({"model": {"name": "ngram", "order": 0}}, "order must be 1 or more"),
        ({"model": {"name": "recurrent", "cell": "tdnn"}}, "cell must be one of elman, gru, lstm"),
        ({"train": {"max_epochs": 3}}, "train belongs to recurrent"),
        ({"text": {"text": "none.txt", "min_count": 2}}, "text.min_count must be 1 without"),
        (
            {"text": {"text": "none.txt", "open_vocabulary": True}, "model": {"name": "recurrent"}},
            "text.min_count must be 2 or more",
        ),
        ({"model": "ngram"}, "model must hold a name"),
        ({"lm": {}}, "unknown key 'lm'; the sections are text, model, train, seed"),
        ({"model": {"name": "ngram", "ordr": 2}}, "unknown key 'model.ordr': did you mean model.order?"),
        ({"txt": {"unit": "words"}}, "unknown key 'txt.unit': did you mean text.unit?"),
        ({"seed": -1}, "seed must"),
    ],
)
def test_configurations_that_are_none(values, message):
    given = {"text": {"text": "none.txt"}, "model": {"name": "ngram"}} | values
    with pytest.raises(ConfigError, match=re.escape(message)):
        configuration.from_dict(given)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n\n", "holds no text"),
        (b"\xff\xfe", "is not UTF-8"),
        (None, "cannot read"),
        (b"a b\n\n<s> a </s>\n", "sentence 2: <s> and </s> are a model's own"),
    ],
)
def test_text_that_is_none(content, message, tmp_path):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    values = {"text": {"text": str(path), "unit": "words"}, "model": {"name": "ngram"}}
    with pytest.raises(ConfigError, match=message):
        train(configuration.from_dict(values), tmp_path / "run")


def test_the_commands(tmp_path, cli):
    recipe = tmp_path / "lm.yaml"
    text = write(tmp_path / "text.txt", KOREAN * 3)
    recipe.write_text(
        f"text: {{text: {text}, unit: words}}\nmodel: {{name: ngram, order: 2, smoothing: witten_bell}}\n"
    )
    code, out, errors = cli("lm", "train", recipe, "model.order=3", "--run", tmp_path / "run")
    assert (code, out) == (0, f"model folder: {tmp_path / 'run' / 'model'}\n"), errors
    code, out, _ = cli("lm", "score", tmp_path / "run", text, "--each")
    assert code == 0
    assert len(out.splitlines()) == 10
    assert re.search(r"9 sentences, 51 words and ends, log10 -\d+\.\d\d, perplexity \d\.\d{3}$", out.strip())
    code, out, _ = cli("lm", "generate", tmp_path / "run", "그의", "--greedy")
    assert (code, out) == (0, "그의 말이 법이다\n")
    code, out, _ = cli("lm", "generate", tmp_path / "run", "--count", 3, "--length", 2, "--temperature", 0.7)
    assert code == 0
    assert len(out.splitlines()) == 3
    code, _, errors = cli("lm", "export", tmp_path / "run", tmp_path / "lm.arpa")
    assert code == 0
    assert "of 3-grams" in errors
    assert (
        cli("lm", "score", tmp_path / "lm.arpa", text)[1].split("log10")[1]
        == (cli("lm", "score", tmp_path / "run", text)[1].split("log10")[1])
    )
