"""Syllables by the maximum onset principle, and sentences."""

import pytest

from asr.speech.sentences import sentences_of, split_sentences
from asr.speech.syllables import VOWELS, syllable_lengths
from asr.speech.text import split_words


@pytest.mark.parametrize(
    "parted",  # Kahn 1976 and the textbooks' own examples of the principle
    [
        "AE T . L AH S",
        "AE . P AH L",
        "EH K . S T R AH",
        "K AH N . S T R EY N T",
        "S IH NG . ER",
        "HH AE M . S T ER",
        "P EY . P ER",
        "W IH . S K IY",
        "AE G . N AH S",
        "AH . P L AY",
        "K R IY . EY T",
        "B AA K S",
        "S T R EH NG K TH S",
        "M Y UW . Z IH K",
        "S HH",
    ],
)
def test_as_many_consonants_as_may_begin_a_word_begin_the_second_syllable(parted):
    syllables = [part.split() for part in parted.split(" . ")]
    assert syllable_lengths([phone for part in syllables for phone in part]) == [len(part) for part in syllables]


def test_each_vowel_is_a_syllable_of_every_word_of_the_dictionary():
    from asr.speech.pronounce import pronunciations

    for word in ("university", "encyclopedia", "the", "rhythm", "squirrel", "extraordinary"):
        for phones in pronunciations(word):
            lengths = syllable_lengths(phones)
            assert sum(lengths) == len(phones)
            assert len(lengths) == sum(phone in VOWELS for phone in phones)


def test_sentences_end_at_their_punctuation_and_at_empty_lines():
    text = 'Mr. J. R. Smith of the U.S. Army came at 5.30!\n"Why?" asked St. John.\nNobody\nknew… Then\n\nthe end'
    assert split_sentences(text) == [
        "Mr. J. R. Smith of the U.S. Army came at 5.30!",
        '"Why?" asked St. John.',
        "Nobody knew…",
        "Then",
        "the end",
    ]


@pytest.mark.parametrize("text", ["One. Two three!", "no punctuation at all", "He left. [noise] … She stayed."])
def test_the_words_of_the_sentences_are_those_of_the_text(text):
    words = [word.label for word in split_words(text)]
    found = sentences_of(text, len(words))
    assert [word.label for sentence, _ in found for word in split_words(sentence)] == words
    assert all(count > 0 for _, count in found)


def test_a_text_that_parts_would_change_stays_whole():
    assert sentences_of("One. Two", 3) == [("One. Two", 3)]
