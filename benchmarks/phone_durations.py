"""How long the phones of English last: the table by which `asr align --report` finds odd durations.

python benchmarks/phone_durations.py LibriSpeech/train-clean-5 > asr/speech/tables/durations/arpabet39.tsv

It prints the mean and the standard deviation of the natural logarithm of the seconds that each phone lasts where
`asr align` is sure of it.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from long_alignment import read_chapters

from asr import AsrError, Recogniser
from asr.recognition.align import align
from asr.speech.phones import PhoneSet

SURE = 0.8  # the least confidence of a phone that counts


def main() -> None:
    """Print the table, and on standard error what it was made of."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="a folder of LibriSpeech, such as LibriSpeech/train-clean-5")
    parser.add_argument("--model", default="en-us-phones")
    parser.add_argument("--every", type=int, default=5, help="take each so many-th utterance (default 5)")
    arguments = parser.parse_args()
    recogniser = Recogniser.from_pretrained(arguments.model)
    durations: dict[str, list[float]] = {label: [] for label in PhoneSet.load("arpabet39").labels}
    sentences = [sentence for chapter in read_chapters(arguments.corpus, []).values() for sentence in chapter]
    for sentence in sentences[:: arguments.every]:
        try:
            found = align(recogniser, sentence.path, words=sentence.text)
        except AsrError as error:
            print(f"{sentence.path}: left out, {error}", file=sys.stderr)
            continue
        for phone in found.phones:
            if (phone.confidence or 0) >= SURE and phone.end > phone.start:
                durations[phone.label].append(np.log(phone.end - phone.start))
    print("label\tmean\tdeviation")
    for label, values in durations.items():
        print(f"{label}\t{np.mean(values):.3f}\t{np.std(values):.3f}")
    print(
        f"{len(sentences[:: arguments.every])} utterances, {sum(map(len, durations.values()))} phones", file=sys.stderr
    )


if __name__ == "__main__":
    main()
