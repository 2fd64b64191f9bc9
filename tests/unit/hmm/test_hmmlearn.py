"""Our recursions and estimates against hmmlearn's, another implementation, on one HMM that both can express."""

import warnings

import numpy as np
import pytest

from asr.hmm.graph import Graph
from asr.hmm.inference import forward_backward, viterbi
from asr.hmm.mixtures import Mixtures, Statistics, estimate

pytestmark = pytest.mark.kernels

hmm = pytest.importorskip("hmmlearn.hmm")


@pytest.fixture
def peer(rng):
    """An HMM of 4 states that may follow each other in any order, of 3 Gaussians each over 5 values."""
    model = hmm.GMMHMM(4, 3, covariance_type="diag", init_params="", n_iter=1, min_covar=1e-9)
    model.startprob_, model.transmat_ = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4), 4)
    model.weights_ = rng.dirichlet(np.ones(3), 4)
    model.means_, model.covars_ = 2 * rng.standard_normal((4, 3, 5)), rng.uniform(0.5, 2, (4, 3, 5))
    return model


def ours(peer):
    arcs = [(i, j, float(np.log(peer.transmat_[i, j]))) for i in range(4) for j in range(4)]
    starts = {j: float(np.log(peer.startprob_[j])) for j in range(4)}
    graph = Graph.of(range(4), arcs, starts, dict.fromkeys(range(4), 0.0))
    flat = (12, 5)
    weights, means, variances = peer.weights_.ravel(), peer.means_.reshape(flat), peer.covars_.reshape(flat)
    return graph, Mixtures(np.arange(0, 13, 3), weights, means, variances)


def test_likelihood_posteriors_and_path_are_hmmlearns(peer, rng):
    graph, mixtures = ours(peer)
    frames = 2 * rng.standard_normal((80, 5))
    scores = mixtures.scores(mixtures.gaussians(frames))
    found = forward_backward(scores, graph)
    expected, posteriors = peer.score_samples(frames)
    assert found.log_likelihood == pytest.approx(expected)
    np.testing.assert_allclose(found.states, posteriors, rtol=0, atol=1e-8)
    log_probability, path = viterbi(scores, graph)
    best, states = peer.decode(frames)
    assert log_probability == pytest.approx(best)
    assert path.tolist() == states.tolist()


def test_an_iteration_of_em_is_hmmlearns(peer, rng):
    """Without priors and floors: weights, means, variances and transitions after one step."""
    graph, mixtures = ours(peer)
    frames = 2 * rng.standard_normal((500, 5))
    gaussians = mixtures.gaussians(frames)
    scores, statistics = mixtures.scores(gaussians), Statistics.empty(mixtures)
    found = forward_backward(scores, graph)
    statistics.add(frames, gaussians, scores, mixtures.offsets, np.arange(12), found.states, graph.pdfs)
    new = estimate(mixtures, statistics, np.full(5, 1e-9))
    # Its priors on variances and weights are those that change nothing.
    peer.covars_prior, peer.covars_weight, peer.weights_prior = -1.5, 0.0, 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.fit(frames)
    np.testing.assert_allclose(new.weights_, peer.weights_.ravel(), atol=1e-6)
    np.testing.assert_allclose(new.means_, peer.means_.reshape(12, 5), atol=1e-5)
    # hmmlearn takes its variances about the means before the step, which adds the square of how far these moved.
    moved = (new.means_ - mixtures.means_) ** 2
    np.testing.assert_allclose(new.covars_ + moved, peer.covars_.reshape(12, 5), atol=1e-4)
    transitions = found.arcs.reshape(4, 4).T  # arcs stand by their ends
    np.testing.assert_allclose(transitions / transitions.sum(axis=1, keepdims=True), peer.transmat_, atol=1e-6)
