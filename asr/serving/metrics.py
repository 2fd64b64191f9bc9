"""What the server counts, in the text format of Prometheus."""

from collections import Counter
from collections.abc import Iterator

SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)  # upper ends of the histogram's buckets

Gauges = dict[str, tuple[str, float]]  # by name: help and value


class Metrics:
    """Counts of requests, by path and status, and how long their answers took.

    Examples
    --------
    >>> metrics = Metrics()
    >>> metrics.count("/healthz", 200, 0.01)
    >>> [line for line in metrics.text({}).splitlines() if line.startswith("asr_requests")]
    ['asr_requests_total{path="/healthz",status="200"} 1']
    """

    def __init__(self) -> None:
        self._requests = Counter[tuple[str, int]]()
        self._buckets = Counter[float]()
        self._seconds = 0.0
        self.sound_seconds = 0.0

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count a request; `path` is one that the server has, so that nobody fills its memory with others."""
        self._requests[path, status] += 1
        self._seconds += seconds
        self._buckets.update([end for end in SECONDS if seconds <= end])

    def text(self, gauges: Gauges) -> str:
        """Return everything, with values of now beside it."""
        return "\n".join(self._lines(gauges)) + "\n"

    def _lines(self, gauges: Gauges) -> Iterator[str]:
        yield from _head("asr_requests_total", "counter", "Requests by path and status.")
        for (path, status), number in sorted(self._requests.items()):
            yield f'asr_requests_total{{path="{path}",status="{status}"}} {number}'
        total = sum(self._requests.values())
        yield from _head("asr_request_seconds", "histogram", "Time from a request to the end of its answer.")
        for end in SECONDS:
            yield f'asr_request_seconds_bucket{{le="{end:g}"}} {self._buckets[end]}'
        yield f'asr_request_seconds_bucket{{le="+Inf"}} {total}'
        yield f"asr_request_seconds_sum {self._seconds:.6f}"
        yield f"asr_request_seconds_count {total}"
        yield from _head("asr_sound_seconds_total", "counter", "Sound in recordings that were answered.")
        yield f"asr_sound_seconds_total {self.sound_seconds:.3f}"
        for name, (meaning, value) in gauges.items():
            yield from _head(name, "gauge", meaning)
            yield f"{name} {value:g}"


def _head(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
