"""How far two alignments of the same recordings agree: by class of phones, with the places where they differ most.

The phones of an utterance are matched by the alignment of their labels with the fewest edits; silences are left out.
The boundary of a phone is its start. Where both sides are ARPAbet, whatever the spelling, or both of one other phone
set, phones are grouped by manner of articulation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from kaldialign import align as edit_alignment

from asr.core.errors import AsrError
from asr.core.terminal import columns
from asr.evaluation import boundaries
from asr.evaluation.confusions import MANNERS, articulations
from asr.speech import elan
from asr.speech.label_files import composed, read_segments, read_tiers
from asr.speech.label_spellings import ARPABET, Spelling, recognise
from asr.speech.segments import Segment

SILENCES = frozenset(["", "sil", "sp", "SIL", "SP", "<sil>", "<eps>", "h#", "pau", "epi", "spn", "<unk>"])
ALL, OTHER = "all", "other"
LEAST = 0.02  # seconds: differences below this are worth no look
_GAP = "\0"
Utterances = Mapping[str, Sequence[Segment]]


class Difference(NamedTuple):
    """A phone that both sides have.

    Attributes
    ----------
    utterance, label
        Where it is, and what.
    group
        Its manner of articulation.
    first, second
        The phone of each side.
    """

    utterance: str
    label: str
    group: str
    first: Segment
    second: Segment

    @property
    def shift(self) -> float:
        """By how many seconds the second side's start is later."""
        return self.second.start - self.first.start


@dataclass(frozen=True)
class Agreement:
    """How far two alignments agree.

    Attributes
    ----------
    differences
        Of all phones that both have.
    unmatched
        How many phones of the first and of the second side have no like one on the other.
    utterances
        Those that both have.
    missing
        Those that the second and the first side lack.
    """

    differences: list[Difference]
    unmatched: tuple[int, int]
    utterances: list[str]
    missing: tuple[list[str], list[str]]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for all phones and one for each class: `boundaries.summary` with the mean absolute error."""
        groups = {ALL: self.differences}
        for name in [*MANNERS, OTHER]:
            some = [each for each in self.differences if each.group == name]
            groups |= {name: some} if some else {}
        found = []
        for name, some in groups.items():
            shifts = np.array([each.shift for each in some])
            mean = round(float(1000 * np.abs(shifts).mean()), 2) if some else None
            found.append(boundaries.summary(name, [shifts]) | {"mean_absolute_ms": mean})
        return found

    def outliers(self, count: int) -> list[Difference]:
        """Return the phones whose starts differ most, worst first, at most one of each second."""
        found, taken = list[Difference](), dict[str, list[float]]()
        for each in sorted(self.differences, key=lambda each: -abs(each.shift)):
            if len(found) == count or abs(each.shift) < LEAST:
                break
            if all(abs(each.first.start - start) > 1 for start in taken.setdefault(each.utterance, [])):
                taken[each.utterance].append(each.first.start)
                found.append(each)
        return found

    def by_utterance(self) -> list[tuple[str, float, int]]:
        """Return each utterance with its mean absolute difference in ms and the number of phones, worst first."""
        shifts = dict[str, list[float]]()
        for each in self.differences:
            shifts.setdefault(each.utterance, []).append(abs(each.shift))
        rows = [(name, 1000 * float(np.mean(values)), len(values)) for name, values in shifts.items()]
        return sorted(rows, key=lambda row: -row[1])

    def notes(self, names: tuple[str, str]) -> list[str]:
        """Return what one of the two sides alone has, in a line each; `names` are theirs."""
        unmatched = [
            f"{count} phone{'s' * (count > 1)} of {name} {'have' if count > 1 else 'has'} no like one on the other side"
            for name, count in zip(names, self.unmatched, strict=True)
            if count
        ]
        missing = [
            f"{len(several)} utterances are not in {name}, such as {several[0]}"
            for name, several in zip(reversed(names), self.missing, strict=True)
            if several
        ]
        return unmatched + missing


def read(path: Path, tier: str | None = None) -> dict[str, list[Segment]]:
    """Read the phones of each utterance, or another tier of TextGrids and .eaf files.

    Parameters
    ----------
    path
        A file or a folder of files that `asr.speech.label_files.read_segments` reads, or .eaf files.
    tier
        Its name; of .eaf files ``phones`` otherwise.

    Raises
    ------
    AsrError
        There is nothing to read, a file is damaged or lacks the tier.
    """
    suffixes = (".textgrid", ".eaf") if tier else (".eaf",)
    inside = sorted(path.rglob("*")) if path.is_dir() else [path]
    files = [file for file in inside if file.suffix.lower() in suffixes and file.is_file()]
    if not files and tier:
        raise AsrError(f"{path} has no TextGrid and no .eaf file, and --tier is for those: leave it out")
    if not files:
        return read_segments(path)
    is_plain = len({file.stem for file in files}) == len(files)
    names = [file.stem if is_plain else file.relative_to(path).with_suffix("").as_posix() for file in files]
    found = {}
    for name, file in zip(names, files, strict=True):
        tiers = elan.read_tiers(file) if file.suffix.lower() == ".eaf" else read_tiers(file)
        if (tier or "phones") not in tiers:
            raise AsrError(f"{file} has no tier {tier or 'phones'!r}: it has {', '.join(map(repr, tiers)) or 'none'}")
        found[name] = composed(tiers[tier or "phones"])
    return found


def compare(first: Utterances, second: Utterances) -> Agreement:
    """Compare two alignments.

    Parameters
    ----------
    first, second
        The phones of each utterance, by its name.

    Raises
    ------
    AsrError
        They have no utterance in common, or no phone.

    Examples
    --------
    >>> one, other = ([Segment("AY", start, 0.5), Segment("S", 0.5, 0.6)] for start in (0.1, 0.13))
    >>> [(each.label, round(each.shift, 2), each.group) for each in compare({"a": one}, {"a": other}).differences]
    [('AY', 0.03, 'diphthong'), ('S', 0.0, 'fricative')]
    """
    both = [name for name in first if name in second]
    if not both:
        names = [next(iter(side), "nothing") for side in (first, second)]
        raise AsrError(f"the two have no utterance in common: the first has {names[0]}, the second {names[1]}")
    sides = [{name: _spoken(side[name]) for name in both} for side in (first, second)]
    manners = _respell(sides)
    found, unmatched = list[Difference](), [0, 0]
    for name in both:
        labels = [[each.label for each in side[name]] for side in sides]
        places = [iter(side[name]) for side in sides]
        for pair in edit_alignment(*labels, _GAP):
            one, other = (next(place) if label != _GAP else None for place, label in zip(places, pair, strict=True))
            if one and other and one.label == other.label:
                found.append(Difference(name, one.label, manners.get(one.label, OTHER), one, other))
            else:
                unmatched[0] += one is not None
                unmatched[1] += other is not None
    if not found:
        raise AsrError("the two have no phone in common: compare labels of one phone set, or words with words (--tier)")
    missing = ([name for name in first if name not in second], [name for name in second if name not in first])
    return Agreement(found, (unmatched[0], unmatched[1]), both, missing)


def _spoken(segments: Sequence[Segment]) -> list[Segment]:
    return [each for each in segments if each.label not in SILENCES and each.end > each.start]


def _respell(sides: list[dict[str, list[Segment]]]) -> dict[str, str]:
    """Spell both sides alike if they are of one phone set; return the manner of articulation of each label."""
    texts = [[[each.label for each in segments] for segments in side.values()] for side in sides]
    for wanted in ([ARPABET], []):
        spellings = [recognise(text, wanted) for text in texts]
        whole = [each for each in spellings if each is not None and each.share == 1]
        if len(whole) == len(sides) and whole[0].phone_set == whole[1].phone_set:
            for side, spelling in zip(sides, whole, strict=True):
                for name, segments in side.items():
                    side[name] = [replace(each, label=_alone(spelling, each.label)) for each in segments]
            return {label: each.manner for label, each in articulations(whole[0].phone_set).items()}
    return {}


def _alone(spelling: Spelling, label: str) -> str:
    """Return the label of a phone set that a label stands for, or the label itself if it stands for several."""
    found = spelling.respell(label)
    return found[0] if len(found) == 1 else label


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return `Agreement.rows` as a text table."""
    head = ["phones", *(f"≤ {ms} ms" for ms in boundaries.TOLERANCES_MS), "mean |Δ|", "mean Δ", "median Δ", "number"]
    return columns([head, *map(cells, rows)])


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return a row of `Agreement.rows` as text.

    >>> cells(Agreement([Difference("a", "S", "fricative", Segment("S", 0, 1), Segment("S", 0.5, 1))], (0, 0), [],
    ...     ([], [])).rows()[0])
    ['all', '0.0 %', '0.0 %', '0.0 %', '500.0 ms', '500.0 ms', '500.0 ms', '1']
    """
    shares = [f"{row['within'][str(ms)]:.1f} %" for ms in boundaries.TOLERANCES_MS]
    times = [f"{row[key]:.1f} ms" for key in ("mean_absolute_ms", "mean_ms", "median_ms")]
    return [row["name"], *shares, *times, f"{row['num_boundaries']:,}"]
