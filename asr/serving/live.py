"""What a model for live speech hears of a stream, step by step: phones at once, and the words of the phrase so far.

    samples ─ asr.recognition.stream ─┬─ phones as they begin
                                      └─ emissions of the phrase ─ search ─ phones and words with times

Letters: N samples, T' steps of the network, C classes.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from asr.recognition.recogniser import Heard, Recogniser
from asr.recognition.stream import Spike, Stream
from asr.speech.audio import SAMPLE_RATE


class Live:
    """Hears one client's speech.

    Parameters
    ----------
    model
        A model for live speech: a run or model folder, or a shipped model's name.
    search
        Finds words in its emissions; None leaves the phones as they come.

    Raises
    ------
    AsrError
        There is no such model, or it needs the whole recording.
    """

    def __init__(self, model: str | Path, search: Recogniser | None = None):
        self._stream, self._search = Stream(model, SAMPLE_RATE), search
        self.labels, self._shift = self._stream.model.config.data.labels, self._stream.model.frame_shift
        self._start, self._emissions = 0.0, np.zeros((0, len(self._stream.model.tokens)), np.float32)

    @property
    def finds_words(self) -> bool:
        """Whether words are searched for."""
        return self._search is not None

    @property
    def end(self) -> float:
        """Seconds of the stream that the network has computed."""
        return self._start + len(self._emissions) * self._shift

    @property
    def known(self) -> float:
        """Seconds of the stream whose phones are told."""
        return self._stream.known

    def accept(self, waveform: np.ndarray) -> list[Spike]:
        """Hear the next samples (N,) at 16 kHz, and return the phones of which one is sure now."""
        found = self._stream.accept(waveform)
        self._emissions = np.concatenate([self._emissions, self._stream.emissions])
        return found

    def emissions(self, start: float) -> np.ndarray:
        """Return the emissions (T', C) from a time on, which is rounded to a step."""
        return self._emissions[max(0, round((start - self._start) / self._shift)) :]

    def forget(self, end: float) -> None:
        """Forget what was heard before a time."""
        kept = self.emissions(end)
        self._start, self._emissions = self.end - len(kept) * self._shift, kept

    def recognise(self, waveform: np.ndarray, emissions: np.ndarray, ipa: bool) -> dict[str, Any]:
        """Return phones and words of a stretch of the stream, as the JSON of a transcript has them."""
        assert self._search is not None
        said = self._search.transcript(Heard(waveform, emissions, "stream", None))
        return json.loads((said.ipa if ipa else said).to_json())
