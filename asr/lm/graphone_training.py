"""Training of joint n-grams of letters and phones: an alignment by expectation maximisation, then an n-gram of it.

Which phones each letter of a word stands for is hidden. In the model of the alignment the graphones of a word are
independent of each other,

    p(word, phones) = Σ_alignments Π p(graphone),

and EM finds their probabilities: expected counts by the forward-backward algorithm over (letters done, phones done),
then relative frequencies. The most probable alignment of each pronunciation is a sequence of graphones, and an n-gram
is estimated from these sequences. M. Bisani and H. Ney, "Joint-sequence models for grapheme-to-phoneme conversion",
Speech Communication 50(5), 2008, sections 3.1 and 3.2; in their terms the graphones have one letter each, and 0 to
`max_phones` phones. J. R. Novak et al., "Phonetisaurus: Exploring grapheme-to-phoneme conversion with joint n-gram
models in the WFST framework", Natural Language Engineering 22(6), 2016, align once, as here.

Letters: P pairs of a word and a pronunciation with equally many letters and phones, L letters, S phones, V graphones.
"""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from asr.core.errors import ConfigError
from asr.core.terminal import track
from asr.lm.estimation import estimate
from asr.lm.graphones import JOINT, Graphones, name
from asr.lm.pruning import prune
from asr.lm.quantisation import quantise
from asr.lm.text import GRAPHONES

STEPS, LEAST_GAIN = 30, 1e-5  # of EM; it stops when a step adds a smaller share to the log likelihood
MOST_BEYOND = 3  # letters that the order may be above those of the longest word: two ends, and one empty order
Pair = tuple[str, tuple[str, ...]]


@dataclass(frozen=True)
class Trained:
    """A model, and what it was made of.

    Attributes
    ----------
    model
        The joint n-gram.
    num_pairs
        Words with a pronunciation that were learnt.
    left_out
        Those with more phones than their letters can stand for.
    log_likelihoods
        Of the alignment model before each step of EM; it never falls.
    """

    model: Graphones
    num_pairs: int
    left_out: Sequence[Pair]
    log_likelihoods: Sequence[float]


def train(
    lexicon: Mapping[str, Sequence[tuple[str, ...]]],
    order: int = 5,
    max_phones: int = 2,
    threshold: float = 0.0,
    bits: int | None = None,
) -> Trained:
    """Train a joint n-gram.

    Parameters
    ----------
    lexicon
        One or more pronunciations of each word.
    order
        Graphones of the longest n-grams.
    max_phones
        The most phones that one letter stands for.
    threshold
        As in `asr.lm.pruning.prune`; 0 keeps all n-grams.
    bits
        As in `asr.lm.quantisation.quantise`; None keeps float32.

    Raises
    ------
    ConfigError
        There is no word with a pronunciation, the words are too short for the order, or a phone's name has the
        character that joins names.
    """
    strange = {phone for each in lexicon.values() for phones in each for phone in phones if JOINT in phone}
    if strange:
        raise ConfigError(f"a phone is named {min(strange)!r}: names must not have {JOINT!r}")
    pairs = [(word, phones) for word, several in lexicon.items() for phones in several]
    fitting = [pair for pair in pairs if 0 < len(pair[1]) <= max_phones * len(pair[0])]
    if not fitting:
        raise ConfigError("no word with a pronunciation, of so many phones as its letters can stand for, to learn from")
    longest = max(len(word) for word, _ in fitting)
    if order > longest + MOST_BEYOND:
        raise ConfigError(
            f"the lexicon has too few words to learn {order}-grams from, the longest of {longest} letters: "
            "give more words, or lower --order"
        )
    alignment = Alignment(fitting, max_phones)
    sequences = alignment.best()
    lm = estimate(sequences, "words", order)
    if threshold > 0:
        lm = prune(lm, threshold, estimate(sequences, "words", order, "witten_bell"))
    if bits is not None:
        lm = quantise(lm, bits)
    left_out = [pair for pair in pairs if not 0 < len(pair[1]) <= max_phones * len(pair[0])]
    return Trained(Graphones(replace(lm, unit=GRAPHONES)), len(fitting), left_out, alignment.log_likelihoods)


@dataclass(frozen=True)
class _Batch:
    """Pairs with equally many letters and phones.

    Attributes
    ----------
    pairs : (P,)
        Their numbers.
    graphones : list of (P, L, S + 1 − k) int32
        For each number of phones k, the graphone of each letter with the k phones from each place on.
    """

    pairs: np.ndarray
    graphones: list[np.ndarray]


class Alignment:
    """The alignment of pairs, which EM finds.

    Attributes
    ----------
    names : (V,)
        Every letter with any phones beside which it may stand.
    probs : (V,)
        The probability of each graphone.
    log_likelihoods
        Of the pairs before each step.
    """

    def __init__(self, pairs: Sequence[Pair], max_phones: int, num_steps: int = STEPS):
        self.names, self.batches = _number(pairs, max_phones)
        self.probs = np.full(len(self.names), 1 / len(self.names))
        self.num_pairs = len(pairs)
        self.log_likelihoods: list[float] = []
        for _ in range(num_steps):
            counts, log_likelihood = self.expectations()
            self.log_likelihoods.append(log_likelihood)
            self.probs = counts / counts.sum()
            gains = np.diff(self.log_likelihoods[-2:])
            if len(gains) and gains[0] <= LEAST_GAIN * abs(log_likelihood):
                break

    def expectations(self) -> tuple[np.ndarray, float]:
        """Return the expected count of each graphone (V,), and the log likelihood of the pairs."""
        counts, log_likelihood = np.zeros(len(self.probs)), 0.0
        for batch in self.batches:
            alphas, scales = _forward(batch, self.probs)
            log_likelihood += float(np.log(scales).sum())
            beta = np.zeros_like(alphas[-1])
            beta[:, -1] = 1
            for i in range(len(alphas) - 2, -1, -1):
                beta, after = np.zeros_like(beta), beta / scales[i][:, None]
                for k, graphones in enumerate(batch.graphones):
                    each, end = graphones[:, i], beta.shape[1] - k
                    shares = self.probs[each] * after[:, k:]
                    beta[:, :end] += shares
                    counts += np.bincount(each.ravel(), (alphas[i][:, :end] * shares).ravel(), len(counts))
        return counts, log_likelihood

    def best(self) -> list[list[str]]:
        """Return the most probable alignment of each pair, as names of graphones."""
        found: list[list[str]] = [[] for _ in range(self.num_pairs)]
        with np.errstate(divide="ignore"):
            log_probs = np.log(self.probs)
        for batch in self.batches:
            num_letters, num_phones = batch.graphones[0].shape[1], batch.graphones[0].shape[2] - 1
            scores = np.full((len(batch.pairs), num_phones + 1), -np.inf)
            scores[:, 0] = 0
            chosen = []
            for i in range(num_letters):
                ways = np.full((len(batch.graphones), *scores.shape), -np.inf)
                for k, graphones in enumerate(batch.graphones):
                    ways[k, :, k:] = scores[:, : num_phones + 1 - k] + log_probs[graphones[:, i]]
                chosen.append(ways.argmax(axis=0))
                scores = ways.max(axis=0)
            places, rows = np.full(len(scores), num_phones), np.arange(len(scores))
            for i in range(num_letters - 1, -1, -1):
                sizes = chosen[i][rows, places]
                places = places - sizes
                for row, (pair, size, place) in enumerate(zip(batch.pairs, sizes, places, strict=True)):
                    found[pair].append(self.names[batch.graphones[size][row, i, place]])
        return [each[::-1] for each in found]


def _forward(batch: _Batch, probs: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the scaled forward probabilities after each letter, L + 1 times (P, S + 1), and the scales, L times (P,).

    The product of a pair's scales is its probability: the last letter's is the probability of all phones.
    """
    num_pairs, num_letters, width = batch.graphones[0].shape
    alphas, scales = [np.zeros((num_pairs, width))], list[np.ndarray]()
    alphas[0][:, 0] = 1
    for i in range(num_letters):
        alpha = np.zeros((num_pairs, width))
        for k, graphones in enumerate(batch.graphones):
            alpha[:, k:] += alphas[-1][:, : width - k] * probs[graphones[:, i]]
        scales.append(alpha.sum(axis=1) if i + 1 < num_letters else alpha[:, -1])
        alphas.append(alpha / scales[-1][:, None])
    return alphas, scales


def _number(pairs: Sequence[Pair], max_phones: int) -> tuple[list[str], list[_Batch]]:
    """Give each graphone that an alignment may have a number, and group the pairs by their lengths."""
    index: defaultdict[tuple[str, tuple[str, ...]], int] = defaultdict()
    index.default_factory = index.__len__
    groups = defaultdict(list)
    for i, (word, phones) in enumerate(pairs):
        groups[len(word), len(phones)].append(i)
    batches = []
    for (num_letters, num_phones), members in track(sorted(groups.items()), "aligning letters and phones", len(groups)):
        graphones = []
        for k in range(min(max_phones, num_phones) + 1):
            numbers = [
                index[letter, phones[j : j + k]]
                for word, phones in (pairs[i] for i in members)
                for letter, j in itertools.product(word, range(num_phones + 1 - k))
            ]
            graphones.append(np.array(numbers, np.int32).reshape(len(members), num_letters, num_phones + 1 - k))
        batches.append(_Batch(np.array(members), graphones))
    return [name(*graphone) for graphone in index], batches
