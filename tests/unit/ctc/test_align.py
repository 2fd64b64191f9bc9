import warnings

import naive
import numpy as np
import pytest
import torch

from asr import ctc
from asr.core.errors import InfeasibleError
from asr.ctc import align_kernels, ctc_loss, ctc_posteriors, forced_align, required_frames, soft_align

pytestmark = pytest.mark.kernels

ALIGN = pytest.mark.parametrize("align", [forced_align, soft_align])
PRIORS = np.log([0.7, 0.1, 0.05, 0.05, 0.05, 0.05])


@pytest.fixture
def log_probs(rng):
    """(40, 4, 6): four utterances."""
    return naive.log_softmax(2 * rng.standard_normal((40, 4, 6)))


@pytest.fixture
def targets(rng):
    """(4, 9): labels 1 to 5, of which each row repeats one."""
    targets = rng.integers(1, 6, (4, 9))
    targets[:, 4] = targets[:, 3]
    return targets


@pytest.fixture
def set_num_threads():
    most = ctc.get_num_threads()
    yield ctc.set_num_threads
    ctc.set_num_threads(most)


def spans(alignment):
    return list(zip(alignment.tokens.tolist(), alignment.starts.tolist(), alignment.ends.tolist(), strict=True))


def facts(alignments):
    """All that alignments say, to be compared bit by bit."""
    return [(spans(found), found.confidences.tolist(), found.score) for found in alignments]


def torchaudio_align(log_probs, target, blank):
    """torchaudio's path (T,) and its score, for log_probs (T, C)."""
    from torchaudio.functional import forced_align

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        values = torch.from_numpy(log_probs)[None].contiguous()
        path, scores = forced_align(values, torch.tensor([target], dtype=torch.int64), blank=blank)
    return path[0].tolist(), scores.double().sum().item()


def assert_sound(alignment, log_probs, target):
    """Spans in order, one a label, none over another or beyond the frames; confidences as documented."""
    assert alignment.tokens.tolist() == list(target)
    edges = np.stack([alignment.starts, alignment.ends], 1).ravel()
    assert (np.diff(edges, prepend=0, append=len(log_probs)) >= 0).all()
    assert (alignment.ends > alignment.starts).all()
    means = [log_probs[start:end, token].mean(dtype=np.float64) for token, start, end in spans(alignment)]
    np.testing.assert_allclose(alignment.confidences, np.exp(means), rtol=1e-5)
    assert ((alignment.confidences > 0) & (alignment.confidences <= 1)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize(
    ("num_frames", "num_classes", "num_labels"), [(1, 3, 1), (12, 3, 4), (60, 5, 20), (200, 40, 60), (150, 300, 3)]
)
def test_forced_path_is_that_of_torchaudio(num_frames, num_classes, num_labels, blank, dtype, rng):
    logits = 2 * rng.standard_normal((num_frames, num_classes))
    log_probs = naive.log_softmax(logits).astype(dtype)
    target = rng.choice([c for c in range(num_classes) if c != blank], num_labels).tolist()
    assert required_frames(target) <= num_frames
    (found,) = forced_align(log_probs[:, None], np.array([target]), blank=blank)
    path, score = torchaudio_align(log_probs, target, blank)
    assert spans(found) == naive.runs(path, blank)
    np.testing.assert_allclose(found.score, score, rtol=1e-6 if dtype == np.float32 else 1e-12)
    assert_sound(found, log_probs, target)


def test_repeats_and_tight_fits(rng):
    """Equal labels are kept apart by a blank, of which a tight fit has no other."""
    for target in ([1, 1], [1, 1, 1], [1, 2, 2, 1], [2, 2, 1, 1, 2]):
        needed = required_frames(target)
        for num_frames in (needed, needed + 1, needed + 5):
            log_probs = naive.log_softmax(rng.standard_normal((num_frames, 3)))
            (found,) = forced_align(log_probs[:, None], np.array([target]))
            assert spans(found) == naive.runs(torchaudio_align(log_probs, target, 0)[0])
            (soft,) = soft_align(log_probs[:, None], np.array([target]))
            assert_sound(soft, log_probs, target)
            if num_frames == needed:
                assert spans(soft) == spans(found)  # there is one path only
                np.testing.assert_allclose(soft.score, found.score, rtol=1e-12)


def test_long_utterances(rng):
    lengths, labels = [9000, 2500], [400, 200]  # the first in blocks
    assert align_kernels.layout(lengths[0], labels[0])[1] > 1
    log_probs = naive.log_softmax(3 * rng.standard_normal((9000, 2, 40)))
    targets = rng.integers(1, 40, (2, 400))
    forced = forced_align(log_probs, targets, lengths, labels)
    soft = soft_align(log_probs, targets, lengths, labels)
    loss = ctc_loss(torch.from_numpy(log_probs), torch.from_numpy(targets), lengths, labels, reduction="none")
    for b in range(2):
        values, target = log_probs[: lengths[b], b], targets[b, : labels[b]].tolist()
        path, score = torchaudio_align(values, target, 0)
        assert spans(forced[b]) == naive.runs(path)
        np.testing.assert_allclose(forced[b].score, score, rtol=1e-12)
        np.testing.assert_allclose(soft[b].score, -loss[b].item(), rtol=1e-10)
        assert forced[b].score < soft[b].score
        assert_sound(forced[b], values, target)
        assert_sound(soft[b], values, target)


@ALIGN
@pytest.mark.parametrize("blank", [0, 3])
def test_sure_posteriors_leave_no_choice(align, blank):
    """Soft and forced alignments agree, and are the path that the network is sure of."""
    path = [3, 1, 1, 3, 1, 2, 2, 2, 3, 3, 5, 4, 4, 3]
    if blank == 0:
        path = [{3: 0, 0: 3}.get(c, c) for c in path]
    probs = np.full((len(path), 6), 0.001)
    probs[np.arange(len(path)), path] = 0.995
    (found,) = align(np.log(probs)[:, None], np.array([naive.collapse(path, blank)]), blank=blank)
    assert spans(found) == naive.runs(path, blank) == [(1, 1, 3), (1, 4, 5), (2, 5, 8), (5, 10, 11), (4, 11, 13)]
    np.testing.assert_allclose(found.confidences, 0.995, rtol=1e-12)
    np.testing.assert_allclose(np.exp(found.score), 0.995 ** len(path), rtol=0.05)


def test_confidence_is_a_geometric_mean():
    probs = np.array([[[0.1, 0.9]], [[0.6, 0.4]], [[0.3, 0.7]]])
    (found,) = forced_align(np.log(probs[[0, 2]]), np.array([[1]]))
    np.testing.assert_allclose(found.confidences, [np.sqrt(0.9 * 0.7)], rtol=1e-12)
    (found,) = forced_align(np.log(probs), np.array([[1, 1]]))
    np.testing.assert_allclose(found.confidences, [0.9, 0.7], rtol=1e-12)


@ALIGN
def test_targets_padded_or_in_a_row(align, log_probs, targets):
    """What lies beyond the lengths is not read: it can be no label at all."""
    frames, labels = np.array([40, 30, 0, 20]), np.array([9, 5, 0, 7])
    expected = [
        align(log_probs[:have, [b]], targets[[b], :want])[0]
        for b, (have, want) in enumerate(zip(frames, labels, strict=True))
    ]
    padded, values = targets.copy(), log_probs.copy()
    for b in range(4):
        padded[b, labels[b] :] = [-1, 0, 99, -(2**40)][b]
        values[frames[b] :, b] = np.nan
    row = np.concatenate([targets[b, :want] for b, want in enumerate(labels)])
    assert facts(align(values, padded, frames, labels)) == facts(expected)
    assert facts(align(values, row, frames, labels)) == facts(expected)
    assert facts(align(values, row.astype(np.uint8), frames.tolist(), labels.astype(np.int32))) == facts(expected)
    for found, target in zip(expected, padded, strict=True):
        assert found.tokens.tolist() == target[: len(found.tokens)].tolist()


@ALIGN
def test_without_labels_all_frames_are_blank(align, log_probs):
    for blank in (0, 4):
        for found, b in zip(align(log_probs, np.zeros((4, 0), int), blank=blank), range(4), strict=True):
            assert spans(found) == []
            np.testing.assert_allclose(found.score, log_probs[:, b, blank].sum(), rtol=1e-12)


@ALIGN
def test_without_frames_there_is_no_label(align):
    none = np.zeros((1, 0), int)
    for log_probs, lengths in ((np.zeros((0, 1, 3)), None), (np.zeros((5, 1, 3)), [0])):
        assert facts(align(log_probs, none, lengths)) == [([], [], 0.0)]
        with pytest.raises(InfeasibleError, match="utterance 0 has 0 frames; its 1 labels need 1"):
            align(log_probs, np.array([[1]]), lengths)
    assert align(np.zeros((5, 0, 3)), np.zeros((0, 2), int)) == []


@pytest.mark.parametrize("align", [forced_align, soft_align, ctc_posteriors])
def test_too_few_frames_are_named(align, log_probs):
    with pytest.raises(InfeasibleError, match="utterance 2 has 3 frames; its 3 labels need 4, a blank between"):
        align(log_probs, np.array([[1, 2, 3], [1, 1, 1], [2, 2, 1], [1, 1, 1]]), [40, 5, 3, 4])
    align(log_probs, np.array([[1, 2, 3], [1, 1, 1], [2, 2, 1], [1, 1, 1]]), [40, 5, 4, 5])


@pytest.mark.parametrize("align", [forced_align, soft_align, ctc_posteriors])
def test_probability_zero_is_named(align, log_probs):
    """A label that a frame forbids is aligned elsewhere; one that all forbid cannot be."""
    targets = np.array([[1], [2], [3], [4]])
    log_probs[:-1, 3, 4] = -np.inf
    align(log_probs, targets)
    log_probs[:, 1, 3] = -np.inf  # not a label of that utterance
    align(log_probs, targets)
    log_probs[-1, 3, 4] = -np.inf
    with pytest.raises(InfeasibleError, match=r"utterance 3 .* probability 0"):
        align(log_probs, targets)


@ALIGN
def test_forbidden_frames_are_avoided(align, log_probs):
    log_probs[:13, 0, 2] = log_probs[14:, 0, 2] = -np.inf
    (found,) = align(log_probs[:, :1], np.array([[1, 2, 3]]))
    assert spans(found)[1] == (2, 13, 14)
    assert found.ends[0] <= 13 < 14 <= found.starts[2]
    assert np.isfinite(found.score)


@pytest.mark.parametrize("align", [forced_align, soft_align, ctc_posteriors])
@pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (np.inf, r"\+inf")])
@pytest.mark.parametrize("target", [[], [1], [1, 2], [1, 2, 2, 1]])
def test_nan_and_infinity_are_named(align, value, name, target, rng):
    """Wherever they lie on a path that spells the labels, and not beyond the lengths."""
    log_probs = naive.log_softmax(rng.standard_normal((8, 2, 4)))
    targets, lengths = np.array([target, target]), [8, 7]
    reachable = ctc_posteriors(log_probs, targets.astype(int), lengths) > 0
    for t in range(8):
        for c in range(4):
            spoilt = log_probs.copy()
            spoilt[t, 1, c] = value
            if reachable[t, 1, c]:
                with pytest.raises(ValueError, match=f"utterance 1 hold {name} in frame {t}"):
                    align(spoilt, targets.astype(int), lengths)
            elif t >= 7:
                align(spoilt, targets.astype(int), lengths)


@ALIGN
def test_padding_order_and_threads_change_no_bit(align, log_probs, targets, set_num_threads):
    frames, labels = np.array([40, 30, 0, 20]), np.array([9, 5, 0, 7])
    expected = facts(align(log_probs, targets, frames, labels))
    order = [2, 0, 3, 1]
    assert facts(align(log_probs[:, order], targets[order], frames[order], labels[order])) == [
        expected[b] for b in order
    ]
    longer = np.concatenate([log_probs, np.zeros((5, 4, 6))])
    assert facts(align(longer, np.pad(targets, ((0, 0), (0, 3))), frames, labels)) == expected
    for threads in (1, 2, 3, 7):
        set_num_threads(threads)
        assert facts(align(log_probs, targets, frames, labels)) == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("align", [forced_align, soft_align, ctc_posteriors])
def test_memory_layout_changes_no_bit(align, dtype, log_probs, targets):
    def bits(values, targets):
        found = align(values, targets)
        return found.tolist() if align is ctc_posteriors else facts(found)

    log_probs = log_probs.astype(dtype)
    expected = bits(log_probs, targets)
    batch_first = np.ascontiguousarray(log_probs.transpose(1, 0, 2)).transpose(1, 0, 2)
    every_other = np.repeat(log_probs, 2, axis=0)[::2]
    read_only = log_probs.copy()
    read_only.flags.writeable = False
    for values in (log_probs.copy(order="F"), batch_first, every_other, read_only):
        assert bits(values, targets) == expected
    for labels in (targets.copy(order="F"), targets.astype(np.uint8), np.repeat(targets, 2, axis=1)[:, ::2]):
        assert bits(log_probs, labels) == expected


@ALIGN
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float16, 1e-2)])
def test_float16_and_float32(align, dtype, rtol, log_probs, targets):
    """They are sums in float64 of rounded numbers, not rounded sums."""
    rounded = log_probs.astype(dtype)
    for b, (one, other) in enumerate(zip(align(rounded, targets), align(rounded.astype(float), targets), strict=True)):
        assert spans(one) == spans(other)
        np.testing.assert_allclose(one.score, other.score, rtol=1e-12)
        assert_sound(one, rounded[:, b].astype(np.float64), targets[b])
    for one, other in zip(align(rounded, targets), align(log_probs, targets), strict=True):
        np.testing.assert_allclose(one.score, other.score, rtol=rtol)


@ALIGN
def test_arguments_are_left_as_they_are(align, log_probs, targets):
    values, labels, priors = log_probs.copy(), targets.copy(), PRIORS.copy()
    align(values, labels, log_priors=priors)
    assert (values == log_probs).all()
    assert (labels == targets).all()
    assert (priors == PRIORS).all()


@ALIGN
def test_log_priors_are_taken_from_the_log_probs(align, log_probs, targets):
    """Confidences are still the network's."""
    found = align(log_probs, targets, log_priors=PRIORS)
    lowered = align(log_probs - PRIORS - 9, targets)  # what is above 0 would be refused
    for b, (one, other) in enumerate(zip(found, lowered, strict=True)):
        assert spans(one) == spans(other)
        np.testing.assert_allclose(one.score, other.score + 9 * len(log_probs), rtol=1e-9)
        assert_sound(one, log_probs[:, b], targets[b])
    assert facts(align(log_probs, targets, log_priors=PRIORS.tolist())) == facts(found)
    assert facts(align(log_probs, targets, log_priors=np.zeros(6))) == facts(align(log_probs, targets))
    assert facts(align(log_probs, targets)) != facts(found)


def test_soft_score_is_the_loss(log_probs, targets):
    logits, labels = torch.from_numpy(log_probs), torch.from_numpy(targets)
    for priors in (None, PRIORS):
        options = None if priors is None else torch.from_numpy(priors)
        losses = ctc_loss(logits, labels, [40] * 4, [9] * 4, reduction="none", log_priors=options)
        scores = [found.score for found in soft_align(log_probs, targets, log_priors=priors)]
        np.testing.assert_allclose(scores, -losses.numpy(), rtol=1e-10)


def test_an_edge_at_exactly_one_half_is_one_edge():
    """By frame 1 exactly half of the probability is on the second label."""
    probs = np.array([[2, 0, 1], [0, 2, 2], [2, 1, 0], [0, 0, 1]]) / [[3], [4], [3], [1]]
    with np.errstate(divide="ignore"):
        log_probs = np.log(probs)
    (found,) = soft_align(log_probs[:, None], np.array([[2, 1, 2]]))
    assert_sound(found, log_probs, [2, 1, 2])


@pytest.mark.parametrize("blank", [0, 5])
def test_posteriors_are_the_gradient_of_the_loss(blank, log_probs, targets):
    """At the log-probabilities, as free variables: at the logits, softmax less posteriors."""
    frames, labels = [40, 30, 9, 20], [9, 5, 0, 7]
    targets = targets - (blank == 5)
    posteriors = ctc_posteriors(log_probs, targets, frames, labels, blank)
    leaf = torch.from_numpy(log_probs).requires_grad_()
    ctc_loss(leaf, torch.from_numpy(targets), frames, labels, blank, reduction="sum").backward()
    for b, have in enumerate(frames):
        expected = np.exp(log_probs[:have, b]) - leaf.grad[:have, b].numpy()
        np.testing.assert_allclose(posteriors[:have, b], expected, rtol=0, atol=1e-10)
        np.testing.assert_allclose(posteriors[:have, b].sum(axis=1), 1.0, rtol=1e-9)
        assert (posteriors[have:, b] == 0).all()
    assert posteriors.dtype == np.float64


def test_posteriors_are_a_derivative(log_probs, targets):
    """Of the loss by one log-probability after the other: torch's loss takes them as they are."""
    values = torch.from_numpy(log_probs[:12])
    labels, frames, counts = torch.from_numpy(targets[:, :4]), [12, 12, 8, 9], [4, 3, 0, 4]

    def scores(values):
        return -torch.nn.functional.ctc_loss(values, labels, frames, counts, reduction="none")

    posteriors = ctc_posteriors(log_probs[:12], targets[:, :4], frames, counts)
    for t in range(12):
        for c in range(6):
            step = torch.zeros_like(values)
            step[t, :, c] = 1e-5
            slopes = (scores(values + step) - scores(values - step)) / 2e-5
            np.testing.assert_allclose(posteriors[t, :, c], slopes, rtol=0, atol=1e-8)


@pytest.mark.parametrize("align", [forced_align, soft_align, ctc_posteriors])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log_probs": np.zeros((5, 3))}, r"shape \(T, B, C\), not float64 \(5, 3\)"),
        ({"log_probs": np.zeros((5, 2, 3), int)}, r"must be floating.*int64"),
        ({"targets": np.ones((2, 2))}, r"targets must be integers.*float64 \(2, 2\)"),
        ({"targets": np.ones((2, 2, 1), int)}, r"targets must be integers.*int64 \(2, 2, 1\)"),
        ({"targets": np.array(1)}, r"targets must be integers.*int64 \(\)"),
        ({"targets": np.ones((3, 2), int)}, "targets have 3 rows for 2 utterances"),
        ({"targets": np.ones(5, int), "target_lengths": [2, 2]}, "hold 5 labels, but the target_lengths add up to 4"),
        ({"targets": np.array([[1, 2], [1, 3]])}, r"target 1 has a label outside 0\.\.2.*\[1, 3\]"),
        ({"targets": np.array([[1, -1], [1, 2]])}, r"target 0 has a label outside 0\.\.2.*\[1, -1\]"),
        ({"targets": np.array([[1, 2], [0, 2]])}, r"target 1 .* or the blank 0: \[0, 2\]"),
        ({"blank": 2}, r"target 0 .* or the blank 2: \[1, 2\]"),
        ({"blank": 3}, "blank 3 is not one of the 3 classes"),
        ({"input_lengths": [5, 6]}, r"input_lengths\[1\] is 6, which is not in 0\.\.5"),
        ({"input_lengths": [5]}, r"input_lengths must be 2 integers, not int64 of shape \(1,\)"),
        ({"target_lengths": [-1, 2]}, r"target_lengths\[0\] is -1, which is not in 0\.\.2"),
        ({"target_lengths": [2, 3]}, r"target_lengths\[1\] is 3, which is not in 0\.\.2"),
        ({"target_lengths": [2.0, 2.0]}, "target_lengths must be 2 integers, not float64"),
        ({"log_priors": np.zeros(2)}, "log_priors must be 3 finite numbers"),
        ({"log_priors": [0, -np.inf, 0]}, "log_priors must be 3 finite numbers"),
        ({"log_priors": [0, np.nan, 0]}, "log_priors must be 3 finite numbers"),
    ],
)
def test_bad_arguments_are_named(align, change, message):
    arguments = {"log_probs": np.zeros((5, 2, 3)), "targets": np.array([[1, 2], [1, 2]])}
    align(**arguments)
    with pytest.raises(ValueError, match=message) as caught:
        align(**arguments | change)
    assert "\n" not in str(caught.value)


@ALIGN
def test_label_priors_put_boundaries_where_they_are(align):
    """Spikes are late and short (speechbrain/speechbrain#819); less the priors, spans are phones (pytorch/audio#3826).

    Four phones with silence around; the network says a little of each while it lasts, and is sure near its end only.
    """
    truth = [(1, 6, 14), (2, 14, 26), (3, 26, 36), (1, 41, 52)]
    probs = np.full((60, 4), 0.01)
    for token, start, end in truth:
        probs[start:end, token] = 0.12
        probs[end - 2, token] = 0.9
    probs[:, 0] = 1 - probs[:, 1:].sum(axis=1)
    log_probs, target = np.log(probs)[:, None], np.array([[token for token, _, _ in truth]])
    errors = []
    for scale in (0.0, 1.0):
        (found,) = align(log_probs, target, log_priors=scale * np.log(probs.mean(axis=0)))
        edges = np.stack([found.starts, found.ends], 1)
        errors.append(np.abs(edges - [[start, end] for _, start, end in truth]).mean())
        if scale == 0:
            assert (found.ends - found.starts == 1).all()
    assert errors[0] > 4
    assert errors[1] == 0 if align is forced_align else errors[1] < 0.5  # medians give half a frame of an edge away


def test_aligners_run_without_compilation_and_without_torch(run_python):
    run_python(
        """
import sys
import naive, numpy as np
from asr.ctc import ctc_posteriors, forced_align, soft_align
rng = np.random.default_rng(0)
log_probs = naive.log_softmax(rng.standard_normal((5, 2, 3)))
targets, lengths = np.array([[0, 0], [2, 0]]), [2, 1]
forced, soft = (align(log_probs, targets, None, lengths, 1) for align in (forced_align, soft_align))
for b, length in enumerate(lengths):
    target = tuple(targets[b, :length].tolist())
    score, path = naive.enumerated_best_path(log_probs[:, b], target, 1)
    np.testing.assert_allclose(forced[b].score, score)
    np.testing.assert_allclose(soft[b].score, -naive.enumerated_loss(log_probs[:, b], target, 1))
    spans = [list(zip(a.tokens.tolist(), a.starts.tolist(), a.ends.tolist())) for a in (forced[b], soft[b])]
    assert spans == [naive.runs(path, 1), naive.enumerated_medians(log_probs[:, b], target, 1)]
    expected = naive.enumerated_posteriors(log_probs[:, b], target, 1)
    np.testing.assert_allclose(ctc_posteriors(log_probs, targets, None, lengths, 1)[:, b], expected)
assert "torch" not in sys.modules
""",
        NUMBA_DISABLE_JIT="1",
    )
