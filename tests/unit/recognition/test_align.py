"""Alignment of known words and phones, with posteriors that are known; texts beside recordings; formats."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from asr.cli import recordings
from asr.core.config import from_dict
from asr.core.errors import AsrError, AudioError, CorpusError, InfeasibleError
from asr.ctc import forced_align
from asr.data import pronunciations, splits
from asr.evaluation.boundaries import boundary_errors, fit_boundary_offset, summary
from asr.lm import folder as lm_folder
from asr.models.base import Spellings
from asr.models.calibration import Calibration
from asr.models.ctc import CTCModel
from asr.recognition.align import align as align_any
from asr.recognition.recogniser import Recogniser
from asr.recognition.render import render
from asr.speech import audio, lexicons, texts_beside
from asr.speech.normaliser import Normaliser
from asr.speech.phones import PhoneSet
from asr.speech.pronounce import by_rules
from asr.speech.segments import Segment

align = partial(align_any, sample_rate=16000)
ARPABET = ("<blank>", *PhoneSet.load("arpabet39").labels)
TIMIT = ("<blank>", *PhoneSet.load("timit61").labels)


class Scripted(nn.Module):
    """An encoder that says what it was told."""

    subsampling = 1

    def __init__(self, log_probs):
        super().__init__()
        self.log_probs = torch.tensor(log_probs)

    def forward(self, features, lengths):
        return self.log_probs[:, None], torch.tensor([len(self.log_probs)])


def recogniser(phones="", gap=8, tokens=ARPABET, peak=0.8, calibration=None):
    """A recogniser that hears the phones in frames 5, 5 + gap, …, and 100 frames for it to hear them in."""
    probs = np.full((100, len(tokens)), 1e-4, np.float32)
    probs[:, 0] = 1 - 1e-4 * (len(tokens) - 1)
    for k, phone in enumerate(phones.split()):
        probs[5 + gap * k] = 1e-4
        probs[5 + gap * k, tokens.index(phone)] = peak - 0.1 * k
        probs[5 + gap * k, 0] = 1 - probs[5 + gap * k, 1:].sum()
    config = from_dict({"data": {"corpora": {"mini": None}}, "features": {"cmvn": "utterance"}})
    scripted = Scripted(np.log(probs))
    model = CTCModel(config, tokens, Normaliser(config.features), calibration or Calibration(), scripted)
    return Recogniser(model, beam_size=1)


def true_times(cut):
    items = cut.supervisions[0].alignment["phone"]
    return [Segment(item.symbol, item.start, item.start + item.duration) for item in items]


SECOND = np.zeros(16240, np.float32)


def test_words_span_their_phones():
    """HH AH L OW | W IY in frames 5, 13, … 45: boundaries at 0.01 × (frame + 4.5)."""
    aligned = align(recogniser("HH AH L OW W IY"), SECOND, words="“Hello” … we!")
    assert [phone.label for phone in aligned.phones] == ["HH", "AH", "L", "OW", "W", "IY"]
    assert [phone.start for phone in aligned.phones] == pytest.approx(
        [0, 0.095, 0.175, 0.255, 0.335, 0.415], abs=0.0101
    )
    hello, we = aligned.words
    assert (hello.label, we.label) == ("Hello", "we")
    assert (hello.start, hello.end) == (aligned.phones[0].start, aligned.phones[3].end)
    assert (we.start, we.end) == (aligned.phones[4].start, aligned.phones[5].end)
    assert we.end == pytest.approx(0.46 + 0.25, abs=0.0201)
    assert hello.confidence == pytest.approx(0.8 * 0.7 * 0.6 * 0.5, abs=2e-3)
    assert aligned.duration == 1.015


def test_phones_alone_have_no_words():
    aligned = align(recogniser("HH AY"), SECOND, phones="HH AY")
    assert aligned.words == []
    assert [phone.confidence for phone in aligned.phones] == pytest.approx([0.8, 0.7], abs=1e-3)
    spikes, blanks = np.log(0.8) + np.log(0.7), 98 * np.log(1 - 1e-4 * 39)
    assert aligned.score == pytest.approx((spikes + blanks) / 100, abs=1e-4)
    assert align(recogniser("HH AY"), SECOND, phones=["HH", "AY"]) == aligned


def test_a_wrong_text_scores_less():
    heard = recogniser("HH AY")
    assert align(heard, SECOND, phones="HH OW").score < align(heard, SECOND, phones="HH AY").score


def test_goodness_is_there_where_it_is_asked_for():
    """What was heard is surely right; a phone that was not heard is surely wrong."""
    heard = recogniser("HH AY", peak=0.99)
    assert align(heard, SECOND, phones="HH AY").goodness is None
    right, wrong = (align(heard, SECOND, phones=text, with_goodness=True).goodness for text in ("HH AY", "HH OW"))
    assert right[0] == pytest.approx(0, abs=0.05)
    assert wrong[1] < -3 < right[1]


def test_confidences_go_through_the_calibration():
    heard = recogniser("HH", calibration=Calibration((0.0, 1.0), (0.0, 0.5)))
    assert align(heard, SECOND, phones="HH").phones[0].confidence == pytest.approx(0.4, abs=1e-3)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({}, "either the words or the phones"),
        ({"words": "a", "phones": "AH"}, "either the words or the phones"),
        ({"words": "… !"}, "text is empty"),
        ({"phones": " "}, "text is empty"),
        ({"phones": "HH ay"}, "phone 'ay' at position 2 of 2 is not one of the model's"),
        ({"phones": "HH <blank>"}, "'<blank>' at position 2"),
        ({"words": "hello brillig slithy", "g2p": False}, r"not in the dictionary: 'brillig', 'slithy'.*--g2p"),
        ({"words": "room \N{CJK UNIFIED IDEOGRAPH-65E5}"}, "has no pronunciation"),
        ({"words": "hello", "lexicon": {"hello": [("HH", "QQ")]}}, "'hello' has the phone 'QQ'"),
    ],
)
def test_what_cannot_be_aligned_is_one_line(what, message):
    with pytest.raises(AsrError, match=message) as caught:
        align(recogniser("HH"), SECOND, **what)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("corpora", [None, "mini"])
def test_a_models_lexicon_comes_before_the_dictionary_and_behind_a_given_one(corpora, tmp_path):
    (tmp_path / "lexicon.txt").write_text("hello\tHH AY1\n")
    name = str(tmp_path / "lexicon.txt")

    def phones_of(said, words, **more):
        heard = recogniser(said)
        data = replace(heard.model.config.data, lexicon={corpora: name} if corpora else name)
        heard = Recogniser(replace(heard.model, config=replace(heard.model.config, data=data)), beam_size=1)
        return " ".join(phone.label for phone in align(heard, SECOND, words=words, **more).phones)

    assert phones_of("HH AY", "Hello") == "HH AY"
    assert phones_of("L OW", "low") == "L OW"
    assert phones_of("B IY", "hello", lexicon={"hello": [("B", "IY")]}) == "B IY"


@pytest.mark.parametrize("corpora", [None, "mini"])
def test_unknown_words_are_guessed_by_the_joint_ngram_of_the_models_folder(corpora, tmp_path):
    (tmp_path / "lexicon.txt").write_text("zub\tB AH HH\nzu\tB AH\nub\tAH HH\n")
    settings = {"lexicon": str(tmp_path / "lexicon.txt"), "g2p": str(tmp_path / "g2p")}
    lm_folder.save(Path(settings["g2p"]), pronunciations.learn(lexicons.read(settings["lexicon"])).lm, "")
    heard = recogniser("HH")
    own = {name: {corpora: value} if corpora else value for name, value in settings.items()}
    config = replace(heard.model.config, data=replace(heard.model.config.data, **own))
    heard = Recogniser(replace(heard.model, config=config), beam_size=1)
    aligned = align(heard, SECOND, words="buz low grik")
    said = [phone.label for phone in aligned.phones]
    assert said[:3] == ["HH", "AH", "B"]
    assert said[3:5] == ["L", "OW"]
    assert said[5:] == list(by_rules("grik"))  # letters that the lexicon lacks
    assert aligned.guessed == ["buz", "grik"]
    with pytest.raises(AsrError, match="not in the dictionary: 'buz'"):
        align(heard, SECOND, words="buz", g2p=False)


def test_the_sound_of_words_that_the_dictionary_lacks_is_guessed_and_said_so():
    aligned = align(recogniser("HH"), SECOND, words="brillig")
    assert [word.label for word in aligned.words] == ["brillig"]
    assert aligned.guessed == ["brillig"]
    assert [phone.label for phone in aligned.phones][:3] == ["B", "R", "IH"]


def test_timit_models_take_phones_and_no_words():
    heard = recogniser("h# hh ay h#", tokens=TIMIT)
    aligned = align(heard, SECOND, phones="h# hh ay h#")
    assert [phone.end for phone in aligned.phones[:3]] == [phone.start for phone in aligned.phones[1:]]
    assert (aligned.phones[0].start, aligned.phones[-1].end) == (0, 1.015)
    with pytest.raises(AsrError, match="ARPAbet"):
        align(heard, SECOND, words="hi")


def test_more_phones_than_frames_names_the_file_and_the_counts(tmp_path):
    soundfile.write(tmp_path / "a.wav", SECOND, 16000)
    with pytest.raises(InfeasibleError, match=r"a.wav: 98 phones need at least 123 frames, .* 100 of 10 ms") as caught:
        align(recogniser("HH"), tmp_path / "a.wav", phones="HH HH " + 24 * "AY T T OW ")
    assert "\n" not in str(caught.value)
    with pytest.raises(AudioError, match=r"b\.wav"):
        align(recogniser("HH"), tmp_path / "b.wav", phones="HH")
    soundfile.write(tmp_path / "short.wav", np.zeros(300), 16000)
    with pytest.raises(AudioError, match=r"short\.wav"):
        align(recogniser("HH"), tmp_path / "short.wav", phones="HH")


def test_texts_are_found_beside_the_recordings(tmp_path):
    (tmp_path / "x" / "deep").mkdir(parents=True)
    for name in ("b.wav", "a.flac", "x/c.wav", "x/deep/1-2-3.flac", "x/deep/1-2-4.flac", "lonely.wav"):
        (tmp_path / name).touch()
    (tmp_path / "b.txt").write_text("the text of b\n")
    (tmp_path / "a.lab").write_text("12 30 miles\n")
    (tmp_path / "lonely.lab").write_text("0 1500000 HH\n1500000 3000000 AY\n")  # labels with times are no text
    (tmp_path / "x/c.txt").write_bytes("caf\xe9".encode("latin1"))
    (tmp_path / "x/deep/1-2.trans.txt").write_text("1-2-3 ONE TWO\n1-2-5 FIVE\n")
    paths = recordings.find(tmp_path)
    assert [path.name for path in paths] == ["a.flac", "b.wav", "lonely.wav", "c.wav", "1-2-3.flac", "1-2-4.flac"]
    texts = {}
    for path in paths:
        try:
            texts[path.name] = texts_beside.find(path)
        except CorpusError as error:
            texts[path.name] = error
    assert {name: text for name, text in texts.items() if isinstance(text, str)} == {
        "a.flac": "12 30 miles",
        "b.wav": "the text of b",
        "1-2-3.flac": "ONE TWO",
    }
    assert texts["lonely.wav"] is None
    assert "not UTF-8" in str(texts["c.wav"])
    assert texts["1-2-4.flac"] is None


def test_formats_hold_the_same_times():
    aligned = align(recogniser("HH AY"), SECOND, words="hi", with_goodness=True)
    values = json.loads(render(aligned, "json", "a.wav"))
    assert [Segment(**word) for word in values["words"]] == aligned.words
    assert [phone.pop("goodness") for phone in values["phones"]] == aligned.goodness
    assert [Segment(**phone) for phone in values["phones"]] == aligned.phones
    assert (values["path"], values["duration"]) == ("a.wav", 1.015)
    grid = render(aligned, "textgrid", "a")
    assert grid.index('"words"') < grid.index('"hi"') < grid.index('"phones"') < grid.index('"HH"')
    fields = [line.split() for line in render(aligned, "ctm", "a").splitlines()]
    assert [(row[0], row[4]) for row in fields] == [("a", "HH"), ("a", "AY")]
    assert [float(row[2]) for row in fields] == [phone.start for phone in aligned.phones]
    fields = [line.split("\t") for line in render(aligned, "audacity", "a").splitlines()]
    assert [(float(row[0]), float(row[1]), row[2]) for row in fields] == [
        (phone.start, phone.end, phone.label) for phone in aligned.phones
    ]
    assert aligned.to_textgrid() == grid
    assert aligned.to_json("a.wav") + "\n" == render(aligned, "json", "a.wav")
    assert [phone.label for phone in aligned.ipa.phones] == ["h", "aɪ"]
    assert aligned.ipa.words == aligned.words


def test_a_small_trained_network_finds_most_boundaries_and_more_than_the_spikes(trained):
    """Against the synthesiser's times; the lag comes from a dev speaker, as in a model folder."""
    heard = Recogniser.from_pretrained(trained.run)
    heard.model = replace(heard.model, calibration=Calibration())  # the run may have been calibrated
    dev, test = (list(splits.load_split(trained.manifests, ["timit"], split)) for split in ("dev", "test"))
    sounds = {cut.id: audio.load(cut.recording.sources[0].source) for cut in dev + test}
    model = heard.model
    pairs = []
    for cut in dev:
        text = Spellings.of_phones([phone.label for phone in true_times(cut)])
        pairs += zip(true_times(cut), model.align(text, heard.emissions(sounds[cut.id])).phones, strict=True)
    offset = fit_boundary_offset([true.start for true, _ in pairs], [found.start for _, found in pairs])
    fitted = Recogniser(replace(model, calibration=Calibration(boundary_offset=offset)))
    errors = {"ours": [], "first frames": [], "mid-points": []}
    for cut in test:
        true = true_times(cut)
        aligned = align(fitted, sounds[cut.id], phones=[phone.label for phone in true])
        errors["ours"].append(boundary_errors(true, aligned.phones))
        tokens = [model.tokens.index(phone.label) for phone in true]
        (spikes,) = forced_align(heard.emissions(sounds[cut.id])[:, None], np.array([tokens]))
        starts = np.array([phone.start for phone in true[1:]])
        errors["first frames"].append(spikes.starts[1:] * model.frame_shift - starts)
        errors["mid-points"].append((spikes.starts[1:] + spikes.ends[:-1]) / 2 * model.frame_shift - starts)
    within = {name: summary(name, each)["within"]["20"] for name, each in errors.items()}
    assert within["ours"] > 70, within
    assert within["ours"] > max(within["first frames"], within["mid-points"]) + 3, within
    assert within["first frames"] > 20, within
