"""What the benchmarks share: where they ran and with which versions, timing in turns, and commands of the library."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


def describe(*packages: str) -> str:
    """Return one line that names the processor, Python and the packages."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return f"{processor}, {os.cpu_count()} processors; Python {platform.python_version()}, {versions}"


def in_turns(runs: dict[str, Callable[[], Any]], repeats: int, rounds: int = 3) -> dict[str, np.ndarray]:
    """Return the seconds that each pass of each run took, (rounds × repeats,).

    A round is a block of passes of each run, after two that load code and fill caches. Were single passes to alternate,
    the threads of one side, still spinning in wait for more work, would hold up the other's.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            for repeat in range(repeats + 2):
                start = time.perf_counter()
                run()
                if repeat >= 2:
                    times[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in times.items()}


def spread(seconds: np.ndarray) -> str:
    """Return median and the 10th and 90th percentile, in milliseconds."""
    low, median, high = 1e3 * np.quantile(seconds, [0.1, 0.5, 0.9])
    return f"{median:9.2f} ms  [{low:.2f} - {high:.2f}]"


def asr(*arguments: object) -> None:
    """Run a command of the library."""
    subprocess.run([sys.executable, "-m", "asr", *map(str, arguments)], check=True)
