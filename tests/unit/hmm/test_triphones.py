import numpy as np
import pytest

from asr.hmm.alignment import align_all
from asr.hmm.em import Utterance, e_step, flat_start, iterate, m_step, moments
from asr.hmm.mixtures import VARIANCE_FLOOR
from asr.hmm.phone_hmms import PhoneHMMs
from asr.hmm.triphones import triphones
from asr.hmm.tying import NUM_STATES

LABELS = ("sil", "a", "b", "c", "d")
HMMS = PhoneHMMs.monophones(LABELS, (0,))
SIL, A, B, C, D, EDGE = range(6)
FRONT = (B, C)  # after these, the first state of `a` lies elsewhere


@pytest.fixture(scope="module")
def spoken():
    """Utterances in which the first state of `a` depends on what is before it, and nothing else on anything.

    The two phones that it lies elsewhere after sound alike, so that there is a question that asks for them.
    """
    rng = np.random.default_rng(5)
    centres = rng.uniform(-9, 9, (5, NUM_STATES, 3))
    centres[C] = centres[B] + [2.0, -2.0, 2.0]
    elsewhere = centres[A, 0] + [4.0, -4.0, 4.0]
    utterances = []
    for n in range(150):
        phones = [SIL, *rng.integers(1, 5, 6).tolist(), SIL]
        frames = []
        for left, phone in zip([EDGE, *phones], phones, strict=False):
            for state in range(NUM_STATES):
                moved = phone == A and state == 0 and left in FRONT
                frames += [elsewhere if moved else centres[phone, state]] * rng.integers(1, 4)
        features = np.array(frames) + rng.standard_normal((len(frames), 3))
        utterances.append(Utterance(f"u{n}", features, HMMS.transcript([LABELS[phone] for phone in phones])))
    model = flat_start(HMMS, utterances)
    floor = VARIANCE_FLOOR * moments(each.features for each in utterances)[1]
    for number in range(1, 13):
        _, model = iterate(model, utterances, number, 0, "baum_welch", floor)
    return utterances, model, align_all(model.hmms, model.mixtures, utterances), centres, elsewhere


def test_planted_contexts_are_found_first(spoken):
    utterances, model, alignments, centres, elsewhere = spoken
    found = triphones(model.hmms, utterances, alignments, 16)
    tying = found.hmms.tying
    assert tying.num_pdfs == 16
    sizes = [len(np.unique(tying.pdfs[c, s])) for c, s in np.ndindex(5, NUM_STATES)]
    assert sizes == [1, 1, 1, 2] + [1] * 11
    after = tying.pdfs[A, 0, :, B]
    assert len({int(after[left]) for left in FRONT}) == 1
    assert after[B] not in {int(after[left]) for left in (SIL, A, D)}
    means = found.mixtures.means_
    np.testing.assert_allclose(means[after[B]], elsewhere, atol=0.3)
    np.testing.assert_allclose(means[after[D]], centres[A, 0], atol=0.3)
    np.testing.assert_allclose(means[tying.pdfs[D, 1, 0, 0]], centres[D, 1], atol=0.3)


def test_tied_states_explain_more_and_can_be_trained(spoken):
    utterances, model, alignments, _, _ = spoken
    found = triphones(model.hmms, utterances, alignments, 16)
    retold = [
        Utterance(
            each.id,
            each.features,
            found.hmms.transcript([LABELS[phone] for phone in alignments[each.id].sequence]),
        )
        for each in utterances
    ]
    floor = VARIANCE_FLOOR * moments(each.features for each in utterances)[1]
    before, history = e_step(model, utterances).log_likelihood, []
    for _ in range(4):
        step = e_step(found, retold)
        found = m_step(found, step, floor)
        history.append(step.log_likelihood)
    assert np.diff(history).min() >= -1e-6
    assert history[-1] > before + 500  # the frames of two centres, eight standard deviations apart


def test_as_many_densities_as_states_are_monophones(spoken):
    utterances, model, alignments, _, _ = spoken
    found = triphones(model.hmms, utterances, alignments, 15)
    assert not found.hmms.tying.has_context
    pdfs = np.concatenate([alignments[each.id].pdfs(model.hmms.tying) for each in utterances])
    frames = np.concatenate([each.features for each in utterances])
    floor = VARIANCE_FLOOR * frames.var(axis=0)
    for pdf in range(15):
        mine = found.hmms.tying.pdfs[pdf // 3, pdf % 3, 0, 0]
        np.testing.assert_allclose(found.mixtures.means_[mine], frames[pdfs == pdf].mean(axis=0))
        expected = np.maximum(frames[pdfs == pdf].var(axis=0), floor)
        np.testing.assert_allclose(found.mixtures.covars_[mine], expected)


def test_a_phone_without_frames_sounds_like_everything(spoken):
    utterances, model, alignments, _, _ = spoken
    few = [each for each in utterances if D not in alignments[each.id].sequence]
    found = triphones(model.hmms, few, alignments, 20)
    frames = np.concatenate([each.features for each in few])
    unheard = np.unique(found.hmms.tying.pdfs[D])
    assert len(unheard) == NUM_STATES
    np.testing.assert_allclose(found.mixtures.means_[unheard], np.tile(frames.mean(axis=0), (3, 1)))
    np.testing.assert_allclose(found.mixtures.covars_[unheard], np.tile(frames.var(axis=0), (3, 1)))
