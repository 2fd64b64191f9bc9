import numpy as np
import torch

from asr.ctc.priors import LabelPriors


def test_priors_are_the_mean_posteriors_of_used_frames(rng):
    priors = LabelPriors(num_classes=4, scale=0.5)
    assert torch.equal(priors.log_priors, torch.zeros(4, dtype=torch.float64))
    frames = []
    for lengths in ([5, 3], [2, 4]):
        logits = torch.from_numpy(rng.standard_normal((5, 2, 4)))
        frames += [logits[:have, b].softmax(1) for b, have in enumerate(lengths)]
        logits[lengths[1] :, 1] = torch.nan  # padding
        logits[lengths[0] :, 0] = torch.nan
        priors.observe(logits, torch.tensor(lengths))
    assert torch.equal(priors.log_priors, torch.zeros(4, dtype=torch.float64))  # until the epoch's end
    priors.update()
    expected = 0.5 * np.log(torch.cat(frames).mean(0).numpy())
    np.testing.assert_allclose(priors.log_priors.numpy(), expected, rtol=1e-12)


def test_each_epoch_counts_afresh_and_a_checkpoint_keeps_both_parts(rng):
    first, second = (torch.from_numpy(rng.standard_normal((6, 1, 3))) for _ in range(2))
    whole, resumed = LabelPriors(3, 1.0), LabelPriors(3, 1.0)
    whole.observe(first, torch.tensor([6]))
    whole.update()
    whole.observe(second[:3], torch.tensor([3]))
    resumed.load_state_dict(whole.state_dict())
    for priors in (whole, resumed):
        priors.observe(second[3:], torch.tensor([3]))
        priors.update()
        expected = second[:, 0].softmax(1).mean(0).log()
        torch.testing.assert_close(priors.log_priors, expected, rtol=1e-12, atol=0)


def test_a_class_that_never_comes_keeps_priors_finite():
    priors = LabelPriors(2, 1.0)
    priors.observe(torch.tensor([[[0.0, -torch.inf]]]), torch.tensor([1]))
    priors.update()
    assert torch.isfinite(priors.log_priors).all()
