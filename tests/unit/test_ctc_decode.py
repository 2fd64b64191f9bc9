import os
import subprocess
import sys
from pathlib import Path

import naive
import numba
import numpy as np
import pytest
import torch

import asr
from asr.ctc import Hypothesis, beam, beam_kernels, beam_search, best_path, ctc_loss


@pytest.fixture
def log_probs(rng):
    """(60, 4, 9): four utterances."""
    return naive.log_softmax(2 * rng.standard_normal((60, 4, 9)))


def sure_of(path, num_classes, prob=0.9):
    """log_probs (T, C) that give one class `prob` in each frame, the others the rest in equal parts."""
    probs = np.full((len(path), num_classes), (1 - prob) / (num_classes - 1))
    probs[np.arange(len(path)), path] = prob
    return np.log(probs)


@pytest.mark.parametrize(
    ("path", "tokens", "timesteps"),
    [
        ([], (), ()),
        ([0, 0, 0], (), ()),
        ([1], (1,), (0,)),
        ([0, 1, 1, 0], (1,), (1,)),
        ([1, 0, 1], (1, 1), (0, 2)),
        ([1, 2, 1], (1, 2, 1), (0, 1, 2)),
        ([0, 3, 0, 0, 2, 2, 1, 0], (3, 2, 1), (1, 4, 6)),
    ],
)
@pytest.mark.parametrize("blank", [0, 3])
def test_best_path_by_hand(path, tokens, timesteps, blank):
    swap = {0: blank, blank: 0}  # classes exchanged: the blank is another number, nothing else changes
    path, tokens = [swap.get(c, c) for c in path], tuple(swap.get(c, c) for c in tokens)
    found = best_path(sure_of(path, 4).reshape(-1, 4), blank=blank)
    assert (found.tokens, found.timesteps) == (tokens, timesteps)
    np.testing.assert_allclose(found.score, len(path) * np.log(0.9), rtol=1e-12, atol=0)
    if path:
        found = beam_search(sure_of(path, 4)[:, None], beam_size=1, blank=blank)[0]
        assert [(h.tokens, h.timesteps) for h in found] == [(tokens, timesteps)]


def test_timesteps_are_where_tokens_peak():
    probs = np.array(
        [[0.2, 0.8, 0.0], [0.1, 0.9, 0.0], [0.3, 0.7, 0.0], [0.8, 0.1, 0.1], [0.1, 0.2, 0.7], [0, 0.1, 0.9]]
    )
    with np.errstate(divide="ignore"):
        values = np.log(probs)
    assert best_path(values).timesteps == (1, 5)
    assert beam_search(values[:, None])[0][0].timesteps == (1, 5)


def test_best_path_of_a_batch(log_probs):
    lengths = np.array([60, 1, 0, 33])
    found = best_path(log_probs, lengths)
    assert found == [best_path(log_probs[:length, b]) for b, length in enumerate(lengths)]
    assert found == best_path(log_probs.copy(order="F"), lengths.astype(np.int32))
    assert best_path(log_probs[:, 3], lengths[3:]) == found[3]
    assert found[2] == Hypothesis((), (), 0.0)
    assert isinstance(found[0].tokens[0], int)


def test_score_of_a_labelling_is_the_loss(rng):
    log_probs = naive.log_softmax(rng.standard_normal((5, 3, 4)))
    for b, hypotheses in enumerate(beam_search(log_probs, beam_size=1000, nbest=50)):
        assert len(hypotheses) == 50
        for h in hypotheses:
            target = torch.tensor([h.tokens], dtype=torch.int64)
            logits = torch.from_numpy(log_probs[:, [b]])
            loss = ctc_loss(logits, target, [5], [len(h.tokens)], reduction="sum").item()
            np.testing.assert_allclose(h.score, -loss, rtol=1e-10, atol=1e-10)


def test_narrow_beams(log_probs):
    """A wider beam adds paths to a labelling, and one prefix is enough where each frame is sure."""
    for b in range(4):
        scores = {}
        for beam_size in (1, 2, 8, 64):
            hypotheses = beam_search(log_probs[:, [b]], beam_size=beam_size, nbest=beam_size)[0]
            assert 1 <= len(hypotheses) <= beam_size
            scores[beam_size] = hypotheses[0].score
        assert scores[64] >= scores[8] >= scores[2] >= scores[1]
    sure = sure_of([0, 4, 4, 0, 4, 2, 2, 0], 5, 0.99)
    assert beam_search(sure[:, None], beam_size=1)[0][0].tokens == best_path(sure).tokens == (4, 4, 2)


def test_nbest_is_the_head_of_the_beam(log_probs):
    whole = beam_search(log_probs, beam_size=10, nbest=10)
    assert [hypotheses[:3] for hypotheses in whole] == beam_search(log_probs, beam_size=10, nbest=3)
    few = beam_search(sure_of([1], 2)[:, None], beam_size=10, nbest=10)[0]
    assert [h.tokens for h in few] == [(1,), ()]


def test_labels_beyond_a_byte():
    """Of any number of classes; decoders elsewhere know single letters only."""
    path = [0, 700, 700, 0, 700, 299]
    log_probs = sure_of(path, 1000)
    assert beam_search(log_probs[:, None])[0][0].tokens == best_path(log_probs).tokens == (700, 700, 299)


def test_probability_zero():
    """No labelling holds an impossible label; where all are impossible there is no hypothesis."""
    probs = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
    with np.errstate(divide="ignore"):
        hypotheses = beam_search(np.log(probs)[:, None], beam_size=9, nbest=9)[0]
    assert {h.tokens: round(np.exp(h.score), 12) for h in hypotheses} == {(1,): 0.75, (): 0.25}
    assert beam_search(np.full((2, 1, 3), -np.inf)) == [[]]
    assert beam_search(np.zeros((0, 2, 3))) == [[Hypothesis((), (), 0.0)]] * 2


def test_long_utterance_does_not_underflow(rng):
    log_probs = naive.log_softmax(5 * rng.standard_normal((3000, 1, 6)))
    best = beam_search(log_probs, beam_size=4)[0][0]
    assert -np.inf < best_path(log_probs)[0].score <= best.score < 0
    assert len(best.tokens) == len(best.timesteps) > 1000


def test_padding_order_layout_and_threads_change_no_bit(log_probs):
    lengths = np.array([60, 17, 0, 33])
    expected = beam_search(log_probs, lengths, beam_size=5, nbest=5)
    order = [2, 0, 3, 1]
    assert beam_search(log_probs[:, order], lengths[order], beam_size=5, nbest=5) == [expected[b] for b in order]
    padded = np.concatenate([log_probs, np.full((5, 4, 9), np.nan)])
    for b, length in enumerate(lengths):
        padded[length:, b] = np.nan
        assert beam_search(log_probs[:length, [b]], beam_size=5, nbest=5)[0] == expected[b]
    assert beam_search(padded, lengths.astype(np.int32), beam_size=5, nbest=5) == expected
    assert beam_search(log_probs.copy(order="F"), lengths, beam_size=5, nbest=5) == expected
    most = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        assert beam_search(log_probs, lengths, beam_size=5, nbest=5) == expected
    finally:
        numba.set_num_threads(most)


def test_float16_and_float32(log_probs):
    for dtype, rtol in ((np.float32, 1e-5), (np.float16, 1e-2)):
        for b, (exact, rounded) in enumerate(
            zip(beam_search(log_probs), beam_search(log_probs.astype(dtype)), strict=True)
        ):
            np.testing.assert_allclose(rounded[0].score, exact[0].score, rtol=rtol)
            path = best_path(log_probs[:, b].astype(dtype))
            np.testing.assert_allclose(path.score, best_path(log_probs[:, b]).score, rtol=rtol)


@pytest.mark.parametrize("decode", [best_path, beam_search])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log_probs": np.zeros(5)}, r"shape \(T, B, C\), not float64 \(5,\)"),
        ({"log_probs": np.zeros((5, 2, 3), int)}, r"must be floating.*int64"),
        ({"input_lengths": np.array([5, 6])}, r"2 integers in 0\.\.5"),
        ({"input_lengths": np.array([-1, 5])}, r"2 integers in 0\.\.5"),
        ({"input_lengths": np.array([5])}, r"2 integers in 0\.\.5"),
        ({"input_lengths": np.array([5.0, 5.0])}, r"2 integers in 0\.\.5"),
        ({"blank": 3}, r"blank 3 is not one of the 3 classes"),
        ({"blank": -1}, r"blank -1 is not one of the 3 classes"),
    ],
)
def test_bad_arguments_are_named(decode, change, message):
    arguments = {"log_probs": np.zeros((5, 2, 3)), "input_lengths": np.array([5, 4])}
    assert len(decode(**arguments)) == 2
    with pytest.raises(ValueError, match=message) as caught:
        decode(**arguments | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("decode", [best_path, beam_search])
def test_nan_is_named(decode, log_probs):
    log_probs[7, 2, 3] = log_probs[50, 1, 0] = np.nan
    decode(log_probs, np.array([60, 50, 7, 60]))  # beyond the lengths: padding
    with pytest.raises(ValueError, match="utterance 2 hold NaN in frame 7"):
        decode(log_probs, np.array([60, 50, 60, 60]))


@pytest.mark.parametrize("decode", [best_path, beam_search])
def test_infinity_is_named(decode, log_probs):
    log_probs[7, 2, 3] = np.inf
    decode(log_probs, np.array([60, 60, 7, 60]))
    with pytest.raises(ValueError, match=r"utterance 2 hold \+inf in frame 7"):
        decode(log_probs)


def test_read_only_posteriors_need_no_kernel_of_their_own(log_probs, monkeypatch):
    """To Numba a read-only array is another type: the user would wait for a second compilation."""
    writeable = []

    def search_batch(values, *args):
        writeable.append(values.flags.writeable)
        beam_kernels.search_batch(values, *args)

    monkeypatch.setattr(beam, "search_batch", search_batch)
    one = log_probs[:, [0]]
    expected = beam_search(one)
    one.flags.writeable = False
    assert beam_search(one) == expected
    assert writeable == [True, True]


@pytest.mark.parametrize(("beam_size", "nbest"), [(0, 1), (4, 5), (4, 0), (-1, -1)])
def test_beam_sizes_are_checked(beam_size, nbest):
    with pytest.raises(ValueError, match=f"1..beam_size, but they are {nbest} and {beam_size}"):
        beam_search(np.zeros((2, 1, 3)), beam_size=beam_size, nbest=nbest)


def run(code, **environment):
    """Run Python in a process of its own, from which the package and the oracles can be imported."""
    folders = [Path(asr.__file__).parents[1], Path(naive.__file__).parent]
    environment["PYTHONPATH"] = os.pathsep.join(map(str, folders))
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr


def test_decoders_run_without_compilation_and_without_torch():
    run(
        """
import sys
import naive, numpy as np
from asr.ctc import beam_search, best_path
log_probs = naive.log_softmax(np.random.default_rng(0).standard_normal((4, 2, 3)))
for b, hypotheses in enumerate(beam_search(log_probs, beam_size=99, nbest=99, blank=1)):
    expected = naive.enumerated_beam(log_probs[:, b], 1)
    assert [h.tokens for h in hypotheses] == [tokens for tokens, _ in expected]
    np.testing.assert_allclose([h.score for h in hypotheses], [score for _, score in expected])
    assert hypotheses[0].timesteps == naive.enumerated_peaks(log_probs[:, b], hypotheses[0].tokens, 1)
    assert best_path(log_probs[:, b], blank=1).tokens == naive.best_path(log_probs[:, b], 1)[0]
assert "torch" not in sys.modules
""",
        NUMBA_DISABLE_JIT="1",
    )
