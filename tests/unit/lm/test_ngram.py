"""N-grams: estimates by their definitions, probabilities that sum to one, ARPA files as KenLM reads them."""

import gzip
import itertools
import math
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.core.errors import ConfigError, ModelError
from asr.lm import arpa
from asr.lm import arpa_kernels as kernels
from asr.lm.estimation import DISCOUNTS, SMOOTHINGS, estimate
from asr.lm.folder import load, save
from asr.lm.language_model import EDGE, UNKNOWN, perplexity
from asr.lm.ngram import NGram

pytestmark = pytest.mark.kernels

GOLDEN = Path(__file__).parents[2] / "golden"
FLOAT32 = 2e-7  # relative error of two values that are kept as float32
SENTENCES = [list(line) for line in ("abab", "abc", "cab", "aab", "b", "", "acba", "abcab")]


def naive(sentences, vocabulary, order, smoothing):
    """Return p(token, context) by the recursions of the papers, with tuples and dictionaries."""
    edged = [(EDGE, *sentence, EDGE) for sentence in sentences]
    raw = [Counter() for _ in range(order + 1)]
    for sentence in edged:
        for end in range(1, len(sentence)):
            for n in range(1, min(order, end + 1) + 1):
                raw[n][sentence[end - n + 1 : end + 1]] += 1
    counts = list(raw)
    if smoothing == "kneser_ney":
        for n in range(1, order):
            left = defaultdict(set)
            for gram in raw[n + 1]:
                left[gram[1:]].add(gram[0])
            starts = n > 1
            counts[n] = Counter(
                {gram: raw[n][gram] if starts and gram[0] == EDGE else len(left[gram]) for gram in raw[n]}
            )

    def discount(n, count):
        seen = Counter(counts[n].values())
        if count == 0 or smoothing == "witten_bell":
            return 0.0
        if not all(seen[k] for k in (1, 2, 3)):
            return DISCOUNTS[min(count, 3) - 1]
        share = seen[1] / (seen[1] + 2 * seen[2])
        found = [k - (k + 1) * share * seen[k + 1] / seen[k] for k in (1, 2, 3)]
        return (found if all(0 < d < k for k, d in enumerate(found, 1)) else DISCOUNTS)[min(count, 3) - 1]

    lacking = [token for token in vocabulary if (token,) not in raw[1]]
    uniform = lacking if UNKNOWN in vocabulary and lacking else vocabulary
    base = {token: (token in uniform) / len(uniform) for token in vocabulary}

    def p(token, context):
        n = len(context) + 1
        shorter = p(token, context[1:]) if context else base[token]
        after = {gram[-1]: count for gram, count in counts[n].items() if gram[:-1] == context}
        total = sum(after.values())
        if total == 0:
            return shorter
        freed = len(after) if smoothing == "witten_bell" else sum(discount(n, count) for count in after.values())
        total += freed if smoothing == "witten_bell" else 0
        count = after.get(token, 0)
        return (count - discount(n, count)) / total + freed / total * shorter

    return p


def states(lm):
    """Return every context of a model as tokens and node."""
    found = {(EDGE,): int(lm.start()[0]), (): 0}
    edges = [((EDGE,), int(lm.start()[0])), ((), 0)]
    while edges:
        context, node = edges.pop()
        for token in range(1, len(lm.tokens)):
            after = int(lm.advance(np.array([node]), np.array([token]))[0])
            if after not in found.values():
                longer = (*context, lm.tokens[token])
                found[longer] = after
                edges.append((longer, after))
    return found


@pytest.mark.parametrize("vocabulary", ["abc", [UNKNOWN, *"abc"], [UNKNOWN, *"abd"]])
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_as_by_the_definition(order, smoothing, vocabulary):
    lm = estimate(SENTENCES, "words", order, smoothing, vocabulary)
    known = [[token if token in vocabulary else UNKNOWN for token in sentence] for sentence in SENTENCES]
    p = naive(known, lm.tokens, order, smoothing)
    for sentence in itertools.product(vocabulary, repeat=4):
        edged = (EDGE, *sentence, EDGE)
        contexts = [edged[max(0, end - order + 1) : end] if order > 1 else () for end in range(1, len(edged))]
        expected = [math.log(p(token, context)) for token, context in zip(edged[1:], contexts, strict=True)]
        np.testing.assert_allclose(lm.score([sentence])[0], expected, rtol=FLOAT32)


@pytest.mark.parametrize("more", [[], [UNKNOWN]])
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_probabilities_after_each_context_sum_to_one(order, smoothing, more):
    lm = estimate(SENTENCES, "words", order, smoothing, [*more, "a", "b", "c", "d"])
    contexts = states(lm)
    assert len(set(contexts.values())) >= (1 if order == 1 else 5)
    for node in contexts.values():
        probabilities = np.exp(lm.log_probs(np.array([node], np.int32))[0])
        assert probabilities.min() > 0
        assert probabilities.sum() == pytest.approx(1, abs=1e-6)


@settings(max_examples=30)
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=8), min_size=1, max_size=12), st.integers(1, 4))
def test_any_text_gives_probabilities(sentences, order):
    lm = estimate(sentences, "words", order, tokens=list("abcd"))
    rows = lm.log_probs(np.concatenate([lm.start(), np.zeros(1, np.int32)]))
    np.testing.assert_allclose(np.exp(rows).sum(axis=1), 1, atol=1e-6)


def test_discounts_by_counts_of_counts():
    # 4, 3, 2 and 1 tokens occur once, twice, three and four times, and the end once: Y = 5 / (5 + 2 · 3)
    tokens = [f"{count}{i}" for count, number in ((1, 4), (2, 3), (3, 2), (4, 1)) for i in range(number)]
    text = [[token] * int(token[0]) for token in tokens]
    lm = estimate([list(itertools.chain(*text))], "words", order=1)
    total = 4 * 1 + 3 * 2 + 2 * 3 + 4 + 1  # and the end, which occurs once
    share = 5 / (5 + 6)
    losses = {1: 1 - 2 * share * 3 / 5, 2: 2 - 3 * share * 2 / 3, 3: 3 - 4 * share * 1 / 2}
    freed = 5 * losses[1] + 3 * losses[2] + 3 * losses[3]
    expected = (4 - losses[3]) / total + freed / total / len(lm.tokens)
    assert math.exp(lm.score([["40"]])[0][0]) == pytest.approx(expected)


def test_an_unknown_word_is_scored_and_a_closed_vocabulary_refuses_it():
    lm = estimate([["a", "b"], ["a", "rare"]], "words", 2, tokens=[UNKNOWN, "a"])
    assert lm.score([["never"]])[0][0] == lm.score([["rare"]])[0][0] > -math.inf
    closed = estimate([["a"]], "words", 2)
    with pytest.raises(ConfigError, match="'never' is not one of the 1 words"):
        closed.score([["a", "never"]])
    with pytest.raises(ConfigError, match=r"'b' is not one of the 1 words given.*open_vocabulary"):
        estimate([["a", "b"]], "words", 2, tokens=["a"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sentences": []}, "no sentences"),
        ({"order": 0}, "order must be 1 or more"),
        ({"smoothing": "none"}, "smoothing must be one of"),
    ],
)
def test_what_cannot_be_estimated(options, message):
    with pytest.raises(ConfigError, match=message):
        estimate(**({"sentences": [["a"]], "unit": "words"} | options))


def test_perplexity_of_a_model_that_knows_nothing():
    lm = estimate([[]], "words", 1, tokens=["a", "b", "c"])  # one end, seen once: D = 0.5 of 1 is shared by four
    found = lm.score([["a"], []])
    assert np.exp(found[0][0]) == pytest.approx(0.5 / 4)
    assert perplexity(found) == pytest.approx((8 * (8 / 5) ** 2) ** (1 / 3))


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("suffix", [".arpa", ".arpa.gz"])
def test_an_arpa_file_read_again_scores_alike(order, suffix, tmp_path):
    lm = estimate(SENTENCES, "words", order, tokens=[UNKNOWN, "a", "b", "c"])
    path = tmp_path / "lm.arpa"
    arpa.write(lm, path)
    if suffix.endswith(".gz"):
        path = tmp_path / f"lm{suffix}"
        path.write_bytes(gzip.compress((tmp_path / "lm.arpa").read_bytes()))
    again = load(path)
    assert isinstance(again, NGram)
    assert (again.order, set(again.tokens)) == (order, set(lm.tokens))
    sentences = [list(each) for each in itertools.product("abcx", repeat=3)] + [[]]
    for ours, theirs in zip(lm.score(sentences), again.score(sentences), strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-6)


def test_white_space_is_a_character_and_survives_arpa(tmp_path):
    lm = estimate([list("a b"), list("b\ta")], "characters", 2)
    arpa.write(lm, tmp_path / "lm.arpa")
    assert "<0x20>" in (tmp_path / "lm.arpa").read_text()
    again = load(tmp_path / "lm.arpa", "characters")
    assert set(again.tokens) == {EDGE, " ", "\t", "a", "b"}


PRUNED = r"""\data\
ngram 1=4
ngram 2=2
ngram 3=1

\1-grams:
-1.0	<unk>
-99	<s>	-0.1
-0.5	</s>
-0.4	a	-0.2

\2-grams:
-0.3	<s> a	-0.6
-0.7	a a	-0.05

\3-grams:
-0.2	<s> a a

\end\
"""


def test_a_file_of_others_by_hand(tmp_path):
    path = tmp_path / "pruned.arpa"
    path.write_text(PRUNED)
    lm = load(path)
    log10 = np.array([row / math.log(10) for row in lm.score([["a", "a", "a"], ["x"]])[0]])
    # <s> a; <s> a a; a a a backs off from "a a" to "a a"; </s> from "a a" and "a" to nothing
    np.testing.assert_allclose(log10, [-0.3, -0.2, -0.05 - 0.7, -0.05 - 0.2 - 0.5], rtol=FLOAT32)
    np.testing.assert_allclose(lm.score([["x"]])[0] / math.log(10), [-0.1 - 1.0, -0.5], rtol=FLOAT32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("ngram 2=2", "ngram 2=3"), "line 16: not a probability, 2 tokens"),
        (("-0.7\ta a\t-0.05", "-0.7\ta b\t-0.05"), "line 14: b is not among the unigrams"),
        (("-0.3\t<s>", "x\t<s>"), "line 13: not a probability"),
        (("-0.7\ta a", "-0.7\t<s> a"), "line 14: an n-gram that was there before"),
        (("-0.2\t<s> a a", "-0.2\ta <unk> a"), "line 17: an n-gram whose beginning"),
        (("-0.4\ta\t-0.2", "-0.4\t<unk>\t-0.2"), "line 10: an n-gram that was there before"),
        (("\\3-grams:", "\\4-grams:"), "line 16: expected"),
        (("\\end\\\n", ""), "ends too early"),
        ((PRUNED, "nothing\n"), "ends too early"),
        (("ngram 1=4\nngram 2=2\nngram 3=1\n", ""), "no counts"),
        (("ngram 2=2", "ngram 2=99999999999999"), "line 16: not a probability, 2 tokens"),
        (("-0.2\t<s> a a", "nan\t<s> a a"), "line 17: not a probability, 3 tokens"),
        (("-0.1\n-0.5", "inf\n-0.5"), "line 8: not a probability, 1 tokens"),
        (("a a\t-0.05", "a a\t1e99"), "line 14: not a probability, 2 tokens"),
        (("a a\t-0.05", "a a\t-0.05\tb"), "line 14: not a probability, 2 tokens"),
        (("a a\t-0.05", "a a\t-"), "line 14: not a probability, 2 tokens"),
    ],
)
def test_a_damaged_file_is_named_by_its_line(change, message, tmp_path):
    path = tmp_path / "bad.arpa"
    path.write_text(PRUNED.replace(*change))
    with pytest.raises(ModelError, match=message):
        load(path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_file_cut_short_is_named_in_one_line(share, suffix, tmp_path):
    path = tmp_path / f"lm.arpa{suffix}"
    whole = (GOLDEN / "kenlm.arpa").read_bytes()
    whole = gzip.compress(whole) if suffix else whole
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelError, match=r"\A.*lm.arpa.*\Z"):
        load(path)


@given(st.decimals(-99, 3, allow_nan=False, places=12), st.sampled_from(["", "e0", "E-2", "e+1"]))
def test_numbers_are_those_of_python(number, exponent):
    text = f"{number:+f}{exponent}".encode()
    found = kernels._number(np.frombuffer(text, np.uint8), 0, len(text))
    assert found == pytest.approx(float(text), rel=1e-15)
    for wrong in (b"", b"-", b".", b"e5", b"1e", b"1e+", b"1_0", b"1.2.3", b"0x1", b"nan", b"inf", b"1,5"):
        assert math.isnan(kernels._number(np.frombuffer(wrong or b" ", np.uint8), 0, len(wrong)))


def test_lines_in_any_order_with_other_ends_and_blanks(rng, tmp_path):
    lines = (GOLDEN / "kenlm.arpa").read_text().splitlines()
    shuffled, section = [], []
    for line in [*lines, ""]:
        if line and not line.startswith(("\\", "ngram")):
            section.append(line.replace("\t", " \t "))
        else:
            shuffled += [section[i] for i in rng.permutation(len(section))] + [line, ""]
            section = []
    (tmp_path / "lm.arpa").write_bytes("\r\n".join(shuffled).encode())
    ours, theirs = load(tmp_path / "lm.arpa"), load(GOLDEN / "kenlm.arpa")
    sentences = [list(each) for each in itertools.product("abcx", repeat=3)]
    np.testing.assert_array_equal(ours.totals(sentences), theirs.totals(sentences))


def test_letters_with_accents_are_one_token_in_either_normal_form(tmp_path):
    forms = itertools.cycle(("e\u0301", "\u00e9"))
    text = re.sub(r"(?<=[\t ])a(?=\s)", lambda _: next(forms), PRUNED)
    (tmp_path / "lm.arpa").write_text(text, "utf8")
    (tmp_path / "plain.arpa").write_text(PRUNED)
    lm = load(tmp_path / "lm.arpa")
    assert "\u00e9" in lm.tokens
    assert lm.totals([["\u00e9", "\u00e9"]]) == load(tmp_path / "plain.arpa").totals([["a", "a"]])


def test_what_others_write_and_nobody_asks_for_is_left_out(tmp_path):
    more = "-9\t</s> <s>\n-9\t<s> <s>\n-9\ta <s>\n-0.7\ta a"
    (tmp_path / "srilm.arpa").write_text(PRUNED.replace("ngram 2=2", "ngram  2 = 5").replace("-0.7\ta a", more))
    (tmp_path / "plain.arpa").write_text(PRUNED)
    ours, theirs = (load(tmp_path / name).score([["a", "a", "a"], ["x"], []]) for name in ("plain.arpa", "srilm.arpa"))
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_as_kenlm_scores_the_same_file():
    lm = load(GOLDEN / "kenlm.arpa")
    for line in (GOLDEN / "kenlm.tsv").read_text().splitlines():
        sentence, score = line.split("\t")
        assert lm.score([sentence.split()])[0].sum() / math.log(10) == pytest.approx(float(score), abs=1e-4)


def test_a_folder_read_again(tmp_path):
    lm = estimate(SENTENCES, "characters", 3)
    save(tmp_path / "lm", lm, "card")
    again = load(tmp_path / "lm")
    assert again.unit == "characters"
    for ours, theirs in zip(lm.score(SENTENCES), again.score(SENTENCES), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_damaged_folders_are_named(tmp_path):
    with pytest.raises(ModelError, match="no language model at"):
        load(tmp_path)
    lm = estimate(SENTENCES, "words", 3)
    save(tmp_path, lm, "card")
    about = (tmp_path / "lm.json").read_text()
    for change in (('"ngram"', '"other"'), ('"words"', '"tones"'), ('"</s>"', '"x"'), ('"counts"', '"sizes"')):
        (tmp_path / "lm.json").write_text(about.replace(*change))
        with pytest.raises(ModelError, match="is damaged"):
            load(tmp_path)
    (tmp_path / "lm.json").write_text(about)
    other = estimate(SENTENCES[:3], "words", 2)
    save(tmp_path / "other", other, "card")
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="no trie of these n-grams"):
        load(tmp_path)


def test_what_comes_next_is_looked_up_for_many_contexts_at_once():
    lm = estimate(SENTENCES, "words", 3)
    nodes = lm.advance(lm.start(3), lm.indices("abc"))
    rows = lm.log_probs(nodes)
    for row, sentence in zip(rows, "abc", strict=True):
        for token in "abc":
            assert row[lm.index[token]] == lm.score([[sentence, token]])[0][1]
    assert lm.select(nodes, np.array([2, 0])).tolist() == [nodes[2], nodes[0]]


@pytest.mark.parametrize(("states", "tokens"), [([0, 0], [1]), ([0], [3]), ([0], [-1]), ([99], [1]), ([-1], [1])])
def test_states_and_tokens_that_there_are_not_are_refused(states, tokens):
    """The kernel would read past the end of the tree."""
    lm = estimate([["a", "b"]], "words", order=2, smoothing="witten_bell")
    with pytest.raises(ValueError, match="do not fit"):
        lm.query(np.array(states), np.array(tokens))
