"""Scores of learners' speech: named mistakes, the page, and what must not change them."""

import csv
import json
import re
from html import escape

import numpy as np
import pytest
from scipy.signal import lfilter

from asr.core.errors import InfeasibleError
from asr.models.pronunciation_features import Evidence
from asr.recognition import pronunciation_page
from asr.recognition.align import align
from asr.recognition.pronounce import Mistake, mistakes, name_words, pronounce
from asr.recognition.recogniser import Recogniser
from asr.recognition.render_pronunciation import coloured
from asr.speech import audio
from asr.speech.segments import Segment


@pytest.fixture(scope="module")
def recogniser():
    return Recogniser.from_pretrained("en-us-phones")


@pytest.fixture(scope="module")
def think(say, tmp_path_factory):
    path = tmp_path_factory.mktemp("spoken") / "think.wav"
    say("I think that the sun is hot", path)
    return audio.load(path)


def test_mistakes_are_named(recogniser):
    """By construction: S for TH, a T left out, an AH put in behind N."""
    tokens = recogniser.model.tokens
    index = {token: i for i, token in enumerate(tokens)}
    text = np.array([index[phone] for phone in ("TH", "IH", "N", "T")])
    substitutions = np.full((4, len(tokens)), -9.0)
    substitutions[np.arange(4), text] = 0.0
    substitutions[0, index["S"]], substitutions[3, 0] = 4.0, 6.0
    insertions = np.full((5, len(tokens)), -9.0)
    insertions[3, index["AH"]] = 8.0
    times = np.array([[0.1, 0.2], [0.2, 0.3], [0.3, 0.4], [0.4, 0.5]])
    evidence = Evidence(text, np.array([4]), substitutions, insertions, times, np.ones(4), 0.0)
    found = mistakes(evidence, np.array([0.1, 2.0, 2.0, 0.2]), recogniser.scorer)
    assert [str(each) for each in found] == ["said S for TH", "put in AH", "left out T"]
    assert [(each.phone, each.start, each.end) for each in found] == [(0, 0.1, 0.2), (2, 0.3, 0.5), (3, 0.4, 0.5)]


def test_a_word_for_which_something_else_was_said_is_one_mistake(recogniser):
    """By construction: of "I shoe it" the phones of the second word are far from what is heard."""
    tokens = recogniser.model.tokens
    index = {token: i for i, token in enumerate(tokens)}
    text = np.array([index[phone] for phone in ("AY", "SH", "UW", "IH", "T")])
    substitutions = np.full((5, len(tokens)), -9.0)
    substitutions[np.arange(5), text] = 0.0
    substitutions[1, index["G"]], substitutions[2, index["AH"]] = 7.0, 6.0
    times = np.array([[0.1, 0.2], [0.2, 0.3], [0.3, 0.4], [0.4, 0.5], [0.5, 0.6]])
    evidence = Evidence(text, np.array([1, 2, 2]), substitutions, np.full((6, len(tokens)), -9.0), times, np.ones(5), 0)
    heard = [Segment(phone, 0.1 * k, 0.1 * (k + 1)) for k, phone in enumerate(("AY", "G", "AH", "IH", "T"), 1)]
    found = name_words([1], evidence, heard, tokens)
    assert found == {1: Mistake(1, 1, "SH UW", "G AH", 0.2, 0.4)}
    assert str(found[1]) == "said G AH for SH UW"
    assert str(name_words([1], evidence, [heard[0], *heard[3:]], tokens)[1]) == "left out SH UW"
    same = [Segment(phone, 0.1 * k, 0.1 * (k + 1)) for k, phone in enumerate(("AY", "SH", "UW"), 1)]
    assert name_words([1], evidence, same, tokens) == {}  # it was said, after all


def test_a_word_that_nobody_says_is_named_and_its_phones_are_wrong(recogniser, think):
    found = pronounce(recogniser, think, "I think that the wolf is hot", sample_rate=16000)
    (fault,) = [each for each in found.mistakes if found.words[each.word].label == "wolf"]
    assert fault.expected == "W UH L F"
    assert fault.heard.startswith("S ")  # of "sun"
    first = sum(found.word_lengths[: fault.word])
    assert [found.grade(k) for k in range(first, first + 4)] == ["wrong"] * 4
    assert found.word_grade(fault.word) == "wrong"
    assert found.ipa.mistakes[found.mistakes.index(fault)].expected == "w ʊ l f"
    right = pronounce(recogniser, think, "I think that the sun is hot", sample_rate=16000)
    assert not any(" " in (each.expected or "") for each in right.mistakes)


def test_a_text_that_nobody_says_has_no_scores_but_of_words_that_are_heard(recogniser, think):
    """A synthetic voice says something else: two words of the text are its own."""
    found = pronounce(recogniser, think, "I think a mother of five likes to eat", sample_rate=16000)
    right = pronounce(recogniser, think, "I think that the sun is hot", sample_rate=16000)
    assert [word.label for word in right.words] == ["I", "think", "that", "the", "sun", "is", "hot"]
    assert sum(right.word_lengths) == len(right.phones) == len(right.phone_scores)
    assert (found.scores, right.misfit, None in right.phone_scores) == (None, None, False)
    assert "words are not heard" in found.misfit
    scored = [word.label for word, scores in zip(found.words, found.word_scores, strict=True) if scores is not None]
    assert scored[:2] == ["I", "think"]
    assert not {"five", "likes", "eat"} & {*scored}
    values = json.loads(found.to_json())
    assert (values["scores"], values["misfit"]) == (None, found.misfit)
    eat = values["words"][-1]
    assert (eat["accuracy"], eat["stress"], eat["total"], eat["grade"]) == (None, None, None, "wrong")
    assert {(phone["score"], phone["grade"]) for phone in eat["phones"]} == {(None, "wrong")}
    first, words, *faults = coloured(found).plain.splitlines()
    assert first == f"no scores: {found.misfit}"
    assert words.startswith("I [AY")
    assert words.endswith("eat [not heard]")
    assert any(line.startswith("  eat: ") for line in faults)
    page = pronunciation_page.render([pronunciation_page.Entry("a", found)])
    assert "<b>No scores</b>" in page
    assert escape(found.misfit) in page
    assert 'title="not heard"' in page
    assert [found.word_of(k) for k in (0, 1, 4, 5)] == [0, 1, 1, 2]


def test_where_some_words_are_not_heard_the_others_are_scored(recogniser, think):
    found = pronounce(recogniser, think, "everybody the sun is hot", sample_rate=16000)
    assert "of speech" in found.misfit
    assert [scores is None for scores in found.word_scores] == [True, False, False, False, False]
    lines = coloured(found, "a")
    assert lines.plain.startswith("a: accuracy ")
    styles = {lines.plain[span.start : span.end]: str(span.style) for span in lines.spans}
    assert (str(lines.style), styles["a: "], styles["hot"], styles["not heard"]) == ("", "bold", "green", "bold red")
    page = pronunciation_page.render([pronunciation_page.Entry("a", found)])
    assert escape(found.misfit) in page
    assert f"<b>{found.scores['total']:.1f}</b>" in page


def test_a_text_that_is_too_long_is_told_so(recogniser, think):
    with pytest.raises(InfeasibleError, match=r"phones need at least .*: check that the text is this recording's"):
        pronounce(recogniser, think, "This is a long text. " * 20, sample_rate=16000)


def test_the_phone_that_was_said_scores_higher(recogniser, think):
    right, wrong = (pronounce(recogniser, think, text, sample_rate=16000) for text in ("I think", "I pink"))
    assert right.phone_scores[1] > wrong.phone_scores[1]


def test_json_has_everything(recogniser, think):
    found = pronounce(recogniser, think, "I pink that the sun is hot", sample_rate=16000)
    values = json.loads(found.to_json("a.wav"))
    assert values["path"] == "a.wav"
    assert [word["label"] for word in values["words"]][:3] == ["I", "pink", "that"]
    assert [phone["label"] for word in values["words"] for phone in word["phones"]] == [p.label for p in found.phones]
    assert all(0 <= phone["score"] <= 2 for word in values["words"] for phone in word["phones"])
    assert {"accuracy", "stress", "total"} <= values["words"][0].keys()
    assert len(values["mistakes"]) == len(found.mistakes)


def test_a_page_plays_words_phones_and_mistakes_and_asks_for_nothing(recogniser, think, tmp_path):
    text = "I pink that"
    found = pronounce(recogniser, think, text, sample_rate=16000)
    same = align(recogniser, think, text, sample_rate=16000)
    pronunciation_page.write(tmp_path / "a.html", [pronunciation_page.Entry("<a> & b", found, same)])
    page = (tmp_path / "a.html").read_text(encoding="utf8")
    buttons = re.findall(r"<button [^>]*data-start=[^>]*>", page)
    assert len(buttons) == len(found.words) + len(found.phones) + len(found.mistakes)
    assert all("data-reference=" in button for button in buttons)
    assert page.count("data:audio/ogg;base64,") == 2
    assert "&lt;a&gt; &amp; b" in page
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["'](?!data:)|https?://""", page)


LEARNERS = 15  # utterances


@pytest.mark.corpus
@pytest.mark.parametrize(("change", "most"), [("silence", 0.2), ("gain", 0.01), ("microphone", 0.05)])
def test_silence_gain_and_microphone_hardly_change_scores(recogniser, speech_data, change, most, rng):
    """A score of the sentence moves by a tenth of its range at most, and so do 19 of 20 phones.

    Of one of these recordings two of five words are not heard, or are, so that it may have no scores of the sentence.
    """
    moved, sentence, num_without = [], [], 0
    for waveform, text, *_ in learners(speech_data, LEARNERS):
        noise = 1e-3 * rng.normal(size=16000).astype(np.float32)
        changed = {
            "silence": lambda x, noise=noise: np.concatenate([noise, x, noise]),
            "gain": lambda x: 0.1 * x,
            "microphone": lambda x: lfilter([1, -0.3], [1, 0.2], x).astype(np.float32),  # brighter by 9 dB
        }[change](waveform)
        before, after = (pronounce(recogniser, each, text, sample_rate=16000) for each in (waveform, changed))
        if before.scores is None or after.scores is None:
            num_without += 1
        else:
            sentence += [after.scores[name] - value for name, value in before.scores.items()]
        if [phone.label for phone in before.phones] == [phone.label for phone in after.phones]:
            scores = [[-1.0 if score is None else score for score in each.phone_scores] for each in (before, after)]
            moved += np.subtract(*scores).tolist()
    assert num_without <= 1
    assert np.abs(sentence).max() <= 1.0
    assert np.percentile(np.abs(moved), 95) <= most


@pytest.mark.corpus
def test_agrees_with_experts(recogniser, speech_data):
    found, known = [], []
    for waveform, text, phones, scores in learners(speech_data):
        scored = pronounce(recogniser, waveform, text, sample_rate=16000)
        if [phone.label for phone in scored.phones] == phones:  # the dictionary may have other pronunciations
            heard = [i for i, score in enumerate(scored.phone_scores) if score is not None]  # of words that are heard
            found += [scored.phone_scores[i] for i in heard]
            known += [scores[i] for i in heard]
    assert len(found) > 400
    # 0.65 over all 47,369 phones of the test set; these are a hundredth of them.
    assert np.corrcoef(found, known)[0, 1] > 0.35


def learners(speech_data, most=None):
    """Waveform, text, phones and the experts' scores of them, of test utterances."""
    corpus = speech_data / "speechocean762-mini"
    with (speech_data / "speechocean762-phone-scores.csv").open(newline="", encoding="utf8") as lines:
        rows = {row["file_name"].removesuffix(".WAV"): row for row in csv.DictReader(lines)}
    texts = dict(line.split("\t") for line in (corpus / "test" / "text").read_text(encoding="utf8").splitlines())
    for line in (corpus / "test" / "wav.scp").read_text(encoding="utf8").splitlines()[:most]:
        name, place = line.split()
        (path,) = (corpus / place).parent.glob(f"{name}.*")
        scores = [float(each) for each in rows[name]["p_scores"].split()]
        yield audio.load(path), texts[name].lower(), rows[name]["transcription"].split(), scores
