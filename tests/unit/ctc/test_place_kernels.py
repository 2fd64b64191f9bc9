"""Mean places of labels by plain scaled numbers, beside those that the posteriors of exact sums give."""

import naive
import numpy as np
import pytest

from asr.ctc.place_kernels import place
from asr.models import times

pytestmark = pytest.mark.kernels


@pytest.mark.parametrize("labels", [[1], [2, 2], [1, 3, 3, 2, 1], list(range(1, 9)) * 5])
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_places_are_those_of_the_posteriors(labels, scale, rng):
    log_probs = naive.log_softmax(scale * rng.standard_normal((3 * len(labels) + 2, 9)))
    symbols = np.array([0, *labels])
    starts = np.arange(len(labels)) * 3
    for spans in (np.stack([starts - 2, starts + 4], axis=1), np.tile([0, len(log_probs)], (len(labels), 1))):
        found = np.empty((len(labels), 2))
        assert place(log_probs.astype(np.float32), symbols, spans, found)
        expected = times._unlikely_places(log_probs.astype(np.float32)[:, symbols], spans)
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_what_is_lost_is_seen(rng):
    """A label that must be where it is all but impossible, beside one that is everywhere."""
    log_probs = np.full((300, 3), -800.0)
    log_probs[:, 1] = 0.0
    found, spans = np.empty((2, 2)), np.tile([0, 300], (2, 1))
    assert not place(log_probs, np.array([0, 1, 2]), spans, found)
    log_probs[:] = np.log([0.4, 0.3, 0.3])
    assert place(log_probs, np.array([0, 1, 2]), spans, found)
    assert not place(log_probs, np.array([0, 1, 2]), np.array([[0, 300], [5, 5]]), found)  # no frame to be in
    assert not place(np.full((4, 3), -np.inf), np.array([0, 1, 2]), spans, found)
