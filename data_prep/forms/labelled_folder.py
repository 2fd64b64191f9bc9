"""A folder of recordings, at any depth, with a file of labels beside each: .TextGrid, .eaf, .lab or .txt.

========= ==========================================================================================================
suffix    what it holds
========= ==========================================================================================================
.TextGrid Praat's tiers. Tiers ``phones`` and ``words`` (WebMAUS: ``MAU`` and ``ORT-MAU``) are what is said in the
          whole recording. Else each interval that has a label is an utterance; where there are several tiers, each is a
          speaker's.
.eaf      ELAN's annotations, each an utterance (`asr.speech.elan`)
.lab      words; or with a start and an end in units of 100 ns on each line, as in HTK, phones or words
.txt      words
========= ==========================================================================================================

Where the words of all files are phones, they are taken for phones. Of several label files beside a recording the first
in this list counts. Folders called train, dev and test name the splits.
"""

import itertools
import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path

from asr.core.errors import CorpusError
from asr.core.terminal import count
from asr.speech import elan
from asr.speech.label_files import read_tiers
from asr.speech.media_files import SOUND_SUFFIXES
from asr.speech.segments import Segment
from asr.speech.texts_beside import has_times
from data_prep.forms.record import Record, are_phones, files_in, folder_split, text_of
from data_prep.manifests import SLACK

LOOKS_FOR = "recordings with .txt, .lab, .TextGrid or .eaf beside them"
_TEXTS = (".lab", ".txt")
_SUFFIXES = (".textgrid", ".eaf", *_TEXTS)
_KINDS = {"phone": "phone", "phoneme": "phone", "mau": "phone", "word": "word", "ort-mau": "word"}  # of tiers
_ENOUGH = 1000  # labels by which phones are told from utterances
_HTK = re.compile(r"\d+\s+\d+\s+\S+(\s+-?[\d.]+(\s+\S+)*)?\s*$")  # with a score, and a word, as of HVite

log = logging.getLogger(__name__)


def is_here(place: Path) -> bool:
    """Tell whether a folder has a recording with labels beside it."""
    return place.is_dir() and any(labels for _, labels in _pairs(place))


def read(place: Path) -> Iterator[Record]:
    """Yield the utterances of all recordings that have labels; a warning says how many have none.

    Raises
    ------
    CorpusError
        A file of labels is malformed or not text.
    """
    lacking = [number for number, (_, labels) in enumerate(_pairs(place)) if labels is None]
    if lacking:
        first, total = next(itertools.islice(_pairs(place), lacking[0], None))[0].name, sum(1 for _ in _pairs(place))
        log.warning("%s: %d of %d recordings have no labels beside them: %s is left out",
                    place, len(lacking), total, first)  # fmt: skip
    alone = [path.name for path in _labels_alone(place)]
    if alone:
        log.warning(
            "%s: %s of labels without a recording beside: %s is left out", place, count(len(alone), "file"), alone[0]
        )
    written = (labels for _, labels in _pairs(place) if labels is not None and labels.suffix.lower() in _TEXTS)
    phones, labels_of_intervals = are_phones(map(_text, written)), list[str]()
    for audio, labels in _pairs(place):
        if labels is None:
            continue
        split = folder_split(audio, place)
        if labels.suffix.lower() in _TEXTS:
            text = _text(labels)
            yield Record(str(labels), audio, "" if phones else text, text if phones else "", split=split)
            continue
        is_eaf = labels.suffix.lower() == ".eaf"
        found = _utterances(labels, audio, split, elan.read(labels)) if is_eaf else _of_textgrid(labels, audio, split)
        for record in found:
            if record.end is not None and len(labels_of_intervals) < _ENOUGH:
                labels_of_intervals.append(record.text)
            yield record
    if are_phones(labels_of_intervals):
        mend = "call the tier of phones 'phones', or write what is said in words"
        raise CorpusError(f"{place}: the labels of tiers, such as {labels_of_intervals[0]!r}, are phones: {mend}")


def _pairs(place: Path) -> Iterator[tuple[Path, Path | None]]:
    """Yield each recording with the file of its labels, or with None."""
    folder, beside = None, dict[str, Path]()
    for audio in files_in(place, SOUND_SUFFIXES):
        if audio.parent != folder:
            folder = audio.parent
            beside = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.suffix.lower() in _SUFFIXES}
        names = (f"{audio.stem.lower()}{suffix}" for suffix in _SUFFIXES)
        yield audio, next((beside[name] for name in names if name in beside), None)


def _labels_alone(place: Path) -> Iterator[Path]:
    """Yield each file of labels that has no recording beside it; a .txt among no recordings may be anything."""
    folder, stems = None, set[str]()
    for labels in files_in(place, _SUFFIXES):
        if labels.parent != folder:
            folder = labels.parent
            stems = {path.stem.lower() for path in folder.iterdir() if path.suffix.lower() in SOUND_SUFFIXES}
        if labels.stem.lower() not in stems and (stems or labels.suffix.lower() != ".txt"):
            yield labels


def _text(path: Path) -> str:
    """Return the labels of a .txt or .lab file."""
    lines = {number: line for number, line in enumerate(text_of(path).splitlines(), 1) if line.strip()}
    if not lines:
        raise CorpusError(f"{path} is empty: write what is said, or take the file away")
    if path.suffix.lower() == ".lab" and has_times([*lines.values()]):
        for number, line in lines.items():
            if not _HTK.match(line):
                fault = f"{path}, line {number}: {line.strip()!r} is not 'start end label' in units of 100 ns"
                raise CorpusError(f"{fault}: write whole numbers, or the labels without times")
        return " ".join(line.split()[2] for line in lines.values())
    return " ".join(" ".join(lines.values()).split())


def _of_textgrid(path: Path, audio: Path, split: str) -> Iterator[Record]:
    tiers = read_tiers(path)
    kinds = {name: _KINDS.get(name.lower().rpartition(" - ")[2].removesuffix("s")) for name in tiers}  # 'anna - phones'
    named = {kind: [name for name, each in kinds.items() if each == kind] for kind in ("phone", "word")}
    twice = next((names for names in named.values() if len(names) > 1), None)
    if twice:
        raise CorpusError(f"{path} has the tiers {', '.join(twice)}: cut the recording into one of each speaker")
    if not any(named.values()):
        several = len(tiers) > 1
        yield from _utterances(path, audio, split, {name if several else "": each for name, each in tiers.items()})
        return
    phones, words = (" ".join(each.label for name in named[kind] for each in tiers[name]) for kind in ("phone", "word"))
    speaker = next(name for names in named.values() for name in names).rpartition(" - ")[0]
    times = tuple(each for name in named["phone"] for each in tiers[name])
    yield Record(str(path), audio, words, phones, speaker, split=split, times=times)


def _utterances(path: Path, audio: Path, split: str, speakers: dict[str, list[Segment]]) -> Iterator[Record]:
    """Yield an utterance for each segment of each speaker; a warning says if there is none."""
    if not any(speakers.values()):
        log.warning("%s has no labels: %s is left out", path, audio.name)
    for speaker, segments in speakers.items():
        others = (each for name, its in speakers.items() if name != speaker for each in its)
        known = {(each.start, each.end) for each in others}
        for one, other in itertools.pairwise([*segments, Segment("", math.inf, math.inf)]):
            if other.start < one.end - SLACK or (one.start, one.end) in known:
                fault = f"{path} says two things at once from {one.start:.2f} s, one of them {one.label!r}"
                raise CorpusError(f"{fault}: take tiers of translations and notes out, for each tier is a speaker's")
    for speaker, segments in speakers.items():
        for each in segments:
            place = f"{path}, at {each.start:.2f} s"
            yield Record(place, audio, each.label, speaker=speaker, split=split, start=each.start, end=each.end)
