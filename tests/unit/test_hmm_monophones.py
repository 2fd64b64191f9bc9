import numpy as np
import pytest

from asr import ctc
from asr.errors import AsrError
from asr.hmm.decoding import bigram
from asr.hmm.mixtures import Mixtures
from asr.hmm.monophones import Monophones, Utterance, e_step, m_step, train

LABELS = ("sil", "a", "b")


def speech(rng, num_utterances=40, noise=1.0):
    """Utterances of phones whose three states lie apart in two values, with the true first frame of each phone."""
    centres = rng.uniform(-6, 6, (9, 2))
    spoken, starts = [], []
    for n in range(num_utterances):
        labels = ["sil", *rng.choice(["a", "b"], rng.integers(2, 6)).tolist(), "sil"]
        states = [3 * LABELS.index(label) + s for label in labels for s in range(3)]
        lengths = rng.geometric(0.4, len(states))
        frames = np.repeat(centres[states], lengths, axis=0)
        frames = frames + noise * rng.standard_normal(frames.shape)
        spoken.append(Utterance(f"u{n}", frames, labels))
        starts.append(np.concatenate(([0], np.cumsum(lengths)[2:-1:3])))
    return spoken, starts


def fit(utterances, num_iterations=15, num_gaussians=9, last_split=0):
    models = Monophones.flat_start(LABELS, utterances)
    return list(train(models, utterances, num_iterations, num_gaussians, last_split))


def test_em_never_lowers_the_likelihood(rng):
    history = [iteration.log_likelihood for iteration, _ in fit(speech(rng)[0], 25)]
    assert np.diff(history).min() >= -1e-9
    assert history[-1] > history[0] + 0.5


def test_a_step_away_from_the_estimate_lowers_it(rng):
    """What the test above would find in an M step with a wrong sign."""
    utterances, _ = speech(rng)
    models = fit(utterances, 5)[-1][1]
    better = m_step(models, e_step(models, utterances), np.full(2, 1e-3))
    means = 2 * models.mixtures.means_ - better.mixtures.means_
    worse = Mixtures(better.mixtures.offsets, better.mixtures.weights_, means, better.mixtures.covars_)
    before = e_step(models, utterances).log_likelihood
    assert e_step(better, utterances).log_likelihood > before
    assert e_step(Monophones(LABELS, better.loops, worse), utterances).log_likelihood < before


def test_splits_grow_to_the_number_asked_for_and_then_em_rises_again(rng):
    found = fit(speech(rng, 80)[0], 20, 27, last_split=8)
    assert found[-1][0].num_gaussians > 20
    assert found[-1][0].log_likelihood > found[8][0].log_likelihood
    assert np.diff([iteration.log_likelihood for iteration, _ in found[8:]]).min() >= -1e-3  # Gaussians may be dropped


def test_phones_are_found_from_a_flat_start(rng):
    utterances, starts = speech(rng, 60, noise=0.5)
    models = fit(utterances, 20)[-1][1]
    errors = [models.align(u.features, u.labels) - true for u, true in zip(utterances, starts, strict=True)]
    assert (np.abs(np.concatenate(errors)) <= 1).mean() > 0.9


def test_the_number_of_threads_changes_nothing_but_rounding(rng):
    utterances, _ = speech(rng)
    before = ctc.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            ctc.set_num_threads(threads)
            found.append(e_step(Monophones.flat_start(LABELS, utterances), utterances))
    finally:
        ctc.set_num_threads(before)
    assert found[0].log_likelihood == pytest.approx(found[1].log_likelihood, rel=1e-12)
    np.testing.assert_allclose(found[0].statistics.sums, found[1].statistics.sums, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found[0].stays, found[1].stays, rtol=1e-9)


def test_expected_counts_add_up(rng):
    utterances, _ = speech(rng)
    found = e_step(Monophones.flat_start(LABELS, utterances), utterances)
    assert found.num_frames == sum(len(u.features) for u in utterances)
    assert found.visits.sum() == pytest.approx(found.num_frames)
    assert found.statistics.occupancy.sum() == pytest.approx(found.num_frames, rel=1e-6)
    entered = sum(3 * len(u.labels) for u in utterances)
    assert found.stays.sum() == pytest.approx(found.num_frames - entered)


def test_an_utterance_too_short_is_left_out_with_its_reason(rng):
    utterances, _ = speech(rng, 5)
    short = Utterance("short", rng.standard_normal((5, 2)), ["a", "b"])
    found = e_step(Monophones.flat_start(LABELS, utterances), [*utterances, short])
    assert found.skipped == ["short has 5 frames; the states of its phones need 6"]
    models = Monophones.flat_start(LABELS, [short])
    with pytest.raises(AsrError, match="no utterance to train HMMs on; the first: short has 5 frames"):
        next(train(models, [short], 1, 9, 0))


def test_what_has_no_model_is_named(rng):
    models = Monophones.flat_start(LABELS, speech(rng, 2)[0])
    with pytest.raises(AsrError, match="label 'x' has no HMM: the labels are sil a b"):
        models.graph(["a", "x"])
    with pytest.raises(AsrError, match="without phones"):
        models.graph([])
    with pytest.raises(AsrError, match="no utterance"):
        Monophones.flat_start(LABELS, [])
    with pytest.raises(AsrError, match="feature 1 is the same in all frames"):
        Monophones.flat_start(LABELS, [Utterance("u", np.array([[1.0, 2.0], [3.0, 2.0]]), ["a"])])


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
