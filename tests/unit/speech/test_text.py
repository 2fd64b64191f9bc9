"""Texts as books, subtitles and transcripts have them."""

import pytest

from asr.speech.text import split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's a dog's life.", "It's a dog's life"),
        ("  'Tis — well-known;\n(really)  ", "'Tis well-known really"),
        ("?!", ""),
        ("spoken to—she would", "spoken to she would"),
        ("spoken…to, one--two, three...four, five – six", "spoken to one two three four five six"),
        ("and/or", "and or"),
        ("yes,no;“so”he said:“go”", "yes no so he said go"),
        ("the end.Next of cnn.com", "the end Next of cnn.com"),
        ("¿if ¡spoken!", "if spoken"),
        ("cafe\u0301 na\u00efve \ufb01ne", "caf\u00e9 na\u00efve fine"),
        ("don\u02bct don\u00b4t don`t don\u2019t don\uff07t don\u2032t", "don't " * 6),
        ("well\u2011known so\u00adft \u200fword\u200b", "well-known soft word"),
        ("[noise] speak <laugh> {cross talk} again", "speak again"),
        ("(coughs) speak *laughs loudly* (applause)", "speak"),
        ("(Yes), said he (laughing though he was at it)", "Yes said he laughing though he was at it"),
        ("<i>so</i> ♪ la ♪", "so la"),
        ("1,000 3:30 1812, $5", "1,000 3:30 1812 $5"),
        ("2½ 5² -5 .5 50% 20° #5 §5 C#, x% #! -a .b", "2½ 5² -5 .5 50% 20° #5 §5 C# x a b"),
        ("(a@b.com), <i>http://x.org/a_b-c/d</i>.", "a@b.com http://x.org/a_b-c/d"),
        ("60km/h 5 km/h, a/b his/her", "60km/h 5 km/h a b his her"),
        ("a & b, + 5 % = c # 5 # d", "a & b + 5 % = c # 5 d"),
        ("\U0001f600 hi\U0001f44d\U0001f3fd 1\ufe0f\u20e3 :) :D \u00a9 Foo\u2122", "hi Foo"),
    ],
)
def test_words_are_split_as_they_are_spoken(text, words):
    assert [word.label for word in split_words(text)] == words.split()


def test_a_list_of_words_is_a_text():
    assert split_words(["and/or", "don’t", "[noise]"]) == split_words("and/or don’t [noise]")


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("speak, Dr. Ford", "speak doctor Ford"),
        ("Dr Ford", "doctor Ford"),
        ("of St. Paul", "of saint Paul"),
        ("He met Gen. Grant", "He met general Grant"),
        ("in Elm St. Nobody came", "in Elm St Nobody came"),  # street, or saint: the dictionary has both
        ("we drove up the dr. and", "we drove up the dr and"),
        ("so said the dr.", "so said the dr"),
    ],
)
def test_titles_before_names_are_read_in_full(text, spoken):
    assert [word.readings[0] for word in split_words(text)] == spoken.split()
