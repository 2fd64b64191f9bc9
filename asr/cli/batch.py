"""The verb `asr batch`."""

import os
import re
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import ModelOption, check

SHOWN = 3  # reasons of faults


def batch(
    place: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A folder of recordings or of Shar, Lhotse's cuts or recordings, or a list of paths or URLs in JSON "
            "lines or Parquet.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", help="The folder of the results; it is made.")],
    model: ModelOption = "en-us-phones",
    words: Annotated[bool, typer.Option("--words", help="English words as well as phones.")] = False,
    align: Annotated[
        bool, typer.Option("--align", help="Find the times of known texts, of the list or beside the recordings.")
    ] = False,
    ipa: Annotated[bool, typer.Option("--ipa", help="Write the phones in IPA instead of ARPAbet.")] = False,
    output_format: Annotated[
        str, typer.Option("--format", help="jsonl (gzipped JSON lines), parquet, or both with a comma.")
    ] = "jsonl",
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes of this machine.", show_default="its processors")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(help="A Ray cluster in place of processes: its address, auto, or local to start one here."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            help="Do a part of the work, such as 3/100, where other commands do the rest.", show_default="1/1"
        ),
    ] = None,
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, help="Recordings in a file of results.")] = 1024,
) -> None:
    """Write down or align very many recordings.

    The results are files of rows, one for each recording, with the reason where one failed. However the command was
    killed, the same command goes on where it stopped. The exit code is 1 if some recordings failed, or 2 if all did.

    asr batch talks/ --output rows
    asr batch cuts.jsonl.gz --output rows --align --format jsonl,parquet
    asr batch s3://bucket/list.jsonl --output /shared/rows --words --ray auto
    asr batch list.parquet --output /shared/rows --shard 3/100
    """
    forms = tuple(each.strip() for each in output_format.split(","))
    check({*forms} <= {"jsonl", "parquet"}, "--format", "be jsonl, parquet or both with a comma", output_format)
    check(not (words and align), "--words", "be left out: --align is given the words", words)
    check(jobs is None or ray is None, "--jobs", "be left out: --ray uses the processors of the cluster", jobs)
    number, count = _part(shard or "1/1")

    import asr
    from asr.core import places, workers
    from asr.recognition.batch import inputs, local, on_ray, parts, plan
    from asr.recognition.batch.run import run
    from asr.recognition.batch.worker import Worker

    parts.check_forms(forms)
    place = place if places.is_url(place) else os.path.abspath(place)
    worker = Worker(model, words, align, ipa)
    _ = worker.recogniser  # a fault of it is known before the first recording

    made_from = {"input": inputs.identity(place, align), "version_of_asr": asr.__version__, **worker.made_from()}
    made = plan.make(output.absolute(), place, made_from | {"shard_size": shard_size}, lambda: inputs.read(place))
    files = parts.Parts(made, forms)
    own = range(number - 1, made.num_shards, count)
    left = [each for each in own if not files.is_done(each)]
    groups = (group for each in left for group in made.groups(each))
    jobs = jobs or workers.get_num_threads()
    results = on_ray.rows(made, worker, groups, ray) if ray else local.rows(made, worker, groups, jobs)
    with closing(results):
        summary = run(files, left, results, sum(made.size(each) for each in own) - sum(map(made.size, left)))
    if all(map(files.is_done, range(made.num_shards))):
        files.sweep()
    print(summary.table())
    for reason, times in summary.reasons.most_common(SHOWN):
        print(f"asr: {times:,} failed: {reason}", file=sys.stderr)
    raise typer.Exit(0 if not summary.failed else 1 if summary.failed < summary.recordings else 2)


def _part(text: str) -> tuple[int, int]:
    """Return the number of a part, from 1, and how many there are."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    number, count = (int(each) for each in found.groups()) if found else (0, 0)
    check(1 <= number <= count, "--shard", "be such as 3/100, the third of a hundred parts", text)
    return number, count
