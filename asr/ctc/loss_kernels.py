"""CTC forward-backward in Numba (Graves et al. 2006, section 4.1).

The 2L + 1 states of an utterance are kept apart: state s of the blanks, s = 0 … L, stands before label s, and state s
of the labels, s = 0 … L − 1, is the label itself. Letters: T frames, B utterances, C classes, L labels.
"""

import math

import numpy as np
from numba import njit, prange

# A state lost to underflow is below 2.2e-308 before its frame is rescaled by the norm, so it is less than
# 2.2e-308 / (norm × mass) of p(l|x), with mass = Σ α β over the rescaled states of the frame: below 1e-17 within these
# bounds. They serve for β too: its norm × mass is that of α one frame later. Outside them the utterance is computed in
# logarithms. That α and β give the same total proves less: they can lose the same paths.
LEAST_NORM = 1e-40
LEAST_MASS = 1e-250


@njit(cache=True)
def _softmax(logits, probs, log_sums):
    """Write softmax(logits) (T, C) to probs, and log Σ exp of each frame to log_sums (T,)."""
    num_frames, num_classes = logits.shape
    for t in range(num_frames):
        peak = -np.inf
        for c in range(num_classes):
            peak = max(peak, float(logits[t, c]))
        total = 0.0
        for c in range(num_classes):
            probs[t, c] = math.exp(logits[t, c] - peak)
            total += probs[t, c]
        for c in range(num_classes):
            probs[t, c] /= total
        log_sums[t] = peak + math.log(total)


@njit(cache=True)
def _forward(blank_probs, label_probs, skips, blanks, labels):
    """Write rescaled α (Graves 2006, eq. 6–8) to blanks (T, L + 1), labels (T, L); return ln p(l|x), −inf if lost."""
    num_frames, num_labels = label_probs.shape
    total = 0.0
    for t in range(num_frames):
        norm = 0.0
        first = max(0, num_labels - (num_frames - t))  # states before this label cannot reach the end in time
        for s in range(num_labels + 1):
            start = 1.0 if s == 0 else 0.0
            stayed = blanks[t - 1, s] if t > 0 else start
            came = labels[t - 1, s - 1] if t > 0 and s > 0 else 0.0
            blanks[t, s] = (stayed + came) * blank_probs[t] if s >= first else 0.0
            norm += blanks[t, s]
        for s in range(num_labels):
            if t == 0:
                a = 1.0 if s == 0 else 0.0
            else:
                a = labels[t - 1, s] + blanks[t - 1, s]
                if s > 0 and skips[s]:
                    a += labels[t - 1, s - 1]
            labels[t, s] = a * label_probs[t, s] if s >= first else 0.0
            norm += labels[t, s]
        if not norm > LEAST_NORM:  # so written, NaN goes this way too
            return -np.inf
        for s in range(num_labels):
            blanks[t, s] /= norm
            labels[t, s] /= norm
        blanks[t, num_labels] /= norm
        total += math.log(norm)
    end = blanks[-1, num_labels] + (labels[-1, num_labels - 1] if num_labels > 0 else 0.0)
    return total + math.log(end) if end > 0.0 else -np.inf


@njit(cache=True)
def _backward(blank_probs, label_probs, skips, blanks, labels):
    """Turn α into posteriors of the states (terms of eq. 14); return ln p(l|x) from β (eq. 9–11), −inf if lost."""
    num_frames, num_labels = label_probs.shape
    beta_blanks, beta_labels = np.zeros(num_labels + 1), np.zeros(num_labels)
    next_blanks, next_labels = np.zeros(num_labels + 1), np.zeros(num_labels)
    beta_blanks[num_labels] = 1.0
    if num_labels > 0:
        beta_labels[num_labels - 1] = 1.0
    total = 0.0
    for t in range(num_frames - 1, -1, -1):
        if t < num_frames - 1:
            norm = 0.0
            for s in range(num_labels + 1):
                next_blanks[s] = beta_blanks[s] * blank_probs[t + 1]
                norm += next_blanks[s]
            for s in range(num_labels):
                next_labels[s] = beta_labels[s] * label_probs[t + 1, s]
                norm += next_labels[s]
            if not norm > 0.0:
                return -np.inf
            total += math.log(norm)
            for s in range(num_labels + 1):
                beta_blanks[s] = (next_blanks[s] + (next_labels[s] if s < num_labels else 0.0)) / norm
            for s in range(num_labels):
                b = next_labels[s] + next_blanks[s + 1]
                if s + 1 < num_labels and skips[s + 1]:
                    b += next_labels[s + 1]
                beta_labels[s] = b / norm
        mass = 0.0
        for s in range(num_labels + 1):
            blanks[t, s] *= beta_blanks[s]
            mass += blanks[t, s]
        for s in range(num_labels):
            labels[t, s] *= beta_labels[s]
            mass += labels[t, s]
        if not mass > LEAST_MASS:
            return -np.inf
        for s in range(num_labels + 1):
            blanks[t, s] /= mass
        for s in range(num_labels):
            labels[t, s] /= mass
    start = blank_probs[0] * beta_blanks[0] + (label_probs[0, 0] * beta_labels[0] if num_labels > 0 else 0.0)
    return total + math.log(start) if start > 0.0 else -np.inf


@njit(cache=True)
def _logaddexp(a, b):
    """Return ln(eᵃ + eᵇ), −inf for two −inf."""
    high, low = max(a, b), min(a, b)
    return high if low == -np.inf else high + math.log1p(math.exp(low - high))


@njit(cache=True)
def _log_space(blank_logs, label_logs, skips, blanks, labels):
    """Do what `_forward` and `_backward` do, in logarithms, where nothing underflows; return ln p(l|x)."""
    num_frames, num_labels = label_logs.shape
    blanks[:] = -np.inf
    labels[:] = -np.inf
    blanks[0, 0] = blank_logs[0]
    if num_labels > 0:
        labels[0, 0] = label_logs[0, 0]
    for t in range(1, num_frames):
        for s in range(num_labels + 1):
            a = blanks[t - 1, s] if s == 0 else _logaddexp(blanks[t - 1, s], labels[t - 1, s - 1])
            blanks[t, s] = a + blank_logs[t]
        for s in range(num_labels):
            a = _logaddexp(labels[t - 1, s], blanks[t - 1, s])
            if s > 0 and skips[s]:
                a = _logaddexp(a, labels[t - 1, s - 1])
            labels[t, s] = a + label_logs[t, s]
    total = blanks[-1, num_labels]
    if num_labels > 0:
        total = _logaddexp(total, labels[-1, num_labels - 1])
    if total == -np.inf:
        return total
    beta_blanks, beta_labels = np.full(num_labels + 1, -np.inf), np.full(num_labels, -np.inf)
    beta_blanks[num_labels] = 0.0
    if num_labels > 0:
        beta_labels[num_labels - 1] = 0.0
    for t in range(num_frames - 1, -1, -1):
        if t < num_frames - 1:
            for s in range(num_labels):  # upwards: label s needs blank s + 1 and label s + 1 as they were a frame later
                b = _logaddexp(beta_labels[s] + label_logs[t + 1, s], beta_blanks[s + 1] + blank_logs[t + 1])
                if s + 1 < num_labels and skips[s + 1]:
                    b = _logaddexp(b, beta_labels[s + 1] + label_logs[t + 1, s + 1])
                a = beta_labels[s] + label_logs[t + 1, s]
                beta_blanks[s] = _logaddexp(beta_blanks[s] + blank_logs[t + 1], a)
                beta_labels[s] = b
            beta_blanks[num_labels] += blank_logs[t + 1]
        for s in range(num_labels + 1):
            blanks[t, s] = math.exp(blanks[t, s] + beta_blanks[s] - total)
        for s in range(num_labels):
            labels[t, s] = math.exp(labels[t, s] + beta_labels[s] - total)
    return total


@njit(cache=True)
def _utterance(logits, target, blank, grad):
    """Return −ln p(target|logits); write softmax − posterior (eq. 16) to grad, both (T, C)."""
    num_frames, num_labels = len(logits), len(target)
    probs, log_sums = np.empty(logits.shape), np.empty(num_frames)
    _softmax(logits, probs, log_sums)
    skips = np.zeros(num_labels, np.bool_)
    label_probs = np.empty((num_frames, num_labels))
    for s in range(num_labels):
        skips[s] = s > 0 and target[s] != target[s - 1]
    for t in range(num_frames):
        for s in range(num_labels):
            label_probs[t, s] = probs[t, target[s]]
    blanks, labels = np.empty((num_frames, num_labels + 1)), np.empty((num_frames, num_labels))
    blank_probs = probs[:, blank].copy()
    total = _forward(blank_probs, label_probs, skips, blanks, labels)
    check = _backward(blank_probs, label_probs, skips, blanks, labels) if total > -np.inf else -np.inf
    if check == -np.inf:
        for t in range(num_frames):
            blank_probs[t] = logits[t, blank] - log_sums[t]
            for s in range(num_labels):
                label_probs[t, s] = logits[t, target[s]] - log_sums[t]
        total = _log_space(blank_probs, label_probs, skips, blanks, labels)
        if total == -np.inf:
            return np.inf
    for t in range(num_frames):
        for s in range(num_labels + 1):
            probs[t, blank] -= blanks[t, s]
        for s in range(num_labels):
            probs[t, target[s]] -= labels[t, s]
        for c in range(logits.shape[1]):
            grad[t, c] = probs[t, c]
    return -total


@njit(cache=True, parallel=True)
def forward_backward(logits, targets, input_lengths, target_lengths, blank, losses, grads):
    """Write losses (B,) and gradients (T, B, C) of logits (T, B, C); grads come zeroed, and stay 0 without a path.

    An utterance has no path when its frames are fewer than its labels and repeats: its loss is +inf.
    """
    for b in prange(logits.shape[1]):
        num_frames, num_labels = input_lengths[b], target_lengths[b]
        needed = num_labels
        for s in range(1, num_labels):
            needed += targets[b, s] == targets[b, s - 1]
        if num_frames < needed:
            losses[b] = np.inf
        elif num_frames == 0:
            losses[b] = 0.0
        else:
            target = targets[b, :num_labels]
            losses[b] = _utterance(logits[:num_frames, b], target, blank, grads[:num_frames, b])
