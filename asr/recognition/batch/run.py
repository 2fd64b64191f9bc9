"""The loop of a batch: rows come in groups, in any order, and each shard is written when it has all of its own."""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from asr.core.terminal import Progress, columns, duration
from asr.recognition.batch.parts import Parts
from asr.recognition.batch.plan import Group
from asr.recognition.batch.worker import Row

MOST_REASONS = 1000  # different ones that are counted

log = logging.getLogger(__name__)


@dataclass
class Summary:
    """What a command has done.

    Attributes
    ----------
    recordings, failed, speech
        How many rows it has written, how many of them are faults, and the seconds of speech in the others.
    done_before
        Recordings of shards that were done.
    seconds
        How long it took.
    reasons
        How many recordings failed for each reason.
    """

    recordings: int = 0
    failed: int = 0
    speech: float = 0.0
    done_before: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, rows: Iterable[Row]) -> None:
        """Count rows."""
        for row in rows:
            self.recordings += 1
            self.speech += row.get("duration", 0.0)
            if row["error"] is not None:
                self.failed += 1
                if row["error"] in self.reasons or len(self.reasons) < MOST_REASONS:
                    self.reasons[row["error"]] += 1

    @property
    def pace(self) -> str:
        """How fast it is.

        >>> Summary(recordings=9, speech=90.0, seconds=6.0).pace
        '1.5 recordings a second, 15 x real time'
        """
        seconds = max(self.seconds, 1e-9)
        return f"{self.recordings / seconds:.1f} recordings a second, {self.speech / seconds:.0f} x real time"

    def table(self) -> str:
        """Return lines that sum it up."""
        rows = [("recordings", f"{self.recordings:,}")]
        rows += [("failed", f"{self.failed:,}")] if self.failed else []
        rows += [("done before", f"{self.done_before:,}")] if self.done_before else []
        if self.recordings:
            rows += [("speech", duration(self.speech)), ("time", duration(self.seconds)), ("pace", self.pace)]
        return columns(rows)


def run(parts: Parts, shards: Sequence[int], results: Iterable[tuple[Group, list[Row]]], before: int) -> Summary:
    """Write the files of shards from the rows of their groups.

    Parameters
    ----------
    parts
        Where the files go.
    shards
        Those to be made.
    results
        The rows of all their groups.
    before
        Recordings of shards that were done.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    plan, summary, start = parts.plan, Summary(done_before=before), time.monotonic()
    pieces: dict[int, dict[int, list[Row]]] = {}
    with Progress("recordings", sum(map(plan.size, shards)), before=0) as progress:
        for group, rows in results:
            summary.add(rows)
            summary.seconds = time.monotonic() - start
            progress.update(summary.recordings, summary.pace)
            of_shard = pieces.setdefault(group.shard, {})
            of_shard[group.number] = rows
            if len(of_shard) == len(plan.groups(group.shard)):
                parts.write(group.shard, [row for number in sorted(of_shard) for row in of_shard[number]])
                del pieces[group.shard]
    return summary
