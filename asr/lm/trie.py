"""N-grams as a trie in bit-packed arrays, which is both the file and what is searched, and looking up in it, in Numba.

The n-grams of each order are sorted by context (the n-gram without its last token) and last token, so that those after
a context are neighbours. A state is a number: 0 is the empty context, then come the unigrams, the bigrams and so on. An
n-gram's probability that is not in the trie is that of the shorter n-gram times the context's backoff weight (Katz
1987): ln p(w | h) = ln backoff(h) + ln p(w | h without its first token).

The trie is closed: with every n-gram it has also the n-gram's ending, the n-gram without its first token. So a look-up
goes from short contexts to long ones and stops where an n-gram is missing. It also saves memory: after a context of two
tokens or more the last token is identified by the number of the ending, which the look-up has just found, and which is
also the state to back off to. (G. E. Pibiri and R. Venturini, "Efficient data structures for massive n-gram datasets",
SIGIR 2017, section 3.2, number tokens by the n-grams after a shorter context for the same reason.) The longest n-grams
are never contexts, and their endings are counted from the first n-gram after the shorter context, in fewer bits.

Letters: V tokens, M n-grams of all orders, N the highest order, K states.
"""

from typing import NamedTuple

import numpy as np

from asr.core.jit import njit


class Trie(NamedTuple):
    """N-grams of all orders.

    A record holds an n-gram's key, log probability and backoff weight. The key is the last token of a bigram, and the
    number of the ending among the n-grams of its order for longer n-grams; for the longest it is counted from the first
    n-gram after the ending's context. Unigrams have no key, and the longest n-grams no backoff weight. A value is a
    float32 or the number of one in a code book. The bits of a backoff weight are all 0 where it is 1 and no longer
    n-gram begins with the n-gram, which is then no context.

    The n-grams after a context are found from the context's number. For tokens there is an array of where the bigrams
    after each start. For longer contexts a string of bits has a 1 for each context, and after it a 0 for each n-gram
    that begins with it (G. Jacobson, "Space-efficient static trees and graphs", FOCS 1989). Another 1 ends it. Where
    the bit of every 16th context is stands in another array.

    Attributes
    ----------
    layout : (N, 9) int64
        For each order the first state, the number of n-grams, the bit of the first record, the bits of a record, of a
        key and of a value, and the words where the code books, what finds longer n-grams, and the bits of every 16th
        context begin.
    words : uint32
        Records, lowest bits first, and the other arrays; code books are float32.
    """

    layout: np.ndarray
    words: np.ndarray


FIRST, COUNT, RECORDS, WIDTH, KEY, VALUE, BOOKS, LONGER, SAMPLES = range(9)  # of the layout
LOG_PROB, BACKOFF = range(2)  # kinds of values
FLOAT_BITS = 32  # of a value that is not in a code book
SAMPLED = 4  # every 16th context: bits of a context's number


@njit(cache=True, inline="always")
def read(words, bit, width):
    """Return a number of at most 32 bits."""
    i = bit >> 5
    return ((np.int64(words[i]) | (np.int64(words[i + 1]) << 32)) >> (bit & 31)) & ((1 << width) - 1)


@njit(cache=True, inline="always")
def value(trie, n, number, kind):
    """Return the log probability or the backoff weight of an n-gram by its order − 1 and its number in the order."""
    layout, words = trie
    width = layout[n, VALUE]
    code = read(words, layout[n, RECORDS] + number * layout[n, WIDTH] + layout[n, KEY] + kind * width, width)
    if width != FLOAT_BITS:
        code = np.int64(words[layout[n, BOOKS] + (kind << width) + code])
    return np.float64(np.uint32(code).view(np.float32))


@njit(cache=True, inline="always")
def key(trie, n, number):
    """Return the key of an n-gram of two tokens or more."""
    layout, words = trie
    return read(words, layout[n, RECORDS] + number * layout[n, WIDTH], layout[n, KEY])


@njit(cache=True, inline="always")
def is_context(trie, n, number):
    """Tell whether an n-gram that is not of the highest order has a backoff weight or longer n-grams."""
    layout, words = trie
    width = layout[n, VALUE]
    return read(words, layout[n, RECORDS] + number * layout[n, WIDTH] + layout[n, KEY] + width, width) != 0


@njit(cache=True, inline="always")
def ones(bits):
    """Return how many of 32 bits are 1."""
    bits = bits - ((bits >> 1) & 0x55555555)
    bits = (bits & 0x33333333) + ((bits >> 2) & 0x33333333)
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F
    bits += bits >> 8
    return (bits + (bits >> 16)) & 0x3F


@njit(cache=True, inline="always")
def children(trie, n, number):
    """Return the first of the n-grams after a context, by its order − 1 and its number there, and the end of them.

    Numbers that a damaged file may lead to are brought back into the array.
    """
    layout, words = trie
    start, count = layout[n, LONGER], layout[n + 1, COUNT]
    if n == 0:
        first, end = np.int64(words[start + number]), np.int64(words[start + number + 1])
    else:
        bit = np.int64(words[layout[n, SAMPLES] + (number >> SAMPLED)])
        place = min(start + (bit >> 5), len(words) - 1)
        bits = np.int64(words[place]) & -(1 << (bit & 31))
        skipped = number & ((1 << SAMPLED) - 1)
        first = end = np.int64(0)
        for i in range(skipped + 2):
            while bits == 0 and place + 1 < len(words):
                place += 1
                bits = np.int64(words[place])
            if i >= skipped:
                first, end = end, ((place - start) << 5) + ones((bits & -bits) - 1) - number - (i - skipped)
            bits &= bits - 1
    first = max(0, min(first, count))
    return first, max(first, min(end, count))


@njit(cache=True, inline="always")
def find(trie, n, first, end, wanted, share):
    """Return the number of the n-gram with a key among neighbours of order n + 1, or −1.

    The search starts where a share of the neighbours lies, of which the key is expected to be greater. From there it
    doubles its steps until it has passed the key; then it halves what is left.
    """
    layout, words = trie
    start, width, key_width = layout[n, RECORDS], layout[n, WIDTH], layout[n, KEY]
    low, high, step = first, end, 4
    place = first + np.int64(share * (end - first))
    while low < high:
        place = max(low, min(place, high - 1))
        found = read(words, start + place * width, key_width)
        if found == wanted:
            return place
        if found < wanted:
            low = place + 1
            place += step
        else:
            high = place
            place -= step
        step += step
        if first < low and high < end:
            place = (low + high) >> 1
    return -1


@njit(cache=True)
def back_off(trie, states):
    """Return the states of contexts without their first token (K,), and the contexts' log backoff weights (K,)."""
    layout = trie.layout
    shorter, weights = np.zeros(len(states), np.int32), np.zeros(len(states))
    for k in range(len(states)):
        n = -1
        while n + 2 < len(layout) and states[k] >= layout[n + 1, FIRST]:
            n += 1
        if n >= 0:
            number = states[k] - layout[n, FIRST]
            weights[k] = value(trie, n, number, BACKOFF)
            if n > 0:
                shorter[k] = layout[n - 1, FIRST] + min(key(trie, n, number), layout[n - 1, COUNT] - 1)
    return shorter, weights


@njit(cache=True)
def look_up(trie, state, token):
    """Return ln p(token | state) and the state after it."""
    layout = trie.layout
    highest, length = len(layout), 0  # tokens of the longest n-grams, and of the context
    while length + 1 < highest and state >= layout[length, FIRST]:
        length += 1
    number = state - layout[length - 1, FIRST] if length > 0 else 0  # of the context in its order
    n, found, after = 0, np.int64(token), np.int64(0)
    before, span = np.int64(0), layout[0, COUNT]  # the first of the neighbours of `found`, and their number
    if highest > 1 and is_context(trie, 0, found):
        after = 1 + found
    while n < length:
        ending = number  # of the last n + 1 tokens of the context
        for m in range(length - 1, n, -1):
            ending = min(key(trie, m, ending), layout[m - 1, COUNT] - 1)
        first, end = children(trie, n, ending)
        rank = found - before
        child = find(trie, n + 1, first, end, rank if 0 < n == highest - 2 else found, rank / span)
        if child < 0:
            break
        n, found, before, span = n + 1, child, first, end - first
        if n + 1 < highest and is_context(trie, n, found):
            after = layout[n, FIRST] + found
    spared = 0.0
    for m in range(length - 1, n - 1, -1):
        spared += value(trie, m, number, BACKOFF)
        if m > 0:
            number = min(key(trie, m, number), layout[m - 1, COUNT] - 1)
    return spared + value(trie, n, found, LOG_PROB), np.int32(after)


@njit(cache=True, nogil=True)
def score(trie, start, tokens, lengths, log_probs):
    """Write the log probability of each token, and of the end, of sentences whose tokens are concatenated."""
    i, j = 0, 0
    for length in lengths:
        state = start
        for _ in range(length):
            log_probs[j], state = look_up(trie, state, tokens[i])
            i, j = i + 1, j + 1
        log_probs[j], _ = look_up(trie, state, 0)
        j += 1


@njit(cache=True, nogil=True)
def advance(trie, states, tokens):
    """Return the log probability of one more token after each state (K,), and the states after it (K,)."""
    log_probs, after = np.empty(len(states)), np.empty(len(states), np.int32)
    for k in range(len(states)):
        log_probs[k], after[k] = look_up(trie, states[k], tokens[k])
    return log_probs, after


@njit(cache=True, nogil=True)
def rows(trie, states, log_probs, after):
    """Write the log probability of every token after each state, and the state that it leads to, both (K, V).

    This is what `look_up` finds: all tokens of the empty context first, and then those that have an n-gram after each
    longer part of the state, up to the whole.
    """
    layout = trie.layout
    highest = len(layout)
    parts, spared = np.zeros(highest, np.int64), np.zeros(highest)  # number of the last n tokens, and its weight
    for k in range(len(states)):
        length = 0
        while length + 1 < highest and states[k] >= layout[length, FIRST]:
            length += 1
        if length > 0:
            parts[length] = states[k] - layout[length - 1, FIRST]
        total = 0.0
        for n in range(length, 0, -1):
            spared[n] = total
            total += value(trie, n - 1, parts[n], BACKOFF)
            if n > 1:
                parts[n - 1] = min(key(trie, n - 1, parts[n]), layout[n - 2, COUNT] - 1)
        for token in range(log_probs.shape[1]):
            log_probs[k, token] = total + value(trie, 0, token, LOG_PROB)
            after[k, token] = 1 + token if highest > 1 and is_context(trie, 0, token) else 0
        before = np.int64(0)  # the first of the n-grams after the part that is a token shorter
        for n in range(1, length + 1):
            first, end = children(trie, n - 1, parts[n])
            for child in range(first, end):
                token = _last_token(trie, n, child, before)
                log_probs[k, token] = spared[n] + value(trie, n, child, LOG_PROB)
                if n + 1 < highest and is_context(trie, n, child):
                    after[k, token] = layout[n, FIRST] + child
            before = first


@njit(cache=True, nogil=True)
def all_rows(trie, log_probs, after):
    """Write what `rows` writes, for all states (K, V), shorter ones first.

    A state's row is that of the shorter one but for the state's own n-grams. Sums are rounded in another order than
    those of `rows` and `look_up`.
    """
    layout = trie.layout
    highest = len(layout)
    for token in range(log_probs.shape[1]):
        log_probs[0, token] = value(trie, 0, token, LOG_PROB)
        after[0, token] = 1 + token if highest > 1 and is_context(trie, 0, token) else 0
    for n in range(highest - 1):
        for number in range(layout[n, COUNT]):
            state, shorter, before = layout[n, FIRST] + number, np.int64(0), np.int64(0)
            if n > 0:
                ending = min(key(trie, n, number), layout[n - 1, COUNT] - 1)
                shorter = layout[n - 1, FIRST] + ending
                before, _ = children(trie, n - 1, ending)
            spared = value(trie, n, number, BACKOFF)
            for token in range(log_probs.shape[1]):
                log_probs[state, token] = spared + log_probs[shorter, token]
                after[state, token] = after[shorter, token]
            first, end = children(trie, n, number)
            for child in range(first, end):
                token = _last_token(trie, n + 1, child, before)
                log_probs[state, token] = value(trie, n + 1, child, LOG_PROB)
                if n + 2 < highest and is_context(trie, n + 1, child):
                    after[state, token] = layout[n + 1, FIRST] + child


@njit(cache=True, inline="always")
def _last_token(trie, n, number, before):
    """Return the last token of an n-gram of order n + 1 ≥ 2; `before`: see `rows`."""
    layout = trie.layout
    number = key(trie, n, number) + (before if 1 < n == len(layout) - 1 else 0)
    for m in range(n - 1, 0, -1):
        number = key(trie, m, min(number, layout[m, COUNT] - 1))
    return min(number, layout[0, COUNT] - 1)
