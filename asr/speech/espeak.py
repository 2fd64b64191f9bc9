"""espeak-ng, a formant synthesiser, through ctypes: speech with the time of each phone, and letter-to-sound rules.

The library and its voices come inside the `espeakng-loader` wheel, so that no system package is needed. Phones are
named by espeak-ng's own ASCII mnemonics (``aI@``, ``t#``); the table ``espeak_en_us.tsv`` says what each one is in the
phone sets of `asr.speech.phones`.

Source: espeak-ng's public header ``speak_lib.h``, revision 12.
"""

import atexit
import csv
import ctypes
import functools
import os
import re
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import espeakng_loader
import numpy as np

from asr.core.errors import AsrError

_SYNCHRONOUS = 2
_PHONEME_EVENTS = 0x0001
_DONT_EXIT = 0x8000
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_EVENT_END_OF_LIST, _EVENT_PHONEME = 0, 7
_BUFFER_MS = 1000
_SEPARATOR = "\N{INFORMATION SEPARATOR ONE}"
_STRESS_MARKS = "',%="
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_TABLE = Path(__file__).parent / "tables" / "espeak" / "en_us.tsv"
_LONGEST_DATA_PATH = 120
"""espeak-ng keeps file names in buffers of 160 bytes and cuts off what is longer, without a word."""


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Speech:
    """Synthetic speech with the times of its phones.

    Attributes
    ----------
    samples : np.ndarray
        int16, shape (N,).
    sample_rate : int
        Hz; 22,050 for all of espeak-ng's own voices.
    phones : list of (str, int, int)
        espeak-ng's mnemonic, first sample, one past the last sample; contiguous. A pause is ``_`` and what follows it.
    words : list of (str, int, int)
        The word as written in the text, with its times from its first phone to the next word's first phone.
    """

    samples: np.ndarray
    sample_rate: int
    phones: list[tuple[str, int, int]]
    words: list[tuple[str, int, int]]


class _Espeak:
    """The one initialised library of this process; espeak-ng keeps its state in globals, hence the lock."""

    def __init__(self):
        self.lock = threading.Lock()
        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
        self.callback = _Callback(self._collect)  # kept: the library calls it for as long as the process lives
        self.chunks: list[np.ndarray] = []
        self.events: list[tuple[str, int, int]] = []
        self.sample_rate = self._initialise()

    def _initialise(self) -> int:
        path = _short_data_path()
        options = _PHONEME_EVENTS | _DONT_EXIT
        sample_rate = self.library.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, os.fsencode(path), options)
        if sample_rate <= 0:
            raise AsrError(f"espeak-ng cannot read its data in {path}: reinstall the package espeakng-loader")
        self.library.espeak_SetSynthCallback(self.callback)
        return sample_rate

    def _collect(self, samples, num_samples, events) -> int:
        if samples and num_samples > 0:
            self.chunks.append(np.ctypeslib.as_array(samples, shape=(num_samples,)).copy())
        i = 0
        while events[i].type != _EVENT_END_OF_LIST:
            event = events[i]
            if event.type == _EVENT_PHONEME:
                self.events.append((event.id.string.decode(), event.sample, event.text_position))
            i += 1
        return 0

    def set_voice(self, voice: str) -> None:
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise AsrError(f"espeak-ng has no voice {voice!r}: give a language, or one with a variant as in 'en-us+m3'")

    def synthesise(self, text: str) -> tuple[np.ndarray, list[tuple[str, int, int]]]:
        self.chunks.clear()
        self.events.clear()
        encoded = text.encode()
        size = ctypes.c_size_t(len(encoded) + 1)
        self.library.espeak_Synth(ctypes.c_char_p(encoded), size, 0, 1, 0, _UTF8, None, None)
        samples = np.concatenate(self.chunks) if self.chunks else np.zeros(0, dtype=np.int16)
        return samples, list(self.events)


@functools.cache
def _espeak() -> _Espeak:
    return _Espeak()


def _short_data_path() -> str:
    """Path of espeak-ng's data, through a link in the temporary folder where the installed path is too long."""
    path = espeakng_loader.get_data_path()
    if len(os.fsencode(path)) <= _LONGEST_DATA_PATH:
        return path
    folder = tempfile.TemporaryDirectory(prefix="espeak-")
    atexit.register(folder.cleanup)
    link = Path(folder.name) / "espeak-ng-data"
    link.symlink_to(path, target_is_directory=True)
    return str(link)


def synthesise(text: str, voice: str = "en-us", rate: int = 175, pitch: int = 50, pitch_range: int = 50) -> Speech:
    """Speak a text.

    The slow wavering of a voice's pitch goes on from one call to the next, so that a repeated call gives nearly the
    same samples; the same calls in a new process give exactly the same.

    Parameters
    ----------
    text : str
        Plain text.
    voice : str
        A language of espeak-ng, then optionally ``+`` and a variant, as in ``en-us+m3``.
    rate : int
        Words a minute, 80 to 450.
    pitch, pitch_range : int
        0 to 100; 50 is the voice's own.

    Returns
    -------
    Speech
        Samples with the times of phones and words.

    Raises
    ------
    AsrError
        If espeak-ng has no such voice, or has nothing to say for the text.

    Examples
    --------
    >>> speech = synthesise("A red sea.")
    >>> [phone for phone, _, _ in speech.phones]
    ['a#', 'r', 'E', 'd', 's', 'i:', '_:', '_']
    >>> [word for word, _, _ in speech.words]
    ['A', 'red', 'sea']
    """
    if not _WORD.search(text):
        raise AsrError(f"espeak-ng finds nothing to say in {text!r}: give a text with words")
    espeak = _espeak()
    with espeak.lock:
        espeak.set_voice(voice)
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            espeak.library.espeak_SetParameter(parameter, value, 0)
        samples, events = espeak.synthesise(text)
    ends = [start for _, start, _ in events[1:]] + [len(samples)]
    phones = [(name.lstrip(_STRESS_MARKS), start, end) for (name, start, _), end in zip(events, ends, strict=True)]
    return Speech(samples, espeak.sample_rate, phones, _words(text, phones, [position for _, _, position in events]))


def phonemes(text: str, voice: str = "en-us") -> list[str]:
    """Pronunciation of a word or text by espeak-ng's dictionary and letter-to-sound rules, without speaking it.

    Parameters
    ----------
    text : str
        A word, or words.
    voice : str
        A language of espeak-ng.

    Returns
    -------
    list of str
        Mnemonics without stress marks; empty if the text has nothing to say.

    Raises
    ------
    AsrError
        If espeak-ng has no such voice.

    Examples
    --------
    >>> phonemes("brightness")
    ['b', 'r', 'aI', 't', 'n', '@', 's']
    """
    espeak = _espeak()
    rest = ctypes.c_char_p(text.encode())
    clauses = []
    with espeak.lock:
        espeak.set_voice(voice)
        while rest.value:
            clause = espeak.library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, ord(_SEPARATOR) << 8)
            clauses.append(clause.decode())
    stripped = (name.strip(_STRESS_MARKS) for name in re.split(rf"[\s{_SEPARATOR}]+", " ".join(clauses)))
    return [name for name in stripped if name and not name.startswith("_")]


@functools.cache
def mnemonics() -> dict[str, dict[str, list[str]]]:
    """Read what each mnemonic of the voice ``en-us`` is in the phone sets ``timit61`` and ``arpabet39``.

    Returns
    -------
    dict
        Mnemonic to ``{"timit61": labels, "arpabet39": labels}``; a mnemonic may be several phones, or none. Stops have
        no closure in these labels: it is a part of the stop's segment.

    Examples
    --------
    >>> mnemonics()["aI3"]["arpabet39"]
    ['AY', 'ER']
    """
    with _TABLE.open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {row["mnemonic"]: {name: row[name].split() for name in ("timit61", "arpabet39")} for row in rows}


def arpabet(word: str) -> list[str]:
    """Guess the pronunciation of a word that the dictionary lacks, in the phone set ``arpabet39``.

    Raises
    ------
    AsrError
        If espeak-ng has nothing to say for the word, or uses a sound of another language.

    Examples
    --------
    >>> arpabet("brightness")
    ['B', 'R', 'AY', 'T', 'N', 'AH', 'S']
    """
    names = phonemes(word)
    unknown = [name for name in names if name not in mnemonics()]
    if unknown or not names:
        reason = f"a sound that English lacks, {unknown[0]!r}" if unknown else "no sound"
        raise AsrError(f"espeak-ng gives {reason} for the word {word!r}: spell it in English letters")
    return [phone for name in without_linking_r(names) if name for phone in mnemonics()[name]["arpabet39"]]


def without_linking_r(names: list[str]) -> list[str | None]:
    """Replace by None each r that espeak-ng writes a second time, between an r-coloured vowel and a vowel.

    Examples
    --------
    >>> without_linking_r(["h", "3:", "r", "i"]), without_linking_r(["b", "E", "r", "i"])
    (['h', '3:', None, 'i'], ['b', 'E', 'r', 'i'])
    """
    coloured = [False] + [name.endswith(("3", "3:", "@")) and name != "@" for name in names[:-1]]
    return [None if name == "r-" or (name == "r" and c) else name for name, c in zip(names, coloured, strict=True)]


def _words(text: str, phones: list[tuple[str, int, int]], positions: list[int]) -> list[tuple[str, int, int]]:
    """Time the words, from the place in the text (counted from 1) that espeak-ng gives to each phone.

    A phrase that espeak-ng's dictionary takes as one word (``in the``) has all its phones at its first word's place.
    """
    spans = [(match.start() + 1, match.group()) for match in _WORD.finditer(text)]
    starts = np.array([start for start, _ in spans])
    owned: list[list[tuple[str, int, int]]] = [[] for _ in spans]
    for phone, position in zip(phones, positions, strict=True):
        if not phone[0].startswith("_"):
            owned[max(int(np.searchsorted(starts, position, side="right")) - 1, 0)].append(phone)
    times: list[tuple[str, int, int]] = []
    first = 0
    while first < len(spans):
        last = first + 1
        while last < len(spans) and not owned[last]:
            last += 1
        times += _share([word for _, word in spans[first:last]], owned[first])
        first = last
    return times


def _share(words: list[str], phones: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Time the words of a phrase: from the last one back, each gets as many phones as it has when spoken alone."""
    times = []
    for word in reversed(words[1:]):
        count = min(len(phonemes(word)), len(phones) - 1)
        times.append((word, phones[-count][1], phones[-1][2]))
        phones = phones[:-count]
    times.append((words[0], phones[0][1], phones[-1][2]))
    return times[::-1]
