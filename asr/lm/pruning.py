"""Entropy pruning of n-grams: those are left out that change the model's predictions least.

A. Stolcke, "Entropy-based pruning of backoff language models", DARPA Broadcast News Transcription and Understanding
Workshop, 1998. Let the n-gram h w be left out, so that w is predicted with h′, the context without its first token, and
another backoff weight α′(h) in place of α(h). The relative entropy of the new model is (equation 9)

    D = −p(h) (p(w|h) (ln p(w|h′) + ln α′(h) − ln p(w|h)) + (1 − Σ_v p(v|h)) (ln α′(h) − ln α(h))),

with the sum over the n-grams h v, and e^D − 1 is the relative increase of perplexity. All n-grams of an order are
judged by themselves, against the same model. SRILM's ``ngram -prune`` does the same.

p(h) is the product of the model's own probabilities. Those of shorter n-grams are no good estimates of it after
Kneser-Ney smoothing, which makes them small for tokens that always follow the same one; pruning then costs more
perplexity than necessary (C. Chelba et al., "Study on interaction between entropy pruning and Kneser-Ney smoothing",
Interspeech 2010). Another model, smoothed otherwise, can give p(h).

Letters: M n-grams of an order.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from asr.lm.ngram import NGram
from asr.lm.packing import Links, Order

LEAST = 1e-12  # of a probability mass that is left over


def prune(lm: NGram, threshold: float, history: NGram | None = None) -> NGram:
    """Leave out the n-grams of two tokens or more without which perplexity rises too little.

    Parameters
    ----------
    lm
        The model.
    threshold
        Relative increase of perplexity below which an n-gram is left out, such as 1e-8. Those that a longer one which
        stays begins or ends with stay: the trie needs them.
    history
        A model that gives the probabilities of contexts; by default `lm` does.

    Raises
    ------
    ConfigError
        A token is not in the closed vocabulary of `history`.
    """
    orders = list(lm.orders())
    links = Links.of(orders)
    contexts = log_probs_of_contexts(lm, orders, links, history)
    kept = [np.ones(len(order.tokens), bool) for order in orders]
    for n in range(len(orders) - 1, 0, -1):
        kept[n] = np.expm1(_relative_entropies(orders, links, n, contexts[n - 1])) >= threshold
        if n + 1 < len(orders):
            kept[n][links.parents[n][kept[n + 1]]] = True
            kept[n][links.endings[n + 1][kept[n + 1]]] = True
    return NGram.build(lm.unit, lm.tokens, _without(orders, links, kept))


def log_probs_of_contexts(
    lm: NGram, orders: Sequence[Order], links: Links, history: NGram | None = None
) -> list[np.ndarray]:
    """Return ln p(h) of the n-grams of each order but the highest (M,).

    The start of a sentence is as probable as its end.
    """
    model = lm if history is None else history
    tokens = np.concatenate([[0], model.indices(lm.tokens[1:])])
    found, states = [np.zeros(1)], np.zeros(1, np.int32)
    parents = [np.zeros(len(orders[0].tokens), np.int32), *links.parents]
    for order, contexts in zip(orders[:-1], parents, strict=False):
        log_probs, states = model.query(states[contexts], tokens[order.tokens])
        found.append(found[-1][contexts] + log_probs)
    return found[1:]


def _relative_entropies(orders: Sequence[Order], links: Links, n: int, log_probs_of_contexts: np.ndarray) -> np.ndarray:
    """Return D of each n-gram of order n + 1 (M,)."""
    contexts, count = links.parents[n - 1], len(orders[n - 1].tokens)
    log_probs = orders[n].log_probs.astype(float)
    shorter = orders[n - 1].log_probs[links.endings[n]].astype(float)
    left, shorter_left = _left(contexts, log_probs, count), _left(contexts, shorter, count)
    weights = np.log(left[contexts] + np.exp(log_probs)) - np.log(shorter_left[contexts] + np.exp(shorter))
    change = np.exp(log_probs) * (shorter + weights - log_probs)
    change += left[contexts] * (weights - orders[n - 1].backoffs[contexts])
    return -np.exp(log_probs_of_contexts[contexts]) * change


def _left(contexts: np.ndarray, log_probs: np.ndarray, count: int) -> np.ndarray:
    """Return the probability that the n-grams after each of `count` contexts leave for other tokens."""
    return np.maximum(1 - np.bincount(contexts, np.exp(log_probs), count), LEAST)


def _without(orders: Sequence[Order], links: Links, kept: Sequence[np.ndarray]) -> list[Order]:
    """Return the n-grams that are kept, with new backoff weights."""
    remaining = [replace(orders[0], backoffs=np.zeros(len(kept[0])))]
    log_probs = orders[0].log_probs.astype(float)  # of each n-gram's last token in the new model
    first = 1  # state of the first context
    for n in range(1, len(orders)):
        contexts, shorter = links.parents[n - 1], log_probs[links.endings[n]]
        stays, count = kept[n], len(orders[n - 1].tokens)
        log_probs = orders[n].log_probs.astype(float)
        left = _left(contexts[stays], log_probs[stays], count), _left(contexts[stays], shorter[stays], count)
        backoffs = np.log(left[0] / left[1])
        remaining[-1] = replace(remaining[-1], backoffs=backoffs[kept[n - 1]])
        numbers = np.cumsum(kept[n - 1]) - 1
        parents = first + numbers[contexts[stays]]
        first += len(remaining[-1].tokens)
        remaining.append(Order(parents, orders[n].tokens[stays], log_probs[stays], np.zeros(len(parents))))
        log_probs = np.where(stays, log_probs, backoffs[contexts] + shorter)
    return remaining
