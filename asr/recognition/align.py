"""Forced alignment: the times of words or phones that are known to be said in a recording.

The text is split into words, each with the ways in which it is read aloud (`asr.speech.text`). A dictionary gives the
pronunciations of each (`asr.speech.pronounce`), and the model places the phones of those that fit best
(`AcousticModel.align`).
"""

import itertools
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from asr.core.errors import AsrError, ConfigError
from asr.models.base import AcousticModel, Placement, Spellings, StateAligner
from asr.models.calibration import aligned_confidence, recognised_confidence
from asr.models.ctc import CTCModel
from asr.recognition.annotation import Annotation
from asr.recognition.recogniser import Recogniser, group_phones
from asr.speech import audio
from asr.speech.pronounce import Own, Phones, UnspeakableError, Way, speakable, ways
from asr.speech.segments import Segment
from asr.speech.text import Word, normalise, split_words

# In texts that fit, one word of 50 to 70 is not heard, three in a row at most, and no speech is left over; in texts of
# other recordings most words are not heard (LibriSpeech's speakers 4088, 4406, 5652, 8226; speechocean762's learners).
UNHEARD = 0.05  # geometric mean of the confidences of a word's phones, below which the word is not heard
RUN, SHARE = 4, 1 / 3  # words in a row, and the share of all words, that may be unheard
LACKING = 0.3  # seconds of speech that the text may lack


class Variant(NamedTuple):
    """What was chosen for a word.

    Attributes
    ----------
    spoken
        The words that were said for it; None where it is read as it is written and in no other way.
    pronunciation
        Its phones, with blanks between; None where only one pronunciation was tried.
    """

    spoken: str | None
    pronunciation: str | None


class SpokenText(NamedTuple):
    """The ways in which the words of a text may be said.

    Attributes
    ----------
    ways
        Of each word.
    guessed
        The words whose sound was guessed, each once.
    """

    ways: list[list[Way]]
    guessed: list[str]


@dataclass(frozen=True, kw_only=True)
class Alignment(Annotation):
    """A recording with the times of what is said in it.

    Attributes
    ----------
    words
        As in `Annotation`; empty where only phones were given. The confidence of a word is the product of those of its
        phones (`asr.models.calibration.aligned_confidence`).
    score
        Natural log probability per output frame of the likeliest path that spells the phones. It compares texts of one
        recording, or finds the recordings of a collection whose text is wrong.
    goodness
        Goodness of pronunciation of each phone; None unless it was asked for.
    states
        The states of an HMM, those of silences too, on the path that the phones are on; empty for other models.
    unspoken
        Starts and ends of speech that the text lacks; models that were not trained with CTC find none.
    misfit
        Where text and recording differ, in a line; None where the text fits.
    variants
        What was chosen for each word, in order, where there was a choice; empty where only phones were given.
    guessed
        The words whose sound was guessed from their letters, each once.
    """

    score: float
    goodness: list[float] | None = None
    states: list[Segment] = field(default_factory=list)
    unspoken: list[tuple[float, float]] = field(default_factory=list)
    misfit: str | None = None
    variants: list["Variant"] = field(default_factory=list)
    guessed: list[str] = field(default_factory=list)

    def tiers(self) -> dict[str, list[Segment]]:
        """Return the rows of segments by name, the longest units first, without empty ones."""
        return {name: tier for name, tier in (super().tiers() | {"states": self.states}).items() if tier}

    def to_json(self, path: str | None = None) -> str:
        """Return everything as one line of JSON without a line break; `path` names the recording in it."""
        rows = [asdict(phone) for phone in self.phones]
        if self.goodness is not None:
            rows = [row | {"goodness": value} for row, value in zip(rows, self.goodness, strict=True)]
        values: dict[str, Any] = {"duration": self.duration, "score": round(self.score, 4)}
        words = [asdict(word) for word in self.words or ()]
        for word, variant in zip(words, self.variants, strict=False):
            word |= {key: value for key, value in variant._asdict().items() if value is not None}
        values |= {"words": words, "phones": rows}
        if self.states:
            values["states"] = [{"label": each.label, "start": each.start, "end": each.end} for each in self.states]
        return json.dumps(({} if path is None else {"path": path}) | values, ensure_ascii=False)


def align(
    recogniser: Recogniser,
    recording: audio.Recording,
    words: str | Sequence[str] | None = None,
    phones: str | Sequence[str] | None = None,
    g2p: bool = True,
    with_goodness: bool = False,
    *,
    lexicon: str | Path | Own | None = None,
    sample_rate: float | None = None,
    channel: int | None = None,
) -> Alignment:
    """Find the times of known words or phones.

    Parameters
    ----------
    recogniser
        Words need a model of ARPAbet phones (``arpabet39``). Phones may be of any phone set.
    recording
        A path, the bytes of a file, a file object or samples, as for `asr.Recogniser.transcribe`.
    words, phones
        What is said, as a list or a text (`asr.speech.text.split_words`). Give one of the two. Phones are labels of the
        model; those of a TIMIT model include silences and closures, which must be given where they occur (``h#`` at
        both ends).
    g2p
        Guess how words sound that the dictionary lacks (`asr.lm.graphones`); without it they are an error.
    with_goodness
        Rate the pronunciation of each phone too (`asr.ctc.goodness.goodness`).
    lexicon
        Pronunciations in place of the dictionary's: a file that `read_lexicon` reads, or what it returned.
    sample_rate
        Of samples, in Hz: they need it. A file states its own.
    channel
        Which channel to use, counted from 0; None uses their mean.

    Raises
    ------
    AsrError
        Neither or both of words and phones are given, or they are empty; a phone is not one of the model's; words are
        given for a model without ARPAbet; words cannot be pronounced; goodness is asked of a model without CTC.
    ConfigError
        The lexicon cannot be read.
    AudioError
        The recording is missing, damaged or too short; it has no such channel; or its rate is not known, or not the one
        given.
    InfeasibleError
        The recording has too few frames for the phones.

    Examples
    --------
    >>> import numpy as np
    >>> from asr import Recogniser
    >>> recogniser = Recogniser.from_pretrained("en-us-phones")
    >>> aligned = align(recogniser, np.zeros(16000, np.float32), words="Hello, world!", sample_rate=16000)
    >>> [word.label for word in aligned.words], " ".join(phone.label for phone in aligned.phones)
    (['Hello', 'world'], 'HH AH L OW W ER L D')
    """
    options: dict[str, Any] = {"lexicon": lexicon, "sample_rate": sample_rate, "channel": channel}
    return place(recogniser, recording, words, phones, g2p, with_goodness, **options)[0]


def place(
    recogniser: Recogniser,
    recording: audio.Recording,
    words: str | Sequence[str] | None = None,
    phones: str | Sequence[str] | None = None,
    g2p: bool = True,
    with_goodness: bool = False,
    *,
    lexicon: str | Path | Own | None = None,
    sample_rate: float | None = None,
    channel: int | None = None,
) -> tuple[Alignment, Placement]:
    """Return what `align` does, and what the model said; parameters and errors are those of `align`."""
    if (words is None) == (phones is None):
        raise AsrError("give either the words or the phones that are said")
    model = recogniser.model
    if with_goodness and not isinstance(model, CTCModel):
        raise AsrError("pronunciation is rated from CTC posteriors: choose a model that was trained with CTC")
    said = split_words(words) if words is not None else []
    own = lexicon if isinstance(lexicon, Mapping) or lexicon is None else read_lexicon(lexicon, model)
    spelt = pronounce_words(model, said, g2p, own or {})
    text = Spellings.of_phones(_phones(phones))
    if words is not None:
        text = Spellings([[way.phones for way in several] for several in spelt.ways])
    _check(model, text.first()[0])
    heard = recogniser.hear(recording, sample_rate, channel)
    found = model.align(text, heard.emissions, heard.waveform, heard.name)
    labels, states = [phone.label for phone in found.phones], []
    if isinstance(model, StateAligner):
        states = model.align_states(labels, heard.emissions, found.word_lengths, heard.name)
    rated = model.goodness(labels, found.emissions) if isinstance(model, CTCModel) and with_goodness else None
    spoken = group_phones(found.phones, [word.label for word in said], found.word_lengths, aligned_confidence)
    alignment = Alignment(
        phones=found.phones,
        duration=heard.duration,
        words=spoken,
        score=found.score / len(heard.emissions),
        goodness=None if rated is None else rated.round(3).tolist(),
        states=states,
        unspoken=[(round(start, 3), round(end, 3)) for start, end in found.unspoken.tolist()],
        misfit=_misfit(found, spoken),
        variants=_variants(said, spelt.ways, labels, found.word_lengths),
        guessed=spelt.guessed,
        phone_set=model.config.data.labels,
        sound=heard.sound,
    )
    return alignment, found


def pronounce_words(model: AcousticModel, words: Sequence[Word], g2p: bool, own: Own) -> SpokenText:
    """Return the ways in which words may be said: by `own`, by the dictionary, or with `g2p` guessed.

    Without `g2p`, readings with words that neither has are left out where there are others.

    Raises
    ------
    AsrError
        The model's labels are not ARPAbet's, or words cannot be pronounced; all of them are named.
    """
    if words and "AH" not in model.tokens:
        raise AsrError("words can be aligned by a model of ARPAbet phones only: choose one, or give the phones")
    silent, unknown, readings, parts = dict[str, list[str]](), dict[str, None](), dict[Word, list[str]](), list[str]()
    for word in dict.fromkeys(words):
        try:
            found = speakable((word.label,) if word.label.lower() in own else word.readings, own)
        except UnspeakableError as error:
            silent.setdefault(error.reason, []).append(word.label)
            continue
        sure = [reading for reading, missing in found.items() if not missing]
        if len(sure) < len(found) and (g2p or not sure):
            unknown[word.label] = None
        readings[word] = list(found) if g2p else sure
        parts += itertools.chain.from_iterable(found.values())
    _refuse(silent, [] if g2p else [*unknown])
    guess = None
    if parts and g2p:  # most texts need no model
        from asr.lm.graphones import guesser

        guess = guesser(parts)
    spelt = {word: ways(several, guess, own) for word, several in readings.items()}
    for word, several in spelt.items():
        strange = next((label for way in several for label in way.phones if label not in model.tokens[1:]), None)
        if strange is not None:
            raise AsrError(f"the word {word.label!r} has the phone {strange!r}, which the model does not know")
    return SpokenText([spelt[word] for word in words], [*unknown])


def _refuse(silent: Mapping[str, Sequence[str]], unknown: Sequence[str]) -> None:
    """Raise AsrError that names all words without a pronunciation, by the reason, and those to be guessed."""
    faults = [
        f"{'the word' if len(each) == 1 else 'words'} {_quoted(each)} {'has' if len(each) == 1 else 'have'} no "
        f"pronunciation: {reason}"
        for reason, each in silent.items()
    ]
    if unknown:
        faults.append(
            f"not in the dictionary: {_quoted(unknown)}: correct the spelling, give the sound (--lexicon), or have it "
            "guessed (--g2p)"
        )
    if faults:
        raise AsrError("; ".join(faults))


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(map(repr, words))


def read_lexicon(path: str | Path, model: AcousticModel) -> dict[str, list[Phones]]:
    """Read a file with a word and its phones on each line; a word may have several lines (`asr.lm.lexicon`).

    Words are written in any case, and ARPAbet's vowels with or without digits for stress.

    Returns
    -------
    dict
        The pronunciations of each word in small letters.

    Raises
    ------
    ConfigError
        The file cannot be read, a line has no phones, or one that the model does not know.
    """
    from asr.lm.lexicon import Lexicon

    found, known = dict[str, list[Phones]](), {*model.tokens[1:]}
    for word, several in Lexicon.read(path).words.items():
        for spelt in several:
            phones = tuple(phone if phone in known else phone.rstrip("012") for phone in spelt)
            strange = next((old for old, new in zip(spelt, phones, strict=True) if new not in known), None)
            if strange is not None:
                raise ConfigError(
                    f"{path}, line {_line_of(path, word, spelt)}: {word}: the model does not know the phone "
                    f"{strange!r}: it knows {' '.join(model.tokens[1:])}"
                )
            found.setdefault(normalise(word).lower(), []).append(phones)
    return found


def _line_of(path: str | Path, word: str, phones: Sequence[str]) -> int:
    """Return the number of the first line with a word and phones; the file has been read before."""
    lines = unicodedata.normalize("NFC", Path(path).read_text(encoding="utf-8-sig")).split("\n")
    return next((number for number, line in enumerate(lines, 1) if line.split() == [word, *phones]), 0)


def _variants(
    words: Sequence[Word], spelt: Sequence[Sequence[Way]], labels: Sequence[str], lengths: Sequence[int]
) -> list[Variant]:
    """Return what was chosen for each word: the way whose phones the path has."""
    found, phones = list[Variant](), iter(labels)
    for word, several, length in zip(words, spelt, lengths, strict=False):
        said = tuple(itertools.islice(phones, length))
        reading = next(way.reading for way in several if way.phones == said)
        is_plain = {way.reading for way in several} == {word.label}
        found.append(Variant(None if is_plain else reading, " ".join(said) if len(several) > 1 else None))
    return found


def _misfit(found: Placement, words: Sequence[Segment]) -> str | None:
    """Say which words are not heard, and how much speech the text lacks; phones without words are judged together."""
    confidences = iter(phone.confidence or 0.0 for phone in found.phones)
    parts = [list(itertools.islice(confidences, length)) for length in found.word_lengths or [len(found.phones)]]
    unheard = [recognised_confidence(part) < UNHEARD for part in parts]
    longest = max((len(list(run)) for is_unheard, run in itertools.groupby(unheard) if is_unheard), default=0)
    lacking = float((found.unspoken[:, 1] - found.unspoken[:, 0]).sum())
    faults = []
    if longest >= RUN or sum(unheard) > SHARE * len(unheard):
        first = words[unheard.index(True)] if words else None
        faults.append(
            f"{sum(unheard)} of {len(words)} words are not heard, the first {first.label!r} at {first.start:.2f} s"
            if first is not None
            else "the phones are not heard"
        )
    if lacking >= LACKING:
        faults.append(f"{lacking:.1f} s of speech, the first at {found.unspoken[0, 0]:.2f} s, are not in the text")
    return f"the text does not fit the recording: {'; '.join(faults)}" if faults else None


def _phones(text: str | Sequence[str] | None) -> list[str]:
    return text.split() if isinstance(text, str) else list(text or ())


def _check(model: AcousticModel, labels: Sequence[str]) -> None:
    """Raise AsrError unless there are labels and all of them are the model's."""
    if not labels:
        raise AsrError("the text is empty: give the words or phones that are said")
    for place, label in enumerate(labels, start=1):
        if label not in model.tokens[1:]:
            raise AsrError(
                f"phone {label!r} at position {place} of {len(labels)} is not one of the model's: "
                f"it knows {' '.join(model.tokens[1:])}"
            )
