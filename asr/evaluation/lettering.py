"""Text of any script in pictures: in fonts of this machine, or where none has a letter by the letter's name."""

import functools
import re
import unicodedata

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

ANY = "Last Resort"  # Matplotlib's font that has a box for every character
USUAL_WEIGHT = 400
KINDS = frozenset({"LETTER", "SYLLABLE", "CHARACTER", "VOWEL"})  # words in names of characters that tell nothing


def make_legible(figure: Figure) -> None:
    """Add fonts to the texts of a figure that have their characters; what no font has is written by its name.

    >>> figure = Figure()
    >>> title = figure.suptitle("ʃ, " + chr(0x10FFFD))
    >>> make_legible(figure)
    >>> title.get_text()
    'ʃ, [U+10FFFD]'
    """
    ticks = {axis: axis.get_ticklabels() for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)}
    texts = figure.findobj(Text)
    written = {character for text in texts for character in text.get_text()} - {"\n"}
    families, lacking = fonts_of(frozenset(written))
    for text in texts:
        text.set_fontfamily([*text.get_fontfamily(), *families])
    if lacking:
        pattern = re.compile(f"[{re.escape(lacking)}]+")
        for axis, labels in ticks.items():
            if any(pattern.search(label.get_text()) for label in labels):
                axis.set_ticklabels([pattern.sub(_named, label.get_text()) for label in labels])
        for text in texts:
            text.set_text(pattern.sub(_named, text.get_text()))


@functools.lru_cache(16)
def fonts_of(characters: frozenset[str]) -> tuple[list[str], str]:
    """Return installed fonts that together have the characters that the usual font lacks, and what none has."""
    usual = font_manager.findfont(font_manager.FontProperties())
    lacking = {*map(ord, characters)} - _codes(usual)
    families = list[str]()
    for font in sorted(font_manager.fontManager.ttflist, key=_oddness):
        if not lacking:
            break
        found = set() if font.name.startswith(ANY) else lacking & _codes(font.fname)
        if found:
            families.append(font.name)
            lacking -= found
    return families, "".join(map(chr, sorted(lacking)))


@functools.lru_cache(4)
def _codes(path: str) -> frozenset[int]:
    """Return the characters of a font; none of one that is gone since Matplotlib listed it, or damaged."""
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def _oddness(font: font_manager.FontEntry) -> tuple[bool, int, str]:
    """Sort upright fonts of usual weight first."""
    return font.style != "normal", abs(int(font.weight) - USUAL_WEIGHT), font.name


def _named(match: re.Match[str]) -> str:
    return f"[{' '.join(map(name_of, match[0]))}]"


def name_of(character: str) -> str:
    """Return a name in ASCII of a character, short enough for a table.

    >>> name_of("한"), name_of("क"), name_of("ค"), name_of("你")
    ('han', 'ka', 'kho khwai', 'U+4F60')
    """
    name = unicodedata.name(character, "")
    _, *rest = [part for part in name.lower().split() if part.upper() not in KINDS] or [""]
    return f"U+{ord(character):04X}" if not rest or "ideograph" in name.lower() else " ".join(rest)
