"""How phones are articulated: manner, place, voicing, and their parts as articulatory features see them.

``tables/articulation/phones.tsv`` has a line for each IPA symbol of the library's phone sets. Any other phone is what
the IPA's chart says of its letters (``tables/articulation/letters.tsv``): a plosive with a fricative is an affricate,
two plosives or nasals are one that is articulated twice, a letter before a click tells of its voice, two vowels are a
diphthong, and diacritics but that of voicelessness change nothing. The vowel of "strut" counts as central, as is usual
for English: foldings merge the schwa with it.
"""

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

from asr.speech import ipa, phones

_TABLES = Path(__file__).parent / "tables" / "articulation"
_VOICELESS = "\u0325\u030a"
_TIE = "\u0361"
MANNERS = [
    *(
        "silence",
        "plosive",
        "implosive",
        "click",
        "affricate",
        "fricative",
        "lateral fricative",
        "nasal",
        "trill",
        "tap",
    ),
    *("lateral approximant", "approximant", "vowel", "diphthong", "unspecified"),
]
PLACES = [  # from the lips inwards
    *("silence", "unspecified", "bilabial", "labiodental", "labial-velar", "labial-palatal", "dental", "alveolar"),
    *("postalveolar", "retroflex", "alveolo-palatal", "palatal", "velar", "uvular", "pharyngeal", "glottal"),
    *("front vowel", "central vowel", "back vowel"),
]


@dataclass(frozen=True)
class Articulation:
    """How a phone is articulated; `segments` are its parts in IPA."""

    manner: str
    place: str
    voicing: str
    segments: tuple[str, ...]


def articulations(phone_set: str) -> dict[str, Articulation]:
    """Return the articulation of every label of a phone set.

    Examples
    --------
    >>> articulations("arpabet39")["CH"]
    Articulation(manner='affricate', place='postalveolar', voicing='voiceless', segments=('t͡ʃ',))
    """
    return {label: articulation(written) for label, written in phones.table(phone_set).ipa.items()}


@functools.cache
def articulation(phone: str) -> Articulation:
    """Return the articulation of a phone in IPA.

    Examples
    --------
    >>> articulation("ʈʰ")
    Articulation(manner='plosive', place='retroflex', voicing='voiceless', segments=('ʈʰ',))
    >>> articulation("y̯ø̃ː˥").manner, articulation("y̯ø̃ː˥").segments
    ('diphthong', ('y̯', 'ø̃ː'))
    """
    known = _rows("phones").get(phone)
    if known is not None:
        return Articulation(known["manner"], known["place"], known["voicing"], tuple(known["segments"].split()))
    parts = _parts(phone)
    rows = [_rows("letters").get(part[0], {}) for part in parts]
    manners = [row.get("manner", "unspecified") for row in rows]
    manner, row = manners[0] if manners else "unspecified", rows[0] if rows else {}
    place, voicing = row.get("place", "unspecified"), row.get("voicing", "unspecified")
    tied = [_TIE.join(part[:1] for part in parts) + "".join(part[1:] for part in parts)]
    match manners:
        case ["plosive", "fricative" | "lateral fricative"]:
            manner, parts, place = "affricate", tied, rows[1]["place"]
        case ["plosive", "plosive"] | ["nasal", "nasal"]:
            parts, place = tied, "labial-velar" if {each["place"] for each in rows} == {"velar", "bilabial"} else place
        case ["plosive" | "nasal", "click"]:
            manner, parts, place = "click", parts[1:], rows[1]["place"]
        case ["vowel", "vowel", *others] if {*others} <= {"vowel"}:
            manner = "diphthong"
    if any(sign in phone for sign in _VOICELESS):
        voicing = "voiceless"
    return Articulation(manner, place, voicing, tuple(parts))


def _parts(phone: str) -> list[str]:
    """Return the letters of a phone, each with what modifies it; tones are no part of them."""
    found = list[str]()
    for sign in ipa.normal(phone):
        if sign in ipa.TONES:
            continue
        if ipa.is_modifier(sign) and found:
            found[-1] += sign
        elif not ipa.is_modifier(sign):
            found.append(sign)
    return found


@functools.cache
def _rows(name: str) -> dict[str, dict[str, str]]:
    with (_TABLES / f"{name}.tsv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return {next(iter(row.values())): row for row in rows}
