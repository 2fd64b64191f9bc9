"""Slow, obvious oracles that the kernels are held against.

CTC, by enumeration of all C^T paths (T ≤ 6, C ≤ 4), and again by the recursions of Graves et al. (2006) in plain log
space, with the 2L + 1 states in one row; decoders over dictionaries of prefixes. `log_probs` are (T, C) here: one
utterance. A token model is anything with `scores`, `next_states` and `finals`.
"""

import itertools
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext

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


def enumerated_beam(log_probs, blank=0, token_model=None):
    """[(labelling, ln p + log weight)], likeliest first: what a beam search without pruning finds."""
    scored = {}
    for labelling, prob in labelling_probs(log_probs, blank).items():
        if prob > 0:
            scored[labelling] = np.log(prob) + (weight(token_model, labelling) if token_model else 0.0)
    possible = [item for item in scored.items() if item[1] > -np.inf]
    return sorted(possible, key=lambda item: -item[1])


def walk(token_model, prefix):
    """The state of a token model that has read a prefix, and the log weights met on the way."""
    state, total = 0, 0.0
    for token in prefix:
        total += token_model.scores[state][token]
        state = token_model.next_states[state][token]
    return state, total


def weight(token_model, labelling):
    """A token model's log weight of a whole labelling."""
    state, total = walk(token_model, labelling)
    return total + token_model.finals[state]


def prefix_search(log_probs, blank=0):
    """(labelling, ln p): the likeliest, by best-first search over prefixes (Graves et al. 2006, section 3.2).

    Of all prefixes still open, the one whose extensions hold the most probability is made longer by each label, until
    one labelling is likelier than all extensions of any open prefix together.
    """
    probs = np.exp(log_probs)
    blank_ends = np.cumprod([1.0, *probs[:, blank]])  # of the empty prefix; row t is after t frames
    best, best_prob = (), blank_ends[-1]
    remaining = {(): (1.0 - best_prob, np.stack([blank_ends, np.zeros(len(blank_ends))], 1))}
    while remaining:
        prefix = max(remaining, key=lambda prefix: remaining[prefix][0])
        beyond, ends = remaining.pop(prefix)
        if beyond <= best_prob:
            break
        for c in range(probs.shape[1]):
            if c != blank:
                begun, longer = _longer_prefix(probs, ends, c, blank, repeated=prefix[-1:] == (c,))
                prob = longer[-1].sum()
                remaining[(*prefix, c)] = begun - prob, longer
                if prob > best_prob:
                    best, best_prob = (*prefix, c), prob
    return best, np.log(best_prob)


def _longer_prefix(probs, ends, c, blank, repeated):
    """Probability that a labelling begins with the prefix and c, and γ (T + 1, 2) of that longer prefix.

    γ[t] holds the probabilities that t frames spell a prefix and end in a blank, and in its last label.
    """
    begun, longer = 0.0, np.zeros(ends.shape)
    for t, frame in enumerate(probs, 1):
        arrived = frame[c] * (ends[t - 1, 0] if repeated else ends[t - 1].sum())
        longer[t] = frame[blank] * longer[t - 1].sum(), frame[c] * longer[t - 1, 1] + arrived
        begun += arrived
    return begun, longer


def pruned_beam(log_probs, beam_size, blank=0, beam_threshold=np.inf, token_threshold=0.0, token_model=None):
    """[(labelling, score)] of a prefix beam search over a dictionary of prefixes, likeliest first."""
    least = np.log(token_threshold) if token_threshold > 0 else -np.inf
    beam = {(): [0.0, -np.inf]}  # ln p of the prefix's paths that end in a blank, and of those in its last label
    for frame in log_probs:
        grown = {}
        for prefix, end, value in _arrivals(frame, beam, blank, least, token_model):
            ends = grown.setdefault(prefix, [-np.inf, -np.inf])
            ends[end] = np.logaddexp(ends[end], value)
        totals = {prefix: np.logaddexp(*ends) for prefix, ends in grown.items()}
        kept = sorted(totals, key=lambda prefix: -totals[prefix])[:beam_size]
        floor = max(totals.values(), default=-np.inf) - beam_threshold
        beam = {prefix: grown[prefix] for prefix in kept if totals[prefix] > -np.inf and totals[prefix] >= floor}
    finals = {prefix: token_model.finals[walk(token_model, prefix)[0]] if token_model else 0.0 for prefix in beam}
    scored = [(prefix, np.logaddexp(*ends) + finals[prefix]) for prefix, ends in beam.items()]
    return sorted([item for item in scored if item[1] > -np.inf], key=lambda item: -item[1])


def _arrivals(frame, beam, blank, least, token_model):
    """(prefix, 0 for a blank or 1 for its last label, ln p) of each way to go on from a beam in one frame."""
    for prefix, (blanks, labels) in beam.items():
        state = walk(token_model, prefix)[0] if token_model else 0
        for c, value in enumerate(frame):
            if c == blank:
                yield prefix, 0, np.logaddexp(blanks, labels) + value
                continue
            repeated = prefix[-1:] == (c,)
            if repeated:
                yield prefix, 1, labels + value
            if value >= least:
                added = token_model.scores[state][c] if token_model else 0.0
                yield (*prefix, c), 1, (blanks if repeated else np.logaddexp(blanks, labels)) + value + added


def enumerated_best_path(log_probs, labelling, blank=0):
    """(score, path) of the likeliest path that spells a labelling."""
    spelled = (path for path, _ in paths(log_probs) if collapse(path, blank) == tuple(labelling))
    scored = ((sum(log_probs[t, c] for t, c in enumerate(path)), path) for path in spelled)
    return max(scored, key=lambda item: item[0])


def runs(path, blank=0):
    """[(label, start, end)] of the runs of labels in a path; `end` is the frame after the last."""
    found = []
    for label, run in itertools.groupby(range(len(path)), key=lambda t: path[t]):
        frames = list(run)
        if label != blank:
            found.append((label, frames[0], frames[-1] + 1))
    return found


def run_peaks(log_probs, path, blank=0):
    """Of each run of a label in a path, the frame where the label is likeliest (the first such)."""
    return tuple(start + int(np.argmax(log_probs[start:end, label])) for label, start, end in runs(path, blank))


def enumerated_peaks(log_probs, labelling, blank=0):
    """On the likeliest path of a labelling, the frame of each label's run where the label is likeliest."""
    return run_peaks(log_probs, enumerated_best_path(log_probs, labelling, blank)[1], blank)


def enumerated_medians(log_probs, labelling, blank=0):
    """[(label, start, end)]: medians of where a label's runs start and end on the paths of a labelling."""
    spelled = [(runs(path, blank), prob) for path, prob in paths(log_probs) if collapse(path, blank) == labelling]
    weights = np.array([prob for _, prob in spelled])
    frames = np.array([[run[1:] for run in found] for found, _ in spelled])  # (paths, L, 2)
    medians = []
    for s, label in enumerate(labelling):
        start, end = (_weighted_median(frames[:, s, column], weights) for column in (0, 1))
        medians.append((label, start, end))
    return medians


def _weighted_median(values, weights):
    """The least value up to which more than half of the weight lies."""
    return min(value for value in values.tolist() if weights[values <= value].sum() > weights.sum() / 2)


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


def exact_ctc(logits, target, blank=0):
    """The same by sums of products, as the equations have it, in decimals of 50 digits and of any size."""
    with localcontext(Context(prec=50, Emin=MIN_EMIN, Emax=MAX_EMAX)):
        probs = [[Decimal(float(value)).exp() for value in frame] for frame in logits]
        probs = [[value / sum(frame) for value in frame] for frame in probs]
        states = [blank]
        for label in target:
            states += [label, blank]
        alpha = _exact_alpha(probs, states, blank)
        beta = [row[::-1] for row in _exact_alpha(probs[::-1], states[::-1], blank)[::-1]]
        total = sum(alpha[-1][-2:])
        gradient = [list(frame) for frame in probs]
        for t, frame in enumerate(probs):
            for s, label in enumerate(states):  # both α and β hold the frame's own probability: once too often
                if frame[label] > 0:
                    gradient[t][label] -= alpha[t][s] * beta[t][s] / frame[label] / total
        return float(-total.ln()), np.array(gradient, np.float64)


def _exact_alpha(probs, states, blank):
    alpha = [[Decimal(0)] * len(states) for _ in probs]
    for s, label in enumerate(states[:2]):
        alpha[0][s] = probs[0][label]
    for t in range(1, len(probs)):
        for s, label in enumerate(states):
            first = s - 2 if s > 1 and label not in (blank, states[s - 2]) else max(s - 1, 0)
            alpha[t][s] = sum(alpha[t - 1][first : s + 1]) * probs[t][label]
    return alpha


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


def crf(logits, target, token_model, blank=0):
    """CTC-CRF's loss and gradient at the logits (T, C), T ≥ 1; (inf, zeros) where no path spells the target."""
    numerator, gradient = ctc(logits, target, blank)
    total, posteriors = log_partition(log_softmax(np.asarray(logits, np.float64)), token_model, blank)
    loss = numerator + total - weight(token_model, target) if numerator < np.inf else np.inf
    if loss == np.inf:
        return np.inf, np.zeros(posteriors.shape)
    return loss, posteriors - np.exp(log_softmax(np.asarray(logits, np.float64))) + gradient


def log_partition(log_probs, token_model, blank=0):
    """ln Z of all labellings, each weighted by a token model, and the classes' posteriors among all paths (T, C).

    A path's place is the token model's state, the last label, and whether it is still on it.
    """
    places, arcs = {(0, None, False): 0}, []
    for place in (queue := list(places)):
        state, last, on_label = place
        steps = [((state, last, False), blank, 0.0)]
        steps += [((state, last, True), last, 0.0)] if on_label else []
        for c, score in enumerate(token_model.scores[state]):
            if c != blank and not (on_label and c == last):
                steps.append(((int(token_model.next_states[state][c]), c, True), c, score))
        for after, c, score in steps:
            if after not in places:
                places[after] = len(places)
                queue.append(after)
            arcs.append((places[place], places[after], c, score))
    sources, targets, classes, scores = (np.array(column) for column in zip(*arcs, strict=True))
    num_frames = len(log_probs)
    alpha, beta = np.full((2, num_frames + 1, len(places)), -np.inf)
    alpha[0, 0] = 0.0
    beta[-1] = [token_model.finals[state] for state, _, _ in places]
    for t in range(num_frames):
        np.logaddexp.at(alpha[t + 1], targets, alpha[t, sources] + scores + log_probs[t, classes])
    for t in range(num_frames - 1, -1, -1):
        np.logaddexp.at(beta[t], sources, beta[t + 1, targets] + scores + log_probs[t, classes])
    total, posteriors = beta[0, 0], np.zeros(log_probs.shape)
    for t in range(num_frames if total > -np.inf else 0):
        used = alpha[t, sources] + scores + log_probs[t, classes] + beta[t + 1, targets] - total
        np.add.at(posteriors[t], classes, np.exp(used))
    return total, posteriors


def enumerated_graph_paths(log_probs, tokens, arcs, ends, rests, glides=()):
    """{visits: score}: the greatest score of each way through a graph of labels, as (node, start, end) of its visits.

    tokens and rests are those of all nodes, node 0 first, whose token is the blank; arcs are (source, target, weight).
    A glide of the same form replaces the node of a visit within the frame.
    """
    weights, gliding = {}, {}
    for several, given in ((weights, arcs), (gliding, glides)):
        for source, target, weight in given:
            several[source, target] = max(weight, several.get((source, target), -np.inf))
    found = {}

    def go_on(t, node, on_label, score, visits):
        for (source, target), weight in gliding.items():
            if source == node and on_label:
                go_on(t, target, True, score + weight, [*visits[:-1], (target, *visits[-1][1:])])
        if t == len(log_probs):
            if node in ends and score > -np.inf:
                key = tuple(visits)
                found[key] = max(score, found.get(key, -np.inf))
            return
        rest = score + log_probs[t, tokens[0]] + rests[node]
        go_on(t + 1, node, False, rest, visits)
        if on_label:
            longer = [*visits[:-1], (node, visits[-1][1], t + 1)]
            go_on(t + 1, node, True, score + log_probs[t, tokens[node]], longer)
        for (source, target), weight in weights.items():
            if source == node and not (on_label and tokens[source] == tokens[target]):
                entered = score + weight + log_probs[t, tokens[target]]
                go_on(t + 1, target, True, entered, [*visits, (target, t, t + 1)])

    go_on(0, 0, False, 0.0, [])
    return found


def alignments(word, phones, max_phones):
    """Yield each way to give every letter of a word 0 to max_phones phones, as (letter, its phones) in order."""
    if not word:
        if not phones:
            yield []
        return
    for k in range(min(max_phones, len(phones)) + 1):
        for rest in alignments(word[1:], phones[k:], max_phones):
            yield [(word[0], tuple(phones[:k])), *rest]


def graphone_expectations(pairs, probs, max_phones):
    """Return ({graphone: expected count}, log likelihood) of pairs, with graphones as independent draws."""
    counts, log_likelihood = dict.fromkeys(probs, 0.0), 0.0
    for word, phones in pairs:
        ways = {tuple(way): np.prod([probs[each] for each in way]) for way in alignments(word, phones, max_phones)}
        total = sum(ways.values())
        log_likelihood += np.log(total)
        for way, prob in ways.items():
            for each in way:
                counts[each] += prob / total
    return counts, log_likelihood


def joint_sequences(graphones, word, side, silent):
    """Yield each sequence of graphones, (letters, phones), whose parts of a side make up a word.

    At most `silent` in a row have nothing on that side.
    """

    def go_on(sequence, done, num_silent):
        if done == len(word):
            yield sequence
        for each in graphones:
            part = each[side]
            if word[done : done + len(part)] == part and (part or num_silent < silent):
                yield from go_on([*sequence, each], done + len(part), 0 if part else num_silent + 1)

    yield from go_on([], 0, 0)
