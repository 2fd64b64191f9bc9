"""Long recordings: windows of features whose emissions are joined, pieces that are decoded."""

import itertools

import numpy as np
import pytest

from asr.ctc import beam_search, best_path
from asr.recognition import windows


class Counting:
    """A network that averages what it hears within half a second, and notes how much it hears at once."""

    def __init__(self, subsampling):
        self.subsampling, self.batches = subsampling, []

    def __call__(self, utterances):
        self.batches.append([len(each) for each in utterances])
        kernel = np.ones(51) / 51
        return [np.convolve(each[:, 0], kernel, "same")[:: self.subsampling, None] for each in utterances]


@pytest.mark.parametrize("subsampling", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("num_frames", [4800, 4801, 7200, 24001, 50000])
def test_windows_join_to_what_is_heard_whole(num_frames, subsampling, rng):
    features = rng.standard_normal((num_frames, 1))
    network = Counting(subsampling)
    whole = network([features])[0]
    joined = windows.emissions(network, features, subsampling)
    assert joined.shape == whole.shape
    np.testing.assert_allclose(joined, whole, atol=1e-12)
    for batch in network.batches[1:]:
        assert len(batch) <= windows.BATCH
        assert max(batch) <= max(windows.CORE + 2 * windows.CONTEXT, 2 * windows.CORE)


@pytest.mark.parametrize("num_frames", [1, 10, 900, 1001, 3000, 3333, 40000])
@pytest.mark.parametrize("talk", ["speech", "silence", "never blank", "one pause"])
def test_pieces_are_neither_long_nor_short(num_frames, talk, rng):
    log_probs = np.log(rng.dirichlet(np.ones(3), num_frames))
    if talk == "silence":
        log_probs = np.log(np.tile([1.0, 1e-30, 1e-30], (num_frames, 1)))
    if talk == "never blank":
        log_probs[:, 0] = -np.inf
    if talk == "one pause":
        log_probs[num_frames // 2 : num_frames // 2 + 60, 0] = 0.0
    found = windows.cuts(log_probs, 0.03)
    assert (found[0], found[-1]) == (0, num_frames)
    lengths = np.diff(found)
    assert lengths.max() <= 1.5 * windows.PIECE / 0.03 + 1
    if len(lengths) > 1:
        assert lengths.min() >= windows.PIECE / 2 / 0.03 - 1


@pytest.mark.parametrize("num_pauses", [0, 1, 30])
def test_cuts_that_must_be_sure_lie_in_long_blanks_alone(num_pauses, rng):
    log_probs = np.log(rng.dirichlet(np.ones(3), 20000))
    for place in rng.integers(0, 19900, num_pauses):
        log_probs[place : place + 40, 0] = 0.0
        log_probs[place + 60 : place + 70, 0] = 0.0  # too short
    found = windows.cuts(log_probs, 0.03, windows.SILENCE, windows.SURE)
    assert (found[0], found[-1]) == (0, 20000)
    assert 1 + num_pauses // 4 <= len(found) - 1 <= 1 + num_pauses
    assert all(log_probs[cut - 9 : cut + 9, 0].mean() > 1.2 * windows.SURE for cut in found[1:-1])
    if num_pauses:
        assert np.diff(found).min() >= windows.PIECE / 2 / 0.03 - 1


def test_cuts_lie_in_the_longest_pauses():
    log_probs = np.log(np.tile([0.1, 0.9], (3000, 1)))
    pauses = [(500, 505), (800, 840), (1300, 1310), (1490, 1500), (2300, 2340)]
    for start, end in pauses:
        log_probs[start:end, 0] = 0.0
    _, *found, _ = windows.cuts(log_probs, 0.03)
    for place, (start, end) in zip(found, [pauses[1], pauses[2], pauses[4]], strict=True):
        assert start <= place < end


def test_pieces_are_decoded_as_the_whole_is(rng):
    spikes = rng.random(4000) < 0.3
    spikes[(np.arange(4000) % 600) < 15] = False  # a pause
    log_probs = np.log(np.clip(rng.dirichlet(np.ones(6) / 30, 4000), 1e-9, 1))
    log_probs[~spikes] = np.log([1 - 5e-6, *[1e-6] * 5])
    whole, pieces = log_probs[:, None], windows.cuts(log_probs, 0.03)
    assert len(pieces) > 4
    parts = [whole[start:end] for start, end in itertools.pairwise(pieces)]
    assert tuple(token for part in parts for token in best_path(part)[0].tokens) == best_path(whole)[0].tokens
    # A beam of 16 for each piece has more room than one for all; a labelling of pieces is one of the whole.
    assert sum(beam_search(part)[0][0].score for part in parts) >= beam_search(whole)[0][0].score - 1e-3
