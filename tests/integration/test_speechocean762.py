import logging
import tarfile

import numpy as np
import pytest
import soundfile
from lhotse import RecordingSet, SupervisionSet

from asr.core.errors import CorpusError
from asr.speech.phones import PhoneSet
from data_prep import download, speechocean762

SPLITS = ("train", "dev", "test")


def load(folder):
    return {split: SupervisionSet.from_file(folder / f"supervisions_{split}.jsonl.gz") for split in SPLITS}


@pytest.fixture
def corpus(tmp_path, rng):
    """Two splits of ten speakers with two utterances each, in the corpus's layout."""
    folder = tmp_path / "speechocean762"
    (folder / "resource").mkdir(parents=True)
    phones = []
    for split, first in (("train", 100), ("test", 200)):
        (folder / split).mkdir()
        lists = {"wav.scp": [], "text": [], "utt2spk": [], "spk2gender": [], "spk2age": []}
        for speaker in range(first, first + 10):
            (folder / "WAVE" / f"SPEAKER0{speaker}").mkdir(parents=True)
            lists["spk2gender"].append(f"0{speaker}\t{'fm'[speaker % 2]}")
            lists["spk2age"].append(f"0{speaker}\t{speaker % 30}")
            for i in range(2):
                name = f"0{speaker}{i:04d}"
                path = f"WAVE/SPEAKER0{speaker}/{name}.WAV"
                soundfile.write(folder / path, 0.1 * rng.standard_normal(1600 + i), 16000, format="WAV")
                lists["wav.scp"].append(f"{name}\t{path}")
                lists["text"].append(f"{name}\tCALL IT")
                lists["utt2spk"].append(f"{name}\t0{speaker}")
                phones += [f"{name}.1\tIH1_B T_E", f"{name}.0\tK_B AO0_I L_E"]  # in any order
        for stem, lines in lists.items():
            (folder / split / stem).write_text("\n".join(lines) + "\n")
    (folder / "resource" / "text-phone").write_text("\n".join(phones) + "\n")
    return folder


def drop_line(path, start):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith(start)))


@pytest.mark.corpus
def test_real_sample(speech_data, tmp_path):
    speechocean762.prepare(speech_data / "speechocean762-mini", tmp_path)
    supervisions = load(tmp_path)
    speakers = {split: {s.speaker for s in supervisions[split]} for split in SPLITS}
    assert {split: len(supervisions[split]) for split in SPLITS} == {"train": 288, "dev": 32, "test": 120}
    assert {split: len(speakers[split]) for split in SPLITS} == {"train": 72, "dev": 8, "test": 30}
    assert len(set.union(*speakers.values())) == 110
    assert {s.gender for s in supervisions["dev"]} == {"f", "m"}
    ages = [s.custom["age"] for s in supervisions["dev"]]
    assert min(ages) < 13
    assert max(ages) > 20
    known = PhoneSet.load("arpabet39")
    for split in SPLITS:
        recordings = RecordingSet.from_file(tmp_path / f"recordings_{split}.jsonl.gz").to_eager()
        for supervision in supervisions[split]:
            phones = supervision.custom["phones"].split()
            known.check(phones)
            assert len(supervision.custom["word_lengths"]) == len(supervision.text.split())
            assert sum(supervision.custom["word_lengths"]) == len(phones)
            assert supervision.duration == recordings[supervision.recording_id].duration > 0.5
            assert supervision.text == supervision.text.upper() != ""
    bob = next(s for split in SPLITS for s in supervisions[split] if s.id == "000010149")
    assert bob.text == "BOB LIVES IN CAIRO NOW"
    assert bob.custom["phones"].startswith("B AA B L IH V Z IH N K AY R OW")
    assert bob.custom["word_lengths"] == [3, 4, 2, 4, 2]


def test_manifests_of_the_whole_layout(corpus, tmp_path):
    speechocean762.prepare(corpus, tmp_path / "manifests")
    supervisions = load(tmp_path / "manifests")
    assert {split: len(supervisions[split]) for split in SPLITS} == {"train": 18, "dev": 2, "test": 20}
    first = next(iter(supervisions["test"]))
    assert (first.id, first.text, first.speaker, first.gender) == ("02000000", "CALL IT", "0200", "f")
    assert first.custom == {"phones": "K AO L IH T", "word_lengths": [3, 2], "age": 20}
    assert (first.start, first.duration, first.channel, first.language) == (0, 0.1, 0, "English")
    assert len(list((tmp_path / "manifests").iterdir())) == 6  # nothing temporary is left


def test_recordings_load(corpus, tmp_path):
    speechocean762.prepare(corpus, tmp_path)
    recording = next(iter(RecordingSet.from_file(tmp_path / "recordings_test.jsonl.gz")))
    samples = recording.load_audio()
    assert samples.shape == (1, 1600)
    assert np.abs(samples).max() > 0.1


def test_same_tree_gives_the_same_manifests(corpus, tmp_path):
    speechocean762.prepare(corpus, tmp_path / "one")
    speechocean762.prepare(corpus.parent, tmp_path / "two")
    assert [s.to_dict() for s in load(tmp_path / "one")["dev"]] == [s.to_dict() for s in load(tmp_path / "two")["dev"]]


def test_unusable_utterances_are_named_and_left_out(corpus, tmp_path, caplog):
    (corpus / "WAVE" / "SPEAKER0200" / "02000000.WAV").unlink()
    (corpus / "WAVE" / "SPEAKER0201" / "02010000.WAV").write_bytes(b"")
    soundfile.write(corpus / "WAVE" / "SPEAKER0202" / "02020000.WAV", np.zeros(0), 16000, format="WAV")
    (corpus / "WAVE" / "SPEAKER0203" / "02030000.WAV").write_text("not audio")
    drop_line(corpus / "resource" / "text-phone", "02040000.")
    with caplog.at_level(logging.WARNING):
        speechocean762.prepare(corpus, tmp_path / "manifests")
    messages = [record.getMessage() for record in caplog.records]
    for name in ("02000000", "02010000", "02020000", "02030000", "02040000"):
        assert sum(message.startswith(f"{name} left out") for message in messages) == 1
    assert messages[-1] == "test: 5 of 20 utterances left out"
    assert len(load(tmp_path / "manifests")["test"]) == 15


def test_a_split_without_audio_is_refused(corpus, tmp_path):
    for path in (corpus / "WAVE").glob("SPEAKER02*/*.WAV"):
        path.unlink()
    with pytest.raises(CorpusError, match="test has no utterance with audio and phones"):
        speechocean762.prepare(corpus, tmp_path / "manifests")
    assert not any((tmp_path / "manifests").iterdir())


def test_a_wrong_folder_is_named_with_where_to_get_the_corpus(tmp_path):
    with pytest.raises(CorpusError, match=r"openslr\.org/101") as error:
        speechocean762.prepare(tmp_path / "nowhere", tmp_path / "manifests")
    assert "nowhere" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["wav.scp", "text", "utt2spk", "spk2gender", "spk2age"])
def test_a_missing_list_is_named(corpus, tmp_path, name):
    (corpus / "test" / name).unlink()
    with pytest.raises(CorpusError, match=f"test/{name} is missing"):
        speechocean762.prepare(corpus, tmp_path / "manifests")


def test_an_unknown_phone_is_named_with_its_utterance(corpus, tmp_path):
    path = corpus / "resource" / "text-phone"
    path.write_text(path.read_text().replace("02000001.0\tK_B", "02000001.0\tQX_B"))
    with pytest.raises(CorpusError, match="utterance 02000001: label 'QX' at position 1"):
        speechocean762.prepare(corpus, tmp_path / "manifests")


def test_a_speaker_in_train_and_test_is_refused(corpus, tmp_path):
    path = corpus / "test" / "utt2spk"
    path.write_text(path.read_text().replace("\t0203", "\t0103"))
    with pytest.raises(CorpusError, match="speaker 0103 is in train and in test"):
        speechocean762.prepare(corpus, tmp_path / "manifests")


def test_an_incomplete_archive_is_refused(corpus, tmp_path, monkeypatch):
    """OpenSLR publishes no checksum of this corpus: its utterances are counted instead."""
    served = tmp_path / "served" / "101"
    served.mkdir(parents=True)
    with tarfile.open(served / "speechocean762.tar.gz", "w:gz") as archive:
        archive.add(corpus, "speechocean762")
    monkeypatch.setattr(download, "OPENSLR", (tmp_path / "served").as_uri())
    with pytest.raises(CorpusError, match="has 40 utterances of 20 speakers instead of 5000 of 250"):
        speechocean762.obtain(tmp_path / "target")
