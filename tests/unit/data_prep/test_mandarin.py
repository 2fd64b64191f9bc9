"""Mandarin syllables as phones, against the chart of the syllables."""

import pytest

from asr.core.errors import CorpusError
from asr.speech import ipa
from data_prep import mandarin


@pytest.mark.parametrize(
    ("pinyin", "phones"),
    [
        ("ma1", "m a˥"),
        ("er2", "ɚ˧˥"),
        ("wo3", "w o˨˩˦"),
        ("bo1", "p w o˥"),
        ("jiu4", "tɕ j oʊ˥˩"),
        ("gui4", "k w eɪ˥˩"),
        ("lun2", "l w ə˧˥ n"),
        ("wu3", "u˨˩˦"),
        ("yi1", "i˥"),
        ("you3", "j oʊ˨˩˦"),
        ("ying2", "i˧˥ ŋ"),
        ("yun2", "y˧˥ n"),
        ("yong4", "j ʊ˥˩ ŋ"),
        ("xue2", "ɕ ɥ ɛ˧˥"),
        ("lüe4", "l ɥ ɛ˥˩"),
        ("nu:3", "n y˨˩˦"),
        ("zi3", "ts ɨ˨˩˦"),
        ("ri4", "ʐ ɨ˥˩"),
        ("xi1", "ɕ i˥"),
        ("weng1", "w ə˥ ŋ"),
        ("de", "t ɤ"),
        ("de5", "t ɤ"),
    ],
)
def test_syllables(pinyin, phones):
    assert mandarin.of_pinyin(pinyin) == tuple(phones.split())


@pytest.mark.parametrize("pinyin", ["", "3", "hm1", "zhx2", "ma6", "ma12", "我"])
def test_what_is_no_syllable_is_named(pinyin):
    with pytest.raises(CorpusError, match="is no syllable of Mandarin"):
        mandarin.of_pinyin(pinyin)


def test_every_syllable_has_one_tone_on_a_vowel_and_phones_of_the_alphabet():
    for initial in ("", *mandarin._parts("initial")):
        for final in mandarin._parts("final"):
            try:
                phones = mandarin.of_pinyin(f"{initial}{final.removeprefix('-')}4")
            except CorpusError:
                continue  # written otherwise, such as iou after an initial
            assert sum(phone.endswith("˥˩") for phone in phones) == 1
            assert all(ipa.is_phone(phone) or ipa.letters(phone) in ("ʈʂ", "ɚ") for phone in phones)
