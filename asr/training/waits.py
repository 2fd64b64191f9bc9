"""How long torch's threads wait for their next task in a loop, before they leave the processor to others."""

import os
from collections.abc import MutableMapping

TURNS = "5000"  # of the loop: a tenth of a millisecond or two, where libgomp would take several


def shorten_waits(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let torch's threads wait for a shorter time, unless the environment says how they shall wait.

    Between two of torch's operations come kernels on threads of our own (`asr.core.workers`), and a thread that waits
    in a loop takes half of a core from them. To sleep at once would be worse where torch's operations follow upon each
    other closely. GNU's OpenMP, which torch's packages for Linux hold, reads the environment as torch is imported.

    Examples
    --------
    >>> environment = {"OMP_WAIT_POLICY": "PASSIVE"}
    >>> shorten_waits(environment)
    >>> environment
    {'OMP_WAIT_POLICY': 'PASSIVE'}
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(environment):
        environment["GOMP_SPINCOUNT"] = TURNS
