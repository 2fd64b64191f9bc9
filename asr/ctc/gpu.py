"""Whether a loss is computed on the GPU on which its tensors lie: by Triton, which comes with torch on Linux."""

import logging
from functools import cache

import torch
from torch import Tensor

MOST_NODES = 1 << 20  # that the automaton of a denominator may have there; larger ones are left to the processor

log = logging.getLogger(__name__)


def serves(tensor: Tensor) -> bool:
    """Tell whether losses of a tensor are computed where it lies, by Triton, and not on the processor."""
    return tensor.is_cuda and tensor.is_floating_point() and _works(tensor.device)


@cache
def _works(device: torch.device) -> bool:
    """Compile and run a small kernel; where that fails, say so in the log, once."""
    try:
        from asr.ctc.gpu_numbers import probe

        found = torch.empty(1, dtype=torch.int32, device=device)
        with torch.cuda.device(device):
            probe[1,](found)
        return found.item() == 1
    except Exception as error:  # whatever is missing: Triton itself, a C compiler, a new enough device
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        log.warning("the loss is computed on the processor, since Triton does not work on %s: %s", device, reason)
        return False
