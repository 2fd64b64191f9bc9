"""How words sound to a model by the lexicon that it was trained with; with labels of its own, or in letters, too."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from asr.core.errors import AsrError
from asr.data import pronunciations
from asr.data.pronunciations import CMUDICT, LEARNT, NONE
from asr.lm.graphones import Graphones
from asr.models.base import AcousticModel
from asr.speech import characters, lexicons, phones
from asr.speech.ipa import Matcher
from asr.speech.pronounce import Own, Way
from asr.speech.text import Word
from asr.speech.transcription import bare_words


def split(model: AcousticModel, text: str | Sequence[str]) -> list[Word]:
    """Return the words of a text, which are read as they are written."""
    joined = text if isinstance(text, str) else " ".join(text)
    found = characters.words(joined) if phones.is_characters(model.config.data.labels) else bare_words(joined)
    return [Word(word, (word,)) for word in found]


def pronounce(model: AcousticModel, words: Sequence[Word], g2p: bool, own: Own) -> tuple[list[list[Way]], list[str]]:
    """Return the ways in which each word may be said in the model's labels, and the words that were guessed.

    Parameters
    ----------
    model
        With labels of its own.
    words
        From `split`.
    g2p
        Whether words are guessed that the lexicon lacks.
    own
        Pronunciations that come before those of the model's lexicon.

    Raises
    ------
    AsrError
        Words cannot be pronounced, or the lexicon has phones that the model does not know.
    """
    labels = [word.label for word in words]
    if phones.is_characters(model.config.data.labels):
        return [[Way(word, _known(model, word, spelt))] for word, spelt in _spelt(labels)], []
    found = {word: lexicons.look_up(word, own) for word in labels}
    guessed = list[str]()
    if not all(found.values()):
        lexicon, guess = _sources(model)
        found = {word: several or lexicons.look_up(word, lexicon) for word, several in found.items()}
        lacking = [word for word, several in found.items() if not several]
        said = (guess if g2p else pronunciations.unknown)(lacking) if lacking else {}
        faults = [reason for reason in said.values() if isinstance(reason, str)]
        if faults:
            raise AsrError("; ".join(faults))
        guessed = lacking
        found |= {word: [each] for word, each in said.items() if not isinstance(each, str)}
    matcher = Matcher(phones.table(model.config.data.labels).ipa)
    ways = {
        word: [Way(word, each) for each in dict.fromkeys(_in_labels(model, matcher, word, each) for each in several)]
        for word, several in found.items()
    }
    return [ways[word] for word in labels], guessed


def trained_with(model: AcousticModel) -> Own:
    """Return the lexicon that a model of ARPAbet phones was trained with; of several, the first that has a word counts.

    Raises
    ------
    ConfigError
        One cannot be read, or is not in ARPAbet.
    """
    return _joined(tuple(name for name in _values(model.config.data.lexicon) if name not in (None, NONE, CMUDICT)))


@functools.lru_cache(4)
def _joined(names: tuple[str, ...]) -> Own:
    found: dict[str, Sequence[lexicons.Phones]] = {}
    for name in reversed(names):
        found |= pronunciations.read_lexicon(name, own=False)
    return found


def graphones(model: AcousticModel) -> Graphones | None:
    """Return the joint n-gram in a model's folder that learnt from its lexicon, of several the first; None without one.

    Raises
    ------
    ModelError
        It is damaged.
    """
    return next((_loaded(name) for name in _values(model.config.data.g2p) if name and Path(name).is_dir()), None)


_loaded = functools.lru_cache(4)(Graphones.load)


def _values(setting: str | Mapping[str, str] | None) -> list[str | None]:
    """Return what a setting says, of each corpus if it differs."""
    return [*setting.values()] if isinstance(setting, Mapping) else [setting]


def _spelt(words: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    return list(zip(words, characters.spell(words), strict=True))


def _sources(model: AcousticModel) -> tuple[lexicons.Lexicon, pronunciations.Guess]:
    data = model.config.data
    names, guesses = {*_values(data.lexicon)}, {*_values(data.g2p)}
    if len(names) > 1 or len(guesses) > 1:
        raise AsrError("the model has lexicons of several corpora: say how the words sound with --lexicon")
    lexicon, g2p = names.pop() or NONE, guesses.pop()
    return pronunciations.sources(lexicon, g2p or pronunciations.DEFAULTS.get(lexicon, LEARNT), data)


def _in_labels(model: AcousticModel, matcher: Matcher, word: str, spelt: Sequence[str]) -> tuple[str, ...]:
    respelt = [(phone,) if phone in model.tokens[1:] else matcher.find(phone) for phone in spelt]
    strange = next((phone for phone, new in zip(spelt, respelt, strict=True) if new is None), None)
    if strange is not None:
        raise AsrError(f"the word {word!r} has the phone {strange!r}, which the model does not know")
    return tuple(label for several in respelt for label in several or ())


def _known(model: AcousticModel, word: str, spelt: tuple[str, ...]) -> tuple[str, ...]:
    strange = next((letter for letter in spelt if letter not in model.tokens[1:]), None)
    if strange is not None:
        raise AsrError(f"the word {word!r} has the letter {strange!r}, which the model does not know")
    return spelt
