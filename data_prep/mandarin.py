"""Mandarin syllables in pinyin as phones in IPA, with the tone on the vowel.

The phones are broad: 兒 is ``ɚ``, the vowels of 資 and 知 are both ``ɨ``, and a diphthong is one phone. Source,
simplified: W.-S. Lee and E. Zee, "Standard Chinese (Beijing)", Journal of the International Phonetic Association 33(1),
2003.
"""

import csv
import functools
import re
import unicodedata
from pathlib import Path

from asr.core.errors import CorpusError

TONES = ("", "˥", "˧˥", "˨˩˦", "˥˩")  # of the numbers 5 or 0, 1, 2, 3 and 4
VOWELS = frozenset(["a", "aɪ", "aʊ", "ə", "ɚ", "ɛ", "eɪ", "ɤ", "i", "ɨ", "o", "oʊ", "u", "ʊ", "y"])
_TABLE = Path(__file__).parent / "tables" / "mandarin.tsv"
_SYLLABLE = re.compile(r"(\D+)([0-5]?)")
_FULL = {"iu": "iou", "ui": "uei", "un": "uen"}
_NO_INITIAL = {"yu": "ü", "yi": "i", "y": "i", "wu": "u", "w": "u"}  # what these letters stand for
_APICAL = {"zh", "ch", "sh", "r", "z", "c", "s"}
_PALATAL = {"j", "q", "x"}


@functools.cache
def _parts(part: str) -> dict[str, tuple[str, ...]]:
    """Return initials or finals with their phones."""
    with _TABLE.open(newline="", encoding="utf-8") as lines:
        return {
            row["pinyin"]: tuple(row["ipa"].split())
            for row in csv.DictReader(lines, delimiter="\t")
            if row["part"] == part
        }


def of_pinyin(syllable: str) -> tuple[str, ...]:
    """Return the phones of a syllable in pinyin with the number of its tone; ``v`` may be written for ``ü``.

    Raises
    ------
    CorpusError
        It is no syllable.

    Examples
    --------
    >>> of_pinyin("zhong1"), of_pinyin("nv3"), of_pinyin("yuan2"), of_pinyin("shi4"), of_pinyin("ma")
    (('ʈʂ', 'ʊ˥', 'ŋ'), ('n', 'y˨˩˦'), ('ɥ', 'ɛ˧˥', 'n'), ('ʂ', 'ɨ˥˩'), ('m', 'a'))
    """
    written = unicodedata.normalize("NFC", syllable.lower()).replace("u:", "ü").replace("v", "ü")
    match = _SYLLABLE.fullmatch(written)
    letters, tone = (match[1], match[2]) if match else ("", "")
    initials, finals = _parts("initial"), _parts("final")
    initial = next((letters[:size] for size in (2, 1) if letters[:size] in initials), "")
    final = letters[len(initial) :]
    if not initial:
        start = next((each for each in _NO_INITIAL if final.startswith(each)), "")
        final = _NO_INITIAL.get(start, "") + final[len(start) :]
    if initial in _PALATAL and final.startswith("u"):
        final = "ü" + final[1:]
    if initial in _APICAL and final == "i":
        final = "-i"
    final = _FULL.get(final, final)
    if final not in finals:
        raise CorpusError(f"{syllable!r} is no syllable of Mandarin in pinyin")
    sign = TONES[int(tone or 0) % 5]
    voiced = (phone + sign if phone in VOWELS else phone for phone in finals[final])
    return (*initials.get(initial, ()), *voiced)
