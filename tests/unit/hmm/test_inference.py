import itertools
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext

import numpy as np
import pytest

from asr.core.errors import InfeasibleError
from asr.hmm.graph import Graph, required_frames
from asr.hmm.inference import best_path, forward_backward, viterbi

pytestmark = pytest.mark.kernels


def chain(pdfs, loops, optional=()):
    """States in a row with probabilities of staying; of the paths to one that is optional, half pass it by."""
    skipped, arcs = np.flatnonzero(optional), []
    for j, loop in enumerate(loops):
        onward = [k for k in ([j + 1, j + 2] if j + 1 in skipped else [j + 1]) if k < len(pdfs)]
        arcs += [(j, j, np.log(loop)), *((j, k, np.log((1 - loop) / len(onward))) for k in onward)]
    return Graph.of(pdfs, arcs, {0: 0.0}, {len(pdfs) - 1: np.log(1 - loops[-1])})


def paths(graph, num_frames):
    """Every path of states with the logarithm of its probability, and how often it takes each arc."""
    weight = {}
    for j in range(len(graph.pdfs)):
        for a in range(graph.offsets[j], graph.offsets[j + 1]):
            weight[graph.sources[a], j] = a
    for states in itertools.product(range(len(graph.pdfs)), repeat=num_frames):
        arcs = [weight.get(step) for step in itertools.pairwise(states)]
        if None not in arcs:
            total = graph.starts[states[0]] + graph.weights[arcs].sum() + graph.finals[states[-1]]
            if total > -np.inf:
                yield states, total, np.bincount(arcs, minlength=len(graph.sources))


def enumerate_all(scores, graph):
    found = list(paths(graph, len(scores)))
    logs = np.array([total + sum(scores[t, graph.pdfs[s]] for t, s in enumerate(path)) for path, total, _ in found])
    posteriors = np.exp(logs - logs.max())
    posteriors /= posteriors.sum()
    states = np.zeros((len(scores), len(graph.pdfs)))
    for share, (path, _, _) in zip(posteriors, found, strict=True):
        states[np.arange(len(scores)), path] += share
    arcs = sum(share * taken for share, (_, _, taken) in zip(posteriors, found, strict=True))
    return np.logaddexp.reduce(logs), states, arcs, found[int(logs.argmax())], logs.max()


def random_graph(rng):
    """Up to 4 states, of which some share a density, with arcs at random and at least one path of 5 frames."""
    count = int(rng.integers(1, 5))
    ends = {(j, j) for j in range(count)} | {(j, j + 1) for j in range(count - 1)}
    ends |= {(i, j) for i in range(count) for j in range(count) if rng.random() < 0.3}
    arcs = [(i, j, -rng.exponential()) for i, j in sorted(ends)]
    finals = {count - 1: -rng.exponential()} | ({0: -1.0} if rng.random() < 0.3 else {})
    return Graph.of(rng.integers(0, 3, count).tolist(), arcs, {0: -0.1}, finals)


@pytest.mark.parametrize("seed", range(40))
def test_recursions_equal_enumeration(seed):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    scores = 3 * rng.standard_normal((5, 3))
    total, states, arcs, (path, _, taken), best = enumerate_all(scores, graph)
    found = forward_backward(scores, graph)
    assert found.log_likelihood == pytest.approx(total, abs=1e-10)
    np.testing.assert_allclose(found.states, states, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.arcs, arcs, rtol=0, atol=1e-10)
    log_probability, found_path = viterbi(scores, graph)
    assert log_probability == pytest.approx(best, abs=1e-10)
    assert tuple(found_path) == path
    alone = best_path(scores, graph)
    assert alone.log_likelihood == log_probability
    assert alone.states.tolist() == np.eye(len(graph.pdfs))[list(path)].tolist()
    assert alone.arcs.tolist() == taken.tolist()


def in_decimals(scores, graph):
    """ln p, posteriors and expected arcs by sums of products, in decimals whose exponents have no bounds."""
    with localcontext(Context(prec=50, Emin=MIN_EMIN, Emax=MAX_EMAX)):
        likelihoods = [[Decimal(float(frame[p])).exp() for p in graph.pdfs] for frame in scores]
        moves, starts, ends = (
            [Decimal(float(w)).exp() for w in weights] for weights in (graph.weights, graph.starts, graph.finals)
        )
        count, targets = len(starts), np.repeat(np.arange(len(graph.pdfs)), np.diff(graph.offsets)).tolist()
        arcs = list(zip(graph.sources.tolist(), targets, moves, strict=True))
        alpha, beta = [[a * b for a, b in zip(starts, likelihoods[0], strict=True)]], [ends]
        for frame in likelihoods[1:]:
            alpha.append([Decimal(0)] * count)
            for i, j, move in arcs:
                alpha[-1][j] += alpha[-2][i] * move * frame[j]
        for frame in likelihoods[:0:-1]:
            beta.insert(0, [Decimal(0)] * count)
            for i, j, move in arcs:
                beta[0][i] += beta[1][j] * move * frame[j]
        total = sum(a * b for a, b in zip(alpha[-1], ends, strict=True))
        states = [[float(a * b / total) for a, b in zip(*rows, strict=True)] for rows in zip(alpha, beta, strict=True)]
        taken = [
            float(sum(before[i] * move * frame[j] * after[j] for before, frame, after in steps) / total)
            for steps in [list(zip(alpha[:-1], likelihoods[1:], beta[1:], strict=True))]
            for i, j, move in arcs
        ]
        return float(total.ln()), states, taken


@pytest.mark.parametrize("spread", [1, 10, 30, 300, 1e5])
def test_recursions_are_exact_however_unlikely_the_frames(rng, spread):
    graph = chain(rng.integers(0, 9, 30).tolist(), rng.uniform(0.3, 0.9, 30).tolist(), (rng.random(30) < 0.2).tolist())
    scores = spread * rng.standard_normal((200, 9))
    total, states, arcs = in_decimals(scores, graph)
    found = forward_backward(scores, graph)
    assert found.log_likelihood == pytest.approx(total, rel=1e-13)
    np.testing.assert_allclose(found.states, states, rtol=0, atol=1e-12 * max(1, spread))
    np.testing.assert_allclose(found.arcs, arcs, rtol=0, atol=1e-11 * max(1, spread))


def test_a_path_that_was_far_behind_wins():
    """For 400 frames the first state is far likelier, and yet the path has to leave it."""
    graph = chain([0, 1, 2], [0.5, 0.5, 0.5])
    scores = np.zeros((400, 3))
    scores[:, 1:] = -30.0
    scores[200:, 0] = -1e5
    total, states, arcs = in_decimals(scores, graph)
    found = forward_backward(scores, graph)
    assert found.log_likelihood == pytest.approx(total, rel=1e-13)
    np.testing.assert_allclose(found.states, states, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.arcs, arcs, rtol=0, atol=1e-8)


@pytest.mark.parametrize("weight", [0.0, -0.5, -400.0, -1e4])
def test_arcs_of_any_weight(rng, weight):
    """Weights of 0 throughout let α grow in each frame; arcs of e^−400 are below what a factor of two powers spans."""
    arcs = [(i, j, 0.0 if i == j else weight) for i in range(4) for j in range(4)]
    graph = Graph.of([0, 1, 2, 0], arcs, {0: 0.0, 1: weight}, {3: weight})
    scores = rng.standard_normal((500, 3))
    total, states, taken = in_decimals(scores, graph)
    found = forward_backward(scores, graph)
    assert found.log_likelihood == pytest.approx(total, rel=1e-13)
    np.testing.assert_allclose(found.states, states, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.arcs, taken, rtol=0, atol=1e-8)


def test_frames_that_are_next_to_impossible():
    graph = chain([0, 1], [0.5, 0.5])
    for score in (-1e9, -1e30):
        scores = np.array([[0.0, score], [0.0, score], [score, 0.0]])
        found = forward_backward(scores, graph)
        assert found.log_likelihood == pytest.approx(3 * np.log(0.5), rel=1e-12)
        assert found.states.tolist() == [[1, 0], [1, 0], [0, 1]]
    scores = np.tile([0.0, -1e9], (3, 1))  # the last frame is in the second state
    found = forward_backward(scores, graph)
    assert found.log_likelihood == pytest.approx(-1e9, rel=1e-8)
    np.testing.assert_allclose(found.states, [[1, 0], [1, 0], [0, 1]], atol=1e-12)
    with pytest.raises(InfeasibleError, match="no path"):
        forward_backward(np.where(scores < 0, -1e30, 0.0), graph)


def test_states_and_arcs_that_cannot_be(rng):
    graph = chain([0, 1, 2, 3, 1, 0], [0.5] * 6, [False, True, False, False, True, False])
    scores = 100 * rng.standard_normal((60, 4))
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    scores[:, 0] = np.maximum(scores[:, 0], -500.0)
    graph.weights[3] = -np.inf
    total, states, arcs = in_decimals(scores, graph)
    found = forward_backward(scores, graph)
    assert found.log_likelihood == pytest.approx(total, rel=1e-13)
    np.testing.assert_allclose(found.states, states, rtol=0, atol=1e-11)
    np.testing.assert_allclose(found.arcs, arcs, rtol=0, atol=1e-10)


def test_posteriors_and_arcs_add_up(rng):
    graph = chain(rng.integers(0, 5, 12).tolist(), [0.6] * 12)
    found = forward_backward(rng.standard_normal((60, 5)), graph)
    np.testing.assert_allclose(found.states.sum(axis=1), 1, atol=1e-12)
    assert found.arcs.sum() == pytest.approx(59)
    loops = found.arcs[
        [a for j in range(12) for a in range(graph.offsets[j], graph.offsets[j + 1]) if graph.sources[a] == j]
    ]
    np.testing.assert_allclose(loops, found.states.sum(axis=0) - 1, atol=1e-9)  # every state is entered once


def test_optional_states_may_be_left_out():
    graph = chain([0, 1, 2], [0.5] * 3, [False, True, False])
    assert required_frames(graph) == 2
    assert required_frames(chain([0, 1, 2], [0.5] * 3)) == 3
    likely = np.log([[0.9, 0.05, 0.05], [0.05, 0.05, 0.9]])
    assert viterbi(likely, graph)[1].tolist() == [0, 2]
    assert viterbi(np.log([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]]), graph)[1].tolist() == [0, 1, 2]


def test_too_few_frames_are_named():
    graph = chain([0, 1, 2], [0.5] * 3)
    for infer in (forward_backward, viterbi, best_path):
        with pytest.raises(InfeasibleError, match="u7 has 2 frames; the states of its phones need 3"):
            infer(np.zeros((2, 3)), graph, "u7")
        with pytest.raises(InfeasibleError, match="u7: no path through its phones"):
            infer(np.where(np.arange(3) == 1, -np.inf, np.zeros((5, 3))), graph, "u7")
        with pytest.raises(ValueError, match="u7: NaN"):
            infer(np.full((5, 3), np.nan), graph, "u7")
        with pytest.raises(ValueError, match="a column for each density"):
            infer(np.zeros((5, 2)), graph, "u7")


def test_graphs_are_checked():
    with pytest.raises(ValueError, match=r"a graph of 2 states has arcs among 0\.\.2"):
        Graph.of([0, 1], [(0, 2, -1.0)], {0: 0.0}, {1: 0.0})
    with pytest.raises(ValueError, match="at most 0"):
        Graph.of([0, 1], [(0, 1, 0.5)], {0: 0.0}, {1: 0.0})
