"""The index of a split: what is read by it is what the manifests have, in little memory."""

import gzip
import itertools
import json
import tracemalloc

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, RecordingSet, SupervisionSet

from asr.core.config import FeatureConfig
from asr.core.errors import CorpusError
from asr.data import splits
from asr.data.batches import BatchLoader, NoTargets, SpeechDataset
from asr.data.feature_store import LiveFeatures
from asr.speech.features import FeatureExtractor
from asr.speech.normaliser import Normaliser

FEATURES = FeatureConfig(num_mel_bins=8, use_energy=False, delta_order=0, cmvn="none")


class Names:
    """Stands for a SpeechDataset: a batch is the ids of its utterances."""

    epoch, views = 0, 1

    def __getitem__(self, cuts):
        return [each.id for each in cuts]


def write(folder, corpus, seconds, split="train", prefix="u", source="a.wav"):
    """Write manifests line by line, which are not in memory."""
    (folder / corpus).mkdir(parents=True, exist_ok=True)
    paths = [folder / corpus / f"{kind}_{split}.jsonl.gz" for kind in ("recordings", "supervisions")]
    sound = {"sources": [{"type": "file", "channels": [0], "source": str(source)}], "sampling_rate": 16000}
    said = {"start": 0.0, "channel": 0, "text": "ø", "custom": {"phones": "AA B", "word_lengths": [2]}}
    ends = [json.dumps(each)[1:] for each in (sound, said)]
    with gzip.open(paths[0], "wt", 1) as recordings, gzip.open(paths[1], "wt", 1) as supervisions:
        for i, each in enumerate(seconds):
            name = f'{{"id": "{prefix}{i}", "duration": {each}, '
            recordings.write(f'{name} "num_samples": {round(16000 * each)}, {ends[0]}\n')
            supervisions.write(f'{name} "recording_id": "{prefix}{i}", "speaker": "s{i % 7}", {ends[1]}\n')
    return paths


@pytest.fixture
def seconds(rng):
    return rng.uniform(0.5, 6, 120).round(2).tolist()


def test_what_is_read_is_what_lhotse_reads(tmp_path, seconds):
    recordings, supervisions = write(tmp_path, "mini", seconds)
    expected = CutSet.from_manifests(RecordingSet.from_file(recordings), SupervisionSet.from_file(supervisions))
    for cuts in (splits.load_split(tmp_path, ["mini"], "train") for _ in range(2)):  # the second time from the index
        assert len(cuts) == 120
        for found, cut in zip(cuts, expected, strict=True):
            for name in ("recording", "supervisions", "duration"):
                assert getattr(found, name) == getattr(cut, name)
            assert (found.corpus, found.phone_set) == ("mini", "timit61")
        np.testing.assert_array_equal(cuts.durations, seconds)
        assert cuts["u77"].supervisions[0].speaker == cuts[77].supervisions[0].speaker == "s0"
        assert list(cuts.ids) == [f"u{i}" for i in range(120)]
        assert ("u119" in cuts, "u120" in cuts) == (True, False)
        assert [cut.id for cut in cuts[5:7]] == ["u5", "u6"]
        long = cuts.filter(lambda cut: cut.duration > 3)
        assert [cut.duration for cut in long] == [each for each in seconds if each > 3]
        assert all((cut.id in long) == (cut.duration > 3) for cut in cuts)
        with pytest.raises(KeyError, match="u120"):
            cuts["u120"]


@pytest.mark.parametrize("num_buckets", [1, 5])
def test_batches_are_those_of_utterances_in_memory(tmp_path, seconds, num_buckets):
    write(tmp_path, "mini", seconds)
    cuts = splits.load_split(tmp_path, ["mini"], "train")
    options = {"num_buckets": num_buckets, "shuffle": True, "seed": 3}
    indexed, eager = (BatchLoader(each, Names(), 2000, **options) for each in (cuts, CutSet.from_cuts(cuts)))
    for epoch in (0, 4):
        indexed.set_epoch(epoch)
        eager.set_epoch(epoch)
        assert list(indexed) == list(eager)
        assert len(indexed) == len(eager) > 5


def test_manifests_that_are_written_anew_are_read_anew(tmp_path, seconds):
    write(tmp_path, "mini", seconds)
    assert len(splits.load_split(tmp_path, ["mini"], "train")) == 120
    write(tmp_path, "mini", seconds[:50])
    assert len(splits.load_split(tmp_path, ["mini"], "train")) == 50
    (tmp_path / "mini" / "rows_train.jsonl").unlink()
    assert splits.load_split(tmp_path, ["mini"], "train")[49].id == "u49"


@pytest.mark.parametrize("damage", ["cut", "lines", "not_gzip", "other_ids"])
def test_damaged_manifests_are_one_line(tmp_path, seconds, damage):
    recordings, supervisions = write(tmp_path, "mini", seconds)
    whole = recordings.read_bytes()
    if damage == "cut":
        recordings.write_bytes(whole[: len(whole) // 2])
    elif damage == "lines":
        recordings.write_bytes(gzip.compress(gzip.decompress(whole).replace(b'"duration"', b'"length"')))
    elif damage == "not_gzip":
        supervisions.write_bytes(b"{}\n")
    else:
        write(tmp_path, "mini", seconds, prefix="v")
        recordings.write_bytes(whole)
    with pytest.raises(CorpusError, match=r"mini: .*; delete it and prepare again") as caught:
        splits.load_split(tmp_path, ["mini"], "train")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "mini").glob("*.npy"))


def test_fifty_thousand_utterances_take_little_memory(tmp_path, rng):
    """As Lhotse's objects they would take 150 MB; the index has 24 bytes for each."""
    count = 50_000
    write(tmp_path, "mini", rng.uniform(1, 12, count).round(2).tolist())
    tracemalloc.start()
    try:
        cuts = splits.load_split(tmp_path, ["mini"], "train")
        assert len(cuts) == count
        assert cuts[count - 1].id == f"u{count - 1}" == cuts[f"u{count - 1}"].id
        opened = tracemalloc.get_traced_memory()[1]
        assert sum(1 for cut in itertools.islice(cuts, 1000) if cut.duration > 6) > 300
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert opened < 120 * count
    assert peak < opened + 1e6


def test_an_utterance_with_the_id_of_another_keeps_its_own_sound(tmp_path):
    """It was looked up by the id that it had before, so that batches had the other one's features twice."""
    for corpus, level in (("mini", 0.1), ("timit", 0.7)):
        soundfile.write(tmp_path / f"{corpus}.wav", np.full(8000, level) * np.sin(np.arange(8000)), 16000)
        write(tmp_path, corpus, [0.5 if corpus == "mini" else 0.50001], source=tmp_path / f"{corpus}.wav")
    cuts = splits.load_split(tmp_path, ["mini", "timit"], "train")
    assert list(cuts.ids) == ["u0", "timit-u0"]
    store = LiveFeatures(cuts, FeatureExtractor(FEATURES))
    batch = SpeechDataset({1.0: store}, Normaliser(FEATURES), NoTargets())[cuts]
    assert batch.ids == ["u0", "timit-u0"]
    assert float((batch.features[1] - batch.features[0]).mean()) > 2
