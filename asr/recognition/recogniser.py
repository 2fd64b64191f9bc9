"""The recogniser that people use: a model folder and a recording make phones with times and confidences."""

import heapq
import itertools
import json
import operator
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asr.core.errors import AudioError, ConfigError
from asr.core.terminal import track
from asr.ctc import Hypothesis
from asr.models import model_folder
from asr.models.base import AcousticModel
from asr.models.calibration import word_confidence
from asr.models.ctc import CTCModel
from asr.recognition import windows
from asr.speech import audio
from asr.speech.features import FRAME_SHIFT, FeatureExtractor
from asr.speech.segments import Segment

DEFAULT_MODEL = "en-us-phones"
NBest = tuple[tuple[str, ...], float]  # labels and their score


@dataclass(frozen=True)
class Transcript:
    """What was recognised in one recording; as a string, the labels in a line.

    >>> str(Transcript([Segment("HH", 0.1, 0.2, 0.9), Segment("AY", 0.2, 0.3, 0.8)], duration=0.5))
    'HH AY'

    Attributes
    ----------
    phones
        In order, with confidences; none overlap, and they abut but for pauses (see `asr.models.times`).
    duration
        Of the recording, in seconds.
    words
        The same phones as words, where there is a language model over words.
    nbest
        The likeliest label sequences with their scores, natural log probabilities, where several were asked for.
    """

    phones: list[Segment]
    duration: float
    words: list[Segment] | None = None
    nbest: Sequence[NBest] = ()

    def __str__(self) -> str:
        """Return the labels in a line."""
        return " ".join(phone.label for phone in self.phones)

    def __iter__(self) -> Iterator[Segment]:
        """Iterate over the phones."""
        return iter(self.phones)

    def to_json(self, path: str | None = None) -> str:
        """Return one line of JSON, which names the recording where it has a path.

        >>> Transcript([], duration=0.5).to_json("a.wav")
        '{"path": "a.wav", "duration": 0.5, "phones": []}'
        """
        values: dict[str, Any] = {"duration": self.duration, "phones": [asdict(phone) for phone in self.phones]}
        if self.words is not None:
            values["words"] = [asdict(word) for word in self.words]
        if self.nbest:
            values["nbest"] = [{"phones": " ".join(labels), "score": round(score, 4)} for labels, score in self.nbest]
        return json.dumps(({} if path is None else {"path": path}) | values, ensure_ascii=False)


class Recogniser:
    """Phones from recordings.

    Parameters
    ----------
    model
        A loaded model folder; `from_pretrained` loads one.
    beam_size
        Of CTC's beam search; 1 takes the best path, None what the model's configuration says.
    progress
        Show a bar on standard error while a long recording is heard.

    Raises
    ------
    ConfigError
        A beam for an HMM, whose search has another.

    Examples
    --------
    >>> recogniser = Recogniser.from_pretrained("en-us-phones")
    >>> transcript = recogniser.transcribe(np.zeros(16000, np.float32))
    >>> transcript.duration
    1.0
    """

    def __init__(self, model: AcousticModel, beam_size: int | None = None, progress: bool = False):
        if beam_size not in (None, 1) and not model.has_beam:
            raise ConfigError("an HMM has no beam of hypotheses: leave --beam-size out")
        self.model = model
        model.prepare()
        self.beam_size = model.config.decode.beam_size if beam_size is None else beam_size
        self.progress = progress
        self._extractor = FeatureExtractor(model.config.features)

    @classmethod
    def from_pretrained(
        cls, model: str | Path = DEFAULT_MODEL, beam_size: int | None = None, progress: bool = False, **decode: Any
    ) -> "Recogniser":
        """Load a shipped model by its name, or a run or model folder by its path.

        Parameters
        ----------
        model, beam_size, progress
            As above.
        **decode
            Settings of `asr.core.config.DecodeConfig`: ``lm="folder", lm_weight=0.6``.

        Raises
        ------
        ModelError
            There is no such model, or a file of it is missing or does not fit.
        """
        found = model_folder.load(model, light=True)
        given = decode if beam_size is None else decode | {"beam_size": beam_size}
        return cls(found.with_decoding(replace(found.config.decode, **given)), beam_size, progress)

    def emissions(self, waveform: np.ndarray) -> np.ndarray:
        """Return what the model's decoding and aligning start from (T', …), for a waveform (N,) at 16 kHz."""
        features, model = self.model.normaliser(self._extractor(waveform)), self.model
        if isinstance(model, CTCModel) and model.config.model.get("bidirectional", True):  # else all before matters
            subsampling = round(model.frame_shift / FRAME_SHIFT)
            return windows.emissions(model.emissions, features, subsampling, self.progress)
        return model.emissions([features])[0]

    def transcribe(
        self,
        recording: str | Path | np.ndarray,
        sample_rate: int = audio.SAMPLE_RATE,
        channel: int | None = None,
    ) -> Transcript:
        """Recognise the phones in a file or an array. Several threads may call it at once.

        Parameters
        ----------
        recording
            A path, or samples (N,) or (N, channels), floating or integer.
        sample_rate
            Of an array, in Hz; a file tells its own.
        channel
            Of a file with several, from 0; their mean without it.

        Raises
        ------
        AudioError
            The recording is missing, empty, corrupt, shorter than 25 ms or not finite.
        """
        if isinstance(recording, np.ndarray):
            return self._recognise(audio.from_array(recording, sample_rate))
        waveform = audio.load(recording, channel)
        try:
            return self._recognise(waveform)
        except AudioError as error:  # too short; which file is known here only
            raise AudioError(f"{recording}: {error}") from error

    def _recognise(self, waveform: np.ndarray) -> Transcript:
        """Decode, and place the phones: of a long recording piece by piece."""
        emissions, shift = self.emissions(waveform), self.model.frame_shift
        phones, words, nbest = list[Segment](), list[Segment](), list[NBest]([((), 0.0)])
        for start, end, hypotheses in self._decode(emissions):
            offset = round(start * shift, 3)
            until = len(waveform) if end == len(emissions) else round(end * shift * audio.SAMPLE_RATE)
            sound = waveform[round(offset * audio.SAMPLE_RATE) : until]
            best = hypotheses[0]
            placed = [
                replace(phone, start=round(phone.start + offset, 3), end=round(phone.end + offset, 3))
                for phone in self.model.segments(best, emissions[start:end], sound)
            ]
            phones += placed
            words += segment_words(placed, best.words or (), best.word_lengths)
            nbest = self._longer(nbest, hypotheses)
        duration = round(len(waveform) / audio.SAMPLE_RATE, 3)
        several = self.model.config.decode.nbest > 1
        return Transcript(phones, duration, None if best.words is None else words, nbest if several else ())

    def _decode(self, emissions: np.ndarray) -> Iterator[tuple[int, int, list[Hypothesis]]]:
        """Yield the first and last frame of each piece, and what was said in it."""
        model, count = self.model, self.model.config.decode.nbest
        cuts = windows.cuts(emissions, model.frame_shift) if isinstance(model, CTCModel) else [0, len(emissions)]
        pieces = list(itertools.pairwise(cuts))
        firsts = range(0, len(pieces), windows.BATCH)
        for first in track(firsts, "decoding") if self.progress and len(firsts) > 1 else firsts:
            batch = pieces[first : first + windows.BATCH]
            found = model.hypotheses([emissions[start:end] for start, end in batch], self.beam_size, count)
            yield from ((*piece, hypotheses) for piece, hypotheses in zip(batch, found, strict=True))

    def _longer(self, nbest: list[NBest], hypotheses: Sequence[Hypothesis]) -> list[NBest]:
        """Return the likeliest of what was said so far with what was said next, as many as are asked for."""
        both = (
            (labels + tuple(self.model.tokens[token] for token in each.tokens), score + each.score)
            for labels, score in nbest
            for each in hypotheses
        )
        return heapq.nlargest(self.model.config.decode.nbest, both, key=operator.itemgetter(1))


def segment_words(phones: Sequence[Segment], words: Sequence[str], lengths: Sequence[int]) -> list[Segment]:
    """Return words from the start of their first phone to the end of their last, as sure as all their phones together.

    >>> phones = [Segment("HH", 0.1, 0.2, 0.5), Segment("AY", 0.2, 0.4, 0.5)]
    >>> segment_words(phones, ["hi"], [2])
    [Segment(label='hi', start=0.1, end=0.4, confidence=0.25)]
    """
    ends = list(itertools.accumulate(lengths))
    parts = [phones[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    return [
        Segment(word, part[0].start, part[-1].end, round(word_confidence([each.confidence or 0.0 for each in part]), 3))
        for word, part in zip(words, parts, strict=True)
    ]
