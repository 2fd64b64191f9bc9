"""`asr batch --ray` on a cluster of two machines that this one plays: what is killed changes no row."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import batches
import pytest

pytest.importorskip("ray.data", reason="no Ray here: it is in the extra scale")
pytestmark = pytest.mark.slow  # half a minute, most of which a cluster takes to start

# In a process of its own: it says the address, loses a machine when it is told to, and ends with its input.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
other = cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(other, allow_graceful=False)
sys.stdin.readline()
cluster.shutdown()
"""


@pytest.fixture
def cluster():
    changes = {
        "PYTHONPATH": os.pathsep.join([str(batches.ROOT), str(batches.ROOT / "tests")]),
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


def test_killed_workers_machines_and_commands_change_no_row(cluster, cli, tmp_path):
    talks = batches.make(tmp_path / "talks", 18)
    place = batches.stalled(talks, tmp_path / "copies", 11)
    out = tmp_path / "out"
    arguments = place, "--output", out, "--shard-size", 4, "--ray", cluster.address
    command = batches.start(*arguments)
    batches.wait_for(lambda: parts(out), command)
    command.kill()
    command.communicate()
    before = parts(out)
    assert 0 < len(before) < 5  # the pipe keeps one back
    old = {*workers("Hearer"), *workers("_decode")}

    command = batches.start(*arguments)
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


def test_no_cluster_at_the_address(tmp_path):
    talks = batches.make(tmp_path / "talks", 1)
    command = batches.start(talks, "--output", tmp_path / "out", "--ray", "127.0.0.1:1")
    _, err = command.communicate()
    assert command.returncode == 2
    assert err.splitlines()[-1].startswith("asr: no Ray cluster at 127.0.0.1:1 (")
