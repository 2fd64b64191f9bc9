"""Forced alignment: the times of words or phones that are known to be said in a recording.

The text is split into words, each with the ways in which it is read aloud (`asr.speech.text`). A dictionary gives the
pronunciations of each (`asr.speech.pronounce`), and the model places the phones of those that fit best
(`AcousticModel.align`).
"""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from asr.core.errors import AsrError, ConfigError
from asr.models.base import AcousticModel, Placement, Spellings, StateAligner
from asr.models.calibration import aligned_confidence, recognised_confidence
from asr.models.ctc import CTCModel
from asr.recognition.alignment import Alignment, Variant
from asr.recognition.annotation import group_phones
from asr.recognition.recogniser import Heard, Recogniser
from asr.speech import audio, lexicons
from asr.speech.phones import is_own
from asr.speech.pronounce import Own, Phones, UnspeakableError, Way, speakable, ways
from asr.speech.segments import Segment
from asr.speech.sentences import sentences_of
from asr.speech.syllables import syllable_lengths
from asr.speech.text import Word, normalise, split_words

# In texts that fit, one word of 50 to 70 is not heard, three in a row at most, and no speech is left over; in texts of
# other recordings most words are not heard (LibriSpeech's speakers 4088, 4406, 5652, 8226; speechocean762's learners).
UNHEARD = 0.05  # geometric mean of the confidences of a word's phones, below which the word is not heard
RUN = 4  # words in a row that are unheard where the recording has another text
ANOTHER, LEAST = 0.12, 0.01  # geometric mean of the words' confidences, each at least so, below which it has another
LACKING = 0.3  # seconds of speech that the text may lack


class KnownText(NamedTuple):
    """What is said in a recording, checked and pronounced.

    Attributes
    ----------
    words
        Of the text; none where phones are given.
    spoken
        The ways in which they may be said.
    spellings
        The same as phones, or the phones that are given.
    sentences
        The sentences of the text, and how many words each has.
    """

    words: list[Word]
    spoken: "SpokenText"
    spellings: Spellings
    sentences: list[tuple[str, int]]


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
        Words need a model of ARPAbet phones (``arpabet39``), or one with labels of its own. The lexicon that a model
        was trained with comes before the dictionary. Phones may be of any phone set.
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
        Pronunciations in place of those of the dictionary and of the model's lexicon: a file that `read_lexicon` reads,
        or what it returned.
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
    >>> aligned = align(recogniser, np.zeros(16000, np.float32), words="Green, tree!", sample_rate=16000)
    >>> [word.label for word in aligned.words], " ".join(phone.label for phone in aligned.phones)
    (['Green', 'tree'], 'G R IY N T R IY')
    """
    model = recogniser.model
    own = lexicon if isinstance(lexicon, Mapping) or lexicon is None else read_lexicon(lexicon, model)
    text = known_text(model, words, phones, g2p, own)
    return place(model, text, recogniser.hear(recording, sample_rate, channel), with_goodness)


def known_text(
    model: AcousticModel,
    words: str | Sequence[str] | None = None,
    phones: str | Sequence[str] | None = None,
    g2p: bool = True,
    own: Own | None = None,
) -> KnownText:
    """Check and pronounce a text; parameters and errors are those of `align`."""
    if (words is None) == (phones is None):
        raise AsrError("give either the words or the phones that are said")
    said = _split(model, words) if words is not None else []
    spoken = pronounce_words(model, said, g2p, own or {})
    spellings = Spellings.of_phones(_phones(phones))
    if words is not None:
        spellings = Spellings([[way.phones for way in several] for several in spoken.ways])
    _check(model, spellings.first()[0])
    whole = words if isinstance(words, str) else " ".join(words or ())
    return KnownText(said, spoken, spellings, sentences_of(whole, len(said)) if said else [])


def place(
    model: AcousticModel, text: KnownText, heard: Heard, with_goodness: bool = False, start: float = 0.0
) -> Alignment:
    """Find where a text is said in what a recogniser has heard; parameters and errors are those of `describe`."""
    if with_goodness and not isinstance(model, CTCModel):
        raise AsrError("pronunciation is rated from CTC posteriors: choose a model that was trained with CTC")
    found = model.align(text.spellings, heard.emissions, heard.waveform, heard.name)
    return describe(model, text, heard, found, with_goodness, start)


def describe(
    model: AcousticModel,
    text: KnownText,
    heard: Heard,
    found: Placement,
    with_goodness: bool = False,
    start: float = 0.0,
) -> Alignment:
    """Return the alignment of a text that a model has placed in what a recogniser has heard.

    The boundaries are refined on the way (`AcousticModel.refine`). `start` is added to the times in `Alignment.misfit`:
    that at which a part of a recording begins.
    """
    found = model.refine(found, heard.waveform)
    labels, lengths, states = [phone.label for phone in found.phones], found.word_lengths, list[Segment]()
    if isinstance(model, StateAligner):
        states = model.align_states(labels, heard.emissions, lengths, heard.name)
    rated = model.goodness(labels, found.emissions) if isinstance(model, CTCModel) and with_goodness else None
    words = group_phones(found.phones, [word.label for word in text.words], lengths, aligned_confidence)
    return Alignment(
        phones=found.phones,
        duration=heard.duration,
        words=words,
        score=found.score / len(heard.emissions),
        goodness=None if rated is None else rated.round(3).tolist(),
        states=states,
        unspoken=[(round(start, 3), round(end, 3)) for start, end in found.unspoken.tolist()],
        misfit=_misfit(found, words, start),
        variants=_variants(text.words, text.spoken.ways, labels, lengths),
        unsaid=[number for number, length in enumerate(lengths) if length == 0],
        sentences=_sentences(words, text.sentences),
        syllables=_syllables(found.phones, lengths),
        guessed=text.spoken.guessed,
        phone_set=model.config.data.labels,
        sound=heard.sound,
    )


def _split(model: AcousticModel, text: str | Sequence[str]) -> list[Word]:
    """Return the words of a text with their readings, which labels of one's own have none of."""
    if not is_own(model.config.data.labels):
        return split_words(text)
    from asr.recognition import own_words

    return own_words.split(model, text)


def _sentences(words: Sequence[Segment], sentences: Sequence[tuple[str, int]]) -> list[Segment]:
    """Return each sentence from its first word that is said to its last one."""
    found, rest = list[Segment](), iter(words)
    for label, count in sentences:
        every = list(itertools.islice(rest, count))
        said = [word for word in every if word.end > word.start] or every
        sure = statistics.mean(word.confidence or 0.0 for word in every)
        found.append(Segment(label, said[0].start, said[-1].end, round(sure, 3)))
    return found


def _syllables(phones: Sequence[Segment], word_lengths: Sequence[int]) -> list[Segment]:
    """Return the syllables of words, with blanks between their phones."""
    lengths, rest = list[int](), iter(phone.label for phone in phones)
    for length in word_lengths:
        lengths += syllable_lengths(list(itertools.islice(rest, length))) if length else []
    ends = itertools.accumulate(lengths)
    labels = [
        " ".join(phone.label for phone in phones[end - length : end]) for end, length in zip(ends, lengths, strict=True)
    ]
    return group_phones(phones, labels, lengths, min)


def pronounce_words(model: AcousticModel, words: Sequence[Word], g2p: bool, own: Own) -> SpokenText:
    """Return the ways in which words may be said: by `own`, the model's lexicon or the dictionary, or guessed.

    What has learnt from the model's lexicon guesses, or without one the shipped joint n-gram. Without `g2p`, readings
    with words that neither has are left out where there are others.

    Raises
    ------
    AsrError
        The model's labels are not ARPAbet's, or words cannot be pronounced; all of them are named.
    """
    if is_own(model.config.data.labels):
        from asr.recognition import own_words  # few models have labels of their own

        return SpokenText(*own_words.pronounce(model, words, g2p, own))
    if words and "AH" not in model.tokens:
        raise AsrError("words can be aligned by a model of ARPAbet phones only: choose one, or give the phones")
    learnt = None
    if model.config.data.lexicon is not None:
        from asr.recognition import own_words

        own, learnt = {**own_words.trained_with(model), **own}, own_words.graphones(model)
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

        guess = guesser(parts, learnt)
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


def _line_of(path: str | Path, word: str, phones: Phones) -> int:
    """Return the number of the first line with a word and phones; the file has been read before."""
    entries = lexicons.entries(path)
    return next((number for number, each, spelt, _ in entries if (each, spelt) == (word, phones)), 0)


def _variants(
    words: Sequence[Word], spelt: Sequence[Sequence[Way]], labels: Sequence[str], lengths: Sequence[int]
) -> list[Variant]:
    """Return what was chosen for each word: the way whose phones the path has; nothing where the word is not said."""
    found, phones = list[Variant](), iter(labels)
    for word, several, length in zip(words, spelt, lengths, strict=False):
        if length == 0:
            found.append(Variant(None, None))
            continue
        said = tuple(itertools.islice(phones, length))
        reading = next(way.reading for way in several if way.phones == said)
        is_plain = {way.reading for way in several} == {word.label}
        found.append(Variant(None if is_plain else reading, " ".join(said) if len(several) > 1 else None))
    return found


def word_confidences(found: Placement) -> list[float]:
    """Return how well each word is heard; phones without words are judged together."""
    confidences = iter(phone.confidence or 0.0 for phone in found.phones)
    parts = [list(itertools.islice(confidences, length)) for length in found.word_lengths or [len(found.phones)]]
    return [recognised_confidence(part) if part else 0.0 for part in parts]


def is_another_text(confidences: Sequence[float]) -> bool:
    """Tell from the words' confidences whether the recording has another text.

    >>> is_another_text([0.0, 0.9, 0.8]), is_another_text([0.0, 0.04, 0.8])
    (False, True)
    """
    runs = itertools.groupby(each < UNHEARD for each in confidences)
    longest = max((len(list(run)) for is_unheard, run in runs if is_unheard), default=0)
    limit = ANOTHER if len(confidences) > 1 else UNHEARD  # of one word, or of phones without words
    return longest >= RUN or statistics.geometric_mean(max(each, LEAST) for each in confidences) < limit


def _misfit(found: Placement, words: Sequence[Segment], start: float) -> str | None:
    """Say which words are not heard, and how much speech the text lacks."""
    confidences = word_confidences(found)
    unheard = [each < UNHEARD for each in confidences]
    lacking = float((found.unspoken[:, 1] - found.unspoken[:, 0]).sum())
    faults = []
    if is_another_text(confidences) and words:
        first = words[unheard.index(True) if any(unheard) else confidences.index(min(confidences))]
        where = f"{first.label!r} at {first.start + start:.2f} s"
        count = f"{sum(unheard)} of {len(words)} words are not heard, the first {where}"
        faults.append(count if any(unheard) else f"the words are hardly heard, least {where}")
    elif is_another_text(confidences):
        faults.append("the phones are not heard")
    if lacking >= LACKING:
        where = f"the first at {found.unspoken[0, 0] + start:.2f} s"
        faults.append(f"{lacking:.1f} s of speech, {where}, are not in the text")
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
