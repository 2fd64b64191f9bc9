import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.core.errors import AsrError
from asr.evaluation.metrics import (
    ErrorCounts,
    align,
    aligned_errors,
    bootstrap_interval,
    corpus_errors,
    count_errors,
    matched_pairs,
    score,
    seed_spread,
)

labels = st.lists(st.sampled_from(["aa", "b", "sil", "", "-1", "<eps>"]), max_size=9)


def naive_distance(reference, hypothesis):
    """Edit distance straight from its definition, in exponential time but for the equal ends."""
    if not reference or not hypothesis:
        return len(reference) + len(hypothesis)
    if reference[0] == hypothesis[0]:
        return naive_distance(reference[1:], hypothesis[1:])
    return 1 + min(
        naive_distance(reference[1:], hypothesis[1:]),
        naive_distance(reference[1:], hypothesis),
        naive_distance(reference, hypothesis[1:]),
    )


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("", "", (0, 0, 0, 0)),
        ("a b c", "", (0, 0, 3, 3)),
        ("", "a b", (0, 2, 0, 0)),
        ("a b c", "a x c", (1, 0, 0, 3)),
        ("a b c", "a b b c", (0, 1, 0, 3)),
        ("a b c d", "a c d", (0, 0, 1, 4)),
        ("hh ax l ow", "ax l ow s", (0, 1, 1, 4)),
        ("a b c d", "a x c d e", (1, 1, 0, 4)),
    ],
)
def test_counts_by_hand(reference, hypothesis, expected):
    assert count_errors(reference.split(), hypothesis.split()) == ErrorCounts(*expected)


def test_labels_are_compared_whole():
    assert count_errors(["ab", "c"], ["a", "bc"]) == ErrorCounts(2, 0, 0, 2)


def test_corpus_rate_weighs_by_length_rather_than_by_utterance():
    counts = corpus_errors([["a"], ["b"] * 9], [["x"], ["b"] * 9])
    assert counts == ErrorCounts(1, 0, 0, 10)
    assert counts.rate == 0.1


def test_corpus_of_unequal_lengths_is_refused():
    with pytest.raises(ValueError, match="shorter"):
        corpus_errors([["a"], ["b"]], [["a"]])


def test_alignment_by_hand():
    assert align(["a", "b", "c", "d"], ["x", "b", "d", "e"]) == [
        ("a", "x"),
        ("b", "b"),
        ("c", None),
        ("d", "d"),
        (None, "e"),
    ]


def test_counts_of_aligned_labels_are_those_of_the_metric(rng):
    for _ in range(200):
        one, other = (rng.choice(list("abc"), rng.integers(0, 8)).tolist() for _ in range(2))
        assert aligned_errors(align(one, other)) == count_errors(one, other)


@given(labels, labels)
def test_distance_equals_the_definition(reference, hypothesis):
    counts = count_errors(reference, hypothesis)
    assert counts.errors == naive_distance(tuple(reference), tuple(hypothesis))
    assert counts.reference_length == len(reference)
    assert counts.insertions - counts.deletions == len(hypothesis) - len(reference)
    assert counts.substitutions + counts.deletions <= len(reference)
    assert counts.substitutions + counts.insertions <= len(hypothesis)


@given(labels, labels)
def test_distance_is_symmetric(one, other):
    assert count_errors(one, other).errors == count_errors(other, one).errors


@given(labels, labels, labels)
def test_distance_keeps_the_triangle_inequality(one, two, three):
    direct = count_errors(one, three).errors
    assert direct <= count_errors(one, two).errors + count_errors(two, three).errors


@given(labels)
def test_identical_sequences_have_no_errors(sequence):
    assert count_errors(sequence, list(sequence)) == ErrorCounts(0, 0, 0, len(sequence))


@given(labels, st.integers(0, 9), st.sampled_from(["aa", "new"]))
def test_one_label_more_is_one_insertion(sequence, place, label):
    longer = [*sequence[:place], label, *sequence[place:]]
    assert count_errors(sequence, longer) == ErrorCounts(0, 1, 0, len(sequence))
    assert count_errors(longer, sequence) == ErrorCounts(0, 0, 1, len(longer))


@given(labels, labels)
def test_alignment_spells_both_sequences_and_its_edits_are_the_least(reference, hypothesis):
    pairs = align(reference, hypothesis)
    assert [r for r, _ in pairs if r is not None] == reference
    assert [h for _, h in pairs if h is not None] == hypothesis
    assert sum(r != h for r, h in pairs) == naive_distance(tuple(reference), tuple(hypothesis))


@given(st.lists(st.tuples(labels, labels), max_size=5))
def test_counts_add_up(pairs):
    total = corpus_errors([r for r, _ in pairs], [h for _, h in pairs])
    assert total.errors == sum(count_errors(r, h).errors for r, h in pairs)
    assert total.reference_length == sum(len(r) for r, _ in pairs)


def test_rate_of_an_empty_reference_is_refused():
    with pytest.raises(AsrError, match="without reference labels"):
        _ = ErrorCounts(insertions=3).rate


def utterances(rng, number):
    lengths = rng.integers(5, 60, size=number)
    return [ErrorCounts(int(rng.binomial(n, 0.2)), 0, 0, int(n)) for n in lengths]


def test_interval_is_deterministic_and_holds_the_rate(rng):
    counts = utterances(rng, 400)
    low, high = bootstrap_interval(counts)
    assert (low, high) == bootstrap_interval(counts)
    assert (low, high) != bootstrap_interval(counts, seed=1)
    assert low < sum(counts, ErrorCounts()).rate < high


def test_interval_narrows_as_the_root_of_the_number_of_utterances(rng):
    widths = [high - low for low, high in (bootstrap_interval(utterances(rng, n)) for n in (200, 800, 3200))]
    for wide, narrow in itertools.pairwise(widths):
        assert wide / narrow == pytest.approx(2, rel=0.25)


def test_interval_is_wider_at_a_higher_level(rng):
    counts = utterances(rng, 200)
    (low_90, high_90), (low_99, high_99) = (bootstrap_interval(counts, level) for level in (0.90, 0.99))
    assert low_99 < low_90 < high_90 < high_99


def test_interval_equals_the_binomial_one_for_utterances_of_one_label():
    """Of n utterances of one label each, resampled rates are binomial: 1.96 standard deviations to each side."""
    counts = [ErrorCounts(substitutions=int(i < 300), reference_length=1) for i in range(1000)]
    low, high = bootstrap_interval(counts, num_resamples=4000)
    half = 1.96 * (0.3 * 0.7 / 1000) ** 0.5
    assert low == pytest.approx(0.3 - half, abs=0.002)
    assert high == pytest.approx(0.3 + half, abs=0.002)


def test_interval_covers_the_truth_as_often_as_it_says(rng):
    intervals = [bootstrap_interval(utterances(rng, 150), num_resamples=200, seed=i) for i in range(200)]
    covered = sum(low <= 0.2 <= high for low, high in intervals)
    assert 178 <= covered <= 199  # 190 of 200, give or take four standard deviations of 3


def test_interval_of_equal_utterances_has_no_width():
    assert bootstrap_interval([ErrorCounts(1, 0, 0, 4)] * 20) == (0.25, 0.25)


def test_interval_leaves_out_draws_without_a_label():
    low, high = bootstrap_interval([ErrorCounts(1, 0, 0, 4), ErrorCounts()])
    assert (low, high) == (0.25, 0.25)


@pytest.mark.parametrize("counts", [[], [ErrorCounts(insertions=2)]])
def test_interval_without_references_is_refused(counts):
    with pytest.raises(AsrError, match="without reference labels"):
        bootstrap_interval(counts)


def test_interval_is_that_of_the_test_sets_drawn(rng):
    """By the definition: whole test sets, utterance by utterance, with the same random numbers."""
    counts = [*utterances(rng, 50), ErrorCounts(insertions=3)]
    draws, drawn = np.random.default_rng(5), []
    for _ in range(200):
        chosen = sum((counts[i] for i in draws.integers(51, size=51)), ErrorCounts())
        drawn.append(chosen.rate)
    expected = np.percentile(drawn, [5, 95])
    assert bootstrap_interval(counts, 0.9, 200, seed=5) == pytest.approx(expected, rel=1e-12)


def test_interval_by_speaker_is_that_of_the_speakers_sums(rng):
    """Drawing speakers is drawing from as many long utterances, one a speaker."""
    counts = utterances(rng, 200)
    groups = [f"s{i % 20}" for i in range(200)]
    sums = [sum(counts[i::20], ErrorCounts()) for i in sorted(range(20), key=lambda i: f"s{i}")]
    assert bootstrap_interval(counts, groups=groups) == bootstrap_interval(sums)


def test_interval_by_speaker_is_wider_where_speakers_differ(rng):
    rates = rng.uniform(0.05, 0.4, 20)
    counts = [ErrorCounts(int(rng.binomial(40, rates[i % 20])), 0, 0, 40) for i in range(800)]
    (low, high), (low_speakers, high_speakers) = (
        bootstrap_interval(counts, groups=groups) for groups in (None, [str(i % 20) for i in range(800)])
    )
    assert high_speakers - low_speakers > 2 * (high - low)


def test_interval_by_speaker_covers_the_truth_of_new_speakers(rng):
    """Of 150 test sets of 30 speakers each, drawn from people whose rates are 0.2 on average."""
    covered = plain = 0
    for seed in range(150):
        rates = rng.beta(4, 16, 30)
        counts = [ErrorCounts(int(rng.binomial(30, rates[i % 30])), 0, 0, 30) for i in range(300)]
        low, high = bootstrap_interval(counts, num_resamples=200, seed=seed, groups=[str(i % 30) for i in range(300)])
        covered += low <= 0.2 <= high
        low, high = bootstrap_interval(counts, num_resamples=200, seed=seed)
        plain += low <= 0.2 <= high
    assert covered >= 129  # 142 expected, less five standard deviations of 2.7
    assert plain < covered


def test_matched_pairs_by_hand():
    """Differences 1, 0, 2, 1 of 40 labels: mean 1, variance 2/3; t = 4 / sqrt(4 · 2/3) = 2.449 with 3 degrees."""
    first = [ErrorCounts(substitutions=n, reference_length=10) for n in (3, 2, 4, 1)]
    second = [ErrorCounts(deletions=n, reference_length=10) for n in (2, 2, 2, 0)]
    found = matched_pairs(first, second)
    assert found.difference == pytest.approx(0.1)
    half = 3.1824 * (4 * 2 / 3) ** 0.5 / 40  # 97.5 % quantile of Student's t with 3 degrees of freedom, from tables
    assert found.interval == pytest.approx((0.1 - half, 0.1 + half), abs=1e-5)
    assert found.p_value == pytest.approx(0.0917, abs=1e-3)
    back = matched_pairs(second, first)
    assert (back.difference, back.p_value) == (-found.difference, found.p_value)


def test_matched_pairs_by_speaker_sum_the_speakers():
    first = [ErrorCounts(substitutions=n, reference_length=5) for n in (2, 1, 1, 1, 3, 1, 1, 0)]
    second = [ErrorCounts(substitutions=n, reference_length=5) for n in (1, 1, 1, 1, 1, 1, 0, 0)]
    sums = [sum(each[i : i + 2], ErrorCounts()) for each in (first, second) for i in range(0, 8, 2)]
    assert matched_pairs(first, second, list("aabbccdd")) == matched_pairs(sums[:4], sums[4:])


def test_matched_pairs_find_what_intervals_hide(rng):
    """Hard and easy utterances: both systems' intervals overlap, and yet one errs once less in two of three."""
    hard = rng.integers(0, 20, 300)
    first = [ErrorCounts(int(n) + i % 3 // 2 + 1, 0, 0, 40) for i, n in enumerate(hard)]
    second = [ErrorCounts(int(n) + i % 3 // 2, 0, 0, 40) for i, n in enumerate(hard)]
    assert bootstrap_interval(first)[0] < bootstrap_interval(second)[1]
    second[0] = first[0]
    assert matched_pairs(first, second).p_value < 1e-6


def test_matched_pairs_of_equal_systems_find_a_difference_as_often_as_they_say(rng):
    found = 0
    for _ in range(400):
        first, second = ([ErrorCounts(int(n), 0, 0, 30) for n in rng.binomial(30, 0.2, 60)] for _ in range(2))
        found += matched_pairs(first, second).p_value < 0.05
    assert 4 <= found <= 38  # 20 expected, give or take four standard deviations of 4.4


def test_matched_pairs_that_are_all_alike():
    same = [ErrorCounts(1, 0, 0, 10)] * 5
    assert matched_pairs(same, same).p_value == 1
    more = matched_pairs([ErrorCounts(2, 0, 0, 10)] * 5, same)
    assert (more.p_value, more.interval) == (2 / 2**5, (0.1, 0.1))  # as when five coins fall alike


def test_matched_pairs_refuse_what_they_cannot_compare():
    one = [ErrorCounts(1, 0, 0, 10), ErrorCounts(1, 0, 0, 5)]
    with pytest.raises(ValueError, match="the same references"):
        matched_pairs(one, one[::-1])
    with pytest.raises(AsrError, match="two utterances or speakers"):
        matched_pairs(one, one, ["a", "a"])


def test_spread_over_seeds_by_hand():
    assert seed_spread([1.0, 2.0, 6.0]) == pytest.approx((3.0, 7**0.5))


def test_score_by_speaker():
    texts = {f"u{i}": ["a", "b"] for i in range(10)}
    wrong = {name: ["a", "b"] if i < 5 else ["a", "x"] for i, name in enumerate(texts)}
    speakers = {name: "ann" if i < 5 else "bob" for i, name in enumerate(texts)}
    assert score(texts, wrong).interval_speakers is None
    assert score(texts, wrong, speakers).interval_speakers == (0.0, 0.5)
    assert score(texts, wrong, dict.fromkeys(texts, "ann")).interval_speakers is None


def test_score_does_not_depend_on_the_order_of_utterances():
    references = {f"u{i}": ["a", "b", "c"] for i in range(30)}
    hypotheses = {f"u{i}": ["a", "b", "c"][: i % 4] for i in range(30)}
    result = score(references, hypotheses)
    assert result == score(dict(reversed(references.items())), dict(reversed(hypotheses.items())))
    assert result.counts == ErrorCounts(0, 0, sum(3 - i % 4 for i in range(30)), 90)
    assert result.num_utterances == 30
    assert result.interval[0] < result.rate < result.interval[1]


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [
        ({"u1": ["a"], "u2": ["a"]}, {"u1": ["a"]}, "'u2' has no hypothesis"),
        ({"u1": ["a"]}, {"u1": ["a"], "u3": []}, "'u3' has no reference"),
        ({}, {}, "without reference labels"),
        ({"u1": []}, {"u1": ["a"]}, "without reference labels"),
    ],
)
def test_score_names_what_is_missing(references, hypotheses, message):
    with pytest.raises(AsrError, match=message):
        score(references, hypotheses)
