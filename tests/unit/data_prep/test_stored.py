"""Corpora larger than the memory: what is held of a row, and the files that hold the rest."""

import errno
import io
import tracemalloc

import numpy as np
import pytest

from asr.core.errors import CorpusError
from data_prep import own, stored
from data_prep.forms import table
from data_prep.forms.record import files_in, lines_of
from data_prep.stored import Named, Stored

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def test_items_come_back_in_any_order():
    items = [("a", 1.5, ("x", None)), ["b"], {"c": 3}] * 5
    found = Stored(iter(items))
    assert list(found) == items
    assert [found[-1], *found[2:5]] == [items[-1], *items[2:5]]
    part = found.take(np.array([7, 0, 7]))
    assert list(part) == [items[7], items[0], items[7]]
    assert list(part.take(np.array([1]))) == [items[0]]
    del found
    assert len(part) == 3
    assert part[0] == items[7]  # the file is there as long as somebody reads it
    assert list(Stored([])) == []


def test_names_with_the_same_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(stored, "hash", lambda name: len(name), raising=False)
    found = Named([("ann", 1), ("bob", 2), ("c", 3), ("bob", 4)])
    assert [found.get(name) for name in ("ann", "bob", "c", "cid", "")] == [1, 4, 3, None, None]
    assert found.twice() == (1, 3)
    assert list(found.pairs) == [("ann", 1), ("bob", 2), ("c", 3), ("bob", 4)]
    assert Named([]).get("ann") is Named([]).twice() is None


@pytest.mark.parametrize("moment", ["write", "flush"])
def test_a_full_disk_is_one_line(monkeypatch, moment):
    class Full(io.BytesIO):
        pass

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    setattr(Full, moment, fail)
    monkeypatch.setattr(stored.tempfile, "TemporaryFile", Full)
    message = (
        "cannot write a temporary file in .*: No space left on device: free some space, or name another folder by TMP"
    )
    with pytest.raises(CorpusError, match=message):
        Stored([1, 2])


@pytest.mark.parametrize("with_splits", [True, False])
def test_little_of_a_row_is_in_memory(tmp_path, with_splits):
    """Of a table whose speakers and words are always the same ones; whole, a row would take 2 kB and more."""
    (tmp_path / "a.wav").touch()  # it is not read, and all rows may name it

    def peak(rows):
        path = tmp_path / f"{rows}.tsv"
        with path.open("w") as file:
            file.write("path\tid\tspeaker\ttext" + "\tsplit" * with_splits + "\n")
            for k in range(rows):
                split = f"\t{'train' if k % 7 else 'dev'}" * with_splits
                file.write(f"a.wav\tu{k:06d}\ts{k % 7}\t{' '.join(WORDS[k % 9 : k % 9 + 2] * 10)}{split}\n")
        tracemalloc.start()
        found = own.read(path, tmp_path)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert sum(map(len, found.values())) == rows
        return used

    peak(10)  # what is loaded once
    assert (peak(900) - peak(100)) / 800 < 600


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_lines_end_as_editors_have_them(tmp_path, end):
    (tmp_path / "a.csv").write_bytes('\ufeffpath,text\na.wav,"so\u2028it"\n\nb.wav,is'.replace("\n", end).encode())
    assert [(number, row["text"]) for number, row in table.rows(tmp_path / "a.csv")] == [(2, "so\u2028it"), (4, "is")]
    assert [number for number, _ in lines_of(tmp_path / "a.csv")] == [1, 2, 4]


@pytest.mark.parametrize(("encoding", "line"), [("latin-1", 2), ("utf-16", 1)])
def test_other_encodings_are_named_with_their_line(tmp_path, encoding, line):
    (tmp_path / "a.csv").write_text("path,text\na.wav,é\n", encoding)
    with pytest.raises(CorpusError, match=rf"a\.csv, line {line} is not UTF-8: save the file as UTF-8"):
        list(table.rows(tmp_path / "a.csv"))


def test_recordings_are_in_the_order_of_their_paths(tmp_path):
    for name in ("b/2.wav", "b/1.WAV", "a-b/3.wav", "a/4.wav", "a.wav", ".hidden.wav", "b/5.txt", "b/6.flac/7.flac"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "c").symlink_to(tmp_path / "b")
    found = list(files_in(tmp_path, {".wav", ".flac"}))
    assert found == sorted(found)
    assert [path.stem for path in found] == ["4", "3", "a", "1", "2", "7"]
