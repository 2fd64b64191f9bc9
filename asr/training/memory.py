"""How the C library hands out memory."""

import ctypes


def tune_malloc() -> None:
    """Keep glibc from returning memory to the system after each step, which costs a training step a third of its time.

    benchmarks/training_step.py measures it. Other C libraries are left as they are.
    """
    mmap_threshold, trim_threshold, top_pad = -3, -1, -2  # malloc.h: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)
    mallopt(top_pad, 256 << 20)
