"""The scorer's training: our trees say what scikit-learn's do, and what can be learnt is learnt."""

import numpy as np

from asr.evaluation.pronunciation import Experts, Judged, compare
from asr.models.pronunciation import Limits, Scores
from asr.models.pronunciation_features import Evidence
from asr.training.pronunciation import _boost, _curve, _regress, _trees, choose_limits, fit

TOKENS = ("<blank>", "AH", "S", "TH", "T")


def test_trees_are_scikit_learns(rng):
    rows = rng.normal(size=(1500, 6))
    model = _boost(rows, rows[:, 0] * (rows[:, 1] > 0) + 0.1 * rng.normal(size=1500))
    others = rng.normal(size=(1100, 6))  # more than a block
    np.testing.assert_allclose(_trees(model).predict(others), model.predict(others), atol=1e-9)


def test_a_linear_regression_is_found(rng):
    rows = rng.normal(size=(4000, 3))
    linear = _regress([rows], [rows @ np.array([[1.0, 0], [0, 2], [0, 0]]) + [5, 6]])
    inside = rng.uniform(-1, 1, size=(20, 3))
    found = linear.predict(inside, {"one": (0, 10), "two": (0, 10)})
    np.testing.assert_allclose(found, np.column_stack([inside[:, 0] + 5, 2 * inside[:, 1] + 6]), atol=0.05)
    np.testing.assert_allclose(
        linear.predict(inside + 1e6, {"one": (0, 9e9), "two": (0, 9e9)}).max(axis=0), [8, 11], atol=2
    )


def utterance(rng, speaker, doubt):
    """Phones of score 2, or 0 where another is 4 nats likelier; strangers' right phones are heard worse."""
    lengths = rng.integers(1, 4, 4)
    count = lengths.sum()
    tokens, is_wrong = rng.integers(1, len(TOKENS), count), rng.random(count) < 0.2
    substitutions = np.full((count, len(TOKENS)), -6.0)
    substitutions[np.arange(count), tokens] = 0.0
    rivals = np.where(is_wrong, 4.0, -4.0 + doubt) + rng.normal(size=count)
    substitutions[np.arange(count), tokens % 4 + 1] = rivals
    insertions = np.full((count + 1, len(TOKENS)), -7.0)
    insertions[:, 0] = 0.0
    starts = np.cumsum(rng.uniform(0.08, 0.2, count))
    times = np.column_stack([starts, starts + 0.08])
    phones = np.where(is_wrong, 0.0, 2.0)
    words = np.array([phones[end - n : end].mean() for n, end in zip(lengths, lengths.cumsum(), strict=True)])[:, None]
    scores = Scores(phones, np.repeat(5 * words, 3, axis=1), np.full(5, 5 * phones.mean()))
    evidence = Evidence(tokens, lengths, substitutions, insertions, times, np.full(count, 0.9), 0.0)
    said = {int(i): TOKENS[tokens[i] % 4 + 1] for i in np.flatnonzero(is_wrong)}
    return Judged(speaker, evidence, Experts([], scores, said))


def test_what_experts_do_is_learnt(rng):
    train = [utterance(rng, f"s{i % 10}", 0.0) for i in range(150)]
    dev, test = ([utterance(rng, name, 2.0) for _ in range(60)] for name in ("dev", "test"))
    figures = compare(fit(TOKENS, train, dev), test)
    assert figures["phone"]["pcc"] > 0.9
    assert figures["phone"]["mse"] < 0.1
    assert figures["word accuracy"]["pcc"] > 0.9
    assert figures["sentence total"]["pcc"] > 0.9
    assert figures["detection"]["f1"] > 0.9
    assert figures["diagnosis"]["right"] > 0.9


def test_the_curve_that_was_drawn_is_found(rng):
    sums = rng.uniform(0, 2, 400)
    np.testing.assert_allclose(_curve(sums, 2 - 0.5 * (2 - sums) ** 1.75), [0.5, 1.75], atol=1e-9)


def test_limits_lie_between_right_words_and_others():
    """Right words reach down to a goodness of −4.008 where their accuracy is below 9.5, and to −9 at 9.5."""
    right = np.array([[-1.0, 10.0], [-4.008, 9.0], [-9.0, 9.5], [-2.0, 8.0]])
    others = np.array([[-5.0, 8.8], [-6.0, 9.2], [-4.1, 3.0], [-4.0, 9.1], [-8.0, 9.9]])
    assert choose_limits(right, others) == Limits(-4.01, 9.3)  # the last two cannot be told from right words
    assert choose_limits(right, others[:0]).accuracy == 0  # nothing to find: no word is named


def test_few_right_words_may_lie_below_the_limits(rng):
    """One of 500 may; two of 999 may not."""
    right = np.column_stack([rng.uniform(-3, 0, 999), np.full(999, 7.0)])
    right[0, 0], others = -12.0, np.array([[-20.0, 8.0]])
    assert choose_limits(right, others).goodness > -3.01
    assert choose_limits(right[:499], others).goodness == -12
    right[1, 0] = -11.0
    assert choose_limits(right, others).goodness == -11
