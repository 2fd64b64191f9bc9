import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from asr.core.errors import AsrError
from asr.hmm.mixtures import Mixtures
from asr.hmm.transforms import (
    LdaStatistics,
    MlltStatistics,
    Transform,
    lda,
    mllt,
    mllt_objective,
    most_likely,
    splice,
    transform_means,
)

pytestmark = pytest.mark.kernels

D, P, K = 4, 3, 6


@pytest.fixture
def classes(rng):
    """Frames (600, D) of five classes whose means differ, with correlated noise; the third class has none."""
    pdfs = rng.choice([0, 1, 3, 4], 600, p=[0.1, 0.2, 0.3, 0.4])
    return rng.standard_normal((5, D))[pdfs] + rng.standard_normal((600, D)) @ rng.standard_normal((D, D)) + 7, pdfs


@pytest.fixture
def mixtures(rng):
    weights = np.concatenate([[1.0], rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(2))])
    return Mixtures(np.array([0, 1, 4, 6]), weights, 3 * rng.standard_normal((K, D)), rng.uniform(0.2, 3, (K, D)))


@pytest.fixture
def aligned(mixtures, rng):
    """Frames (900, D) with correlated noise about the means, and their densities."""
    gaussians = rng.integers(0, K, 900)
    frames = mixtures.means_[gaussians] + rng.standard_normal((900, D)) @ rng.standard_normal((D, D))
    return frames, np.repeat([0, 1, 2], [1, 3, 2])[gaussians]


def moments(frames, pdfs, num_classes=5, num_parts=3):
    """LDA's statistics of frames that come in several utterances and of two workers."""
    one, other = (LdaStatistics.empty(num_classes, frames.shape[1]) for _ in range(2))
    for part in range(num_parts):
        (one, other)[part % 2].add(frames[part::num_parts], pdfs[part::num_parts])
    one += other
    return one


def scatters(mixtures, frames, pdfs):
    statistics = MlltStatistics.empty(frames.shape[1])
    statistics.add(frames, most_likely(mixtures, frames, pdfs), mixtures)
    return statistics


def best_scores(mixtures, frames, pdfs):
    """ln (weight × Gaussian) of each frame's likeliest Gaussian, and that Gaussian, by SciPy."""
    scores = np.full((len(frames), len(mixtures.weights_)), -np.inf)
    for k, (weight, mean, variance) in enumerate(
        zip(mixtures.weights_, mixtures.means_, mixtures.covars_, strict=True)
    ):
        inside = (k >= mixtures.offsets[pdfs]) & (k < mixtures.offsets[pdfs + 1])
        scores[inside, k] = np.log(weight) + multivariate_normal(mean, np.diag(variance)).logpdf(frames[inside])
    return scores.max(axis=1), scores.argmax(axis=1)


@pytest.mark.parametrize("context", [0, 1, 3])
def test_splicing_by_hand(rng, context):
    frames = rng.standard_normal((5, 2))
    expected = [
        np.concatenate([frames[min(max(t + shift, 0), 4)] for shift in range(-context, context + 1)]) for t in range(5)
    ]
    np.testing.assert_array_equal(splice(frames, context), expected)


def test_one_frame_is_spliced_with_itself():
    assert splice(np.array([[1.0, 2.0]]), 2).tolist() == [[1.0, 2.0] * 5]


@pytest.mark.parametrize(("num_frames", "context"), [(0, 1), (3, -1)])
def test_splicing_refuses(num_frames, context):
    with pytest.raises(ValueError, match="cannot be spliced"):
        splice(np.zeros((num_frames, 2)), context)


def test_moments_by_hand(classes):
    frames, pdfs = classes
    found = moments(*classes)
    assert found.counts.tolist() == [(pdfs == p).sum() for p in range(5)]
    np.testing.assert_allclose(found.sums, [frames[pdfs == p].sum(axis=0) for p in range(5)], atol=1e-9)
    np.testing.assert_allclose(found.squares, sum(np.outer(frame, frame) for frame in frames), rtol=1e-12)


def test_no_frames_change_nothing(classes):
    found = moments(*classes)
    found.add(np.zeros((0, D)), np.zeros(0, np.int64))
    assert found.counts.sum() == 600


def test_lda_leaves_unit_covariance_within_classes_and_mean_zero(classes):
    frames, pdfs = classes
    matrix, offset = lda(moments(*classes), D)
    found = frames @ matrix.T + offset
    within = sum((pdfs == p).sum() * np.cov(found[pdfs == p].T, ddof=0) for p in (0, 1, 3, 4)) / 600
    np.testing.assert_allclose(within, np.eye(D), atol=1e-9)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9)
    between = [np.var([found[pdfs == p, d].mean() for p in pdfs]) for d in range(D)]
    assert np.diff(between).max() <= 1e-9  # the best direction first
    assert between[2] > 0.01
    assert between[3] < 1e-9  # four classes with frames: three directions tell them apart


def test_lda_is_that_of_scikit_learn(classes):
    frames, pdfs = classes
    matrix, offset = lda(moments(*classes), 3)
    peer = LinearDiscriminantAnalysis(solver="eigen").fit(frames, pdfs).transform(frames)
    ours = frames @ matrix.T + offset
    peer -= peer.mean(axis=0)  # its solver leaves the mean in
    signs = np.sign((ours * peer).sum(axis=0))
    np.testing.assert_allclose(ours * signs, peer, atol=1e-8)


def test_no_direction_tells_classes_apart_better(classes, rng):
    frames, pdfs = classes
    best = lda(moments(*classes), 1)[0]
    directions = np.concatenate([best, rng.standard_normal((2000, D)), best + 0.05 * rng.standard_normal((2000, D))])
    values = frames @ directions.T
    means = np.array([values[pdfs == p].mean(axis=0) for p in (0, 1, 3, 4)])
    total = values.var(axis=0)
    between = ((means - values.mean(axis=0)) ** 2 * np.bincount(pdfs)[[0, 1, 3, 4], None]).sum(axis=0) / 600
    ratio = between / (total - between)
    assert ratio.argmax() == 0


def test_two_classes_have_fishers_direction(rng):
    frames, pdfs = rng.standard_normal((400, D)) @ rng.standard_normal((D, D)), np.arange(400) % 2
    frames[pdfs == 1] += [1, -2, 0, 3]
    direction = lda(moments(frames, pdfs, 2, 1), 1)[0][0]
    within = (np.cov(frames[::2].T, ddof=0) + np.cov(frames[1::2].T, ddof=0)) / 2
    fisher = np.linalg.solve(within, frames[1::2].mean(axis=0) - frames[::2].mean(axis=0))
    cosine = direction @ fisher / np.linalg.norm(direction) / np.linalg.norm(fisher)
    assert abs(cosine) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    ("spoil", "rank"),
    [
        (lambda frames: frames * [1, 1, 0, 1] + [0, 0, 20, 0], 3),
        (lambda frames: frames[:, [0, 1, 2, 2]], 3),
        (lambda frames: frames @ np.diag([1.0, 1.0, 1.0, 0.0]), 3),
        (lambda frames: frames[:3], 2),
        (lambda frames: frames[:0], 0),
    ],
    ids=["constant", "twice the same", "zero", "too few frames", "no frames"],
)
def test_frames_that_do_not_vary_are_refused(classes, spoil, rank):
    frames = spoil(classes[0])
    pdfs = np.zeros(len(frames), np.int64)
    with pytest.raises(AsrError, match=rf"LDA: .* {len(frames)} frames vary in {rank} of 4 directions only") as error:
        lda(moments(frames, pdfs, num_parts=1), 2)
    assert "\n" not in str(error.value)
    mixtures = Mixtures.flat(1, frames.mean(axis=0) if len(frames) else np.zeros(4), np.full(4, 0.5))
    with pytest.raises(AsrError, match=rf"MLLT: .* {len(frames)} frames vary in {rank} of 4 directions only"):
        mllt(scatters(mixtures, frames, pdfs))


@pytest.mark.parametrize("num_values", [0, 5])
def test_lda_refuses_directions_that_there_are_not(classes, num_values):
    with pytest.raises(ValueError, match=f"{num_values} directions cannot be taken from 4 values"):
        lda(moments(*classes), num_values)


def test_each_frame_gets_the_likeliest_gaussian_of_its_density(mixtures, aligned):
    expected = best_scores(mixtures, *aligned)[1]
    assert len(set(expected)) == K
    np.testing.assert_array_equal(most_likely(mixtures, *aligned), expected)


def test_scatters_equal_a_plain_loop(mixtures, aligned):
    frames, pdfs = aligned
    gaussians = most_likely(mixtures, *aligned)
    expected = np.zeros((D, D, D))
    for frame, k in zip(frames, gaussians, strict=True):
        away = frame - mixtures.means_[k]
        for i in range(D):
            expected[i] += np.outer(away, away) / mixtures.covars_[k, i]
    one, other = scatters(mixtures, frames[:500], pdfs[:500]), scatters(mixtures, frames[500:], pdfs[500:])
    one += other
    assert one.num_frames == 900
    np.testing.assert_allclose(one.scatters, expected, rtol=1e-10)


def test_mllt_never_lowers_its_objective_and_ends_where_it_is_flat(mixtures, aligned):
    statistics = scatters(mixtures, *aligned)
    path = [mllt_objective(mllt(statistics, n), statistics) for n in range(12)]
    assert np.diff(path).min() >= -1e-8
    assert path[-1] > path[0] + 10
    matrix, step = mllt(statistics, 2000), 1e-5
    assert np.linalg.det(matrix) > 0
    for i in range(D):
        for j in range(D):
            change = np.zeros((D, D))
            change[i, j] = step
            above, below = (mllt_objective(matrix + sign * change, statistics) for sign in (1, -1))
            assert abs(above - below) / (2 * step) < 1e-3


def test_no_likelihood_is_lost(mixtures, aligned):
    """Of the frames under their Gaussians, with the Jacobian; and of whole mixtures, which nothing promises."""
    frames, pdfs = aligned
    matrix = mllt(scatters(mixtures, frames, pdfs))
    after, jacobian = transform_means(mixtures, matrix), np.log(abs(np.linalg.det(matrix)))
    gain = (
        best_scores(after, frames @ matrix.T, pdfs)[0].sum() + 900 * jacobian - best_scores(mixtures, *aligned)[0].sum()
    )
    rise = mllt_objective(matrix, scatters(mixtures, *aligned)) - mllt_objective(
        np.eye(D), scatters(mixtures, *aligned)
    )
    assert gain >= rise - 1e-6  # more where a frame changes to a likelier Gaussian
    assert rise > 10
    before, then = (
        m.scores(m.gaussians(x))[np.arange(900), pdfs].sum()
        for m, x in ((mixtures, frames), (after, frames @ matrix.T))
    )
    assert then + 900 * jacobian > before


def test_mllt_finds_a_planted_rotation(rng):
    """Gaussians are diagonal in rotated values, each with variances of its own: the rotation is found, but for order.

    Variances are those of training, of the features as they are; alternating with MLLT, as Kaldi does, ends there.
    """
    num_gaussians, per_gaussian = 8, 4000
    rotation = np.linalg.qr(rng.standard_normal((D, D)))[0]
    means, spreads = 3 * rng.standard_normal((num_gaussians, D)), rng.uniform(0.3, 3, (num_gaussians, D))
    owner = np.repeat(np.arange(num_gaussians), per_gaussian)
    frames = (means[owner] + spreads[owner] * rng.standard_normal((len(owner), D))) @ rotation  # x = Rᵀ z
    total = np.eye(D)
    for _ in range(60):
        heard = [frames[owner == k] for k in range(num_gaussians)]
        mixtures = Mixtures(
            np.arange(num_gaussians + 1),
            np.ones(num_gaussians),
            np.array([part.mean(axis=0) for part in heard]),
            np.array([part.var(axis=0) for part in heard]),
        )
        statistics = MlltStatistics.empty(D)
        statistics.add(frames, owner, mixtures)
        matrix = mllt(statistics, 10)
        frames, total = frames @ matrix.T, matrix @ total
    mixing = abs(total @ rotation.T)  # what the diagonal values go through: one of them for each value found
    mixing /= mixing.max(axis=1, keepdims=True)
    assert sorted(mixing.argmax(axis=1)) == list(range(D))
    assert np.sort(mixing, axis=1)[:, -2].max() < 0.05


def test_mllt_diagonalises_a_covariance_that_all_gaussians_share(rng):
    covariance = np.cov(rng.standard_normal((D, 50)) * np.array([[1], [2], [3], [4]]) + rng.standard_normal(50))
    frames = rng.standard_normal((500, D))
    frames -= frames.mean(axis=0)
    frames = frames @ np.linalg.inv(np.linalg.cholesky(np.cov(frames.T, ddof=0))).T  # exactly uncorrelated
    frames = frames @ np.linalg.cholesky(covariance).T
    statistics = scatters(Mixtures.flat(1, np.zeros(D), np.diag(covariance)), frames, np.zeros(500, np.int64))
    matrix = mllt(statistics)
    np.testing.assert_allclose(matrix @ covariance @ matrix.T, np.diag(np.diag(covariance)), atol=1e-6)


def test_a_transform_is_splicing_then_lda_then_mllt(rng):
    features = rng.standard_normal((20, 6)).astype(np.float32)
    matrix, offset, turn = rng.standard_normal((D, 15)), rng.standard_normal(D), rng.standard_normal((D, D))
    first = Transform(2, 3, matrix, offset)
    expected = splice(features[:, :3].astype(np.float64), 2) @ matrix.T + offset
    np.testing.assert_allclose(first(features), expected, atol=1e-5)
    np.testing.assert_allclose(first.then(turn)(features), expected @ turn.T, atol=1e-5)
    assert first(features).dtype == first(features.astype(np.float64)).dtype == np.float32


@pytest.mark.parametrize(
    ("shape", "pdfs"), [((3, 2), [0, 1, 2]), ((3, 2), [0, -1, 1]), ((3, 2), [0, 1]), ((3, 1), [0, 1, 1])]
)
def test_an_alignment_that_does_not_fit_is_refused(shape, pdfs):
    """The kernel would read past the end of its arrays."""
    mixtures = Mixtures.flat(2, np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match="do not fit"):
        most_likely(mixtures, np.zeros(shape), np.array(pdfs))
