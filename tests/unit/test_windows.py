"""Long recordings: windows of features whose evidence is joined, pieces whose phones are placed."""

import numpy as np
import pytest

from asr import windows
from asr.ctc import Hypothesis


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
    joined = windows.evidence(network, features, subsampling)
    assert joined.shape == whole.shape
    np.testing.assert_allclose(joined, whole, atol=1e-12)
    for batch in network.batches[1:]:
        assert len(batch) <= windows.BATCH
        assert max(batch) <= max(windows.CORE + 2 * windows.CONTEXT, 2 * windows.CORE)


def spoken(times, num_frames):
    tokens = tuple(1 + i % 7 for i in range(len(times)))
    return list(
        windows.pieces(Hypothesis(tokens, tuple(times), 0.0, tuple(0.1 for _ in times)), num_frames, 0.03)
    ), tokens


@pytest.mark.parametrize("num_frames", [10, 900, 3000, 40000])
def test_pieces_hold_everything_once_and_in_order(num_frames, rng):
    times = np.flatnonzero(rng.random(num_frames) < 0.3).tolist()
    found, tokens = spoken(times, num_frames)
    assert tuple(token for piece, _, _ in found for token in piece.tokens) == tokens
    assert [time + start for piece, start, _ in found for time in piece.timesteps] == times
    assert [start for _, start, _ in found][1:] == [end for _, _, end in found][:-1]
    assert (found[0][1], found[-1][2]) == (0, num_frames)
    for piece, start, end in found:
        assert all(0 <= time < end - start for time in piece.timesteps)
        assert len(piece.confidences) == len(piece.tokens)
        assert end - start <= 1.5 * 1.5 * windows.PIECE / 0.03


def test_pieces_end_in_the_widest_gap():
    times = [*range(0, 640, 4), *range(700, 2000, 4)]
    found, _ = spoken(times, 2000)
    assert found[0][2] == (636 + 700 + 1) // 2


@pytest.mark.parametrize("times", [[], [5], [9000], [5, 9000], list(range(100)), list(range(9000, 9100))])
def test_pieces_of_long_silences(times):
    found, tokens = spoken(times, 10000)
    assert tuple(token for piece, _, _ in found for token in piece.tokens) == tokens
    assert found[-1][2] == 10000
