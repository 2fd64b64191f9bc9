"""Word models: what a folder holds for each acoustic model; the shipped one in Python and on a command line."""

import functools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from asr import Recogniser
from asr.core.errors import AsrError, ConfigError, ModelError
from asr.ctc import Hypothesis
from asr.lm import folder, search
from asr.lm.config import RecurrentConfig
from asr.lm.estimation import estimate
from asr.lm.graphones import spelling
from asr.lm.language_model import UNKNOWN
from asr.lm.word_search import spell_unknown
from asr.models import model_folder
from asr.models.calibration import Calibration
from asr.models.word_model import DEFAULT, SETTINGS, WordModel
from asr.speech.label_files import read_labels, read_segments
from asr.speech.pronounce import pronunciations
from asr.training.recurrent_lm import Network

RECORDING = Path(__file__).parents[3] / "docs" / "audio" / "glorious-scrap.flac"
SAID = "i'd say there was going to be a glorious scrap"
TUNED = {"beam_size": 40, "lm_weight": 0.9, "insertion_penalty": -0.25, "label_prior_scale": 0.5}
MAP = Calibration((0.0, 1.0), (0.25, 0.75))


def test_what_is_stored_for_an_acoustic_model_is_loaded_and_that_of_others_stays(tmp_path):
    WordModel(TUNED, MAP).store(tmp_path, "en-us-phones")
    WordModel({**TUNED, "lm_weight": 1.1}).store(tmp_path, "mine")
    found = WordModel.load(tmp_path, "en-us-phones")
    assert (found.decode, found.calibration) == ({"lm": str(tmp_path), **TUNED}, MAP)
    assert WordModel.load(tmp_path, "mine").decode["lm_weight"] == 1.1
    assert WordModel.load(tmp_path, "mine").calibration == Calibration()
    assert WordModel.load(tmp_path, "another") == found  # what the first one has
    WordModel(TUNED).store(tmp_path, "mine")
    assert [*json.loads((tmp_path / SETTINGS).read_text())] == ["en-us-phones", "mine"]


def test_a_folder_may_bring_its_lexicon_and_a_run_folder_holds_the_model(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / folder.ABOUT).write_text("{}")
    (tmp_path / "model" / "lexicon.txt").write_text("a AH\n")
    WordModel(TUNED).store(tmp_path / "model", "mine")
    found = WordModel.load(tmp_path, "mine").decode
    assert found == {"lm": str(tmp_path), "lexicon": str(tmp_path / "model" / "lexicon.txt"), **TUNED}


def test_what_was_not_tuned_takes_the_settings_of_the_shipped_model(tmp_path, monkeypatch):
    shipped, found = WordModel.load(DEFAULT, "mine"), WordModel.load(tmp_path / "a.arpa", "mine")
    kept = {key: value for key, value in shipped.decode.items() if not key.startswith("rescore")}
    assert {**kept, "lm": 0} == {**found.decode, "lm": 0, "lexicon": shipped.decode["lexicon"]}
    assert found.decode["lm"] == str(tmp_path / "a.arpa")
    assert "lexicon" not in found.decode
    assert found.calibration == Calibration()
    monkeypatch.setattr(search, "PRETRAINED", tmp_path)
    assert WordModel.load(tmp_path / "a.arpa", "mine").decode == {"lm": str(tmp_path / "a.arpa")}


def test_a_folder_gets_the_pronunciations_of_its_words(tmp_path, cli):
    folder.save(tmp_path / "words", estimate([["the", "zoo"], ["the", "gnarlish"]], "words", order=2), "")
    code, out, err = cli("lm", "lexicon", tmp_path / "words")
    assert (code, out, err) == (0, f"{tmp_path / 'words/lexicon.txt'}: 4 pronunciations of 3 words\n", "")
    lines = (tmp_path / "words/lexicon.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("gnarlish ")] == ["the DH AH", "the DH IY", "zoo Z UW"]
    assert WordModel.load(tmp_path / "words", "any").decode["lexicon"] == str(tmp_path / "words/lexicon.txt")
    folder.save(tmp_path / "phones", estimate([["AH", "Z"]], "phones", order=2), "")
    code, _, err = cli("lm", "lexicon", tmp_path / "phones")
    assert (code, err.count("\n"), "has no words to be pronounced" in err) == (2, 1, True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"mine": 1}',
        '{"mine": {"decode": {}}}',
        '{"mine": {"decode": {"beam": "wide"}, "posteriors": [], "probabilities": []}}',
        '{"mine": {"decode": {"lm_wait": 1.0}, "posteriors": [], "probabilities": []}}',
        '{"mine": {"decode": {"lm_weight": -1.0}, "posteriors": [], "probabilities": []}}',
        '{"mine": {"decode": {}, "posteriors": [0.5], "probabilities": []}}',
    ],
)
def test_damaged_settings_are_one_line(text, tmp_path):
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(ModelError, match=rf"{SETTINGS} is damaged \(.*\): copy the folder again") as error:
        WordModel.load(tmp_path, "mine")
    assert "\n" not in str(error.value)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder of shipped models with a word model that knows what is said, and other sentences."""
    monkeypatch.setattr(search, "PRETRAINED", tmp_path)
    others = ["there was a scrap", "i'd say glorious", "going to be there", "it was to be a say"]
    lm = estimate([text.split() for text in [SAID, SAID, *others]], "words", 3, "witten_bell")
    folder.save(tmp_path / DEFAULT, lm, "card")
    WordModel(TUNED, MAP).store(tmp_path / DEFAULT, "en-us-phones-small")
    return tmp_path / DEFAULT


def test_words_of_the_shipped_model(shipped):
    recogniser = Recogniser.from_pretrained("en-us-phones-small", words=True, lm_weight=0.8)
    decode = recogniser.model.config.decode
    assert (decode.lm_weight, decode.label_prior_scale, recogniser.beam_size) == (
        0.8,
        0.0,
        40,
    )  # what is given goes first, and a model without priors has no use for their scale
    said = recogniser.transcribe(RECORDING)
    assert said.text == SAID
    assert [word.label for word in said.words] == SAID.split()
    phones = iter(said.phones)
    for word in said.words:  # words and phones agree in time
        inside = [next(phones)]
        while inside[-1].end < word.end:
            inside.append(next(phones))
        assert (inside[0].start, inside[-1].end) == (word.start, word.end)
        assert tuple(phone.label for phone in inside) in pronunciations(word.label)
        assert 0.25 <= word.confidence <= 0.75  # the map's
    assert next(phones, None) is None
    assert Recogniser.from_pretrained("en-us-phones-small", words=DEFAULT).transcribe(RECORDING).text == SAID


@pytest.fixture
def rescored(shipped):
    """The word model with a recurrent one that never heard of a scrap."""
    text = [SAID.split(), SAID.split(), ["there", "was", "a", "scrap"]]
    lm = estimate(text, "words", 3, "witten_bell", [UNKNOWN, *sorted({*SAID.split()})])
    folder.save(shipped, lm, "card")
    tokens = lm.tokens
    torch.manual_seed(1)
    network = Network(RecurrentConfig(embedding_size=4, hidden_size=4), len(tokens))
    with torch.no_grad():
        network.output.bias[:] = 0
        network.output.bias[tokens.index("scrap")] = -100
    folder.save(shipped.parent / "lstm", network.lm("words", tokens), "card")
    tuned = TUNED | {"lm_weight": 1.0, "rescore_lm": "lstm", "rescore_weight": 0.6, "rescored_lm_weight": 0.4}
    WordModel(tuned, MAP).store(shipped, "en-us-phones-small")
    return shipped


def test_a_word_model_may_come_with_another_to_rescore_with(rescored, cli, tmp_path):
    recogniser = Recogniser.from_pretrained("en-us-phones-small", words=True, lm_weight=0.5)
    decode = recogniser.model.config.decode
    assert (decode.rescore_lm, decode.rescore_weight, decode.rescored_lm_weight) == ("lstm", 0.3, 0.2)
    several = [
        Recogniser.from_pretrained("en-us-phones-small", words=True, nbest=10, **more).transcribe(RECORDING).nbest
        for more in ({}, {"rescore_lm": None})
    ]
    after, before = ({each.words: each.score for each in found} for found in several)
    assert all(after[words] < before[words] - 50 for words in after if "scrap" in words)
    assert tuple(SAID.split()) in after
    command = ("transcribe", RECORDING, "--model", "en-us-phones-small", "--words", "--no-rescore")
    assert cli(*command).out == SAID + "\n"
    WordModel({**TUNED, "rescored_lm_weight": None}, MAP).store(rescored, "other")  # null is what the default is
    assert WordModel.load(rescored, "other").decode["rescored_lm_weight"] is None
    shutil.copytree(rescored, tmp_path / "mine")
    (tmp_path / "mine" / SETTINGS).unlink()
    assert "rescore_lm" not in WordModel.load(tmp_path / "mine", "any").decode  # it is of other words
    assert "this is for words: add --words" in " ".join(cli("transcribe", RECORDING, "--no-rescore").err.split())


def test_a_long_recording_is_cut_at_the_same_pauses_with_rescoring_and_without(rescored):
    emissions = np.random.default_rng(1).standard_normal((4000, 40)).astype(np.float32)
    emissions[:, 0] += 2
    emissions[1500:1540, 0] = emissions[2600:2640, 0] = 20
    emissions -= np.logaddexp.reduce(emissions, axis=1, keepdims=True)
    shipped = functools.partial(Recogniser.from_pretrained, "en-us-phones-small", words=True)
    stretches = [shipped(**more)._stretches(emissions) for more in ({}, {"rescore_lm": None})]
    assert stretches[0] == stretches[1]
    assert len(stretches[0]) == 3


def test_the_command_writes_words_in_every_format(shipped, cli, tmp_path):
    command = ("transcribe", RECORDING, "--model", "en-us-phones-small", "--words")

    def written(form, suffix):
        assert cli(*command, "--format", form, "--output-dir", tmp_path) == (0, "", "")
        return tmp_path / f"glorious-scrap{suffix}"

    assert cli(*command) == cli(*command, "--lm", shipped) == (0, SAID + "\n", "")
    values = json.loads(written("json", ".json").read_text())
    spans = [(word["start"], word["end"]) for word in values["words"]]
    assert " ".join(word["label"] for word in values["words"]) == SAID
    for form, suffix in (("ctm", ".ctm"), ("audacity", ".labels.txt")):
        (found,) = read_segments(written(form, suffix)).values()
        assert " ".join(each.label for each in found) == SAID
        assert [(round(each.start, 3), round(each.end, 3)) for each in found] == spans
    grid = written("textgrid", ".TextGrid").read_text()
    assert grid.index('"words"') < grid.index('"phones"')
    assert written("srt", ".srt").read_text().split("\n")[2] == SAID
    rows = written("tsv", ".tsv").read_text().split("\n")
    assert len(rows) == 3  # the sentence between the heading and the end
    assert rows[1].split("\t")[:3] == [f"{spans[0][0]:.3f}", f"{spans[-1][1]:.3f}", SAID]
    assert read_labels(tmp_path / "glorious-scrap.tsv") == {"glorious-scrap": SAID.split()}


def test_words_out_of_the_box(cli):
    said = Recogniser.from_pretrained("en-us-phones", words=True, nbest=3).transcribe(RECORDING)
    assert said.text in (SAID, SAID.replace("there was", "there's"))  # the WAS is hardly said
    assert cli("transcribe", RECORDING, "--words") == (0, said.text + "\n", "")
    assert len({(each.labels, each.words) for each in said.nbest}) == 3
    assert said.nbest[0].words == tuple(said.text.split())
    assert said.nbest[0].labels == tuple(phone.label for phone in said)


@pytest.fixture
def limited(tmp_path):
    """A word model that does not know the word glorious."""
    sentences = [text.split() for text in [SAID, SAID, "there was a scrap", "going to be there", "it was to be a say"]]
    known = {word for sentence in sentences for word in sentence} - {"glorious"}
    lm = estimate(sentences, "words", 3, "witten_bell", [UNKNOWN, *sorted(known)])
    folder.save(tmp_path / "limited", lm, "card")
    return tmp_path / "limited"


def test_an_unknown_word_is_spelt_or_given_by_its_phones(limited, cli, tmp_path):
    options = {"words": limited, "beam_size": 40, "lm_weight": 0.8}
    sounding, spelt = (
        Recogniser.from_pretrained("en-us-phones-small", unknown=unknown, **options).transcribe(RECORDING)
        for unknown in ("phones", "spelling")
    )
    assert spelt.text == Recogniser.from_pretrained("en-us-phones-small", **options).transcribe(RECORDING).text
    assert spelt.phones == sounding.phones
    ((one, other),) = [pair for pair in zip(sounding.words, spelt.words, strict=True) if pair[0] != pair[1]]
    assert (one.start, one.end, one.confidence) == (other.start, other.end, other.confidence)
    inside = [each.label for each in sounding.phones if one.start <= each.start < one.end]
    assert one.label == f"[{' '.join(inside)}]"
    assert re.fullmatch(r"\[[a-z']+\]", other.label)
    command = ("transcribe", RECORDING, "--model", "en-us-phones-small", "--words", "--lm", limited)
    command += ("--lm-weight", 0.8, "--beam-size", 40)
    for unknown, said in (((), spelt), (("--unknown", "spelling"), spelt), (("--unknown", "phones"), sounding)):
        assert cli(*command, *unknown) == (0, said.text + "\n", "")
        for form in ("json", "ctm", "textgrid", "srt", "tsv", "audacity"):
            label = next(word.label for word in said.words if "[" in word.label)
            label = label.replace(" ", "_") if form == "ctm" else label
            assert label in cli(*command, *unknown, "--format", form)[1]
    fault = "asr: --unknown must be one of spelling, phones, but it is 'letters'\n"
    assert cli(*command, "--unknown", "letters") == (2, "", fault)


def test_unknown_words_of_another_phone_set_stay_phones():
    said = Hypothesis((1, 2, 1), (0, 1, 2), -1.0, (1.0,) * 3, words=("[sh iy]", "a"), word_lengths=(2, 1))
    assert spell_unknown(said, ["<blank>", "sh", "iy"]).words == ("[sh iy]", "a")
    assert spell_unknown(said, ["<blank>", "SH", "IY"]).words == (
        "[sh iy]",
        "a",
    )  # a word of the model, which has the name
    said = Hypothesis((1, 2, 1), (0, 1, 2), -1.0, (1.0,) * 3, words=("[SH IY]", "a"), word_lengths=(2, 1))
    assert spell_unknown(said, ["<blank>", "SH", "IY"]).words == (f"[{spelling(('SH', 'IY'))}]", "a")


@pytest.mark.parametrize("level", [0.0, 1e-3])
def test_silence_has_no_words(level, rng):
    said = Recogniser.from_pretrained(words=True).transcribe(level * rng.standard_normal(48000), 16000)
    assert (said.phones, said.words, said.text) == ([], [], "")
    assert '"words": []' in said.to_json()


def test_a_model_without_priors_finds_words_with_settings_of_another(tmp_path):
    source = model_folder.find("en-us-phones-small")
    shutil.copytree(source, tmp_path / "model")
    values = json.loads((source / "calibration.json").read_text())
    del values["priors"]
    (tmp_path / "model" / "calibration.json").write_text(json.dumps(values))
    recogniser = Recogniser.from_pretrained(tmp_path / "model", words=True)
    assert recogniser.model.config.decode.label_prior_scale == 0
    assert len(recogniser.transcribe(RECORDING).words) > 5


def test_what_does_not_go_with_words(cli):
    with pytest.raises(ConfigError, match="leave lm out"):
        Recogniser.from_pretrained(words=True, lm=None)
    fault = "asr: --beam-size must be 2 or more for words, but it is 1\n"
    assert cli("transcribe", RECORDING, "--words", "--beam-size", 1) == (2, "", fault)
    assert Recogniser.from_pretrained(words=None).transcribe(RECORDING).words is None


def test_without_a_shipped_model_one_line_says_so(tmp_path, monkeypatch, cli):
    monkeypatch.setattr(search, "PRETRAINED", tmp_path)
    fault = f"{DEFAULT} is not part of this install: name a language model over words (--lm FOLDER)"
    with pytest.raises(ModelError) as error:
        Recogniser.from_pretrained(words=True)
    assert str(error.value) == fault
    assert cli("transcribe", RECORDING, "--words") == (2, "", f"asr: {fault}\n")


def test_a_language_model_over_phones_gives_no_words(tmp_path, cli):
    folder.save(tmp_path, estimate([["AH", "B"]], "phones", 2, "witten_bell"), "card")
    fault = f"{tmp_path} is over phones: words need a language model over words"
    with pytest.raises(AsrError, match="is over phones"):
        Recogniser.from_pretrained(words=tmp_path)
    assert cli("transcribe", RECORDING, "--words", "--lm", tmp_path) == (2, "", f"asr: {fault}\n")
