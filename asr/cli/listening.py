"""Places in recordings that are worth a look, with their sound, for the pages of `asr align` and its comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from asr.cli.recordings import Recording
from asr.core.errors import AudioError
from asr.evaluation.agreement import Difference
from asr.evaluation.alignment_page import Place
from asr.recognition import notebook
from asr.speech import audio
from asr.speech.segments import Segment

AROUND = 0.5  # seconds of sound before and behind a place
MOST, OF_ONE = 60, 5  # places on a page, and of one recording


def worst_words(rows: Mapping[str, Mapping[str, Any]], named: Mapping[str, Recording]) -> list[Place]:
    """Return the words of the worst quality that have a note.

    Parameters
    ----------
    rows
        The summary of each recording, with ``rated`` words and ``phones``.
    named
        The recordings by the same names.
    """
    chosen = list[tuple[float, str, dict[str, Any]]]()
    for name, row in rows.items():
        odd = sorted((word for word in row["rated"] if word["notes"]), key=lambda word: word["quality"])
        chosen += [(word["quality"], name, word) for word in odd[:OF_ONE]]
    chosen = sorted(chosen, key=lambda each: each[:2])[:MOST]
    sounds = _Sounds({name: (each.path, each.channel) for name, each in named.items()})
    found = []
    for value, name, word in chosen:
        rated = rows[name]["rated"]
        tiers = {
            "words": [Segment(each["label"], each["start"], each["end"], each["quality"]) for each in rated],
            "phones": [Segment(*phone) for phone in rows[name]["phones"]],
        }
        heading = f"{word['label']}, {name} at {word['start']:.2f} s: quality {value:.2f}; {', '.join(word['notes'])}"
        found.append(Place(heading, sounds.around(name, word["start"], word["end"], tiers)))
    return found


def differences(
    found: Sequence[Difference], sides: Mapping[str, Mapping[str, Sequence[Segment]]], folder: Path | None
) -> list[Place]:
    """Return places where two alignments differ.

    Parameters
    ----------
    found
        The differences to show.
    sides
        The segments of each side's utterances, by the side's name.
    folder
        Where the recordings are, named as the utterances; None shows the labels alone.
    """
    files = {} if folder is None else _files(folder)
    sounds = _Sounds({name: (path, None) for name, path in files.items()})
    places = []
    for each in found:
        start, end = min(each.first.start, each.second.start), max(each.first.end, each.second.end)
        both = {name: side[each.utterance] for name, side in sides.items()}
        heading = (
            f"{each.label}, {each.utterance}: at {each.first.start:.3f} s and at {each.second.start:.3f} s, "
            f"{1000 * each.shift:+.0f} ms"
        )
        places.append(Place(heading, sounds.around(each.utterance, start, end, both)))
    return places


def _files(folder: Path) -> dict[str, Path]:
    """Return the recordings in a folder by their names without suffix, and by their paths in it."""
    from asr.cli.recordings import find

    found = dict[str, Path]()
    for path in find(folder):
        found[path.stem] = path
        if folder.is_dir():
            found[path.relative_to(folder).with_suffix("").as_posix()] = path
    return found


class _Sounds:
    """Reads recordings, one of them kept at a time, and shows parts of them."""

    def __init__(self, places: Mapping[str, tuple[Path, int | None]]):
        self._places = places
        self._name, self._waveform = "", np.zeros(0, np.float32)

    def around(self, name: str, start: float, end: float, tiers: Mapping[str, Sequence[Segment]]) -> str:
        """Return an HTML element of a stretch and what is around it; without sound if that cannot be read."""
        first, last = max(start - AROUND, 0.0), end + AROUND
        inside = {
            tier: [
                replace(each, start=max(each.start, first) - first, end=min(each.end, last) - first)
                for each in segments
                if each.end > first and each.start < last and each.end > each.start
            ]
            for tier, segments in tiers.items()
        }
        waveform = self._read(name)[round(first * audio.SAMPLE_RATE) : round(last * audio.SAMPLE_RATE)]
        return notebook.html(inside, last - first, waveform)

    def _read(self, name: str) -> np.ndarray:
        if name != self._name:
            path, channel = self._places.get(name, (None, None))
            try:
                self._waveform = np.zeros(0, np.float32) if path is None else audio.load(path, channel=channel)
            except AudioError:  # a pipe that was read, or a file that is gone
                self._waveform = np.zeros(0, np.float32)
            self._name = name
        return self._waveform
