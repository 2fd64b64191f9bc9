"""The wait at the first use of asr.ctc: every kernel compiled (cold), and read from Numba's cache (warm).

The last row is Numba's own start, with a function that does nothing: no kernel is ready sooner, cached or not.

python benchmarks/ctc_first_use.py
"""

import os
import subprocess
import sys
import tempfile

from _bench import describe

CODE = """
import time
import numpy as np, torch, numba
start = time.perf_counter()
import asr.ctc
from asr.ctc import beam_search, best_path, ctc_loss, ctc_posteriors, forced_align, soft_align
for dtype in (torch.float32, torch.float64):
    logits = torch.zeros(20, 2, 5, dtype=dtype, requires_grad=True)
    targets = torch.ones(2, 3, dtype=torch.int64)
    ctc_loss(logits, targets, [20, 20], [3, 3]).backward()
    log_probs = logits.detach().log_softmax(2).numpy()
    for function in (forced_align, soft_align, ctc_posteriors):
        function(log_probs, targets.numpy())
    best_path(log_probs), beam_search(log_probs)
print(time.perf_counter() - start)
"""
NOTHING = """
import time
import numpy, torch, numba
start = time.perf_counter()
numba.njit(lambda: None)()
print(time.perf_counter() - start)
"""


def main() -> None:
    """Print machine, versions and the times."""
    print(describe("numba", "torch"))
    print("the loss in float32 and float64, both decoders, both aligners, posteriors; torch and numba imported before")
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}
        for name, code in {"cold": CODE, "warm": CODE, "warm again": CODE, "Numba alone": NOTHING}.items():
            command = [sys.executable, "-c", code]
            seconds = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
            print(f"{name:11} {float(seconds):6.2f} s", flush=True)


if __name__ == "__main__":
    main()
