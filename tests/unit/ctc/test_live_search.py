"""The beam search of frames as they come: the same labelling, told as soon as it is sure."""

import itertools
import math

import naive
import numpy as np
import pytest

from asr.ctc import LiveSearch, TokenModel, beam_search

pytestmark = pytest.mark.kernels


@pytest.fixture
def token_model(rng):
    """Of 3 states and 6 classes."""
    return TokenModel(rng.standard_normal((3, 6)), rng.integers(0, 3, (3, 6)), rng.standard_normal(3))


def posteriors(rng, num_frames, scale=2.0):
    return naive.log_softmax(scale * rng.standard_normal((num_frames, 6)))


def told(search, log_probs, sizes):
    """Return what is told after how many frames, and at the end: (frames heard, token, frame)."""
    found, start = [], 0
    for size in itertools.cycle(sizes):
        rows = log_probs[start : start + size]
        start += len(rows)
        found += [(start, *each) for each in search.accept(rows)]
        if start == len(log_probs):
            break
    return found + [(math.inf, *each) for each in search.finish()]


@pytest.mark.parametrize("sizes", [[1], [5], [7, 0, 2], [1000]])
@pytest.mark.parametrize("weighted", [True, False])
def test_without_a_lag_the_labelling_is_that_of_the_whole(sizes, weighted, token_model, rng):
    model = token_model if weighted else None
    for scale in (1, 2, 6):
        log_probs = posteriors(rng, 60, scale)
        ((best,),) = beam_search(log_probs[:, None], beam_size=8, token_model=model)
        found = told(LiveSearch(6, math.inf, 8, model), log_probs, sizes)
        assert tuple(token for _, token, _ in found) == best.tokens


@pytest.mark.parametrize("lag", [0, 3, 10])
def test_a_token_is_told_no_later_than_the_lag(lag, token_model, rng):
    log_probs = posteriors(rng, 200)
    found = told(LiveSearch(6, lag, 8, token_model), log_probs, [1])
    frames = [frame for _, _, frame in found]
    assert frames == sorted({*frames})  # one after the other
    for now, _, frame in found:
        assert frame < now
        assert now <= frame + lag + 1 or now == math.inf


@pytest.mark.parametrize("lag", [3, 10])
def test_what_is_told_does_not_depend_on_the_blocks(lag, token_model, rng):
    log_probs = posteriors(rng, 300)
    one, *others = (
        [each[1:] for each in told(LiveSearch(6, lag, 8, token_model), log_probs, sizes)]
        for sizes in ([1], [5], [0, 50, 3], [300])
    )
    assert others == [one] * 3
    assert len(one) > 100


@pytest.mark.parametrize("lag", [20, 400, math.inf])
def test_peaks_are_those_of_the_whole_after_long_silences_too(lag):
    """An unlikely prefix may have come up long before the spike that makes it likely."""
    spikes = {10: 1, 14: 2, 400: 3, 404: 1, 900: 1}
    probs = np.full((1000, 4), [1 - 3e-5, 1e-5, 1e-5, 1e-5])
    for frame, token in spikes.items():
        probs[frame] = 0.02
        probs[frame, token] = 0.94
        probs[frame - 3 : frame - 1, token] = 0.01
    found = told(LiveSearch(4, lag, 8), np.log(probs), [7])
    assert [(frame, token) for _, token, frame in found] == list(spikes.items())


def test_what_was_told_leaves_the_tree():
    rows = np.log(np.full((2, 4), 0.01) + 0.96 * np.eye(4)[[1, 0]])
    search = LiveSearch(4, lag=4)
    assert sum(len(search.accept(rows)) for _ in range(2000)) > 1990
    assert search._num_nodes <= 300


def test_what_is_sure_is_told_at_once_whatever_the_lag():
    path = [0, 0, 1, 0, 0, 2, 2, 0, 3, 0]
    log_probs = np.log(np.full((10, 4), 1e-9) + (1 - 4e-9) * np.eye(4)[path])
    found = told(LiveSearch(4, math.inf, beam_size=1), log_probs, [1])
    assert found == [(3, 1, 2), (6, 2, 5), (9, 3, 8)]


def test_what_is_unclear_waits_for_what_follows_as_long_as_the_lag(rng):
    """1 and 2 sound alike, but 3 follows 1 and 4 follows 2: two frames later, as there is a blank between."""
    scores = np.full((3, 5), -9.0)
    scores[0, 1:3] = scores[1, 3] = scores[2, 4] = 0
    model = TokenModel(scores, np.array([[0, 1, 2, 0, 0]] * 3), np.zeros(3))
    said = rng.integers(0, 2, 50)
    probs = np.full((200, 5), 0.001)
    probs[1::2, 0] = 1
    probs[::4, 1:3] = 0.499, 0.5
    probs[2::4][np.arange(50), 3 + said] = 1
    log_probs = np.log(probs / probs.sum(axis=1, keepdims=True))
    expected = np.stack([1 + said, 3 + said], axis=1).ravel().tolist()
    for lag in (0, 1, 2, 5):
        tokens = [token for _, token, _ in told(LiveSearch(5, lag, 8, model), log_probs, [1])]
        assert (tokens == expected) == (lag >= 2)


def test_after_a_long_silence_a_token_is_told_as_at_the_start():
    """A prefix with it, hardly likely, may have been in the beam all the time; nothing grows meanwhile."""
    silence = np.log([0.94, 0.02, 0.02, 0.02])
    spike = np.log([[0.02, 0.94, 0.02, 0.02]])
    search = LiveSearch(4, lag=4)
    for _ in range(2000):
        assert search.accept(silence[None]) == []
    assert search._num_nodes <= 200
    assert len(search._rows) <= 400
    heard = [search.accept(each) for each in [spike, *[silence[None]] * 900, spike, *[silence[None]] * 6]]
    assert [token for part in heard for token in part] == [(1, 2000), (1, 2901)]
    assert search.finish() == search.finish() == []


def test_an_end_that_the_model_forbids_has_no_labelling():
    model = TokenModel(np.zeros((1, 3)), np.zeros((1, 3), int), np.array([-np.inf]))
    search = LiveSearch(3, token_model=model)
    search.accept(np.log([[0.1, 0.8, 0.1]]))
    assert search.finish() == []


def test_a_frame_that_allows_nothing_ends_the_search():
    search = LiveSearch(3)
    assert search.accept(np.log([[0.1, 0.9, 1e-9]])) == []
    assert search.accept(np.full((2, 3), -np.inf)) == search.accept(np.log([[0.1, 0.9, 1e-9]])) == search.finish() == []


@pytest.mark.parametrize(
    "options", [{"lag": -1}, {"beam_size": 0}, {"blank": 4}, {"token_model": TokenModel(*np.zeros((3, 1, 3)))}]
)
def test_what_does_not_fit_is_refused(options):
    with pytest.raises(ValueError, match=r"fit|token model"):
        LiveSearch(4, **options)


@pytest.mark.parametrize("rows", [np.zeros((2, 3)), np.zeros(4), np.full((1, 4), np.nan), np.ones((1, 4))])
def test_frames_that_do_not_fit_are_refused(rows):
    with pytest.raises(ValueError, match=r"log_probs|NaN|above 0"):
        LiveSearch(4).accept(rows)
