import naive
import numpy as np
import pytest
import torch

from asr import ctc
from asr.ctc import Hypothesis, TokenModel, beam_kernels, beam_search, best_path, ctc_loss, forced_align

pytestmark = pytest.mark.kernels


@pytest.fixture
def log_probs(rng):
    """(60, 4, 9): four utterances."""
    return naive.log_softmax(2 * rng.standard_normal((60, 4, 9)))


@pytest.fixture
def token_model(rng):
    """Of 3 states and 9 classes."""
    return TokenModel(rng.standard_normal((3, 9)), rng.integers(0, 3, (3, 9)), rng.standard_normal(3))


@pytest.fixture
def set_num_threads():
    most = ctc.get_num_threads()
    yield ctc.set_num_threads
    ctc.set_num_threads(most)


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
    np.testing.assert_allclose(found.confidences, [0.9] * len(tokens), rtol=1e-12)
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
    assert found[2] == Hypothesis((), (), 0.0, ())


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


@pytest.mark.parametrize("num_classes", [300, 70_000])
def test_labels_are_integers_of_any_number(num_classes):
    """Decoders that spell labels in letters know single ones only (SeanNaren/deepspeech.pytorch#335)."""
    last = num_classes - 1
    log_probs = sure_of([0, last, last, 0, last, 299], num_classes)
    tokens = (last, last, 299) if last != 299 else (299, 299)
    found = beam_search(log_probs[:, None], beam_size=8, nbest=8)[0]
    assert found[0].tokens == best_path(log_probs).tokens == tokens
    for hypothesis in [*found, best_path(log_probs)]:
        kinds = {type(value) for value in (*hypothesis.tokens, *hypothesis.timesteps)}
        assert kinds <= {int}
        assert {type(value) for value in (hypothesis.score, *hypothesis.confidences)} == {float}


@pytest.mark.parametrize("blank", [0, 5])
def test_timesteps_belong_to_their_tokens(log_probs, blank):
    """Elsewhere a prefix has one time for all who share it, so times fall and repeat (parlance/ctcdecode#148)."""
    for b, hypotheses in enumerate(beam_search(log_probs, beam_size=20, nbest=20, blank=blank)):
        assert len(hypotheses) == 20
        for h in hypotheses:
            (aligned,) = forced_align(log_probs[:, [b]], np.array([h.tokens]), blank=blank)
            assert len(aligned.starts) == len(h.timesteps) > 20
            for token, start, end, t in zip(h.tokens, aligned.starts, aligned.ends, h.timesteps, strict=True):
                assert t == start + log_probs[start:end, b, token].argmax()
            assert list(h.timesteps) == sorted(set(h.timesteps))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_token_has_a_confidence(log_probs, dtype):
    """The network's posterior in the frame of the timestep, which others do not give (kensho/pyctcdecode#57)."""
    log_probs = log_probs.astype(dtype)
    for b, hypotheses in enumerate(beam_search(log_probs, nbest=3)):
        for h in [*hypotheses, best_path(log_probs[:, b])]:
            expected = np.exp(log_probs[list(h.timesteps), b, list(h.tokens)].astype(np.float64))
            np.testing.assert_allclose(h.confidences, expected, rtol=1e-12)
            assert len(h.confidences) > 0
            assert all(0 < confidence <= 1 for confidence in h.confidences)


def test_probability_zero():
    """No labelling holds an impossible label; where all are impossible there is no hypothesis."""
    probs = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
    with np.errstate(divide="ignore"):
        hypotheses = beam_search(np.log(probs)[:, None], beam_size=9, nbest=9)[0]
    assert {h.tokens: round(np.exp(h.score), 12) for h in hypotheses} == {(1,): 0.75, (): 0.25}
    assert beam_search(np.full((2, 1, 3), -np.inf)) == [[]]
    assert beam_search(np.zeros((0, 2, 3))) == [[Hypothesis((), (), 0.0, ())]] * 2


def test_impossible_frame_in_the_middle():
    log_probs = sure_of([1, 2, 1, 0], 3)
    log_probs[2] = -np.inf
    whole, short = beam_search(np.stack([log_probs, log_probs], 1), np.array([4, 2]))
    assert whole == []
    assert short[0].tokens == (1, 2)


@pytest.mark.parametrize("blank", [0, 2])
def test_prefix_search_of_sure_posteriors(rng, blank):
    """Graves's search reaches lengths that no enumeration does where the network is sure, as a trained one is."""
    logits = rng.standard_normal((25, 5))
    logits[np.arange(25), rng.integers(0, 5, 25)] += 4
    log_probs = naive.log_softmax(logits)
    tokens, score = naive.prefix_search(log_probs, blank)
    best = beam_search(log_probs[:, None], beam_size=500, blank=blank)[0][0]
    assert best.tokens == tokens
    assert len(tokens) > 10
    assert score - 0.01 < best.score <= score + 1e-9  # the beam leaves out unlikely paths


def test_best_labelling_need_not_be_the_best_path():
    log_probs = np.log(np.array([[0.6, 0.4], [0.6, 0.4]]))
    assert best_path(log_probs).tokens == ()
    assert beam_search(log_probs[:, None])[0][0].tokens == naive.prefix_search(log_probs)[0] == (1,)


def test_prefix_that_left_the_beam_comes_back_as_it_was(rng):
    """While a longer prefix stayed: a second copy of it would be given the longer one a second time."""
    came_back = 0
    for _ in range(20):
        log_probs = naive.log_softmax(2 * rng.standard_normal((20, 3)))
        seen, before = set(), set()
        for t in range(1, 21):
            found = beam_search(log_probs[:t, None], beam_size=6, nbest=6)[0]
            expected = naive.pruned_beam(log_probs[:t], 6)
            assert [h.tokens for h in found] == [tokens for tokens, _ in expected]
            np.testing.assert_allclose([h.score for h in found], [score for _, score in expected], rtol=1e-9)
            beam = {h.tokens for h in found}
            for prefix in (beam - before) & seen:
                came_back += any(longer[: len(prefix)] == prefix for longer in beam & before)
            seen, before = seen | beam, beam
    assert came_back > 0


def test_token_model_by_hand():
    """Labels 1 and 2 in turn, 1 first; what is forbidden is not found, and what is favoured wins."""
    never = -np.inf
    model = TokenModel(
        scores=[[0.0, -0.5, never], [0.0, never, 0.25]], next_states=[[0, 1, 0], [0, 0, 0]], finals=[0.0, -2.0]
    )
    log_probs = np.log(np.full((2, 1, 3), 1 / 3))
    found = beam_search(log_probs, beam_size=9, nbest=9, token_model=model)[0]
    weights = {(): np.log(1 / 9), (1,): np.log(3 / 9) - 0.5 - 2.0, (1, 2): np.log(1 / 9) - 0.5 + 0.25}
    assert [h.tokens for h in found] == sorted(weights, key=lambda tokens: -weights[tokens])
    for hypothesis in found:
        np.testing.assert_allclose(hypothesis.score, weights[hypothesis.tokens], rtol=1e-12)
    np.testing.assert_allclose(found[1].confidences, [1 / 3, 1 / 3], rtol=1e-12)  # the network's, not the model's


def test_finals_are_for_the_last_beam_only(log_probs, token_model):
    """They can turn its order, and forbid: not choose who stays in the beam before."""
    without = token_model._replace(finals=np.zeros(3))
    for b in range(4):
        plain = beam_search(log_probs[:, [b]], beam_size=9, nbest=9, token_model=without)[0]
        found = beam_search(log_probs[:, [b]], beam_size=9, nbest=9, token_model=token_model)[0]
        finals = {h.tokens: token_model.finals[naive.walk(token_model, h.tokens)[0]] for h in plain}
        expected = sorted(plain, key=lambda h: -(h.score + finals[h.tokens]))
        assert [h.tokens for h in found] == [h.tokens for h in expected]
    forbidding = token_model._replace(finals=np.full(3, -np.inf))
    assert beam_search(log_probs, token_model=forbidding) == [[], [], [], []]


def test_token_model_of_any_arrays(log_probs, token_model):
    expected = beam_search(log_probs, nbest=3, token_model=token_model)
    read_only = TokenModel(*(np.asfortranarray(array) for array in token_model))
    for array in read_only:
        array.flags.writeable = False
    lists = TokenModel(*(array.tolist() for array in token_model))
    small = token_model._replace(next_states=token_model.next_states.astype(np.uint8))
    for model in (read_only, lists, small):
        assert beam_search(log_probs, nbest=3, token_model=model) == expected
    whole = TokenModel(*(np.round(array).astype(int) for array in token_model))
    floats = whole._replace(scores=whole.scores.astype(float), finals=whole.finals.astype(float))
    assert beam_search(log_probs, token_model=whole) == beam_search(log_probs, token_model=floats)


def test_neutral_values_change_no_bit(log_probs, rng):
    expected = beam_search(log_probs, beam_size=7, nbest=7)
    zeros = TokenModel(np.zeros((3, 9)), rng.integers(0, 3, (3, 9)), np.zeros(3))
    for neutral in (
        {"beam_threshold": np.inf},
        {"beam_threshold": 1e6},
        {"token_threshold": 0},
        {"token_threshold": 1e-300},
        {"token_model": zeros},
        {"beam_threshold": np.inf, "token_threshold": 0.0, "token_model": zeros},
    ):
        assert beam_search(log_probs, beam_size=7, nbest=7, **neutral) == expected


def test_beam_threshold(log_probs):
    """The closer the prefixes must be to the best, the fewer are left; 0 leaves the best alone."""
    counts = []
    for threshold in (np.inf, 4.0, 1.0, 0.0):
        found = beam_search(log_probs, beam_size=50, nbest=50, beam_threshold=threshold)
        counts.append([len(hypotheses) for hypotheses in found])
        for hypotheses in found:
            assert hypotheses[0].score - hypotheses[-1].score <= threshold
    assert counts[0] == [50] * 4
    assert counts[-1] == [1] * 4
    assert (np.diff(counts, axis=0) <= 0).all()
    assert found == beam_search(log_probs, beam_size=1)


@pytest.mark.parametrize(
    ("probs", "threshold", "expected"),
    [
        ([[0.6, 0.4], [0.6, 0.4]], 0.3, {(1,): 0.64, (): 0.36}),
        ([[0.6, 0.4], [0.6, 0.4]], 0.5, {(): 0.36}),
        ([[0.2, 0.8], [0.7, 0.3]], 0.5, {(1,): 0.8, (): 0.14}),  # 1-1 and 1-blank, not blank-1
        ([[0.2, 0.8], [0.7, 0.3], [0.4, 0.6]], 0.5, {(1,): 0.464 + 0.084, (1, 1): 0.336, (): 0.056}),
        ([[0.0, 1.0]], 1, {(1,): 1.0}),
        ([[0.9, 0.1]], 1, {(): 0.9}),  # the blank is never forbidden
    ],
)
def test_token_threshold_by_hand(probs, threshold, expected):
    """A token below it begins nowhere, but one that has begun goes on."""
    with np.errstate(divide="ignore"):
        log_probs = np.log(probs)[:, None]
    found = beam_search(log_probs, beam_size=9, nbest=9, token_threshold=threshold)[0]
    assert {h.tokens for h in found} == set(expected)
    for hypothesis in found:
        np.testing.assert_allclose(np.exp(hypothesis.score), expected[hypothesis.tokens], rtol=1e-12)


def test_long_utterance_does_not_underflow(rng):
    log_probs = naive.log_softmax(5 * rng.standard_normal((3000, 1, 6)))
    best = beam_search(log_probs, beam_size=4)[0][0]
    assert -np.inf < best_path(log_probs)[0].score <= best.score < 0
    assert len(best.tokens) == len(best.timesteps) > 1000


def test_padding_order_and_threads_change_no_bit(log_probs, set_num_threads):
    lengths = np.array([60, 17, 0, 33])
    expected = beam_search(log_probs, lengths, beam_size=5, nbest=5)
    order = [2, 0, 3, 1]
    assert beam_search(log_probs[:, order], lengths[order], beam_size=5, nbest=5) == [expected[b] for b in order]
    padded = np.concatenate([log_probs, np.full((5, 4, 9), np.nan)])
    for b, length in enumerate(lengths):
        padded[length:, b] = np.nan
        assert beam_search(log_probs[:length, [b]], beam_size=5, nbest=5)[0] == expected[b]
    assert beam_search(padded, lengths.astype(np.int32), beam_size=5, nbest=5) == expected
    for threads in (1, 2, 3, 7):
        set_num_threads(threads)
        assert ctc.get_num_threads() == threads
        assert beam_search(log_probs, lengths, beam_size=5, nbest=5) == expected


@pytest.mark.parametrize("decode", [best_path, beam_search])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_layout_changes_no_bit(decode, dtype, log_probs):
    log_probs = log_probs.astype(dtype)
    lengths = np.array([60, 17, 0, 33])
    expected = decode(log_probs, lengths)
    assert decode(log_probs.astype(np.float64), lengths) == expected
    batch_first = np.ascontiguousarray(log_probs.transpose(1, 0, 2)).transpose(1, 0, 2)
    every_other = np.repeat(log_probs, 2, axis=0)[::2]
    backwards = np.ascontiguousarray(log_probs[::-1, :, ::-1])[::-1, :, ::-1]
    read_only = log_probs.copy()
    read_only.flags.writeable = False
    swapped = log_probs.astype(log_probs.dtype.newbyteorder())
    for values in (log_probs.copy(order="F"), batch_first, every_other, backwards, read_only, swapped):
        assert decode(values, lengths) == expected
    for kind in (np.int8, np.uint16, np.int32, np.uint64):
        assert decode(log_probs, lengths.astype(kind)) == expected


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
        ({"input_lengths": np.array([5, 6])}, r"input_lengths\[1\] is 6, which is not in 0\.\.5"),
        ({"input_lengths": np.array([-1, 5])}, r"input_lengths\[0\] is -1, which is not in 0\.\.5"),
        ({"input_lengths": np.array([5])}, r"must be 2 integers, not int64 of shape \(1,\)"),
        ({"input_lengths": np.array([5.0, 5.0])}, r"must be 2 integers, not float64 of shape \(2,\)"),
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
    kernel, writeable = beam_kernels.search, []

    def search(values, *args):
        writeable.append(values.flags.writeable)
        return kernel(values, *args)

    monkeypatch.setattr(beam_kernels, "search", search)
    one = log_probs[:, [0]]
    expected = beam_search(one)
    one.flags.writeable = False
    assert beam_search(one) == expected
    assert writeable == [True, True]


@pytest.mark.parametrize(("num_frames", "beam_size"), [(1, 1), (40, 8), (40, 64)])
def test_memory_is_bounded_by_beam_and_frames(num_frames, beam_size, rng):
    """Flat posteriors, where most of each frame's beam is new: nothing is written beyond the workspace."""
    log_probs = naive.log_softmax(0.1 * rng.standard_normal((num_frames, 1, 50)))
    size = beam_kernels.workspace_size(num_frames, beam_size)
    assert size <= 3.5 * (1 + num_frames * beam_size) + 1
    guarded = np.full(size + 1000, np.pi)
    found = np.full((1, num_frames), -1, np.int64), np.zeros((1, num_frames, 2), np.int32), np.full(1, -np.inf)
    limits = beam_kernels.Limits(0, beam_size, np.inf, -np.inf)
    scorer = TokenModel(np.zeros((1, 50)), np.zeros((1, 50), np.int64), np.zeros(1)), np.zeros(1)
    beam = beam_kernels.begin(50, beam_size, guarded[:size])
    reached = beam_kernels.search(log_probs[:, 0], (0, 1, 1), limits, scorer, beam, found)
    assert reached[0] == num_frames
    assert (guarded[size:] == np.pi).all()
    assert found[2][0] == beam_search(log_probs, beam_size=beam_size)[0][0].score


@pytest.mark.parametrize(("beam_size", "nbest"), [(0, 1), (4, 5), (4, 0), (-1, -1)])
def test_beam_sizes_are_checked(beam_size, nbest):
    with pytest.raises(ValueError, match=f"1..beam_size, but they are {nbest} and {beam_size}"):
        beam_search(np.zeros((2, 1, 3)), beam_size=beam_size, nbest=nbest)


@pytest.mark.parametrize(
    "thresholds",
    [
        {"beam_threshold": -0.1},
        {"beam_threshold": np.nan},
        {"token_threshold": -0.1},
        {"token_threshold": 1.1},
        {"token_threshold": np.nan},
    ],
)
def test_thresholds_are_checked(thresholds):
    (value,) = thresholds.values()
    with pytest.raises(ValueError, match=f"beam_threshold must be .* token_threshold a probability.*{value}"):
        beam_search(np.zeros((2, 1, 3)), **thresholds)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"scores": np.zeros((2, 2))},
            r"for 3 classes .* \(Q, 3\) and finals \(Q,\), not \(2, 2\), \(2, 3\) and \(2,\)",
        ),
        ({"scores": np.zeros(3)}, r"not \(3,\), \(2, 3\) and \(2,\)"),
        ({"next_states": np.zeros((3, 3), int)}, r"not \(2, 3\), \(3, 3\) and \(2,\)"),
        ({"finals": np.zeros((2, 1))}, r"not \(2, 3\), \(2, 3\) and \(2, 1\)"),
        ({"finals": 0.0}, r"not \(2, 3\), \(2, 3\) and \(\)"),
        ({"finals": np.zeros(1)}, r"not \(2, 3\), \(2, 3\) and \(1,\)"),
        ({"scores": np.zeros((0, 3)), "next_states": np.zeros((0, 3)), "finals": np.zeros(0)}, r"not \(0, 3\)"),
        ({"next_states": [[0, 0, 0], [0, 2, 0]]}, r"next_states of a token model must lie in 0\.\.1"),
        ({"next_states": [[0, np.nan, 0], [0, 0, 0]]}, r"next_states of a token model must lie in 0\.\.1"),
        ({"next_states": [[0, -1, 0], [0, 0, 0]]}, r"next_states of a token model must lie in 0\.\.1"),
        ({"scores": [[0, 0, 0], [0, np.nan, 0]]}, r"must not be NaN or \+inf"),
        ({"scores": [[0, 0, 0], [0, np.inf, 0]]}, r"must not be NaN or \+inf"),
        ({"finals": [0, np.nan]}, r"must not be NaN or \+inf"),
        ({"finals": [0, np.inf]}, r"must not be NaN or \+inf"),
    ],
)
def test_bad_token_models_are_named(change, message):
    model = TokenModel(np.zeros((2, 3)), np.zeros((2, 3), int), np.zeros(2))
    assert len(beam_search(np.zeros((2, 1, 3)), token_model=model)) == 1
    with pytest.raises(ValueError, match=message):
        beam_search(np.zeros((2, 1, 3)), token_model=model._replace(**change))


def test_decoders_run_without_compilation_and_without_torch(run_python):
    run_python(
        """
import sys
import naive, numpy as np
from asr.ctc import TokenModel, beam_search, best_path
rng = np.random.default_rng(0)
log_probs = naive.log_softmax(rng.standard_normal((4, 2, 3)))
model = TokenModel(rng.standard_normal((2, 3)), rng.integers(0, 2, (2, 3)), rng.standard_normal(2))
for token_model in (None, model):
    for b, hypotheses in enumerate(beam_search(log_probs, beam_size=99, nbest=99, blank=1, token_model=token_model)):
        expected = naive.enumerated_beam(log_probs[:, b], 1, token_model)
        assert [h.tokens for h in hypotheses] == [tokens for tokens, _ in expected]
        np.testing.assert_allclose([h.score for h in hypotheses], [score for _, score in expected])
        assert hypotheses[0].timesteps == naive.enumerated_peaks(log_probs[:, b], hypotheses[0].tokens, 1)
        assert best_path(log_probs[:, b], blank=1).tokens == naive.best_path(log_probs[:, b], 1)[0]
options = {"beam_threshold": 3.0, "token_threshold": 0.2, "token_model": model}
for b, hypotheses in enumerate(beam_search(log_probs, beam_size=4, nbest=4, blank=1, **options)):
    expected = naive.pruned_beam(log_probs[:, b], 4, 1, **options)
    assert [h.tokens for h in hypotheses] == [tokens for tokens, _ in expected]
assert "torch" not in sys.modules
""",
        NUMBA_DISABLE_JIT="1",
    )
