"""Processor's time and time of updates in one process and in two that share each batch, of the same training.

python benchmarks/training_processes.py recipes/mini_librispeech/blstm_ctc.yaml "data.speeds=[1.0]" --data LibriSpeech

The words are those of `asr train`. It prepares the corpus and computes the features first, if need be. The updates
measured come after ten others, and each training is stopped after them. Trainings take turns: in one process with one
thread, in one with a thread for each processor, and in two that share the processors.
"""

import os
import subprocess
import sys
import tempfile
import time

from _bench import describe

from asr.cli.app import main
from asr.training.network import RecogniserModule

FIRST, LAST, ROUNDS = 10, 25, 2
ONE_THREAD = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
ROWS = {"one process, one thread": (1, ONE_THREAD), "one process": (1, {}), "two processes": (2, {})}


def watch() -> None:
    """Print what the updates take in this process, and end it after them."""
    start = RecogniserModule.on_train_batch_start
    clocks = time.process_time, time.monotonic
    before: list[float] = []

    def watched(self: RecogniserModule, *arguments: object) -> None:
        if self.global_step == FIRST:
            before[:] = [clock() for clock in clocks]
        if self.global_step == LAST:
            taken = [clock() - then for clock, then in zip(clocks, before, strict=True)]
            os.write(1, "MEASURED {:.2f} {:.2f}\n".format(*taken).encode())
            os._exit(0)
        start(self, *arguments)  # type: ignore[arg-type]

    RecogniserModule.on_train_batch_start = watched  # type: ignore[method-assign]


def measure(processes: int, threads: dict[str, str]) -> tuple[float, float]:
    """Return the processor's time of all processes together, and the time, in seconds."""
    environment = os.environ | threads | {"MEASURED": "1"}
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", *sys.argv[1:], f"train.devices={processes}", "--run", f"{folder}/run"]
        command = [sys.executable, __file__, *words]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    rows = [[float(each) for each in line.split()[1:]] for line in done.stdout.splitlines() if "MEASURED" in line]
    return sum(cpu for cpu, _ in rows), max(wall for _, wall in rows)


if __name__ == "__main__":
    if "MEASURED" in os.environ:
        watch()
        main()
    else:
        print(describe("torch"))
        for _ in range(ROUNDS):
            for name, row in ROWS.items():
                cpu, wall = measure(*row)
                print(f"{name}, {LAST - FIRST} updates: {cpu:.1f} s of processors, {wall:.1f} s", flush=True)
