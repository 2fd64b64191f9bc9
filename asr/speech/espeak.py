"""espeak-ng, a formant synthesiser, through ctypes: speech with the time of each phone, and letter-to-sound rules.

The library and its voices come inside the `espeakng-loader` wheel, so that no system package is needed. espeak-ng names
phones by ASCII mnemonics (``aI@``, ``t#``); ``tables/espeak/en_us.tsv`` translates them into the phone sets of
`asr.speech.phones`. ``tables/espeak/ipa.tsv`` has the IPA of phones that espeak-ng writes otherwise.

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
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import espeakng_loader
import numpy as np

from asr.core.errors import AsrError

_SYNCHRONOUS = 2
_PHONEME_EVENTS = 0x0001
_DONT_EXIT = 0x8000
_UTF8 = 1
_IPA = 0x02
_RATE, _PITCH, _RANGE = 1, 3, 4
_EVENT_END_OF_LIST, _EVENT_PHONEME = 0, 7
_BUFFER_MS = 1000
_SEPARATOR = "\N{INFORMATION SEPARATOR ONE}"
_STRESS_MARKS = "',%="
_LANGUAGE = re.compile(r"\([\w-]+\)")  # marks where it changes, as in "(en)"
_LANGUAGE_LINE = re.compile(r"^language +(\S+)(?: +(\d+))?", re.MULTILINE)  # a code, and how near to it the voice is
_USUAL_PRIORITY = 5
_NOT_PHONES = dict.fromkeys(map(ord, "ˈˌ|-‖_.\u200d"))
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_TABLES = Path(__file__).parent / "tables" / "espeak"
_LONGEST_DATA_PATH = 120  # bytes; espeak-ng keeps file names in buffers of 160 bytes, and silently cuts longer ones


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
    """Synthetic speech with the times of its phones and words.

    Attributes
    ----------
    samples : np.ndarray
        int16, shape (N,).
    sample_rate : int
        In Hz; all of espeak-ng's own voices have 22,050.
    phones : list of (str, int, int)
        Mnemonic, first sample and one past the last sample of each phone, without gaps. The mnemonic of a pause starts
        with ``_``.
    words : list of (str, int, int)
        Each word as it is written in the text, in Unicode's form NFC, with its first sample and one past its last one.
    """

    samples: np.ndarray
    sample_rate: int
    phones: list[tuple[str, int, int]]
    words: list[tuple[str, int, int]]


class _Espeak:
    """The initialised library of this process. It keeps its state in global variables, so that calls need the lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
        self.callback = _Callback(self._collect)  # kept, since the library may call it as long as the process lives
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

    def _collect(
        self, samples: "ctypes._Pointer[ctypes.c_short]", num_samples: int, events: "ctypes._Pointer[_Event]"
    ) -> int:
        """Keep a chunk of sound and the phones in it; espeak-ng calls this while it speaks."""
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
        if self.library.espeak_SetVoiceByName(voice.encode()) == 0:
            return
        language, plus, variant = voice.partition("+")
        own = voices().get(language.lower())  # espeak-ng finds no voice by a language's second name
        if own is None or self.library.espeak_SetVoiceByName(f"{own}{plus}{variant}".encode()) != 0:
            raise AsrError(f"espeak-ng has no voice {voice!r}: write {_one_of(language)}")

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
    """Return the path of espeak-ng's data, or if it is too long a link to it in the folder for temporary files."""
    path = espeakng_loader.get_data_path()
    if len(os.fsencode(path)) <= _LONGEST_DATA_PATH:
        return path
    folder = tempfile.TemporaryDirectory(prefix="espeak-")
    atexit.register(folder.cleanup)
    link = Path(folder.name) / "espeak-ng-data"
    link.symlink_to(path, target_is_directory=True)
    return str(link)


@functools.cache
def voices() -> dict[str, str]:
    """Return the best voice of each language that espeak-ng knows.

    Returns
    -------
    dict
        The voice's file in espeak-ng's folder ``lang``, by the code of the language in small letters.

    Examples
    --------
    >>> voices()["en-gb"], voices()["en-us"], voices()["no"]
    ('gmw/en', 'gmw/en-US', 'gmq/nb')
    """
    folder = Path(espeakng_loader.get_data_path()) / "lang"
    found = [
        (int(match[2] or _USUAL_PRIORITY), match[1].lower(), file.relative_to(folder).as_posix())
        for file in folder.rglob("*")
        if file.is_file()
        for match in _LANGUAGE_LINE.finditer(file.read_text("utf-8", errors="replace"))
    ]
    return {code: file for _, code, file in sorted(found, reverse=True)}


def _one_of(language: str) -> str:
    """Return the languages that may be meant: those that begin alike, or else all."""
    codes = sorted(voices())
    first = re.split("[-_]", language.lower())[0]
    *rest, last = [code for code in codes if code.partition("-")[0] == first] or codes
    return f"{', '.join(rest)} or {last}" if rest else last


def synthesise(text: str, voice: str = "en-us", rate: int = 175, pitch: int = 50, pitch_range: int = 50) -> Speech:
    """Speak a text.

    The pitch of a voice wavers slowly, and continues to do so from one call to the next. A repeated call therefore
    gives nearly the same samples. The same calls in a new process give exactly the same samples.

    Parameters
    ----------
    text : str
        Plain text with at least one word.
    voice : str
        A language of espeak-ng, then optionally ``+`` and a variant, as in ``en-us+m3``.
    rate : int
        Words a minute, 80 to 450.
    pitch, pitch_range : int
        0 to 100; 50 leaves the voice as it is.

    Returns
    -------
    Speech
        Samples with the times of phones and words.

    Raises
    ------
    AsrError
        espeak-ng has no such voice, or the text has no word.

    Examples
    --------
    >>> speech = synthesise("A red sea.")
    >>> [phone for phone, _, _ in speech.phones]
    ['a#', 'r', 'E', 'd', 's', 'i:', '_:', '_']
    >>> [word for word, _, _ in speech.words]
    ['A', 'red', 'sea']
    """
    text = unicodedata.normalize("NFC", text)  # espeak-ng takes a letter apart from an accent behind it
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
    """Return how espeak-ng pronounces a text by its dictionary and letter-to-sound rules, without speaking it.

    Parameters
    ----------
    text : str
        A word, or several.
    voice : str
        A language of espeak-ng.

    Returns
    -------
    list of str
        Mnemonics without stress marks; empty if the text has no sound.

    Raises
    ------
    AsrError
        espeak-ng has no such voice.

    Examples
    --------
    >>> phonemes("brightness")
    ['b', 'r', 'aI', 't', 'n', '@', 's']
    """
    stripped = (name.strip(_STRESS_MARKS) for name in _translated(text, voice, 0))
    return [name for name in stripped if name and not name.startswith("_")]


def ipa(text: str, voice: str) -> list[str]:
    """Return how espeak-ng pronounces a text in a language, in the International Phonetic Alphabet.

    Words that it takes for another language's are pronounced as there.

    Parameters
    ----------
    text : str
        A word, or several.
    voice : str
        A language of espeak-ng, such as ``de`` or ``cmn``.

    Returns
    -------
    list of str
        Phones without stress; empty if the text has no sound.

    Raises
    ------
    AsrError
        espeak-ng has no such voice.

    Examples
    --------
    >>> ipa("schön", "de"), ipa("вы", "ru")
    (['ʃ', 'øː', 'n'], ['v', 'ɨ'])
    """
    others = _others().get(re.split("[-_+]", voice.lower())[0], {})
    written = (_LANGUAGE.sub("", name).translate(_NOT_PHONES) for name in _translated(text, voice, _IPA))
    return [phone for each in written if each for phone in others.get(each, [each])]


@functools.cache
def _others() -> dict[str, dict[str, list[str]]]:
    """Return by language the phones that espeak-ng writes otherwise than in IPA, such as ``y`` for Russian ы."""
    found: dict[str, dict[str, list[str]]] = {}
    with (_TABLES / "ipa.tsv").open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            found.setdefault(row["language"], {})[row["written"]] = row["ipa"].split()
    return found


def _translated(text: str, voice: str, mode: int) -> list[str]:
    """Return the phones of a text as espeak-ng writes them."""
    espeak = _espeak()
    rest = ctypes.c_char_p(unicodedata.normalize("NFC", text).encode())
    clauses = []
    with espeak.lock:
        espeak.set_voice(voice)
        while rest.value:
            clause = espeak.library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, ord(_SEPARATOR) << 8 | mode)
            clauses.append(clause.decode())
    return re.split(rf"[\s{_SEPARATOR}]+", " ".join(clauses))


@functools.cache
def mnemonics() -> dict[str, dict[str, list[str]]]:
    """Return the labels of each mnemonic of the voice ``en-us`` in the phone sets ``timit61`` and ``arpabet39``.

    Returns
    -------
    dict
        Maps a mnemonic to ``{"timit61": labels, "arpabet39": labels}``. A mnemonic may stand for several phones, or for
        none. Stops have no closure in these labels, since espeak-ng counts it as a part of the stop.

    Examples
    --------
    >>> mnemonics()["aI3"]["arpabet39"]
    ['AY', 'ER']
    """
    with (_TABLES / "en_us.tsv").open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {row["mnemonic"]: {name: row[name].split() for name in ("timit61", "arpabet39")} for row in rows}


def arpabet(word: str, voice: str = "en-us") -> list[str]:
    """Guess the pronunciation of a word in the phone set ``arpabet39``.

    Parameters
    ----------
    word : str
        In English letters.
    voice : str
        One of espeak-ng's for English. An R that British voices leave out stays, as CMUdict has it.

    Raises
    ------
    AsrError
        The word has no sound, or a sound that English lacks; or espeak-ng has no such voice.

    Examples
    --------
    >>> arpabet("brightness"), arpabet("barge", "en-gb-x-rp")
    (['B', 'R', 'AY', 'T', 'N', 'AH', 'S'], ['B', 'AA', 'R', 'JH'])
    """
    names = phonemes(word, voice)
    unknown = [name for name in names if name not in mnemonics()]
    if unknown or not names:
        reason = f"a sound that English lacks, {unknown[0]!r}" if unknown else "no sound"
        raise AsrError(f"espeak-ng gives {reason} for the word {word!r}: spell it in English letters")
    return [phone for name in without_linking_r(names) if name for phone in mnemonics()[name]["arpabet39"]]


def without_linking_r(names: list[str]) -> list[str | None]:
    """Replace each linking r by None: between an r-coloured vowel and a vowel, espeak-ng writes the r a second time.

    Examples
    --------
    >>> without_linking_r(["h", "3:", "r", "i"]), without_linking_r(["b", "E", "r", "i"])
    (['h', '3:', None, 'i'], ['b', 'E', 'r', 'i'])
    """
    coloured = [False] + [name.endswith(("3", "3:", "@")) and name != "@" for name in names[:-1]]
    return [None if name == "r-" or (name == "r" and c) else name for name, c in zip(names, coloured, strict=True)]


def _words(text: str, phones: list[tuple[str, int, int]], positions: list[int]) -> list[tuple[str, int, int]]:
    """Return the times of the words, from the position in the text, counted from 1, that espeak-ng gives each phone.

    espeak-ng's dictionary has phrases, such as ``in the``; all phones of a phrase have the position of its first word.
    """
    letters = "".join("x" if unicodedata.category(sign).startswith("M") else sign for sign in text)  # no marks
    spans = [(match.start() + 1, text[slice(*match.span())]) for match in _WORD.finditer(letters)]
    starts = np.array([start for start, _ in spans])
    owned: list[list[tuple[str, int, int]]] = [[] for _ in spans]
    for phone, position in zip(phones, positions, strict=True):
        if not phone[0].startswith("_"):
            owned[max(int(np.searchsorted(starts, position, side="right")) - 1, 0)].append(phone)
    spoken = next((i for i, own in enumerate(owned) if own), None)
    if spoken is None:
        return []
    owned[0], owned[spoken] = owned[spoken], owned[0]  # Korean has the position of the text before in its first clause
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
    """Share the phones of a phrase out, from its last word back: each gets as many as it has when spoken alone."""
    times = []
    for word in reversed(words[1:]):
        count = min(len(phonemes(word)), len(phones) - 1)
        times.append((word, phones[-count][1], phones[-1][2]))
        phones = phones[:-count]
    times.append((words[0], phones[0][1], phones[-1][2]))
    return times[::-1]
