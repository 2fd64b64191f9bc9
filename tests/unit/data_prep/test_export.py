"""A prepared corpus in another form says what it said: read again, it has the same utterances and sound."""

import subprocess

import numpy as np
import pytest
from lhotse import CutSet, SupervisionSet

from asr.core.errors import CorpusError
from asr.speech import audio
from data_prep import forms, own
from data_prep.export import WRITERS, export
from tests.speech_forms import PHONES, SAID, SECONDS, kaldi, sound, table


@pytest.fixture
def prepared(tmp_path):
    table(tmp_path / "mine")
    own.prepare(tmp_path / "mine", tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize("form", WRITERS)
def test_what_is_exported_is_read_again(form, prepared, tmp_path):
    assert export(prepared, tmp_path / "out", form) == {"train": 2, "dev": 1, "test": 1}
    found = {}
    for split in ("train", "dev", "test"):
        place = tmp_path / "out" / split
        assert forms.form_of(place)[0].name == (
            "a data directory of Kaldi" if form == "kaldi" else "manifests of Lhotse"
        )
        for record in own._in_files(forms.form_of(place)[0].read(place), tmp_path / "unpacked"):
            name = record.id.rpartition("-")[2]
            found[name] = (record.speaker, split, record.text)
            assert record.phones == PHONES[name]
            waveform = audio.load(record.audio)
            assert len(waveform) == SECONDS * audio.SAMPLE_RATE
            np.testing.assert_allclose(waveform, audio.load(tmp_path / "mine" / "wav" / f"{name}.wav"), atol=1e-4)
    assert found == SAID
    own.prepare(tmp_path / "out", tmp_path / "again")  # a folder for each split
    assert len(list((tmp_path / "again").glob("supervisions_*.jsonl.gz"))) == 3


def test_kaldi_lists_are_sorted_by_bytes_and_by_speaker(tmp_path):
    kaldi(tmp_path / "mine")
    own.prepare(tmp_path / "mine", tmp_path / "data")
    export(tmp_path / "data", tmp_path / "out", "kaldi")
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            ordered = subprocess.run(["sort", "-c", path], env={"LC_ALL": "C"}, check=False, capture_output=True)
            assert ordered.returncode == 0, path
    train = tmp_path / "out" / "train"
    assert (train / "utt2spk").read_text() == "ann-a1 ann\nann-a2 ann\n"
    assert (train / "spk2utt").read_text() == "ann ann-a1 ann-a2\n"
    assert (train / "spk2gender").read_text() == "ann f\n"
    assert (train / "phones").read_text().startswith(f"ann-a1 {PHONES['a1']}\n")
    assert {line.split()[1] for line in (train / "reco2dur").read_text().splitlines()} == {"1.500"}


def test_speakers_whose_names_begin_alike_are_sorted_as_their_utterances(tmp_path):
    splits = {"s1": "train", "s10": "train", "s2": "dev"}
    rows = [f"{sound(tmp_path / 'mine' / f'{s}_1.wav').name}\t{s}\t{splits[s]}\thello\n" for s in splits]
    (tmp_path / "mine" / "utterances.tsv").write_text("path\tspeaker\tsplit\ttext\n" + "".join(rows))
    own.prepare(tmp_path / "mine", tmp_path / "data")
    export(tmp_path / "data", tmp_path / "out", "kaldi")
    for path in (tmp_path / "out").glob("*/utt2spk"):
        pairs = [line.split() for line in path.read_text().splitlines()]
        assert pairs == sorted(pairs, key=lambda pair: pair[::-1])
    own.prepare(tmp_path / "out", tmp_path / "again")


def test_lhotse_cuts_have_all_that_the_manifests_have(prepared, tmp_path):
    export(prepared, tmp_path / "out", "lhotse")
    (cut,) = CutSet.from_file(tmp_path / "out" / "dev" / "cuts.jsonl.gz")
    (said,) = SupervisionSet.from_file(prepared / "supervisions_dev.jsonl.gz")
    assert cut.supervisions == [said]
    assert cut.duration == SECONDS


def test_a_folder_without_manifests_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="has no manifests: run `asr prepare`"):
        export(tmp_path, tmp_path / "out", "kaldi")


def test_the_command(prepared, tmp_path, cli):
    code, out, _ = cli("data", "export", prepared, tmp_path / "out", "--to", "shar")
    assert code == 0
    assert out.splitlines()[-1] == f"{tmp_path / 'out' / 'train'}: 2 utterances"
    code, _, err = cli("data", "export", prepared, tmp_path / "out", "--to", "espnet")
    assert code == 2
    assert "--to must be one of kaldi, lhotse, shar, but it is 'espnet'" in err
