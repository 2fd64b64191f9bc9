"""Language models: how likely a sequence of phones, characters or words is, and what comes next.

    text ─ text.read ─▶ sentences ─ estimation.estimate ─▶ NGram        (ngram.py; ARPA files in and out: arpa.py)
                                  └ training.train ──────▶ RecurrentLM  (recurrent.py)
    either ─ score, perplexity; generation.continuation

Token 0 of every model is the edge of a sentence: as a context its start, as a prediction its end. docs/lm.md.
"""

from asr.lm.folder import load, save
from asr.lm.model import EDGE, UNKNOWN, LanguageModel, perplexity
from asr.lm.ngram import NGram

__all__ = ["EDGE", "UNKNOWN", "LanguageModel", "NGram", "load", "perplexity", "save"]
