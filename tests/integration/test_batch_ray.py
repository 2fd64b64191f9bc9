"""`asr batch --ray` on a cluster of two machines that this one plays: what is killed or full changes no row.

The tests share the cluster, and the last ones break it.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import batches
import pytest

pytest.importorskip("ray.data", reason="no Ray here: it is in the extra scale")
pytestmark = pytest.mark.slow  # half a minute, most of which a cluster takes to start

# In a process of its own: it says the address, loses a machine when it is told to, then its head, and at last ends.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
other = cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(other, allow_graceful=False)
sys.stdin.readline()
cluster.head_node.kill_gcs_server()
sys.stdin.readline()
cluster.shutdown()
"""
# Of the processes of the cluster: they die of a recording as soon as they open it, like those whose memory it fills.
DEADLY = """
import os, sys

def die(event, values):
    if event == "open" and str(values[0]).endswith("deadly.wav"):
        os.kill(os.getpid(), 9)

sys.addaudithook(die)
"""
# The command with fewer tries, a shorter patience with the head, and a disk that is full after so many files.
COMMAND = """
import sys
from asr.recognition.batch import on_ray, parts
on_ray.RETRIES, on_ray.CHECKED, on_ray.GONE = 1, 0.5, 3.0
room, write = [0] * int(sys.argv.pop(1)), parts._WRITERS["jsonl"]

def write_if_there_is_room(path, rows):
    if not room:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")
    room.pop()
    write(path, rows)

parts._WRITERS["jsonl"] = write_if_there_is_room
from asr.cli.app import main
main()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deadly")
    (folder / "sitecustomize.py").write_text(DEADLY)
    changes = {
        "PYTHONPATH": os.pathsep.join([str(folder), str(batches.ROOT), str(batches.ROOT / "tests")]),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # or a busy machine would leave the workers nothing
    }
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, "-c", CLUSTER], env=os.environ | changes, **pipes) as process:
        process.address = process.stdout.readline().strip()
        yield process
        process.communicate()


def workers(name):
    """The processes of the cluster that run an operator."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if title.startswith("ray::") and name in title:
            found.append(int(path.parent.name))
    return found


def parts(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("part-*")}


def on_cluster(python, cluster, place, out, room=99):
    return python(COMMAND, room, "batch", place, "--output", out, "--shard-size", 4, "--ray", cluster.address)


def test_a_recording_that_workers_die_of_is_a_fault_and_the_disk_may_be_full(cluster, cli, python, tmp_path):
    talks, out = batches.make(tmp_path / "talks", 10), tmp_path / "out"
    full = on_cluster(python, cluster, talks, out, 1)
    assert full.returncode == 2
    assert full.stderr.splitlines()[-1].endswith(": No space left on device: free some space, or name another folder")
    assert len([*out.rglob("*part-*")]) == 1
    (talks / "004.wav").rename(talks / "deadly.wav")
    found = on_cluster(python, cluster, talks, tmp_path / "deadly")
    assert found.returncode == 1, found.stderr
    (talks / "deadly.wav").rename(talks / "004.wav")
    assert on_cluster(python, cluster, talks, out).returncode == 1
    assert cli("batch", talks, "--output", tmp_path / "undisturbed", "--shard-size", 4).code == 1
    expected = batches.rows(tmp_path / "undisturbed")
    assert batches.rows(out) == expected
    rows = {row["id"]: row for row in batches.rows(tmp_path / "deadly")}
    assert (
        rows.pop("deadly.wav")["error"]
        == "the worker that heard it died each time: it is damaged, or too long for the memory"
    )
    assert rows == {row["id"]: row for row in expected if row["id"] != "004.wav"}


def test_killed_workers_machines_and_commands_change_no_row(cluster, cli, tmp_path):
    talks = batches.make(tmp_path / "talks", 18)
    place = batches.stalled(talks, tmp_path / "copies", 6)  # in the file of rows that has the two faults, too
    out = tmp_path / "out"
    arguments = place, "--output", out, "--shard-size", 4, "--ray", cluster.address
    with batches.start(*arguments) as command:
        batches.wait_for(lambda: parts(out), command)
        command.kill()
        command.communicate()
    before = parts(out)
    assert 0 < len(before) < 5  # the pipe keeps one back
    old = {*workers("Hearer"), *workers("_decode")}

    with batches.start(*arguments) as command:
        victims = [
            batches.wait_for(lambda name=name: {*workers(name)} - old, command).pop() for name in ("Hearer", "_decode")
        ]
        batches.go_on(tmp_path / "copies")
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        cluster.stdin.write("\n")
        cluster.stdin.flush()
        _, err = command.communicate()
    assert command.returncode == 1, err
    assert before.items() <= parts(out).items()

    assert cli("batch", place, "--output", tmp_path / "undisturbed", "--shard-size", 4).code == 1
    assert batches.rows(out) == batches.rows(tmp_path / "undisturbed")


def test_a_head_that_is_killed_ends_the_command_which_goes_on_elsewhere(cluster, cli, tmp_path):
    talks = batches.make(tmp_path / "talks", 8)
    place = batches.stalled(talks, tmp_path / "copies", 7)
    out = tmp_path / "out"
    arguments = place, "--output", out, "--shard-size", 2
    with batches.start(*arguments, "--ray", cluster.address, code=(COMMAND, 99, "batch")) as command:
        batches.wait_for(lambda: parts(out), command)
        cluster.stdin.write("\n\n")  # the machine may be gone already
        cluster.stdin.flush()
        _, err = command.communicate()
    assert command.returncode == 2
    assert (
        err.splitlines()[-1]
        == f"asr: the Ray cluster at {cluster.address} is gone: start it, and give the same command"
    )
    before = parts(out)
    batches.go_on(tmp_path / "copies")
    assert cli("batch", *arguments).code == 1
    assert before.items() <= parts(out).items()
    assert cli("batch", place, "--output", tmp_path / "undisturbed", "--shard-size", 2).code == 1
    assert batches.rows(out) == batches.rows(tmp_path / "undisturbed")


def test_no_cluster_at_the_address(tmp_path):
    talks = batches.make(tmp_path / "talks", 1)
    with batches.start(talks, "--output", tmp_path / "out", "--ray", "127.0.0.1:1") as command:
        _, err = command.communicate()
    assert command.returncode == 2
    assert err.splitlines()[-1].startswith("asr: no Ray cluster at 127.0.0.1:1 (")
