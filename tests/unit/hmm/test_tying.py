import itertools

import numpy as np
import pytest
from scipy.stats import norm

from asr.core.errors import ConfigError
from asr.hmm.trees import grow, log_likelihood, phone_classes
from asr.hmm.tying import NUM_STATES, ContextStatistics, Tying

FLOOR = np.full(2, 1e-3)


def fitted(frames, floor=FLOOR):
    """Log likelihood of frames (T, D) under their own mean and variance, by scipy."""
    if len(frames) == 0:
        return 0.0
    deviation = np.sqrt(np.maximum(frames.var(axis=0), floor))
    return norm.logpdf(frames, frames.mean(axis=0), deviation).sum()


def counted(features, alignment):
    statistics = ContextStatistics(features.shape[1])
    statistics.add(features, *alignment)
    return statistics


def random_alignment(rng, num_frames, num_labels):
    """Phone, state, left and right neighbour (4, T) of frames that have nothing to do with each other."""
    phones = rng.integers(num_labels, size=num_frames)
    states = rng.integers(NUM_STATES, size=num_frames)
    return np.array([phones, states, *rng.integers(num_labels + 1, size=(2, num_frames))])


def singletons(num_labels):
    return [{phone} for phone in range(num_labels + 1)]


def leaf_frames(tying, alignment):
    return np.bincount(tying.pdfs[tuple(alignment)], minlength=tying.num_pdfs)


def likelihood_of_tying(tying, features, alignment, floor=FLOOR):
    pdfs = tying.pdfs[tuple(alignment)]
    return sum(fitted(features[pdfs == pdf], floor) for pdf in range(tying.num_pdfs))


def test_monophones_number_states_in_a_row():
    tying = Tying.monophones(4)
    assert (tying.num_labels, tying.num_pdfs, tying.has_context) == (4, 12, False)
    assert tying.pdfs.shape == (4, 3, 5, 5)
    assert tying.pdfs.dtype == np.int64
    assert tying.pdfs[2, 1, 4, 0] == 7
    assert tying.owners()[7].tolist() == [2, 1]


@pytest.mark.parametrize("axis", [2, 3])
def test_context_of_one_entry_is_noticed(axis):
    pdfs = Tying.monophones(2).pdfs.copy()
    pdfs[1, 2][(1, slice(None)) if axis == 2 else (slice(None), 1)] = 6
    assert Tying(pdfs).has_context
    assert Tying(pdfs).owners()[6].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda pdfs: pdfs[:, :2], "not the table"),
        (lambda pdfs: pdfs[..., :-1], "not the table"),
        (lambda pdfs: pdfs.astype(np.int32), "not the table"),
        (lambda pdfs: np.where(pdfs == 5, 6, pdfs), "gaps"),
        (lambda pdfs: pdfs - 1, "from 0 on"),
        (lambda pdfs: np.where(pdfs == 5, 4, pdfs), "belong to one state"),
        (lambda pdfs: np.where(np.arange(3) == 1, 0, pdfs), "belong to one state"),
    ],
)
def test_a_table_that_ties_nothing_sensible_is_refused(spoil, message):
    with pytest.raises(ValueError, match=message):
        Tying(spoil(Tying.monophones(2).pdfs))


def test_statistics_against_a_loop_over_frames(rng):
    features, alignment = rng.normal(size=(500, 2)), random_alignment(rng, 500, 3)
    contexts, moments = counted(features, alignment).table()
    expected = {}
    for frame, context in zip(features, alignment.T, strict=True):
        expected.setdefault(tuple(context.tolist()), []).append(frame)
    assert [tuple(context) for context in contexts.tolist()] == sorted(expected)
    for context, row in zip(contexts.tolist(), moments, strict=True):
        frames = np.array(expected[tuple(context)])
        np.testing.assert_allclose(row, [len(frames), *frames.sum(axis=0), *(frames**2).sum(axis=0)], atol=1e-12)


def test_parts_merge_to_the_whole(rng):
    # More contexts than the table has room for at first, and two parts that share some of them.
    features, alignment = rng.normal(size=(9000, 2)).astype(np.float32), random_alignment(rng, 9000, 20)
    whole = counted(features, alignment).table()
    parts = [counted(features[i : i + 3000], alignment[:, i : i + 3000]) for i in (6000, 0, 3000)]
    merged = parts[0]
    for part in parts[1:]:
        merged += part
    assert len(whole[0]) > 5000
    np.testing.assert_array_equal(merged.table()[0], whole[0])
    np.testing.assert_allclose(merged.table()[1], whole[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("features", "alignment", "message"),
    [
        (np.ones((2, 3)), np.zeros((4, 2), int), "do not fit"),
        (np.ones((3, 2)), np.zeros((4, 2), int), "do not fit"),
        (np.ones((2, 2)), np.array([[0, 0], [0, 3], [0, 0], [0, 0]]), "states up to 3"),
        (np.ones((2, 2)), np.array([[0, 0], [0, 0], [0, -1], [0, 0]]), "from -1"),
        (np.array([[1, np.nan]]), np.zeros((4, 1), int), "NaN"),
    ],
)
def test_statistics_refuse_what_does_not_fit(features, alignment, message):
    statistics = ContextStatistics(2)
    with pytest.raises(ValueError, match=message):
        statistics.add(features, *alignment)


def test_likelihood_is_scipys(rng):
    frames = rng.normal([3, -1], [0.1, 4], size=(50, 2))
    moments = np.concatenate([[50], frames.sum(axis=0), (frames**2).sum(axis=0)])
    assert log_likelihood(moments, FLOOR) == pytest.approx(fitted(frames), rel=1e-10)
    floor = np.array([2.0, 0.1])  # the first binds
    assert log_likelihood(moments, floor) == pytest.approx(fitted(frames, floor), rel=1e-10)
    assert log_likelihood(np.zeros(5), FLOOR) == 0


def test_first_split_is_the_best_of_all_questions(rng):
    features, alignment = rng.normal(size=(400, 2)), random_alignment(rng, 400, 3)
    alignment[:2] = 0
    features[alignment[3] == 1, 1] += 0.7
    tying = grow(counted(features, alignment), singletons(3), 3, [], 10, 1, variance_floor=FLOOR)
    best = max(
        fitted(features[inside]) + fitted(features[~inside])
        for inside in (alignment[side] == phone for side in (2, 3) for phone in range(4))
    )
    assert tying.num_pdfs == 10
    assert likelihood_of_tying(tying, features, alignment) == pytest.approx(best, rel=1e-10)


def greedy_by_definition(features, alignment, classes, num_labels, num_splits, min_frames):
    """Grow trees over frames themselves, trying every question at every leaf before each split."""
    leaves = [
        np.flatnonzero((alignment[0] == phone) & (alignment[1] == state))
        for phone, state in itertools.product(range(num_labels), range(NUM_STATES))
    ]
    for _ in range(num_splits):
        best = (0.0, None, None, None)
        for leaf, side, members in itertools.product(range(len(leaves)), (2, 3), classes):
            inside = np.isin(alignment[side, leaves[leaf]], sorted(members))
            yes, no = leaves[leaf][inside], leaves[leaf][~inside]
            if min(len(yes), len(no)) < min_frames:
                continue
            gain = fitted(features[yes]) + fitted(features[no]) - fitted(features[leaves[leaf]])
            if gain > best[0]:
                best = (gain, leaf, yes, no)
        if best[1] is None:
            break
        leaves[best[1]] = best[2]
        leaves.append(best[3])
    return {frozenset(leaf.tolist()) for leaf in leaves if len(leaf)}


@pytest.mark.parametrize(("num_splits", "min_frames"), [(1, 1), (5, 1), (12, 8), (1000, 8)])
def test_greedy_growth_is_that_of_an_exhaustive_search(rng, num_splits, min_frames):
    features, alignment = rng.normal(size=(300, 2)), random_alignment(rng, 300, 2)
    features += 0.5 * alignment[2:].T
    classes = [{0, 1}, *singletons(2)]
    tying = grow(
        counted(features, alignment), classes, 2, [], 6 + num_splits, min_frames=min_frames, variance_floor=FLOOR
    )
    pdfs = tying.pdfs[tuple(alignment)]
    ours = {frozenset(np.flatnonzero(pdfs == pdf).tolist()) for pdf in range(tying.num_pdfs)}
    assert ours == greedy_by_definition(features, alignment, classes, 2, num_splits, min_frames)


def test_invariants_of_a_grown_table(rng):
    num_labels, silences = 6, [2, 5]
    features, alignment = rng.normal(size=(4000, 2)), random_alignment(rng, 4000, num_labels)
    features += 0.3 * rng.normal(size=(num_labels + 1, 2))[alignment[2]]
    features += 0.3 * rng.normal(size=(num_labels + 1, 2))[alignment[3]]
    statistics = counted(features, alignment)
    classes = phone_classes(statistics, num_labels, silences, FLOOR)
    previous = -np.inf
    for num_pdfs in (18, 19, 40, 10_000):
        tying = grow(statistics, classes, num_labels, silences, num_pdfs, min_frames=20, variance_floor=FLOOR)
        assert tying.num_pdfs == num_pdfs if num_pdfs < 10_000 else 40 < tying.num_pdfs < 200
        owners = tying.owners().tolist()
        assert owners == sorted(owners)
        assert (tying.pdfs[silences] == tying.pdfs[silences][:, :, :1, :1]).all()
        split = np.bincount(tying.owners() @ [NUM_STATES, 1])[tying.owners() @ [NUM_STATES, 1]] > 1
        assert (leaf_frames(tying, alignment)[split] >= 20).all()
        assert likelihood_of_tying(tying, features, alignment) > previous
        previous = likelihood_of_tying(tying, features, alignment)
        again = grow(statistics, classes, num_labels, silences, num_pdfs, min_frames=20, variance_floor=FLOOR)
        np.testing.assert_array_equal(again.pdfs, tying.pdfs)


def test_as_many_densities_as_states_are_monophones(rng):
    statistics = counted(rng.normal(size=(900, 2)), random_alignment(rng, 900, 3))
    tying = grow(statistics, singletons(3), 3, [0], 9, 1, variance_floor=FLOOR)
    np.testing.assert_array_equal(tying.pdfs, Tying.monophones(3).pdfs)


def test_without_frames_every_state_has_one_density():
    tying = grow(ContextStatistics(2), singletons(3), 3, [0], 99, variance_floor=FLOOR)
    np.testing.assert_array_equal(tying.pdfs, Tying.monophones(3).pdfs)


def test_fewer_densities_than_states_are_refused():
    with pytest.raises(ConfigError, match=r"^8 densities are too few for 3 phones of 3 states: allow at least 9$"):
        grow(ContextStatistics(2), [], 3, [], 8, variance_floor=FLOOR)


@pytest.mark.parametrize(
    ("classes", "num_labels", "floor", "message"),
    [
        ([{0}], 1, FLOOR, "not those of 1 phones"),
        ([{4}], 3, FLOOR, "not in 0..3"),
        ([{0}], 3, FLOOR * 0, "above 0"),
        ([{0}], 3, np.ones(3), "must be 2 values"),
    ],
)
def test_what_does_not_fit_the_statistics_is_refused(classes, num_labels, floor, message):
    statistics = counted(np.ones((2, 2)), np.array([[0, 2], [0, 1], [3, 0], [2, 3]]))
    with pytest.raises(ValueError, match=message):
        grow(statistics, classes, num_labels, [], 99, variance_floor=floor)


def test_planted_contexts_grow_back(rng):
    # Phone 0: its first state asks for a left neighbour in {1, 2}, its last for a right neighbour 3, its middle
    # nothing; the other phones are alike everywhere, and 4 is silence though it depends on its left neighbour.
    alignment = random_alignment(rng, 30_000, 5)
    phones, states, lefts, rights = alignment
    shift = 4.0 * ((phones == 0) & (states == 0) & np.isin(lefts, [1, 2]))
    shift -= 4.0 * ((phones == 0) & (states == 2) & (rights == 3))
    shift += 4.0 * ((phones == 4) & (lefts == 1))
    features = rng.normal(size=(30_000, 2))
    features[:, 0] += shift
    classes = [{1, 2}, {0, 1, 2}, *singletons(5)]
    tying = grow(counted(features, alignment), classes, 5, [4], 17, variance_floor=FLOOR)
    first, middle, last = tying.pdfs[0]
    assert (tying.owners()[:5] == [[0, 0], [0, 0], [0, 1], [0, 2], [0, 2]]).all()
    expected = np.isin(np.arange(6), [1, 2])
    np.testing.assert_array_equal(first, np.where(expected, 0, 1)[:, None] * np.ones((1, 6), int))
    assert (middle == 2).all()
    np.testing.assert_array_equal(last, np.where(np.arange(6) == 3, 3, 4) * np.ones((6, 1), int))
    np.testing.assert_array_equal(tying.pdfs[1:], Tying.monophones(5).pdfs[1:] + 2)


@pytest.mark.parametrize(("min_frames", "num_pdfs"), [(0, 4), (10, 4), (11, 3)])
def test_a_leaf_may_have_just_the_fewest_frames(rng, min_frames, num_pdfs):
    lefts = np.repeat([0, 1], [10, 15])
    statistics = counted(rng.normal(size=(25, 2)) + lefts[:, None], np.array([0 * lefts, 0 * lefts, lefts, lefts]))
    assert grow(statistics, [{1}], 1, [], 9, min_frames, variance_floor=FLOOR).num_pdfs == num_pdfs


def test_contexts_with_the_same_frames_are_not_split(rng):
    frames = rng.normal(size=(50, 2))
    lefts = np.repeat([0, 1], 50)
    statistics = counted(np.tile(frames, (2, 1)), np.array([0 * lefts, 0 * lefts, lefts, lefts]))
    assert grow(statistics, [{1}], 1, [], 9, 0, variance_floor=FLOOR).num_pdfs == 3


def test_contexts_never_seen_follow_the_answers(rng):
    # Phone 0 is heard after 1 and after 3, never after 2 or at an edge: 2 goes with 1, its fellow, the edge with 3.
    lefts = np.repeat([1, 3], 200)
    alignment = np.array([0 * lefts, 0 * lefts, lefts, rng.integers(3, size=400)])
    features = rng.normal(size=(400, 2)) + 5 * (lefts == 1)[:, None]
    tying = grow(counted(features, alignment), [{1, 2}, {0, 3}], 4, [], 13, variance_floor=FLOOR)
    assert tying.pdfs[0, 0, :, 2].tolist() == [1, 0, 0, 1, 1]
    assert (tying.pdfs[0, 0] == tying.pdfs[0, 0][:, :1]).all()


def test_classes_recover_planted_clusters(rng):
    centres = np.array([[0, 0], [20, 0], [20.5, 0], [0, 30], [1, 31], [0.5, 29]])
    phones, states = (axis.repeat(40) for axis in np.indices((6, NUM_STATES)).reshape(2, -1))
    features = centres[phones] + rng.normal(size=(len(phones), 2)) * 0.3 + states[:, None]
    statistics = counted(features, np.array([phones, states, phones * 0, phones * 0]))
    classes = phone_classes(statistics, 6, [0], FLOOR)
    assert len(classes) == 1 + 5 + 7
    assert classes[0] == {0, 6}
    assert {frozenset({1, 2}), frozenset({3, 4, 5})} <= set(classes)
    assert classes[5] == set(range(7))
    assert classes[6:] == tuple(frozenset([phone]) for phone in range(7))
    joined = classes[:6]
    assert all(one <= other or other <= one or not one & other for one, other in itertools.combinations(joined, 2))


def test_classes_always_join_the_pair_that_loses_least(rng):
    alignment = random_alignment(rng, 900, 7)
    features = rng.normal(size=(900, 2)) + rng.normal(size=(7, NUM_STATES, 2))[alignment[0], alignment[1]]

    def described(group):
        inside = np.isin(alignment[0], sorted(group))
        return sum(fitted(features[inside & (alignment[1] == state)]) for state in range(NUM_STATES))

    groups, expected = {frozenset([phone]) for phone in range(7)}, []
    while len(groups) > 1:
        pairs = list(itertools.combinations(groups, 2))
        one, other = min(pairs, key=lambda pair: described(pair[0]) + described(pair[1]) - described(pair[0] | pair[1]))
        groups = groups - {one, other} | {one | other}
        expected.append(one | other)
    classes = phone_classes(counted(features, alignment), 7, [], FLOOR)
    # Without silences, the edge stands alone.
    assert classes == (*expected, *(frozenset([phone]) for phone in range(8)))


def test_the_edge_stands_with_the_commonest_silence(rng):
    phones = np.repeat([0, 1, 2, 3], [10, 5, 20, 30])
    statistics = counted(rng.normal(size=(65, 2)), np.array([phones, 0 * phones, phones, phones]))
    assert phone_classes(statistics, 4, {0, 1, 2}, FLOOR)[0] == {2, 4}


def test_all_states_count_for_classes(rng):
    # Phones 0 and 1 agree in the first state alone, 1 and 2 in the two others.
    phones, states = (axis.repeat(50) for axis in np.indices((3, NUM_STATES)).reshape(2, -1))
    means = np.array([[0, 0, 0], [0, 9, 9], [9, 9, 9]])
    features = means[phones, states][:, None] + rng.normal(size=(len(phones), 2))
    classes = phone_classes(counted(features, np.array([phones, states, states, states])), 3, [], FLOOR)
    assert classes[0] == {1, 2}


def test_phones_never_heard_are_in_no_class_but_their_own(rng):
    phones = np.repeat([0, 2], 10)
    statistics = counted(rng.normal(size=(20, 2)), np.array([phones, 0 * phones, phones, phones]))
    assert phone_classes(statistics, 3, [1], FLOOR) == ({1, 3}, {0, 2}, {0}, {1}, {2}, {3})
    assert phone_classes(ContextStatistics(2), 2, [], FLOOR) == ({0}, {1}, {2})
