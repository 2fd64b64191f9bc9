"""Texts with numbers, dates and signs: how often the reading that was said is the one that is chosen.

python benchmarks/readings.py

espeak-ng speaks each sentence of the table that tests hold `asr.speech.readings` against, written out in words, and the
text is aligned as it is written. Some readings differ by one short sound, such as dollar and dollars.
"""

import argparse
import csv
import time
from pathlib import Path

from _bench import describe

from asr.recognition.align import align
from asr.recognition.recogniser import Recogniser
from asr.speech import espeak

LETTERS = frozenset("BCDEFGHJKLMNOPQRSTUVWXYZ")  # A and I are most often words
TABLE = Path(__file__).parents[1] / "tests" / "unit" / "speech" / "texts_read_aloud.tsv"


def sentences() -> list[tuple[str, str]]:
    """Return each text with each of its readings."""
    with TABLE.open(encoding="utf8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [(row["text"], said) for row in rows for said in (row["usual"], *filter(None, row["also"].split("|")))]


def to_be_spoken(reading: str) -> str:
    """Write a reading for espeak-ng, which takes a capital with a dot for the name of a letter."""
    return " ".join(f"{word}." if word in LETTERS else word.lower() for word in reading.split()) + "."


def main() -> None:
    """Print how many readings were found, and those that were not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="en-us-phones")
    recogniser = Recogniser.from_pretrained(parser.parse_args().model)
    print(describe("onnxruntime", "num2words"))
    wrong, tried, start = list[tuple[str, str, str]](), sentences(), time.process_time()
    for text, said in tried:
        speech = espeak.synthesise(to_be_spoken(said))
        found = align(recogniser, speech.samples, text, sample_rate=speech.sample_rate)
        words = zip(found.variants, found.words or (), strict=True)
        chosen = " ".join(variant.spoken or word.label for variant, word in words)
        if chosen != said:
            wrong.append((text, said, chosen))
    print(
        f"{len(tried) - len(wrong)} of {len(tried)} readings chosen, {time.process_time() - start:.0f} s of a processor"
    )
    for text, said, chosen in wrong:
        print(f"{text!r}: {said!r} was said, {chosen!r} was chosen")


if __name__ == "__main__":
    main()
