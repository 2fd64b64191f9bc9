"""Texts as books, subtitles and transcripts have them, split into the words that are spoken.

A word is written as in the text, in Unicode's form NFKC, with one kind of apostrophe and without the punctuation at its
edges. `asr.speech.readings` tells how it is read aloud, and `asr.speech.pronounce` how that sounds.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from asr.speech import readings
from asr.speech.notations import ADDRESS, SUPERSCRIPTS, VULGAR

APOSTROPHES = "’‘‛ʼʻʽʹ′´`ꞌ"
HYPHENS = "‐‑"
SOUNDS = (  # beginnings of the words by which transcripts name what is heard beside speech
    *("applau", "background", "breath", "cheer", "chuckl", "clap", "clear", "cough", "cries", "crowd", "cry", "door"),
    *("exhal", "footsteps", "gasp", "giggl", "groan", "grunt", "inaudib", "indistinct", "inhal", "laugh", "mumbl"),
    *("music", "nois", "pause", "phone", "scream", "sigh", "silen", "sniff", "snor", "sob", "static", "unintelligib"),
    *("whistl", "yawn"),
)
BETWEEN, BEFORE, BEHIND = (
    "&+=@×÷±≈≠≤≥",
    "#§",
    "%‰°",
)  # signs between blanks that are read: between words, beside numbers

EDGES = ",.;:!?()\"'"  # beside such a sign

_ONE_KIND = str.maketrans(dict.fromkeys(APOSTROPHES, "'") | dict.fromkeys(HYPHENS, "-"))
_KEPT = re.compile(f"[^{VULGAR}{SUPERSCRIPTS}]+")  # in NFKC 2½ is 21⁄2, and 5² is 52
_DECORATION = re.compile(r"[©®™\ufe00-\ufe0f]|[\d#*]\ufe0f?\u20e3|(?<!\S)[:;=]['-]?[DPp3Oo](?!\S)")  # and :D
_EVENT = re.compile(
    r"\[[^][]*\]|<[^<>]*>|\{[^{}]*\}|"
    rf"[(*](?:{'|'.join(SOUNDS)})\w*(?:\s+\w+)?[)*]",  # what stands in round brackets is read aloud otherwise
    re.IGNORECASE,
)
_SIGNS = r"[][,:;!?/\\|_~(){}<>\"“”„«»¿¡…‒–—―]"
_JOINT = re.compile(  # a sign between digits belongs to the number
    rf"(?:--+|\.\.+|(?<=[a-z]{{2}})\.(?=[A-Z])|(?<!\d){_SIGNS}|{_SIGNS}(?!\d))+"
)
_UNIT = r"(?<![^\W\d])(?:km|mi?|MB|Mbit)/[hs](?!\w)"
_WHOLE_OR_JOINT = re.compile(rf"(?i:{ADDRESS.pattern})|{_UNIT}|{_JOINT.pattern}")
_LEAD = re.compile(r"-\.\d|[-.]\d|-[$£€¥₹]|[#@§]\w|°[CFK]")  # signs that belong to the word behind them
_TAIL = re.compile(r"\d[%‰°]")


class Word(NamedTuple):
    """A word of a text.

    Attributes
    ----------
    label
        As it is written.
    readings
        The words that may be said for it, with blanks between, the usual ones first: often the word itself. What a
        capital in them means says `asr.speech.readings`.
    """

    label: str
    readings: tuple[str, ...]


def split_words(text: str | Sequence[str]) -> list[Word]:
    """Split a text into its words.

    Blanks, dashes, several dots, slashes and other punctuation part words; hyphens do not. Events are left out: what
    stands in square, angle or curly brackets, and what stands in round ones or between asterisks and names a sound. So
    are emoji and other decoration.

    >>> [word.label for word in split_words("(Yes), said Tom O’Neil—‘twas the well-known [noise].")]
    ['Yes', 'said', 'Tom', "O'Neil", "'twas", 'the', 'well-known']
    >>> split_words("Dr. Ford, 21 km")[0], split_words("Dr. Ford, 21 km")[2]
    (Word(label='Dr', readings=('doctor',)), Word(label='21', readings=('twenty one',)))
    """
    text = text if isinstance(text, str) else " ".join(text)
    plain = _EVENT.sub(" ", normalise(_DECORATION.sub(" ", text)))
    parts = _WHOLE_OR_JOINT.sub(r"\g<0> ", plain).split()
    tokens = [
        readings.Token(_strip(part) if _has_words(part) else part.strip(EDGES), part)
        for i, part in enumerate(parts)
        if _has_words(part) or _is_read(parts, i)
    ]
    shouted = len(tokens) > 2 and not any(c.islower() for c in plain)
    return [Word(token.label, readings.read(tokens, i, shouted)) for i, token in enumerate(tokens)]


def normalise(text: str) -> str:
    """Return a text in NFKC, with one kind of apostrophe and hyphen and without characters that do not show.

    Fractions in one character and raised digits stay.

    >>> normalise("ﬁve don’t 2½")
    "five don't 2½"
    """
    # in NFKC some apostrophes are a blank and an accent, and others appear
    text = _KEPT.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text.translate(_ONE_KIND))
    return "".join(c for c in text.translate(_ONE_KIND) if unicodedata.category(c) != "Cf")  # soft hyphens, directions


def _has_words(part: str) -> bool:
    return any(c.isalnum() for c in part)


def _is_read(parts: Sequence[str], i: int) -> bool:
    """Tell whether a sign between blanks is read: & between words, % behind a number, # before one."""
    sign, before, after = parts[i].strip(EDGES), parts[i - 1] if i else "", parts[i + 1] if i + 1 < len(parts) else ""
    if len(sign) != 1:
        return False
    if sign in BETWEEN:
        return _has_words(after) and (_has_words(before) or before in BEHIND)
    return (sign in BEHIND and before[-1:].isdigit()) or (sign in BEFORE and after[:1].isdigit())


def _strip(part: str) -> str:
    """Take off what is no letter, digit or apostrophe at the edges of a word, but signs that are read stay."""
    first, last = 0, len(part)
    while not _belongs(part[first]):
        first += 1
    while not _belongs(part[last - 1]):
        last -= 1
    width = next((n for n in (2, 1) if first >= n and _LEAD.fullmatch(part, first - n, first + 1)), 0)
    is_sharp = last - first == 1 and part[first] in "ABCDEFG" and part[last:].startswith("#")
    return part[first - width : last + (is_sharp or _TAIL.match(part, last - 1) is not None)]


def _belongs(character: str) -> bool:
    category = unicodedata.category(character)
    return character == "'" or not (category[0] == "P" or category in ("So", "Sk"))
