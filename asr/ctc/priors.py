"""Label priors, which make a CTC network's spikes wider and their times better."""

import torch
from torch import Tensor, nn


class LabelPriors(nn.Module):
    """Mean posteriors of the classes over an epoch's training frames, for the loss of the next (Huang et al. 2024).

    Blanks have most of the frames, so that with posteriors divided by priors paths of few blanks cost less. The state
    of the module is part of a checkpoint.

    Parameters
    ----------
    num_classes
        C, the blank included.
    scale
        Power of the priors; 0 leaves them out.

    Attributes
    ----------
    log_priors : (C,)
        What `ctc_loss` takes: scale × ln prior; zeros in the first epoch.

    Examples
    --------
    >>> priors = LabelPriors(num_classes=2, scale=0.5)
    >>> priors.observe(torch.tensor([[[0.9, 0.1]], [[0.7, 0.3]]]).log(), torch.tensor([2]))
    >>> priors.update()
    >>> (priors.log_priors / 0.5).exp().numpy().round(3).tolist()
    [0.8, 0.2]
    """

    def __init__(self, num_classes: int, scale: float):
        super().__init__()
        self.scale = scale
        self.log_priors: Tensor
        self.register_buffer("log_priors", torch.zeros(num_classes, dtype=torch.float64))
        self._sums: Tensor
        self.register_buffer("_sums", torch.zeros(num_classes, dtype=torch.float64))

    def observe(self, logits: Tensor, lengths: Tensor) -> None:
        """Count the posteriors of a batch: logits (T, B, C), of which lengths (B,) frames are used."""
        used = torch.arange(len(logits), device=logits.device)[:, None] < lengths.to(logits.device)
        self._sums += logits.detach()[used].double().softmax(dim=1).sum(dim=0).to(self._sums.device)

    def update(self) -> None:
        """Take the mean of what was observed since the last time as the new priors."""
        self.log_priors = self.scale * (self._sums / self._sums.sum()).clamp(min=1e-10).log()
        self._sums.zero_()
