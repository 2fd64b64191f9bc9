import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from asr import ctc
from asr.core import workers
from asr.ctc import beam_search, ctc_loss


@pytest.fixture
def num_threads():
    """Set the number of threads; it is put back afterwards."""
    before = ctc.get_num_threads()
    yield ctc.set_num_threads
    ctc.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("batch", [0, 1, 2, 6, 20])
def test_each_utterance_is_taken_once(num_threads, threads, batch):
    num_threads(threads)
    assert ctc.get_num_threads() == threads
    shares, seen = [], np.zeros(batch, int)

    def kernel(utterances, counts, one, workspace):
        shares.append(len(utterances))
        counts[utterances] += one
        assert workspace.dtype == np.float64
        assert len(workspace) == 100

    workers.run(kernel, batch, 100, seen, 1)
    assert (seen == 1).all()
    assert len(shares) == min(batch, threads)
    assert max(shares, default=0) - min(shares, default=0) <= 1


def test_shares_run_side_by_side_each_in_memory_of_its_own(num_threads):
    num_threads(2)
    meeting = threading.Barrier(2)  # a share that waited for the other to end would break it
    found = {}

    def kernel(utterances, workspace):
        found[utterances[0]] = threading.get_ident(), workspace
        meeting.wait(60)

    workers.run(kernel, 2, 10)
    assert found[0][0] == threading.get_ident() != found[1][0]
    assert not np.shares_memory(found[0][1], found[1][1])


def test_one_thread_is_the_callers_and_its_memory_is_kept(num_threads):
    num_threads(1)
    found = []
    for size in (1000, 10, 1000, 10**6, 1000):
        workers.run(lambda _, workspace: found.append((threading.get_ident(), workspace)), 3, size)
        assert len(found[-1][1]) == size
    assert {thread for thread, _ in found} == {threading.get_ident()}
    memory = [workspace.ctypes.data for _, workspace in found]
    assert memory[0] == memory[1] == memory[2]
    assert memory[3] == memory[4]


@pytest.mark.parametrize("faulty", [0, 1, 2])
def test_faults_in_any_thread_are_raised(num_threads, faulty):
    num_threads(3)

    def kernel(utterances, workspace):
        if faulty in utterances:
            raise ZeroDivisionError("of the kernel")

    with pytest.raises(ZeroDivisionError, match="of the kernel"):
        workers.run(kernel, 3, 1)
    workers.run(lambda *_: None, 3, 1)  # and the threads live on


def test_a_fault_is_raised_after_all_have_ended(num_threads):
    """Others would still write to arrays that the caller has given to somebody else."""
    num_threads(2)
    ended = []

    def fail():
        raise ZeroDivisionError("of the first")

    def go_on():
        time.sleep(0.2)
        ended.append(True)

    with pytest.raises(ZeroDivisionError, match="of the first"):
        workers.side_by_side([fail, go_on])
    assert ended == [True]


def test_work_within_work_ends(num_threads):
    """Threads of the pool that waited for each other would wait for ever."""
    num_threads(2)
    found = np.zeros((8, 5))

    def kernel(utterances, row, workspace):
        row[utterances] += 1

    def outer(row):
        workers.run(kernel, 5, 1, row)
        return sum(workers.map_in_order(int, row))

    assert list(workers.map_in_order(outer, found)) == [5] * 8
    assert (found == 1).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_items_are_mapped_in_order_by_so_many_threads(num_threads, threads):
    num_threads(threads)
    active, most, lock = 0, 0, threading.Lock()

    def function(item):
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        time.sleep(0.002 * (item % 3))
        with lock:
            active -= 1
        return item

    assert list(workers.map_in_order(function, range(30))) == list(range(30))
    assert most == threads
    for _ in range(3):
        items = workers.map_in_order(lambda item: 1 // item, [1, 0])
        assert next(items) == 1
        with pytest.raises(ZeroDivisionError):
            next(items)


def test_number_of_threads_is_checked():
    before = ctc.get_num_threads()
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"at least one thread is needed, not {wrong}"):
            ctc.set_num_threads(wrong)
    assert ctc.get_num_threads() == before >= 1


def test_number_of_threads_is_numbas(run_python):
    assert run_python("from asr import ctc; print(ctc.get_num_threads())", NUMBA_NUM_THREADS="3").strip() == "3"


def test_python_threads_may_call_at_once(num_threads):
    """Numba's own scheduler ends the process when two threads enter its parallel kernels together."""
    num_threads(2)
    rng = np.random.default_rng(0)
    batches = []
    for frames in (150, 20, 90, 45):  # each size with needs of its own
        logits = torch.from_numpy(rng.standard_normal((frames, 4, 20)))
        batches.append((logits, torch.from_numpy(rng.integers(1, 20, (4, 5))), [frames] * 4, [5] * 4))

    def both(i):
        leaf = batches[i % 4][0].clone().requires_grad_()
        loss = ctc_loss(leaf, *batches[i % 4][1:])
        loss.backward()
        return loss.item(), leaf.grad.numpy().tobytes(), beam_search(leaf.detach().log_softmax(2).numpy(), beam_size=4)

    alone = [both(i) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for i, found in enumerate(pool.map(both, range(40))):
            assert found == alone[i % 4]


def test_a_forked_child_may_call_after_its_parent(run_python):
    """It has none of its parent's threads: a loader's workers would wait for them for ever."""
    run_python(
        """
import multiprocessing, os, signal, sys
import numpy as np, torch
from asr import ctc
ctc.set_num_threads(2)
logits = torch.from_numpy(np.random.default_rng(0).standard_normal((30, 4, 6)))
def both():
    loss = ctc.ctc_loss(logits, torch.ones(4, 1, dtype=torch.int64), [30] * 4, [1] * 4).item()
    return loss, [h[0].tokens for h in ctc.beam_search(logits.log_softmax(2).numpy(), beam_size=4)]
expected = both()
if child := os.fork():
    _, status = os.waitpid(child, 0)
    assert status == 0, status
else:
    signal.alarm(60)
    sys.exit(both() != expected)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert all(pool.apply_async(both).get(60) == expected for _ in range(3))
assert both() == expected
"""
    )
