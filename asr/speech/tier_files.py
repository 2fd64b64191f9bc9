"""TextGrids and .eaf files that tell what is said where, and that keep all they have when tiers are added.

The tiers of utterances are those that are named; or else of an .eaf file the tiers of text (`asr.speech.elan`), and of
a TextGrid all interval tiers but those of words, phones and other parts of an utterance.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from asr.core.errors import AsrError
from asr.speech import elan, label_files, textgrids
from asr.speech.segments import Segment

SUFFIXES = (".TextGrid", ".eaf")
PARTS = ("words", "word", "phones", "phone", "syllables", "sentences", "states")  # 'anna - words' is one of words, too


def read_utterances(path: Path, tiers: Sequence[str] = ()) -> dict[str, list[Segment]]:
    """Return the utterances of each tier that has them.

    Parameters
    ----------
    path
        A TextGrid or an .eaf file.
    tiers
        The names of the tiers of utterances; without any they are found as the module says.

    Raises
    ------
    AsrError
        The file cannot be read, or lacks a tier that is named.
    """
    is_eaf = path.suffix.lower() == ".eaf"
    found = elan.read_tiers(path) if is_eaf else label_files.read_tiers(path)
    missing = [name for name in tiers if name not in found]
    if missing:
        raise AsrError(f"{path} has no tier {missing[0]!r}: it has {', '.join(map(repr, found)) or 'none'}")
    names = tiers or (elan.text_tiers(path) if is_eaf else list(found))
    if not tiers:
        names = [name for name in names if name.lower().rpartition(" - ")[2] not in PARTS]
    return {name: found[name] for name in names if found[name]}


def with_tiers(given: Path, tiers: Mapping[str, Sequence[Segment]], form: str, duration: float, sound: Path) -> str:
    """Return a TextGrid or an .eaf file with all tiers of a file of either kind, and more.

    Parameters
    ----------
    given
        A TextGrid or an .eaf file. All of it is kept in a file of its own kind; in the other, its intervals.
    tiers
        The tiers to add. One whose name is taken gets a number.
    form
        ``textgrid`` or ``eaf``.
    duration
        Of the recording, in seconds.
    sound
        The recording.
    """
    is_eaf = given.suffix.lower() == ".eaf"
    kept = elan.read_tiers(given) if is_eaf else label_files.read_tiers(given)
    grid = None if is_eaf else textgrids.read(given)
    taken = {*kept} if grid is None else {tier.name for tier in grid.tiers}
    added = {_free(name, taken): segments for name, segments in tiers.items()}
    if form == "eaf":
        return elan.to_eaf(added, given=given) if is_eaf else elan.to_eaf(kept | added, sound)
    if grid is None:
        return label_files.to_textgrid(kept | added, max([duration, *(each[-1].end for each in kept.values() if each)]))
    more = [
        textgrids.Tier(name, False, label_files.without_overlap(name, segments, duration))
        for name, segments in added.items()
    ]
    times = [time for tier in more for each in tier.entries for time in (each.start, each.end)]
    start, end = min([grid.start, *times]), max([grid.end, *times])
    return textgrids.to_text(textgrids.TextGrid(start, end, [*grid.tiers, *more]))


def _free(name: str, taken: set[str]) -> str:
    names = itertools.chain([name], (f"{name} {number}" for number in itertools.count(2)))
    return next(each for each in names if each not in taken)
