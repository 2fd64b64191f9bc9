"""One parallel kernel at a time.

Where no OpenMP or TBB library is found Numba falls back to a scheduler of its own, which ends the process when two
Python threads enter parallel kernels together.
"""

import threading

KERNEL_LOCK = threading.Lock()
