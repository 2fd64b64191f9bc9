"""Texts that the recording does not have, or has otherwise; and texts as people write them."""

import json
import re

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from asr.core.config import from_dict
from asr.core.errors import AsrError
from asr.models.calibration import Calibration
from asr.models.ctc import CTCModel
from asr.recognition.align import align
from asr.recognition.recogniser import Recogniser
from asr.speech.normaliser import Normaliser
from asr.speech.phones import PhoneSet
from asr.speech.pronounce import pronunciations

TOKENS = ("<blank>", *PhoneSet.load("arpabet39").labels)
NUM_FRAMES = 300  # of 10 ms
CALIBRATION = Calibration((0.4, 1.0), (0.44, 1.0))


class Scripted(nn.Module):
    """An encoder that hears what it was told: {frame: (phone, probability)}."""

    subsampling = 1

    def __init__(self, heard):
        super().__init__()
        probs = np.full((NUM_FRAMES, len(TOKENS)), 1e-5, np.float32)
        for frame, (phone, probability) in heard.items():
            probs[frame, TOKENS.index(phone)] = probability
        probs[:, 0] = 0
        probs[:, 0] = 1 - probs.sum(axis=1)
        self.log_probs = torch.tensor(np.log(probs))

    def forward(self, features, lengths):
        return self.log_probs[:, None], torch.tensor([NUM_FRAMES])


def said(phones, first, step=8, probability=0.999):
    return {first + step * i: (phone, probability) for i, phone in enumerate(phones.split())}


def aligned(heard, words, **options):
    config = from_dict({"data": {"corpora": {"mini": None}}, "features": {"cmvn": "utterance"}})
    model = CTCModel(config, TOKENS, Normaliser(config.features), CALIBRATION, Scripted(heard))
    sound = np.zeros(NUM_FRAMES * 160 + 240, np.float32)
    return align(Recogniser(model, beam_size=1), sound, words=words, sample_rate=16000, **options)


def spans(found):
    return {word.label: (word.start, word.end) for word in found.words}


def test_the_pronunciation_that_was_said_is_shown_and_rated():
    assert pronunciations("wind")[0] == ("W", "AY", "N", "D")  # the dictionary's first
    found = aligned(said("AH W IH N D", 20), "a wind", with_goodness=True)
    assert [phone.label for phone in found.phones] == ["AH", "W", "IH", "N", "D"]
    assert min(found.goodness) > -0.5
    assert found.misfit is None
    found = aligned(said("EY L AY V", 20), "a live")
    assert [phone.label for phone in found.phones] == ["EY", "L", "AY", "V"]


def test_words_before_and_after_speech_that_the_text_lacks_lie_where_they_are_said():
    """The last phone of "hello" was not heard well, and again much better in what the text lacks."""
    untold = said("K AE T S OW D AO G Z", 150)
    hello = said("HH AH L", 20) | {44: ("OW", 0.05)}
    found = aligned(hello | untold, "hello")
    assert spans(found)["hello"][1] < 0.8
    ((start, end),) = found.unspoken
    assert (start, end) == pytest.approx((1.5, 2.15), abs=0.02)
    assert found.misfit.endswith(" s of speech, the first at 1.50 s, are not in the text")
    late = {frame + 180: each for frame, each in hello.items()} | said("K AE HH AH T S D AO G Z", 20)
    found = aligned(late, "hello")
    assert 1.7 < spans(found)["hello"][0] < 2.05
    assert spans(found)["hello"][1] < 2.6


def test_a_sentence_that_the_text_lacks_stays_without_labels():
    heard = said("HH AH L", 20) | {44: ("OW", 0.05)} | said("K AE T S OW D AO G Z", 100) | said("W ER L D", 230)
    found = aligned(heard, "hello world")
    assert spans(found)["hello"][1] < 0.8
    assert spans(found)["world"][0] > 2.0
    assert len(found.unspoken) == 1


@pytest.mark.parametrize("between", ["", "S AW TH F IH SH"])
def test_words_that_nobody_says_crowd_no_others(between):
    """A sentence of the text that the recording lacks, or that has another in its place."""
    heard = said("HH AH L OW", 20) | said(between, 70) | said("W ER L D", 150)
    found = aligned(heard, "hello the bakery opened early on mondays world")
    plain = aligned(heard, "hello world")
    assert found.unsaid == [1, 2, 3, 4, 5, 6]
    assert [found.words[0], found.words[-1]] == plain.words
    assert found.phones == plain.phones
    assert {(word.start, word.end, word.confidence) for word in found.words[1:-1]} == {
        (plain.words[0].end,) * 2 + (0.0,)
    }
    assert found.unspoken == plain.unspoken
    assert "6 of 8 words are not heard, the first 'the' at " in found.misfit
    assert [word.get("said", True) for word in json.loads(found.to_json())["words"]] == [True, *[False] * 6, True]
    assert plain.unsaid == []


def test_words_before_and_behind_the_recording_are_unsaid():
    heard = said("HH AH L OW W ER L D", 100)
    found = aligned(heard, "the bakery opened early hello world on mondays it is closed")
    assert found.unsaid == [0, 1, 2, 3, 6, 7, 8, 9, 10]
    assert found.words[0].start == found.words[3].end == 0


def test_a_word_is_not_torn_apart_by_a_pause():
    found = aligned(said("HH AH L", 20) | {44: ("OW", 0.02), 180: ("OW", 0.9)}, "hello")
    assert spans(found)["hello"][1] < 0.8
    parts = aligned(said("HH AH L OW", 20) | said("W ER L D", 250), "hello world")  # between words it may be long
    assert spans(parts)["world"][0] > 2.2
    assert parts.misfit is None


def test_words_that_are_not_heard_have_low_confidence_and_a_line():
    found = aligned(said("K AE T S D AO G Z", 100), "hello world")
    assert all(word.confidence < 0.01 for word in found.words)
    assert "2 of 2 words are not heard, the first 'hello' at " in found.misfit
    assert aligned(said("HH AH L OW W ER L D", 100), "hello world").misfit is None


def test_phones_that_are_not_heard_have_a_line_too():
    config = from_dict({"data": {"corpora": {"mini": None}}, "features": {"cmvn": "utterance"}})
    model = CTCModel(config, TOKENS, Normaliser(config.features), CALIBRATION, Scripted(said("K AE T", 100)))
    sound, heard = np.zeros(NUM_FRAMES * 160 + 240, np.float32), Recogniser(model, beam_size=1)
    assert align(heard, sound, phones="K AE T", sample_rate=16000).misfit is None
    assert align(heard, sound, phones="D AO G", sample_rate=16000).misfit.startswith("the text does not fit")


def test_goodness_is_that_of_the_speech_that_the_text_has():
    alone = aligned(said("HH AH L OW", 20), "hello", with_goodness=True)
    among = aligned(said("HH AH L OW", 20) | said("K AE T S D AO G Z", 150), "hello", with_goodness=True)
    assert among.goodness == pytest.approx(alone.goodness, abs=0.02)


def test_all_words_that_cannot_be_pronounced_are_named_in_one_line():
    with pytest.raises(AsrError) as caught:
        aligned({}, "in 日本, R2.D2 and 5, brillig 日本", g2p=False)
    assert str(caught.value) == (
        "words '日本', 'R2.D2' have no pronunciation: write numbers and symbols out in letters; not in the "
        "dictionary: 'brillig': correct the spelling, give the sound (--lexicon), or have it guessed (--g2p)"
    )


@pytest.mark.parametrize(
    ("phones", "text", "spoken"),
    [
        ("N AY N T IY N OW F AY V", "1905", "nineteen oh five"),
        ("N AY N T IY N HH AH N D R AH D AH N D F AY V", "1905", "nineteen hundred and five"),
        ("T UW TH AW Z AH N D F AY V", "2005", "two thousand five"),
        ("T W EH N T IY OW F AY V", "2005", "twenty oh five"),
        ("HH AE F P AE S T T EH N", "10:30", "half past ten"),
        ("F AY V D AA L ER Z T W EH N T IY", "$5.20", "five dollars twenty"),
        ("TH R IY F AO R TH S", "3/4", "three fourths"),
        ("S IH K S F UH T T UW", "6'2", "six foot two"),
        ("EH M P IY TH R IY", "MP3", "M P three"),
        ("EH M OW S IY EY P IY", "MOCAP", "M O C A P"),
        ("F AY V Z IH R OW F AY V S IH K S", "505-6", "five zero five six"),
    ],
)
def test_a_number_is_read_as_it_was_said(phones, text, spoken):
    """The reading that is heard is chosen, and the word stays as it is written."""
    found = aligned(said(phones, 36, step=6) | said("S OW", 20), f"so {text}")
    assert [phone.label for phone in found.phones] == ["S", "OW", *phones.split()]
    assert [word.label for word in found.words] == ["so", text]
    assert found.misfit is None
    so, word = json.loads(found.to_json())["words"]
    assert "spoken" not in so
    assert (word["spoken"], word.get("pronunciation", phones)) == (spoken, phones)


def test_parts_of_an_amount_lie_on_the_words_that_are_written():
    found = aligned(said("F AY V M IH L Y AH N D AA L ER Z", 20), "$5 million")
    assert [word.label for word in found.words] == ["$5", "million"]
    assert [each.spoken for each in found.variants] == ["five", "million dollars"]
    assert spans(found)["million"][0] == pytest.approx(0.20 + 0.08 * 3 - 0.04, abs=0.05)


def test_the_pronunciation_that_was_chosen_is_shown():
    found = aligned(said("AH W IH N D B L UW", 20), "a wind blew")
    shown = [row.get("pronunciation") for row in json.loads(found.to_json())["words"]]
    assert shown == ["AH", "W IH N D", None]
    assert not any("spoken" in row for row in json.loads(found.to_json())["words"])


def test_a_lexicon_comes_before_the_dictionary(tmp_path):
    (tmp_path / "own.txt").write_text("Wind\tW AH1 N D\nwind W EH N D\nblorf B L AO R F\nAM Z\n")
    found = aligned(said("AH W EH N D B L AO R F S", 20), "a wind blorf's", g2p=False, lexicon=tmp_path / "own.txt")
    assert [phone.label for phone in found.phones] == [*["AH", "W", "EH", "N", "D", "B", "L", "AO", "R", "F", "S"]]
    assert found.guessed == []
    plain = aligned(said("AH W EH N D B L AO R F S", 20), "a wind blorf's")
    assert plain.guessed == ["blorf's"]
    assert "EH" not in [phone.label for phone in plain.phones]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("blorf B QQ", r"own\.txt, line 3: blorf: the model does not know the phone 'QQ': it knows AA AE"),
        ("blorf", r"own\.txt, line 3: blorf has no phones"),
    ],
)
def test_a_fault_in_a_lexicon_names_its_line(cli, tmp_path, rng, line, fault):
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal(16000), 16000)
    (tmp_path / "own.txt").write_text(f"wind W IH N D\n\n{line}\n")
    code, out, err = cli("align", tmp_path / "a.wav", "--text", "wind", "--lexicon", tmp_path / "own.txt")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(fault, err)
    code, _, err = cli("align", tmp_path / "a.wav", "--text", "wind", "--lexicon", tmp_path / "none.txt")
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot read the lexicon" in err


@pytest.mark.parametrize("form", ["textgrid", "ctm", "json", "audacity"])
def test_a_text_that_does_not_fit_is_one_line_of_warning(cli, tmp_path, rng, form):
    path = tmp_path / "noise.wav"
    soundfile.write(path, 0.1 * rng.standard_normal(32000), 16000)
    code, out, err = cli("align", path, "--text", "hello big world", "--format", form)
    assert code == 0
    assert err.startswith(f"asr: {path}: the text does not fit the recording: ")
    assert err.count("\n") == 1
    assert {"json": "hello", "textgrid": "hello"}.get(form, "HH") in out
