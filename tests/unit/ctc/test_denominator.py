import itertools

import naive
import numpy as np
import pytest

from asr.ctc import Denominator, TokenModel
from asr.lm import fusion
from asr.lm.estimation import estimate
from asr.lm.pruning import prune

pytestmark = pytest.mark.kernels

LABELS = ["<blank>", *"ABCDEFGHIJK"]
MODEL = TokenModel(np.zeros((2, 3)), np.array([[0, 0, 1], [0, 1, 0]]), np.zeros(2))


def ngram(rng, order, smoothing="witten_bell", min_counts=(1,)):
    likes = rng.dirichlet(np.full(11, 0.3), 12)
    text = []
    for _ in range(300):
        sentence, last = [], 0
        for _ in range(rng.integers(1, 9)):
            last = rng.choice(11, p=likes[last]) + 1
            sentence.append(LABELS[last])
        text.append(sentence)
    return estimate(text, "phones", order, smoothing, LABELS[1:], min_counts)


def expanded(denominator):
    """{state: {label: (state, weight)}} with all weights of links multiplied out, the states as label sequences."""
    automaton, num_states = denominator.automaton, denominator.num_states
    labels = np.repeat(np.arange(denominator.num_classes), np.diff(automaton.offsets).astype(int))
    arcs = [[] for _ in automaton.leaving.offsets[1:]]
    for node, (first, stop) in enumerate(itertools.pairwise(automaton.leaving.offsets.tolist())):
        for a in range(first, stop):
            arcs[node].append((int(automaton.leaving.others[a]), automaton.leaving.weights[a]))
    links, found = automaton.links, [{} for _ in arcs]
    backoffs = {}
    for i, (first, stop) in enumerate(itertools.pairwise(links.offsets.tolist())):
        for k in range(first, stop):
            assert int(links.sources[k]) not in backoffs
            backoffs[int(links.sources[k])] = int(links.targets[i]), links.weights[k]
    for node in range(len(arcs)):
        factor, here = 1.0, node
        while True:
            for target, weight in arcs[here]:
                assert weight > 0
                state = found[node].setdefault(labels[target], [target, 0.0])
                assert state[0] == target, "a label leads to two states"
                state[1] += factor * weight
            if here not in backoffs:
                break
            here, factor = backoffs[here][0], factor * backoffs[here][1]
    for s in range(num_states):
        assert labels[s] not in found[s]
        assert set(found[num_states + s]) <= {labels[s]}
    return labels, [found[s] | found[num_states + s] for s in range(num_states)]


def assert_same_weights(denominator, model, blank=0):
    """From the start on, step by step, each label leads on with the token model's weight."""
    labels, steps = expanded(denominator)
    start = int(denominator.automaton.offsets[blank])
    assert (labels == blank).sum() == 1
    states, queue = {start: 0}, [start]
    for state in queue:
        model_state = states[state]
        np.testing.assert_allclose(denominator.automaton.finals[state], np.exp(model.finals[model_state]), rtol=1e-12)
        possible = [c for c, score in enumerate(model.scores[model_state]) if c != blank and score > -230]
        assert sorted(steps[state]) == possible
        for c, (target, weight) in steps[state].items():
            np.testing.assert_allclose(weight, np.exp(model.scores[model_state, c]), rtol=1e-12)
            after = int(model.next_states[model_state, c])
            assert states.setdefault(target, after) == after
            if target not in queue:
                queue.append(target)
    assert len(queue) == denominator.num_states


@pytest.mark.parametrize("smoothing", ["witten_bell", "kneser_ney"])
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_an_n_gram_keeps_its_weights_with_fewer_arcs(rng, order, smoothing):
    lm = ngram(rng, order, smoothing)
    denominator = fusion.denominator(lm, LABELS)
    assert_same_weights(denominator, fusion.automaton(lm, LABELS, 1.0))
    dense = denominator.num_states * (len(LABELS) - 1)
    assert denominator.num_arcs < (0.7 if order > 2 else 1.01) * dense


@pytest.mark.parametrize("smoothing", ["witten_bell", "kneser_ney"])
def test_an_n_gram_without_rare_n_grams_keeps_its_weights(rng, smoothing):
    lm = ngram(rng, 4, smoothing, [1, 1, 2, 3])
    denominator = fusion.denominator(lm, LABELS)
    assert_same_weights(denominator, fusion.automaton(lm, LABELS, 1.0))
    assert denominator.num_arcs < fusion.denominator(ngram(rng, 4, smoothing), LABELS).num_arcs / 2


@pytest.mark.parametrize("threshold", [1e-4, 1e-3, 1e-2])
def test_a_pruned_n_gram_keeps_its_weights(rng, threshold):
    """Its backoff weights can give a label more than the longer context does, and contexts are missing."""
    lm = ngram(rng, 4)
    pruned = prune(lm, threshold)
    denominator = fusion.denominator(pruned, LABELS)
    assert_same_weights(denominator, fusion.automaton(pruned, LABELS, 1.0))
    assert denominator.num_arcs < fusion.denominator(lm, LABELS).num_arcs


@pytest.mark.parametrize("blank", [0, 3])
def test_wrong_backoffs_change_no_weight(rng, blank):
    """They are but hints: of what does not resemble its backoff, the arcs are written out."""
    scores, finals = rng.standard_normal((9, 5)), rng.standard_normal(9)
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    scores[5:] = scores[4] + np.where(rng.random((4, 5)) < 0.3, 1.0, 0.5)
    next_states = rng.integers(0, 9, scores.shape)
    next_states[5:] = next_states[4]
    model = TokenModel(scores, next_states, finals)
    assert_same_weights(Denominator.of(model, blank=blank), model, blank)
    backoffs, weights = np.array([0, 0, 1, 1, 2, 4, 4, 4, 4]), np.full(9, 0.5)
    assert_same_weights(Denominator.of(model, backoffs, weights, blank), model, blank)


def test_scores_beyond_the_range_of_doubles():
    model = MODEL._replace(scores=np.array([[0.0, -230.5, 0.0], [0.0, 14.0, -229.5]]))
    denominator = Denominator.of(model)
    assert_same_weights(denominator, model)
    assert denominator.log_probs(np.array([[0, 1], [0, 2]], np.uintp), np.array([1, 1])).tolist() == [-np.inf, 0.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": MODEL._replace(scores=np.zeros(3))}, "scores and next_states"),
        ({"model": MODEL._replace(finals=np.zeros(3))}, r"scores and next_states \(Q, 3\) and finals"),
        ({"model": MODEL._replace(next_states=np.full((2, 3), 2))}, r"next_states .* must lie in 0\.\.1"),
        ({"model": MODEL._replace(scores=np.full((2, 3), np.nan))}, "must not be NaN"),
        ({"model": MODEL._replace(scores=np.full((2, 3), 14.5))}, "must not exceed 14"),
        ({"blank": 3}, "blank 3 is not one of the 3 classes"),
        ({"backoffs": [0]}, "must be 2 states"),
        ({"backoffs": [0, 2]}, r"must lie in 0\.\.1"),
        ({"backoffs": [0, 0], "weights": [0.0, np.nan]}, "numbers up to 14"),
    ],
)
def test_what_does_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        Denominator.of(**{"model": MODEL} | change)


def test_backoffs_in_a_circle():
    model = TokenModel(np.zeros((3, 3)), np.array([[1, 1, 1], [2, 2, 2], [1, 1, 1]]), np.zeros(3))
    with pytest.raises(ValueError, match="backoff of its own backoff"):
        Denominator.of(model, [0, 2, 1])


@pytest.fixture(params=[(1, 0), (2, 0), (3, 2)])
def case(request, rng):
    """A denominator of random weights and this many states, with its blank, and log probabilities of two utterances."""
    num_states, blank = request.param
    scores = np.log(rng.dirichlet(np.ones(4), num_states))
    model = TokenModel(scores, rng.integers(num_states, size=(num_states, 4)), np.log(rng.uniform(size=num_states)))
    log_probs = np.log(rng.dirichlet(np.full(4, 0.3), (7, 2)))
    return Denominator.of(model, blank=blank), model, blank, log_probs


def test_posteriors_are_those_of_all_paths(case):
    denominator, model, blank, log_probs = case
    found = denominator.log_posteriors(log_probs, [7, 4])
    assert found.dtype == np.float32
    for b, length in enumerate((7, 4)):
        _, expected = naive.log_partition(log_probs[:length, b], model, blank)
        np.testing.assert_allclose(np.exp(found[:length, b], dtype=float), expected, rtol=1e-5, atol=1e-15)
    assert (found[4:, 1] == 0).all()


def test_posteriors_of_long_and_sure_outputs_are_numbers(rng):
    denominator = fusion.denominator(ngram(rng, 3), LABELS)
    logits = 60 * rng.standard_normal((2000, 1, len(LABELS)))
    log_probs = logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)
    found = denominator.log_posteriors(log_probs.astype(np.float32))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.exp(found).sum(axis=2), 1, rtol=1e-5)
    assert denominator.log_posteriors(log_probs[:0]).shape == (0, 1, len(LABELS))


def test_a_stream_has_the_posteriors_of_what_it_has_heard(case):
    denominator, model, blank, log_probs = case
    open_end, place = model._replace(finals=np.zeros(len(model.finals))), denominator.begin()
    found = np.concatenate([denominator.follow(log_probs[first:stop, 0], place) for first, stop in ((0, 3), (3, 7))])
    for t in range(7):
        _, expected = naive.log_partition(log_probs[: t + 1, 0], open_end, blank)
        np.testing.assert_allclose(found[t], expected[t], rtol=1e-10)


@pytest.mark.parametrize("length", [0, 1, 2, 6])
def test_substitutions_change_the_weight_by_as_much_as_they_say(case, length, rng):
    denominator, model, blank, _ = case
    labels = rng.choice([c for c in range(4) if c != blank], size=length)
    found = denominator.substitutions(labels)
    assert found.shape == (length, 4)
    for s, c in np.ndindex(found.shape):
        others = np.delete(labels, s) if c == blank else np.where(np.arange(length) == s, c, labels)
        assert found[s, c] == pytest.approx(naive.weight(model, others) - naive.weight(model, labels), abs=1e-10)


def test_substitutions_in_an_n_gram(rng):
    lm = ngram(rng, 4)
    denominator, labels = fusion.denominator(lm, LABELS), rng.integers(1, len(LABELS), size=12)
    found = denominator.substitutions(labels)

    def total(tokens):
        return lm.totals([[LABELS[token] for token in tokens]])[0]

    for s, c in ((0, 3), (5, 0), (10, 2), (11, 7)):
        others = np.delete(labels, s) if c == 0 else np.where(np.arange(12) == s, c, labels)
        assert found[s, c] == pytest.approx(total(others) - total(labels), abs=1e-9)


def test_wrong_arguments_of_posteriors_and_substitutions(rng):
    denominator = Denominator.of(MODEL)
    with pytest.raises(ValueError, match="3 classes, the log_probs have 4"):
        denominator.log_posteriors(np.log(np.full((2, 1, 4), 0.25)))
    with pytest.raises(ValueError, match="NaN"):
        denominator.log_posteriors(np.full((2, 1, 3), np.nan))
    with pytest.raises(ValueError, match="target 0 has a label outside"):
        denominator.substitutions([3])
    impossible = MODEL._replace(scores=np.array([[0, -np.inf, 0], [0, 0, 0]]))
    with pytest.raises(ValueError, match="no weight"):
        Denominator.of(impossible).substitutions([1])
