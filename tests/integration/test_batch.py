"""`asr batch` on the processes of this machine: what the rows are, and that they are the same whatever happens."""

import gzip
import json
import os
import re
import signal
import sys
import tarfile
import time
from pathlib import Path

import batches
import hostile
import numpy as np
import pytest
import soundfile
from lhotse import CutSet, Recording, SupervisionSegment

from asr import Recogniser
from asr.core import places
from asr.recognition import align as alignment
from asr.recognition.batch import local, parts
from asr.recognition.batch.plan import Plan

NUM_ROWS = 14


@pytest.fixture(scope="module")
def talks(tmp_path_factory):
    return batches.make(tmp_path_factory.mktemp("many") / "talks", NUM_ROWS - 2)


@pytest.fixture(scope="module")
def undisturbed(talks, cli, tmp_path_factory):
    """The rows of a command that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    code, out, err = cli("batch", talks, "--output", folder, "--shard-size", 4)
    assert code == 1, err
    assert err.count("\n") == 2  # for each reason one
    assert len(list(folder.glob("part-*"))) == 4
    assert "failed" in out
    return batches.rows(folder)


def heard(rows):
    """The rows without what the place of the recordings changes."""
    return [{key: row[key] for key in ("error", "duration", "phones", "text") if key in row} for row in rows]


def test_rows_are_what_transcribe_writes(talks, undisturbed, cli):
    assert [row["id"] for row in undisturbed] == sorted(path.name for path in talks.glob("*.wav"))
    _, out, _ = cli("transcribe", talks, "--format", "json")
    said = {Path(row["path"]).name: row for row in map(json.loads, out.splitlines())}
    for row in undisturbed:
        if row["error"] is None:
            assert row["phones"] == said[row["id"]]["phones"] != []
            assert row["text"] == " ".join(phone["label"] for phone in row["phones"])
    faults = {row["id"]: row["error"] for row in undisturbed if row["error"]}
    assert faults.keys() == {"003x.wav", "005x.wav"}
    assert faults["003x.wav"].startswith("the file is empty")


def test_recordings_heard_together_are_as_heard_alone(talks):
    recogniser = Recogniser.from_pretrained()
    paths = sorted(talks.glob("00*[0-9].wav"))
    waveforms = [(str(path), recogniser.hear(path).waveform) for path in paths]
    several = recogniser.hear_several([*waveforms, ("short", np.zeros(100, np.float32))])
    for (_, waveform), each in zip(waveforms, several, strict=False):
        np.testing.assert_array_equal(each.emissions, recogniser.emissions(waveform))
    assert str(several[-1]).startswith("short: ")


def cuts_of(talks):
    for path in sorted(talks.glob("*[0-9].wav")):
        cut = Recording.from_file(path).to_cut()
        text = path.with_suffix(".txt").read_text()
        cut.supervisions = [SupervisionSegment(cut.id, cut.recording_id, 0, cut.duration, text=text)]
        yield cut


def forms(talks, folder):
    """Yield the same recordings in each form, those without sound apart."""
    names = sorted(path.name for path in talks.glob("*[0-9].wav"))
    yield "strings", (folder / "a.jsonl", "".join(json.dumps(str(talks / name)) + "\n" for name in names))
    rows = [{"audio_filepath": f"{talks}/{name}", "duration": 9.0, "id": k} for k, name in enumerate(names)]
    yield "NeMo", (folder / "b.json", "".join(json.dumps(row) + "\n" for row in rows))
    yield "URLs", (folder / "c.jsonl", "".join(json.dumps({"url": f"file://{talks}/{name}"}) + "\n" for name in names))


@pytest.mark.parametrize("form", ["NeMo", "URLs", "strings", "cuts", "parquet", "recordings", "shar", "shar by URL"])
def test_each_form_of_input_gives_the_same_rows(form, talks, undisturbed, cli, tmp_path):
    pytest.importorskip("fsspec", reason="URLs need fsspec, of the extra scale")
    written = dict(forms(talks, tmp_path))
    place = tmp_path / f"{form}.jsonl.gz"
    if form in written:
        place, text = written[form]
        place.write_text(text)
    elif form == "cuts":
        CutSet.from_cuts(cuts_of(talks)).to_file(place)
    elif form == "recordings":
        lines = (json.dumps(cut.recording.to_dict()) + "\n" for cut in cuts_of(talks))
        place.write_bytes(gzip.compress("".join(lines).encode()))
    elif form == "parquet":
        pandas = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, of the extra scale")
        from pyarrow import parquet

        place = tmp_path / "a.parquet"
        names = [str(path) for path in sorted(talks.glob("*[0-9].wav"))]
        parquet.write_table(pandas.table({"path": names, "number": range(len(names))}), place)
    else:
        place = tmp_path / "shar"
        place.mkdir()
        CutSet.from_cuts(cuts_of(talks)).to_shar(place, {"recording": "flac"}, shard_size=5, warn_unused_fields=False)
        place = f"file://{place}" if form == "shar by URL" else place
    code, _, err = cli("batch", place, "--output", tmp_path / "out")
    assert (code, err) == (0, "")
    assert heard(batches.rows(tmp_path / "out")) == heard(row for row in undisturbed if row["error"] is None)


def test_parts_of_recordings(talks, cli, tmp_path):
    recogniser = Recogniser.from_pretrained()
    path = talks / "000.wav"
    rows = [{"path": str(path), "start": 0.25, "end": 0.75}, {"path": str(path), "offset": 0.5, "duration": 99}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli("batch", tmp_path / "a.jsonl", "--output", tmp_path / "out").code == 1
    part, wrong = batches.rows(tmp_path / "out")
    assert part["duration"] == 0.5
    waveform = recogniser.hear(path).waveform[4000:12000]
    assert part["phones"] == [vars(each) for each in recogniser.transcribe(waveform, 16000)]
    assert "is not in its" in wrong["error"]


def test_a_long_recording_is_as_transcribed_alone(talks, cli, tmp_path):
    waveform = np.tile(Recogniser.from_pretrained().hear(talks / "000.wav").waveform, 70)
    assert len(waveform) > 50 * 16000
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "long.wav", waveform, 16000)
    soundfile.write(tmp_path / "in" / "short.wav", waveform[:16000], 16000)
    assert cli("batch", tmp_path / "in", "--output", tmp_path / "out").code == 0
    for row in batches.rows(tmp_path / "out"):
        assert row["phones"] == [vars(each) for each in Recogniser.from_pretrained().transcribe(row["path"])]


def test_align(talks, cli, tmp_path):
    code, _, err = cli("batch", talks, "--output", tmp_path, "--align", "--ipa")
    assert code == 1, err
    recogniser = Recogniser.from_pretrained()
    for row in batches.rows(tmp_path):
        if row["error"] is None:
            text = (talks / row["id"]).with_suffix(".txt").read_text()
            aligned = alignment.align(recogniser, row["path"], text).ipa
            assert row["text"] == text
            assert [word["label"] for word in row["words"]] == text.split()
            assert row["phones"] == json.loads(aligned.to_json())["phones"]
    (tmp_path / "a.jsonl").write_text(json.dumps(str(talks / "000.wav").replace("000", "003x")) + "\n")
    (talks / "a").mkdir()
    (talks / "a" / "b.wav").write_bytes((talks / "000.wav").read_bytes())
    assert cli("batch", talks / "a", "--output", tmp_path / "out", "--align").code == 2
    assert batches.rows(tmp_path / "out")[0]["error"].startswith("no text: ")
    (talks / "a" / "b.wav").unlink()
    (talks / "a").rmdir()


def test_parquet_has_what_the_lines_have(talks, undisturbed, cli, tmp_path):
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, of the extra scale")
    from pyarrow import parquet

    assert cli("batch", talks, "--output", tmp_path, "--format", "jsonl,parquet", "--shard-size", 9).code == 1
    table = parquet.read_table(sorted(tmp_path.glob("*.parquet"))).to_pylist()
    assert [row["id"] for row in table] == [row["id"] for row in undisturbed]
    for row, line in zip(table, undisturbed, strict=True):
        assert row["error"] == line["error"]
        assert [each["label"] for each in row["phones"] or ()] == [each["label"] for each in line.get("phones", ())]
        assert [each["start"] for each in row["phones"] or ()] == [each["start"] for each in line.get("phones", ())]


def test_hostile_recordings_are_rows(cli, tmp_path):
    made = hostile.make(tmp_path / "in")
    listed = [json.dumps({"id": what, "path": str(path)}) for what, path in made.items()]
    (tmp_path / "a.jsonl").write_text("\n".join(listed))
    code, _, _ = cli("batch", tmp_path / "a.jsonl", "--output", tmp_path / "out")
    rows = batches.rows(tmp_path / "out")
    assert code == 1
    assert [row["id"] for row in rows] == list(made)
    assert {row["id"] for row in rows if row["error"] is None} > {"silence", "400 samples", "a name in Latin-1"}
    faults = [row["error"] for row in rows if row["error"]]
    assert len(faults) > 50
    for reason in faults:
        assert "\n" not in reason
        assert not re.match(r"\w+Error: ", reason)  # of a library


def test_a_killed_command_goes_on(talks, undisturbed, tmp_path):
    folder = tmp_path / "talks"
    place = batches.stalled(talks, folder, 6)  # in the file of rows that has the two faults, too
    arguments = place, "--output", tmp_path / "out", "--shard-size", 4, "--jobs", 2
    with batches.start(*arguments) as command:
        batches.wait_for(lambda: list((tmp_path / "out").glob("part-*")), command)
        others = batches.children(command)
        command.kill()
        command.communicate()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("part-*")}
    assert 0 < len(before) < 4
    batches.go_on(folder)
    end = time.monotonic() + 60
    while any(map(is_alive, others)):  # none works on for nobody
        assert time.monotonic() < end
        time.sleep(0.02)
    with batches.start(*arguments) as command:
        out, err = command.communicate()
    assert command.returncode == 1, err
    assert "done before" in out
    assert heard(batches.rows(tmp_path / "out")) == heard(undisturbed)
    assert before.items() <= {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("part-*")}.items()


def is_alive(process):
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def test_what_a_killed_process_was_at_is_done_again(talks, undisturbed, tmp_path):
    folder = tmp_path / "talks"
    place = batches.stalled(talks, folder, 9)
    with batches.start(place, "--output", tmp_path / "out", "--shard-size", 4, "--jobs", 2) as command:
        batches.wait_for(lambda: list((tmp_path / "out").glob("part-*")), command)
        batches.go_on(folder)
        os.kill(batches.children(command)[-1], signal.SIGKILL)
        _, err = command.communicate()
    assert command.returncode == 1, err
    assert "a process died: what it was at is done again" in err
    assert heard(batches.rows(tmp_path / "out")) == heard(undisturbed)


def test_a_recording_that_processes_die_of_is_a_fault(talks, cli, tmp_path):
    cli("batch", talks, "--output", tmp_path, "--shard-size", 5)
    plan = Plan.open(tmp_path)
    groups = [group for shard in range(plan.num_shards) for group in plan.groups(shard)]
    worker = batches.Deadly("none", poison="004.wav")
    found = [row for _, rows in sorted(local.rows(plan, worker, groups, 2)) for row in rows]
    assert [row["id"] for row in found] == [row["id"] for row in batches.rows(tmp_path)]
    faults = {row["id"]: row["error"] for row in found if row["error"]}
    assert faults.keys() == {"004.wav"}
    assert "died" in faults["004.wav"]


@pytest.mark.parametrize("after", [0, 2])
def test_a_full_disk(after, talks, undisturbed, cli, tmp_path, monkeypatch):
    """The disk is full in the middle of a file: there is no part of it, and later the command goes on."""
    written = []

    def write(path, rows):
        if len(written) == after:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        written.append(path)
        parts._write_lines(path, rows)

    with monkeypatch.context() as full:
        full.setitem(parts._WRITERS, "jsonl", write)
        code, _, err = cli("batch", talks, "--output", tmp_path, "--shard-size", 4)
    assert code == 2
    assert err.startswith("asr: cannot write ")
    assert err.endswith(": No space left on device: free some space, or name another folder\n")
    assert len([*tmp_path.rglob("*part-*")]) == after
    assert cli("batch", talks, "--output", tmp_path, "--shard-size", 4).code < 2
    assert batches.rows(tmp_path) == undisturbed


def test_parts_of_the_work(talks, undisturbed, cli, tmp_path):
    for part, count in (("2/2", 2), ("1/2", 4)):
        assert cli("batch", talks, "--output", tmp_path, "--shard-size", 4, "--shard", part).code < 2
        assert len(list(tmp_path.glob("part-*"))) == count
    assert batches.rows(tmp_path) == undisturbed
    (tmp_path / ".01234567-part-1").write_text("half of what a killed command wrote")
    code, out, err = cli("batch", talks, "--output", tmp_path, "--shard-size", 4)
    assert (code, out.split(), err) == (0, ["recordings", "0", "done", "before", "14"], "")
    assert not list(tmp_path.glob(".0*"))


def test_other_rows_are_not_mixed_in(talks, cli, tmp_path):
    out = tmp_path / "out"
    assert cli("batch", talks, "--output", out).code == 1
    before = batches.rows(out)
    model = tmp_path / "model"
    assert cli("export", "en-us-phones", model).code == 0
    (model / "README.md").write_text("another model")
    other = tmp_path / "other"
    other.mkdir()
    for arguments, what in (
        ([talks, "--model", model], "model"),
        ([talks, "--ipa"], "options"),
        ([talks, "--shard-size", 3], "shard size"),
        ([other], "input"),
    ):
        code, _, err = cli("batch", *arguments, "--output", out)
        assert (code, err) == (
            2,
            f"asr: {out} has results of another {what}: name another folder, or delete this one\n",
        )
    (talks / "new.wav").write_bytes((talks / "000.wav").read_bytes())
    try:
        assert cli("batch", talks, "--output", out).err.startswith(f"asr: {out} has results of another input: ")
    finally:
        (talks / "new.wav").unlink()
    assert batches.rows(out) == before
    for path in (out / "_plan").iterdir():
        path.unlink()
    (out / "_plan").rmdir()
    assert cli("batch", talks, "--output", out).err == f"asr: {out} has results and no _plan: name another folder\n"


def test_faults_of_the_command(talks, cli, tmp_path, monkeypatch):
    pytest.importorskip("fsspec", reason="URLs need fsspec, of the extra scale")
    (tmp_path / "empty").mkdir()
    lists = {"no": "{}\n", "half": '"a.wav"\n{"path"', "odd": '{"path": "a.wav", "start": "x"}\n', "none": "\n"}
    for name, text in lists.items():
        (tmp_path / f"{name}.jsonl").write_text(text)
    (tmp_path / "xyz.jsonl").write_text(json.dumps("xyz://a/b.wav"))
    (tmp_path / "a.parquet").write_text("none")
    for place, words in (
        (tmp_path / "nowhere", ["nowhere: no such file or folder"]),
        (tmp_path / "empty", ["has no recordings"]),
        (talks / "000.wav", ["asr transcribe"]),
        (tmp_path / "no.jsonl", ["line 1: nothing says where the sound is"]),
        (tmp_path / "half.jsonl", ["line 2: no JSON"]),
        (tmp_path / "odd.jsonl", ["line 1: not what is expected"]),
        (tmp_path / "none.jsonl", ["has no recordings"]),
        (tmp_path / "xyz.jsonl", ["xyz:// is no scheme"]),
        (tmp_path / "a.parquet", ["is no Parquet file"]),
        ("xyz://bucket/a.jsonl", ["xyz:// is no scheme"]),
    ):
        code, _, err = cli("batch", place, "--output", tmp_path / "out")
        assert (code, err.count("\n")) == (2, 1), err
        assert all(word in err for word in words), err
        assert not (tmp_path / "out").exists() or not [*(tmp_path / "out").iterdir()]
    for arguments, word in (
        (["--shard", "0/3"], "--shard must be such as 3/100"),
        (["--shard", "4/3"], "--shard must be such as 3/100"),
        (["--format", "csv"], "--format must be jsonl"),
        (["--words", "--align"], "--words must be left out"),
        (["--jobs", "2", "--ray", "auto"], "--jobs must be left out"),
        (["--model", "nothing"], "no model folder at nothing"),
    ):
        code, _, err = cli("batch", talks, "--output", tmp_path / "out", *arguments)
        assert (code, err.count("\n")) == (2, 1), err
        assert word in err
    places.filesystem.cache_clear()
    for number, (package, arguments) in enumerate(
        (
            ("ray", [talks, "--ray", "auto"]),
            ("pyarrow", [talks, "--format", "parquet"]),
            ("pyarrow", [tmp_path / "a.parquet"]),
            ("fsspec", [tmp_path / "xyz.jsonl"]),
        )
    ):
        with monkeypatch.context() as missing:
            missing.setitem(sys.modules, package, None)
            code, _, err = cli("batch", *arguments, "--output", tmp_path / f"out-{number}")
        assert (code, err.count("\n")) == (2, 1), err
        assert f"the package {package}" in err
        assert '".[scale]"' in err


def test_files_of_shar_without_sound_or_archive(talks, cli, tmp_path):
    CutSet.from_cuts(cuts_of(talks)).to_shar(tmp_path, {"recording": "flac"}, shard_size=50, warn_unused_fields=False)
    archive = next(tmp_path.glob("recording.*.tar"))
    with tarfile.open(archive) as members:
        assert members.getnames()[1].endswith(".json")
    archive.write_bytes(archive.read_bytes()[:1000])
    assert "is not what Lhotse writes as Shar" in cli("batch", tmp_path, "--output", tmp_path / "out").err
    archive.unlink()
    assert "has no recording.000000.tar beside it" in cli("batch", tmp_path, "--output", tmp_path / "out").err
