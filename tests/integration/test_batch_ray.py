"""`asr batch --ray` on a cluster of two machines that this one plays: what is killed changes no row."""

import os
import signal
from pathlib import Path
from unittest import mock

import batches
import pytest

ray_cluster = pytest.importorskip("ray.cluster_utils", reason="no Ray here: it is in the extra scale")

pytestmark = pytest.mark.slow  # half a minute, most of which a cluster takes to start


@pytest.fixture
def cluster(tmp_path):
    changes = {
        "PYTHONPATH": os.pathsep.join([str(batches.ROOT), str(batches.ROOT / "tests")]),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # or a busy machine would leave them nothing
    }
    with mock.patch.dict(os.environ, changes):
        machine = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 << 20}
        found = ray_cluster.Cluster(initialize_head=True, head_node_args=machine)
        found.other = found.add_node(num_cpus=1, object_store_memory=100 << 20)
        yield found
        found.shutdown()


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

    command = batches.start(*arguments)
    batches.wait_for(lambda: workers("Hearer") and workers("_decode"), command)
    batches.go_on(tmp_path / "copies")
    for victim in (workers("Hearer")[0], workers("_decode")[0]):
        os.kill(victim, signal.SIGKILL)
    cluster.remove_node(cluster.other, allow_graceful=False)
    _, err = command.communicate()
    assert command.returncode == 1, err
    assert before.items() <= parts(out).items()

    assert cli("batch", place, "--output", tmp_path / "undisturbed", "--shard-size", 4).code == 1
    assert batches.rows(out) == batches.rows(tmp_path / "undisturbed")


def test_no_cluster_at_the_address(cli, tmp_path):
    talks = batches.make(tmp_path / "talks", 1)
    command = batches.start(talks, "--output", tmp_path / "out", "--ray", "127.0.0.1:1")
    _, err = command.communicate()
    assert command.returncode == 2
    assert "no Ray cluster at 127.0.0.1:1" in err.splitlines()[-1]
