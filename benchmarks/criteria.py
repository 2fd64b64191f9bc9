"""CTC beside CTC-CRF: the same network, data, seeds and epochs, phones with and without an n-gram, and words.

python benchmarks/criteria.py --data CORPORA --words asr/lm/pretrained/en-us-words runs/en_us_words/full

Trains recipes/RECIPE with CTC, and with CTC-CRF by a bigram, a trigram and a 4-gram of the training phones and with
other shares of CTC. Weights and penalties are tuned on the dev speakers, for each system, language model and seed by
itself; test speakers are scored once. With ``--also speechocean762`` words of its speakers are found, too, with weights
of its own dev speakers; with ``--textgrids`` and ``--audio``, as benchmarks/boundaries.py takes them, the last column
is how many boundaries of phones are within 20 ms of those there. What is there is not made again, so that it goes on
where it was stopped. `--table` makes nothing, and prints what there is.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from _bench import asr, describe
from boundaries import compare, of_textgrids

from asr.core import files
from asr.lm.folder import LEXICON, locate
from asr.recognition.recogniser import Recogniser


class System(NamedTuple):
    """A training: its name, the recipe's YAML, settings, and the system of the same seed that it goes on from."""

    name: str
    yaml: str
    settings: tuple[str, ...] = ()
    base: str = ""


CRF = "blstm_ctc_crf"
SOME = "train.criterion.ctc_weight=0.1"
SYSTEMS = [  # the most telling first
    System("CTC", "blstm_ctc"),
    System("trigram, no CTC", CRF),
    System("trigram", CRF, (SOME,)),
    System("bigram", CRF, (SOME, "train.criterion.lm=phone_bigram")),
    System("4-gram", CRF, (SOME, "train.criterion.lm=phone_4gram")),
    System("trigram, CTC 0.5", CRF, ("train.criterion.ctc_weight=0.5",)),
    # An output layer of plain CTC on the network that CTC-CRF has trained: the other way to have probabilities.
    System("CTC on trigram", "blstm_ctc", ("train.freeze=3", "train.max_epochs=4"), "trigram"),
]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="mini_librispeech", help="or speechocean762")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--words", type=Path, nargs="*", default=[], help="folders of word models with their lexicons")
    parser.add_argument("--also", nargs="*", default=[], help="corpora in --data whose test speakers say words, too")
    parser.add_argument("--textgrids", type=Path, help="folder of TextGrids with phones, beside --audio")
    parser.add_argument("--audio", type=Path, help="folder of their recordings, laid out alike")
    parser.add_argument("--beam", type=int, default=200, help="of words")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    names = [system.name for system in SYSTEMS]
    parser.add_argument("--systems", nargs="+", default=names, choices=names, metavar="NAME", help=f"of: {names}")
    parser.add_argument("--output", type=Path, default=Path("runs/criteria"), help="folder of runs and scores")
    parser.add_argument("--table", action="store_true", help="make nothing")
    arguments = parser.parse_args()
    if (arguments.textgrids is None) != (arguments.audio is None):
        parser.error("--textgrids and --audio need each other")
    return arguments


def run_folder(folder: Path, name: str, seed: int) -> Path:
    """Return the run folder of a system with a seed."""
    return folder / "runs" / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"


def tuned(run: Path, folder: Path, lm: Path, options: Sequence[str], is_made: bool) -> list[str]:
    """Return settings that decode with a language model: weight and penalty are tuned on dev."""
    found = folder / f"tuning-{lm.name}.json"
    settings = [f"decode.lm={lm}", *options]
    if is_made and not found.is_file():
        asr("tune", run, *settings, "--output", folder)
    tried = json.loads(found.read_text())["tried"] if found.is_file() else [{"dev_rate": 0}]
    best = min(tried, key=lambda each: each["dev_rate"])
    return settings + [f"decode.{name}={value}" for name, value in best.items() if name != "dev_rate"]


def scored(run: Path, folder: Path, settings: Sequence[str], is_made: bool) -> list[dict[str, Any]]:
    """Score test speakers, and return the rows of results."""
    results = folder / "metrics.json"
    if is_made and not results.is_file():
        asr("evaluate", run, *settings, "--output", folder)
    return json.loads(results.read_text())["results"] if results.is_file() else []


def share_within(run: Path, path: Path, textgrids: Path, audio: Path, is_made: bool) -> str:
    """Return the percentage of boundaries within 20 ms of those of TextGrids."""
    if is_made and not path.is_file():
        rows = compare(Recogniser.from_pretrained(run), of_textgrids(textgrids, audio))
        files.write_json(path, {row["name"]: row["within"]["20"] for row in rows})
    return f"{json.loads(path.read_text())['asr align']:.1f} %" if path.is_file() else ""


def main() -> None:
    """Train, score and print the table."""
    arguments = parse_arguments()
    recipe, folder, is_made = arguments.recipe, arguments.output / arguments.recipe, not arguments.table
    print(describe("torch", "numpy"), flush=True)
    trigram = folder / "runs" / "lm" / "phone_trigram"
    if is_made:
        asr("lm", "train", f"recipes/{recipe}/lm/phone_trigram.yaml", "--data", arguments.data, "--run", trigram)
    words = [f"WER, {name}" for lm in arguments.words for name in (lm.name, *arguments.also)]
    columns = ("seed", "best path", "with trigram", *words, "calibration error", "minutes of training", "× real time")
    columns += ("within 20 ms",) if arguments.textgrids else ()
    rows = [f"| criterion | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for seed in arguments.seeds:
        for system in (each for each in SYSTEMS if each.name in arguments.systems):
            run = run_folder(folder, system.name, seed)
            if is_made:
                yaml, settings = f"recipes/{recipe}/{system.yaml}.yaml", [f"seed={seed}", *system.settings]
                settings += [f"train.init={run_folder(folder, system.base, seed)}"] if system.base else []
                asr("train", yaml, *settings, "--data", arguments.data, "--run", run)
            elif not (run / "model").is_dir():
                continue
            scores = folder / "scores" / run.name
            phones = scored(run, scores / "phones", tuned(run, scores / "phones", trigram, [], is_made), is_made)
            cells = [f"{row['per']:.2f} %" for row in phones] if phones else ["", ""]
            for lm in arguments.words:
                options = [f"decode.lexicon={locate(lm) / LEXICON}", f"decode.beam_size={arguments.beam}"]
                for corpus in ("", *arguments.also):
                    place = [f"data.corpora={{{corpus}: {arguments.data / corpus}}}"] if corpus else []
                    where = scores / lm.name / corpus
                    found = scored(run, where, tuned(run, where, lm, [*options, *place], is_made), is_made)
                    cells.append(f"{found[-1]['words']['wer']:.2f} %" if found else "")
            if phones:
                report = json.loads((scores / "phones" / f"evaluation-{recipe}-test.json").read_text())
                cells.append(f"{report['calibration']['ece']:.3f}")
            else:
                cells.append("")
            seconds = json.loads((run / "history.json").read_text())["epochs"][-1]["seconds"]
            cells += [f"{seconds / 60:.0f}", f"{phones[-1]['times_real_time']:.0f}" if phones else ""]
            if arguments.textgrids:
                where = scores / "boundaries.json"
                cells.append(share_within(run, where, arguments.textgrids, arguments.audio, is_made))
            rows.append(f"| {system.name} | {seed} | {' | '.join(cells)} |")
            print(rows[-1], flush=True)
    print("\n".join(rows))


if __name__ == "__main__":
    main()
