"""The verb `asr compare-alignments`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import check_exist, note


def compare_alignments(
    first: Annotated[Path, typer.Argument(help="Labels with times: a file or a folder.")],
    second: Annotated[Path, typer.Argument(help="Labels of the same recordings, by another aligner or by hand.")],
    tier: Annotated[
        str | None, typer.Option(help="Of TextGrids and .eaf files: the tier to compare.", show_default="phones")
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(help="The folder of the recordings, named as the files of labels, for the page.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page with the places where the two differ most.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Compare two alignments of the same recordings: how near the starts of their phones are, by class of phones.

    It reads TextGrids, .eaf files, CTM, TIMIT's .PHN, tables, and JSON and Audacity's labels of `asr align`.

    asr compare-alignments by-hand/ aligned/
    asr compare-alignments by-hand/ aligned/ --audio recordings/ --report agreement.html
    asr compare-alignments mfa/ aligned/ --tier words --json
    """
    check_exist([first, second, *([audio] if audio else [])])

    from asr.evaluation import agreement

    sides = [agreement.read(path, tier) for path in (first, second)]
    found = agreement.compare(*sides)
    rows = found.rows()
    if as_json:
        values = {"utterances": len(found.utterances), "unmatched": found.unmatched, "missing": found.missing}
        typer.echo(json.dumps(values | {"rows": rows}, indent=2, ensure_ascii=False))
    else:
        typer.echo(agreement.table(rows))
        for line in found.notes((str(first), str(second))):
            typer.echo(line)
    if report is not None:
        from asr.cli import listening
        from asr.evaluation import alignment_page

        names = str(first), str(second)
        places = listening.differences(found.outliers(listening.MOST), dict(zip(names, sides, strict=True)), audio)
        alignment_page.write_agreement(report, names, found, places)
        note(f"page: {report}")
