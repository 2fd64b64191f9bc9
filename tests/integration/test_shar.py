"""From a corpus to shards, and from these, local or by URL, to a trained and scored network."""

import functools
import gc
import http.server
import io
import json
import shutil
import tarfile
import threading
import warnings

import numpy as np
import pytest
import soundfile
from lhotse import CutSet

from asr.core.config import FeatureConfig, from_dict
from asr.core.errors import AsrError, ConfigError, CorpusError
from asr.data import shar, splits
from asr.data.batches import LabelTargets, SpeechDataset
from asr.data.feature_store import cache_features
from asr.data.shards import ShardDataset, ShardLoader, Shards
from asr.speech import audio
from asr.speech import shar as shar_files
from asr.speech.features import FeatureExtractor
from asr.speech.normaliser import Normaliser
from asr.speech.phones import PhoneSet
from data_prep import mini, prepare

FEATURES = FeatureConfig(num_mel_bins=20, delta_order=0)
YAML = """
data: {corpora: {mini: PLACE}, max_frames: 800, num_buckets: 2, speeds: [0.9, 1.0], labels: timit48, scoring: timit39}
features: {num_mel_bins: 20, delta_order: 0, use_energy: false, cmvn: global}
conditions: {noise: 0.5, babble: 0.5}
spec_augment: {num_time_masks: 1}
model: {name: blstm, num_layers: 1, hidden_size: 16, stack: 3}
train: {max_epochs: 2, learning_rate: 0.01}
decode: {beam_size: 2}
"""
TOKENS = ("-", *PhoneSet.load("timit61").labels)


@pytest.fixture(scope="module")
def written(mini_tree, tmp_path_factory):
    """Manifests of the corpus, and its shards of 15 utterances."""
    folder = tmp_path_factory.mktemp("shar")
    mini.prepare(mini_tree, folder / "data" / "mini")
    counts = shar.write(folder / "data", "mini", folder / "shards" / "mini", 15, "flac", 0)
    assert counts == {"train": 40, "dev": 8, "test": 16}
    return folder


def opened(manifests, **data):
    config = from_dict({"data": {"corpora": {"mini": None}, "manifests": str(manifests), "max_frames": 800, **data}})
    return config, Shards.find(config)


@pytest.fixture
def loader(written, tmp_path):
    prepare("mini", written / "shards" / "mini", tmp_path)

    def make(world_size=1, rank=0, **data):
        config, shards = opened(tmp_path, **data)
        targets = LabelTargets(TOKENS, "timit61")
        arguments = {1.0: None}, Normaliser(FEATURES), targets
        dataset = ShardDataset(FeatureExtractor(FEATURES), 3, *arguments)
        return ShardLoader(shards, dataset, config, world_size, rank)

    return make


def epoch(batches, number):
    batches.set_epoch(number)
    return list(batches)


def ids(batches):
    return [batch.ids for batch in batches]


def test_lhotse_reads_what_was_written(written):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Lhotse does not close archives
        train = list(CutSet.from_shar(in_dir=written / "shards" / "mini" / "train"))
        gc.collect()
    expected = {cut.id: cut for cut in splits.load_split(written / "data", ["mini"], "train")}
    order = []
    for cut in train:
        order.append(cut.id)
        assert cut.supervisions == expected[cut.id].supervisions
        np.testing.assert_array_equal(cut.load_audio(), expected[cut.id].load_audio())
    assert sorted(order) == sorted(expected)
    assert order != list(expected)  # so that a shard has many speakers


def test_dev_and_test_are_files_again(written, tmp_path):
    prepare("mini", written / "shards" / "mini", tmp_path)
    for split, count in (("dev", 8), ("test", 16)):
        pairs = list(
            zip(*(splits.load_split(each, ["mini"], split) for each in (written / "data", tmp_path)), strict=True)
        )
        assert len(pairs) == count
        for expected, found in pairs:
            assert found.supervisions == expected.supervisions
            assert found.phone_set == "timit61"
            np.testing.assert_array_equal(found.load_audio(), expected.load_audio())
    with pytest.raises(AsrError, match="mini is in shards, on which CTC and attention alone are trained"):
        splits.load_split(tmp_path, ["mini"], "train")


def test_a_corpus_may_be_in_shards_and_then_in_files_again(written, mini_tree, tmp_path):
    for _ in range(2):
        prepare("mini", mini_tree, tmp_path)
        assert opened(tmp_path)[1] is None
        assert len(splits.load_split(tmp_path, ["mini"], "train")) == 40
        in_files = splits.contents(tmp_path, "mini")
        prepare("mini", written / "shards" / "mini", tmp_path)
        assert opened(tmp_path)[1] is not None
        assert splits.contents(tmp_path, "mini") != in_files
        assert not splits.has_split(tmp_path, "mini", "test_full")


def test_an_utterance_is_what_it_is_when_features_are_cached(written, loader, tmp_path):
    cuts = splits.load_split(written / "data", ["mini"], "train")
    store = cache_features(cuts, FEATURES, tmp_path / "features", "train")
    cached = SpeechDataset({1.0: store}, Normaliser(FEATURES), LabelTargets(TOKENS, "timit61"))
    seen = []
    for batch in epoch(loader(), 0):
        expected = cached[[cuts[name] for name in batch.ids]]
        assert (expected.features == batch.features).all()
        assert (expected.targets == batch.targets).all()
        assert (expected.feature_lengths == batch.feature_lengths).all()
        seen += batch.ids
    assert sorted(seen) == sorted(cuts.ids)


def test_the_order_follows_from_seed_and_epoch(loader):
    batches = loader()
    first, second = ids(epoch(batches, 0)), ids(epoch(batches, 1))
    assert first != second
    assert ids(epoch(loader(), 1)) == second
    assert ids(epoch(batches, 0)) == first
    assert {tuple(sorted(each)) for each in first} != {tuple(sorted(each)) for each in second}


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_have_as_many_batches_of_their_own(loader, world_size):
    parts = [ids(epoch(loader(world_size, rank), 2)) for rank in range(world_size)]
    assert len({len(part) for part in parts}) == 1
    heard = [name for part in parts for batch in part for name in batch]
    assert len(heard) == len(set(heard)) >= 40 - 4 * world_size
    assert len(parts[0]) > 3


@pytest.mark.parametrize("taken", [1, 7])
def test_a_resumed_loader_hands_out_the_rest_and_opens_no_shard_before(loader, taken, monkeypatch):
    batches = loader()
    batches.set_epoch(3)
    iterator = iter(batches)
    for _ in range(taken):
        next(iterator)
    state, rest = batches.state_dict(), ids(iterator)
    numbers = []
    plain_open = Shards.open
    monkeypatch.setattr(Shards, "open", lambda self, number: numbers.append(number) or plain_open(self, number))
    resumed = loader()
    resumed.load_state_dict(state)
    assert ids(resumed) == rest
    assert len(set(numbers)) == (3 if taken == 1 else 2)


def test_a_batch_that_cannot_be_used_is_replaced(loader, caplog):
    batches = loader()
    batches.set_epoch(0)
    names = [cut.id for cut in batches.batches[1]]
    plain = batches.dataset.features

    def features(cut, speed):
        found = plain(cut, speed)
        return found[:2] if cut.id in names else found

    batches.dataset.features = features
    drawn = ids(batches)
    assert drawn[1] == drawn[2]
    assert not {name for batch in drawn for name in batch} & {*names}
    assert all(f"skipped {name}: its" in caplog.text for name in names)


def test_opus_takes_less_space_and_sounds_alike(written, tmp_path):
    """At 16 kHz, whatever the rate of the recording."""
    rng = np.random.default_rng(0)
    for name, rate in (("a", 16000), ("b", 22050)):
        sound = np.sin(np.arange(rate) * 2 * np.pi * 440 / rate) / 4 + 0.01 * rng.standard_normal(rate)
        soundfile.write(tmp_path / f"{name}.wav", sound, rate)
    rows = ["path,text,speaker,split", "a.wav,oh no,a,train", "b.wav,oh no,b,dev"]
    (tmp_path / "mine.csv").write_text("\n".join(rows))
    prepare("mine", tmp_path / "mine.csv", tmp_path / "data")
    for form in ("flac", "opus"):
        shar.write(tmp_path / "data", "mine", tmp_path / form, 10, form, 0)
    for split in ("train", "dev"):
        flac, opus = (shar_files.Shar.read(str(tmp_path / form)).open(split, 0).sound(0) for form in ("flac", "opus"))
        assert len(opus) < len(flac) / 2
        assert soundfile.info(io.BytesIO(opus)).samplerate == 16000
        expected, found = (np.abs(np.fft.rfft(audio.load(each)[:15000])) for each in (flac, opus))
        assert abs(int(expected.argmax()) - int(found.argmax())) <= 1
        assert found.max() == pytest.approx(expected.max(), rel=0.1)


# --- what is damaged


@pytest.fixture
def shards(written, tmp_path):
    """A copy of the shards, to be damaged."""
    return shutil.copytree(written / "shards" / "mini", tmp_path / "copy")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("archive_cut", r"copy/train/recording.000001.tar .*: copy (it|both) again$"),
        (
            "archive_ends_early",
            r"recording.000001.tar is cut short, .* \(15 cuts and 14 sounds of 15\): copy both again$",
        ),
        ("cuts_cut", r"recording.000001.tar or the cuts beside it cannot be read \(.*\): copy it again$"),
        ("no_tar", r"recording.000001.tar .* \(.*\): copy it again$"),
        ("others", r"recording.000001.tar: utterance \d+ is damaged \(.* has the sound .*\): write the Shar again$"),
        ("gone", r"copy/train/recording.000001.tar .*No such file .*: copy it again$"),
    ],
)
def test_a_damaged_shard_is_one_line(shards, tmp_path, damage, message):
    prepare("mini", shards, tmp_path / "data")
    cuts, archive = shards / "train" / "cuts.000001.jsonl.gz", shards / "train" / "recording.000001.tar"
    whole = archive.read_bytes()
    if damage == "archive_cut":
        archive.write_bytes(whole[: len(whole) // 2])
    elif damage == "archive_ends_early":
        with tarfile.open(archive) as members:
            archive.write_bytes(whole[: members.getmembers()[-2].offset])
    elif damage == "cuts_cut":
        cuts.write_bytes(cuts.read_bytes()[:-20])
    elif damage == "no_tar":
        archive.write_bytes(b"<html>" * 5000)
    elif damage == "others":
        shutil.copy(shards / "train" / "recording.000000.tar", archive)
    else:
        archive.unlink()
    _, found = opened(tmp_path / "data")
    with pytest.raises(CorpusError, match=message) as caught:
        list(found.open(1)[number] for number in range(15))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("shard", r"copy/train has no recording.000002.tar: copy the whole folder again"),
        ("split", r"copy/dev has no cuts.000000.jsonl.gz: copy the whole folder again"),
        ("mark", r"copy/shar.json is damaged \(.*\): write the Shar again"),
        ("lengths", r"copy/train.npy does not fit shar.json: write the Shar again"),
        ("lengths_cut", r"copy/train.npy is damaged \(.*\): write the Shar again"),
    ],
)
def test_a_shar_that_is_not_whole_is_one_line(shards, tmp_path, damage, message):
    if damage == "shard":
        (shards / "train" / "recording.000002.tar").unlink()
    elif damage == "split":
        shutil.rmtree(shards / "dev")
    elif damage == "mark":
        (shards / "shar.json").write_text('{"place": "", "sizes"')
    elif damage == "lengths":
        np.save(shards / "train.npy", np.ones(3, np.float32))
    else:
        (shards / "train.npy").write_bytes((shards / "train.npy").read_bytes()[:-40])
    with pytest.raises(CorpusError, match=message) as caught:
        prepare("mini", shards, tmp_path / "data")
    assert "\n" not in str(caught.value)


def test_without_a_network_it_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("fsspec", reason="the extra `scale` is not installed")
    with pytest.raises(CorpusError, match=r"http://127.0.0.1:9/mini/shar.json: .*: check the network") as caught:
        prepare("mini", "http://127.0.0.1:9/mini", tmp_path / "data")
    assert "\n" not in str(caught.value)
    pauses = []
    monkeypatch.setattr(shar_files.time, "sleep", pauses.append)
    with pytest.raises(CorpusError, match=r"http://127.0.0.1:9/mini/train/cuts.000000.jsonl.gz: .*: check the network"):
        shar_files.Shar("http://127.0.0.1:9/mini", "", "", {"train": (1,)}).open("train", 0)
    assert pauses == [1.0, 10.0]


def test_no_folder_is_replaced_that_is_no_shar(written, tmp_path):
    (tmp_path / "mini").mkdir()
    with pytest.raises(AsrError, match=r"mini is there and has no shar.json: name another folder with --shar"):
        shar.write(written / "data", "mini", tmp_path / "mini", 15, "flac", 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": {"cmvn": "speaker"}}, "features.cmvn needs all of the corpus at once, which is in shards"),
        ({"train": {"alignments": "gmm"}}, "train.alignments needs all of the corpus at once, which is in shards"),
        ({"data": {"exclude": "misread.txt"}}, "data.exclude needs all of the corpus at once, which is in shards"),
        ({"data": {"corpora": {"mini": None, "timit": None}}}, "has timit beside corpora in shards: write all with"),
    ],
)
def test_what_needs_all_utterances_is_refused(shards, written, tmp_path, change, message):
    prepare("mini", shards, tmp_path / "data")
    shutil.copytree(written / "data" / "mini", tmp_path / "data" / "timit")
    values = {"corpora": {"mini": None}, "manifests": str(tmp_path / "data"), **change.pop("data", {})}
    with pytest.raises(ConfigError, match=message):
        Shards.find(from_dict({"data": values, **change}))


# --- from the command to a score


@pytest.fixture
def server(written):
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(quiet, directory=written / "shards")
    ) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


def test_two_epochs_and_a_score(cli, mini_tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(YAML.replace("PLACE", str(mini_tree)))
    code, out, err = cli("prepare", "tiny.yaml", "--shar", "shards", "--shard-size", "12", "--shar-format", "flac")
    assert code == 0, err
    assert "mini: shards in shards/mini, 40 train, 8 dev, 16 test" in out
    assert len(list(tmp_path.glob("shards/mini/train/recording.*.tar"))) == 4
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(YAML.replace("PLACE", "shards/mini"))
    code, out, err = cli("train", "tiny.yaml", "--run", "run")
    assert code == 0, err
    assert "skipped" not in err
    epochs = json.loads((tmp_path / "run" / "history.json").read_text())["epochs"]
    assert [each["epoch"] for each in epochs] == [1, 2]
    assert epochs[1]["loss"] < epochs[0]["loss"]
    code, out, err = cli("evaluate", "run")
    assert code == 0, err
    assert "mini test, best path: PER" in out


def test_an_epoch_by_url(cli, server, tmp_path, monkeypatch):
    pytest.importorskip("fsspec", reason="the extra `scale` is not installed")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(YAML.replace("PLACE", f"{server}/mini").replace("epochs: 2", "epochs: 1"))
    code, _, err = cli("train", "tiny.yaml", "--run", "run")
    assert code == 0, err
    assert len(json.loads((tmp_path / "run" / "history.json").read_text())["epochs"]) == 1
