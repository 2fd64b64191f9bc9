"""Texts split into sentences, for tiers and subtitles."""

import re

from asr.speech.text import split_words

_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"“])(?:(?:[A-Z]\.)*[A-Z]|Mr|Mrs|Ms|Dr|St|Prof|Rev|Gen|Col|Capt|Lt|Sgt|Hon|Jr|Sr|Mt|Messrs|No|vs|etc|e\.g|i\.e|cf)$"
)
_END = re.compile(r"(?<=[.!?…])[\"”’')\]]*\s+(?=[\"“‘'(\[]*[A-Z0-9¿¡])|\n\s*\n")


def split_sentences(text: str) -> list[str]:
    """Split a text behind the punctuation that ends a sentence, and at empty lines.

    A point behind an initial or a usual abbreviation ends none. Lines of one sentence are joined.

    >>> split_sentences('He met Dr. Smith.  "Why?" she asked. It was 5 p.m.')
    ['He met Dr. Smith.', '"Why?" she asked.', 'It was 5 p.m.']
    """
    found, start = list[str](), 0
    for end in _END.finditer(text):
        before = text[start : end.start()]
        if before.endswith(".") and _ABBREVIATION.search(before[:-1]):
            continue
        found.append(text[start : end.end()])
        start = end.end()
    found.append(text[start:])
    return [" ".join(sentence.split()) for sentence in found if sentence.strip()]


def sentences_of(text: str, num_words: int) -> list[tuple[str, int]]:
    """Return the sentences of a text, and how many of its words (`asr.speech.text.split_words`) each has.

    Where a sentence alone would be split into other words than in the text, the text is one sentence.

    Parameters
    ----------
    text
        What is said.
    num_words
        The number of words of the whole text.

    Examples
    --------
    >>> sentences_of("Who? Tom.", 2)
    [('Who?', 1), ('Tom.', 1)]
    """
    counted = [(sentence, len(split_words(sentence))) for sentence in split_sentences(text)]
    if sum(count for _, count in counted) != num_words:
        return [(" ".join(text.split()), num_words)]
    return [(sentence, count) for sentence, count in counted if count > 0]
