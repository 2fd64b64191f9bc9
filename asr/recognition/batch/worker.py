"""What a worker does: it loads the recogniser once, and turns recordings into rows.

A row has ``id``, ``path`` and ``error``, which is null or says why there is no more. The rest is what `asr transcribe
--format json` writes, and ``text``; with alignment what `asr align --format json` writes, ``misfit`` and ``guessed``.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from asr.core import places
from asr.core.errors import AsrError, CorpusError
from asr.core.files import digest, hash_of
from asr.lm import search
from asr.models import model_folder, word_model
from asr.recognition import windows
from asr.recognition.align import known_text, place
from asr.recognition.batch.items import Item
from asr.recognition.recogniser import Heard, Recogniser
from asr.speech import texts_beside
from asr.speech.audio import SAMPLE_RATE
from asr.speech.features import FRAME_SHIFT

LONG = windows.WHOLE * FRAME_SHIFT  # seconds; a longer recording is alone in memory

Row = dict[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Worker:
    """Turns recordings into rows.

    Attributes
    ----------
    model
        A run or model folder, or a shipped model's name.
    words
        Recognise words with the shipped word model.
    align
        Align the text that is known instead of recognising.
    ipa
        Write phones in IPA.
    """

    model: str
    words: bool = False
    align: bool = False
    ipa: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings alone: each process loads the recogniser itself."""
        return Worker, (self.model, self.words, self.align, self.ipa)

    @cached_property
    def recogniser(self) -> Recogniser:
        """The recogniser, loaded once in each process."""
        return Recogniser.from_pretrained(self.model, words=self.words)

    def made_from(self) -> dict[str, str]:
        """Return texts that tell another model and other settings."""
        files = model_folder.files_of(self.model)
        if self.words:
            files += sorted(file for file in search.find(word_model.DEFAULT).rglob("*") if file.is_file())
        settings = [name for name in ("words", "align", "ipa") if getattr(self, name)]
        return {"model": digest(map(hash_of, files)), "options": ", ".join(settings) or "none"}

    def __call__(self, items: Sequence[Item]) -> list[Row]:
        """Hear recordings, and return a row for each."""
        return self.rows(items, [sound_of(item) for item in items])

    def rows(self, items: Sequence[Item], sounds: Sequence[np.ndarray | Row | None]) -> list[Row]:
        """Return a row for each recording, of which `sound_of` has returned the sound."""
        found = dict[int, Row]()
        short = list[tuple[int, np.ndarray]]()
        for number, (item, sound) in enumerate(zip(items, sounds, strict=True)):
            if isinstance(sound, np.ndarray):
                short.append((number, sound))
                continue
            whole = _sound_or_fault(item) if sound is None else sound
            found |= self._rows(items, [(number, whole)]) if isinstance(whole, np.ndarray) else {number: whole}
        found |= self._rows(items, short)
        return [found[number] for number in range(len(items))]

    def _rows(self, items: Sequence[Item], sounds: Sequence[tuple[int, np.ndarray]]) -> dict[int, Row]:
        """Return the row of each recording by its number, heard together."""
        try:
            heard = self.recogniser.hear_several([(items[number].path, sound) for number, sound in sounds])
        except Exception as error:
            if len(sounds) == 1:
                return {sounds[0][0]: fault(items[sounds[0][0]], error)}
            return {number: row for each in sounds for number, row in self._rows(items, [each]).items()}
        return {number: self._row(items[number], each) for (number, _), each in zip(sounds, heard, strict=True)}

    def _row(self, item: Item, heard: Heard | AsrError) -> Row:
        try:
            if isinstance(heard, AsrError):
                raise heard
            return _named(item) | (self._aligned(item, heard) if self.align else self._recognised(heard))
        except Exception as error:
            return fault(item, error)

    def _recognised(self, heard: Heard) -> Row:
        said = self.recogniser.transcript(heard)
        said = said.ipa if self.ipa else said
        return json.loads(said.to_json()) | {"text": said.text}

    def _aligned(self, item: Item, heard: Heard) -> Row:
        text = item.text
        if text is None and not places.is_url(item.path) and item.offset is None:
            text = texts_beside.find(Path(item.path), item.channel)
        if text is None:
            raise CorpusError("no text: give it in the list of recordings, or in a .txt file beside the recording")
        model = self.recogniser.model
        aligned = place(model, known_text(model, text), heard)
        aligned = aligned.ipa if self.ipa else aligned
        about = {"text": text, "misfit": aligned.misfit, "guessed": aligned.guessed}
        return json.loads(aligned.to_json()) | about


def sound_of(item: Item) -> np.ndarray | Row | None:
    """Return the waveform (N,) of a recording, None if it is too long to be kept beside others, or a fault's row."""
    sound = _sound_or_fault(item)
    return None if isinstance(sound, np.ndarray) and len(sound) > LONG * SAMPLE_RATE else sound


def _sound_or_fault(item: Item) -> np.ndarray | Row:
    try:
        return item.load()
    except Exception as error:  # of a library, or memory: one recording does not end the work on a million
        return fault(item, error)


def fault(item: Item, error: Exception) -> Row:
    """Return the row of a recording that failed."""
    log.debug("%s", item.path, exc_info=error)
    reason = str(error) if isinstance(error, AsrError) else f"{type(error).__name__}: {error}"
    return _named(item) | {"error": " ".join(reason.removeprefix(f"{item.path}: ").split())}


def _named(item: Item) -> Row:
    part = {} if item.start == 0 and item.duration is None else {"start": item.start}
    return {"id": item.id, "path": item.path, **part, "error": None}
