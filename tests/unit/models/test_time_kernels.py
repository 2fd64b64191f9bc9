"""Kernels of levels and boundaries, against sums written out and all choices tried."""

import itertools

import numpy as np
import pytest

from asr.models.time_kernels import EMPTY, SPREAD, best_places, mean_squares

pytestmark = pytest.mark.kernels


def high_pass(waveform, period):
    """Each sample less the mean of the period about it."""
    places = np.arange(len(waveform))[:, None] + np.arange(period) - period // 2
    return waveform - waveform[np.clip(places, 0, len(waveform) - 1)].mean(axis=1)


@pytest.mark.parametrize(("num_samples", "first"), [(1, 0), (160, 0), (161, 0), (1000, 400), (1000, 999)])
def test_mean_squares_are_those_of_the_filtered_sound(rng, num_samples, first):
    waveform = (0.3 + rng.standard_normal(num_samples)).astype(np.float32)
    filtered = high_pass(high_pass(waveform.astype(float), 200), 200)
    expected = [
        np.square(filtered[max(start - 80, 0) : start + 240]).mean() for start in range(first, num_samples, 160)
    ]
    np.testing.assert_allclose(mean_squares(waveform, 200, first, 160), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("num_boundaries", [1, 2, 3])
def test_boundaries_are_the_best_of_all(rng, num_boundaries):
    spectra = rng.standard_normal((12, 4))
    sums = np.concatenate([np.zeros((1, 4)), spectra.cumsum(axis=0)])
    squares = np.concatenate([[0.0], np.square(spectra).sum(axis=1).cumsum()])
    expected = np.sort(rng.uniform(1, 11, num_boundaries))
    places = np.clip(np.rint(expected).astype(int)[:, None] + np.arange(-2, 3), 0, 12)

    def cost(chosen):
        edges = itertools.pairwise([0, *chosen, 12])
        segments = [np.square(spectra[a:b] - spectra[a:b].mean(axis=0)).sum() / 4 if a < b else EMPTY for a, b in edges]
        return sum(segments) / 2 + (np.square((chosen - expected) / SPREAD) / 2).sum()

    best = min(itertools.product(*places), key=lambda chosen: cost(np.array(chosen)))
    assert best_places(sums, squares, places, expected).tolist() == list(map(int, best))
