import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import AsrError
from asr.metrics import ErrorCounts, align, bootstrap_interval, corpus_errors, count_errors, score

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
