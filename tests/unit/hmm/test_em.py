import itertools

import numpy as np
import pytest

from asr import ctc
from asr.core.errors import AsrError
from asr.hmm.em import (
    EDGE_FRAMES,
    SEARCHES,
    GmmHmm,
    Utterance,
    e_step,
    flat_start,
    gaussians_at,
    iterate,
    m_step,
    moments,
)
from asr.hmm.inference import viterbi
from asr.hmm.mixtures import VARIANCE_FLOOR, Mixtures, Statistics
from asr.hmm.phone_hmms import SILENCE, PhoneHMMs
from asr.hmm.tying import NUM_STATES

LABELS = ("sil", "a", "b")
FLOOR = np.full(2, 1e-3)
HMMS = PhoneHMMs.monophones(LABELS, (0,))


def speech(rng, num_utterances=40, noise=1.0, hmms=HMMS):
    """Utterances of phones whose three states lie apart in two values, with the true first frame of each phone."""
    centres = rng.uniform(-6, 6, (9, 2))
    spoken, starts = [], []
    for n in range(num_utterances):
        labels = ["sil", *rng.choice(["a", "b"], rng.integers(2, 6)).tolist(), "sil"]
        states = [3 * LABELS.index(label) + s for label in labels for s in range(3)]
        lengths = rng.geometric(0.4, len(states))
        frames = np.repeat(centres[states], lengths, axis=0)
        frames = frames + noise * rng.standard_normal(frames.shape)
        said = [label for label in labels if label in hmms.labels]
        spoken.append(Utterance(f"u{n}", frames, hmms.transcript(said)))
        starts.append(np.concatenate(([0], np.cumsum(lengths)[2:-1:3])))
    return spoken, starts


def fit(utterances, num_iterations=15, num_gaussians=9, last_split=0, algorithm="baum_welch"):
    """Each iteration and the model after it, Gaussians growing as `asr.training.gmm` has it."""
    model, found = flat_start(HMMS, utterances), []
    floor = VARIANCE_FLOOR * moments(each.features for each in utterances)[1]
    first = len(model.mixtures.weights_)
    for number in range(1, num_iterations + 1):
        target = gaussians_at(number, first, num_gaussians, last_split)
        done, model = iterate(model, utterances, number, target, algorithm, floor)
        found.append((done, model))
    return found


@pytest.mark.parametrize("hmms", [HMMS, PhoneHMMs.monophones(("a", "b", SILENCE), (2,))])
@pytest.mark.parametrize("algorithm", SEARCHES)
def test_no_step_between_splits_lowers_the_likelihood(rng, algorithm, hmms):
    utterances, _ = speech(rng, 80, hmms=hmms)
    model, stages = flat_start(hmms, utterances), []
    for size in (9, 18, 30):
        rises = []
        for number in range(1, 9):  # the last splits for the next stage
            target = size if number < 8 else {9: 18, 18: 30, 30: 30}[size]
            before = len(model.mixtures.weights_)
            done, model = iterate(model, utterances, number, target, algorithm, FLOOR)
            rises.append(done.log_likelihood)
            assert before == size
        assert np.diff(rises).min() >= -1e-9
        stages.append(rises)
    assert stages[0][-1] > stages[0][0] + 0.5
    assert stages[2][-1] > stages[0][-1]


def test_a_step_away_from_the_estimate_lowers_it(rng):
    """What the test above would find in an M step with a wrong sign."""
    utterances, _ = speech(rng)
    model = fit(utterances, 5)[-1][1]
    before = e_step(model, utterances)
    better = m_step(model, before, FLOOR)
    means = 2 * model.mixtures.means_ - better.mixtures.means_
    worse = Mixtures(better.mixtures.offsets, better.mixtures.weights_, means, better.mixtures.covars_)
    assert e_step(better, utterances).log_likelihood > before.log_likelihood
    assert e_step(GmmHmm(better.hmms, worse), utterances).log_likelihood < before.log_likelihood


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_splits_grow_to_the_number_asked_for_and_end_there(rng, algorithm):
    found = fit(speech(rng, 80)[0], 20, 27, 8, algorithm)
    sizes = [len(model.mixtures.weights_) for _, model in found]
    assert [iteration.num_gaussians for iteration, _ in found] == sizes
    assert sizes[:8] == [9 + 18 * number // 8 for number in range(1, 9)]
    assert max(sizes) == 27
    assert found[-1][0].log_likelihood > found[8][0].log_likelihood
    # Gaussians may be dropped, which may lower the likelihood a little.
    assert np.diff([iteration.log_likelihood for iteration, _ in found[8:]]).min() >= -1e-3


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_phones_are_found_from_a_flat_start(rng, algorithm):
    utterances, starts = speech(rng, 60, noise=0.5)
    model, errors = fit(utterances, 20, algorithm=algorithm)[-1][1], []
    for each, true in zip(utterances, starts, strict=True):
        scores = model.mixtures.log_likelihoods(each.features)
        _, path = viterbi(scores, each.transcript.graph(model.hmms))
        errors.append(each.transcript.segments(path)[1] - true)
    assert (np.abs(np.concatenate(errors)) <= 1).mean() > 0.9


def test_a_flat_start_knows_all_frames_and_the_edges(rng):
    said = HMMS.transcript(["sil", "a"])
    utterances = [Utterance("u", rng.normal(n, 2, (n, 2)), said) for n in (30, 70, 12)]
    model = flat_start(HMMS, utterances)
    frames = np.concatenate([each.features for each in utterances])
    edges = [each.features[rows] for each in utterances for rows in (slice(EDGE_FRAMES), slice(-EDGE_FRAMES, None))]
    for pdf in range(9):
        silent = pdf < NUM_STATES
        of = np.concatenate(edges) if silent else frames
        np.testing.assert_allclose(model.mixtures.means_[pdf], of.mean(axis=0))
        np.testing.assert_allclose(model.mixtures.covars_[pdf], of.var(axis=0))
    assert len(set(model.mixtures.means_[:, 0].tolist())) == 2
    assert model.mixtures.weights_.tolist() == [1] * 9


def test_quiet_edges_have_floored_variances():
    """Digital silence at the edges varies in nothing."""
    frames = np.concatenate((np.zeros((10, 1)), np.linspace(-5, 5, 30)[:, None], np.zeros((10, 1))))
    model = flat_start(HMMS, [Utterance("u", frames, HMMS.transcript(["sil", "a", "sil"]))])
    np.testing.assert_allclose(model.mixtures.covars_[:3], VARIANCE_FLOOR * frames.var())


def test_moments_of_single_precision_are_exact(rng):
    frames = [(1000 + rng.standard_normal((n, 3))).astype(np.float32) for n in (1, 500, 20_000)]
    mean, variance = moments(frames)
    together = np.concatenate(frames).astype(np.float64)
    np.testing.assert_allclose(mean, together.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(variance, together.var(axis=0), rtol=1e-6)


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_the_number_of_threads_changes_nothing_but_rounding(rng, algorithm):
    utterances, _ = speech(rng)
    before = ctc.get_num_threads()
    found = []
    try:
        for threads in (1, 3, 100):
            ctc.set_num_threads(threads)
            found.append(e_step(flat_start(HMMS, utterances), utterances, algorithm))
    finally:
        ctc.set_num_threads(before)
    for other in found[1:]:
        assert found[0].log_likelihood == pytest.approx(other.log_likelihood, rel=1e-12)
        assert found[0].num_frames == other.num_frames
        np.testing.assert_allclose(found[0].statistics.sums, other.statistics.sums, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found[0].transitions, other.transitions, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_expected_counts_add_up(rng, algorithm):
    utterances, _ = speech(rng)
    found = e_step(flat_start(HMMS, utterances), utterances, algorithm)
    num_frames = sum(len(each.features) for each in utterances)
    assert found.num_frames == num_frames
    assert found.transitions.sum() == pytest.approx(num_frames)  # each frame's state is left by one way
    assert found.statistics.occupancy.sum() == pytest.approx(num_frames, rel=1e-6)
    np.testing.assert_allclose(found.statistics.occupancy, found.transitions.sum(axis=1), atol=1e-4)
    said = np.concatenate([each.transcript.phones[each.transcript.states == 0] for each in utterances])
    by_phone = found.transitions.reshape(3, NUM_STATES, NUM_STATES + 1)
    np.testing.assert_allclose(by_phone[:, :, NUM_STATES].sum(axis=1), np.bincount(said))  # each is left once
    for phone, states in enumerate(by_phone):
        came = states[:, :NUM_STATES].sum(axis=0) + np.bincount(said)[phone] * (np.arange(NUM_STATES) == 0)
        np.testing.assert_allclose(came, states.sum(axis=1), rtol=1e-9)
    assert ((found.transitions > 0) <= HMMS.ways()).all()


def test_viterbi_counts_are_those_of_the_best_paths(rng):
    utterances, _ = speech(rng, 8)
    model = fit(utterances, 3, 18, 2)[-1][1]
    found, expected = e_step(model, utterances, "viterbi"), np.zeros((9, NUM_STATES + 1))
    statistics, total = Statistics.empty(model.mixtures), 0.0
    for each in utterances:
        gaussians = model.mixtures.gaussians(each.features)
        scores = model.mixtures.scores(gaussians)
        score, path = viterbi(scores, each.transcript.graph(model.hmms))
        total += score
        phones, states = each.transcript.phones[path], each.transcript.states[path]
        pdfs, instances = NUM_STATES * phones + states, each.transcript.instances[path]
        for t in range(len(path) - 1):
            column = states[t + 1] if instances[t] == instances[t + 1] else NUM_STATES
            expected[pdfs[t], column] += 1
        expected[pdfs[-1], NUM_STATES] += 1
        shares = np.exp(gaussians - np.repeat(scores, np.diff(model.mixtures.offsets), axis=1))
        shares *= np.repeat(np.eye(9)[pdfs], np.diff(model.mixtures.offsets), axis=1)
        statistics += Statistics(shares.sum(axis=0), shares.T @ each.features, shares.T @ each.features**2)
    assert found.log_likelihood == pytest.approx(total)
    assert found.transitions.tolist() == expected.tolist()
    for name in ("occupancy", "sums", "squares"):
        np.testing.assert_allclose(getattr(found.statistics, name), getattr(statistics, name), atol=1e-6)


def test_an_utterance_too_short_is_left_out_with_its_reason(rng):
    utterances, _ = speech(rng, 5)
    short = Utterance("short", rng.standard_normal((5, 2)), HMMS.transcript(["a", "b"]))
    found = e_step(flat_start(HMMS, utterances), [*utterances, short])
    assert found.skipped == ["short has 5 frames; the states of its phones need 6: check that the text is right"]
    assert found.statistics.occupancy.sum() == pytest.approx(sum(len(each.features) for each in utterances), rel=1e-6)
    model = flat_start(HMMS, [short])
    with pytest.raises(AsrError, match="no utterance to train HMMs on; the first: short has 5 frames"):
        iterate(model, [short], 1, 9, "baum_welch", FLOOR)


def test_what_cannot_be_started_from_is_named():
    with pytest.raises(AsrError, match="no utterance"):
        flat_start(HMMS, [])
    still = Utterance("u", np.array([[1.0, 2.0], [3.0, 2.0]]), HMMS.transcript(["a"]))
    with pytest.raises(AsrError, match="feature 1 is the same in all frames"):
        flat_start(HMMS, [still])


def test_gaussians_grow_evenly():
    """By 2.5 in each of four iterations."""
    assert [gaussians_at(number, 10, 20, 4) for number in range(1, 5)] == [12, 15, 17, 20]


def test_no_gaussian_is_split_after_the_last_split(rng):
    utterances, _ = speech(rng, 6)
    found = fit(utterances, 12, 60, 4)
    floor = VARIANCE_FLOOR * moments(each.features for each in utterances)[1]
    for (_, model), (_, after) in itertools.pairwise(found[3:]):
        alone = m_step(model, e_step(model, utterances), floor)
        assert len(after.mixtures.weights_) == len(alone.mixtures.weights_)


def test_known_times_hold_paths(rng):
    """Both phones have the same density, so that the times alone say which frame is whose."""
    frames = rng.standard_normal((12, 2))
    transcript = HMMS.transcript(["a", "b"])
    model = GmmHmm(HMMS, Mixtures.flat(HMMS.tying.num_pdfs, np.zeros(2), np.ones(2)))
    phones = HMMS.tying.owners()[:, 0]
    for change in (4, 9):
        known = np.where(np.arange(12) < change, 1, 2)
        found = e_step(model, [Utterance("u", frames, transcript, known)], "viterbi")
        occupancy = np.bincount(phones, found.statistics.occupancy, minlength=3)
        np.testing.assert_allclose(occupancy, [0, change, 12 - change])
        limit = 0.5 * np.square(frames).sum() + len(frames) * (np.log(2 * np.pi) + np.log(3))
        assert found.log_likelihood > -limit  # what densities and transitions cost, and no frame in another phone
    known = np.where(np.arange(12) < 1, 1, 2)  # too short for the three states of a phone
    found = e_step(model, [Utterance("u", frames, transcript, known)], "viterbi")
    np.testing.assert_allclose(np.bincount(phones, found.statistics.occupancy, minlength=3), [0, 3, 9])
