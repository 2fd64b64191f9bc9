"""The search that a configuration's `decode` section describes: CTC's beam, with a language model, or for words."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from asr.core.config import DecodeConfig
from asr.core.errors import ConfigError, ModelError
from asr.core.settings import check
from asr.ctc import Hypothesis, TokenModel, beam_search
from asr.lm import fusion
from asr.lm.folder import ABOUT, WEIGHTS, load, locate
from asr.lm.hints import Hints
from asr.lm.language_model import EDGE, UNKNOWN, LanguageModel
from asr.lm.lexicon import Lexicon
from asr.lm.ngram import NGram
from asr.lm.word_search import WordSearch

LEAST_PRIOR = 1e-6  # of a class that was hardly ever heard
RESCORED = 10  # sentences to rescore of a search for words, which takes longer to find more of them
State = tuple[tuple[str, int, int], ...]
Search = Callable[[np.ndarray, np.ndarray, int, int], list[list[Hypothesis]]]
PRETRAINED = Path(__file__).parent / "pretrained"
BEAM_THRESHOLD, TOKEN_THRESHOLD = 17.0, 3e-4  # of the search for words: nats, and a phone's posterior


def build(
    config: DecodeConfig, labels: Sequence[str], priors: Sequence[float] = (), own: NGram | None = None
) -> Search:
    """Return a function of log posteriors (T, B, C), lengths (B,), beam size and number of hypotheses.

    The tables of an n-gram over phones are made when the function is first called.

    Parameters
    ----------
    config
        The section. A language model over phones is fused into the beam; one over words needs a lexicon.
    labels : (C,)
        Labels of the acoustic model; class 0 is the blank.
    priors : (C,)
        Their priors; empty where none are known.
    own
        N-gram over phones to use where the section names no language model.

    Raises
    ------
    AsrError
        A language model, a lexicon or priors are missing or do not fit.
    """
    search = _first(config, labels, own)
    if config.label_prior_scale > 0:
        search = _without_priors(search, _log_priors(priors, len(labels)), config.label_prior_scale)
    if config.rescore_lm is None:
        return search
    reorder = rescoring(config, labels, own)

    def rescored(log_probs: np.ndarray, lengths: np.ndarray, beam: int, nbest: int) -> list[list[Hypothesis]]:
        found = search(log_probs, lengths, beam, num_rescored(config, labels, beam, nbest))
        return [each[:nbest] for each in reorder(found)]

    return rescored


def token_model(config: DecodeConfig, labels: Sequence[str], own: NGram | None = None) -> TokenModel | None:
    """Return the weights of the n-gram over labels that a configuration's search is fused with; None without one.

    Parameters and errors are those of `build`.
    """
    lm = own if config.lm is None else language_model(config.lm, tuple(labels))
    if not isinstance(lm, NGram) or lm.unit == "words":
        return None
    return fusion.automaton(lm, labels, config.lm_weight, config.insertion_penalty)


def find(name: str | Path) -> Path:
    """Return the path of a language model: what lies at the path, or else the shipped model of the name.

    >>> find("runs/mine").as_posix()
    'runs/mine'
    """
    shipped = PRETRAINED / name
    return shipped if shipped.is_dir() and not Path(name).exists() else Path(name)


def language_model(name: str, labels: tuple[str, ...]) -> LanguageModel:
    """Read a language model; an ARPA file is over phones if all its tokens are labels, else over words.

    A cache keeps the model as long as its files stay as they are.

    Raises
    ------
    AsrError
        The model is missing or damaged.
    """
    path = find(name)
    folder = locate(path)
    read = [path] if path.is_file() else [folder / ABOUT, folder / WEIGHTS]
    return _language_model(path, labels, _state(*read))


@functools.lru_cache(4)
def _language_model(path: Path, labels: tuple[str, ...], state: State) -> LanguageModel:
    """Read a language model whose files are in a state, which is part of the cache's key."""
    lm = load(path)
    if isinstance(lm, NGram) and path.is_file() and {*lm.tokens} <= {*labels, EDGE, UNKNOWN}:
        return replace(lm, unit="phones")
    return lm


def _state(*files: Path) -> State:
    """Return the path, the modification time in ns and the size in bytes of each file that exists."""
    found = [(file.absolute(), file.stat()) for file in files if file.is_file()]
    return tuple((str(file), status.st_mtime_ns, status.st_size) for file, status in found)


@functools.lru_cache(4)
def _lexicon(name: str, words: tuple[str, ...], state: State) -> Lexicon:
    """Read a lexicon whose file is in a state, which is part of the cache's key."""
    return Lexicon.of(words) if name == "cmudict" else Lexicon.read(name)


def _log_priors(priors: Sequence[float], num_classes: int) -> np.ndarray:
    """Return ln of the classes' priors (C,)."""
    if len(priors) != num_classes:
        fault = f"needs priors of {num_classes} classes, and the model has {len(priors)}: asr calibrate finds them"
        raise ConfigError(f"decode.label_prior_scale {fault}", "decode.label_prior_scale")
    return np.log(np.maximum(priors, LEAST_PRIOR))


def _without_priors(search: Search, log_priors: np.ndarray, scale: float) -> Search:
    """Return a search of posteriors divided by priorsˢᶜᵃˡᵉ; confidences stay the posteriors themselves.

    Source: Y. Miao, M. Gowayyed and F. Metze, "EESEN: End-to-end speech recognition using deep RNN models and
    WFST-based decoding", ASRU 2015, section 3.2.
    """

    def divided(log_probs: np.ndarray, lengths: np.ndarray, beam: int, nbest: int) -> list[list[Hypothesis]]:
        likelihoods = log_probs - scale * log_priors
        likelihoods -= np.logaddexp.reduce(likelihoods, axis=-1, keepdims=True)
        found = search(likelihoods.astype(log_probs.dtype), lengths, beam, nbest)
        return [[each.sure_by(log_probs[:, b]) for each in best] for b, best in enumerate(found)]

    return divided


def _first(config: DecodeConfig, labels: Sequence[str], own: NGram | None) -> Search:
    weight, penalty = config.lm_weight, config.insertion_penalty
    lm = own if config.lm is None else language_model(config.lm, tuple(labels))
    if config.hints and (lm is None or lm.unit != "words"):
        raise ConfigError("decode.hints need a language model over words: decode.lm names it", "decode.hints")
    if lm is None:
        return beam_search
    if lm.unit == "words":
        words = _words(lm, config, labels)
        return lambda log_probs, lengths, beam, nbest: words(
            log_probs, lengths, beam, nbest, BEAM_THRESHOLD, TOKEN_THRESHOLD
        )
    if isinstance(lm, NGram):
        fusion.classes(lm, labels)  # a label that the model lacks is known at once
        states = functools.cache(functools.partial(fusion.automaton, lm, labels, weight, penalty))
        return lambda log_probs, lengths, beam, nbest: beam_search(
            log_probs, lengths, beam, nbest, token_model=states()
        )
    return lambda log_probs, lengths, beam, nbest: fusion.beam_search(
        log_probs, lengths, lm, labels, weight, penalty, beam, nbest
    )


def _words(lm: LanguageModel, config: DecodeConfig, labels: Sequence[str]) -> WordSearch:
    """Return a search for words, which in an open vocabulary spells unknown words."""
    if not isinstance(lm, NGram):
        raise ConfigError(f"{config.lm} is a recurrent model over words: search with an n-gram, and rescore with it")
    lexicon = _lexicon(config.lexicon, lm.tokens, _state(Path(config.lexicon)))
    hints = Hints.read(config.hints, config.hint_bonus)
    is_open = UNKNOWN in lm.index
    return WordSearch(lexicon, lm, labels, config.lm_weight, config.insertion_penalty, is_open, hints)


def num_rescored(config: DecodeConfig, labels: Sequence[str], beam: int, nbest: int) -> int:
    """Return how many hypotheses of a beam are sorted again: for words a few, and for phones all."""
    unit = language_model(str(config.rescore_lm), tuple(labels)).unit
    return max(nbest, min(beam, RESCORED)) if unit == "words" else beam


def rescoring(
    config: DecodeConfig, labels: Sequence[str], own: NGram | None = None
) -> Callable[[Sequence[Sequence[Hypothesis]]], list[list[Hypothesis]]]:
    """Return a function that sorts lists of hypotheses again, after language models have added to their scores.

    Parameters
    ----------
    config, labels, own
        As for `build`.

    Raises
    ------
    AsrError
        As `build`.
    """
    try:
        weighted = [(language_model(str(config.rescore_lm), tuple(labels)), config.rescore_weight)]
    except ModelError as error:
        raise ModelError(f"{error} (it rescores words: --no-rescore or decode.rescore_lm=null go without)") from error
    lm = own if config.lm is None else language_model(config.lm, tuple(labels))
    if config.rescored_lm_weight is not None and lm is not None:
        weighted.append((lm, config.rescored_lm_weight - config.lm_weight))
    for (each, _), key in zip(weighted, ("decode.rescore_lm", "decode.lm"), strict=False):
        check(each.unit in ("phones", "words"), key, "be a model over phones or words to rescore with", each.unit)
        if each.unit == "words" and UNKNOWN not in each.index:
            raise ConfigError(
                f"{key} must know {UNKNOWN} to rescore with: train it with text.open_vocabulary=true", key
            )

    def tokens(hypothesis: Hypothesis, unit: str) -> list[str]:
        if unit == "phones":
            return [labels[token] for token in hypothesis.tokens]
        if hypothesis.words is None:
            raise ConfigError("decode.rescore_lm is over words: decode.lm must be over words too")
        return list(hypothesis.words)

    def again(found: Sequence[Sequence[Hypothesis]]) -> list[list[Hypothesis]]:
        flat = [each for hypotheses in found for each in hypotheses]
        added = np.sum(
            [weight * lm.totals([tokens(each, lm.unit) for each in flat]) for lm, weight in weighted], axis=0
        )
        scored = iter([replace(each, score=each.score + more) for each, more in zip(flat, added.tolist(), strict=True)])
        lists = ([*islice(scored, len(hypotheses))] for hypotheses in found)
        return [sorted(each, key=lambda hypothesis: -hypothesis.score) for each in lists]

    return again
