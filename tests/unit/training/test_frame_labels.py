"""Frames that are taught which label is said in them, beside a loss of label sequences."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from asr import encoders
from asr.core.config import FeatureConfig, from_dict
from asr.core.errors import ConfigError, InfeasibleError
from asr.data.batches import Batch, Drawn, LabelTargets, SpeechDataset, TextTargets
from asr.models.base import BLANK
from asr.speech.normaliser import Normaliser
from asr.speech.phones import PhoneSet
from asr.training import criteria, frame_labels
from asr.training.frame_labels import NOWHERE, FrameLabels, WithFrames, first_classes

TOKENS = (BLANK, "AA", "B", "CH")
TIMES = {"u": (np.array([[0.02, 0.08], [0.08, 0.11], [0.17, 0.23]], np.float32), np.array([2, 3, 1], np.int16))}


def spoken(name="u", text="", phones="B CH AA", lengths=()):
    said = SimpleNamespace(text=text, speaker="s", custom={"phones": phones, "word_lengths": [*lengths]})
    return SimpleNamespace(id=name, corpus="mine", phone_set="arpabet39", supervisions=[said])


def drawn(speed=1.0, before=0):
    return Drawn(np.random.default_rng(0), speed, (before, 0))


@pytest.fixture
def labels():
    return FrameLabels(LabelTargets(TOKENS, "arpabet39"), TIMES, subsampling=3)


@pytest.mark.parametrize(
    ("speed", "before", "expected"),
    [
        (1.0, 0, [0, 2, 2, 3, 0, 0, 1, 1, 0, 0]),  # the frames' middles are 15, 45, 75 ms and so on
        (1.0, 6, [0, 0, 0, 2, 2, 3, 0, 0, 1, 1]),
        (2.0, 0, [2, 3, 0, 1, 0, 0, 0, 0, 0, 0]),
        (0.5, 0, [0, 2, 2, 2, 2, 3, 3, 0, 0, 0]),
    ],
)
def test_each_frame_has_the_label_at_its_middle(labels, speed, before, expected):
    assert labels.frames(spoken(), drawn(speed, before), 10).tolist() == expected


def test_an_utterance_without_a_placed_label_is_blank():
    nothing = {"u": (np.empty((0, 2), np.float32), np.empty(0, np.int16))}
    assert FrameLabels(LabelTargets(TOKENS, "arpabet39"), nothing, 3).frames(spoken(), drawn(), 4).tolist() == [0] * 4


def test_where_nobody_speaks_all_frames_are_blank(labels):
    assert labels.frames(spoken(), drawn()._replace(has_speech=False), 4).tolist() == [0] * 4


def test_targets_are_those_of_the_labels_and_utterances_those_that_were_aligned(labels):
    assert labels(spoken(), 1.1) == [2, 3, 1]
    assert spoken() in labels
    assert spoken("other") not in labels


@pytest.mark.parametrize("views", [1, 2])
def test_batches_have_the_frames_at_the_speed_that_was_drawn(monkeypatch, views):
    texts = TextTargets(TOKENS, "arpabet39", [])
    targets = FrameLabels(texts, TIMES | {"v": TIMES["u"]}, subsampling=3)
    stores = {speed: {} for speed in (0.5, 1.0, 2.0)}
    dataset = SpeechDataset(stores, lambda features, speaker: features, targets, seed=3, views=views)
    monkeypatch.setattr(dataset, "features", lambda cut, speed: np.full((round(28 / speed), 2), speed, np.float32))
    cuts = [spoken("u"), spoken("v")]
    speeds = set()
    for epoch in range(6):
        dataset.epoch = epoch
        batch = dataset[cuts]
        assert batch.ids == ["u", "v"] * views
        assert batch.texts == tuple([texts.text(cuts[0])] * 2 * views)
        for row, features, length in zip(batch.frames, batch.features, batch.feature_lengths, strict=True):
            speed, steps = float(features[0, 0]), -(-int(length) // 3)
            speeds.add(speed)
            assert row[:steps].tolist() == targets.frames(cuts[0], drawn(speed), steps).tolist()
            assert (row[steps:] == NOWHERE).all()
    assert len(speeds) > 1


# --- the criterion


@pytest.fixture
def criterion(monkeypatch):
    config = from_dict(
        {"data": {"corpora": {"mini": None}}, "train": {"criterion": {"frames": "somewhere", "frame_weight": 0.5}}}
    )
    aligner = SimpleNamespace(config=config)
    monkeypatch.setattr(frame_labels.model_folder, "load", lambda name: aligner)
    return frame_labels.build(config)


@pytest.fixture
def batch(rng):
    lengths = torch.tensor([9, 5])
    frames = torch.from_numpy(rng.integers(0, 40, (2, 9)))
    frames[1, 5:] = NOWHERE
    targets = torch.tensor([[1, 7, 7], [39, 0, 0]])
    return Batch(["u0", "u1"], torch.zeros(2, 9, 4), lengths, targets, torch.tensor([3, 1]), frames=frames)


def test_the_loss_is_that_of_the_labels_and_the_cross_entropy_of_the_frames(criterion, batch, rng):
    assert isinstance(criterion, WithFrames)
    assert (criterion.num_classes, len(criterion.tokens)) == (80, 40)
    logits = torch.tensor(rng.normal(size=(9, 2, 80)), dtype=torch.float32, requires_grad=True)
    lengths, plain = torch.tensor([9, 5]), criteria.build(from_dict({"data": {"corpora": {"mini": None}}}))
    spelt, heard = logits[:, :, :40], logits[:, :, 40:].log_softmax(2)
    nats = [-heard[torch.arange(n), b, batch.frames[b, :n]].mean() for b, n in enumerate((9, 5))]
    torch.testing.assert_close(
        criterion(logits, lengths, batch), plain(spelt, lengths, batch) + 0.5 * (nats[0] + nats[1]) / 2
    )
    torch.testing.assert_close(criterion.each(logits, lengths, batch), plain.each(spelt, lengths, batch))
    criterion(logits, lengths, batch).backward()
    assert not logits.grad[5:, 1].any()  # padding
    short = replace(batch, frames=batch.frames[:, :8])  # of an encoder that rounds otherwise
    criterion(logits[:8], torch.tensor([8, 5]), short)


def test_the_model_has_the_classes_of_the_labels_alone(criterion, rng):
    network = encoders.build({"name": "blstm", "num_layers": 1, "hidden_size": 8}, 4, criterion.num_classes).eval()
    model = criterion.acoustic_model(network, Normaliser(FeatureConfig(cmvn="none")))
    features, lengths = torch.tensor(rng.normal(size=(1, 6, 4)), dtype=torch.float32), torch.tensor([6])
    with torch.no_grad():
        torch.testing.assert_close(model.encoder(features, lengths)[0], network(features, lengths)[0][:, :, :40])
    assert network.output.out_features == 80
    with pytest.raises(ConfigError, match=r"train\.criterion\.frames must be null for a network without a linear"):
        first_classes(nn.Identity(), 3)


def test_epochs_priors_and_dev_scores_are_the_other_criterions(criterion, monkeypatch):
    criterion.epoch = 3
    assert (criterion.epoch, criterion.labels.epoch) == (3, 3)
    seen = []
    monkeypatch.setattr(criterion.labels, "observe", lambda logits, lengths: seen.append(logits.shape))
    monkeypatch.setattr(criterion.labels, "end_epoch", lambda: seen.append("end"))
    monkeypatch.setattr(criterion.labels, "dev_decoders", lambda model: {"PER": model})
    criterion.observe(torch.zeros(9, 2, 80), torch.tensor([9, 5]))
    criterion.end_epoch()
    assert seen == [(9, 2, 40), "end"]
    assert criterion.dev_decoders("model") == {"PER": "model"}


def test_a_system_of_other_labels_is_refused(monkeypatch):
    timit = from_dict({"data": {"corpora": {"mini": None}, "labels": "timit39", "scoring": "timit39"}})
    monkeypatch.setattr(frame_labels.model_folder, "load", lambda name: SimpleNamespace(config=timit))
    config = from_dict({"data": {"corpora": {"mini": None}}, "train": {"criterion": {"frames": "theirs"}}})
    with pytest.raises(ConfigError, match=r"theirs \(train\.criterion\.frames\) has other labels than arpabet39"):
        frame_labels.build(config)


def test_labels_are_placed_by_the_pronunciation_that_is_heard(monkeypatch, caplog, tmp_path):
    """The aligner is given all; what it cannot place is left out, and silence is no label. A file keeps all."""
    config = from_dict({"data": {"corpora": {"mini": None}}, "train": {"criterion": {"frames": str(tmp_path / "run")}}})
    heard, tokens = {}, (BLANK, *PhoneSet.load("arpabet39").labels)
    (tmp_path / "run").mkdir()
    for name in ("config.yaml", "tokens.txt", "model.safetensors"):
        (tmp_path / "run" / name).touch()

    class AsItIs:
        def add_speakers(self, cuts, store):
            pass

        def __call__(self, features, speaker):
            return features

    class Aligner:
        config, normaliser = SimpleNamespace(features=None), AsItIs()

        def emissions(self, rows):
            return rows

        def align(self, text, emissions, waveform, name):
            heard[name] = text
            if name == "torn":
                raise InfeasibleError("too short")
            segments = [SimpleNamespace(label=each, start=i, end=i + 1) for i, each in enumerate(["DH", "sil", "IY"])]
            return SimpleNamespace(phones=segments)

    class Store(dict):
        path = tmp_path / "features.f32"

    cuts = [spoken("u", "The", "DH AH", [2]), spoken("v", "", "DH AH"), spoken("torn", "The", "DH AH", [2])]
    for cut in cuts:
        cut.recording = SimpleNamespace(sources=[SimpleNamespace(source="a.wav")])
    store = Store((cut.id, np.zeros((3, 2))) for cut in cuts)
    monkeypatch.setattr(frame_labels, "cache_features", lambda *_: store)
    monkeypatch.setattr(frame_labels.audio, "load", lambda path: np.zeros(100))
    everything = SimpleNamespace(filter=lambda keep: [cut for cut in cuts if keep(cut)])

    def check():
        found = frame_labels.align(Aligner(), config, everything, "train", tokens)
        assert found.keys() == {"u", "v"}
        times, classes = found["u"]
        assert times.tolist() == [[0, 1], [2, 3]]
        assert [tokens[i] for i in classes] == ["DH", "IY"]
        assert "1 of 3 utterances cannot be aligned, and are left out, the first of them torn: too short" in caplog.text
        caplog.clear()

    check()
    assert [*map(list, heard["u"].words[0])] == [["DH", "AH"], ["DH", "IY"]]
    assert heard["u"].all_said
    assert not heard["v"].has_words
    heard.clear()
    (tmp_path / "run" / "README.md").write_text("a card")
    (tmp_path / "run" / "metrics.json").write_text("{}")
    check()
    assert not heard  # what was found stands in a file, whatever is told of the system

    for change in (
        lambda: (tmp_path / "run" / "model.safetensors").write_text("other weights"),
        lambda: setattr(Store, "path", tmp_path / "other-recordings.f32"),
        lambda: cuts[1].supervisions[0].custom.update(phones="DH IY"),
        lambda: setattr(cuts[1].supervisions[0], "speaker", "another"),
    ):
        change()
        heard.clear()
        check()
        assert heard.keys() == {"u", "v", "torn"}

    del cuts[:2]
    assert frame_labels.align(Aligner(), config, everything, "train", tokens) == {}
    assert "1 of 1 utterances cannot be aligned" in caplog.text
