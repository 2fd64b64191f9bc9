"""Syllables of English words: the phones of a word, parted by the maximum onset principle.

Each vowel is the nucleus of a syllable. Of the consonants between two vowels as many begin the second syllable as may
begin a word of English (D. Kahn, "Syllable-based generalizations in English phonology", MIT, 1976, ch. 2). The clusters
that may are in ``tables/syllables/onsets.tsv``; a single consonant may, but for NG.
"""

import functools
import itertools
from collections.abc import Sequence
from importlib import resources

VOWELS = frozenset(["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"])


def syllable_lengths(phones: Sequence[str]) -> list[int]:
    """Return how many phones each syllable of a word has; a word without a vowel is one syllable.

    Parameters
    ----------
    phones
        ARPAbet, without digits for stress.

    Examples
    --------
    >>> syllable_lengths("EH K S T R AH".split()), syllable_lengths("AE T L AH S".split())  # extra, atlas
    ([2, 4], [2, 3])
    """
    nuclei = [i for i, phone in enumerate(phones) if phone in VOWELS]
    starts = [0]
    for before, after in itertools.pairwise(nuclei):
        consonants = phones[before + 1 : after]
        starts.append(before + 1 + next(i for i in range(len(consonants) + 1) if _is_onset(tuple(consonants[i:]))))
    return [end - start for start, end in zip(starts, [*starts[1:], len(phones)], strict=True)]


def _is_onset(consonants: tuple[str, ...]) -> bool:
    """Tell whether consonants may begin a syllable."""
    if len(consonants) < 2:
        return consonants != ("NG",)
    return consonants in _clusters()


@functools.cache
def _clusters() -> frozenset[tuple[str, ...]]:
    table = resources.files("asr.speech").joinpath("tables", "syllables", "onsets.tsv").read_text(encoding="utf8")
    return frozenset(tuple(line.split()) for line in table.splitlines()[1:])
