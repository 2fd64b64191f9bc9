"""Batches: what an epoch holds, in which order, and what is left out with a word why."""

import errno
import json
import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr
import torch
from lhotse import CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from asr.core.config import ConditionsConfig, FeatureConfig, SpecAugmentConfig, from_dict
from asr.core.errors import AsrError, AudioError, CorpusError, InfeasibleError
from asr.data import batches, splits
from asr.data.batches import Batch, BatchLoader, LabelTargets, SpeechDataset, TextTargets
from asr.data.feature_store import FeatureStore, LiveFeatures, cache_features
from asr.speech import audio
from asr.speech.features import FeatureExtractor, num_frames
from asr.speech.normaliser import Normaliser
from data_prep import known

FEATURES = FeatureConfig(num_mel_bins=8, use_energy=False, delta_order=0, cmvn="none")


def supervision(name, duration, phones="AA B", speaker="s1"):
    return SupervisionSegment(name, name, 0.0, duration, speaker=speaker, custom={"phones": phones})


def cut(recording, corpus="speechocean762", **labels):
    made = recording.to_cut().with_id(recording.id)
    made.supervisions = [supervision(recording.id, recording.duration, **labels)]
    made.custom = {"corpus": corpus, "phone_set": known(corpus).phone_set}
    return made


@pytest.fixture
def lengths(rng):
    """Seconds of each of 120 utterances without audio."""
    return {f"u{i:03}": round(float(rng.uniform(0.5, 6)), 2) for i in range(120)}


@pytest.fixture
def paper_cuts(lengths):
    recordings = (Recording(name, [], 16000, round(16000 * t), t) for name, t in lengths.items())
    return CutSet.from_cuts(cut(recording) for recording in recordings)


class Names:
    """Stands for a SpeechDataset: a batch is the ids of its utterances."""

    epoch = 0

    def __init__(self, views=1):
        self.views = views

    def __getitem__(self, cuts):
        return [each.id for each in cuts]


@pytest.fixture
def loader(paper_cuts):
    def make(seed=1, max_frames=2000, shuffle=True, views=1, num_workers=0):
        options = {"num_buckets": 5, "shuffle": shuffle, "seed": seed, "num_workers": num_workers}
        return BatchLoader(paper_cuts, Names(views), max_frames, **options)

    return make


def epoch(batches, number):
    batches.set_epoch(number)
    return list(batches)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("number", [0, 1, 7])
def test_an_epoch_has_each_utterance_once(loader, lengths, shuffle, number):
    batches = loader(shuffle=shuffle)
    drawn = epoch(batches, number)
    assert sorted(name for batch in drawn for name in batch) == sorted(lengths)
    assert len(drawn) == len(batches)


@pytest.mark.parametrize("max_frames", [2000, 5000])
def test_padding_counts_towards_max_frames(loader, lengths, max_frames):
    """Until the last utterance of a batch there is room for one more as long as the longest; the last may be longer."""
    sizes = []
    for number in range(3):
        for batch in epoch(loader(max_frames=max_frames), number):
            seconds = [lengths[name] for name in batch]
            assert 100 * len(batch) * max(seconds[:-1], default=0) <= max_frames + 1e-6
            sizes.append(100 * len(batch) * max(seconds))
    assert max(sizes) < 1.5 * max_frames
    assert np.mean(np.array(sizes) > max_frames) < 0.2
    assert np.median(sizes) > max_frames / 2  # and they are not needlessly small


def test_two_views_count_towards_max_frames(loader):
    assert epoch(loader(max_frames=4000, views=2), 0) == epoch(loader(max_frames=2000), 0)


def test_batches_hold_utterances_of_like_length(loader, lengths):
    padding = [
        max(lengths[name] for name in batch) * len(batch) - sum(lengths[name] for name in batch)
        for batch in epoch(loader(), 0)
    ]
    assert sum(padding) < 0.2 * sum(lengths.values())


@pytest.mark.filterwarnings("ignore:We have exceeded the max_duration constraint")
def test_an_utterance_longer_than_max_frames_is_a_batch_alone(loader, lengths):
    longest = max(lengths, key=lambda name: lengths[name])
    drawn = epoch(loader(max_frames=round(100 * lengths[longest]) - 50), 0)
    assert [longest] in drawn
    assert sorted(name for batch in drawn for name in batch) == sorted(lengths)


def test_the_order_follows_from_seed_and_epoch(loader):
    batches = loader()
    first, second = epoch(batches, 0), epoch(batches, 1)
    assert first != second
    assert {tuple(sorted(batch)) for batch in first} != {tuple(sorted(batch)) for batch in second}
    assert epoch(loader(), 1) == second  # whatever was drawn before
    assert epoch(batches, 0) == first
    assert epoch(loader(seed=2), 0) != first


def test_without_shuffling_each_epoch_is_the_same(loader):
    batches = loader(shuffle=False)
    assert epoch(batches, 0) == epoch(batches, 5)


@pytest.mark.parametrize("taken", [0, 1, 4])
def test_a_resumed_loader_hands_out_exactly_the_rest(loader, taken):
    batches = loader()
    batches.set_epoch(2)
    iterator = iter(batches)
    for _ in range(taken):
        next(iterator)
    state = json.loads(json.dumps(batches.state_dict()))
    rest = list(iterator)
    resumed = loader()
    resumed.load_state_dict(state)
    assert resumed.dataset.epoch == 2
    assert list(resumed) == rest
    assert epoch(resumed, 3) == epoch(batches, 3)


def test_other_processes_make_the_same_batches(loader):
    alone, helped = loader(), loader(num_workers=1)
    assert epoch(helped, 1) == epoch(alone, 1)
    iterator = iter(helped)
    first = next(iterator)
    assert helped.state_dict() == {"epoch": 1, "position": 1}  # not what has been made ahead
    resumed = loader(num_workers=1)
    resumed.load_state_dict(helped.state_dict())
    assert [first, *resumed] == list(alone)


def test_a_loader_resumed_at_the_end_of_an_epoch_begins_the_next(loader):
    batches = loader()
    epoch(batches, 2)
    resumed = loader()
    resumed.load_state_dict(batches.state_dict())
    assert epoch(resumed, 3) == epoch(batches, 3)
    assert len(epoch(resumed, 4)) > 0


# --- several processes


class Parts(Names):
    """Stands for a SpeechDataset, some of whose recordings cannot be read."""

    def __init__(self, lost=()):
        super().__init__()
        self.lost = lost

    def __getitem__(self, cuts):
        ids = [each.id for each in cuts if each.id not in self.lost]
        if not ids:
            raise CorpusError("no utterance of a batch could be read")
        return Batch(ids, *[torch.zeros(1)] * 4)


@pytest.fixture
def parts(paper_cuts):
    """The batches of an epoch in each of so many processes."""

    def draw(count, lost=(), max_frames=2000):
        options = {"num_buckets": 5, "shuffle": True, "seed": 1, "world_size": count}
        loaders = (BatchLoader(paper_cuts, Parts(lost), max_frames, rank=rank, **options) for rank in range(count))
        return [epoch(each, 2) for each in loaders]

    return draw


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_processes_share_the_batches_of_one(loader, parts, lengths, count):
    for whole, *shares in zip(epoch(loader(), 2), *parts(count), strict=True):
        counted = [share.ids for share in shares if not share.is_spare]
        assert sorted(name for ids in counted for name in ids) == sorted(whole)
        sizes = [0 if share.is_spare else len(share.ids) for share in shares]
        assert max(sizes) - min(sizes) <= 1
        assert all(set(share.ids) <= set(whole) for share in shares)
        assert len(counted) == min(count, len(whole))
        frames = [sum(lengths[name] for name in ids) for ids in counted]
        assert count == 1 or max(frames) - min(frames) <= max(lengths[name] for name in whole)


def test_processes_go_on_where_a_part_cannot_be_read(loader, parts):
    for whole, *_ in zip(epoch(loader(), 2), strict=True):
        if len(whole) == 3:
            break
    lost = whole[:2]
    found = [share for shares in parts(3, lost) for share in shares if set(share.ids) <= set(whole)]
    assert [share.ids for share in found] == [[whole[2]]] * 3
    assert sorted(share.is_spare for share in found) == [False, True, True]
    with pytest.raises(CorpusError, match="no utterance of a batch"):
        parts(3, whole)


# --- features


@pytest.fixture
def speech(tmp_path, rng):
    """Cuts of four recordings with audio, of 0.5 to 2 s."""
    made = []
    for i, seconds in enumerate((0.5, 1.0, 1.5, 2.0)):
        path = tmp_path / f"audio{i}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(int(16000 * seconds)), 16000)
        made.append(cut(Recording.from_file(path, recording_id=f"u{i}"), speaker=f"s{i % 2}"))
    return CutSet.from_cuts(made)


def path_of(each):
    return each.recording.sources[0].source


@pytest.mark.parametrize("speed", [1.0, 0.9, 1.1])
@pytest.mark.parametrize("cached", [True, False])
def test_stored_features_are_those_of_the_recording(speech, tmp_path, speed, cached):
    extractor = FeatureExtractor(FEATURES)
    if cached:
        store = cache_features(speech, FEATURES, tmp_path / "cache", "test", speed)
    else:
        store = LiveFeatures(speech, extractor, speed)
    for each in speech:
        waveform = audio.load(path_of(each))
        if speed != 1:
            waveform = soxr.resample(waveform, 16000 * speed, 16000)
        np.testing.assert_array_equal(store[each.id], extractor(waveform))
        assert store.num_frames(each.id) == len(store[each.id]) == num_frames(len(waveform))
        assert store.num_frames(each.id) == pytest.approx(100 * each.duration / speed, abs=3)
        assert each.id in store
    assert "u9" not in store


def test_features_are_computed_once(speech, tmp_path, monkeypatch):
    first = cache_features(speech, FEATURES, tmp_path, "test")
    monkeypatch.setattr(FeatureExtractor, "__call__", lambda *_: pytest.fail("computed again"))
    second = cache_features(speech, FEATURES, tmp_path, "test")
    np.testing.assert_array_equal(first["u3"], second["u3"])
    # Normalisation comes after the store: another does not need another file.
    cache_features(speech, FeatureConfig(num_mel_bins=8, use_energy=False, delta_order=0), tmp_path, "test")


@pytest.mark.parametrize("change", ["config", "speed", "label", "utterances", "length"])
def test_what_features_depend_on_makes_another_file(speech, tmp_path, change):
    folder = tmp_path / "cache"
    cache_features(speech, FEATURES, folder, "test")
    before = set(folder.glob("*.f32"))
    config, label, speed = FEATURES, "test", 1.0
    if change == "config":
        config = FeatureConfig(num_mel_bins=9, use_energy=False, delta_order=0)
    elif change == "speed":
        speed = 1.1
    elif change == "label":
        label = "other"
    elif change == "utterances":
        speech = CutSet.from_cuts(list(speech)[:3])
    else:
        path = path_of(speech["u0"])
        soundfile.write(path, np.ones(9000) / 2, 16000)
        changed = cut(Recording.from_file(path, recording_id="u0"))
        speech = CutSet.from_cuts([changed, *list(speech)[1:]])
    store = cache_features(speech, config, folder, label, speed)
    assert len(set(folder.glob("*.f32")) - before) == 1
    assert store["u0"].shape[1] == config.num_mel_bins


def test_an_unreadable_recording_is_named_and_left_out(speech, tmp_path, caplog):
    soundfile.write(path_of(speech["u1"]), np.zeros(0), 16000)
    soundfile.write(path_of(speech["u2"]), np.full(8000, np.nan), 16000, subtype="FLOAT")
    for _ in range(2):  # the second time from the file
        caplog.clear()
        store = cache_features(speech, FEATURES, tmp_path / "cache", "test")
        assert ("u0" in store, "u1" in store, "u2" in store, "u3" in store) == (True, False, False, True)
        assert "skipped u1: " in caplog.text
        assert "audio1.wav: there are no samples" in caplog.text
        assert "8000 of 8000 samples are NaN" in caplog.text


def test_a_corpus_without_one_readable_recording_is_an_error(speech, tmp_path):
    for each in speech:
        soundfile.write(path_of(each), np.zeros(0), 16000)
    with pytest.raises(CorpusError, match=r"test, speed 1: no utterance could be read; the first: .*audio0"):
        cache_features(speech, FEATURES, tmp_path / "cache", "test")
    assert list((tmp_path / "cache").iterdir()) == []


class FullDisk(np.ndarray):
    """Features that meet a full disk when they are written."""

    def tofile(self, *_):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_nothing_behind_and_is_one_line(speech, tmp_path, monkeypatch):
    extract = FeatureExtractor.__call__

    def extract_until_full(self, waveform):
        features = extract(self, waveform)
        return features.view(FullDisk) if len(waveform) > 20000 else features

    folder = tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(FeatureExtractor, "__call__", extract_until_full)
        with pytest.raises(AsrError, match=r"cannot write .*: No space left on device: free") as caught:
            cache_features(speech, FEATURES, folder, "test")
    assert "\n" not in str(caught.value)
    assert list(folder.iterdir()) == []
    assert len(cache_features(speech, FEATURES, folder, "test")["u3"]) == num_frames(32000)


def test_a_process_killed_while_writing_leaves_no_file_that_is_taken_for_whole(speech, tmp_path):
    """The index is written last: features without it are made anew."""
    store = cache_features(speech, FEATURES, tmp_path / "cache", "test")
    whole = np.array(store["u3"])
    (path,) = (tmp_path / "cache").glob("*.f32")
    path.with_suffix(".json").unlink()
    path.write_bytes(path.read_bytes()[:64])
    np.testing.assert_array_equal(cache_features(speech, FEATURES, tmp_path / "cache", "test")["u3"], whole)


# --- normalisation


class Stored(dict):
    """Features in memory."""

    def num_frames(self, name):
        return len(self[name])


@pytest.fixture
def stored(rng):
    return Stored({f"u{i}": rng.normal(3 * i, 1 + i, (40 + i, 5)).astype(np.float32) for i in range(4)})


@pytest.fixture
def stored_cuts(stored):
    """Speakers s0 (u0 and u2) and s1 (u1 and u3)."""
    seconds = {name: (len(features) + 2) / 100 for name, features in stored.items()}
    recordings = (Recording(name, [], 16000, round(16000 * t), t) for name, t in seconds.items())
    return CutSet.from_cuts(cut(recording, speaker=f"s{int(recording.id[1]) % 2}") for recording in recordings)


def moments(normaliser, stored, names, speaker=None):
    values = np.concatenate([normaliser(stored[name], speaker) for name in names])
    return values.mean(axis=0), values.std(axis=0)


@pytest.mark.parametrize(
    ("mode", "groups"),
    [
        ("global", [["u0", "u1", "u2", "u3"]]),
        ("speaker", [["u0", "u2"], ["u1", "u3"]]),
        ("utterance", [["u0"], ["u1"], ["u2"], ["u3"]]),
    ],
)
def test_normalised_over_its_group_speech_has_mean_0_and_deviation_1(stored, stored_cuts, mode, groups):
    normaliser = Normaliser.fit(replace(FEATURES, cmvn=mode), stored_cuts, stored)
    normaliser.add_speakers(stored_cuts, stored)
    for names in groups:
        mean, std = moments(normaliser, stored, names, speaker=f"s{int(names[0][1]) % 2}")
        np.testing.assert_allclose(mean, 0, atol=1e-4)
        np.testing.assert_allclose(std, 1, atol=1e-3)
    if len(groups[0]) > 1:  # each utterance of a group by itself has not
        assert np.abs(moments(normaliser, stored, groups[0][:1], speaker="s0")[0]).max() > 0.1


def test_none_changes_nothing(stored, stored_cuts):
    np.testing.assert_array_equal(Normaliser.fit(FEATURES, stored_cuts, stored)(stored["u1"]), stored["u1"])


def test_a_speaker_never_heard_is_normalised_by_the_utterance_alone(stored, stored_cuts):
    normaliser = Normaliser.fit(replace(FEATURES, cmvn="speaker"), stored_cuts, stored)
    normaliser.add_speakers(stored_cuts, stored)
    expected = Normaliser(replace(FEATURES, cmvn="utterance"))(stored["u1"])
    np.testing.assert_array_equal(normaliser(stored["u1"], "stranger"), expected)
    np.testing.assert_array_equal(normaliser(stored["u1"], None), expected)
    assert np.abs(normaliser(stored["u1"], "s1") - expected).max() > 0.1


# --- batches


@pytest.fixture
def dataset(stored):
    def make(seed=1, spec_augment=None, views=1):
        stores = {speed: Stored({k: v + 100 * speed for k, v in stored.items()}) for speed in (1.1, 0.9, 1.0)}
        return SpeechDataset(
            stores, Normaliser(FEATURES), LabelTargets(["-", "AA", "B"], "arpabet39"), spec_augment, seed, views=views
        )

    return make


def speeds_drawn(made, cuts, stored, epochs):
    drawn = []
    for made.epoch in epochs:
        offsets = [float((made.utterance(each)[0] - stored[each.id]).mean()) for each in cuts]
        drawn.append([round(offset / 100, 1) for offset in offsets])
    return drawn


def test_speeds_follow_from_seed_epoch_and_id(dataset, stored, stored_cuts):
    drawn = speeds_drawn(dataset(), stored_cuts, stored, range(30))
    assert {speed for row in drawn for speed in row} == {0.9, 1.0, 1.1}
    assert len({tuple(row) for row in drawn}) > 15  # they vary over epochs
    assert any(len(set(row)) > 1 for row in drawn)  # and over utterances
    assert speeds_drawn(dataset(), stored_cuts, stored, [29, 4]) == [drawn[29], drawn[4]]
    assert speeds_drawn(dataset(seed=2), stored_cuts, stored, range(30)) != drawn
    counts = [sum(row.count(speed) for row in drawn) for speed in (0.9, 1.0, 1.1)]
    assert min(counts) > 20  # of 120


def test_masks_follow_from_seed_epoch_and_id_not_from_the_batch(dataset, stored_cuts):
    masks = SpecAugmentConfig(num_time_masks=2, max_time_width=10, max_time_share=0.5)
    together, alone = dataset(spec_augment=masks), dataset(spec_augment=masks)
    together.epoch = alone.epoch = 3
    batch = together[stored_cuts]
    for i, each in enumerate(stored_cuts):
        length = batch.feature_lengths[i]
        np.testing.assert_array_equal(batch.features[i, :length], alone[CutSet.from_cuts([each])].features[0])
        assert not batch.features[i, length:].any()
    assert (batch.features[0] == 0).any()
    alone.epoch = 4
    assert not torch.equal(alone[stored_cuts].features, batch.features)


def test_where_nobody_speaks_there_is_nothing_to_learn_but_that(dataset, stored, stored_cuts):
    made = dataset(views=2)
    made.stores = {1.0: Stored({key: 0.1 * values for key, values in stored.items()})}
    made.speeds, made.conditions = [1.0], ConditionsConfig(no_speech=0.3, padding=0.5)
    counts = []
    for made.epoch in range(40):
        batch = made[stored_cuts]
        heard = [made.draw(each).has_speech for each in stored_cuts]
        counts += heard
        assert (batch.target_lengths > 0).tolist() == heard * 2
        assert all(each.has_speech or each.padding == (0, 0) for each in map(made.draw, stored_cuts))
    assert 0.6 < np.mean(counts) < 0.8
    assert made[stored_cuts].features.equal(made[stored_cuts].features)
    made.conditions = ConditionsConfig(no_speech=1.0)
    assert not made[stored_cuts].targets.any()


def test_two_views_are_one_utterance_under_two_masks(dataset, stored_cuts):
    masks = SpecAugmentConfig(num_time_masks=2, max_time_width=10, max_time_share=0.5)
    one, both = (dataset(spec_augment=masks, views=views)[stored_cuts] for views in (1, 2))
    count = len(one.ids)
    assert both.ids == one.ids * 2
    np.testing.assert_array_equal(both.features[:count], one.features)
    first, second = both.features.chunk(2)
    assert both.feature_lengths[:count].equal(both.feature_lengths[count:])  # at one speed
    assert both.targets[:count].equal(both.targets[count:])
    seen = (first != 0) & (second != 0)
    assert first[seen].equal(second[seen])
    assert (first != second).any(dim=2).sum(dim=1).min() > 0
    again = dataset(spec_augment=masks, views=2)
    assert again[stored_cuts].features.equal(both.features)
    again.epoch = 1
    assert not again[stored_cuts].features.equal(both.features)


def test_a_batch_has_types_lengths_and_targets_for_the_loss(dataset, stored, stored_cuts):
    batch = dataset()[stored_cuts]
    assert batch.ids == ["u0", "u1", "u2", "u3"]
    assert batch.features.dtype == torch.float32
    assert {batch.feature_lengths.dtype, batch.targets.dtype, batch.target_lengths.dtype} == {torch.int64}
    assert batch.feature_lengths.tolist() == [len(stored[name]) for name in batch.ids]
    assert batch.targets.tolist() == [[1, 2]] * 4
    assert batch.to(torch.device("cpu")).ids == batch.ids


# --- utterances


def test_targets_are_folded_from_the_corpus_into_the_models_labels():
    recording = Recording("u", [], 16000, 16000, 1.0)
    each = cut(recording, corpus="timit", phones="h# dcl d ix q zh h#")
    assert splits.reference(each, "timit61") == ["h#", "dcl", "d", "ix", "q", "zh", "h#"]
    assert splits.reference(each, "timit39") == ["sil", "sil", "d", "ih", "sh", "sil"]


def config(**values):
    return from_dict({"data": {"corpora": {"speechocean762": None}} | values})


def test_training_leaves_out_what_has_no_path_or_is_too_long_and_says_so(stored, stored_cuts, caplog):
    labels = {"u1": "AA " * 21, "u2": "AA B " * 10}
    for each in stored_cuts:
        each.supervisions[0].custom["phones"] = labels.get(each.id, "AA B").strip()
    long = Recording("u4", [], 16000, 16000 * 30, 30.0)
    stored["u4"] = np.zeros((2998, 5), np.float32)
    cuts = CutSet.from_cuts([*stored_cuts, cut(long)])
    with caplog.at_level(logging.WARNING):
        kept = batches.usable(cuts, {1.0: stored}, config(max_duration=20), subsampling=2)
    assert [each.id for each in kept] == ["u0", "u2", "u3"]
    # 21 equal labels need a blank between each two.
    assert "u1: its 21 labels need 41 output frames and it has 21 (41 feature frames, 2 an output frame)" in caplog.text
    assert "skipped u4: 30.0 s is longer than data.max_duration" in caplog.text
    with pytest.raises(CorpusError, match="no utterance is left to train on"):
        batches.usable(cuts, {1.0: stored}, config(max_duration=0.1), subsampling=2)


def test_utterances_that_a_file_names_are_left_out(tmp_path, stored_cuts, caplog):
    file = tmp_path / "misread.txt"
    file.write_text("\ufeffu0\r\nu3\r\n\r\nu77\r\n", encoding="utf8")
    with caplog.at_level(logging.INFO):
        kept = batches.included(stored_cuts, config(exclude=str(file)).data)
    assert [each.id for each in kept] == ["u1", "u2"]
    assert f"{file}: 1 of 3 names are of no training utterance, such as u77" in caplog.text
    assert f"utterances left out of training, as {file} says: 2" in caplog.text


@pytest.mark.parametrize("content", ["", "u77\nU0\n", b"\xff\xfe\xfa", None])
def test_a_file_that_names_no_training_utterance_is_refused(tmp_path, stored_cuts, content):
    file = tmp_path / "misread.txt"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CorpusError, match=r"misread.txt \(data.exclude\)"):
        batches.included(stored_cuts, config(exclude=str(file)).data)


def test_a_path_must_exist_at_the_fastest_speed(stored, stored_cuts):
    for each in stored_cuts:
        each.supervisions[0].custom["phones"] = "AA B " * 20
    fast = Stored({name: features[:39] for name, features in stored.items()})
    assert len(batches.usable(stored_cuts, {1.0: stored}, config(), 1)) == 4
    with pytest.raises(CorpusError):
        batches.usable(stored_cuts, {1.0: stored, 1.1: fast}, config(), 1)


@pytest.mark.parametrize(
    ("labels", "frames", "subsampling", "feasible"),
    [
        ("A B C", 3, 1, True),
        ("A B C", 2, 1, False),
        ("A A", 2, 1, False),
        ("A A", 3, 1, True),
        ("A B C", 5, 2, True),
        ("A B C", 4, 2, False),
        ("", 0, 1, True),
    ],
)
def test_feasible_is_what_ctc_needs(labels, frames, subsampling, feasible):
    if feasible:
        assert batches.check_feasible("u", labels.split(), frames, subsampling) is None
    else:
        with pytest.raises(InfeasibleError, match=r"^u: its \d labels need \d output frames and it has \d "):
            batches.check_feasible("u", labels.split(), frames, subsampling)


def test_splits_of_several_corpora_are_joined(tmp_path):
    for corpus, names in (("mini", "ab"), ("speechocean762", "c")):
        folder = tmp_path / corpus
        folder.mkdir()
        recordings = [Recording(name, [], 16000, 16000, 1.0) for name in names]
        RecordingSet.from_recordings(recordings).to_file(folder / "recordings_dev.jsonl.gz")
        SupervisionSet.from_segments([supervision(name, 1.0) for name in names]).to_file(
            folder / "supervisions_dev.jsonl.gz"
        )
    cuts = splits.load_split(tmp_path, ["mini", "speechocean762"], "dev")
    assert [(each.id, each.corpus) for each in cuts] == [("a", "mini"), ("b", "mini"), ("c", "speechocean762")]
    with pytest.raises(CorpusError, match=r"no test manifests of mini in .*mini: run `asr prepare` first"):
        splits.load_split(tmp_path, ["mini"], "test")
    for names in ("ba", "a", "abc"):
        SupervisionSet.from_segments([supervision(name, 1.0) for name in names]).to_file(
            tmp_path / "mini" / "supervisions_dev.jsonl.gz"
        )
        with pytest.raises(CorpusError, match="recordings and supervisions of dev differ; delete it and prepare again"):
            splits.load_split(tmp_path, ["mini"], "dev")


def test_a_stored_array_cannot_be_changed_by_accident(speech, tmp_path):
    store = cache_features(speech, FEATURES, tmp_path, "test")
    assert isinstance(store, FeatureStore)
    with pytest.raises(ValueError, match="read-only"):
        store["u0"][0] = 1


# --- several pronunciations


LEXICON = {"the": ["DH AH", "DH IY"], "read": ["R EH D", "R IY D", "R EH D"], "odd": ["AA D Q"]}


def spoken(text, phones, lengths, **labels):
    said = SimpleNamespace(text=text, custom={"phones": phones, "word_lengths": lengths})
    return SimpleNamespace(id="u", corpus="mine", phone_set="arpabet39", supervisions=[said], **labels)


@pytest.fixture
def texts():
    tokens = ("<blank>", "AA", "AH", "D", "DH", "EH", "IY", "R")
    return TextTargets(
        tokens, "arpabet39", [lambda word: (), lambda word: [each.split() for each in LEXICON.get(word, [])]]
    )


@pytest.mark.parametrize(
    ("text", "phones", "lengths", "words"),
    [
        ("The, READ", "DH IY R EH D", [2, 3], [["DH IY", "DH AH"], ["R EH D", "R IY D"]]),
        ("the", "DH EH", [2], [["DH EH"]]),  # what was said is none of the dictionary's
        ("odd", "AA D", [2], [["AA D"]]),  # whose one has a label that the model lacks
        ("nowhere", "AA", [1], [["AA"]]),
        ("the read", "DH IY R EH D", [], [["DH IY R EH D"]]),  # nobody knows which labels are a word's
        ("the", "DH IY R EH D", [2, 3], [["DH IY R EH D"]]),
        ("", "DH IY", [], [["DH IY"]]),
        ("the", "DH IY R", [2], [["DH IY R"]]),
        ("", "", [], []),
    ],
)
def test_words_have_all_pronunciations_of_the_dictionary_that_has_theirs(texts, text, phones, lengths, words):
    index = {token: i for i, token in enumerate(("<blank>", "AA", "AH", "D", "DH", "EH", "IY", "R"))}
    expected = [[tuple(index[phone] for phone in each.split()) for each in word] for word in words]
    each = spoken(text, phones, lengths)
    assert texts.text(each) == expected
    assert texts.text(each) == expected  # from memory
    assert texts(each) == [index[phone] for phone in phones.split()]


def test_batches_have_the_texts_of_what_could_be_read_in_all_views(texts, monkeypatch):
    dataset = SpeechDataset({1.0: {}}, lambda features, speaker: features, texts, views=2)
    cuts = [spoken("the", "DH IY", [2]), spoken("read", "R IY D", [3]), spoken("the", "DH AH", [2])]
    for name, each in zip("abc", cuts, strict=True):
        each.id, each.supervisions[0].speaker = name, "s"

    def features(cut, speed):
        if cut.id == "b":
            raise AudioError("torn")
        return np.zeros((9, 2), np.float32)

    monkeypatch.setattr(dataset, "features", features)
    batch = dataset[cuts]
    assert batch.ids == ["a", "c"] * 2
    assert batch.texts == tuple(texts.text(cuts[i]) for i in (0, 2, 0, 2))
    assert batch.to(torch.device("cpu")).texts == batch.texts
    dataset.conditions = ConditionsConfig(no_speech=1.0)
    assert dataset[cuts[::2]].texts == ([],) * 4
