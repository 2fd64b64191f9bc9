"""TIMIT's layout to manifests: splits, counts, alignments and clear faults, on small trees of that layout."""

import itertools
import shutil

import numpy as np
import pytest
import soundfile
from lhotse import load_manifest

from asr.core.errors import CorpusError
from data_prep import mini, timit

SENTENCES = ["SA1", "SA2", "SX1", "SX2", "SX3", "SX4", "SX5", "SI1", "SI2", "SI3"]


@pytest.fixture(scope="module")
def mini_tree(tmp_path_factory):
    return mini.synthesise(tmp_path_factory.mktemp("mini") / "corpus", 2, 1, 1)


@pytest.fixture
def tree(mini_tree, tmp_path):
    return shutil.copytree(mini_tree, tmp_path / "TIMIT")


@pytest.fixture(scope="module")
def full_tree(tmp_path_factory):
    """630 speakers with ten sentences of 100 samples each; audio is a link to one file."""
    root = tmp_path_factory.mktemp("full") / "timit"
    root.mkdir()
    soundfile.write(root / "audio.wav", np.zeros(100, dtype=np.int16), 16000, format="NIST", subtype="PCM_16")
    (root / "audio.phn").write_text("0 60 h#\n60 100 q\n")
    (root / "audio.wrd").write_text("0 100 oh\n")
    standard = sorted(timit.standard_speakers("dev") + timit.standard_speakers("test"))
    parts = {"TRAIN": [f"MTR{i:03}" for i in range(462)], "TEST": standard + [f"FTE{i:03}" for i in range(94)]}
    for part, names in parts.items():
        for name, sentence in itertools.product(names, SENTENCES):
            folder = root / part / "DR1" / name
            folder.mkdir(parents=True, exist_ok=True)
            for suffix in ("wav", "phn", "wrd"):
                (folder / f"{sentence}.{suffix.upper()}").symlink_to(root / f"audio.{suffix}")
    return root


def manifests(folder, split):
    recordings = load_manifest(folder / f"recordings_{split}.jsonl.gz")
    supervisions = load_manifest(folder / f"supervisions_{split}.jsonl.gz")
    return list(recordings), list(supervisions)


def test_standard_lists():
    dev, test = timit.standard_speakers("dev"), timit.standard_speakers("test")
    assert (len(dev), len(test), len({*dev, *test})) == (50, 24, 74)
    assert all(name[0] in "FM" and len(name) == 5 and name.isupper() for name in dev + test)
    assert sum(name.startswith("F") for name in test) == 8


def test_a_full_timit_has_the_standard_counts(full_tree, tmp_path):
    timit.prepare(full_tree, tmp_path)
    counts = {split: len(load_manifest(tmp_path / f"supervisions_{split}.jsonl.gz")) for split in timit.SPLITS}
    assert counts == {"train": 3696, "dev": 400, "test": 192, "test_full": 1344}
    speakers = {split: {s.speaker for s in manifests(tmp_path, split)[1]} for split in timit.SPLITS}
    assert not speakers["train"] & speakers["test_full"]
    assert not speakers["dev"] & speakers["test"]
    assert speakers["dev"] | speakers["test"] < speakers["test_full"]


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("TEST/DR1/MDAB0", r"test has 184 of 192 utterances \(23 of 24 speakers, MDAB0 is missing\)"),
        ("TEST/DR1/FAKS0", r"dev has 392 of 400 utterances \(49 of 50 speakers, FAKS0 is missing\)"),
        ("TRAIN/DR1/MTR001", r"train has 3,688 of 3,696 utterances \(461 of 462 speakers\)"),
    ],
)
def test_a_full_timit_without_a_speaker_is_refused(full_tree, tmp_path, gone, message):
    away = (full_tree / gone).rename(tmp_path / "away")
    try:
        with pytest.raises(CorpusError, match=message):
            timit.prepare(full_tree, tmp_path / "manifests")
    finally:
        away.rename(full_tree / gone)
    assert not (tmp_path / "manifests").exists()


def test_a_full_timit_without_a_sentence_is_refused(full_tree, tmp_path):
    files = [full_tree / "TRAIN" / "DR1" / "MTR007" / f"SX3.{suffix}" for suffix in ("WAV", "PHN", "WRD")]
    moved = [path.rename(tmp_path / path.name) for path in files]
    try:
        with pytest.raises(CorpusError, match=r"3,695 of 3,696 .*MTR007 has 7 sentences"):
            timit.prepare(full_tree, tmp_path / "manifests")
    finally:
        for path, place in zip(moved, files, strict=True):
            path.rename(place)


def test_mini_is_split_by_the_same_rules(mini_tree, tmp_path):
    timit.prepare(mini_tree, tmp_path)
    counts = {split: len(load_manifest(tmp_path / f"recordings_{split}.jsonl.gz")) for split in timit.SPLITS}
    assert counts == {"train": 16, "dev": 8, "test": 8, "test_full": 16}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{kind}_{split}.jsonl.gz" for kind in ("recordings", "supervisions") for split in timit.SPLITS
    )


def test_supervisions_say_what_the_files_say(mini_tree, tmp_path):
    mini.prepare(mini_tree, tmp_path)
    recordings, supervisions = manifests(tmp_path, "test")
    recording, segment = recordings[0], supervisions[0]
    stem = mini_tree / "TEST" / "DR1" / "MDAB0" / segment.id.removeprefix("MDAB0_")
    rows = [line.split() for line in stem.with_suffix(".PHN").read_text().splitlines()]
    assert recording.sources[0].source == str(stem.with_suffix(".WAV"))
    assert (recording.id, recording.sampling_rate, recording.num_samples) == (segment.id, 16000, int(rows[-1][1]))
    assert segment.custom == {"phones": " ".join(row[2] for row in rows), "dialect": "DR1"}
    assert [item.symbol for item in segment.alignment["phone"]] == [row[2] for row in rows]
    assert segment.alignment["phone"][1].start == pytest.approx(int(rows[1][0]) / 16000, abs=1e-9)
    assert segment.alignment["phone"][-1].end == pytest.approx(recording.duration, abs=1e-6)
    words = [line.split()[2] for line in stem.with_suffix(".WRD").read_text().splitlines()]
    assert [item.symbol for item in segment.alignment["word"]] == words == segment.text.split()
    assert (segment.speaker, segment.gender, segment.language) == ("MDAB0", "m", "English")
    assert (segment.start, segment.channel, segment.duration) == (0, 0, recording.duration)
    assert recording.load_audio().shape == (1, recording.num_samples)


def test_sa_sentences_are_left_out(tree, tmp_path):
    folder = tree / "TEST" / "DR1" / "MDAB0"
    for path in folder.glob(f"{min(folder.iterdir()).stem}.*"):
        shutil.copy(path, folder / f"SA1{path.suffix}")
    timit.prepare(tree, tmp_path / "manifests")
    ids = [segment.id for segment in manifests(tmp_path / "manifests", "test")[1]]
    assert (len(ids), (folder / "SA1.PHN").is_file()) == (8, True)
    assert "MDAB0_SA1" not in ids


def test_lower_case_trees_and_riff_copies(tree, tmp_path):
    for path in sorted(tree.rglob("*"), key=lambda path: -len(path.parts)):
        path.rename(path.with_name(path.name.lower()))
    for path in sorted(tree.rglob("*.wav")):
        samples, rate = soundfile.read(path, dtype="int16")
        path.unlink()
        soundfile.write(path.with_name(f"{path.stem.upper()}.WAV.wav"), samples, rate, format="WAV")
    timit.prepare(tree.parent, tmp_path / "manifests")
    recordings, supervisions = manifests(tmp_path / "manifests", "dev")
    assert len(recordings) == 8
    assert {s.speaker for s in supervisions} == {"FAKS0"}
    assert {s.custom["dialect"] for s in supervisions} == {"DR1"}
    assert recordings[0].sources[0].source.endswith(".WAV.wav")


@pytest.mark.parametrize("get", [timit.obtain, lambda path: timit.prepare(path, path)])
def test_no_timit_says_what_it_is_and_where_to_buy_it(get, tmp_path):
    with pytest.raises(CorpusError) as caught:
        get(tmp_path / "nowhere")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("LDC93S1", "Linguistic Data Consortium", "catalog.ldc.upenn.edu/LDC93S1"):
        assert part in message
    assert "make train RECIPE=timit TIMIT=/path/to/TIMIT" in message
    assert "RECIPE=mini" in message


def test_a_wrong_folder_has_its_own_line(tmp_path):
    with pytest.raises(CorpusError, match="is not TIMIT: it has no folders TRAIN and TEST"):
        timit.prepare(tmp_path, tmp_path / "manifests")


def test_an_empty_split_is_an_error(tree, tmp_path):
    shutil.rmtree(tree / "TEST" / "DR1" / "FAKS0")
    with pytest.raises(CorpusError, match="has no speaker for dev"):
        timit.prepare(tree, tmp_path / "manifests")


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".PHN", "0 100 h#\n100 200 zz\n", "line 2: 'zz' is not one of TIMIT's 61 labels"),
        (".PHN", "0 100 h#\n200 100 aa\n", "line 2: '200 100 aa' is not `start end label`"),
        (".PHN", "0 100\n", "line 1: '0 100' is not `start end label`"),
        (".PHN", "\n", "is empty: copy it"),
        (".WAV", "no audio", "is not audio"),
        (".WRD", None, "has no .WRD file"),
        (".WAV", None, "has no .WAV file"),
    ],
)
def test_faulty_files_are_named(tree, tmp_path, suffix, content, message):
    path = next((tree / "TRAIN").glob(f"*/*/*{suffix}"))
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(CorpusError, match=message) as caught:
        timit.prepare(tree, tmp_path / "manifests")
    assert path.parent.name in str(caught.value)
    assert path.stem in str(caught.value)
