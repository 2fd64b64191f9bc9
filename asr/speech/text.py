"""Texts as books, subtitles and transcripts have them, split into the words that are spoken.

A word is written as in the text, in Unicode's form NFKC, with one kind of apostrophe and without the punctuation at its
edges. `asr.speech.pronounce` tells how it sounds.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

APOSTROPHES = "’‘‛ʼʻʽʹ′´`ꞌ"
HYPHENS = "‐‑"
TITLES = {
    "capt": "captain",
    "col": "colonel",
    "dr": "doctor",
    "ft": "fort",
    "gen": "general",
    "gov": "governor",
    "hon": "honorable",
    "lt": "lieutenant",
    "mt": "mount",
    "prof": "professor",
    "rev": "reverend",
    "sen": "senator",
    "sgt": "sergeant",
    "st": "saint",
}
STREETS = ("dr", "st")  # which may also end a name: drive and street
SOUNDS = (  # beginnings of the words by which transcripts name what is heard beside speech
    *("applau", "background", "breath", "cheer", "chuckl", "clap", "clear", "cough", "cries", "crowd", "cry", "door"),
    *("exhal", "footsteps", "gasp", "giggl", "groan", "grunt", "inaudib", "indistinct", "inhal", "laugh", "mumbl"),
    *("music", "nois", "pause", "phone", "scream", "sigh", "silen", "sniff", "snor", "sob", "static", "unintelligib"),
    *("whistl", "yawn"),
)

_ONE_KIND = str.maketrans(dict.fromkeys(APOSTROPHES, "'") | dict.fromkeys(HYPHENS, "-"))
_EVENT = re.compile(
    r"\[[^][]*\]|<[^<>]*>|\{[^{}]*\}|"
    rf"[(*](?:{'|'.join(SOUNDS)})\w*(?:\s+\w+)?[)*]",  # what stands in round brackets is read aloud otherwise
    re.IGNORECASE,
)
_SIGNS = r"[][,:;!?/\\|_~(){}<>\"“”„«»¿¡…‒–—―]"
_JOINT = re.compile(  # a sign between digits belongs to the number
    rf"(?:--+|\.\.+|(?<=[a-z]{{2}})\.(?=[A-Z])|(?<!\d){_SIGNS}|{_SIGNS}(?!\d))+"
)


class Word(NamedTuple):
    """A word of a text.

    Attributes
    ----------
    label
        As it is written.
    spoken
        The word that is said: itself, or what an abbreviation stands for.
    """

    label: str
    spoken: str


def split_words(text: str | Sequence[str]) -> list[Word]:
    """Split a text into its words.

    Blanks, dashes, several dots, slashes and other punctuation part words; hyphens do not. Events are left out: what
    stands in square, angle or curly brackets, and what stands in round ones or between asterisks and names a sound. A
    title before a name, such as Dr. or St., is its long form.

    >>> [word.label for word in split_words("(Yes), said Tom O’Neil—‘twas the well-known [noise].")]
    ['Yes', 'said', 'Tom', "O'Neil", "'twas", 'the', 'well-known']
    >>> [word.spoken for word in split_words("ask Dr. Ford of Elm St.")]
    ['ask', 'doctor', 'Ford', 'of', 'Elm', 'St']
    """
    plain = text if isinstance(text, str) else " ".join(text)
    # in NFKC some apostrophes are a blank and an accent, and others appear
    plain = unicodedata.normalize("NFKC", plain.translate(_ONE_KIND)).translate(_ONE_KIND)
    plain = "".join(c for c in plain if unicodedata.category(c) != "Cf")  # soft hyphens, marks of direction
    parts = _JOINT.sub(r"\g<0> ", _EVENT.sub(" ", plain)).split()
    parts = [part for part in parts if any(c.isalnum() for c in part)]
    labels = [_strip(part) for part in parts]
    return [
        Word(label, TITLES[label.lower()] if _is_title(parts, i, label.lower()) else label)
        for i, label in enumerate(labels)
    ]


def _strip(part: str) -> str:
    """Take off what is no letter, digit or apostrophe at the edges of a word, but signs such as $ and + stay."""
    first, last = 0, len(part)
    while not _belongs(part[first]):
        first += 1
    while not _belongs(part[last - 1]):
        last -= 1
    return part[first:last]


def _belongs(character: str) -> bool:
    category = unicodedata.category(character)
    return character == "'" or not (category[0] == "P" or category in ("So", "Sk"))


def _is_title(parts: Sequence[str], i: int, label: str) -> bool:
    """Tell whether a part is a title before a name; the St. of Elm St. is none, though a sentence may follow it."""
    named = i + 1 < len(parts) and parts[i + 1][0].isupper() and parts[i].rstrip(".")[-1].isalnum()
    if label not in STREETS or i < 2:
        return named and label in TITLES
    after_name = parts[i - 1][0].isupper() and parts[i - 1][-1].isalnum() and parts[i - 2][-1] not in ".!?"
    return named and not after_name
