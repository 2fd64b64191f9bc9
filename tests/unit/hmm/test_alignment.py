import logging
from dataclasses import replace

import numpy as np
import pytest

from asr.core.errors import CorpusError
from asr.hmm.alignment import StateAlignment, align_all
from asr.hmm.em import Utterance
from asr.hmm.inference import viterbi
from asr.hmm.mixtures import Mixtures
from asr.hmm.phone_hmms import SILENCE, PhoneHMMs
from asr.hmm.transforms import Transform
from asr.hmm.tying import NUM_STATES, Tying

LABELS = ("a", "b", SILENCE)
HMMS = PhoneHMMs.monophones(LABELS, (2,))
A, B, SIL, EDGE = 0, 1, 2, 3


def mixtures(num_pdfs=9):
    """Density p has its mean at 10 p."""
    return Mixtures(np.arange(num_pdfs + 1), np.ones(num_pdfs), 10.0 * np.arange(num_pdfs)[:, None], np.ones((9, 1)))


def utterance(name, labels, pdfs, word_lengths=()):
    return Utterance(name, 10.0 * np.array(pdfs, np.float64)[:, None], HMMS.transcript(labels, word_lengths))


SPOKEN = utterance("u1", ["a", "b", "b"], [6, 8, 0, 0, 1, 2, 6, 7, 8, 3, 4, 4, 5, 3, 4, 5], [1, 2])


def test_an_alignment_by_hand():
    found = align_all(HMMS, mixtures(), [SPOKEN])["u1"]
    assert found.sequence.tolist() == [SIL, A, SIL, B, B]
    assert found.phones.tolist() == [SIL] * 2 + [A] * 4 + [SIL] * 3 + [B] * 7
    assert found.states.tolist() == [0, 2, 0, 0, 1, 2, 0, 1, 2, 0, 1, 1, 2, 0, 1, 2]
    assert found.lefts.tolist() == [EDGE] * 2 + [SIL] * 4 + [A] * 3 + [SIL] * 4 + [B] * 3
    assert found.rights.tolist() == [A] * 2 + [SIL] * 4 + [B] * 3 + [B] * 4 + [EDGE] * 3
    assert found.pdfs(HMMS.tying).tolist() == [6, 8, 0, 0, 1, 2, 6, 7, 8, 3, 4, 4, 5, 3, 4, 5]


def test_densities_of_contexts_are_looked_up_by_the_neighbours():
    table = HMMS.tying.pdfs.copy()
    table[B, 0, B, EDGE] = 9
    found = align_all(HMMS, mixtures(), [SPOKEN])["u1"].pdfs(Tying(table))
    assert found.tolist() == [6, 8, 0, 0, 1, 2, 6, 7, 8, 3, 4, 4, 5, 9, 4, 5]


def test_models_with_contexts_align_by_the_densities_of_the_graph(rng):
    """What an alignment says of neighbours gives the densities that its path went through."""
    table = rng.integers(0, 3, (3, NUM_STATES, 4, 4))
    table[SIL] = 0
    offset = 0
    for phone, state in np.ndindex(3, NUM_STATES):
        kinds = np.unique(table[phone, state], return_inverse=True)[1].reshape(4, 4)
        table[phone, state] = offset + kinds
        offset = table[phone, state].max() + 1
    hmms = PhoneHMMs.of(LABELS, (SIL,), Tying(table))
    said = hmms.transcript(["a", "b", "a", "a"], [1, 2, 1])
    many = Mixtures.flat(hmms.tying.num_pdfs, np.zeros(2), np.ones(2))
    many.means_[:] = 3 * rng.standard_normal(many.means_.shape)
    for _ in range(10):
        frames = 3 * rng.standard_normal((40, 2))
        found = align_all(hmms, many, [Utterance("u", frames, said)])["u"]
        graph = said.graph(hmms)
        _, path = viterbi(many.log_likelihoods(frames), graph)
        assert found.pdfs(hmms.tying).tolist() == graph.pdfs[path].tolist()
        spoken = [phone for phone in found.sequence.tolist() if phone != SIL]
        assert spoken == [A, B, A, A]


def test_an_utterance_too_short_is_named_and_left_out(caplog):
    short = utterance("short", ["a", "b"], [0, 1, 2, 3, 4])
    with caplog.at_level(logging.WARNING):
        found = align_all(HMMS, mixtures(), [short, SPOKEN])
    assert list(found) == ["u1"]
    (message,) = caplog.messages
    assert message.startswith("skipped short has 5 frames; the states of its phones need 6: check")
    with pytest.raises(CorpusError, match="no utterance could be aligned"):
        align_all(HMMS, mixtures(), [short])


def test_a_transform_is_applied_to_what_has_not_been_through_it():
    halved = replace(SPOKEN, features=SPOKEN.features / 2)
    twice = Transform(0, 1, np.array([[2.0]]), np.zeros(1))
    assert align_all(HMMS, mixtures(), [halved], twice)["u1"].sequence.tolist() == [SIL, A, SIL, B, B]


def test_paths_are_read_state_by_state():
    transcript = HMMS.transcript(["a"])
    states = {(int(p), int(s)): j for j, (p, s) in enumerate(zip(transcript.phones, transcript.states, strict=True))}
    found = StateAlignment.of(np.array([states[A, s] for s in (0, 1, 1, 2)]), transcript, EDGE)
    assert (found.lefts.tolist(), found.rights.tolist()) == ([EDGE] * 4, [EDGE] * 4)
    assert found.sequence.tolist() == [A]
