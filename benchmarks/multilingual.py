"""One model of nine languages beside one model each, and languages that a model has not heard.

python benchmarks/multilingual.py --corpora corpora/languages [train.max_epochs=8 …]

Trains recipes/multilingual with all languages together, with each alone, and without Dutch, Mandarin and Russian, and
scores each on the tables of `data_prep.languages`. Trainings and scores that are there are not made again, so that it
goes on where it was stopped; `--table` trains nothing, and prints what there is.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from _bench import asr, describe

from asr.core import config

RECIPE = Path("recipes/multilingual/blstm_ctc.yaml")
LANGUAGES = ("en", "de", "nl", "cs", "cmn", "es", "fr", "it", "ru")
TESTED = ("en", "de", "nl", "nl_other", "cs", "cs_other", "cmn", "cmn_other", "es", "fr", "it", "ru")
UNHEARD = ("nl", "cmn", "ru")
ALONE = "train.max_epochs=16"  # so that a small part of the speech has more than that part of the updates


class System(NamedTuple):
    """A training: its name, the languages that it hears, and settings."""

    name: str
    heard: tuple[str, ...]
    settings: tuple[str, ...] = ()


def systems() -> Iterator[System]:
    """Yield all trainings, the most telling first."""
    yield System("together", LANGUAGES)
    for language in UNHEARD:
        yield System(f"without-{language}", tuple(each for each in LANGUAGES if each != language))
    for language in LANGUAGES:
        yield System(f"alone-{language}", (language,), (ALONE,))


def settings(names: Sequence[str], corpora: Path) -> tuple[str, str]:
    """Return the settings that name corpora, and what pronounces their words."""
    places = ", ".join(f"{name}: {corpora / name}" for name in names)
    kinds = config.load(RECIPE).data.g2p
    g2p = ", ".join(f'{name}: "{kinds[name.split("_")[0]]}"' for name in names if name != "en")
    return f"data.corpora={{{places}}}", f"data.g2p={{{g2p}}}"


def scores(folder: Path, corpus: str) -> tuple[float, float]:
    """Return phone error rate and phonetic feature error rate of the best path, in percent."""
    found = json.loads((folder / f"evaluation-{corpus}-test.json").read_text())
    (per,) = (
        row["per"] for row in json.loads((folder / "metrics.json").read_text())["results"] if row["corpus"] == corpus
    )
    return per, found["pfer"]


def main() -> None:
    """Train, score and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=Path("corpora/languages"), help="the tables")
    parser.add_argument("--output", type=Path, default=Path("runs/multilingual"), help="folder of runs and scores")
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("settings", nargs="*", help="of all trainings, such as train.max_epochs=4")
    arguments = parser.parse_args()
    manifests = f"data.manifests={arguments.output / 'data'}"
    found: dict[str, dict[str, tuple[float, float]]] = {}
    print(describe("torch", "numpy"))
    for system in systems():
        run, folder = arguments.output / "runs" / system.name, arguments.output / "scores" / system.name
        if not (folder / "metrics.json").is_file():
            if arguments.table:
                continue
            where = (*settings(system.heard, arguments.corpora), manifests)
            asr("train", RECIPE, *where, *system.settings, *arguments.settings, "--run", run)
            where = (*settings(TESTED, arguments.corpora), manifests)
            asr("evaluate", run, *where, "decode.beam_size=1", "--output", folder)
        found[system.name] = {corpus: scores(folder, corpus) for corpus in TESTED}
    print("PER and PFER in percent; * was not heard in training")
    print(f"| | {' | '.join(found)} |\n|---|{'---|' * len(found)}")
    heard = {system.name: system.heard for system in systems()}
    for corpus in TESTED:
        cells = [
            f"{per:.1f}, {pfer:.1f}{'' if corpus.split('_')[0] in heard[name] else ' *'}"
            for name, (per, pfer) in ((name, each[corpus]) for name, each in found.items())
        ]
        print(f"| {corpus} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
