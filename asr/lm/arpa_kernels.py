"""The lines of ARPA files in Numba: numbers, tokens, and the order of n-grams.

Letters: M n-grams of a section, n their length, V tokens.
"""

import math

import numpy as np

from asr.core.jit import njit

TAB, NEWLINE, RETURN, SPACE, PLUS, MINUS, POINT, ZERO, NINE, E = 9, 10, 13, 32, 43, 45, 46, 48, 57, 101
MOST = 1e30  # of a logarithm's absolute value
GOOD, TOO_SHORT, NO_NUMBERS, UNKNOWN, UNKNOWN_BEGINNING = range(5)  # what is wrong with a line
START = -1  # in place of a token's number: <s>


@njit(cache=True)
def _is_blank(byte):
    return byte in (SPACE, TAB, RETURN)


@njit(cache=True)
def _number(data, first, end):
    """Return the decimal number that some bytes are, NaN if they are none or it is very large."""
    i = first
    is_negative = i < end and data[i] == MINUS
    if i < end and (data[i] == MINUS or data[i] == PLUS):
        i += 1
    digits, scale, seen, in_fraction = np.int64(0), 0, 0, False
    while i < end and (ZERO <= data[i] <= NINE or (data[i] == POINT and not in_fraction)):
        if data[i] == POINT:
            in_fraction = True
        else:
            seen += 1
            if digits < 10**17:
                digits = digits * 10 + np.int64(data[i] - ZERO)
                scale -= in_fraction
            else:
                scale += not in_fraction
        i += 1
    if seen == 0:
        return np.nan
    if i < end and data[i] | 32 == E:
        i += 1
        is_small = i < end and data[i] == MINUS
        if i < end and (data[i] == MINUS or data[i] == PLUS):
            i += 1
        power, seen = 0, 0
        while i < end and ZERO <= data[i] <= NINE:
            power, seen = min(power * 10 + np.int64(data[i] - ZERO), 9999), seen + 1
            i += 1
        scale += -power if is_small else power
        if seen == 0:
            return np.nan
    value = np.float64(digits)
    if -22 <= scale < 0:
        value /= 10.0 ** (-scale)  # exact powers: the nearest float64
    elif scale != 0:
        value *= 10.0 ** max(-400.0, min(400.0, np.float64(scale)))
    if i < end or value > MOST:
        return np.nan
    return -value if is_negative else value


@njit(cache=True)
def _fields(data, place, bounds):
    """Write first and end of the fields of the next line that is not empty; return its end, their number and lines."""
    lines = 0
    while place < len(data):
        lines += 1
        num = 0
        while place < len(data) and data[place] != NEWLINE:
            if _is_blank(data[place]):
                place += 1
                continue
            first = place
            while place < len(data) and data[place] != NEWLINE and not _is_blank(data[place]):
                place += 1
            if num < len(bounds):
                bounds[num, 0], bounds[num, 1] = first, place
            num += 1
        place += 1
        if num > 0:
            return place, num, lines
    return place, 0, lines


@njit(cache=True)
def _slot(table, names, starts, data, first, end):
    """Return where a hash table has the number of a name, or the place for it."""
    code = np.int64(2166136261)
    for i in range(first, end):
        code = ((code ^ data[i]) * 16777619) & 0xFFFFFFFF
    slot = (code ^ (code >> 15)) & (len(table) - 1)
    while table[slot] >= 0:
        start, length = starts[table[slot]], end - first
        if starts[table[slot] + 1] - start == length:
            i = 0
            while i < length and names[start + i] == data[first + i]:
                i += 1
            if i == length:
                break
        slot = (slot + 1) & (len(table) - 1)
    return slot


@njit(cache=True)
def hashed(names, starts):
    """Return a hash table of names, of which the bytes of each but the last start in one place and end in the next."""
    size = 2
    while size < 2 * len(starts):
        size *= 2
    table = np.full(size, -1, np.int32)
    for number in range(len(starts) - 1):
        table[_slot(table, names, starts, names, starts[number], starts[number + 1])] = number
    return table


@njit(cache=True)
def section(data, place, line, n, vocabulary, tokens, numbers, lines):
    """Read the n-grams of a section.

    Parameters
    ----------
    data
        The file's bytes.
    place, line
        The first byte of the section, and the number of lines before it.
    n
        Length of the n-grams.
    vocabulary
        Hash table, bytes, starts and numbers of the names of tokens.
    tokens : (M, n)
        Gets the numbers of tokens; for unigrams, the first byte and the end of each (M, 2).
    numbers : (M, 2)
        Gets log probabilities and backoff weights; 0 where there is none.
    lines : (M,)
        Gets the number of each n-gram's line.

    Returns
    -------
    tuple
        What is wrong with the last line, the end of the last good line, the number of the last line, how many n-grams
        were read, and the first byte and the end of a token that is unknown.
    """
    table, names, starts, known = vocabulary
    bounds = np.empty((n + 2, 2), np.int64)
    for row in range(len(lines)):
        end, num, read = _fields(data, place, bounds)
        line += read
        if num == 0:
            return TOO_SHORT, place, line, row, 0, 0
        numbers[row, 0], numbers[row, 1] = np.nan, 0.0
        if num == n + 1 or num == n + 2:
            numbers[row, 0] = _number(data, bounds[0, 0], bounds[0, 1])
        if num == n + 2:
            numbers[row, 1] = _number(data, bounds[n + 1, 0], bounds[n + 1, 1])
        if math.isnan(numbers[row, 0]) or math.isnan(numbers[row, 1]):
            return NO_NUMBERS, place, line, row, 0, 0
        lines[row] = line
        if n == 1:
            tokens[row, 0], tokens[row, 1] = bounds[1, 0], bounds[1, 1]
        for i in range(n if n > 1 else 0):
            first, last = bounds[i + 1, 0], bounds[i + 1, 1]
            slot = _slot(table, names, starts, data, first, last)
            if table[slot] < 0:
                return UNKNOWN if i == n - 1 else UNKNOWN_BEGINNING, place, line, row, first, last
            tokens[row, i] = known[table[slot]]
        place = end
    return GOOD, place, line, len(lines), 0, 0


@njit(cache=True)
def descend(offsets, last, contexts, tokens):
    """Return the number of the n-gram of each context and token (M,), or −1.

    `offsets` has the first of the n-grams after each context and the end, `last` their last tokens.
    """
    found = np.full(len(contexts), -1, np.int32)
    for i in range(len(contexts)):
        if contexts[i] >= 0:
            low, end = offsets[contexts[i]], offsets[contexts[i] + 1]
            low += np.searchsorted(last[low:end], tokens[i])
            if low < end and last[low] == tokens[i]:
                found[i] = low
    return found
