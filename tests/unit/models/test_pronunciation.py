"""Trees, features and scores of pronunciation: hand-made evidence, whose result is known, and what must not matter."""

from dataclasses import replace

import numpy as np
import pytest

from asr.core.errors import ModelError
from asr.models.boosted_trees import BoostedTrees
from asr.models.pronunciation import FIGURES, FILE, SENTENCE_SCALES, WORD_SCALES, Limits, Linear, PronunciationScorer
from asr.models.pronunciation_features import (
    NOBODY,
    OWN,
    SHARED,
    Evidence,
    phone_features,
    sentence_features,
    vowels,
    word_features,
)

TOKENS = ("<blank>", "AH", "S", "TH", "T")


def evidence_of(rng, lengths=(2, 3), wrong=None):
    """Evidence in which all phones are right by 5 nats, but for one whose first rival is 3 nats likelier."""
    count = sum(lengths)
    tokens = rng.integers(1, len(TOKENS), count)
    substitutions = np.full((count, len(TOKENS)), -5.0)
    substitutions[np.arange(count), tokens] = 0.0
    if wrong is not None:
        substitutions[wrong, 1 if tokens[wrong] != 1 else 2] = 3.0
    insertions = np.full((count + 1, len(TOKENS)), -7.0)
    insertions[:, 0] = 0.0
    starts = 0.3 + 0.1 * np.arange(count)
    times = np.column_stack([starts, starts + 0.1])
    return Evidence(tokens, np.array(lengths), substitutions, insertions, times, np.full(count, 0.9), 0.0)


def features_of(evidence):
    return phone_features(evidence, vowels(TOKENS), np.full(len(TOKENS), -2.3), np.full(len(TOKENS), 1.9))


def linear(size, width):
    return Linear(np.full(size, -1e3), np.full(size, 1e3), np.zeros((size + 1, width)))


def scorer_of(evidence, root_feature=0):
    """A scorer in which a phone of goodness above −1 scores 2, and another 0.5."""
    trees = BoostedTrees(
        0.5, np.array([0]), np.array([root_feature, 0, 0]), np.array([1, 0, 0]), np.array([-1, 0, 1.5])
    )
    is_vowel, usual = vowels(TOKENS), np.full(len(TOKENS), 1.9)
    phones = np.ones(len(evidence.tokens))
    width = word_features(evidence, is_vowel, usual, phones).shape[1]
    whole = len(sentence_features(evidence, is_vowel, phones, np.ones(len(evidence.word_lengths))))
    words, sentence = linear(width, len(WORD_SCALES)), linear(whole, len(SENTENCE_SCALES))
    words.weights[0] = 5.0  # of the mean of the phones
    sentence.weights[0] = 5.0
    return PronunciationScorer(TOKENS, trees, np.array([1.0, 1.0]), usual - 4, usual, words, sentence, 1.0)


def test_scores_follow_the_phones(rng):
    evidence = evidence_of(rng, wrong=3)
    scores = scorer_of(evidence).score(evidence)
    assert scores.phones.tolist() == [2, 2, 2, 0.5, 2]
    np.testing.assert_allclose(scores.words[:, 0], [10, 7.5])
    np.testing.assert_allclose(scores.words[:, 1], [10, 7.5])
    np.testing.assert_allclose(scores.sentence, [8.5] * 5)


def test_goodness_is_the_share_of_the_phone_itself(rng):
    evidence = evidence_of(rng)
    own = features_of(evidence)[:, OWN.index("goodness")]
    np.testing.assert_allclose(own, -np.log(1 + 4 * np.exp(-5)))
    evidence.substitutions[0, 0] = 2.0
    np.testing.assert_allclose(features_of(evidence)[0, OWN.index("deletion")], 2.0)


def test_neighbours_and_their_absence(rng):
    """Of four phones the second is wrong: its neighbours see that, and those at the edge have none on one side."""
    rows, column = features_of(evidence_of(rng, lengths=(4,), wrong=1)), OWN.index("goodness")
    assert [(row == rows[1, column]).any() for row in rows] == [True] * 4  # two places on either side, or themselves
    beside_words = 2
    absent = (rows == NOBODY).sum(axis=1) - beside_words
    assert (absent // len(SHARED)).tolist() == [2, 1, 1, 2]


def test_when_the_recording_starts_does_not_matter(rng):
    evidence = evidence_of(rng, wrong=2)
    later = replace(evidence, times=evidence.times + 10)
    np.testing.assert_allclose(features_of(later), features_of(evidence), atol=1e-9)


def test_a_saved_scorer_is_the_same(rng, tmp_path):
    evidence = evidence_of(rng, wrong=3)
    scorer = replace(scorer_of(evidence), limits=Limits(-2.5, 8.0))
    scorer.save(tmp_path, {"trained on": "nothing"}, {"dev": {"phone": {"pcc": 0.5}}})
    loaded = PronunciationScorer.load(tmp_path, TOKENS)
    assert loaded.limits == scorer.limits
    for ours, theirs in zip(scorer.score(evidence), loaded.score(evidence), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    for text in (
        None,
        "{}",
        '{"limits": {"goodness": -2.5}}',
        '{"limits": {"goodness": NaN, "accuracy": 9}}',
        "[]",
        f'{{"limits": {{"goodness": 1{"0" * 400}, "accuracy": 9}}}}',
    ):  # as of a scorer that was trained before
        (tmp_path / FIGURES).unlink() if text is None else (tmp_path / FIGURES).write_text(text)
        with pytest.raises(ModelError, match=r"lacks the limits .*: train it again with asr train-scorer"):
            PronunciationScorer.load(tmp_path, TOKENS)
    with pytest.raises(ModelError, match="other labels"):
        PronunciationScorer.load(tmp_path, TOKENS[:-1])
    (tmp_path / FILE).write_bytes(b"nothing")
    with pytest.raises(ModelError, match="damaged"):
        PronunciationScorer.load(tmp_path, TOKENS)
    (tmp_path / FILE).unlink()
    with pytest.raises(ModelError, match="no scorer of pronunciation: train one"):
        PronunciationScorer.load(tmp_path, TOKENS)


def test_another_word_lies_below_both_limits(rng):
    """Of words of 1, 2 and 2 phones the first and the second are far from what is heard."""
    evidence = evidence_of(rng, lengths=(1, 2, 2))
    evidence.substitutions[:3, 0] = 6.0  # so much likelier are they left out
    np.testing.assert_allclose(evidence.word_goodness, [-6.0, -6.0, 0.0], atol=0.1)
    scorer = replace(scorer_of(evidence), limits=Limits(-5.0, 9.0))
    assert scorer.other_words(evidence, np.array([5.0, 5.0, 5.0])) == [1]  # one phone is too little to tell
    assert scorer.other_words(evidence, np.array([5.0, 9.0, 5.0])) == []  # the scorer finds it said well
    assert replace(scorer, limits=Limits(-7.0, 9.0)).other_words(evidence, np.array([5.0, 5.0, 5.0])) == []
    assert scorer_of(evidence).other_words(evidence, np.array([0.0, 0.0, 0.0])) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"trees.left": np.array([0, 0, 1], np.int32)},  # back to a node before
        {"trees.left": np.array([2, 0, 0], np.int32)},  # beyond the last node
        {"trees.roots": np.array([3], np.int32)},
        {"trees.features": np.zeros(2, np.uint8)},
    ],
)
def test_nodes_that_are_no_trees_are_refused(rng, changes):
    tensors = scorer_of(evidence_of(rng)).trees.tensors()
    assert BoostedTrees.of(tensors).roots.tolist() == [0]
    with pytest.raises(ValueError, match="not those of trees"):
        BoostedTrees.of(tensors | changes)
