"""Long recordings: a network hears windows that overlap, and what it heard is decoded in pieces.

    features ─ windows ─▶ emissions of each ─ join ─▶ of all ─ cuts ─▶ pieces, decoded and aligned side by side

A window is heard with context on either side, whose emissions are left out: what a frame gets then hardly depends on
where windows begin. Pieces are cut where the network is surest of a blank for a while, which all likely paths share: to
decode them apart then finds what to decode them as one does.

Letters: T feature frames, F values a frame, T' output frames, n feature frames an output frame, C classes.
"""

from collections.abc import Callable, Sequence

import numpy as np

from asr.core.terminal import track

CORE, CONTEXT = 2400, 300  # feature frames of a window, and heard beside it
BATCH = 8  # windows at a time
PIECE, PAUSE = 20.0, 0.3  # seconds that are decoded at once, about; of blanks about a cut, about

Emissions = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


def emissions(model: Emissions, features: np.ndarray, subsampling: int, progress: bool = False) -> np.ndarray:
    """Return what a network gives a recording (T', C), heard whole or, where it is long, in windows.

    Parameters
    ----------
    model
        Maps features (T, F) of some utterances to their emissions.
    features : (T, F)
        Normalised.
    subsampling
        n.
    progress
        Show a bar on standard error.

    Examples
    --------
    >>> heard = emissions(lambda utterances: [each[::3] for each in utterances], np.arange(9000.0)[:, None], 3)
    >>> np.array_equal(heard[:, 0], np.arange(0, 9000, 3))
    True
    """
    if len(features) <= 2 * CORE:
        return model([features])[0]
    core, context = (each - each % subsampling for each in (CORE, CONTEXT))
    starts = range(0, len(features), core)
    joined = []
    firsts = range(0, len(starts), BATCH)
    for first in track(firsts, "listening") if progress else firsts:
        group = starts[first : first + BATCH]
        heard = model([features[max(0, start - context) : start + core + context] for start in group])
        for start, rows in zip(group, heard, strict=True):
            before = min(start, context) // subsampling
            joined.append(rows[before : before + core // subsampling])
    return np.concatenate(joined)


def cuts(log_probs: np.ndarray, frame_shift: float) -> list[int]:
    """Return where to cut a recording's emissions: frames, from 0 to T'.

    Parameters
    ----------
    log_probs : (T', C)
        Natural logs, class 0 the blank.
    frame_shift
        Seconds an output frame.

    Examples
    --------
    >>> log_probs = np.log(np.tile([0.1, 0.9], (2000, 1)))
    >>> log_probs[700:720, 0] = log_probs[1300:1320, 0] = 0.0  # two pauses
    >>> cuts(log_probs, 0.03)
    [0, 705, 1305, 2000]
    """
    target = round(PIECE / frame_shift)
    width = max(round(PAUSE / frame_shift), 1)
    sure = np.convolve(log_probs[:, 0], np.full(width, 1 / width), "same")
    found = [0]
    while len(log_probs) - found[-1] > 1.5 * target:
        first = found[-1] + target // 2
        last = min(first + target, len(log_probs) - target // 2)
        found.append(first + int(sure[first:last].argmax()))
    return [*found, len(log_probs)]
