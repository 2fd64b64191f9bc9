"""Long recordings: a network hears windows that overlap, and the phones found are aligned piece by piece.

    features ─ windows ─▶ evidence of each ─ join ─▶ evidence of all ─ decode ─▶ Hypothesis ─ pieces ─▶ short ones

A window is heard with context on either side, whose evidence is left out: what a frame gets then hardly depends on
where windows begin. Decoding is linear in time and sees all; alignment is not, and is cut where nobody speaks.

Letters: T feature frames, F values a frame, T' output frames, n feature frames an output frame, C classes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from asr.ctc import Hypothesis
from asr.progress import track

CORE, CONTEXT = 2400, 300  # feature frames of a window, and heard beside it
BATCH = 8  # windows at a time
PIECE = 20.0  # seconds that are aligned at once, about

Evidence = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


def evidence(model: Evidence, features: np.ndarray, subsampling: int, progress: bool = False) -> np.ndarray:
    """Return what a network gives a recording (T', C), heard whole or, where it is long, in windows.

    Parameters
    ----------
    model
        Maps features (T, F) of some utterances to their evidence.
    features : (T, F)
        Normalised.
    subsampling
        n.
    progress
        Show a bar on standard error.

    Examples
    --------
    >>> heard = evidence(lambda utterances: [each[::3] for each in utterances], np.arange(9000.0)[:, None], 3)
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


def pieces(hypothesis: Hypothesis, num_frames: int, frame_shift: float) -> Iterator[tuple[Hypothesis, int, int]]:
    """Cut what was found in a long recording into what can be aligned.

    Parameters
    ----------
    hypothesis
        Of the whole recording.
    num_frames
        T'.
    frame_shift
        Seconds an output frame.

    Yields
    ------
    piece, start, end
        Some of the tokens, and the output frames that they lie in. The pieces are about `PIECE` long and end where the
        gap between two tokens is widest near there.

    Examples
    --------
    >>> found = Hypothesis((1, 2, 3), (10, 20, 800), 0.0, (0.9, 0.8, 0.7))
    >>> [(piece.tokens, start, end) for piece, start, end in pieces(found, 2000, 0.03)]
    [((1, 2), 0, 410), ((3,), 410, 2000)]
    """
    times, target = np.array(hypothesis.timesteps), PIECE / frame_shift
    first, start = 0, 0
    while first < len(times) and num_frames - start > 1.5 * target:
        near = (
            np.flatnonzero((times[first:-1] >= start + target / 2) & (times[first:-1] < start + 1.5 * target)) + first
        )
        if len(near) == 0:  # a long silence, or the last token: cut after what there is before it
            before = np.flatnonzero(times[first:] < start + target / 2) + first
            near = before[-1:] if len(before) and before[-1] + 1 < len(times) else near
        if len(near) == 0:
            break
        last = near[np.argmax(times[near + 1] - times[near])]
        end = int(times[last] + times[last + 1] + 1) // 2
        yield _part(hypothesis, first, int(last) + 1, start), start, end
        first, start = int(last) + 1, end
    yield _part(hypothesis, first, len(times), start), start, num_frames


def _part(hypothesis: Hypothesis, first: int, last: int, start: int) -> Hypothesis:
    return replace(
        hypothesis,
        tokens=hypothesis.tokens[first:last],
        timesteps=tuple(time - start for time in hypothesis.timesteps[first:last]),
        confidences=hypothesis.confidences[first:last],
    )
