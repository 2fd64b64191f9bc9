import naive
import numba
import numpy as np
import pytest

from asr.core.errors import InfeasibleError
from asr.ctc import LabelGraph, forced_align, graph_align
from asr.ctc.graph_kernels import layout

pytestmark = pytest.mark.kernels


def visits(found):
    return tuple(zip(found.nodes.tolist(), found.starts.tolist(), found.ends.tolist(), strict=True))


def chain(labels):
    return LabelGraph.of(labels, [(s, s + 1, 0.0) for s in range(len(labels))], [len(labels)])


def random_graph(rng, num_classes):
    """Tokens, arcs in any direction, ends and rests of a graph of two to four labels."""
    num_nodes = int(rng.integers(3, 6))
    tokens = [0, *rng.integers(1, num_classes, num_nodes - 1).tolist()]
    pairs = [(u, v) for u in range(num_nodes) for v in range(1, num_nodes) if rng.random() < 0.5]
    arcs = [(u, v, float(-2 * rng.random())) for u, v in pairs]
    ends = [v for v in range(num_nodes) if rng.random() < 0.5] or [num_nodes - 1]
    rests = np.where(rng.random(num_nodes) < 0.3, -np.inf, -rng.random(num_nodes)).tolist()
    return tokens, arcs, ends, rests


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(40))
def test_the_path_is_the_best_of_all(seed, dtype):
    rng = np.random.default_rng(seed)
    num_frames = int(rng.integers(1, 6))
    log_probs = naive.log_softmax(2 * rng.standard_normal((num_frames, 4))).astype(dtype)
    tokens, arcs, ends, rests = random_graph(rng, 4)
    pairs = [(u, v) for v in range(1, len(tokens)) for u in range(1, v) if tokens[u] == tokens[v]]
    glides = [(u, v, float(-rng.random())) for u, v in pairs if seed % 2]
    expected = naive.enumerated_graph_paths(log_probs.astype(np.float64), tokens, arcs, ends, rests, glides)
    graph = LabelGraph.of(tokens[1:], arcs, ends, rests, glides=glides)
    if not expected:
        with pytest.raises(InfeasibleError, match=f"{num_frames} frames are too few"):
            graph_align(log_probs, graph)
        return
    found = graph_align(log_probs, graph)
    best = max(expected, key=expected.__getitem__)
    np.testing.assert_allclose(found.score, expected[best], rtol=1e-12)
    assert visits(found) == best


@pytest.mark.parametrize(
    ("num_frames", "num_labels"),
    [
        (12, 5),
        (200, 60),
        pytest.param(
            *(9000, 400), marks=pytest.mark.skipif(numba.config.DISABLE_JIT, reason="minutes without compilation")
        ),
    ],
)
def test_a_chain_is_aligned_as_without_a_graph(num_frames, num_labels, rng):
    """To the bit, in several blocks of frames too."""
    log_probs = naive.log_softmax(3 * rng.standard_normal((num_frames, 8)))
    labels = rng.integers(1, 8, num_labels)
    assert (layout(num_frames, num_labels + 1)[1] > 1) == (num_frames == 9000)
    (expected,) = forced_align(log_probs[:, None], labels[None])
    found = graph_align(log_probs, chain(labels.tolist()))
    assert found.nodes.tolist() == list(range(1, num_labels + 1))
    assert found.starts.tolist() == expected.starts.tolist()
    assert found.ends.tolist() == expected.ends.tolist()
    assert found.score == expected.score


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="minutes without compilation")
def test_alternatives_and_parts_left_out_in_several_blocks(rng):
    """The best of a word's pronunciations is that of the alignments of each alone."""
    log_probs = naive.log_softmax(3 * rng.standard_normal((9000, 8)))
    head, tail, words = rng.integers(1, 8, 200).tolist(), rng.integers(1, 8, 200).tolist(), [[1, 2], [3], [2, 5, 1]]
    alone = [forced_align(log_probs[:, None], np.array([[*head, *word, *tail]]))[0] for word in [*words, []]]
    tokens, arcs, lasts = head.copy(), [(s, s + 1, 0.0) for s in range(200)], [200]
    for word in words:
        first = len(tokens) + 1
        tokens += word
        arcs += [(200, first, 0.0), *((s, s + 1, 0.0) for s in range(first, len(tokens)))]
        lasts.append(len(tokens))
    first = len(tokens) + 1
    tokens += tail
    arcs += [(last, first, 0.0) for last in lasts] + [(s, s + 1, 0.0) for s in range(first, len(tokens))]
    graph = LabelGraph.of(tokens, arcs, [len(tokens)])
    assert layout(9000, len(tokens) + 1)[1] > 1
    found, best = graph_align(log_probs, graph), max(alone, key=lambda each: each.score)
    assert found.score == best.score
    assert graph.tokens[found.nodes].tolist() == best.tokens.tolist()
    assert found.starts.tolist() == best.starts.tolist()


def score_of(log_probs, graph_parts, found):
    """The score of the path that an alignment describes."""
    tokens, arcs, rests = graph_parts
    weights = {arc[:2]: max(each[2] for each in arcs if each[:2] == arc[:2]) for arc in arcs}
    total, before, end_before = 0.0, 0, 0
    for node, start, end in [*visits(found), (None, len(log_probs), None)]:
        total += log_probs[end_before:start, tokens[0]].sum() + rests[before] * (start - end_before)
        if node is not None:
            assert start > end_before or tokens[node] != tokens[before]
            total += weights[before, node] + log_probs[start:end, tokens[node]].sum()
            before, end_before = node, end
    return total


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="minutes without compilation")
def test_a_path_with_returns_in_several_blocks_has_its_score(rng):
    """Blocks are computed again for the nodes alone from which the path may come; it may come from later ones too."""
    num_frames, num_nodes = 3500, 1001
    assert layout(num_frames, num_nodes)[1] > 1
    log_probs = naive.log_softmax(2 * rng.standard_normal((num_frames, 6)))
    tokens = [0, *rng.integers(1, 6, num_nodes - 1).tolist()]
    arcs = [(s, s + 1, 0.0) for s in range(num_nodes - 1)]
    sources = rng.integers(1, num_nodes, 300)
    targets = np.clip(sources + rng.integers(-60, 20, 300), 1, num_nodes - 1)
    arcs += [(int(u), int(v), float(-3 * rng.random())) for u, v in zip(sources, targets, strict=True)]
    rests = (-0.1 * rng.random(num_nodes)).tolist()
    found = graph_align(log_probs, LabelGraph.of(tokens[1:], arcs, [num_nodes - 1], rests))
    assert (np.diff(found.nodes) < 0).any()
    assert found.nodes[-1] == num_nodes - 1
    np.testing.assert_allclose(score_of(log_probs, (tokens, arcs, rests), found), found.score, rtol=1e-10)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="minutes without compilation")
def test_a_glide_over_many_nodes_in_several_blocks(rng):
    """Parts that are passed by leave the path that the parts before and behind have without them."""
    log_probs = naive.log_softmax(3 * rng.standard_normal((9000, 8)))
    log_probs = np.concatenate((log_probs, np.full((9000, 1), -100.0)), axis=1)
    head, gone, tail = rng.integers(1, 7, 150).tolist(), [8] * 900, rng.integers(1, 7, 150).tolist()
    (alone,) = forced_align(log_probs[:, None], np.array([[*head, 7, *tail]]))
    tokens = [*head, 7, *gone, 7, *tail]
    arcs = [(s, s + 1, 0.0) for s in range(len(tokens))]
    graph = LabelGraph.of(tokens, arcs, [len(tokens)], glides=[(151, 1052, -2.0)])
    assert layout(9000, len(tokens) + 1)[1] > 1
    found = graph_align(log_probs, graph)
    assert found.nodes.tolist() == [*range(1, 151), *range(1052, 1203)]
    assert (found.starts.tolist(), found.ends.tolist()) == (alone.starts.tolist(), alone.ends.tolist())
    assert found.score == pytest.approx(alone.score - 2.0, abs=1e-6)


def test_of_equal_paths_always_the_same_one():
    log_probs = np.full((6, 3), np.log(1 / 3))
    twins = LabelGraph.of([1, 1, 1], [(0, 1, 0.0), (0, 2, 0.0), (0, 3, 0.0)], [1, 2, 3])
    assert {visits(graph_align(log_probs, twins)) for _ in range(5)} == {((1, 0, 1),)}


def test_without_frames_only_the_empty_sequence():
    none = np.zeros((0, 3))
    assert visits(graph_align(none, LabelGraph.of([1], [(0, 1, 0.0)], [0, 1]))) == ()
    with pytest.raises(InfeasibleError):
        graph_align(none, LabelGraph.of([1], [(0, 1, 0.0)], [1]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], [], [1], None, 0, [(1, 2, 0.0)]), "node 1 to 2, which is no later one of its label"),
        (([1, 1], [], [1], None, 0, [(2, 1, 0.0)]), "node 2 to 1, which is no later one"),
        (([1, 1], [], [1], None, 0, [(1, 2, np.nan)]), "weights"),
        (([1], [], [1], None, 0, [(1, 2, 0.0)]), "outside 0..1"),
        (([1], [(0, 2, 0.0)], [1]), "outside 0..1"),
        (([1], [(0, 1, 0.0)], [2]), "outside 0..1"),
        (([1], [(1, 0, 0.0)], [1]), "leads to node 0"),
        (([0], [(0, 1, 0.0)], [1]), "blank 0 or negative"),
        (([-1], [(0, 1, 0.0)], [1]), "blank 0 or negative"),
        (([1], [(0, 1, np.nan)], [1]), "weights"),
        (([1], [(0, 1, np.inf)], [1]), "weights"),
        (([1], [(0, 1, 0.0)], [1], [0.0]), "weights"),
        (([1], [(0, 1, 0.0)], [1], [0.0, np.nan]), "weights"),
    ],
)
def test_what_is_no_graph_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LabelGraph.of(*arguments)


def test_arguments_that_do_not_fit_are_refused():
    log_probs = np.full((4, 3), np.log(1 / 3))
    with pytest.raises(ValueError, match="3 classes"):
        graph_align(log_probs, chain([3]))
    with pytest.raises(ValueError, match="blank 0"):
        graph_align(log_probs, chain([2]), blank=1)
    log_probs[2, 1] = np.nan
    with pytest.raises(ValueError, match="NaN in frame 2"):
        graph_align(log_probs, chain([2]))
