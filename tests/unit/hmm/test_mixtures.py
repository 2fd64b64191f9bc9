import numpy as np
import pytest
from scipy.stats import multivariate_normal

from asr.hmm.mixtures import BLOCK_FRAMES, Mixtures, Statistics, estimate, split

pytestmark = pytest.mark.kernels


def collect(mixtures, frames, posteriors):
    """Statistics of frames (T, D) whose densities have these posteriors (T, P)."""
    statistics, gaussians = Statistics.empty(mixtures), mixtures.gaussians(frames)
    everything = np.arange(len(mixtures.weights_)), posteriors, np.arange(mixtures.num_pdfs)
    statistics.add(frames, gaussians, mixtures.scores(gaussians), mixtures.offsets, *everything)
    return statistics


@pytest.fixture
def mixtures(rng):
    """Three densities of 1, 3 and 2 Gaussians over four values."""
    weights = np.concatenate([[1.0], rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(2))])
    return Mixtures(np.array([0, 1, 4, 6]), weights, rng.standard_normal((6, 4)), rng.uniform(0.2, 3, (6, 4)))


def test_likelihoods_are_those_of_scipy(mixtures, rng):
    frames = 2 * rng.standard_normal((50, 4))
    expected = np.zeros((50, 3))
    for p in range(3):
        for k in range(mixtures.offsets[p], mixtures.offsets[p + 1]):
            normal = multivariate_normal(mixtures.means_[k], np.diag(mixtures.covars_[k]))
            expected[:, p] += mixtures.weights_[k] * normal.pdf(frames)
    np.testing.assert_allclose(mixtures.scores(mixtures.gaussians(frames)), np.log(expected), rtol=0, atol=1e-10)


def test_far_frames_have_finite_likelihoods(mixtures):
    assert np.isfinite(mixtures.scores(mixtures.gaussians(np.full((1, 4), 1e4)))).all()


def test_statistics_by_hand(mixtures, rng):
    frames, posteriors = rng.standard_normal((30, 4)), rng.dirichlet(np.ones(3), 30)
    gaussians = mixtures.gaussians(frames)
    shares = np.exp(gaussians - np.repeat(mixtures.scores(gaussians), [1, 3, 2], axis=1))
    shares *= np.repeat(posteriors, [1, 3, 2], axis=1)
    found = collect(mixtures, frames[:10], posteriors[:10])
    found += collect(mixtures, frames[10:], posteriors[10:])
    np.testing.assert_allclose(found.occupancy, shares.sum(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.sums, shares.T @ frames, atol=1e-6)
    np.testing.assert_allclose(found.squares, shares.T @ frames**2, atol=1e-6)


@pytest.mark.parametrize("num_frames", [0, 1, BLOCK_FRAMES, 2 * BLOCK_FRAMES + 3])
def test_likelihoods_by_blocks_are_those_of_all_frames(mixtures, rng, num_frames):
    frames = rng.standard_normal((num_frames, 4))
    found = mixtures.log_likelihoods(frames)
    np.testing.assert_allclose(found, mixtures.scores(mixtures.gaussians(frames)), rtol=0, atol=1e-12)


def test_single_precision_is_near_double(mixtures, rng):
    frames = rng.standard_normal((200, 4))
    single = mixtures.log_likelihoods(frames.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, mixtures.log_likelihoods(frames), rtol=0, atol=1e-4)


def test_likelihoods_within_spans_are_those_of_all_frames(mixtures, rng):
    frames, pdfs = 2 * rng.standard_normal((60, 4)), rng.integers(0, 3, 25)
    spans = np.sort(rng.integers(0, 61, (25, 2)), axis=1)
    spans[:3] = [[0, 60], [7, 7], [59, 60]]
    found = mixtures.log_likelihoods_within(frames, pdfs, spans)
    times = np.arange(60)[:, None]
    is_within = (times >= spans[:, 0]) & (times < spans[:, 1])
    expected = np.where(is_within, mixtures.log_likelihoods(frames)[:, pdfs], -np.inf)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("chosen", [[0], [1], [2, 0], [0, 1, 2]])
def test_a_choice_of_densities_says_of_frames_what_all_say(mixtures, rng, chosen):
    frames, chosen = rng.standard_normal((40, 4)), np.array(chosen)
    some, index = mixtures.select(chosen)
    assert some.num_pdfs == len(chosen)
    assert index.tolist() == [k for p in chosen for k in ([0], [1, 2, 3], [4, 5])[p]]
    np.testing.assert_allclose(some.log_likelihoods(frames), mixtures.log_likelihoods(frames)[:, chosen], atol=1e-12)
    gaussians = some.gaussians(frames)
    np.testing.assert_allclose(gaussians, mixtures.gaussians(frames)[:, index], atol=1e-12)


def test_statistics_of_a_choice_go_where_they_belong(mixtures, rng):
    """Five states share densities 2 and 0, chosen in this order, and density 1 is not heard."""
    frames, posteriors = rng.standard_normal((40, 4)), rng.dirichlet(np.ones(5), 40)
    pdfs = np.array([0, 1, 0, 0, 1])
    some, index = mixtures.select(np.array([2, 0]))
    found, gaussians = Statistics.empty(mixtures), some.gaussians(frames)
    found.add(frames, gaussians, some.scores(gaussians), some.offsets, index, posteriors, pdfs)
    summed = np.stack(
        [posteriors[:, pdfs == 1].sum(axis=1), np.zeros(40), posteriors[:, pdfs == 0].sum(axis=1)], axis=1
    )
    expected = collect(mixtures, frames, summed)
    assert found.occupancy[1:4].tolist() == [0, 0, 0]
    for name in ("occupancy", "sums", "squares"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=0, atol=1e-10)


def test_em_never_lowers_the_likelihood_of_a_mixture_and_finds_its_parts(rng):
    """Two clusters: the mean log likelihood rises to that of the truth, and the means are found."""
    truth = np.array([[-2.0, 0.0], [2.0, 1.0]])
    frames = truth[rng.integers(0, 2, 2000)] + rng.standard_normal((2000, 2))
    one = Mixtures.flat(1, frames.mean(axis=0), frames.var(axis=0))
    statistics = collect(one, frames, np.ones((2000, 1)))
    two, totals = split(one, statistics, 2), []
    for _ in range(60):
        gaussians = two.gaussians(frames)
        totals.append(two.scores(gaussians).sum())
        statistics = collect(two, frames, np.ones((2000, 1)))
        two = estimate(two, statistics, np.full(2, 1e-3))
    assert np.diff(totals).min() >= -1e-8
    found = two.means_[np.argsort(two.means_[:, 0])]
    np.testing.assert_allclose(found, truth, atol=0.15)
    np.testing.assert_allclose(two.weights_, 0.5, atol=0.05)


def test_splitting_keeps_what_a_density_says_nearly(mixtures, rng):
    frames = rng.standard_normal((400, 4))
    gaussians = mixtures.gaussians(frames)
    posteriors = rng.dirichlet(np.ones(3), 400)
    statistics = collect(mixtures, frames, posteriors)
    grown = split(mixtures, statistics, 12)
    assert len(grown.weights_) == 12
    np.testing.assert_allclose(np.add.reduceat(grown.weights_, grown.offsets[:-1]), 1)
    before, after = mixtures.scores(gaussians), grown.scores(grown.gaussians(frames))
    assert np.abs(after - before).mean() < 0.25
    sizes = np.diff(grown.offsets)
    assert sizes.sum() == 12
    assert (sizes >= [1, 3, 2]).all()


def test_few_frames_are_not_split():
    one = Mixtures.flat(1, np.zeros(1), np.ones(1))
    few = Statistics(np.array([5.0]), np.zeros((1, 1)), np.zeros((1, 1)))
    assert len(split(one, few, 4).weights_) == 1


def test_a_gaussian_without_frames_is_dropped_and_a_density_never():
    start = Mixtures(np.array([0, 2, 3]), np.array([0.5, 0.5, 1]), np.array([[0.0], [100.0], [7.0]]), np.ones((3, 1)))
    frames = np.linspace(-1, 1, 20)[:, None]
    statistics = collect(start, frames, np.array([[1.0, 0.0]] * 20))
    found = estimate(start, statistics, np.full(1, 1e-3))
    assert found.offsets.tolist() == [0, 1, 2]
    assert found.weights_.tolist() == [1, 1]
    assert found.means_[1] == 7
    assert found.covars_[1] == 1


def test_variances_are_floored():
    start = Mixtures.flat(1, np.zeros(1), np.ones(1))
    frames = np.full((10, 1), 3.0)
    statistics = collect(start, frames, np.ones((10, 1)))
    assert estimate(start, statistics, np.array([0.25])).covars_ == 0.25


def test_arrays_that_do_not_fit_are_refused(mixtures, rng):
    """Kernels would read and write past their ends."""
    frames = rng.standard_normal((7, mixtures.means_.shape[1]))
    gaussians = mixtures.gaussians(frames)
    scores = mixtures.scores(gaussians)
    count, pdfs = gaussians.shape[1], np.arange(mixtures.num_pdfs)
    right = {
        "features": frames,
        "gaussians": gaussians,
        "scores": scores,
        "offsets": mixtures.offsets,
        "index": np.arange(count),
        "posteriors": np.ones((7, len(pdfs))),
        "pdfs": pdfs,
    }
    Statistics.empty(mixtures).add(**right)
    for name, wrong in {
        "features": frames[:, 1:],
        "gaussians": gaussians[:, 1:],
        "scores": scores[1:],
        "index": np.arange(1, count + 1),
        "posteriors": np.ones((6, len(pdfs))),
        "pdfs": pdfs + 1,
    }.items():
        with pytest.raises(ValueError, match="do not fit"):
            Statistics.empty(mixtures).add(**right | {name: wrong})
    with pytest.raises(ValueError, match="do not fit"):
        mixtures.scores(gaussians[:, 1:])
