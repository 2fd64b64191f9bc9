"""Each form of speech data becomes manifests; what it lacks is made; what is wrong is named with its line."""

import gzip
import itertools
import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, RecordingSet, SupervisionSet

from asr.core.errors import ConfigError, CorpusError
from asr.speech.label_files import to_textgrid
from asr.speech.segments import Segment
from asr.speech.transcription import Transcription
from data_prep import forms, own, prepare
from data_prep.forms import labelled_folder
from tests.speech_forms import (
    FORMS,
    PHONES,
    SAID,
    SECONDS,
    audio_folder,
    common_voice,
    cuts,
    eaf,
    edit,
    kaldi,
    kaldi_segments,
    lab_with_phones,
    ljspeech,
    prepared,
    shar,
    sound,
    table,
    table_of_parts,
    tables_of_splits,
    text_beside,
    textgrid_of_phones,
    textgrid_of_speakers,
    times,
)  # fmt: skip

NAMES_SPLITS = {text_beside, lab_with_phones, textgrid_of_phones, table, table_of_parts, tables_of_splits, common_voice}
NAMES_SPLITS |= {kaldi, prepared, cuts, shar, audio_folder}


def supervisions(folder):
    return {
        path.name.removeprefix("supervisions_").partition(".")[0]: list(SupervisionSet.from_file(path))
        for path in folder.glob("supervisions_*")
    }


@pytest.mark.parametrize("make", FORMS, ids=lambda make: make.__name__)
def test_each_form_is_recognised_and_prepared(make, tmp_path, caplog):
    place, manifests = tmp_path / "mine", tmp_path / "data"
    place.mkdir()
    make(place)
    assert forms.form_of(place)[0].name == FORMS[make]
    caplog.set_level(logging.INFO)
    prepare("mine", place, manifests)
    found = supervisions(manifests / "mine")
    assert "left out" not in caplog.text
    assert f"{FORMS[make]}, 4 utterances" in caplog.text
    phones = sorted(each.custom["phones"] for split in found.values() for each in split)
    assert phones == sorted(PHONES.values())
    if make in NAMES_SPLITS:
        assert {split: len(each) for split, each in found.items()} == {"train": 2, "dev": 1, "test": 1}
        assert {each.speaker for each in found["train"]} == {"ann"}
    else:
        assert "no splits are named" in caplog.text
        assert set(found) == {"train", "dev", "test"}
    for split in found:
        for recording in RecordingSet.from_file(manifests / "mine" / f"recordings_{split}.jsonl.gz"):
            assert recording.duration == pytest.approx(SECONDS, abs=0.08)
            assert Path(recording.sources[0].source).is_absolute()
            assert Path(recording.sources[0].source).is_file()
    caplog.clear()
    prepare("mine", None, manifests)
    assert caplog.text == ""  # nothing has changed


def test_a_part_of_a_recording_is_a_file_of_its_own_with_the_same_sound(tmp_path):
    table_of_parts(tmp_path)
    own.prepare(tmp_path, tmp_path / "out")
    whole, _ = soundfile.read(tmp_path / "talk.wav", dtype="int16")
    for name, (_, split, _) in SAID.items():
        start, end = (round(16000 * time) for time in times(name))
        parts = [
            recording.sources[0].source
            for recording in RecordingSet.from_file(tmp_path / "out" / f"recordings_{split}.jsonl.gz")
        ]
        (path,) = [part for part in parts if f"-{round(1000 * times(name)[0]):07d}-" in part]
        np.testing.assert_array_equal(soundfile.read(path, dtype="int16")[0], whole[start:end])
        assert Path(path).stat().st_mtime_ns == (tmp_path / "talk.wav").stat().st_mtime_ns


def test_times_of_phones_are_kept(tmp_path):
    textgrid_of_phones(tmp_path)
    own.prepare(tmp_path, tmp_path / "out")
    (dev,) = supervisions(tmp_path / "out")["dev"]
    step = SECONDS / 13  # eleven phones, and a silence at each end
    assert [item.symbol for item in dev.alignment["phone"]] == PHONES["b1"].split()
    for i, item in enumerate(dev.alignment["phone"], 1):
        assert (item.start, item.end) == pytest.approx((i * step, (i + 1) * step), abs=2e-3)
    own.prepare(tmp_path / "out", tmp_path / "again")  # by way of Lhotse's manifests
    assert supervisions(tmp_path / "again")["dev"][0].alignment == dev.alignment


def test_sound_is_copied_only_where_it_must_be_and_only_as_long(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table_of_parts(tmp_path)
    own.prepare(tmp_path, Path("out"))
    assert len(list(Path("out/audio").iterdir())) == len(SAID)
    text_beside(tmp_path / "other")
    for path in (tmp_path / "other").rglob("*.wav"):
        whole = to_textgrid({"said": [Segment(path.with_suffix(".txt").read_text(), 0.0, SECONDS)]}, SECONDS)
        path.with_suffix(".TextGrid").write_text(whole)
    own.prepare(tmp_path / "other", Path("out"))
    assert list(Path("out/audio").iterdir()) == []
    (recording,) = RecordingSet.from_file("out/recordings_dev.jsonl.gz")
    assert Path(recording.sources[0].source) == tmp_path / "other" / "dev" / "bob" / "b1.wav"


def test_one_channel_of_two(tmp_path):
    left, right = np.full(16000, 0.25), np.full(16000, -0.5)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16000)
    rows = [f"a.wav,hello,{speaker},{split},{i}" for i, (speaker, split) in enumerate([("x", "train"), ("y", "dev")])]
    (tmp_path / "utterances.csv").write_text("\n".join(["path,text,speaker,split,channel", *rows]))
    own.prepare(tmp_path, tmp_path / "out")
    for split, level in (("train", 0.25), ("dev", -0.5)):
        (recording,) = RecordingSet.from_file(tmp_path / "out" / f"recordings_{split}.jsonl.gz")
        assert (soundfile.read(recording.sources[0].source)[0] == level).all()


def test_what_only_ffmpeg_decodes_is_copied(tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed")
    import av

    for name in ("a", "b"):
        samples = np.zeros((1, 16000), np.int16) + 1000
        with av.open(str(tmp_path / f"{name}.m4a"), "w") as file:
            stream = file.add_stream("aac", rate=16000, layout="mono")
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate = 16000
            for packet in (*stream.encode(frame), *stream.encode(None)):
                file.mux(packet)
        (tmp_path / f"{name}.txt").write_text("hello")
    own.prepare(tmp_path, tmp_path / "out")
    (recording,) = RecordingSet.from_file(tmp_path / "out" / "recordings_train.jsonl.gz")
    assert Path(recording.sources[0].source).parent == tmp_path / "out" / "audio"


# --- what is missing is made


def spoken(folder, *names):
    for name in names:
        sound(folder / f"{name}.wav", 0.3).with_suffix(".txt").write_text("hello")
    return folder


def test_speakers_are_folders_and_splits_are_by_speaker(tmp_path, caplog):
    folder = spoken(tmp_path / "mine", *(f"wavs/s{i:02}/day{day}/{i}" for i in range(20) for day in (1, 2)))
    caplog.set_level(logging.INFO)
    own.prepare(folder, tmp_path / "out")
    found = {split: {each.speaker for each in segments} for split, segments in supervisions(tmp_path / "out").items()}
    assert {split: len(speakers) for split, speakers in found.items()} == {"train": 16, "dev": 2, "test": 2}
    assert len(set().union(*found.values())) == 20
    assert "no speakers are named: each of 20 folders is taken for one" in caplog.text
    made = "train 32 utterances of 16 speakers, dev 4 utterances of 2 speakers, test 4 utterances of 2 speakers"
    assert f"no splits are named: {made} are made by speaker" in caplog.text
    own.prepare(folder, tmp_path / "again")
    own.prepare(folder, tmp_path / "other", seed=1)
    same, other = ({each.id for each in supervisions(tmp_path / name)["test"]} for name in ("again", "other"))
    assert {each.id for each in supervisions(tmp_path / "out")["test"]} == same != other
    assert "wavs-s00-day1-0" not in same  # names are paths below what all have in common
    assert all(name.startswith("s") for name in same)


def test_the_splits_of_one_voice_are_by_recording(tmp_path, caplog):
    folder = spoken(tmp_path / "mine", *map(str, range(30)))
    caplog.set_level(logging.INFO)
    own.prepare(folder, tmp_path / "out")
    found = supervisions(tmp_path / "out")
    assert {split: len(each) for split, each in found.items()} == {"train": 24, "dev": 3, "test": 3}
    assert {each.speaker for segments in found.values() for each in segments} == {"mine"}
    assert "all is in one folder: taken for one speaker" in caplog.text
    assert "by recording, for there is one speaker: error rates will be those of this voice" in caplog.text


def test_two_speakers_leave_no_test(tmp_path):
    own.prepare(spoken(tmp_path / "mine", "x/1", "y/2"), tmp_path / "out")
    assert supervisions(tmp_path / "out").keys() == {"train", "dev"}


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_who_says_most_is_trained_on(tmp_path, name):
    own.prepare(spoken(tmp_path / "mine", *(f"{name}/{i}" for i in range(9)), "a/x", "b/y", "c/z"), tmp_path / "out")
    found = {split: {each.speaker for each in segments} for split, segments in supervisions(tmp_path / "out").items()}
    assert found["train"] == {name}
    assert found["dev"] | found["test"] | {name} == {"a", "b", "c"}


def test_dev_is_held_out_of_train(tmp_path, caplog):
    folder = spoken(tmp_path / "mine", "train/x/1", "train/y/2", "test/z/3")
    caplog.set_level(logging.INFO)
    own.prepare(folder, tmp_path / "out")
    assert supervisions(tmp_path / "out").keys() == {"train", "dev", "test"}
    assert "no dev split: 1 utterance of 1 speaker held out of train" in caplog.text


def test_the_seed_stays_with_the_manifests(tmp_path):
    folder = spoken(tmp_path / "mine", *(f"s{i}/{i}" for i in range(5)))

    def held_out(seed=None):
        prepare("mine", folder, tmp_path / "data", seed=seed)
        return [each.id for each in supervisions(tmp_path / "data" / "mine")["test"]]

    first, second = held_out(), held_out(2)
    assert first != second == held_out()
    spoken(folder, "s9/9")
    prepare("mine", None, tmp_path / "data")
    assert (tmp_path / "data" / "mine" / "source.txt").read_text().splitlines()[2:] == ["2"]
    assert held_out(0) != held_out(2)


def test_a_corpus_in_the_only_folder_of_a_folder(tmp_path):
    (tmp_path / "unpacked" / "cv-corpus-1" / "en").mkdir(parents=True)
    common_voice(tmp_path / "unpacked" / "cv-corpus-1" / "en")
    assert forms.form_of(tmp_path / "unpacked")[1].name == "en"


def test_a_table_may_lie_apart_from_a_folder(tmp_path):
    table(tmp_path, "list.csv", ",")
    prepare("list", tmp_path / "list.csv", tmp_path / "data")
    assert len(supervisions(tmp_path / "data" / "list")["train"]) == 2


def test_phones_in_other_spellings(tmp_path):
    for spelling, said in (("ipa", "h ə l oʊ"), ("stress", "HH AH0 L OW1"), ("timit", "h# hh ax l ow h#")):
        folder = tmp_path / spelling
        rows = [f"{sound(folder / f'{name}.wav', 0.5).name}\t{said}\t{name}\n" for name in "ab"]
        (folder / "utterances.tsv").write_text("path\tphones\tspeaker\n" + "".join(rows))
        own.prepare(folder, tmp_path / "out" / spelling)
        (one,) = supervisions(tmp_path / "out" / spelling)["train"]
        assert one.custom["phones"] == "HH AH L OW"


def test_damaged_utterances_are_named_and_left_out(tmp_path, caplog):
    folder = spoken(tmp_path / "mine", *(f"s{i}/{i}" for i in range(30)))
    (folder / "s0" / "0.wav").write_text("not audio")
    (folder / "s1" / "1.wav").write_bytes(b"")
    (folder / "s2" / "2.txt").write_text("2 km")
    own.prepare(folder, tmp_path / "out")
    kept = {each.id for segments in supervisions(tmp_path / "out").values() for each in segments}
    assert kept == set(map(str, range(3, 30)))
    assert f"{folder}/s2/2.txt: the word '2' has no pronunciation" in caplog.text
    for name, fault in (("0", ""), ("1", ""), ("2", "it has no phones: mend its text")):
        assert f"{name} ({folder}/s{name}/{name}.txt) left out: {fault}" in caplog.text


def test_what_is_left_out_of_a_speaker_is_where_the_speaker_is(tmp_path, caplog):
    """It was in train, and the speaker in two splits."""
    folder = spoken(tmp_path / "mine", *(f"s{i}/{i}-{k}" for i in range(4) for k in range(2)))
    for i in range(4):
        (folder / f"s{i}" / f"{i}-1.txt").write_text("2 km")
    own.prepare(folder, tmp_path / "out")
    found = {split: [each.id for each in segments] for split, segments in supervisions(tmp_path / "out").items()}
    assert sorted(itertools.chain(*found.values())) == ["0-0", "1-0", "2-0", "3-0"]
    assert {split: len(names) for split, names in found.items()} == {"train": 2, "dev": 1, "test": 1}
    assert "dev: 1 of 2 utterances left out" in caplog.text


@pytest.mark.parametrize("text", ["1.5 2.5 miles", "12 30 miles", "They drove\n1.5 2.5 miles\nto town"])
def test_a_text_that_begins_with_two_numbers_has_no_times(tmp_path, text):
    text_beside(tmp_path, ".lab")
    (tmp_path / "dev" / "bob" / "b1.lab").write_text(text)
    assert " ".join(text.split()) in {record.text for record in labelled_folder.read(tmp_path)}


def test_labels_of_hvite_have_scores_and_words_behind_them(tmp_path):
    lab_with_phones(tmp_path)
    path = tmp_path / "dev" / "bob" / "b1.lab"
    labels = [line.split()[2] for line in path.read_text().splitlines()]
    path.write_text(
        "".join(f"{line} -21.5{' word' * (k % 2)}\n" for k, line in enumerate(path.read_text().splitlines()))
    )
    assert " ".join(labels) in {record.phones for record in labelled_folder.read(tmp_path)}


def test_labels_without_a_label_are_counted(tmp_path, caplog):
    eaf(tmp_path)
    shutil.copy(tmp_path / "talk.wav", tmp_path / "more.wav")
    tiers = re.sub(r"<TIER.*</TIER>", "", (tmp_path / "talk.eaf").read_text())
    (tmp_path / "more.eaf").write_text(tiers)
    own.prepare(tmp_path, tmp_path / "out")
    assert f"{tmp_path}/more.eaf has no labels: more.wav is left out" in caplog.text


def test_what_is_left_out_of_a_table_is_named_with_its_line(tmp_path, caplog):
    table(tmp_path)
    (tmp_path / "wav" / "a2.wav").unlink()
    own.prepare(tmp_path, tmp_path / "out")
    assert f"a2 ({tmp_path}/utterances.tsv, line 3) left out: {tmp_path}/wav/a2.wav is missing: mend" in caplog.text


def test_parts_beyond_their_recording_are_left_out(tmp_path, caplog):
    kaldi_segments(tmp_path)
    for name, line in {"segments": "d1 talk 4.5 9.0\n", "text": "d1 HH AH L OW\n", "utt2spk": "d1 ann\n"}.items():
        with (tmp_path / name).open("a") as file:
            file.write(line)
    own.prepare(tmp_path, tmp_path / "out")
    fault = f"d1 ({tmp_path}/text, line 5) left out: it is from 4.50 to 9.00 s, and {tmp_path}/talk.wav lasts"
    assert fault in caplog.text


def test_a_part_without_a_sample_is_left_out(tmp_path, caplog):
    kaldi_segments(tmp_path)
    edit(tmp_path / "segments", "a2 talk 1.5 3.0", "a2 talk 1.5 1.50001")
    own.prepare(tmp_path, tmp_path / "out")
    assert "left out: it is from 1.5 to 1.50001 s, which is no sample: mend the times" in caplog.text


def test_a_recording_of_another_length_than_the_corpus_states_is_left_out(tmp_path, caplog):
    kaldi(tmp_path)
    edit(tmp_path / "train_clean" / "reco2dur", "a1 1.5", "a1 2.5")
    own.prepare(tmp_path, tmp_path / "out")
    assert [each.id for each in supervisions(tmp_path / "out")["train"]] == ["a2"]
    assert "a1.wav lasts 1.50 s, and the corpus says 2.50 s: copy it again" in caplog.text


def test_utterances_without_text_are_counted(tmp_path, caplog):
    kaldi_segments(tmp_path)
    edit(tmp_path / "text", f"a2 {PHONES['a2']}\n", "")
    own.prepare(tmp_path, tmp_path / "out")
    assert f"{tmp_path}: text lacks 1 of 4 utterances: a2 is left out" in caplog.text


def test_a_word_of_unknown_phones_is_left_out(tmp_path, caplog):
    textgrid_of_phones(tmp_path)
    edit(tmp_path / "train" / "ann" / "a1.TextGrid", '"hh"', '"spn"')
    own.prepare(tmp_path, tmp_path / "out")
    assert [each.id for each in supervisions(tmp_path / "out")["train"]] == ["a2"]
    assert "a1.TextGrid has spn, a word of unknown phones" in caplog.text


# --- what could be taken for something else


def grids(folder, *tiers_of_each):
    """Recordings, each with a TextGrid of tiers of (label, start, end)."""
    for number, tiers in enumerate(tiers_of_each):
        grid = {name: [Segment(*each) for each in segments] for name, segments in tiers.items()}
        audio = sound(folder / f"s{number}" / f"{number}.wav")
        audio.with_suffix(".TextGrid").write_text(to_textgrid(grid, SECONDS), encoding="utf8")
    return folder


@pytest.mark.parametrize(
    ("phones", "words"), [("MAU", "ORT-MAU"), ("Phonemes", "word"), ("anna - phones", "anna - words")]
)
def test_tiers_of_phones_by_other_names(tmp_path, phones, words):
    spoken = [("<p:>", 0.0, 0.5), ("h", 0.5, 0.8), ("i", 0.8, 1.0)]
    own.prepare(grids(tmp_path / "mine", *[{phones: spoken, words: [("he", 0.5, 1.0)]}] * 3), tmp_path / "out")
    (one,) = supervisions(tmp_path / "out")["train"]
    assert (one.text, one.custom["phones"]) == ("he", "HH IY")
    assert [(each.start, each.duration) for each in one.alignment["phone"]] == [(0.5, 0.3), (0.8, 0.2)]


def test_phones_in_a_tier_of_utterances_are_refused(tmp_path):
    """Each phone was an utterance, and read as the name of a letter."""
    grids(tmp_path / "mine", *[{"ipa": [("h", 0.5, 0.8), ("ɪ", 0.8, 1.0)]}] * 3)
    with pytest.raises(CorpusError, match=r"the labels of tiers, such as 'h', are phones: call the tier of phones"):
        own.prepare(tmp_path / "mine", tmp_path / "out")


def test_a_tier_of_translations_is_no_speaker(tmp_path):
    grids(tmp_path / "mine", *[{"said": [("hola", 0.1, 1.0)], "meant": [("hello", 0.1, 1.0)]}] * 3)
    fault = r"0\.TextGrid says two things at once from 0\.10 s, one of them 'hola': take tiers of translations"
    with pytest.raises(CorpusError, match=fault):
        own.prepare(tmp_path / "mine", tmp_path / "out")


def test_a_tier_of_notes_is_not_said_by_the_same_speaker(tmp_path):
    place = tmp_path / "mine"
    place.mkdir()
    eaf(place)
    edit(place / "talk.eaf", "tx@bob", "text@ann")
    own.prepare(place, tmp_path / "out")
    slots = (
        '<TIME_SLOT TIME_SLOT_ID="n0" TIME_VALUE="200"/><TIME_SLOT TIME_SLOT_ID="n1" TIME_VALUE="900"/></TIME_ORDER>'
    )
    note = (
        '<ALIGNABLE_ANNOTATION ANNOTATION_ID="n" TIME_SLOT_REF1="n0" TIME_SLOT_REF2="n1"><ANNOTATION_VALUE>a dog barks'
    )
    tier = f'<TIER TIER_ID="ort@ann"><ANNOTATION>{note}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>'
    edit(place / "talk.eaf", "</TIME_ORDER>", slots)
    edit(place / "talk.eaf", "</ANNOTATION_DOCUMENT>", f"{tier}</ANNOTATION_DOCUMENT>")
    with pytest.raises(CorpusError, match=r"talk\.eaf says two things at once from 0\.00 s, one of them 'Hello world'"):
        own.prepare(place, tmp_path / "out")


def test_labels_without_a_recording_are_counted(tmp_path, caplog):
    folder = spoken(tmp_path / "mine", "x/1", "y/2", "z/3")
    (folder / "x" / "4.TextGrid").touch()
    (folder / "README.txt").write_text("about it")
    own.prepare(folder, tmp_path / "out")
    assert f"{folder}: 1 file of labels without a recording beside: 4.TextGrid is left out" in caplog.text


def test_linked_folders_elsewhere_are_read_once(tmp_path):
    folder = spoken(tmp_path / "mine", "x/1", "y/2")
    spoken(tmp_path / "elsewhere", "3")
    for name, target in {"z": tmp_path / "elsewhere", "again": folder / "x", "loop": folder}.items():
        (folder / name).symlink_to(target)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path)
    prepare("mine", folder, tmp_path / "data")
    found = [each.id for segments in supervisions(tmp_path / "data" / "mine").values() for each in segments]
    assert sorted(found) == ["1", "2", "3"]
    (tmp_path / "elsewhere" / "3.txt").write_text("world")
    prepare("mine", folder, tmp_path / "data")
    texts = {each.text for segments in supervisions(tmp_path / "data" / "mine").values() for each in segments}
    assert texts == {"hello", "world"}


def test_noise_of_kaldi_is_no_phone(tmp_path, caplog):
    rows = [f"{sound(tmp_path / f'{name}.wav').name}\t{name}\tSIL a NSN t\n" for name in "abcd"]
    rows[0] = rows[0].replace("t\n", "SPN\n")
    (tmp_path / "utterances.tsv").write_text("path\tspeaker\tphones\n" + "".join(rows))
    own.prepare(tmp_path, tmp_path / "out", said=Transcription("mine", in_arpabet=False))
    found = supervisions(tmp_path / "out")
    assert {each.custom["phones"] for segments in found.values() for each in segments} == {"a t"}
    assert "line 2 has spn, a word of unknown phones" in caplog.text


def test_labels_that_are_not_trained_on_are_told(tmp_path, caplog):
    said = {"train": "t a", "dev": "t ʁ", "test": "n a"}
    rows = [f"{sound(tmp_path / f'{split}.wav').name}\t{split}\t{split}\t{phones}\n" for split, phones in said.items()]
    (tmp_path / "utterances.tsv").write_text("path\tspeaker\tsplit\tphones\n" + "".join(rows), encoding="utf8")
    own.prepare(tmp_path, tmp_path / "out", said=Transcription("mine", in_arpabet=False))
    assert "train lacks labels that dev or test have, and that it cannot teach: n, ʁ" in caplog.text
    assert (tmp_path / "out" / "phones.tsv").read_text(encoding="utf8").split()[2::2] == ["a", "n", "t", "ʁ"]


def test_words_of_another_language_are_told(tmp_path, caplog):
    german = "schöne töchter pflücken pflaumen jeder kuchen katzen jagen mäuse zwölf würfel"
    for text, is_told in ((german, True), ("the fish and the boojum", False)):
        folder = spoken(tmp_path / str(is_told), "x/1", "y/2", "z/3")
        (folder / "x" / "1.txt").write_text(text)
        own.prepare(folder, tmp_path / "out")
        assert ("of 12 words, such as" in caplog.text) is is_told
        assert (
            "for another language name its phones in a recipe with data.lexicon or data.g2p" in caplog.text
        ) is is_told
        caplog.clear()


def test_splits_that_share_recordings_are_told(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    kaldi_segments(tmp_path)
    own.prepare(tmp_path, tmp_path / "out")
    assert "parts of 1 recording are in several splits" in caplog.text
    edit(tmp_path / "utt2spk", "b1 bob", "b1 ann")
    edit(tmp_path / "utt2spk", "c1 cid", "c1 ann")
    own.prepare(tmp_path, tmp_path / "out")
    assert "are made by utterance, for there is one speaker" in caplog.text


def test_cuts_that_say_nothing_are_counted(tmp_path, caplog):
    (train,) = [each for split, each in cuts(tmp_path).items() if split == "train"]
    silent = CutSet.from_cuts(cut.with_id(f"{cut.id}-silent").drop_supervisions() for cut in train)
    (train + silent).to_file(tmp_path / "my_cuts_train.jsonl.gz")
    own.prepare(tmp_path, tmp_path / "out")
    assert "2 cuts without a supervision: " in caplog.text


# --- what is wrong is named


def mangle_gzip(path):
    lines = gzip.decompress(path.read_bytes()).splitlines()
    path.write_bytes(gzip.compress(b"\n".join([lines[0], b'{"id": 3}'])))


def spoil_cut(path):
    line = json.loads(gzip.decompress(path.read_bytes()))
    path.write_bytes(gzip.compress(json.dumps(line | {"start": -2.0}).encode()))


WRONG = {
    "no speaker": (table, lambda f: edit(f / "utterances.tsv", "\tbob", "\t"), "utterances.tsv, line 4 has no speaker"),
    "no such split": (
        table,
        lambda f: edit(f / "utterances.tsv", "dev", "deaf"),
        "line 4 has the split 'deaf': write train",
    ),
    "no split": (table, lambda f: edit(f / "utterances.tsv", "dev", ""), "line 4 has no split, and others have one"),
    "no path": (
        table,
        lambda f: edit(f / "utterances.tsv", "wav/b1.wav", ""),
        "line 4 has no path: write it in the column path, or take the line out",
    ),
    "no text": (table, lambda f: edit(f / "utterances.tsv", "seven buttons", ""), "line 4 has no text and no phones"),
    "a field too few": (
        table,
        lambda f: edit(f / "utterances.tsv", "\tseven buttons", ""),
        "line 4 has no text and no phones: write it in the column text, or take the line out",
    ),
    "no column": (
        table,
        lambda f: edit(f / "utterances.tsv", "text", "said"),
        "line 2 has no text and no phones: its columns are path, speaker, split, said: call one of them text or phones",
    ),
    "a column twice": (
        table,
        lambda f: edit(f / "utterances.tsv", "speaker\tsplit", "text\tsplit"),
        "utterances.tsv, line 1 names the column text twice: call one otherwise",
    ),
    "a speaker's name in two forms of Unicode": (
        table,
        lambda f: [
            edit(f / "utterances.tsv", "ann\tt", "Ren\u00e9\tt"),
            edit(f / "utterances.tsv", "cid", "Rene\u0301"),
        ],
        "line 5: speaker Ren\u00e9 is in test, and in train in ",
    ),
    "a field too many": (
        table,
        lambda f: edit(f / "utterances.tsv", "seven buttons", "seven\tbuttons"),
        "line 4 has 5 fields where line 1 names 4 columns: take out a tab",
    ),
    "two splits": (
        table,
        lambda f: edit(f / "utterances.tsv", "bob\tdev", "ann\tdev"),
        "line 4: speaker ann is in dev, and in train in ",
    ),
    "nothing but missing recordings": (
        table,
        lambda f: [shutil.rmtree(f / "wav"), edit(f / "utterances.tsv", "split", "none")],
        "has 0 utterances with sound and phones: it needs some to train on, and others for dev; a1 (",
    ),
    "no training": (
        table,
        lambda f: [edit(f / "utterances.tsv", "train", "test") for _ in range(2)],
        "has utterances for test and dev only: no row is for training",
    ),
    "empty table": (
        table,
        lambda f: (f / "utterances.tsv").write_text("path\ttext\n"),
        "utterances.tsv has no utterances",
    ),
    "not UTF-8": (
        table,
        lambda f: (f / "utterances.tsv").write_bytes(b"path\ttext\na.wav\tcaf\xe9\n"),
        "utterances.tsv, line 2 is not UTF-8",
    ),
    "several tables": (
        tables_of_splits,
        lambda f: shutil.copy(f / "dev.csv", f / "more.csv"),
        "has the tables dev.csv, more.csv, test.csv, train.csv: name one",
    ),
    "wrong start": (
        table_of_parts,
        lambda f: edit(f / "parts.jsonl", "1.5", '"early"'),
        "line 1 has the end 'early': write seconds",
    ),
    "end before start": (
        table_of_parts,
        lambda f: edit(f / "parts.jsonl", '"end": 1.5', '"end": 0'),
        "line 1 ends at 0 s, which is not after",
    ),
    "not JSON": (
        table_of_parts,
        lambda f: edit(f / "parts.jsonl", "}\n{", "}\n["),
        "parts.jsonl, line 2 is not an object of JSON",
    ),
    "no phone": (
        table_of_parts,
        lambda f: edit(f / "parts.jsonl", '"SH"', '"XX"'),
        "line 2: label 'XX' at position 9 of 9 is not in the phone set",
    ),
    "no phones at all": (
        table_of_parts,
        lambda f: (f / "parts.jsonl").write_text('{"path": "talk.wav", "phones": "QQ XX"}\n'),
        "line 1: 'QQ' and most other labels are no phones of arpabet39 or timit61",
    ),
    "twice": (
        table_of_parts,
        lambda f: edit(f / "parts.jsonl", '"start": 1.5, "end": 3.0', '"start": 0.0, "end": 1.5'),
        "line 2: talk-0000000-0001500 is the utterance of ",
    ),
    "a command": (
        kaldi,
        lambda f: edit(f / "dev_clean" / "wav.scp", "wav/b1.wav", "sph2pipe -f wav b1.sph |"),
        "wav.scp, line 1: 'sph2pipe -f wav b1.sph |' is a command: run it",
    ),
    "an archive": (
        kaldi,
        lambda f: edit(f / "dev_clean" / "wav.scp", "wav/b1.wav", "data.ark:123"),
        "wav.scp, line 1: 'data.ark:123' lies in an archive",
    ),
    "no recording": (
        kaldi,
        lambda f: edit(f / "train_clean" / "text", "a2", "a9"),
        "text, line 2: wav.scp has no a9: copy the directory again",
    ),
    "no utt2spk": (
        kaldi,
        lambda f: edit(f / "train_clean" / "utt2spk", "a2 ann\n", ""),
        "text, line 2: utt2spk has no a2",
    ),
    "no text file": (
        kaldi,
        lambda f: (f / "train_clean" / "text").unlink(),
        "train_clean/text: No such file or directory: check the path",
    ),
    "a directory of no split": (
        kaldi,
        lambda f: (f / "dev_clean").rename(f / "other"),
        "other is called like no split: call it train, dev or test",
    ),
    "a segment of nothing": (
        kaldi_segments,
        lambda f: edit(f / "segments", "b1 talk", "b1 speech"),
        "segments, line 3: wav.scp has no speech",
    ),
    "a segment without end": (
        kaldi_segments,
        lambda f: edit(f / "segments", "3.0 4.5", "3.0"),
        "segments, line 3: b1 'talk 3.0' is not 'utterance recording start end'",
    ),
    "a segment listed twice": (
        kaldi_segments,
        lambda f: edit(f / "segments", "b1 ", "a2 "),
        "segments, line 3: a2 stands in line 2, too",
    ),
    "no bars": (
        ljspeech,
        lambda f: edit(f / "metadata.csv", "b1|SEVEN BUTTONS|", "b1 "),
        "metadata.csv, line 3: 'b1 seven buttons' is not 'NAME|text|text in full'",
    ),
    "no sentence": (
        common_voice,
        lambda f: edit(f / "train.tsv", "Hello world", ""),
        "train.tsv, line 2 has no sentence: copy the list again, or take the line out",
    ),
    "no column of sentences": (
        common_voice,
        lambda f: edit(f / "train.tsv", "\tsentence\t", "\ttext\t"),
        "train.tsv, line 1 names no sentence: its columns are client_id, path, sentence_id, text, up_votes, age, gen",
    ),
    "no file_name": (
        audio_folder,
        lambda f: edit(f / "test" / "metadata.jsonl", "c1.wav", ""),
        "metadata.jsonl, line 1 has no file_name",
    ),
    "Parquet": (
        audio_folder,
        lambda f: (f / "test" / "metadata.parquet").touch(),
        "metadata.parquet is Parquet, which is not read: write it as metadata.jsonl",
    ),
    "a damaged manifest": (
        cuts,
        lambda f: mangle_gzip(f / "my_cuts_train.jsonl.gz"),
        "my_cuts_train.jsonl.gz, line 2 is not what Lhotse writes",
    ),
    "no recordings": (
        prepared,
        lambda f: (f / "recordings_dev.jsonl.gz").unlink(),
        "has no recordings_dev.jsonl.gz beside it: copy both",
    ),
    "a cut before its recording": (
        cuts,
        lambda f: spoil_cut(f / "my_cuts_dev.jsonl.gz"),
        "my_cuts_dev.jsonl.gz, line 1 ends at -0.5 s, which is not after its start at 0 s: mend the times",
    ),
    "a damaged shard": (
        shar,
        lambda f: (f / "dev" / "recording.000000.tar").write_bytes(b"x" * 99),
        "recording.000000.tar is not what Lhotse writes as Shar",
    ),
    "no shard": (
        shar,
        lambda f: (f / "train" / "recording.000001.tar").unlink(),
        "cuts.000001.jsonl.gz has no recording.000001.tar beside it: copy both",
    ),
    "a cut too few": (
        shar,
        lambda f: (f / "train" / "cuts.000001.jsonl.gz").write_bytes(gzip.compress(b"")),
        "cuts.000001.jsonl.gz and recording.000001.tar have different numbers of cuts: write both again",
    ),
    "a split without file_name": (
        audio_folder,
        lambda f: edit(f / "train" / "metadata.jsonl", "file_name", "filename"),
        "metadata.jsonl, line 1 has no file_name: write the recording's name in that column",
    ),
    "no TextGrid": (
        textgrid_of_speakers,
        lambda f: (f / "talk.TextGrid").write_text("File type"),
        "talk.TextGrid, line 1: it does not begin with 'File type = \"ooTextFile\"': save it again from Praat",
    ),
    "half a TextGrid": (
        textgrid_of_speakers,
        lambda f: (f / "talk.TextGrid").write_text((f / "talk.TextGrid").read_text()[:-30]),
        "talk.TextGrid, line ",
    ),
    "TextGrid in Latin-1": (
        textgrid_of_speakers,
        lambda f: (f / "talk.TextGrid").write_bytes(
            (f / "talk.TextGrid").read_text().replace("Hello", "Hallå").encode("latin1")
        ),
        "is neither UTF-8 nor UTF-16: save it again from Praat",
    ),
    "a time that is none": (
        eaf,
        lambda f: edit(f / "talk.eaf", ' TIME_VALUE="0"', ' TIME_VALUE="x"'),
        "talk.eaf: the annotation x0 has no start and end",
    ),
    "no XML": (
        eaf,
        lambda f: edit(f / "talk.eaf", "<TIME_ORDER>", "<TIME_ORDER"),
        "talk.eaf, line 2 is not XML: save it again from ELAN",
    ),
    "no times": (
        eaf,
        lambda f: edit(f / "talk.eaf", ' TIME_VALUE="0"', ""),
        "talk.eaf: the annotation x0 has no start and end",
    ),
    "times that are none": (
        lab_with_phones,
        lambda f: edit(f / "dev" / "bob" / "b1.lab", "100000 200000", "100000 -5"),
        "b1.lab, line 2: '100000 -5 EH' is not 'start end label' in units of 100 ns: write whole numbers, or",
    ),
    "times in seconds": (
        lab_with_phones,
        lambda f: (f / "dev" / "bob" / "b1.lab").write_text("#\n0.21 125 pau\n"),
        "b1.lab, line 1: '#' is not 'start end label'",
    ),
    "one time in seconds": (
        lab_with_phones,
        lambda f: (f / "dev" / "bob" / "b1.lab").write_text("0.0 0.35 pau\n"),
        "b1.lab, line 1: '0.0 0.35 pau' is not 'start end label'",
    ),
    "a time that is no number": (
        lab_with_phones,
        lambda f: edit(f / "dev" / "bob" / "b1.lab", "100000 200000", "100000 x"),
        "b1.lab, line 2: '100000 x EH' is not 'start end label'",
    ),
    "empty text": (
        text_beside,
        lambda f: (f / "dev" / "bob" / "b1.txt").write_text("\n"),
        "b1.txt is empty: write what is said",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_its_line_in_one_line(name, tmp_path):
    make, spoil, message = WRONG[name]
    place = tmp_path / "mine"
    place.mkdir()
    make(place)
    spoil(place)
    with pytest.raises(CorpusError) as error:
        prepare("mine", place, tmp_path / "data")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "data").rglob("*.jsonl.gz"))


def test_sound_that_is_not_in_a_file_is_refused(tmp_path):
    for split, each in cuts(tmp_path).items():
        each.perturb_speed(1.1).to_file(tmp_path / f"my_cuts_{split}.jsonl.gz")
    with pytest.raises(CorpusError, match=r"my_cuts_dev\.jsonl\.gz, line 1: the recording is changed when it is read"):
        own.prepare(tmp_path, tmp_path / "out")


def test_mixed_cuts_are_refused(tmp_path):
    for split, each in cuts(tmp_path).items():
        each.pad(duration=9.0).to_file(tmp_path / f"my_cuts_{split}.jsonl.gz")
    with pytest.raises(CorpusError, match=r"my_cuts_dev\.jsonl\.gz, line 1: .* is mixed or padded: store its sound"):
        own.prepare(tmp_path, tmp_path / "out")


def test_what_has_no_form_says_what_was_looked_for(tmp_path):
    (tmp_path / "a.wav").touch()
    with pytest.raises(CorpusError, match="has no form of speech data that is known") as error:
        forms.form_of(tmp_path)
    for form in forms.FORMS:
        assert form.module.LOOKS_FOR in str(error.value)
    with pytest.raises(CorpusError, match="no file or folder"):
        forms.form_of(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "place", "options", "message"),
    [
        ("mine", None, {}, "data.corpora has 'mine'; the corpora are mini, timit.* with data.corpora.mine=PATH"),
        ("timid", "/nowhere", {}, "data.corpora has 'timid', and there is no /nowhere"),
        ("../out", "/tmp", {}, "data.corpora has '../out': call a corpus by letters"),
        ("features", "/tmp", {}, "data.corpora has 'features'"),
        ("mini", "/tmp", {"seed": 1}, "mini has splits of its own: leave the seed out"),
    ],
)
def test_names_and_places_that_cannot_be(name, place, options, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        prepare(name, place, tmp_path / "data", **options)
    with pytest.raises(CorpusError, match=r"data\.corpora\.mine=FOLDER"):
        prepare("mine", None, tmp_path / "data", may_obtain=False)
