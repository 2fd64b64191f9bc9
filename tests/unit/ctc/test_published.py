import numpy as np
import pytest
import torch
from torch_ctc import loss_and_gradient

from asr.ctc import Denominator, TokenModel, crf_loss, ctc_loss

pytestmark = pytest.mark.kernels

# What other implementations publish: (T, C) activations, target, blank, cost.
UNIFORM = np.full((1, 5), 0.2)
COUNTING = np.arange(1.0, 16.0).reshape(3, 5)
NEGATIVE = np.array([[-5.0, -4, -3, -2, -1], [-10, -9, -8, -7, -6], [-15, -14, -13, -12, -11]])
SIXES = np.array([[0.1, 0.6, 0.1, 0.1, 0.1], [0.1, 0.1, 0.6, 0.1, 0.1]])
GRAVES = np.array(
    [
        [0.633766, 0.221185, 0.0917319, 0.0129757, 0.0142857, 0.0260553],
        [0.111121, 0.588392, 0.278779, 0.0055756, 0.00569609, 0.010436],
        [0.0357786, 0.633813, 0.321418, 0.00249248, 0.00272882, 0.0037688],
        [0.0663296, 0.643849, 0.280111, 0.00283995, 0.0035545, 0.00331533],
        [0.458235, 0.396634, 0.123377, 0.00648837, 0.00903441, 0.00623107],
    ]
)
GRAVES_REPEAT = np.array(
    [
        [0.30176, 0.28562, 0.0831517, 0.0862751, 0.0816851, 0.161508],
        [0.24082, 0.397533, 0.0557226, 0.0546814, 0.0557528, 0.19549],
        [0.230246, 0.450868, 0.0389607, 0.038309, 0.0391602, 0.202456],
        [0.280884, 0.429522, 0.0326593, 0.0339046, 0.0326856, 0.190345],
        [0.423286, 0.315517, 0.0338439, 0.0393744, 0.0339315, 0.154046],
    ]
)


@pytest.mark.parametrize(
    ("activations", "target", "blank", "cost"),
    [
        (UNIFORM, [1], 0, 1.6094379425049),  # warp-ctc's tutorial, whose three cases are those of k2's test of its loss
        (COUNTING, [3, 3], 0, 7.355742931366),
        (NEGATIVE, [2, 3], 0, 4.938850402832),
        (SIXES, [1, 2], 0, 2.46286),  # warp-ctc's test of its TensorFlow binding
        (
            np.log(GRAVES),
            [0, 1, 2, 1, 0],
            5,
            3.34211,
        ),  # TensorFlow's test of its loss, from Graves's own implementation
        (np.log(GRAVES_REPEAT), [0, 1, 1, 0], 5, 5.42262),
    ],
)
def test_published_costs(activations, target, blank, cost):
    logits = torch.from_numpy(activations)[:, None]
    loss = ctc_loss(logits, torch.tensor([target]), [len(logits)], [len(target)], blank, reduction="sum")
    np.testing.assert_allclose(loss.item(), cost, rtol=1e-6)


def test_published_batch():
    """Case 4 of k2's tests: the three cases of warp-ctc's tutorial together, weighted."""
    logits = torch.zeros(3, 3, 5, dtype=torch.float64)
    logits[:, 0], logits[:, 1] = torch.from_numpy(NEGATIVE), torch.from_numpy(COUNTING)
    args = torch.tensor([2, 3, 3, 3, 1]), torch.tensor([3, 3, 1]), torch.tensor([2, 2, 1])
    weights = torch.tensor([1.0, -2.0, 3.5])
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    losses = ctc_loss(ours, *args, reduction="none")
    np.testing.assert_allclose(losses.detach(), [4.938850402832, 7.355742931366, 1.6094379425049], rtol=1e-6)
    (losses * weights).sum().backward()
    (torch.nn.functional.ctc_loss(theirs.log_softmax(2), *args, reduction="none") * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12)


def test_published_gradients():
    """Paths without a frame to spare: the published gradients are the softmax, less 1 at the path's class."""
    # TensorFlow's, with its two frames of NaN as padding
    logits = torch.full((7, 2, 6), torch.nan, dtype=torch.float64)
    logits[:5] = torch.from_numpy(np.log(np.stack([GRAVES, GRAVES_REPEAT], 1)))
    _, gradient = loss_and_gradient(
        logits, torch.tensor([[0, 1, 2, 1, 0], [0, 1, 1, 0, 9]]), [5, 5], [5, 4], 5, reduction="sum"
    )
    np.testing.assert_allclose(gradient[:5, 0], GRAVES - np.eye(6)[[0, 1, 2, 1, 0]], rtol=0, atol=2e-6)
    np.testing.assert_allclose(gradient[:5, 1], GRAVES_REPEAT - np.eye(6)[[0, 1, 5, 1, 0]], rtol=0, atol=2e-6)
    assert (gradient[5:] == 0).all()
    # warp-ctc's, of its TensorFlow binding
    _, gradient = loss_and_gradient(torch.from_numpy(SIXES), torch.tensor([1, 2]), 2, 2, reduction="sum")
    expected = [
        [0.177031, -0.708125, 0.177031, 0.177031, 0.177031],
        [0.177031, 0.177031, -0.708125, 0.177031, 0.177031],
    ]
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("frequency", "target", "among_all", "of_target", "gradient"),
    [
        (
            0.9,
            [1, 2, 2, 5, 3, 4, 1, 1, 5],
            195.798357,
            93.1814091,
            [-0.004014, 0.000184, 0.012371, -0.107548, 0.10519, -0.006184],
        ),
        (1.9, [3], 199.957319, 6.31849788, [-0.378426, 0.000006, 0.018503, 0.357785, 0.000045, 0.002088]),
        (
            2.9,
            [5, 4, 3, 2, 1, 1, 2, 3, 4, 5, 5, 1, 2, 3],
            171.8488,
            84.4835218,
            [-0.232005, -0.003235, 0.042134, 0.010665, -0.059366, 0.241807],
        ),
    ],
)
def test_ctc_crf_as_other_implementations_have_it(frequency, target, among_all, of_target, gradient):
    """Sums over all paths, and over those of a target, and the gradient of a frame in the middle.

    The sums are OpenFst 1.8's (`shortestdistance` of frames ∘ CTC's topology ∘ bigram, in its log semiring of float64),
    the gradient PyChain's (LF-MMI in the log domain, of the same graphs, in float32).
    """
    num_frames, num_classes = 60, 6
    logits = 4 * np.sin(np.arange(num_frames * num_classes) * frequency).reshape(num_frames, 1, num_classes)
    bigram = 2 * np.cos(1.7 * np.arange(num_classes**2)).reshape(num_classes, num_classes)
    bigram -= np.log(np.exp(bigram).sum(1, keepdims=True))  # row 0: at the start; column 0: the end
    follows = np.tile(np.arange(num_classes), (num_classes, 1))
    denominator = Denominator.of(TokenModel(bigram, follows, bigram[:, 0]))
    leaf = torch.from_numpy(logits).requires_grad_()
    loss = crf_loss(leaf, torch.tensor([target]), [num_frames], [len(target)], denominator, reduction="sum")
    loss.backward()
    np.testing.assert_allclose(loss.item(), among_all - of_target, rtol=0, atol=1e-6)
    np.testing.assert_allclose(leaf.grad[num_frames // 2, 0], gradient, rtol=0, atol=1e-5)
