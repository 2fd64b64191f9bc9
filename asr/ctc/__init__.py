"""Connectionist temporal classification: the loss, best-path and beam decoding, alignment.

Decoders and aligners do not need torch.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import lazy_loader

from asr.core.workers import get_num_threads, set_num_threads
from asr.ctc.align import TokenAlignment, ctc_posteriors, forced_align, soft_align
from asr.ctc.beam import LiveSearch, TokenModel, beam_search
from asr.ctc.greedy import best_path
from asr.ctc.hypothesis import Hypothesis

if TYPE_CHECKING:
    from asr.ctc.alternatives import alternatives_loss
    from asr.ctc.consistency import consistency_loss
    from asr.ctc.crf import crf_loss
    from asr.ctc.denominator import Denominator
    from asr.ctc.graph import GraphAlignment, LabelGraph, graph_align
    from asr.ctc.loss import ctc_loss

__all__ = [
    "Denominator",
    "GraphAlignment",
    "Hypothesis",
    "LabelGraph",
    "LiveSearch",
    "TokenAlignment",
    "TokenModel",
    "alternatives_loss",
    "beam_search",
    "best_path",
    "consistency_loss",
    "crf_loss",
    "ctc_loss",
    "ctc_posteriors",
    "forced_align",
    "get_num_threads",
    "graph_align",
    "required_frames",
    "set_num_threads",
    "soft_align",
]


def required_frames(target: Sequence[Any]) -> int:
    """Return the length in frames of a target's shortest CTC path: its labels, and a blank between equal neighbours.

    >>> required_frames(["T", "UW", "UW"])
    4
    """
    return len(target) + sum(left == right for left, right in pairwise(target))


# Imported when they are first asked for: the loss needs torch, which takes a second, and few need graphs.
__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "loss": ["ctc_loss"],
        "alternatives": ["alternatives_loss"],
        "consistency": ["consistency_loss"],
        "crf": ["crf_loss"],
        "denominator": ["Denominator"],
        "graph": ["GraphAlignment", "LabelGraph", "graph_align"],
    },
)
