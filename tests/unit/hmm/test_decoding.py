import functools
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from asr.core.errors import AsrError, InfeasibleError
from asr.hmm import decoding_kernels
from asr.hmm.decoding import Path, decode
from asr.hmm.graph import Graph
from asr.hmm.inference import viterbi
from asr.hmm.phone_loop import PhoneLoop, bigram
from asr.hmm.phone_posteriors import phone_posteriors
from asr.hmm.tying import NUM_STATES, Tying

pytestmark = pytest.mark.kernels

SIL = 0


def log(probabilities):
    with np.errstate(divide="ignore"):
        return np.log(probabilities)


class Model:
    """A random model: phone 0 is silence, the others have densities that no tree would make."""

    def __init__(self, rng, num_labels, num_frames, most=3):
        table = np.empty((num_labels, NUM_STATES, num_labels + 1, num_labels + 1), np.int64)
        num_pdfs = 0
        for c, s in np.ndindex(num_labels, NUM_STATES):
            kinds = rng.integers(1 if c == SIL else most, size=table.shape[2:])
            table[c, s] = num_pdfs + np.unique(kinds, return_inverse=True)[1].reshape(kinds.shape)
            num_pdfs = table[c, s].max() + 1
        self.tying = Tying(table)
        steps = np.zeros((num_pdfs, NUM_STATES + 1))
        for p, (c, s) in enumerate(self.tying.owners()):
            if c == SIL:  # goes on to any state, back too, and out of all but the second
                steps[p] = rng.uniform(0.2, 1, NUM_STATES + 1) * (np.arange(NUM_STATES + 1) < (3 if s == 1 else 4))
            else:
                steps[p, [s, s + 1]] = rng.uniform(0.2, 1, 2)
        self.log_transitions = log(steps / steps.sum(axis=1, keepdims=True))
        pairs = rng.uniform(0.1, 1, (num_labels + 1, num_labels + 1))
        pairs[-1, -1] = 0
        self.log_bigram = log(pairs / pairs.sum(axis=1, keepdims=True))
        self.scores = 3 * rng.standard_normal((num_frames, num_pdfs))

    def loop(self, lm_weight=1.0, penalty=0.0):
        return PhoneLoop.of(self.tying, self.log_transitions, self.log_bigram, [SIL], lm_weight, penalty)

    def of(self, phones, lm_weight=1.0, penalty=0.0):
        """What a phone sequence adds to the scores of its segments."""
        edge = self.tying.num_labels
        pairs = itertools.pairwise([edge, *phones, edge])
        return lm_weight * sum(self.log_bigram[pair] for pair in pairs) - penalty * sum(c != SIL for c in phones)

    def segments(self, reduce):
        """The score of frames from `first` up to `last` as a phone between two others, by its recursion."""

        @functools.cache
        def segment(left, c, right, first, last):
            pdfs = self.tying.pdfs[c, :, left, right]
            steps = self.log_transitions[pdfs]
            value = np.array([self.scores[first, pdfs[0]], *[-np.inf] * (NUM_STATES - 1)])
            for t in range(first + 1, last):
                value = reduce(value[:, None] + steps[:, :NUM_STATES], axis=0) + self.scores[t, pdfs]
            return reduce(value + steps[:, NUM_STATES])

        def total(phones, starts):
            padded, bounds = [self.tying.num_labels, *phones, self.tying.num_labels], [*starts, len(self.scores)]
            return sum(segment(*padded[i : i + 3], *bounds[i : i + 2]) for i in range(len(phones)))

        return total

    def paths(self, reduce, lm_weight=1.0, penalty=0.0):
        """Every phone sequence with every first frame of each of its phones, and its score."""
        total, num_frames = self.segments(reduce), len(self.scores)
        for length in range(1, num_frames + 1):
            for phones in itertools.product(range(self.tying.num_labels), repeat=length):
                added = self.of(phones, lm_weight, penalty)
                for rest in itertools.combinations(range(1, num_frames), length - 1):
                    yield phones, (0, *rest), total(phones, (0, *rest)) + added


def labels(path):
    return tuple(c for c in path.phones if c != SIL)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("lm_weight", "penalty"), [(1.0, 0.0), (2.5, 0.7), (0.3, -1.5)])
def test_the_best_paths_are_those_of_all_phone_sequences(seed, lm_weight, penalty):
    model = Model(np.random.default_rng(seed), 2 + seed % 2, 6 + (seed % 2 == 0) + seed % 3)
    best = {}
    for phones, starts, score in model.paths(np.maximum.reduce, lm_weight, penalty):
        path = Path(phones, starts, score)
        if score > -np.inf and (labels(path) not in best or best[labels(path)].score < score):
            best[labels(path)] = path
    expected = sorted(best.values(), key=lambda path: -path.score)
    loop = model.loop(lm_weight, penalty)
    for nbest in (1, 2, 5, 1000):
        found = decode(model.scores, loop, nbest=nbest)
        assert [path.phones for path in found] == [path.phones for path in expected[:nbest]]
        assert [path.starts for path in found] == [path.starts for path in expected[:nbest]]
        np.testing.assert_allclose([path.score for path in found], [path.score for path in expected[:nbest]])


@pytest.mark.parametrize("seed", range(4))
def test_a_path_scores_what_its_phones_score_alone(seed):
    """Viterbi over the graph of the phones that were found, composed here by hand."""
    model = Model(np.random.default_rng(seed), 6, 80)
    for path in decode(model.scores, model.loop(1.7, 0.4), nbest=3):
        padded = [6, *path.phones, 6]
        pdfs = [p for i, c in enumerate(path.phones) for p in model.tying.pdfs[c, :, padded[i], padded[i + 2]]]
        arcs, finals = [], {}
        for state, p in enumerate(pdfs):
            begin = state - state % NUM_STATES
            steps = model.log_transitions[p]
            arcs += [(state, begin + s, steps[s]) for s in range(NUM_STATES) if steps[s] > -np.inf]
            if begin + NUM_STATES < len(pdfs):
                arcs += [(state, begin + NUM_STATES, steps[-1])] * int(steps[-1] > -np.inf)
            elif steps[-1] > -np.inf:
                finals[state] = steps[-1]
        score, states = viterbi(model.scores, Graph.of(pdfs, arcs, {0: 0.0}, finals))
        assert path.score == pytest.approx(score + model.of(path.phones, 1.7, 0.4))
        assert path.starts == tuple(np.searchsorted(states // NUM_STATES, np.arange(len(path.phones))))


def active_nodes(scores, loop, beam):
    """How many nodes are left after each frame by a beam, (T,)."""
    active = np.zeros(len(scores), np.int64)
    decoding_kernels.search_paths(np.asarray(scores, np.float64), loop.network, beam, 1, active)
    return active


@pytest.mark.parametrize("seed", range(4))
def test_the_beam_loses_nothing_when_wide_and_finds_a_true_path_when_narrow(seed):
    model = Model(np.random.default_rng(seed), 6, 50)
    loop = model.loop(2.0, 0.5)
    exact = decode(model.scores, loop, nbest=5)
    assert len({labels(path) for path in exact}) == 5
    assert [path.score for path in exact] == sorted([path.score for path in exact], reverse=True)
    assert decode(model.scores, loop) == exact[:1]
    assert decode(model.scores, loop, beam=1e3, nbest=5) == exact
    few, many = active_nodes(model.scores, loop, 8.0), active_nodes(model.scores, loop, np.inf)
    assert few.sum() < 0.5 * many.sum()
    assert many[-1] == loop.num_nodes  # all can be reached
    total = model.segments(np.maximum.reduce)
    for beam in (1.0, 8.0, 25.0, np.inf):
        for path, better in zip(decode(model.scores, loop, beam=beam, nbest=3), exact, strict=False):
            assert path.score <= better.score + 1e-9
            score = total(path.phones, path.starts) + model.of(path.phones, 2.0, 0.5)
            assert path.score == pytest.approx(score) if beam == np.inf else path.score <= score + 1e-9


def test_a_beam_that_loses_every_path_is_widened(rng):
    """The last frame sounds like the first state of phone 2 alone, which no path may end in."""
    model = Model(rng, 3, 12, most=1)
    model.scores[-1] = -40.0
    model.scores[-1, model.tying.pdfs[2, 0, 0, 0]] = 0.0
    assert active_nodes(model.scores, model.loop(), 5.0)[-1] == 1
    path = decode(model.scores, model.loop(), beam=5.0)[0]
    assert path.score == pytest.approx(decode(model.scores, model.loop())[0].score)


def test_a_bonus_makes_more_phones_and_spares_silence(rng):
    model = Model(rng, 5, 60)
    paths = [decode(model.scores, model.loop(penalty=penalty))[0] for penalty in (-20.0, 0.0, 20.0, 1e3)]
    counts = [len(labels(path)) for path in paths]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[2]
    assert counts[3] == 0
    assert paths[3].score == pytest.approx(decode(model.scores, model.loop(penalty=1e4))[0].score)


def test_threads_and_repeats_change_nothing(rng):
    model = Model(rng, 5, 30)
    loop = model.loop()
    once = [decode(model.scores[t:], loop, 20.0, 4) for t in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda t: decode(model.scores[t:], loop, 20.0, 4), range(8))) == once


def test_monophones_have_a_node_a_state(rng):
    model = Model(rng, 4, 5, most=1)
    assert sorted(model.loop().network.pdfs) == list(range(12))
    np.testing.assert_array_equal(model.tying.pdfs, Tying.monophones(4).pdfs)


def test_contexts_share_the_states_that_sound_and_go_on_alike():
    """Phone 1 asks for neighbour 0: on the left in its first state, on the right in its last; all share the second."""
    table = np.zeros((2, NUM_STATES, 3, 3), np.int64) + np.arange(6).reshape(2, 3, 1, 1)
    table[1, 0, 0, :], table[1, 2, :, 0] = 6, 7
    tying = Tying(table)
    steps = log((np.eye(NUM_STATES, 4) + np.eye(NUM_STATES, 4, 1))[tying.owners()[:, 1]] / 2)
    network = PhoneLoop.of(tying, steps, np.full((3, 3), np.log(1 / 3))).network
    assert sorted(network.pdfs) == list(range(8))
    assert network.exit_phones.tolist() == [0, 1, 1]
    assert network.entries[1, 1] == network.entries[2, 1] != network.entries[0, 1]


@pytest.mark.parametrize("nbest", [1, 3])
def test_what_no_path_fits_is_named(rng, nbest):
    model = Model(rng, 3, 20)
    model.log_transitions[model.tying.pdfs[SIL, 0, 0, 0]] = log(np.array([0.5, 0.5, 0, 0]))
    with pytest.raises(InfeasibleError, match=r"^u7 has 1 frames, and no phone"):
        decode(model.scores[:1], model.loop(), 10.0, nbest, "u7")
    with pytest.raises(InfeasibleError, match=r"^u7 has 0 frames"):
        decode(model.scores[:0], model.loop(), 10.0, nbest, "u7")
    with pytest.raises(InfeasibleError, match=r"^u8 has 20 frames"):
        decode(np.full_like(model.scores, -np.inf), model.loop(), 10.0, nbest, "u8")
    arguments = (model.tying, model.log_transitions, model.log_bigram, 1.0, "u9")
    for num_frames in (0, 1):
        with pytest.raises(InfeasibleError, match=f"^u9 has {num_frames} frames"):
            phone_posteriors(model.scores[:num_frames], *arguments)


def test_arguments_that_do_not_fit_are_refused(rng):
    model = Model(rng, 3, 20)
    loop = model.loop()
    with pytest.raises(ValueError, match=r"u: scores \(20, 3\) do not have"):
        decode(model.scores[:, :3], loop, name="u")
    for wrong in (np.nan, np.inf):
        spoiled = model.scores.copy()
        spoiled[3, 1] = wrong
        with pytest.raises(ValueError, match="u: NaN or"):
            decode(spoiled, loop, name="u")
    for beam, nbest in ((0.0, 1), (np.nan, 1), (9.0, 0)):
        with pytest.raises(ValueError, match="must be above 0"):
            decode(model.scores, loop, beam, nbest)
    with pytest.raises(ValueError, match="do not fit 3 phones"):
        PhoneLoop.of(model.tying, model.log_transitions, model.log_bigram[:-1])
    with pytest.raises(ValueError, match="weight is a number from 0 on"):
        model.loop(lm_weight=-1.0)
    with pytest.raises(ValueError, match="must be above 0: 0"):
        phone_posteriors(model.scores, model.tying, model.log_transitions, model.log_bigram, 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_posteriors_are_the_shares_of_all_paths(seed):
    model = Model(np.random.default_rng(seed), 2 + seed % 2, 6, most=1)
    shares, count = np.zeros((6, model.tying.num_labels)), model.tying.num_labels
    for phones, starts, score in model.paths(np.logaddexp.reduce):
        ends = [*starts[1:], 6]
        for c, first, last in zip(phones, starts, ends, strict=True):
            shares[first:last, c] += np.exp(score)
    found = phone_posteriors(model.scores, model.tying, model.log_transitions, model.log_bigram)
    assert found.shape == (6, count)
    np.testing.assert_allclose(found, shares / shares.sum(axis=1, keepdims=True), rtol=1e-9)


def test_posteriors_of_contexts_are_those_of_the_best_density(rng):
    model = Model(rng, 4, 50)
    owners = model.tying.owners() @ [NUM_STATES, 1]
    best = np.stack([model.scores[:, owners == state].max(axis=1) for state in range(4 * NUM_STATES)], axis=1)
    steps = np.exp(model.log_transitions)[model.tying.pdfs].mean(axis=(2, 3)).reshape(-1, NUM_STATES + 1)
    alone = phone_posteriors(best, Tying.monophones(4), log(steps), model.log_bigram)
    found = phone_posteriors(7 * model.scores, model.tying, model.log_transitions, model.log_bigram, lm_weight=7)
    np.testing.assert_allclose(found, alone, rtol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_posteriors_stand_any_scores(rng, scale):
    model = Model(rng, 10, 400, most=1)
    model.scores[rng.random(model.scores.shape) < 0.2] = -np.inf
    model.scores[7] = -np.inf
    found = phone_posteriors(scale * model.scores, model.tying, model.log_transitions, model.log_bigram)
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_the_loop_recognises_what_was_said(rng):
    """Frames drawn from a known sequence of phones, with a bigram that has seen others of the same kind."""
    labels = ["sil", "a", "b", "c"]
    said = [0, 1, 2, 1, 3, 3, 0]
    states = np.repeat([NUM_STATES * c + s for c in said for s in range(NUM_STATES)], rng.integers(1, 5, 3 * len(said)))
    scores = np.where(np.arange(12) == states[:, None], 0.0, -4.0) + rng.standard_normal((len(states), 12))
    steps = log(np.tile(np.eye(NUM_STATES, 4) + np.eye(NUM_STATES, 4, 1), (4, 1)) / 2)
    log_bigram = bigram(labels, [["sil", "a", "c", "sil"], ["sil", "b", "b", "sil"]])
    path = decode(scores, PhoneLoop.of(Tying.monophones(4), steps, log_bigram, [SIL]), beam=30.0)[0]
    assert path.phones == tuple(said)
    truth = np.flatnonzero(np.diff(states // NUM_STATES, prepend=-1) | (np.diff(states, prepend=0) < 0))
    assert np.abs(np.array(path.starts) - truth).max() <= 1


def test_bigram_by_hand():
    """After a come b, b and a: 3 successors, 2 of them different; new ones have 2 / 5, by their own frequency."""
    found = np.exp(bigram(["a", "b"], [["a", "b"], ["a", "a", "b"]]))
    single = np.array([3 + 1, 2 + 1, 2 + 1]) / 10  # a, b and the end, one more of each
    np.testing.assert_allclose(found[0], (np.array([1, 2, 0]) + 2 * single) / 5)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found[2, 2] == 0


def test_a_phone_never_seen_may_still_come():
    found = bigram(["a", "b", "c"], [["a", "b"]])
    assert np.isfinite(found[:, :3]).all()
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1)


def test_a_bigram_needs_transcripts():
    with pytest.raises(AsrError, match="no transcripts"):
        bigram(["a"], [])
