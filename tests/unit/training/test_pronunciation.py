"""The scorer's training: our trees say what scikit-learn's do, and what can be learnt is learnt."""

import numpy as np

from asr.evaluation.pronunciation import Experts, Judged, compare
from asr.models.pronunciation import Scores
from asr.models.pronunciation_features import Evidence
from asr.training.pronunciation import _boost, _regress, _trees, fit

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


def utterance(rng, speaker, shift):
    """Phones whose score is 2 less a half for each nat by which another is likelier; other speakers are heard worse."""
    lengths = rng.integers(1, 4, 4)
    count = lengths.sum()
    tokens, faults = rng.integers(1, len(TOKENS), count), 4 * (rng.random(count) < 0.2)
    substitutions = np.full((count, len(TOKENS)), -6.0)
    substitutions[np.arange(count), tokens] = 0.0
    substitutions[np.arange(count), tokens % 4 + 1] = faults - 4 + shift + 0.2 * rng.normal(size=count)
    insertions = np.full((count + 1, len(TOKENS)), -7.0)
    insertions[:, 0] = 0.0
    starts = np.cumsum(rng.uniform(0.08, 0.2, count))
    times = np.column_stack([starts, starts + 0.08])
    phones = 2 - faults / 2
    words = np.array([phones[end - n : end].mean() for n, end in zip(lengths, lengths.cumsum(), strict=True)])[:, None]
    scores = Scores(phones, np.repeat(5 * words, 3, axis=1), np.full(5, 5 * phones.mean()))
    evidence = Evidence(tokens, lengths, substitutions, insertions, times, np.full(count, 0.9), 0.0)
    said = {int(i): TOKENS[tokens[i] % 4 + 1] for i in np.flatnonzero(faults)}
    return Judged(speaker, evidence, Experts([], scores, said))


def test_what_experts_do_is_learnt_and_put_in_its_place_by_speakers_who_were_not_heard(rng):
    train = [utterance(rng, f"s{i % 10}", 0.0) for i in range(150)]
    dev, test = ([utterance(rng, name, 1.0) for _ in range(60)] for name in ("dev", "test"))
    figures = compare(fit(TOKENS, train, dev), test)
    assert figures["phone"]["pcc"] > 0.9
    assert figures["phone"]["mse"] < 0.1
    assert figures["word accuracy"]["pcc"] > 0.8
    assert figures["sentence total"]["pcc"] > 0.8
    assert figures["detection"]["f1"] > 0.9
    assert figures["diagnosis"]["right"] > 0.9
