"""Forced alignment in Numba: the Viterbi algorithm over the states that the loss sums over, kept in the same two rows.

`blanks[r, s]` is the blank after label s, s = 0 … L, and `labels[r, s]` is label s, s = 1 … L, in row r of a block of
frames; row 0 is the frame before the block. A short utterance is one block. For a long one only the rows between blocks
are stored, and each block is computed again when the path is traced back, so that memory grows with √T instead of T.

Letters: T frames, B utterances, C classes, L labels, N alignments.
"""

import math

import numpy as np

from asr.core.jit import helper, njit

# an unsigned index needs no test for negative values, which would cost time and prevent vector code
ZERO, ONE = np.uintp(0), np.uintp(1)
START, STOP, PEAK = 0, 1, 2
LABEL_BEFORE_BLANK, CAME, SKIPPED = 1, 2, 4  # how a state is reached: a blank from its label, a label from the last
CELLS = 1 << 21  # states × frames that a block may have (32 MiB), unless √T frames are more


@helper()
def layout(num_frames, num_labels):
    """Return the frames of a block, the number of blocks, and how many float64 an utterance of so many labels takes."""
    block = max(1, min(num_frames, max(CELLS // (num_labels + 1), 1 + int(math.sqrt(num_frames)))))
    num_blocks = (num_frames + block - 1) // block
    return block, num_blocks, 2 * (block + 1 + num_blocks + 1) * (num_labels + 1)


def workspace_size(num_frames: np.ndarray, num_labels: np.ndarray) -> int:
    """Return how many float64 a thread needs for utterances of these numbers of frames and labels (N,).

    Blocks are rounded to whole frames, so that neither the longest utterance nor the longest labelling need take most.
    """
    return max((layout(*each)[2] for each in zip(num_frames.tolist(), num_labels.tolist(), strict=True)), default=0)


@helper()
def _viterbi(log_probs, b, first, symbols, priors, blanks, labels, work):
    """Write the log probability of the best path into each state to blanks and labels, both (1 + frames, L + 1).

    Row 0 is given. Return whether all log_probs that were read are below infinity.
    """
    end, blank = np.uintp(len(symbols)), symbols[0]
    bars, given = work[:end], work[end:]
    for s in range(ZERO, end):
        # 0 where the blank before label s may be skipped
        bars[s] = 0.0 if s > ONE and symbols[s] != symbols[s - ONE] else -np.inf
        given[s] = priors[symbols[s]]
    sound = True
    for r in range(ONE, np.uintp(len(blanks))):
        before, t = r - ONE, first + r - ONE
        paused = log_probs[t, b, blank] - given[0]
        blanks[r, 0], labels[r, 0] = blanks[before, 0] + paused, -np.inf
        sound &= paused < np.inf
        for s in range(ONE, end):
            emitted = log_probs[t, b, symbols[s]] - given[s]
            sound &= emitted < np.inf
            came = max(blanks[before, s - ONE], labels[before, s - ONE] + bars[s])
            labels[r, s] = max(labels[before, s], came) + emitted
            blanks[r, s] = max(blanks[before, s], labels[before, s]) + paused
    return sound


@helper()
def _copy_rows(blanks, labels, blanks_copy, labels_copy):
    """Copy two rows (L + 1,): Numba needs 2 s more to compile an assignment of one array to part of another."""
    for s in range(len(blanks)):
        blanks_copy[s], labels_copy[s] = blanks[s], labels[s]


@njit(cache=True, nogil=True)
def best_paths(alignments, log_probs, symbols, shapes, priors, found, work):
    """Align some of N labellings with log_probs (T, B, C) less the log priors (C,).

    symbols (N, 1 + L) hold the blank, then the labels; shapes (3, N) their utterances, frames and lengths. Writes to
    `found` each label's first frame, the one after its last, and its likeliest (N, L, 3), the geometric mean of its
    probabilities (N, L), and the path's score (N,): −inf where there is no path, NaN where a label's log_probs hold NaN
    or +inf.
    """
    frames, confidences, scores = found
    for n in alignments:
        b, num_frames, end = np.uintp(shapes[0, n]), shapes[1, n], shapes[2, n] + 1
        if num_frames == 0:
            scores[n] = 0.0 if end == 1 else -np.inf
            continue
        spelt, (block, num_blocks, _) = symbols[n, :end], layout(num_frames, end - 1)
        size = (block + 1) * end
        blanks, labels = work[:size].reshape(block + 1, end), work[size : 2 * size].reshape(block + 1, end)
        kept = work[2 * size : 2 * size + 2 * num_blocks * end].reshape(num_blocks, 2, end)  # rows 0 of the blocks
        spare = work[2 * size + 2 * num_blocks * end :][: 2 * end]
        blanks[0], labels[0] = -np.inf, -np.inf
        blanks[0, 0] = 0.0
        sound, rows = True, block
        for i in range(num_blocks):
            _copy_rows(blanks[0], labels[0], kept[i, 0], kept[i, 1])
            rows = min(block, num_frames - i * block)
            sound &= _viterbi(
                log_probs, b, np.uintp(i * block), spelt, priors, blanks[: rows + 1], labels[: rows + 1], spare
            )
            if i + 1 < num_blocks:
                _copy_rows(blanks[rows], labels[rows], blanks[0], labels[0])
        s, t, r = end - 1, num_frames - 1, rows
        on_label = labels[r, s] > blanks[r, s]
        scores[n] = max(labels[r, s], blanks[r, s]) if sound else np.nan
        peak, total = -np.inf, 0.0
        while scores[n] > -np.inf and t >= 0:
            if r == 0:
                i, r = t // block, block
                _copy_rows(kept[i, 0], kept[i, 1], blanks[0], labels[0])
                _viterbi(log_probs, b, np.uintp(i * block), spelt, priors, blanks, labels, spare)
            if not on_label:
                on_label = labels[r - 1, s] > blanks[r - 1, s]
                t, r = t - 1, r - 1
                continue
            value = np.float64(log_probs[t, b, spelt[s]])
            if frames[n, s - 1, STOP] == 0:
                frames[n, s - 1, STOP] = t + 1
                peak, total = -np.inf, 0.0
            total += value
            if value >= peak:
                peak = value
                frames[n, s - 1, PEAK] = t
            stayed, came = labels[r - 1, s], blanks[r - 1, s - 1]
            skipped = labels[r - 1, s - 1] if s > 1 and spelt[s] != spelt[s - 1] else -np.inf
            if max(came, skipped) > stayed:
                frames[n, s - 1, START] = t
                confidences[n, s - 1] = np.exp(total / (frames[n, s - 1, STOP] - t))
                on_label = skipped > came
                s -= 1
            t, r = t - 1, r - 1


@njit(cache=True, nogil=True)
def best_path_within(log_probs, symbols, spans, peaks):
    """Write the likeliest frame of each of L labels to peaks (L,), on the best path on which each begins in its span.

    symbols (1 + L,) hold the blank, then the labels; spans (L, 2) the first and the last frame in which each may begin.
    So each frame of log_probs (T, C) has few states, and time and memory grow with T alone. There must be a path.
    """
    num_frames, num_labels = len(log_probs), len(symbols) - 1
    lasts = np.empty(num_labels, np.int64)
    last = num_frames
    for s in range(num_labels - 1, -1, -1):  # a label begins before the next one
        last = min(last - 1, spans[s, 1])
        lasts[s] = last
    lows, highs = np.empty(num_frames, np.int64), np.empty(num_frames, np.int64)  # how many labels have begun
    low, high, size = 0, 0, 0
    for t in range(num_frames):
        while high < num_labels and spans[high, 0] <= t:
            high += 1
        while low < num_labels and lasts[low] <= t:
            low += 1
        lows[t], highs[t] = low, high
        size += 1 + high - low
    steps = np.empty(size, np.uint8)  # where each state came from
    blanks, labels = np.full(num_labels + 1, -np.inf), np.full(num_labels + 1, -np.inf)
    blanks[0], i, low = 0.0, 0, 0
    for t in range(num_frames):
        paused = np.float64(log_probs[t, symbols[0]])
        for s in range(highs[t], lows[t] - 1, -1):
            steps[i] = LABEL_BEFORE_BLANK if labels[s] > blanks[s] else 0
            after_pause = max(blanks[s], labels[s]) + paused
            if s > 0:
                stayed, came = labels[s], blanks[s - 1]
                skipped = labels[s - 1] if s > 1 and symbols[s] != symbols[s - 1] else -np.inf
                if max(came, skipped) > stayed:
                    steps[i] |= SKIPPED if skipped > came else CAME
                labels[s] = max(stayed, max(came, skipped)) + log_probs[t, symbols[s]]
            blanks[s] = after_pause
            i += 1
        for s in range(low, lows[t]):
            blanks[s], labels[s] = -np.inf, -np.inf
        low = lows[t]
    s, on_label, begins = num_labels, labels[num_labels] > blanks[num_labels], True
    peak = -np.inf
    for t in range(num_frames - 1, -1, -1):
        i -= 1 + highs[t] - lows[t]
        step = steps[i + highs[t] - s]
        if not on_label:
            on_label, begins = step & LABEL_BEFORE_BLANK > 0, True
            continue
        if begins:
            peak, begins = -np.inf, False
        if log_probs[t, symbols[s]] >= peak:
            peak = log_probs[t, symbols[s]]
            peaks[s - 1] = t
        if step & (CAME | SKIPPED):
            on_label, begins = step & SKIPPED > 0, True
            s -= 1
