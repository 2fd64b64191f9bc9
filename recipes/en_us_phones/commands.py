"""Orders to a coffee machine as a table: which sentence of a grammar is said in each recording.

python -m recipes.en_us_phones.commands speech-to-intent-benchmark corpora/commands [--model en-us-phones]

Picovoice's benchmark (github.com/Picovoice/speech-to-intent-benchmark, Apache-2.0) has 1.5 hours of orders by more than
50 speakers, told with what is ordered, and neither with words nor speakers; every recording is given a speaker of its
own. Its grammar has the sentences by which an order may be given. Those whose phones differ least from the phones that
a model recognises are aligned, and the likeliest is taken for what is said. Where more than `DIFFERENT` of its phones
differ, the recording is left out.
"""

import argparse
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import yaml

from asr.core.errors import AsrError, CorpusError, InfeasibleError
from asr.core.terminal import track
from asr.evaluation.metrics import count_errors
from asr.recognition.align import known_text
from asr.recognition.recogniser import Recogniser
from asr.speech.pronounce import pronounce
from data_prep.languages import Row, write

ALIGNED = 12  # sentences of each order
DIFFERENT = 0.6
_PART = re.compile(r"\[(?P<choices>[^]]*)\]|\$\w+:(?P<slot>\w+)|(?P<word>[^\s$[]+)")


def sentences(expressions: list[str], slots: Mapping[str, str]) -> Iterator[str]:
    """Yield the sentences of a grammar that say just these slots.

    >>> list(sentences(["[get, make] me a $size:size tea", "tea"], {"size": "small"}))
    ['get me a small tea', 'make me a small tea']
    """
    for expression in expressions:
        parts = list(_PART.finditer(expression))
        if {part["slot"] for part in parts if part["slot"]} == slots.keys():
            choices = [(part["choices"] or slots.get(part["slot"]) or part["word"]).split(", ") for part in parts]
            yield from map(" ".join, itertools.product(*choices))


def said(recogniser: Recogniser, path: Path, candidates: list[str]) -> str | None:
    """Return the sentence that is likeliest said in a recording, or None where all are too unlike it."""
    recording, scores = recogniser.hear(path), dict[float, str]()
    heard = [phone.label for phone in recogniser.transcript(recording)]
    spoken = {each: [phone for word in each.lower().split() for phone in pronounce(word)] for each in candidates}
    errors = {each: count_errors(phones, heard).errors for each, phones in spoken.items()}
    for each in sorted(candidates, key=errors.__getitem__)[:ALIGNED]:
        spellings = replace(known_text(recogniser.model, each).spellings, all_said=True)
        with suppress(InfeasibleError):  # too long a sentence
            scores.setdefault(recogniser.model.align(spellings, recording.emissions, recording.waveform).score, each)
    best = scores[max(scores)] if scores else None
    return best if best and errors[best] <= DIFFERENT * len(spoken[best]) else None


def rows(folder: Path, recogniser: Recogniser) -> Iterator[Row]:
    """Yield the recordings of the benchmark with the sentences that are found in them."""
    grammar, orders = folder / "data" / "rhino" / "coffee_maker.yaml", folder / "data" / "label" / "label.json"
    for path in (grammar, orders):
        if not path.is_file():
            raise CorpusError(f"there is no {path}: clone github.com/Picovoice/speech-to-intent-benchmark")
    expressions = yaml.safe_load(grammar.read_text(encoding="utf-8"))["context"]["expressions"]
    labels, recordings = json.loads(orders.read_text(encoding="utf-8")), folder / "data" / "speech" / "clean"
    there = [recordings / name for name in sorted(labels) if (recordings / name).is_file()]  # one is not
    if not there:
        raise CorpusError(f"none of the recordings that {orders} names is in {recordings}")
    for path in track(there, "orders"):
        intent, slots = labels[path.name]["intent"], labels[path.name]["slots"]
        if intent not in expressions:
            raise CorpusError(f"{grammar} has no sentence for the intent {intent} of {path.name}")
        slots = {slot: " ".join(value.split()) for slot, value in slots.items() if value}
        text = said(recogniser, path, list(sentences(expressions[intent], slots)))
        if text is not None:
            yield Row(path, path.stem, text, split="train")


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="en-us-phones", help="model folder or name (default en-us-phones)")
    arguments = parser.parse_args()
    try:
        found = rows(arguments.source, Recogniser.from_pretrained(arguments.model))
        print(f"{arguments.output}: {write(found, arguments.output, math.inf)}")
    except AsrError as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
