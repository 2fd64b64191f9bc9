"""The wrapper over espeak-ng: phones at their exact times, pronunciations, long data paths."""

import itertools
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import espeakng_loader
import numpy as np
import pytest

from asr.core.errors import AsrError
from asr.speech import espeak
from asr.speech.phones import PhoneSet


def level(samples):
    return 20 * np.log10(np.sqrt(np.mean(samples.astype(float) ** 2)) + 1)


def test_phones_are_contiguous_and_cover_the_audio():
    speech = espeak.synthesise("The little butter, of a city, is in the fire. Bottom line!", voice="en-us+m3")
    edges = [(start, end) for _, start, end in speech.phones]
    assert edges[0][0] >= 0
    assert edges[-1][1] == len(speech.samples)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(edges))
    assert speech.sample_rate == 22050
    assert speech.samples.dtype == np.int16


def test_times_match_the_sound():
    speech = espeak.synthesise("A sea, a shoe.")
    sibilants = [speech.samples[start:end] for name, start, end in speech.phones if name in ("s", "S")]
    vowels = [speech.samples[start:end] for name, start, end in speech.phones if name in ("i:", "u:")]
    pauses = [speech.samples[start:end] for name, start, end in speech.phones if name == "_:"]
    assert len(sibilants) == len(vowels) == len(pauses) == 2
    for sibilant, vowel, pause in zip(sibilants, vowels, pauses, strict=True):
        # A sibilant's energy is above half of the band, a vowel's below: differencing raises one, lowers the other.
        assert level(np.diff(sibilant)) > level(sibilant)
        assert level(np.diff(vowel)) < level(vowel) - 6
        assert level(pause) < 1


def test_words_have_their_times_even_in_a_phrase_that_is_one_entry_of_the_dictionary():
    speech = espeak.synthesise("It's in the well-known barn.")
    words = [word for word, _, _ in speech.words]
    assert words == ["It's", "in", "the", "well-known", "barn"]
    starts = {start: name for name, start, _ in speech.phones}
    assert [starts[start] for _, start, _ in speech.words] == ["I", "I", "D", "w", "b"]


@pytest.mark.parametrize(
    ("voice", "text"),
    [
        ("de", "Schöne Töchter"),
        ("el", "Πού είναι η θάλασσα;"),
        ("hi", "नमस्ते दुनिया"),
        ("ar", "السَّلَامُ عَلَيْكُمْ"),
        ("ko", "저는 학생입니다"),
        ("ko", "물을 마셔요"),
    ],
)
def test_words_of_any_script_in_either_form_of_unicode(voice, text):
    composed, apart = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    said = espeak.synthesise(apart, voice)
    assert [word for word, _, _ in said.words] == [word.strip(";") for word in composed.split()]
    assert espeak.ipa(apart, voice) == espeak.ipa(composed, voice)


def test_what_espeak_writes_otherwise_than_in_ipa():
    said = {word: espeak.ipa(word, "ru") for word in ("вы", "меню", "пароль", "четыре", "связи", "теперь", "моя")}
    assert said == {
        "вы": ["v", "ɨ"],
        "меню": ["mʲ", "i", "nʲ", "ʉ"],
        "пароль": ["p", "a", "r", "o", "l"],
        "четыре": ["tɕ", "i", "t", "ɨ", "rʲ", "i"],
        "связи": ["s", "vʲ", "ɑ", "zʲ", "ɪ"],
        "теперь": ["tʲ", "i", "pʲ", "e", "r"],
        "моя": ["m", "o", "j", "a"],
    }
    assert (espeak.ipa("essere", "it"), espeak.ipa("aceptar", "es-419")[3]) == (["ɛ", "sː", "e", "r", "e"], "p")
    assert espeak.ipa("über", "de")[0] == "yː"


def test_accents_that_follow_their_letter_are_heard():
    assert espeak.ipa("scho\u0308n", "de") == ["ʃ", "øː", "n"]


def test_faster_speech_is_shorter():
    slow, fast = (espeak.synthesise("My leather shoe", rate=rate) for rate in (120, 240))
    assert len(fast.samples) < 0.7 * len(slow.samples)


def test_a_higher_pitch_has_shorter_periods():
    def period(pitch):
        samples = espeak.synthesise("My leather shoe", pitch=pitch, pitch_range=0).samples.astype(float)
        loudest = int(np.argmax(np.convolve(samples**2, np.ones(2048), "valid")))
        vowel = samples[loudest : loudest + 2048]
        correlation = np.correlate(vowel, vowel, "full")[2047:]
        return 90 + int(np.argmax(correlation[90:400]))  # 55 to 245 Hz

    assert period(80) < 0.8 * period(20)


def test_same_calls_in_new_processes_give_the_same_samples():
    code = (
        "import hashlib; from asr.speech import espeak;"
        "print([hashlib.sha256(espeak.synthesise('A breeze', voice=v).samples).hexdigest()"
        " for v in ('en-us+f1', 'en-us', 'en-us')])"
    )
    runs = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout != b""


def test_a_data_path_too_long_for_espeak_is_linked(monkeypatch, tmp_path):
    deep = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 6, "espeak-ng-data")
    deep.parent.mkdir(parents=True)
    deep.symlink_to(espeakng_loader.get_data_path())
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(deep))
    link = espeak._short_data_path()
    assert len(link) < espeak._LONGEST_DATA_PATH < len(str(deep))
    assert (Path(link) / "phontab").is_file()


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("zebra", "Z IY B R AH"),
        ("hurry", "HH ER IY"),
        ("fire", "F AY ER"),
        ("little", "L IH T AH L"),
        ("sudden", "S AH D AH N"),
        ("choices", "CH OY S IH Z"),
        ("bach", "B AA K"),
        ("unbuttoned", "AH N B AH T AH N D"),
    ],
)
def test_pronunciations(word, phones):
    assert espeak.arpabet(word) == phones.split()


def test_no_pronunciation_is_an_error():
    with pytest.raises(AsrError, match=r"no sound for the word '\?'"):
        espeak.arpabet("?")


@pytest.mark.parametrize("text", ["", " ", "-- ?"])
def test_nothing_to_say_is_an_error(text):
    with pytest.raises(AsrError, match=f"nothing to say in {re.escape(repr(text))}"):
        espeak.synthesise(text)


@pytest.mark.parametrize(
    ("voice", "mend"),
    [
        ("xx-none", "write af, am, .*, de, .* or zh-yue"),
        ("de-DE", "write de"),
        ("zh_TW", "write zh, zh-cmn or zh-yue"),
        ("en-uk+f3", "write en, en-029, en-gb, .*, en-us or en-us-nyc"),
    ],
)
def test_an_unknown_voice_is_an_error_that_names_those_that_are_meant(voice, mend):
    with pytest.raises(AsrError, match=f"no voice {re.escape(repr(voice))}: {mend}$"):
        espeak.synthesise("hello", voice=voice)


def test_every_name_of_a_language_is_a_voice():
    for language, own in espeak.voices().items():
        if language not in ("fo", "kaa", "xex"):  # without a dictionary
            assert espeak.ipa("mama", language), (language, own)
    assert espeak.ipa("bath", "en-GB+f3") == espeak.ipa("bath", "en") != espeak.ipa("bath", "en-us")
    assert espeak.ipa("jeg", "no") == espeak.ipa("jeg", "nb") != espeak.ipa("jeg", "en")


@pytest.mark.parametrize("phone_set", ["timit61", "arpabet39"])
def test_each_row_of_the_table_names_labels_of_its_sets(phone_set):
    for row in espeak.mnemonics().values():
        PhoneSet.load(phone_set).check(row[phone_set])
    used = {label for row in espeak.mnemonics().values() for label in row["arpabet39"]}
    assert used == set(PhoneSet.load("arpabet39").labels)
