"""Known words or phones to times: where each is in a recording.

CTC alone gives the posteriors of all paths that spell the phones; `asr.models.times` makes starts and ends of them.
Words come from a dictionary (`asr.speech.pronounce`), each by its first pronunciation.
"""

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from asr.core.errors import AsrError, AudioError
from asr.ctc.goodness import goodness
from asr.models.base import AcousticModel, StateAligner
from asr.models.ctc import CTCModel
from asr.recognition.recogniser import Recogniser, segment_words
from asr.speech import audio, label_files
from asr.speech.pronounce import PUNCTUATION, is_guessed, pronounce
from asr.speech.segments import Segment

FORMATS = {"textgrid": ".TextGrid", "ctm": ".ctm", "json": ".json", "audacity": ".labels.txt"}


@dataclass(frozen=True)
class Alignment:
    """A recording with the times of what is said in it.

    Attributes
    ----------
    words
        Each from the start of its first phone to the end of its last. Its confidence is the product of its
        phones' (`asr.models.calibration.word_confidence`). Empty where phones alone were given.
    phones
        In order; they abut but for pauses.
    duration
        Of the recording, in seconds.
    score
        Natural log probability of the likeliest path that spells the phones, per output frame: for comparing texts of
        one recording, or finding the recordings of a collection whose text is wrong.
    goodness
        Of pronunciation, of each phone, where it was asked for.
    states
        Of an HMM, on the path that the phones are on, silences' too; empty for other models.
    """

    words: list[Segment]
    phones: list[Segment]
    duration: float
    score: float
    goodness: list[float] | None = None
    states: list[Segment] = field(default_factory=list)


def align(
    recogniser: Recogniser,
    recording: str | Path | np.ndarray,
    words: str | Sequence[str] | None = None,
    phones: str | Sequence[str] | None = None,
    g2p: bool = False,
    with_goodness: bool = False,
) -> Alignment:
    """Find the times of known words or phones.

    Parameters
    ----------
    recogniser
        With a model of ARPAbet phones (``arpabet39``) for words; of any phone set for phones.
    recording
        A path, or samples (N,) or (N, channels) at 16 kHz.
    words, phones
        One of them: what is said, as a list or separated by blanks. Phones are labels of the model; those of a TIMIT
        model include silences and closures, which must be given where they are said (``h#`` at both ends).
    g2p
        Pronounce words that the dictionary lacks by letter-to-sound rules.
    with_goodness
        Rate the pronunciation of each phone too (`asr.ctc.goodness.goodness`).

    Raises
    ------
    AsrError
        Neither or both of words and phones, or no label in them; a label is not the model's; words for a model that
        knows no ARPAbet; a word is not in the dictionary.
    AudioError
        The recording is missing, damaged or too short.
    InfeasibleError
        The recording has too few frames for the phones.

    Examples
    --------
    >>> from asr import Recogniser
    >>> aligned = align(Recogniser.from_pretrained("en-us-phones"), np.zeros(16000, np.float32), words="Hello, world!")
    >>> [word.label for word in aligned.words], " ".join(phone.label for phone in aligned.phones)
    (['Hello', 'world'], 'HH AH L OW W ER L D')
    """
    model = recogniser.model
    if (words is None) == (phones is None):
        raise AsrError("give either the words or the phones that are said")
    spoken = words_of(words) if words is not None else _split(phones or "")
    if not spoken:
        raise AsrError("the text is empty: give the words or phones that are said")
    spelled = [[label] for label in spoken] if words is None else pronunciations(model, spoken, g2p)
    labels = list(itertools.chain.from_iterable(spelled))
    _check(model, labels)
    name = "the recording" if isinstance(recording, np.ndarray) else str(recording)
    if isinstance(recording, np.ndarray):
        waveform = audio.from_array(recording, audio.SAMPLE_RATE)
    else:
        waveform = audio.load(recording)
    try:
        emissions = recogniser.emissions(waveform)
    except AudioError as error:  # too short; which recording is known here only
        raise AudioError(f"{name}: {error}") from error
    lengths = [len(word) for word in spelled] if words is not None else []
    found, score = model.align(labels, emissions, waveform, lengths, name)
    tier = [] if words is None else segment_words(found, spoken, list(map(len, spelled)))
    duration = round(len(waveform) / audio.SAMPLE_RATE, 3)
    rated = None
    if with_goodness:
        if not isinstance(model, CTCModel):
            raise AsrError("pronunciation is rated from CTC posteriors: choose a model that was trained with CTC")
        rated = goodness(emissions, np.array([model.tokens.index(label) for label in labels])).round(3).tolist()
    states = model.align_states(labels, emissions, lengths, name) if isinstance(model, StateAligner) else []
    return Alignment(tier, found, duration, score / len(emissions), rated, states)


def words_of(text: str | Sequence[str]) -> list[str]:
    """Split a text into words, without punctuation at their edges.

    >>> words_of("(Yes), said Tom O’Neil - ‘twas the well-known.")
    ['Yes', 'said', 'Tom', "O'Neil", "'twas", 'the', 'well-known']
    """
    plain = (part.replace("‘", "'").replace("’", "'").strip(PUNCTUATION) for part in _split(text))
    return [word for word in plain if any(character.isalnum() for character in word)]


def pronunciations(model: AcousticModel, words: Iterable[str], g2p: bool = False) -> list[list[str]]:
    """Return the phones of each word, by the dictionary or, with `g2p`, by rules where the dictionary lacks it.

    Raises
    ------
    AsrError
        The model's labels are not ARPAbet's; a word is not in the dictionary.
    """
    if "AH" not in model.tokens:
        raise AsrError("words can be aligned by a model of ARPAbet phones only: choose one, or give the phones")
    words = list(words)
    unknown = [] if g2p else [word for word in dict.fromkeys(words) if is_guessed(word)]
    if unknown:
        listed = ", ".join(map(repr, unknown[:5])) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        raise AsrError(f"not in the dictionary: {listed}: correct the spelling, or let rules pronounce it (--g2p)")
    return [pronounce(word) for word in words]


def render(aligned: Alignment, form: str, name: str) -> str:
    """Write an aligned recording as text.

    Parameters
    ----------
    aligned
        From `align`.
    form
        ``textgrid`` (tiers of words and phones), ``ctm`` or ``audacity`` (the phones), or ``json`` (everything).
    name
        Of the recording, which CTM and JSON carry.

    Raises
    ------
    AsrError
        There is no such format.
    """
    if form == "textgrid":
        tiers = {"words": aligned.words, "phones": aligned.phones, "states": aligned.states}
        return label_files.to_textgrid({name: tier for name, tier in tiers.items() if tier}, aligned.duration)
    if form == "ctm":
        return label_files.to_ctm(name, aligned.phones)
    if form == "audacity":
        return label_files.to_audacity(aligned.phones)
    if form != "json":
        raise AsrError(f"no format is called {form!r}: choose from {', '.join(FORMATS)}")
    rows = [asdict(phone) for phone in aligned.phones]
    if aligned.goodness is not None:
        rows = [row | {"goodness": value} for row, value in zip(rows, aligned.goodness, strict=True)]
    values = {"path": name, "duration": aligned.duration, "score": round(aligned.score, 4)}
    values |= {"words": [asdict(word) for word in aligned.words], "phones": rows}
    if aligned.states:
        values["states"] = [{"label": each.label, "start": each.start, "end": each.end} for each in aligned.states]
    return json.dumps(values, ensure_ascii=False)


def _split(text: str | Sequence[str]) -> list[str]:
    return text.split() if isinstance(text, str) else list(text)


def _check(model: AcousticModel, labels: Sequence[str]) -> None:
    for place, label in enumerate(labels, start=1):
        if label not in model.tokens[1:]:
            raise AsrError(
                f"phone {label!r} at position {place} of {len(labels)} is not one of the model's: "
                f"it knows {' '.join(model.tokens[1:])}"
            )
