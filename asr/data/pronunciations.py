"""Which labels the words of a corpus of one's own have: by a lexicon, and for other words by G2P.

`of_corpus` makes a `Transcription` of the settings ``data.units``, ``data.labels``, ``data.lexicon`` and ``data.g2p``.
G2P (grapheme to phoneme) is a joint n-gram that learns from the lexicon (`asr.lm.graphones`), or espeak-ng, whose IPA
is respelt in the phones of the lexicon where there is one.
"""

import functools
import hashlib
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from asr.core.config import DataConfig
from asr.core.errors import AsrError, ConfigError
from asr.lm.graphones import Graphones
from asr.speech import characters, espeak, lexicons, phones
from asr.speech.ipa import Matcher
from asr.speech.label_spellings import ARPABET, recognise
from asr.speech.lexicons import Lexicon, Phones
from asr.speech.pronounce import is_known, pronunciations
from asr.speech.transcription import Pronunciations, Transcription, in_english

AUTO, CMUDICT, NONE = "auto", "cmudict", "none"
NAMES = (CMUDICT, NONE)  # of data.lexicon that are no files
DEFAULTS = {NONE: NONE, CMUDICT: CMUDICT}  # of data.g2p by such a name
LEARNT, ESPEAK = "lexicon", "espeak:"  # of data.g2p
SHOWN = 20  # words in a message
ORDER = 5  # of the joint n-gram
COVERED, MOST_PHONES = 0.99, 4  # share of the pronunciations that a letter's most phones are enough for, and their most
Guess = Callable[[Sequence[str]], Pronunciations]

log = logging.getLogger(__name__)
_learnt: dict[str, Graphones] = {}


def has_own_labels(data: DataConfig) -> bool:
    """Tell whether labels are one's own, and not of a phone set of the library."""
    return data.labels == AUTO or phones.is_own(data.labels)


def setting(value: str | Mapping[str, str] | None, corpus: str) -> str | None:
    """Return what a setting says of a corpus.

    >>> setting({"mine": "de.dict"}, "mine"), setting("de.dict", "mine"), setting({}, "mine")
    ('de.dict', 'de.dict', None)
    """
    return value.get(corpus) if isinstance(value, Mapping) else value


def of_corpus(data: DataConfig, corpus: str) -> Transcription:
    """Return how texts of a corpus become labels.

    Raises
    ------
    ConfigError
        The lexicon cannot be read, has other phones than the labels need, or `data.g2p` cannot be.
    """
    own = has_own_labels(data)
    if data.units == "characters":
        if not own:
            fault = f"data.labels must be auto or a file of characters with data.units=characters, not {data.labels!r}"
            raise ConfigError(fault, "data.labels")
        return Transcription("characters", characters.words, _spelt, in_arpabet=False, of_characters=True)
    lexicon = setting(data.lexicon, corpus) or (NONE if own else CMUDICT)
    g2p = setting(data.g2p, corpus) or DEFAULTS.get(lexicon, LEARNT)
    if lexicon == CMUDICT and g2p == CMUDICT:
        in_ipa = Transcription("cmudict", pronounce=_english_in_ipa, in_arpabet=False)
        return in_ipa if own else Transcription()
    known, guess = sources(lexicon, g2p, data)
    key = f"{lexicons.key_of(known)} {LEARNT if _is_learnt(g2p) else g2p}"
    if known and own and not _is_learnt(g2p) and g2p != NONE and data.labels != AUTO:  # guesses are respelt by its IPA
        key += f" {hashlib.sha256(repr(phones.table(data.labels).ipa).encode()).hexdigest()[:16]}"
    return Transcription(key, pronounce=functools.partial(_looked_up, known, guess), in_arpabet=not own)


def alternatives(data: DataConfig, corpus: str) -> Callable[[str], Sequence[Phones]]:
    """Return what tells all pronunciations of a word that a corpus's lexicon has, in its labels; guesses are none.

    Raises
    ------
    ConfigError
        As for `of_corpus`.
    """
    own = has_own_labels(data)
    lexicon = setting(data.lexicon, corpus) or (NONE if own else CMUDICT)
    if data.units == "characters" or lexicon == NONE:
        return lambda word: ()
    if lexicon != CMUDICT:
        known = read_lexicon(lexicon, own)
        return lambda word: lexicons.look_up(word, known)
    if own:
        return lambda word: [_in_ipa(each) for each in (pronunciations(word) if is_known(word) else ())]
    return lambda word: pronunciations(word) if is_known(word) else ()


def sources(name: str, g2p: str, data: DataConfig) -> tuple[Lexicon, Guess]:
    """Return a lexicon, and what guesses the words that it lacks.

    Parameters
    ----------
    name, g2p
        As `data.lexicon` and `data.g2p` have them for a corpus.
    data
        Whose labels it is for. Those of a file say what the phones of the lexicon are in IPA.

    Raises
    ------
    ConfigError
        As `of_corpus`.
    """
    own = has_own_labels(data)
    known = read_lexicon(name, own)
    learnt, voice = _is_learnt(g2p), g2p.removeprefix(ESPEAK)
    if not (learnt or g2p in NAMES or voice != g2p):
        fault = f"data.g2p is {g2p!r}: write lexicon, none, or espeak: with a language, such as espeak:de"
        raise ConfigError(fault, "data.g2p")
    if learnt and not known:
        raise ConfigError("data.g2p=lexicon has nothing to learn from: name data.lexicon", "data.g2p")
    if learnt:
        return known, functools.partial(by_graphones, lexicon=known, folder=None if g2p == LEARNT else Path(g2p))
    if g2p == NONE:
        return known, unknown
    guess: Guess
    if g2p == CMUDICT:  # its rules for other words
        guess = _english_in_ipa if own else in_english
    else:
        if not espeak.phonemes("a", voice):  # a wrong name fails here
            fault = f"data.g2p={g2p}: espeak-ng has a voice and no rules for that language: name data.lexicon"
            raise ConfigError(fault, "data.g2p")
        if not own and not voice.lower().startswith("en"):
            fault = f"data.g2p={g2p} has no ARPAbet, which is for English: set data.labels=auto"
            raise ConfigError(fault, "data.g2p")
        guess = functools.partial(by_espeak, say=functools.partial(espeak.ipa if own else espeak.arpabet, voice=voice))
    if own and known:
        written = {} if data.labels == AUTO else phones.table(data.labels).ipa
        ipa = {phone: written.get(phone, phone) for phone in lexicons.phones_of(known)}
        guess = functools.partial(_respelt, guess, Matcher(ipa))
    return known, guess


def _is_learnt(g2p: str) -> bool:
    """Tell whether words are guessed by a joint n-gram: one to be trained, or that in a folder."""
    return g2p == LEARNT or Path(g2p).is_dir()


def read_lexicon(name: str, own: bool) -> Lexicon:
    """Return the lexicon that a setting names, in ARPAbet's 39 phones where labels are not one's own.

    Raises
    ------
    ConfigError
        It cannot be read, or is not in ARPAbet where it must be.
    """
    if name == NONE:
        return {}
    if name == CMUDICT:
        from asr.speech.pronounce import spelt_words

        several = spelt_words()
        return {word: [*map(_in_ipa, each)] for word, each in several.items()} if own else several
    found = lexicons.read(name)
    return found if own else _in_arpabet(name, found)


def _in_arpabet(name: str, lexicon: Lexicon) -> Lexicon:
    spelling = recognise((each for several in lexicon.values() for each in several), [ARPABET])
    if spelling is None or spelling.share < 1:
        known = {*phones.PhoneSet.load(ARPABET).labels}
        respell = spelling.respell if spelling else lambda label: [label]
        word, strange = next(
            (word, phone)
            for word, several in lexicon.items()
            for each in several
            for phone in each
            if not known.issuperset(respell(phone))
        )
        place = f"{name}, line {lexicons.line_of(name, word)}"
        fault = f"{place}: {word} has the phone {strange!r}, which is not in {ARPABET}"
        raise ConfigError(f"{fault}: mend it, or name your own phones with data.labels")
    return {
        word: [tuple(new for phone in each for new in spelling.respell(phone)) for each in several]
        for word, several in lexicon.items()
    }


def _in_ipa(spelt: Sequence[str]) -> Phones:
    return tuple(phones.ipa(phone, ARPABET) for phone in spelt)


def _english_in_ipa(words: Collection[str]) -> Pronunciations:
    found = in_english(words)
    return {word: each if isinstance(each, str) else _in_ipa(each) for word, each in found.items()}


def _spelt(words: Collection[str]) -> Pronunciations:
    return {word: tuple(word) for word in words}


def unknown(words: Sequence[str]) -> Pronunciations:
    """Return of each word that it has no pronunciation."""
    mend = "add it to the lexicon (data.lexicon), or have it guessed (data.g2p)"
    return {word: f"the word {word!r} has no pronunciation: {mend}" for word in words}


def _looked_up(lexicon: Lexicon, guess: Guess, words: Collection[str]) -> Pronunciations:
    """Return the first pronunciation in a lexicon of each word, and a guess of words that are not there."""
    known = {word: several[0] for word in words if (several := lexicons.look_up(word, lexicon))}
    lacking = sorted({*words} - known.keys())
    guessed = guess(lacking) if lacking else {}
    sure = [word for word in lacking if not isinstance(guessed[word], str)]
    if sure:
        more = ", …" if len(sure) > SHOWN else ""
        log.info("%d of %d words are guessed: %s%s", len(sure), len(words), ", ".join(sure[:SHOWN]), more)
    return {**known, **guessed}


def by_espeak(words: Sequence[str], say: Callable[[str], Sequence[str]]) -> Pronunciations:
    """Return what espeak-ng says of words, by one of the functions of `asr.speech.espeak`.

    >>> by_espeak(["Tschechen"], functools.partial(espeak.ipa, voice="de"))
    {'Tschechen': ('tʃ', 'ɛ', 'ç', 'ə', 'n')}
    """
    found = dict[str, Phones | str]()
    for word in words:
        try:
            found[word] = tuple(say(word)) or f"{word!r} has no sound"
        except AsrError as error:
            found[word] = str(error)
    return found


def _respelt(guess: Guess, matcher: Matcher, words: Sequence[str]) -> Pronunciations:
    """Return what is guessed of words in IPA, in the phones of a lexicon."""
    found = dict(guess(words))
    for word, said in found.items():
        if not isinstance(said, str):
            respelt = {phone: matcher.find(phone) for phone in said}
            strange = next((phone for phone in said if respelt[phone] is None), None)
            found[word] = tuple(new for phone in said for new in respelt[phone] or ())
            if strange is not None:
                fault = f"the guess of {word!r} has {strange!r}, which is no phone of the lexicon"
                found[word] = f"{fault}: add the word to the lexicon"
    return found


def by_graphones(words: Sequence[str], lexicon: Lexicon, folder: Path | None = None) -> Pronunciations:
    """Return what a joint n-gram, which was trained on a lexicon, says of words.

    Parameters
    ----------
    words
        Those that the lexicon lacks.
    lexicon
        What to learn from.
    folder
        The trained model; None trains it.
    """
    model = learn(lexicon) if folder is None else Graphones.load(folder)
    spelt = [lexicons.normal(word).strip("'") for word in words]
    found = dict[str, Phones | str]()
    for word, letters, best in zip(words, spelt, model.pronounce(spelt) if spelt else [], strict=True):
        strange = next((letter for letter in letters if letter not in model.letters), None)
        reason = f"the lexicon has no word with {strange!r}" if strange else "no letters that the lexicon knows"
        found[word] = best[0][0] if best and best[0][0] else f"the word {word!r} has no pronunciation: {reason}"
    return found


def learn(lexicon: Lexicon) -> Graphones:
    """Return a joint n-gram of a lexicon, the same one for the same lexicon.

    A script whose letters stand for many phones has more phones a letter, and one of few letters a lower order.
    """
    from asr.lm.graphone_training import MOST_BEYOND, train

    key = lexicons.key_of(lexicon)
    if key not in _learnt:
        words = {word: several for word, several in lexicon.items() if len(word.split()) == 1}
        longest = max(map(len, words), default=0)
        ratios = sorted(len(each) / len(word) for word, several in words.items() for each in several)
        most = math.ceil(ratios[int(COVERED * (len(ratios) - 1))]) if ratios else 0
        _learnt[key] = train(words, min(ORDER, longest + MOST_BEYOND), min(max(2, most), MOST_PHONES)).model
    return _learnt[key]
