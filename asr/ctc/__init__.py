"""Connectionist temporal classification: the loss, best-path and beam decoding, alignment.

Decoders and aligners need no torch; the loss is imported when it is first asked for.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from asr.core.workers import get_num_threads, set_num_threads
from asr.ctc.align import TokenAlignment, ctc_posteriors, forced_align, soft_align
from asr.ctc.beam import TokenModel, beam_search
from asr.ctc.greedy import best_path
from asr.ctc.hypothesis import Hypothesis

if TYPE_CHECKING:
    from asr.ctc.loss import ctc_loss

__all__ = [
    "Hypothesis",
    "TokenAlignment",
    "TokenModel",
    "beam_search",
    "best_path",
    "ctc_loss",
    "ctc_posteriors",
    "forced_align",
    "get_num_threads",
    "required_frames",
    "set_num_threads",
    "soft_align",
]


def required_frames(target: Sequence[Any]) -> int:
    """Count the frames that the shortest CTC path of a target has: its labels, and a blank between two equal ones.

    >>> required_frames(["T", "UW", "UW"])
    4
    """
    return len(target) + sum(left == right for left, right in pairwise(target))


def __getattr__(name: str) -> Any:
    """Import the loss, and torch with it, on first use."""
    if name == "ctc_loss":
        from asr.ctc.loss import ctc_loss

        return ctc_loss
    raise AttributeError(f"module 'asr.ctc' has no attribute {name!r}")
