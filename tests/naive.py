"""Slow, obvious oracles that the kernels are held against.

CTC, by enumeration of all C^T paths (T ≤ 6, C ≤ 4), and again by the recursions of Graves et al. (2006) in plain log
space, with the 2L + 1 states in one row. `log_probs` are (T, C) here: one utterance.
"""

import itertools

import numpy as np


def collapse(path, blank=0):
    """Join repeats, then drop blanks: the map that Graves calls B."""
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


def paths(log_probs):
    """All C^T paths, each with its probability."""
    num_frames, num_classes = log_probs.shape
    for path in itertools.product(range(num_classes), repeat=num_frames):
        yield path, np.exp(sum(log_probs[t, c] for t, c in enumerate(path)))


def labelling_probs(log_probs, blank=0):
    """{labelling: probability} of all labellings that the frames can hold."""
    probs = {}
    for path, prob in paths(log_probs):
        labelling = collapse(path, blank)
        probs[labelling] = probs.get(labelling, 0.0) + prob
    return probs


def enumerated_loss(log_probs, target, blank=0):
    """−ln p(target)."""
    with np.errstate(divide="ignore"):
        return -np.log(labelling_probs(log_probs, blank).get(tuple(target), 0.0))


def enumerated_posteriors(log_probs, target, blank=0):
    """(T, C): the probability that a path through `target` takes class c in frame t."""
    posteriors = np.zeros(log_probs.shape)
    for path, prob in paths(log_probs):
        if collapse(path, blank) == tuple(target):
            for t, c in enumerate(path):
                posteriors[t, c] += prob
    return posteriors / posteriors.sum(axis=1, keepdims=True)


def enumerated_beam(log_probs, blank=0):
    """[(labelling, ln p)], likeliest first: what a beam search without pruning finds."""
    scored = [(labelling, np.log(prob)) for labelling, prob in labelling_probs(log_probs, blank).items() if prob > 0]
    return sorted(scored, key=lambda item: -item[1])


def pruned_beam(log_probs, beam_size, blank=0):
    """[(labelling, ln p)] of a prefix beam search over a dictionary of prefixes, likeliest first."""
    beam = {(): [0.0, -np.inf]}  # ln p of the prefix's paths that end in a blank, and of those in its last label
    for frame in log_probs:
        arrivals = []
        for prefix, (blanks, labels) in beam.items():
            either = np.logaddexp(blanks, labels)
            for c, value in enumerate(frame):
                if c == blank:
                    arrivals.append((prefix, 0, either + value))
                elif prefix[-1:] == (c,):
                    arrivals += [(prefix, 1, labels + value), ((*prefix, c), 1, blanks + value)]
                else:
                    arrivals.append(((*prefix, c), 1, either + value))
        grown = {}
        for prefix, end, value in arrivals:
            ends = grown.setdefault(prefix, [-np.inf, -np.inf])
            ends[end] = np.logaddexp(ends[end], value)
        kept = sorted(grown, key=lambda prefix: -np.logaddexp(*grown[prefix]))[:beam_size]
        beam = {prefix: grown[prefix] for prefix in kept if np.logaddexp(*grown[prefix]) > -np.inf}
    return [(prefix, np.logaddexp(*ends)) for prefix, ends in beam.items()]


def enumerated_peaks(log_probs, labelling, blank=0):
    """On the likeliest path of a labelling, the frame of each label's run where the label is likeliest."""
    spelled = (path for path, _ in paths(log_probs) if collapse(path, blank) == tuple(labelling))
    return run_peaks(log_probs, max(spelled, key=lambda path: sum(log_probs[t, c] for t, c in enumerate(path))), blank)


def run_peaks(log_probs, path, blank=0):
    """Of each run of a label in a path, the frame where the label is likeliest (the first such)."""
    peaks = []
    for label, run in itertools.groupby(range(len(path)), key=lambda t: path[t]):
        if label != blank:
            peaks.append(max(run, key=lambda t: log_probs[t, label]))
    return tuple(peaks)


def best_path(log_probs, blank=0):
    """(labelling, peaks, ln p) of the path that takes the likeliest class of each frame."""
    path = [max(range(len(frame)), key=lambda c: frame[c]) for frame in log_probs]
    return collapse(path, blank), run_peaks(log_probs, path, blank), sum(log_probs[t, c] for t, c in enumerate(path))


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def ctc(logits, target, blank=0):
    """Loss and gradient at the logits (T, C), T ≥ 1; (inf, zeros) where no path spells the target."""
    log_probs = log_softmax(np.asarray(logits, np.float64))
    states = [blank]
    for label in target:
        states += [label, blank]
    alpha = _log_alpha(log_probs, states, blank)
    beta = _log_alpha(log_probs[::-1], states[::-1], blank)[::-1, ::-1]
    total = np.logaddexp.reduce(alpha[-1, -2:])
    if total == -np.inf:
        return np.inf, np.zeros(log_probs.shape)
    gradient = np.exp(log_probs)
    for s, label in enumerate(states):  # both α and β hold the frame's own probability: once too often
        with np.errstate(invalid="ignore"):
            posterior = np.exp(alpha[:, s] + beta[:, s] - log_probs[:, label] - total)
        gradient[:, label] -= np.nan_to_num(posterior, nan=0.0)
    return -total, gradient


def _log_alpha(log_probs, states, blank):
    alpha = np.full((len(log_probs), len(states)), -np.inf)
    alpha[0, :2] = log_probs[0, states[:2]]
    for t in range(1, len(log_probs)):
        for s, label in enumerate(states):
            came = [alpha[t - 1, s]]
            if s > 0:
                came.append(alpha[t - 1, s - 1])
            if s > 1 and label not in (blank, states[s - 2]):
                came.append(alpha[t - 1, s - 2])
            alpha[t, s] = np.logaddexp.reduce(came) + log_probs[t, label]
    return alpha
