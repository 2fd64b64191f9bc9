"""Long recordings: the network hears overlapping windows, and the emissions are decoded in pieces.

    features ─ windows ─▶ emissions of each ─ joined ─▶ emissions of all ─ cuts ─▶ pieces, decoded side by side

Each window has context on either side, and the emissions of the context are dropped. What a frame gets then hardly
depends on where the windows begin. Pieces are cut where the network has been surest of a blank for a while. All likely
paths share such a blank, so that decoding the pieces one by one finds what decoding the whole recording finds. That
does not hold for a search with a language model, which remembers what was said before the pause. A search for words
begins anew only after a pause that mostly parts sentences, and one with a language model over phones goes over the
whole recording. The phones that they find get their times piece by piece.

Letters: T feature frames, F values a frame, T' output frames, n feature frames an output frame, C classes.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from asr.core.terminal import track
from asr.ctc import Hypothesis

CORE, CONTEXT = 2400, 300  # feature frames of a window, and of its context on either side
WHOLE = 2 * CORE  # feature frames of the longest recording that goes through a network as a whole
BATCH = 8  # windows, pieces or recordings that are computed at once
ALIKE = 0.9  # of the length of the longest recording of a batch, that the others have: a network computes filling, too
PIECE, PAUSE = 20.0, 0.3  # seconds: rough length of a piece, and of the blanks around a cut
SILENCE, SURE = 0.6, -0.05  # seconds of blanks between words that are searched apart, and their mean log posterior

T = TypeVar("T")
Network = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


def emissions(network: Network, features: np.ndarray, subsampling: int, progress: bool = False) -> np.ndarray:
    """Return a network's emissions (T', C) for a recording; a long recording goes through it in windows.

    Parameters
    ----------
    network
        Maps the features (T, F) of several utterances to their emissions.
    features : (T, F)
        Normalised.
    subsampling
        n.
    progress
        Show a progress bar on standard error.

    Examples
    --------
    >>> joined = emissions(lambda utterances: [each[::3] for each in utterances], np.arange(9000.0)[:, None], 3)
    >>> np.array_equal(joined[:, 0], np.arange(0, 9000, 3))
    True
    """
    if len(features) <= WHOLE:
        return network([features])[0]
    core, context = (each - each % subsampling for each in (CORE, CONTEXT))
    joined = []
    for starts in batches(range(0, len(features), core), "listening", progress):
        found = network([features[max(0, start - context) : start + core + context] for start in starts])
        for start, rows in zip(starts, found, strict=True):
            before = min(start, context) // subsampling
            joined.append(rows[before : before + core // subsampling])
    return np.concatenate(joined)


def batches(items: Sequence[T], title: str, progress: bool = False) -> Iterable[Sequence[T]]:
    """Yield `BATCH` items at a time, with a progress bar of this title if that is asked for.

    >>> [len(batch) for batch in batches(range(20), "counting")]
    [8, 8, 4]
    """
    firsts = range(0, len(items), BATCH)
    for first in track(firsts, title) if progress and len(firsts) > 1 else firsts:
        yield items[first : first + BATCH]


def like_lengths(lengths: Mapping[int, int]) -> list[list[int]]:
    """Return recordings as batches of like length, from the numbers of their feature frames by their names.

    >>> like_lengths({0: 300, 1: 980, 2: 310, 3: 1000})
    [[0, 2], [1, 3]]
    """
    found = list[list[int]]()
    for name in sorted(lengths, key=lengths.__getitem__):
        if not found or len(found[-1]) == BATCH or lengths[found[-1][0]] < ALIKE * lengths[name]:
            found.append([])
        found[-1].append(name)
    return found


def cuts(log_probs: np.ndarray, frame_shift: float, pause: float = PAUSE, least: float = -np.inf) -> list[int]:
    """Return the frames at which to cut a recording's emissions into pieces, 0 and T' included.

    Parameters
    ----------
    log_probs : (T', C)
        Natural logs; class 0 is the blank.
    frame_shift
        Seconds from one output frame to the next.
    pause
        Seconds of the blanks around a cut.
    least
        Their mean log posterior. Where none is as sure for long, the piece is longer.

    Examples
    --------
    >>> log_probs = np.log(np.tile([0.1, 0.9], (2000, 1)))
    >>> log_probs[700:720, 0] = log_probs[1300:1320, 0] = 0.0  # two pauses
    >>> cuts(log_probs, 0.03)
    [0, 705, 1305, 2000]
    >>> cuts(log_probs, 0.03, SILENCE, SURE), cuts(log_probs, 0.03, 1.0, SURE)
    ([0, 710, 1310, 2000], [0, 2000])
    """
    target = round(PIECE / frame_shift)
    width = max(round(pause / frame_shift), 1)
    sure = np.convolve(log_probs[:, 0], np.full(width, 1 / width), "same")
    found, first = [0], target // 2
    while len(log_probs) - first > target:
        last = min(first + target, len(log_probs) - target // 2)
        place = first + int(sure[first:last].argmax())
        first = last
        if sure[place] >= least:
            found.append(place)
            first = place + target // 2
    return [*found, len(log_probs)]


def split(hypothesis: Hypothesis, cuts: Sequence[int]) -> list[Hypothesis]:
    """Return the tokens of a hypothesis that peak in each piece, as a hypothesis of its frames.

    Parameters
    ----------
    hypothesis
        Of all pieces together. If there are several, their hypotheses have no words, since a word may lie in two.
    cuts
        The frames at which the pieces begin, and that after the last, counted from the hypothesis's first frame.

    Examples
    --------
    >>> [part.timesteps for part in split(Hypothesis((5, 3, 4), (2, 9, 15), -1.0, (0.9, 0.8, 0.7)), [0, 10, 20])]
    [(2, 9), (5,)]
    """
    if len(cuts) == 2:
        return [hypothesis]
    places = np.searchsorted(hypothesis.timesteps, cuts).tolist()
    return [
        Hypothesis(
            hypothesis.tokens[first:last],
            tuple(timestep - start for timestep in hypothesis.timesteps[first:last]),
            hypothesis.score,
            hypothesis.confidences[first:last],
        )
        for start, (first, last) in zip(cuts, itertools.pairwise(places), strict=False)
    ]
