"""The embedded corpus: TIMIT's layout, labels that match the sound, nothing shared between splits."""

import hashlib
import itertools
from pathlib import Path

import espeakng_loader
import numpy as np
import pytest
import soundfile

from asr.core.errors import CorpusError
from asr.speech import espeak
from asr.speech.phones import PhoneSet, fold
from data_prep import mini


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return mini.synthesise(tmp_path_factory.mktemp("mini") / "corpus", 6, 3, 3)


def times(path):
    rows = [line.split(maxsplit=2) for line in path.read_text().splitlines()]
    return [(int(start), int(end), label) for start, end, label in rows]


def utterances(corpus):
    found = sorted(corpus.glob("*/DR*/*/*.PHN"))
    assert len(found) == 12 * 8
    return found


def test_layout(corpus):
    for phn in utterances(corpus):
        assert all(phn.with_suffix(suffix).is_file() for suffix in (".WAV", ".WRD", ".TXT"))
    assert {path.name for path in corpus.iterdir()} == {"TRAIN", "TEST"}
    assert {path.name for path in (corpus / "TEST").glob("*/*")} == {
        "FAKS0",
        "FDAC1",
        "FJEM0",
        "MDAB0",
        "MWBT0",
        "FELC0",
    }
    assert len(list((corpus / "TRAIN").glob("*/*"))) == 6


def test_audio_is_nist_sphere_at_16_khz(corpus):
    wav = utterances(corpus)[0].with_suffix(".WAV")
    assert wav.read_bytes().startswith(b"NIST_1A\n   1024\n")
    info = soundfile.info(str(wav))
    assert (info.format, info.samplerate, info.channels, info.subtype) == ("NIST", 16000, 1, "PCM_16")


def test_phones_are_contiguous_and_cover_the_file(corpus):
    labels = set(PhoneSet.load("timit61").labels)
    for phn in utterances(corpus):
        phones = times(phn)
        assert phones[0][0] == 0
        assert phones[-1][1] == soundfile.info(str(phn.with_suffix(".WAV"))).frames
        assert all(start < end for start, end, _ in phones)
        assert all(before[1] == after[0] for before, after in itertools.pairwise(phones))
        assert {label for _, _, label in phones} <= labels
        assert [i for i, phone in enumerate(phones) if phone[2] == "h#"] == [0, len(phones) - 1]


def test_words_begin_and_end_with_phones(corpus):
    for phn in utterances(corpus):
        phones, words = times(phn), times(phn.with_suffix(".WRD"))
        assert {start for start, _, _ in words} <= {start for start, _, _ in phones}
        assert {end for _, end, _ in words} <= {end for _, end, _ in phones}
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(words))
        text = phn.with_suffix(".TXT").read_text().split(maxsplit=2)[2]
        assert " ".join(word for _, _, word in words) == text.lower().strip(".?\n").replace(",", "")


def test_labels_match_the_sound(corpus):
    """Silences and voiceless closures are silent, vowels loud, sibilants high, murmurs low, releases above murmurs."""
    level, high = {}, {}
    for phn in utterances(corpus):
        waveform, _ = soundfile.read(phn.with_suffix(".WAV"))
        for start, end, label in times(phn):
            part = waveform[start:end]
            level.setdefault(label, []).append(10 * np.log10(np.mean(part**2) + 1e-12))
            high.setdefault(label, []).append(10 * np.log10(np.mean(np.diff(part) ** 2) + 1e-12))
    level = {label: np.median(values) for label, values in level.items()}
    high = {label: np.median(values) for label, values in high.items()}
    assert all(level[label] < -65 for label in ("h#", "pcl", "tcl", "kcl"))
    assert all(-32 < level[label] < -15 for label in ("iy", "ae", "aa", "ih", "ow", "ey"))
    assert all(high[label] > level[label] for label in ("s", "sh", "ch"))
    assert all(high[label] < level[label] - 12 for label in ("bcl", "dcl", "n", "m"))
    for stop, closure in (("b", "bcl"), ("d", "dcl"), ("g", "gcl"), ("t", "tcl"), ("k", "kcl"), ("p", "pcl")):
        assert high[stop] > high[closure] + 8


def test_all_39_phones_occur(corpus):
    heard = {label for phn in utterances(corpus) for label in fold([p[2] for p in times(phn)], "timit61", "timit39")}
    assert heard == set(PhoneSet.load("timit39").labels)


def test_same_seed_same_bytes_another_seed_another_corpus(corpus, tmp_path):
    def digest(folder):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        named = b"".join(str(path.relative_to(folder)).encode() + path.read_bytes() for path in files)
        return hashlib.sha256(named).hexdigest()

    again = mini.synthesise(tmp_path / "again", 6, 3, 3)
    assert digest(again) == digest(corpus)
    assert mini.plan(6, 3, 3, seed=1) != mini.plan(6, 3, 3)


def test_splits_share_no_voice_no_sentence_and_no_speaker():
    speakers = mini.plan(mini.NUM_TRAIN_SPEAKERS, mini.NUM_DEV_SPEAKERS, mini.NUM_TEST_SPEAKERS)
    assert len(speakers) == mini.NUM_TRAIN_SPEAKERS + 48
    parts = [speakers[: mini.NUM_TRAIN_SPEAKERS], speakers[mini.NUM_TRAIN_SPEAKERS : -24], speakers[-24:]]
    for attribute in (
        lambda speaker: {speaker.voice},
        lambda speaker: set(speaker.sentences.values()),
        lambda speaker: {speaker.folder.split("/")[-1]},
    ):
        train, dev, test = (set().union(*(attribute(speaker) for speaker in part)) for part in parts)
        assert train
        assert len(train | dev | test) == len(train) + len(dev) + len(test)
    assert len({text for speaker in speakers for text in speaker.sentences.values()}) == 8 * len(speakers)


def test_each_voice_has_the_sex_of_its_speaker_and_exists():
    variants = Path(espeakng_loader.get_data_path(), "voices", "!v")
    sexes = {row["variant"]: row["sex"] for row in mini._table("mini_voices")}
    assert all((variants / variant).is_file() for variant in sexes)
    for speaker in mini.plan(40, 24, 24):
        assert sexes[speaker.voice.removeprefix("en-us+")] == speaker.folder.split("/")[-1][0]


def test_every_word_of_the_vocabulary_has_known_phones():
    for row in mini._table("mini_vocabulary"):
        assert set(espeak.phonemes(row["word"])) <= set(espeak.mnemonics()), row["word"]


def test_finished_corpus_is_kept_and_half_a_corpus_made_anew(corpus, tmp_path):
    assert mini.synthesise(corpus, 6, 3, 3) == corpus
    leftover = tmp_path / ".small.partial" / "TRAIN" / "DR1" / "MOLD0"
    leftover.mkdir(parents=True)
    made = mini.synthesise(tmp_path / "small", 1, 1, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"small"}
    assert not list(made.glob("**/MOLD0"))


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CorpusError, match="holds something other than the mini corpus"):
        mini.synthesise(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_too_many_standard_speakers():
    with pytest.raises(CorpusError, match="24 speakers for test, not 25"):
        mini.plan(1, 1, 25)


def test_an_unmapped_phone_is_named():
    speech = espeak.Speech(np.zeros(400, dtype=np.int16), 22050, [("y:", 0, 300), ("_:", 300, 400)], [("u", 0, 300)])
    with pytest.raises(CorpusError, match="used the phone 'y:'"):
        mini.segment(speech)
