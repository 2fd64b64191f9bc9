import csv
import hashlib
import http.server
import io
import re
import tarfile
import threading

import pytest
import soundfile
from lhotse import RecordingSet, SupervisionSet

import data_prep
from asr.core.errors import CorpusError
from asr.speech.phones import PhoneSet
from data_prep import download, librispeech

SPLITS = ("train", "dev", "test")


def load(folder):
    return {split: SupervisionSet.from_file(folder / f"supervisions_{split}.jsonl.gz") for split in SPLITS}


def speakers(supervisions):
    return {split: {s.speaker for s in supervisions[split]} for split in SPLITS}


def add_chapter(part, speaker, chapter, texts, samples):
    folder = part / str(speaker) / str(chapter)
    folder.mkdir(parents=True)
    names = [f"{speaker}-{chapter}-{i:04d}" for i in range(len(texts))]
    for name in names:
        soundfile.write(folder / f"{name}.flac", samples, 16000)
    lines = [f"{name} {text}\n" for name, text in zip(names, texts, strict=True)]
    (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))


def write_speakers(folder, genders):
    rows = [f"{speaker:<4} | {gender} | train-clean-100  | 25.19 | A Reader\n" for speaker, gender in genders.items()]
    (folder / "SPEAKERS.TXT").write_text("; the fields\n;ID  |SEX| SUBSET           |MINUTES| NAME\n" + "".join(rows))


@pytest.fixture
def corpus(tmp_path, rng):
    """Twenty speakers to train on and two to test, of two utterances each."""
    folder = tmp_path / "LibriSpeech"
    samples = 0.1 * rng.standard_normal(1600)
    for speaker in range(10, 30):
        add_chapter(folder / "train-clean-5", speaker, 7, ["OH NO", "THE RONICKY'S"], samples)
    for speaker in (40, 41):
        add_chapter(folder / "test-clean", speaker, 8, ["YES", "'TIS O'CLOCK"], samples)
    write_speakers(folder, {speaker: "FM"[speaker % 2] for speaker in range(10, 42)})
    return folder


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_parts_are_found_in_folders_below(corpus, tmp_path, depth):
    deeper = tmp_path / "deep" / "/".join("abc"[: max(depth - 1, 0)])
    deeper.mkdir(parents=True)
    given = corpus if depth == 0 else tmp_path / "deep"
    if depth:
        corpus.rename(deeper / "LibriSpeech")
    librispeech.prepare(given, tmp_path / "manifests")
    supervisions = load(tmp_path / "manifests")
    assert {split: len(supervisions[split]) for split in SPLITS} == {"train": 36, "dev": 4, "test": 4}


def test_words_become_phones(corpus, tmp_path):
    librispeech.prepare(corpus, tmp_path)
    test = {s.id: s for s in load(tmp_path)["test"]}
    assert test["40-8-0001"].text == "'TIS O'CLOCK"
    assert test["40-8-0001"].custom == {"phones": "T IH Z AH K L AA K", "word_lengths": [3, 5]}
    assert (test["40-8-0001"].speaker, test["40-8-0001"].gender, test["40-8-0001"].duration) == ("40", "f", 0.1)


def test_words_by_rule_are_counted(corpus, tmp_path, caplog):
    with caplog.at_level("INFO"):
        librispeech.prepare(corpus, tmp_path)
    assert "train-clean-5: 20 of 80 words (1 of 4 distinct) are not in CMUdict" in caplog.text


def test_held_out_speakers_are_of_both_genders_and_in_no_other_split(corpus, tmp_path):
    librispeech.prepare(corpus, tmp_path)
    supervisions = load(tmp_path)
    owned = speakers(supervisions)
    assert {s.gender for s in supervisions["dev"]} == {"f", "m"}
    assert {split: len(owned[split]) for split in SPLITS} == {"train": 18, "dev": 2, "test": 2}
    assert len(set.union(*owned.values())) == 22


def test_the_published_dev_part_is_taken_where_it_stands(corpus, tmp_path, rng):
    add_chapter(corpus / "dev-clean-2", 99, 1, ["HELLO"], 0.1 * rng.standard_normal(1600))
    librispeech.prepare(corpus, tmp_path / "manifests")
    owned = speakers(load(tmp_path / "manifests"))
    assert owned["dev"] == {"99"}
    assert len(owned["train"]) == 20


def test_all_training_parts_that_are_there(corpus, tmp_path, rng):
    with pytest.raises(CorpusError, match="has no train-clean-100/"):
        data_prep.prepare("librispeech", corpus, tmp_path / "data")
    (corpus / "train-clean-5").rename(corpus / "train-clean-100")
    for part, speaker in (("train-other-500", 50), ("dev-clean", 60)):
        add_chapter(corpus / part, speaker, 7, ["OH NO"], 0.1 * rng.standard_normal(1600))
    data_prep.prepare("librispeech", corpus, tmp_path / "data")
    found = load(tmp_path / "data" / "librispeech")
    assert len(found["train"]) == 41
    assert speakers(found)["dev"] == {"60"}


def test_genders_are_unknown_without_their_table(corpus, tmp_path):
    (corpus / "SPEAKERS.TXT").unlink()
    librispeech.prepare(corpus, tmp_path / "manifests")
    assert {s.gender for s in load(tmp_path / "manifests")["test"]} == {None}


def test_a_missing_part_is_named_with_where_to_get_it(corpus, tmp_path):
    (corpus / "test-clean").rename(corpus / "other")
    with pytest.raises(CorpusError, match=r"has no test-clean/.*openslr\.org/12") as error:
        librispeech.prepare(corpus, tmp_path / "manifests")
    assert "\n" not in str(error.value)


def test_a_speaker_in_two_splits_is_refused(corpus, tmp_path, rng):
    add_chapter(corpus / "test-clean", 16, 9, ["YES"], 0.1 * rng.standard_normal(1600))
    with pytest.raises(CorpusError, match="speaker 16 is in train and in test"):
        librispeech.prepare(corpus, tmp_path / "manifests", dev="dev-clean")


def test_a_word_without_pronunciation_is_named_with_its_utterance(corpus, tmp_path):
    path = corpus / "test-clean" / "41" / "8" / "41-8.trans.txt"
    path.write_text(path.read_text().replace("YES", "IN 1984"))
    with pytest.raises(CorpusError, match="utterance 41-8-0000: the word '1984' has no pronunciation"):
        librispeech.prepare(corpus, tmp_path / "manifests")


def test_unusable_utterances_are_named_and_left_out(corpus, tmp_path, caplog):
    (corpus / "test-clean" / "40" / "8" / "40-8-0000.flac").unlink()
    (corpus / "test-clean" / "41" / "8" / "41-8-0000.flac").write_bytes(b"")
    path = corpus / "test-clean" / "41" / "8" / "41-8.trans.txt"
    path.write_text(path.read_text().replace("41-8-0001 'TIS O'CLOCK", "41-8-0001"))
    librispeech.prepare(corpus, tmp_path / "manifests")
    messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [message.split()[0] for message in messages] == ["40-8-0000", "41-8-0000", "41-8-0001", "test:"]
    assert messages[-1] == "test: 3 of 4 utterances left out"
    assert len(load(tmp_path / "manifests")["test"]) == 1


@pytest.mark.corpus
def test_real_speech(speech_data, tmp_path):
    """Three real readers of LibriSpeech, brought into its layout: two to train and to hold out, one to test."""
    folder = speech_data / "native-mini"
    with (folder / "utterances.tsv").open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines, delimiter="\t") if row["speaker"] in {"19", "26", "27"}]
    rows = [row for row in rows if row["words"]]
    wanted = [row for speaker in ("19", "26", "27") for row in [r for r in rows if r["speaker"] == speaker][:4]]
    for row in wanted:
        part = "test-clean" if row["speaker"] == "27" else "train-clean-5"
        name = row["path"].rsplit("/", 1)[-1].removesuffix(".ogg")
        chapter = tmp_path / part / row["speaker"] / name.split("-")[1]
        chapter.mkdir(parents=True, exist_ok=True)
        samples, sample_rate = soundfile.read(folder / row["path"])
        soundfile.write(chapter / f"{name}.flac", samples, sample_rate)
        with (chapter / f"{row['speaker']}-{chapter.name}.trans.txt").open("a") as transcript:
            transcript.write(f"{name} {row['words']}\n")
    librispeech.prepare(tmp_path, tmp_path / "manifests")
    supervisions = load(tmp_path / "manifests")
    assert {split: len(supervisions[split]) for split in SPLITS} == {"train": 4, "dev": 4, "test": 4}
    for split in SPLITS:
        recordings = RecordingSet.from_file(tmp_path / "manifests" / f"recordings_{split}.jsonl.gz").to_eager()
        for supervision in supervisions[split]:
            phones = supervision.custom["phones"].split()
            PhoneSet.load("arpabet39").check(phones)
            assert len(supervision.custom["word_lengths"]) == len(supervision.text.split())
            assert sum(supervision.custom["word_lengths"]) == len(phones)
            duration = recordings[supervision.recording_id].duration
            assert 5 < len(phones) / duration < 25  # read English has 10 to 15 phones a second


class _Server(http.server.ThreadingHTTPServer):
    """Serves `files` by name; `cuts` are the numbers of bytes after which the next answers break off."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.cuts, self.requests, self.ranges = {}, [], [], True


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.requests.append(wanted)
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.server.ranges else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + self.server.cuts.pop(0) if self.server.cuts else len(content)
        self.wfile.write(content[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with _Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def url(server):
    return f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def archive(server, corpus):
    """The corpus as an archive on the server; returns its bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as members:
        members.add(corpus / "train-clean-5", "LibriSpeech/train-clean-5")
    server.files["/31/train-clean-5.tar.gz"] = buffer.getvalue()
    return buffer.getvalue()


def md5(content):
    return f"md5:{hashlib.md5(content).hexdigest()}"


def test_download_goes_on_where_it_was_interrupted(server, url, archive, tmp_path):
    server.cuts = [1000, 3000]
    target = tmp_path / "got" / "a.tar.gz"
    download.download(f"{url}/31/train-clean-5.tar.gz", target, md5(archive))
    assert target.read_bytes() == archive
    assert server.requests == [None, "bytes=1000-", "bytes=4000-"]
    assert [path.name for path in target.parent.iterdir()] == ["a.tar.gz"]


def test_download_goes_on_with_what_an_earlier_run_left(server, url, archive, tmp_path):
    (tmp_path / "a.tar.gz.part").write_bytes(archive[:2500])
    download.download(f"{url}/31/train-clean-5.tar.gz", tmp_path / "a.tar.gz", md5(archive))
    assert server.requests == ["bytes=2500-"]
    assert (tmp_path / "a.tar.gz").read_bytes() == archive


def test_download_that_was_complete_but_for_its_name(server, url, archive, tmp_path):
    (tmp_path / "a.tar.gz.part").write_bytes(archive)
    download.download(f"{url}/31/train-clean-5.tar.gz", tmp_path / "a.tar.gz", md5(archive))
    assert (tmp_path / "a.tar.gz").read_bytes() == archive


def test_download_starts_afresh_when_more_is_here_than_there(server, url, archive, tmp_path):
    (tmp_path / "a.tar.gz.part").write_bytes(archive + b"more")
    download.download(f"{url}/31/train-clean-5.tar.gz", tmp_path / "a.tar.gz", md5(archive))
    assert (tmp_path / "a.tar.gz").read_bytes() == archive


def test_download_from_a_server_without_ranges_starts_afresh(server, url, archive, tmp_path):
    server.ranges, server.cuts = False, [1000]
    download.download(f"{url}/31/train-clean-5.tar.gz", tmp_path / "a.tar.gz", md5(archive))
    assert (tmp_path / "a.tar.gz").read_bytes() == archive


def test_download_does_not_ask_for_what_stands(server, url, tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"here")
    download.download(f"{url}/31/train-clean-5.tar.gz", tmp_path / "a.tar.gz")
    assert server.requests == []


def test_a_wrong_checksum_names_both_and_leaves_nothing(url, archive, tmp_path):
    with pytest.raises(CorpusError, match=f"md5 is {md5(archive)[4:]} instead of {'0' * 32}"):
        download.download(f"{url}/31/train-clean-5.tar.gz", tmp_path / "got" / "a", "md5:" + "0" * 32)
    assert list((tmp_path / "got").iterdir()) == []


def test_a_refusal_of_the_server_is_one_line(url, tmp_path):
    with pytest.raises(CorpusError, match=r"/absent: the server answers 404 Not Found"):
        download.download(f"{url}/absent", tmp_path / "a")


def test_a_connection_that_brings_nothing_ends_in_one_line(server, url, archive, tmp_path):
    server.cuts = [500, 0, 0, 0]
    with pytest.raises(CorpusError, match=r"500 of .* bytes came.*run the same command again"):
        download.download(f"{url}/31/train-clean-5.tar.gz", tmp_path / "a")
    assert (tmp_path / "a.part").stat().st_size == 500


def test_no_server_at_all_ends_in_one_line(tmp_path):
    with pytest.raises(CorpusError, match="no connection"):
        download.download("http://127.0.0.1:9/a", tmp_path / "a")


def test_obtain_downloads_unpacks_and_is_prepared(server, url, archive, corpus, tmp_path, monkeypatch):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as members:
        members.add(corpus / "test-clean", "LibriSpeech/test-clean")
    server.files["/12/test-clean.tar.gz"] = buffer.getvalue()
    monkeypatch.setattr(download, "OPENSLR", url)
    monkeypatch.setitem(librispeech._ARCHIVES, "train-clean-5", (31, md5(archive)))
    monkeypatch.setitem(librispeech._ARCHIVES, "test-clean", (12, md5(buffer.getvalue())))
    parts = ("train-clean-5", "test-clean")
    folder = librispeech.obtain(tmp_path / "corpora", parts)
    assert sorted(path.name for path in folder.iterdir()) == ["test-clean", "train-clean-5"]
    librispeech.prepare(folder, tmp_path / "manifests")
    assert len(load(tmp_path / "manifests")["train"]) == 36
    num_requests = len(server.requests)
    librispeech.obtain(tmp_path / "corpora", parts)
    assert len(server.requests) == num_requests


def test_obtain_refuses_an_unknown_part(tmp_path):
    with pytest.raises(CorpusError, match="no archive of LibriSpeech is known for 'train-dirty'"):
        librispeech.obtain(tmp_path, ("train-dirty",))


@pytest.mark.parametrize("place", [0.3, 0.999])
def test_a_damaged_archive_is_deleted_and_unpacks_to_nothing(archive, tmp_path, place):
    damaged = bytearray(archive)
    damaged[min(int(place * len(damaged)), len(damaged) - 5)] ^= 0xFF
    (tmp_path / "a.tar.gz").write_bytes(damaged)
    with pytest.raises(CorpusError, match="damaged or unsafe"):
        download.unpack(tmp_path / "a.tar.gz", tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "a.tar.gz").exists()


def test_a_truncated_archive_is_refused(archive, tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(archive[: len(archive) // 2])
    with pytest.raises(CorpusError, match="damaged or unsafe"):
        download.unpack(tmp_path / "a.tar.gz", tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_an_archive_that_would_write_outside_of_its_folder_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as members:
        members.addfile(tarfile.TarInfo("../escaped"), io.BytesIO())
    with pytest.raises(CorpusError, match="damaged or unsafe"):
        download.unpack(tmp_path / "a.tar.gz", tmp_path / "target" / "a")
    assert not (tmp_path / "escaped").exists()
    assert not (tmp_path / "target" / "escaped").exists()
