"""Phone errors on children's speech before and after a model of adults learns from 5 to 60 minutes of it.

python benchmarks/adaptation.py --corpus SPEECHOCEAN762 [--model runs/mini_librispeech/blstm_ctc]

The speech to adapt to is that of children among speechocean762's training speakers, a tenth of them for dev; whole
speakers are drawn, and fewer minutes are a part of more. Tested are all children among the test speakers. The model
must not have heard speechocean762. Trainings that have ended are not repeated. The picture is adaptation.png in the
folder of the output.
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from _bench import asr, describe
from lhotse.cut import Cut

import data_prep
from asr.data.splits import load_split

CORPUS = "speechocean762"
CHILD = 16  # years
RECIPE = Path("recipes/adaptation/children.yaml")
FIGURE = "adaptation.png"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="folder of speechocean762")
    parser.add_argument("--model", default="runs/mini_librispeech/blstm_ctc", help="the model to adapt")
    parser.add_argument("--minutes", type=float, nargs="+", default=[5, 15, 30, 60], help="of speech to adapt to")
    parser.add_argument("--output", type=Path, default=Path("runs/adaptation"), help="folder of tables and runs")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of speakers")
    parser.add_argument("settings", nargs="*", help="of the trainings, such as train.freeze=2")
    return parser.parse_args()


def children(split: str, manifests: str) -> list[Cut]:
    """Return the utterances of children in a split."""
    cuts = load_split(manifests, [CORPUS], split)
    return [cut for cut in cuts if (cut.supervisions[0].custom or {}).get("age", CHILD) < CHILD]


def drawn(cuts: list[Cut], minutes: float, seed: int) -> list[Cut]:
    """Return so many minutes of speech: speaker after speaker in an order that depends on the seed alone."""
    speakers = sorted({cut.supervisions[0].speaker for cut in cuts})
    random.Random(seed).shuffle(speakers)
    found, seconds = [], 0.0
    for cut in sorted(cuts, key=lambda each: speakers.index(each.supervisions[0].speaker)):
        if seconds + cut.duration <= 60 * minutes:
            found.append(cut)
            seconds += cut.duration
    return found


def write_table(folder: Path, splits: dict[str, list[Cut]]) -> None:
    """Write a corpus in the form of a table, unless it is there: its dates tell whether manifests are up to date."""
    rows = ["path\tspeaker\tgender\tsplit\tphones"]
    for split, cuts in splits.items():
        for cut in cuts:
            one = cut.supervisions[0]
            path = Path(cut.recording.sources[0].source).resolve()
            rows.append("\t".join((str(path), one.speaker, one.gender or "", split, one.custom["phones"])))
    text, file = "\n".join(rows) + "\n", folder / "utterances.tsv"
    folder.mkdir(parents=True, exist_ok=True)
    if not file.is_file() or file.read_text() != text:
        file.write_text(text)


def scores(folder: Path, system: object, where: tuple[str, str]) -> dict[str, Any]:
    """Score a system on a table's test speakers, and return what metrics.json says of the best path."""
    asr("evaluate", system, *where, "decode.beam_size=1", "--output", folder)
    return json.loads((folder / "metrics.json").read_text())["results"][0]


def draw(points: list[dict[str, Any]], path: Path) -> None:
    """Draw error rates, with their intervals by speakers, over minutes."""
    minutes = [point["minutes"] for point in points]
    pers = [point["per"] for point in points]
    errors = [[abs(point["interval_speakers"][side] - point["per"]) for point in points] for side in (0, 1)]
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    axes.errorbar(range(len(points)), pers, errors, marker="o", capsize=3, color="#1f5fa8")
    for i, per in enumerate(pers):
        axes.annotate(f"{per:.1f}", (i, per), textcoords="offset points", xytext=(8, 6))
    axes.set_xticks(range(len(points)), [f"{each:g}" for each in minutes])
    axes.set(xlabel="minutes of children's speech", ylabel="phone error rate (%)", ylim=(0, 1.15 * max(pers)))
    axes.margins(x=0.12)
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train at each point, and print and draw the curve."""
    arguments = parse_arguments()
    manifests = str(arguments.output / "data")
    data_prep.prepare(CORPUS, arguments.corpus, manifests)
    pool, test = children("train", manifests) + children("dev", manifests), children("test", manifests)
    print(describe("torch", "numpy"))
    points: list[dict[str, Any]] = []
    for minutes in (0, *arguments.minutes):
        cuts = drawn(pool, minutes or max(arguments.minutes), arguments.seed)
        name = f"children-{minutes:g}"
        write_table(arguments.output / name, {"train": cuts, "test": test})
        corpus, run = f"data.corpora={{{name}: {arguments.output / name}}}", arguments.output / "runs" / name
        where, took = (corpus, f"data.manifests={manifests}"), 0.0
        if minutes:
            asr("train", RECIPE, f"train.init={arguments.model}", *where, *arguments.settings, "--run", run)
            took = json.loads((run / "history.json").read_text())["epochs"][-1]["seconds"] / 60
        found = scores(arguments.output / "scores" / name, run if minutes else arguments.model, where)
        num_speakers = len({cut.supervisions[0].speaker for cut in cuts}) if minutes else 0
        points.append({"minutes": minutes, "speakers": num_speakers, "training": took} | found)
    print(f"test: {len(test)} utterances of {len({cut.supervisions[0].speaker for cut in test})} children")
    print("| minutes | speakers | PER | 95 % interval, by speakers | minutes of training |\n|---|---|---|---|---|")
    for point in points:
        low, high = point["interval_speakers"]
        row = f"{point['minutes']:g} | {point['speakers']} | {point['per']:.2f} % | {low:.2f} – {high:.2f}"
        print(f"| {row} | {point['training']:.1f} |")
    draw(points, arguments.output / FIGURE)


if __name__ == "__main__":
    main()
