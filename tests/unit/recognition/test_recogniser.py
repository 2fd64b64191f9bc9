"""The recogniser: phones, times and confidences of posteriors that are known, from files and arrays of every kind."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

import asr
from asr.core import errors
from asr.core.config import from_dict
from asr.core.errors import AudioError
from asr.models.calibration import Calibration
from asr.models.ctc import CTCModel
from asr.recognition.align import align
from asr.recognition.recogniser import Recogniser, Transcript
from asr.speech import audio
from asr.speech.normaliser import Normaliser
from asr.speech.segments import Segment

TOKENS = ("<blank>", "AA", "B", "T")


class Scripted(nn.Module):
    """An encoder that says what it was told, whatever it hears."""

    def __init__(self, probs, subsampling):
        super().__init__()
        self.probs, self.subsampling = torch.tensor(probs), subsampling

    def forward(self, features, lengths):
        lengths = -(-lengths // self.subsampling)
        assert lengths.tolist() == [len(self.probs)], lengths
        return torch.log(self.probs)[:, None] + 3, lengths  # not normalised: that is the model's task


class Hearing(nn.Module):
    """An encoder whose logits are its features."""

    subsampling = 1

    def forward(self, features, lengths):
        return features.transpose(0, 1)[..., :4], lengths


def recogniser(encoder, beam_size=1, calibration=None, **features):
    config = from_dict({"data": {"corpora": {"mini": None}}, "features": features, "decode": {"beam_size": 5}})
    return Recogniser(
        CTCModel(config, TOKENS, Normaliser(config.features), calibration or Calibration(), encoder), beam_size
    )


def spikes(num_frames, **labels):
    """Posteriors (T, 4): blank but for one spike of 0.8 for each label at its frame."""
    probs = np.full((num_frames, 4), 0.01)
    probs[:, 0] = 0.97
    for label, frame in labels.items():
        probs[frame] = 0.05
        probs[frame, 0], probs[frame, TOKENS.index(label)] = 0.1, 0.8
    return probs.astype(np.float32)


def seconds(num_frames):
    """Make a waveform of so many frames."""
    return np.zeros(400 + 160 * (num_frames - 1), np.float32)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_neighbours_meet_halfway_and_a_phone_reaches_a_quarter_second(beam_size):
    """Spikes in frames 10, 16 and 80 of 100, the first two ending at 0.11 and 0.17 s, the last two starting at 0.16
    and 0.8 s; the end is at 1.015 s. In silence nothing says more, and boundaries are on a grid of 10 ms.
    """
    said = recogniser(Scripted(spikes(100, AA=10, T=16, B=80), 1), beam_size).transcribe(seconds(100), 16000)
    assert [phone.label for phone in said] == ["AA", "T", "B"]
    assert [phone.start for phone in said] == pytest.approx([0, 0.135, 0.55], abs=0.0101)
    assert [phone.end for phone in said] == pytest.approx([0.135, 0.42, 1.015], abs=0.0101)
    assert said.phones[0].end == said.phones[1].start
    assert [phone.confidence for phone in said] == pytest.approx([0.8 / 1.0] * 3, abs=1e-3)
    assert said.duration == pytest.approx(1.015, abs=1e-3)
    assert str(said) == "AA T B"


def test_the_models_calibration_moves_starts_and_maps_confidences():
    """Starts move by 30 ms, and a posterior of 0.8 is right half of the time."""
    scripted = Scripted(spikes(100, AA=10, T=16), 1)
    plain = recogniser(scripted).transcribe(seconds(100), 16000)
    fitted = recogniser(scripted, calibration=Calibration((0.0, 0.8, 1.0), (0.0, 0.5, 1.0), 0.03))
    said = fitted.transcribe(seconds(100), 16000)
    assert said.phones[1].start - plain.phones[1].start == pytest.approx(0.03, abs=0.0101)
    assert [phone.confidence for phone in said] == pytest.approx([0.5, 0.5], abs=1e-3)


def test_phones_stay_within_the_audio():
    said = recogniser(Scripted(spikes(40, AA=0, B=39), 1)).transcribe(seconds(40), 16000)
    assert said.phones[0].start == 0
    assert said.phones[-1].end <= said.duration
    assert said.phones[-1].end > said.phones[-1].start


def test_times_with_stacked_frames():
    """Output frame 11 of 30 ms is from 0.33 to 0.36 s, from which the phone reaches 0.25 s to both sides."""
    said = recogniser(Scripted(spikes(33, AA=11), 3)).transcribe(seconds(98), 16000)
    (phone,) = said.phones
    assert (phone.start, phone.end) == pytest.approx((0.08, 0.61), abs=0.0151)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_nothing_said_is_an_empty_line(beam_size):
    said = recogniser(Scripted(spikes(20), 1), beam_size).transcribe(seconds(20), 16000)
    assert len(said.phones) == 0
    assert str(said) == ""


def test_beam_search_can_find_what_the_best_path_cannot():
    """Two frames of (0.4 blank, 0.3 AA, 0.3 B): the best path is blank, p = 0.16; AA has 0.33."""
    probs = np.array([[0.4, 0.4, 0.1, 0.1]] * 2, np.float32)
    probs[:, 0] += 0.001
    assert str(recogniser(Scripted(probs, 1), 1).transcribe(seconds(2), 16000)) == ""
    assert str(recogniser(Scripted(probs, 1), 4).transcribe(seconds(2), 16000)) == "AA"


def test_the_beam_is_the_models_own_unless_another_is_asked_for():
    encoder = Scripted(spikes(2), 1)
    assert recogniser(encoder, None).beam_size == 5
    assert recogniser(encoder, 1).beam_size == 1


def test_silence_is_a_hypothesis_and_unsure_phones_are_none():
    """Of a network that is sure of speech, nothing at all stays in the list, and what it is not sure of does not."""
    sure = Calibration((0.0, 1.0), (0.0, 1.0))
    for prob, expected in ((0.6, {("AA",), ()}), (0.4, {()})):
        probs = np.array([[0.95 - prob, prob, 0.03, 0.02]], np.float32)
        heard = recogniser(Scripted(probs, 1), 4, sure)
        decode = replace(heard.model.config.decode, nbest=2)
        heard = Recogniser(heard.model.with_decoding(decode), 4)
        found = heard.transcribe(seconds(1), 16000)
        assert {each.labels for each in found.nbest} == expected
        assert all(-2 < each.score < 0 for each in found.nbest)


@pytest.mark.parametrize("nbest", [1, 4])
def test_a_long_recording_is_put_together_from_pieces(nbest, rng):
    noise = 0.1 * rng.standard_normal(90 * 16000)
    long = recogniser(Hearing(), beam_size=5, num_mel_bins=4, use_energy=False, delta_order=0)
    decode = replace(long.model.config.decode, nbest=nbest)
    found = Recogniser(replace(long.model, config=replace(long.model.config, decode=decode)), 5).transcribe(
        noise, 16000
    )
    times = [time for phone in found.phones for time in (phone.start, phone.end)]
    assert times == sorted(times)
    assert 60 < times[-1] <= found.duration == 90
    if nbest == 1:
        assert found.nbest == ()
        return
    labels, scores, words = zip(*found.nbest, strict=True)
    assert {*words} == {None}
    assert len({*labels}) == len(labels) == nbest
    assert list(scores) == sorted(scores, reverse=True)
    assert labels[0] == tuple(phone.label for phone in found.phones)


def test_json_holds_everything():
    said = recogniser(Scripted(spikes(30, AA=10, T=16), 1)).transcribe(seconds(30), 16000)
    values = json.loads(said.to_json("ä.wav"))
    assert values["path"] == "ä.wav"
    assert values["duration"] == said.duration
    assert [Segment(**phone) for phone in values["phones"]] == list(said)
    assert "path" not in json.loads(said.to_json())
    assert "\n" not in said.to_json("a.wav")


@pytest.fixture
def hearing():
    return recogniser(Hearing(), cmvn="utterance")


def test_file_and_array_of_any_kind_are_heard_alike(hearing, tmp_path, rng):
    tone = 0.3 * np.sin(np.arange(24000) * 0.05) + 0.05 * rng.standard_normal(24000)
    soundfile.write(tmp_path / "a.wav", tone, 16000, subtype="FLOAT")
    expected = hearing.transcribe(str(tmp_path / "a.wav"))
    assert len(expected.phones) > 3
    assert hearing.transcribe(tmp_path / "a.wav") == expected
    assert hearing.transcribe(tone.astype(np.float32), 16000) == expected
    assert hearing.transcribe(np.stack([tone, tone], axis=1), 16000) == expected
    assert hearing.transcribe(np.repeat(tone, 2), 32000).duration == expected.duration
    np.testing.assert_array_equal(hearing.emissions(audio.load(tmp_path / "a.wav")).shape, (148, 4))


@pytest.mark.parametrize("num_samples", [0, 1, 399])
def test_too_short_an_array_is_one_line(hearing, num_samples):
    with pytest.raises(AudioError) as caught:
        hearing.transcribe(np.zeros(num_samples, np.float32), 16000)
    assert "\n" not in str(caught.value)
    assert hearing.transcribe(np.zeros(400, np.float32), 16000).duration == 0.025


def test_too_short_a_file_is_named(hearing, tmp_path):
    soundfile.write(tmp_path / "short.wav", np.zeros(399), 16000)
    with pytest.raises(AudioError, match=r"short.wav: audio of 399 samples .* give at least 400 samples \(25 ms\)"):
        hearing.transcribe(tmp_path / "short.wav")


def test_the_names_at_the_top_of_the_package():
    assert asr.Recogniser is Recogniser
    assert asr.align is align
    assert {*dir(errors)} & {*asr.__all__} == {each for each in dir(errors) if each.endswith("Error")}
    assert all(getattr(asr, name).__name__ == name for name in asr.__all__)
    with pytest.raises(AttributeError, match="Recognizer"):
        asr.Recognizer  # noqa: B018


def test_a_transcript_is_a_value():
    phone = Segment("AA", 0.0, 0.1, 0.9)
    assert Transcript([phone], 0.5) == Transcript([phone], 0.5)
    assert list(Transcript([phone], 0.5)) == [phone]
