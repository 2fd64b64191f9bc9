"""Label priors, which make a CTC network's spikes wider and their times more accurate."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class LabelPriors(nn.Module):
    """Mean posteriors of the classes over an epoch's training frames, for the loss of the next (Huang et al. 2024).

    Most frames are blanks. Dividing posteriors by priors therefore makes paths with few blanks cheaper. The module's
    state is part of a checkpoint.

    Parameters
    ----------
    num_classes
        C, including the blank.
    scale
        Exponent of the priors; 0 disables them.

    Attributes
    ----------
    log_priors : (C,)
        Scale × ln prior, as `ctc_loss` takes them; zeros in the first epoch.

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

    def observe(self, logits: Tensor, lengths: Tensor, total: Callable[[Tensor], Tensor] = lambda sums: sums) -> None:
        """Accumulate the posteriors of a batch of logits (T, B, C) whose utterances have lengths (B,).

        `total` returns the sum of a tensor over the processes that train together.
        """
        used = torch.arange(len(logits), device=logits.device)[:, None] < lengths.to(logits.device)
        sums = logits.detach()[used].double().softmax(dim=1).sum(dim=0)
        self._sums += total(sums).to(self._sums.device)

    def update(self) -> None:
        """Set the priors to the mean of the posteriors observed since the last update."""
        self.log_priors = self.scale * (self._sums / self._sums.sum()).clamp(min=1e-10).log()
        self._sums.zero_()
