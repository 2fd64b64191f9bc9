"""The examples of recognition and alignment in the documents print what the documents show."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RECORDING = "docs/audio/glorious-scrap.flac"
LINE = re.compile(r"( *)\$ asr ((?:transcribe|align) .*)")


def examples():
    """Each command on the recording in the documents that needs nothing else, with the lines shown under it."""
    for path in (
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "docs/guides").glob("*.md")),
    ):
        lines = path.read_text(encoding="utf8").splitlines()
        for number, line in enumerate(lines):
            found = LINE.fullmatch(line)
            if not found or RECORDING not in line or ">" in line or "runs/" in line:
                continue
            shown = []
            for each in lines[number + 1 :]:
                text = each.removeprefix(found[1])
                if not each.startswith(found[1]) or not text.strip() or text.startswith("$"):
                    break
                shown.append(text)
            yield pytest.param(shlex.split(found[2], comments=True), shown, id=f"{path.name}:{number + 1}")


@pytest.mark.parametrize(("arguments", "shown"), list(examples()))
def test_an_example_prints_what_is_shown(cli, monkeypatch, arguments, shown):
    monkeypatch.chdir(ROOT)
    _, out, err = cli(*arguments)
    printed = [*err.splitlines(), *out.splitlines()]
    whole = [line for line in shown if "…" not in line]
    assert [line for line in printed if line in whole] == whole
