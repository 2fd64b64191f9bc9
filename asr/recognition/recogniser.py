"""The recogniser that people use: a model folder and a recording give phones with times and confidences.

recording ─ hear ─▶ emissions (T', …) ─ decode ─▶ hypotheses ─ place, piece by piece ─▶ segments ─▶ Transcript
"""

import itertools
import json
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from asr.core.errors import AudioError, ConfigError, ModelError
from asr.core.settings import check
from asr.ctc import Hypothesis
from asr.models import model_folder
from asr.models.base import AcousticModel
from asr.models.calibration import Calibration, recognised_confidence
from asr.models.ctc import CTCModel
from asr.recognition import notebook, windows
from asr.recognition.annotation import Annotation, group_phones
from asr.speech import audio, characters
from asr.speech.features import FRAME_SHIFT, FeatureExtractor
from asr.speech.phones import is_characters
from asr.speech.segments import Segment

if TYPE_CHECKING:
    from asr.models.pronunciation import PronunciationScorer

DEFAULT_MODEL = "en-us-phones"
SURE = 0.5  # posterior of a phone; in noise and silence the highest was 0.41, in speech it is above 0.9
MOSTLY = 0.9  # the highest posterior in the calibration of a network that is sure of speech


class NBest(NamedTuple):
    """One of several hypotheses: phones, natural log probability, and words, None where they were not searched for."""

    labels: tuple[str, ...]
    score: float
    words: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Transcript(Annotation):
    """What was recognised in one recording. As a string, it is the phones in a line.

    >>> transcript = Transcript([Segment("HH", 0.1, 0.2, 0.9), Segment("AY", 0.2, 0.3, 0.8)], duration=0.5)
    >>> str(transcript), str(transcript.ipa)
    ('HH AY', 'h aɪ')
    >>> replace(transcript, words=[Segment("hi", 0.1, 0.3, 0.8)]).text
    'hi'

    Attributes
    ----------
    phones
        As in `Annotation`, with confidences.
    words
        As in `Annotation`; a language model over words gives them, or a model of characters. A confidence is the
        probability that the word is right, as far as the word model was calibrated with the acoustic model
        (`asr.models.word_model`).
    nbest
        The likeliest hypotheses, best first; those of words differ in words or in how these are pronounced. Empty
        unless several were asked for.
    """

    nbest: Sequence[NBest] = ()

    def __str__(self) -> str:
        """Return the phones in a line."""
        return " ".join(phone.label for phone in self.phones)

    @property
    def text(self) -> str:
        """The words in a line, or where no words are known the phones."""
        return str(self) if self.words is None else " ".join(word.label for word in self.words)

    def __iter__(self) -> Iterator[Segment]:
        """Iterate over the phones."""
        return iter(self.phones)

    @property
    def ipa(self) -> Self:
        """The same transcript with its phones, those of `nbest` too, in the International Phonetic Alphabet."""
        spelt = [
            NBest(
                tuple(map(self._in_ipa, each.labels)),
                each.score,
                None if each.words is None else tuple(map(self._word_in_ipa, each.words)),
            )
            for each in self.nbest
        ]
        return replace(super().ipa, nbest=spelt)

    def to_json(self, path: str | None = None) -> str:
        """Return everything as one line of JSON without a line break; `path` names the recording in it.

        >>> Transcript([], duration=0.5).to_json("a.wav")
        '{"path": "a.wav", "duration": 0.5, "phones": []}'
        """
        values: dict[str, Any] = {"duration": self.duration, "phones": [asdict(phone) for phone in self.phones]}
        if self.words is not None:
            values["words"] = [asdict(word) for word in self.words]
        if self.nbest:
            values["nbest"] = [
                {"phones": " ".join(labels)}
                | ({} if words is None else {"text": " ".join(words)})
                | {"score": round(score, 4)}
                for labels, score, words in self.nbest
            ]
        return json.dumps(({} if path is None else {"path": path}) | values, ensure_ascii=False)


@dataclass(frozen=True)
class Heard:
    """A recording as the recogniser heard it.

    Attributes
    ----------
    waveform : (N,)
        At 16 kHz.
    emissions : (T', …)
        What the model's decoding and aligning start from.
    name
        Of the recording, for error messages.
    sound
        Reads `waveform` anew, so that nothing has to keep it; None for a recording too long to show in a notebook.
    """

    waveform: np.ndarray
    emissions: np.ndarray
    name: str
    sound: Callable[[], np.ndarray] | None

    @property
    def duration(self) -> float:
        """Length in seconds, rounded to milliseconds."""
        return round(len(self.waveform) / audio.SAMPLE_RATE, 3)


class Recogniser:
    """Recognises phones in recordings. Several threads may use one recogniser at once.

    Parameters
    ----------
    model
        A loaded model folder; `from_pretrained` loads one.
    beam_size
        Hypotheses of CTC's beam search: 1 takes the best path, None takes what the model's configuration says.
    progress
        Show a progress bar on standard error for a long recording.
    word_calibration
        The map of words' confidences.
    folder
        The model folder; what scores pronunciation is read from there when it is first needed.

    Raises
    ------
    ConfigError
        `beam_size` is given for an HMM, whose search has no beam of hypotheses.

    Examples
    --------
    >>> recogniser = Recogniser.from_pretrained("en-us-phones")
    >>> transcript = recogniser.transcribe(np.zeros(16000, np.float32), sample_rate=16000)
    >>> transcript.duration
    1.0
    """

    def __init__(
        self,
        model: AcousticModel,
        beam_size: int | None = None,
        progress: bool = False,
        word_calibration: Calibration | None = None,
        folder: Path | None = None,
    ):
        if beam_size not in (None, 1) and not model.has_beam:
            raise ConfigError("an HMM has no beam of hypotheses: leave --beam-size out")
        self.model = model
        model.prepare()
        self.beam_size = model.config.decode.beam_size if beam_size is None else beam_size
        self.progress = progress
        self.word_calibration = word_calibration or Calibration()
        self.folder = folder
        self._extractor = FeatureExtractor(model.config.features)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = DEFAULT_MODEL,
        beam_size: int | None = None,
        progress: bool = False,
        words: bool | str | Path | None = False,
        **decode: Any,
    ) -> "Recogniser":
        """Load a shipped model by its name, or a run or model folder by its path.

        Parameters
        ----------
        model
            Name or path.
        beam_size, progress
            As for the class.
        words
            Recognise words: by the shipped word model, or by a folder or ARPA file that holds a language model over
            words. What was tuned with this acoustic model (`asr.models.word_model`) holds unless `decode` sets it.
        **decode
            Settings of `asr.core.config.DecodeConfig`, such as ``lm="folder", lm_weight=0.6``.

        Raises
        ------
        ModelError
            There is no such model, or a file of it is missing or does not fit the others.
        ConfigError
            A setting is out of range or does not fit the model, or the language model of `words` is not over words.
        """
        folder = model_folder.find(model)
        found = model_folder.load(folder, light=True)
        given = decode if beam_size is None else decode | {"beam_size": beam_size}
        own = found.config.decode
        if given.get("beam_size") == 1 and "lm" not in decode:
            given = given | {"lm": None}  # the best path has no use for that of the model folder
        if words is False or words is None:
            return cls(found.with_decoding(replace(own, **given)), beam_size, progress, folder=folder)
        from asr.models.word_model import DEFAULT, WordModel

        if not found.takes_lm:
            raise ConfigError(f"{model} finds no words: choose a system trained with CTC")
        if words is True and is_characters(found.config.data.labels):
            raise ConfigError(f"{model} writes letters, and so words: leave out --words")
        if "lm" in decode:
            raise ConfigError("words names the language model: leave lm out")
        word_model = WordModel.load(DEFAULT if words is True else words, model_folder.name_of(folder))
        word_model.check(found.tokens)
        tuned = dict(word_model.decode)
        if not found.calibration.priors:
            tuned.pop("label_prior_scale", None)  # found with another acoustic model
        settings = replace(own, **{**tuned, **given})
        if tuned.get("lm_weight") and "lm_weight" in given:  # of which other weights are shares
            shares = {key: tuned.get(key) for key in {"rescore_weight", "rescored_lm_weight"} - given.keys()}
            factor = settings.lm_weight / tuned["lm_weight"]
            settings = replace(settings, **{key: factor * value for key, value in shares.items() if value is not None})
        check(settings.beam_size > 1, "decode.beam_size", "be 2 or more for words", settings.beam_size)
        return cls(found.with_decoding(settings), beam_size, progress, word_model.calibration, folder)

    def with_decoding(self, **decode: Any) -> "Recogniser":
        """Return a recogniser that has the same model, and decodes otherwise.

        Parameters
        ----------
        **decode
            Settings of `asr.core.config.DecodeConfig` to change.

        Raises
        ------
        ConfigError
            A setting is out of range or does not fit the model.

        Examples
        --------
        >>> recogniser = Recogniser.from_pretrained("en-us-phones-small")
        >>> best_path = recogniser.with_decoding(beam_size=1, lm=None)
        >>> best_path.beam_size, best_path.model.encoder is recogniser.model.encoder
        (1, True)
        """
        settings = {"beam_size": self.beam_size} | decode
        model = self.model.with_decoding(replace(self.model.config.decode, **settings))
        return Recogniser(model, None, self.progress, self.word_calibration, self.folder)

    @cached_property
    def scorer(self) -> "PronunciationScorer":
        """What scores pronunciation.

        Raises
        ------
        ModelError
            The model folder has none, or it is damaged.
        """
        if self.folder is None:
            raise ModelError(
                "a recogniser made of a model alone scores no pronunciation: use Recogniser.from_pretrained"
            )
        from asr.models.pronunciation import PronunciationScorer  # recognition does without

        return PronunciationScorer.load(self.folder, self.model.tokens)

    def transcribe(
        self,
        recording: audio.Recording,
        sample_rate: float | None = None,
        channel: int | None = None,
    ) -> Transcript:
        """Recognise the phones in a recording.

        Parameters
        ----------
        recording
            A path, the bytes of a file, a file object, or samples: an array, a list or a tensor of shape (N,),
            (N, channels) or (channels, N). `asr.speech.audio.load` says more.
        sample_rate
            Of samples, in Hz: they need it. A file states its own.
        channel
            Which channel to use, counted from 0; None uses their mean.

        Raises
        ------
        AudioError
            The recording is missing, empty, corrupt, shorter than 25 ms or not finite; it has no such channel; or its
            rate is not known, or not the one given.
        """
        return self.transcript(self.hear(recording, sample_rate, channel))

    def transcript(self, heard: Heard) -> Transcript:
        """Recognise the phones in what `hear` or `hear_several` has heard."""
        phones, nbest = list[Segment](), [NBest((), 0.0)]
        words: list[Segment] | None = None
        for cuts, found in self._decode(heard.emissions):
            nothing = Hypothesis((), (), 0.0, (), words=None if found[0].words is None else ())
            hypotheses = [self._written(each) for each in found if self._is_speech(each)] or [nothing]
            best = hypotheses[0]
            placed = self._place(best, heard, cuts)
            phones += placed
            if best.words is not None:
                words = (words or []) + group_phones(placed, best.words, best.word_lengths, self._word_confidence)
            nbest = self._continue(nbest, hypotheses)
        if self.spells:
            words = characters.timed(phones)
        return Transcript(
            phones,
            heard.duration,
            words,
            nbest if self.model.config.decode.nbest > 1 else (),
            phone_set=self.model.config.data.labels,
            sound=heard.sound,
        )

    @property
    def spells(self) -> bool:
        """Whether the model's labels are characters, which spell words."""
        return is_characters(self.model.config.data.labels)

    def hear(self, recording: audio.Recording, sample_rate: float | None = None, channel: int | None = None) -> Heard:
        """Read a recording and compute its emissions; parameters and errors are those of `transcribe`."""
        name, sound = audio.name_of(recording), partial(audio.load, recording, sample_rate, channel)
        waveform = sound()
        try:
            emissions = self.emissions(waveform)
        except AudioError as error:  # it is too short, and only this function knows which recording it is
            raise AudioError(f"{name}: {error}") from error
        if not isinstance(recording, str | os.PathLike | bytes | np.ndarray):  # a pipe, for one, can be read once only
            sound = partial(np.asarray, waveform)
        short = len(waveform) <= notebook.LONGEST * audio.SAMPLE_RATE
        return Heard(waveform, emissions, name, sound if short else None)

    def emissions(self, waveform: np.ndarray) -> np.ndarray:
        """Return the model's emissions (T', …) for a waveform (N,) from `asr.speech.audio.load`: floats at 16 kHz."""
        return self._outputs(self._features(waveform))

    def hear_several(self, waveforms: Sequence[tuple[str, np.ndarray]]) -> list[Heard | AudioError]:
        """Compute the emissions of several recordings; short ones of like length go through the network together.

        Parameters
        ----------
        waveforms
            Name and waveform (N,) of each, from `asr.speech.audio.load`.

        Returns
        -------
        list
            What was heard of each, or what is wrong with it. The emissions are those of `hear`: to the bit in
            onnxruntime, elsewhere as far as sums in the network do not depend on the size of a batch.
        """
        features, found = dict[int, np.ndarray](), dict[int, Heard | AudioError]()
        for k, (name, waveform) in enumerate(waveforms):
            try:
                features[k] = self._features(waveform)
            except AudioError as error:
                found[k] = AudioError(f"{name}: {error}")
        short = {k: len(each) for k, each in features.items() if len(each) <= windows.WHOLE}
        emissions = {k: self._outputs(each) for k, each in features.items() if k not in short}
        for batch in windows.like_lengths(short):
            emissions |= zip(batch, self.model.emissions([features[k] for k in batch]), strict=True)
        for k, (name, waveform) in enumerate(waveforms):
            if k in emissions:
                found[k] = Heard(waveform, emissions[k], name, None)
        return [found[k] for k in range(len(waveforms))]

    def _features(self, waveform: np.ndarray) -> np.ndarray:
        """Return normalised features (T, F)."""
        if not np.issubdtype(waveform.dtype, np.floating):
            raise AudioError(f"the waveform is {waveform.dtype}, not float32: load it by asr.speech.audio.load")
        return self.model.normaliser(self._extractor(waveform))

    def _outputs(self, features: np.ndarray) -> np.ndarray:
        """Return the emissions (T', …) of features (T, F)."""
        model = self.model
        # Forward layers depend on everything before a frame, which a window would cut off. That is little beside what
        # backward layers see, unless these see hardly anything: then it is to be what a stream gives.
        view = model.config.model
        if isinstance(model, CTCModel) and view.get("bidirectional", True) and not view.get("chunk", 0):
            subsampling = round(model.frame_shift / FRAME_SHIFT)
            return windows.emissions(model.emissions, features, subsampling, self.progress)
        return model.emissions([features])[0]

    def _decode(self, emissions: np.ndarray) -> Iterator[tuple[Sequence[int], list[Hypothesis]]]:
        """Yield hypotheses, best first, and the frames at which the frames that they are of are cut into pieces."""
        model, decode = self.model, self.model.config.decode
        for batch in windows.batches(self._stretches(emissions), "decoding", self.progress):
            found = model.hypotheses([emissions[each[0] : each[-1]] for each in batch], self.beam_size, decode.nbest)
            yield from zip(batch, found, strict=True)

    def _stretches(self, emissions: np.ndarray) -> list[Sequence[int]]:
        """Return what is searched one by one, each as the frames at which it is cut into pieces.

        These are single pieces; or several, where a language model remembers what was said before. A second model over
        phones needs pieces for its choice: the best few of one search over everything differ in a few places, mostly
        near the end.
        """
        model, decode = self.model, self.model.config.decode
        if not isinstance(model, CTCModel):
            return [(0, len(emissions))]
        has_lm = decode.lm is not None or model.lm is not None
        if not has_lm or (decode.rescore_lm is not None and not model.finds_words):
            return list(itertools.pairwise(windows.cuts(emissions, model.frame_shift)))
        ends = [0, len(emissions)]
        if model.finds_words:
            ends = windows.cuts(emissions, model.frame_shift, windows.SILENCE, windows.SURE)
        return [
            [start + cut for cut in windows.cuts(emissions[start:end], model.frame_shift)]
            for start, end in itertools.pairwise(ends)
        ]

    def _place(self, hypothesis: Hypothesis, heard: Heard, cuts: Sequence[int]) -> list[Segment]:
        """Return the segments of a hypothesis of the frames from the first cut to the last, timed in the recording."""
        shift, placed = self.model.frame_shift, list[Segment]()
        parts = windows.split(hypothesis, [cut - cuts[0] for cut in cuts])
        for part, (start, end) in zip(parts, itertools.pairwise(cuts), strict=True):
            offset = round(start * shift, 3)
            last = len(heard.waveform) if end == len(heard.emissions) else round(end * shift * audio.SAMPLE_RATE)
            piece = heard.waveform[round(offset * audio.SAMPLE_RATE) : last]
            placed += [
                replace(phone, start=round(phone.start + offset, 3), end=round(phone.end + offset, 3))
                for phone in self.model.segments(part, heard.emissions[start:end], piece)
            ]
        return placed

    def _is_speech(self, hypothesis: Hypothesis) -> bool:
        """Return whether something was said: a network trained with CTC is sure of a phone somewhere.

        In noise alone it is not, but each frame has a likeliest class, and a language model makes words of them. A
        network that is hardly trained is not sure of speech, either, as its calibration tells.
        """
        if not isinstance(self.model, CTCModel) or not hypothesis.tokens:
            return True
        if any(each >= SURE for each in hypothesis.confidences):
            return True
        return hypothesis.words is None and max(self.model.calibration.posteriors, default=0.0) < MOSTLY

    def _written(self, hypothesis: Hypothesis) -> Hypothesis:
        """Return a hypothesis with its unknown words as `decode.unknown` says."""
        if hypothesis.words is None or self.model.config.decode.unknown == "phones":
            return hypothesis
        from asr.lm.word_search import spell_unknown

        return spell_unknown(hypothesis, self.model.tokens)

    def _word_confidence(self, confidences: Sequence[float]) -> float:
        """Return the confidence of a word from those of its phones."""
        return float(self.word_calibration.confidence(np.array(recognised_confidence(confidences))))

    def _continue(self, nbest: list[NBest], hypotheses: Sequence[Hypothesis]) -> list[NBest]:
        """Append each hypothesis of the next piece to each sequence so far, and keep the likeliest different ones."""
        both = (
            NBest(
                labels + tuple(self.model.tokens[token] for token in each.tokens),
                score + each.score,
                None if each.words is None else (*(words or ()), *each.words),
            )
            for labels, score, words in nbest
            for each in hypotheses
        )
        different: dict[tuple[object, ...], NBest] = {}
        for each in sorted(both, key=operator.attrgetter("score"), reverse=True):
            different.setdefault((each.labels, each.words), each)
        return list(itertools.islice(different.values(), self.model.config.decode.nbest))
