"""Text as tokens: phones and words are separated by white space, characters are not."""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from asr.core.errors import ConfigError
from asr.core.settings import one_of
from asr.lm.language_model import UNKNOWN

UNITS = ("phones", "characters", "words")
EDGES = {"<s>", "</s>"}


def split(line: str, unit: str) -> list[str]:
    """Return the tokens of a line, in Unicode's normal form NFC.

    >>> split("the  cat", "words"), split("경마장에", "characters")
    (['the', 'cat'], ['경', '마', '장', '에'])
    """
    line = unicodedata.normalize("NFC", line)
    return list(line.rstrip("\r\n")) if unit == "characters" else line.split()


def join(tokens: Iterable[str], unit: str) -> str:
    """Join tokens to a line.

    >>> join(["a", "b"], "words"), join(["a", "b"], "characters")
    ('a b', 'ab')
    """
    return ("" if unit == "characters" else " ").join(tokens)


def read(path: str | Path, unit: str) -> list[list[str]]:
    """Return the sentences of a UTF-8 file with one sentence on each line; empty lines are skipped.

    Raises
    ------
    ConfigError
        The file is missing, not UTF-8, or holds no text.
    """
    one_of("unit", unit, UNITS)
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}): convert it") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; a text file with a sentence a line") from error
    sentences = [tokens for line in lines if (tokens := split(line, unit))]
    for number, tokens in enumerate(sentences, 1):
        if not EDGES.isdisjoint(tokens):
            raise ConfigError(f"{path}, sentence {number}: <s> and </s> are a model's own: take them out")
    if not sentences:
        raise ConfigError(f"{path} holds no text: a sentence a line is needed")
    return sentences


def vocabulary(sentences: Iterable[Sequence[str]], min_count: int = 1) -> list[str]:
    """Return the tokens that occur at least `min_count` times, sorted, without UNKNOWN.

    >>> vocabulary([["b", "a"], ["b"]], min_count=2)
    ['b']
    """
    counts: dict[str, int] = {}
    for sentence in sentences:
        for token in sentence:
            counts[token] = counts.get(token, 0) + 1
    return sorted(token for token, count in counts.items() if count >= min_count and token != UNKNOWN)
