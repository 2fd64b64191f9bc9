"""The packed trie against dictionaries of n-grams, and what becomes of damaged ones."""

import contextlib
import itertools
import json
from mmap import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.core.errors import ModelError
from asr.lm.estimation import estimate
from asr.lm.folder import load, save
from asr.lm.language_model import EDGE
from asr.lm.ngram import NGram
from asr.lm.packing import Order, Packing

pytestmark = pytest.mark.kernels

NAMES = (EDGE, "a", "b", "c")


def model(grams, names=NAMES, books=None):
    """Pack n-grams given as a dictionary from tokens to log probability and backoff weight."""
    orders, states = [], {(): 0}
    for n in range(1, 1 + max(map(len, grams))):
        rows = sorted((states[gram[:-1]], gram[-1], *grams[gram], gram) for gram in grams if len(gram) == n)
        states |= {row[-1]: len(states) + i for i, row in enumerate(rows)}
        parents, tokens, log_probs, backoffs = (np.array([row[i] for row in rows]) for i in range(4))
        orders.append(Order(parents.astype(int), tokens.astype(int), log_probs.astype(float), backoffs.astype(float)))
    return NGram.build("words", names, orders, books)


def naive(grams, context, token):
    """Return the log probability of a token after a context of any length."""
    context = context[max(0, len(context) - max(map(len, grams)) + 1) :]
    spared = 0.0
    while (*context, token) not in grams:
        spared += grams.get(context, (0, 0))[1]
        context = context[1:]
    return spared + grams[*context, token][0]


def closed(grams):
    """Add the endings of n-grams, with the log probabilities that they have already."""
    endings = {gram[i:] for gram in grams for i in range(len(gram))}
    return grams | {gram: (naive(grams, gram[:-1], gram[-1]), 0.0) for gram in endings - grams.keys()}


def longest_context(grams, history):
    """Return the longest ending of a history that is a context: it has a backoff weight or something follows it."""
    highest = max(map(len, grams))
    for length in range(min(highest - 1, len(history)), 0, -1):
        context = history[len(history) - length :]
        if context in grams and (grams[context][1] != 0 or any(gram[:-1] == context for gram in grams)):
            return context
    return ()


@st.composite
def some_grams(draw):
    """Draw n-grams with the beginnings, but not with all the endings, of each; values are exact in float32."""
    values = st.integers(-640, 0).map(lambda number: number / 64)
    tokens = st.integers(0, len(NAMES) - 1)
    wanted = {(token,) for token in range(len(NAMES))}
    for gram in draw(st.sets(st.lists(tokens, min_size=2, max_size=5).map(tuple), max_size=25)):
        gram = (gram[0], *(token or 1 for token in gram[1:-1]), gram[-1])  # the edge is first or last
        wanted |= {gram[:n] for n in range(1, len(gram) + 1)}
    highest, grams = max(map(len, wanted)), {}
    for gram in sorted(wanted):
        is_context = len(gram) < highest and (gram == (0,) or gram[-1] != 0)
        grams[gram] = (draw(values), draw(values) if is_context and draw(st.booleans()) else 0.0)
    return grams


@settings(max_examples=150)
@given(some_grams())
def test_look_ups_are_those_of_a_dictionary(grams):
    lm, whole, states = model(grams), closed(grams), {}
    for history in itertools.chain(*(itertools.product(range(1, 4), repeat=n) for n in range(4))):
        state = lm.start()
        for i, token in enumerate((*history, 0)):
            context = (0, *history[:i])
            states.setdefault(longest_context(whole, context), set()).add(int(state[0]))
            log_probs, state = lm.query(state, np.array([token]))
            assert log_probs[0] == naive(grams, context, token), (context, token)
    assert all(len(each) == 1 for each in states.values())  # a state is the longest context, and nothing else
    assert len(set.union(*states.values())) == len(states)


@settings(max_examples=50)
@given(some_grams())
def test_orders_give_back_what_was_packed(grams):
    lm, found, before = model(grams), {}, {0: ()}
    for order in lm.orders():
        first = max(before) + 1
        columns = (each.tolist() for each in (order.parents, order.tokens, order.log_probs, order.backoffs))
        rows = [((*before[parent], token), values) for parent, token, *values in zip(*columns, strict=True)]
        found |= dict(rows)
        before |= {first + i: gram for i, (gram, _) in enumerate(rows)}
    assert {gram: tuple(values) for gram, values in found.items()} == closed(grams)
    again = NGram.build("words", NAMES, list(lm.orders()))
    np.testing.assert_array_equal(again.trie.words, lm.trie.words)


@settings(max_examples=50, deadline=None)
@given(some_grams())
def test_contexts_back_off_to_their_endings(grams):
    lm, whole, names = model(grams), closed(grams), [()]
    for order in list(lm.orders())[:-1]:
        names += [(*names[parent], token) for parent, token in zip(order.parents, order.tokens.tolist(), strict=True)]
    shorter, weights = lm.back_off(np.arange(lm.num_states))
    assert lm.num_states == len(names)
    assert [names[state] for state in shorter] == [name[1:] for name in names]
    assert weights.tolist() == [whole[name][1] if name else 0.0 for name in names]
    with pytest.raises(ValueError, match="do not fit"):
        lm.back_off(np.array([lm.num_states]))


def test_contexts_with_very_many_and_with_no_n_grams_after_them():
    # The string of bits has long runs of zeros after some contexts, and of ones where nothing follows.
    names = (EDGE, *map(str, range(1, 1200)))
    grams = {(token,): (-1.0, -0.5) for token in range(len(names))}
    grams |= {(first, token): (-2.0, -0.25) for first in (1, 7) for token in range(1, len(names))}
    grams |= {(7, 1, token): (-token / 64, 0.0) for token in range(1, len(names))}
    grams |= {(1, 7, token): (-token / 128, 0.0) for token in range(1, len(names), 5)}
    lm = model(grams, names)
    for first, second in ((7, 1), (1, 7), (1, 8), (7, 1199), (7, 2)):
        state = lm.advance(lm.advance(np.zeros(1, int), np.array([first])), np.array([second]))
        expected = [naive(grams, (first, second), token) for token in range(len(names))]
        np.testing.assert_array_equal(lm.log_probs(state)[0], expected)


def test_five_bytes_hold_an_n_gram():
    for counts in (
        (60_000, 1_200_000, 1_000_000),
        (60_000, 800_000, 800_000, 600_000),
        (200_000, 9_000_000, 30_000_000),
    ):
        _, size = Packing(counts, 8, 17).layout()
        assert 4 * size < 5 * sum(counts)


def test_a_folder_is_mapped_into_memory_and_not_read(tmp_path):
    lm = estimate([list("abab"), list("ba")], "words", 3)
    save(tmp_path, lm, "card")
    base = words = load(tmp_path).trie.words
    np.testing.assert_array_equal(words, lm.trie.words)
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, mmap)
    words[:] = 7  # of this process alone
    np.testing.assert_array_equal(load(tmp_path).trie.words, lm.trie.words)


def test_a_model_of_another_version_is_named(tmp_path):
    save(tmp_path, estimate([["a"]], "words", 2), "card")
    about = json.loads((tmp_path / "lm.json").read_text())
    for written, message in ((99, "newer version of asr: update asr"), (None, "older version of asr: train it again")):
        about["format"] = written
        if written is None:
            del about["format"]
        (tmp_path / "lm.json").write_text(json.dumps(about))
        with pytest.raises(ModelError, match=message):
            load(tmp_path)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_tables_have_what_is_looked_up_one_by_one(order, rng):
    sentences = [[NAMES[1 + i] for i in rng.integers(0, 3, 7)] for _ in range(30)]
    lm = estimate(sentences, "words", order)
    states = rng.permutation(lm.num_states)
    log_probs, after = lm.tables(states)
    whole, onward = lm.all_tables()
    np.testing.assert_allclose(whole[states], log_probs, rtol=1e-14)
    np.testing.assert_array_equal(onward[states], after)
    for token in range(len(lm.tokens)):
        expected, reached = lm.query(states, np.full(len(states), token))
        np.testing.assert_array_equal(log_probs[:, token], expected)
        np.testing.assert_array_equal(after[:, token], reached)


@pytest.mark.parametrize("name", ["lm.json", "model.safetensors"])
@pytest.mark.parametrize("length", [0, 30])
def test_a_file_cut_short_is_named(name, length, tmp_path):
    save(tmp_path, estimate([["a"]], "words", 2), "card")
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:length])
    with pytest.raises(ModelError, match=r"^.*is damaged.*$"):
        load(tmp_path)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_a_damaged_trie_gives_other_numbers_or_an_error_and_no_crash(order, rng, tmp_path):
    sentences = [[NAMES[1 + i] for i in rng.integers(0, 3, 6)] for _ in range(20)]
    whole = estimate(sentences, "words", order)
    for _ in range(100):
        words = whole.trie.words.copy()
        places = rng.integers(0, len(words), 5)
        words[places] = rng.integers(0, 2**32, 5)
        lm = NGram.restore("words", whole.tokens, whole.options(), {"words": words})
        for found in lm.score(sentences):
            assert len(found) == 7
        lm.tables(np.arange(lm.num_states))
        lm.all_tables()
        with contextlib.suppress(ModelError):
            NGram.build("words", whole.tokens, list(lm.orders()))


@pytest.mark.parametrize(
    "change",
    [{"counts": [3]}, {"counts": []}, {"counts": [4, -1]}, {"bits": 33}, {"bits": "8"}, {"rank_bits": 40}, {"more": 1}],
)
def test_options_that_do_not_fit_the_words_are_refused(change):
    lm = estimate([["a", "b", "c"]], "words", 3)
    with pytest.raises((ValueError, TypeError)):
        NGram.restore("words", lm.tokens, lm.options() | change, lm.arrays())
