"""The search that a configuration's `decode` section asks for: CTC's beam alone, with a language model, for words."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from asr.config import DecodeConfig, check
from asr.ctc import Hypothesis, beam_search
from asr.errors import ConfigError
from asr.lm import fusion
from asr.lm.estimation import estimate
from asr.lm.folder import load
from asr.lm.lexicon import Lexicon
from asr.lm.model import UNKNOWN, LanguageModel
from asr.lm.ngram import NGram
from asr.lm.words import WordSearch

Search = Callable[[np.ndarray, np.ndarray, int, int], list[list[Hypothesis]]]
BEAM_THRESHOLD, TOKEN_THRESHOLD = 20.0, 1e-4  # of the search for words: nats below the best, posterior of a phone


def build(config: DecodeConfig, labels: Sequence[str]) -> Search:
    """Return a search of log posteriors (T, B, C) with lengths (B,), beam and number of hypotheses.

    Parameters
    ----------
    config
        With a language model: one over phones is fused into the beam; one over words needs a lexicon.
    labels : (C,)
        The acoustic model's; class 0 is the blank.

    Raises
    ------
    AsrError
        A language model or lexicon is missing, or does not fit.
    """
    search = _first(config, labels)
    if config.rescore_lm is None:
        return search
    return _rescored(search, load(config.rescore_lm), labels, config.rescore_weight)


def _first(config: DecodeConfig, labels: Sequence[str]) -> Search:
    weight, penalty = config.lm_weight, config.insertion_penalty
    if config.lm is None:
        return beam_search
    lm = load(config.lm)
    if lm.unit == "words":
        words = _words(lm, config, labels)
        return lambda log_probs, lengths, beam, nbest: words(
            log_probs, lengths, beam, nbest, BEAM_THRESHOLD, TOKEN_THRESHOLD
        )
    if isinstance(lm, NGram):
        model = fusion.automaton(lm, labels, weight, penalty)
        return lambda log_probs, lengths, beam, nbest: beam_search(log_probs, lengths, beam, nbest, token_model=model)
    return lambda log_probs, lengths, beam, nbest: fusion.beam_search(
        log_probs, lengths, lm, labels, weight, penalty, beam, nbest
    )


def _words(lm: LanguageModel, config: DecodeConfig, labels: Sequence[str]) -> WordSearch:
    """Return a search for words; an open vocabulary has unknown ones spelt as the lexicon's are."""
    if not isinstance(lm, NGram):
        raise ConfigError(f"{config.lm} is a recurrent model over words: search with an n-gram, and rescore with it")
    lexicon = Lexicon.of(lm.tokens) if config.lexicon == "cmudict" else Lexicon.read(config.lexicon)
    spelling = None
    if UNKNOWN in lm.index:
        known = [each for word, spelt in lexicon.words.items() if word in lm.index for each in spelt]
        spelling = estimate(known, "phones", 2, "witten_bell", labels[1:])
    return WordSearch(lexicon, lm, labels, config.lm_weight, config.insertion_penalty, spelling)


def _rescored(search: Search, lm: LanguageModel, labels: Sequence[str], weight: float) -> Search:
    """Return a search whose hypotheses are put into a new order by what another model adds to their scores."""
    check(lm.unit in ("phones", "words"), "decode.rescore_lm", "be a model over phones or words", lm.unit)

    def tokens(hypothesis: Hypothesis) -> list[str]:
        if lm.unit == "phones":
            return [labels[token] for token in hypothesis.tokens]
        if hypothesis.words is None:
            raise ConfigError("decode.rescore_lm is over words: decode.lm must be over words too")
        return list(hypothesis.words)

    def rescored(log_probs: np.ndarray, lengths: np.ndarray, beam: int, nbest: int) -> list[list[Hypothesis]]:
        found = search(log_probs, lengths, beam, beam)
        added = iter(lm.score([tokens(each) for hypotheses in found for each in hypotheses]))
        again = [
            [replace(each, score=each.score + weight * float(next(added).sum())) for each in hypotheses]
            for hypotheses in found
        ]
        return [sorted(each, key=lambda hypothesis: -hypothesis.score)[:nbest] for each in again]

    return rescored
