"""How often `asr pronounce` names the right phone: "said S for TH", where what was said is known.

python benchmarks/diagnosis.py --data FOLDER --scores resource/scores.json

Where the scores of speechocean762 name what was said instead of a phone, `asr train-scorer` prints how often the scorer
names the same. Here it is known by construction: in recordings of the test speakers, one phone that all experts find
right is written as another one, which learners replace by it: where the speaker says S, the text has TH. Then S was
said for TH, clearly, and the scorer should find the phone wrong and name what was written before. The same phone in the
true text should not be found wrong.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from _bench import describe

from asr.core import config as configuration
from asr.data import splits
from asr.evaluation.pronunciation import read_experts
from asr.models.base import Placement, Spellings
from asr.recognition.pronounce import hear_speech, mistakes
from asr.recognition.recogniser import Recogniser
from asr.speech import audio

CORPUS = "speechocean762"
RIGHT = 2.0  # the score that all experts give
EXPECTED = {  # what is written, by what is said
    "S": ("TH", "SH", "Z"),
    "D": ("DH",),
    "T": ("TH", "D"),
    "W": ("V",),
    "R": ("L",),
    "L": ("R",),
    "N": ("NG", "L"),
    "IY": ("IH",),
    "IH": ("IY",),
    "EH": ("AE",),
    "UW": ("UH",),
    "P": ("B",),
    "K": ("G",),
}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="en-us-phones", help="model with a scorer of pronunciation")
    parser.add_argument("--manifests", default="data", help="folder of the corpus's manifests")
    parser.add_argument("--data", type=Path, help="folder that holds speechocean762, or the corpus itself")
    parser.add_argument("--scores", type=Path, required=True, help="the experts' scores")
    parser.add_argument("--count", type=int, default=400, help="utterances, chosen at random")
    return parser.parse_args()


def placed(recogniser: Recogniser, waveform: np.ndarray, words: list[list[str]]) -> Placement:
    """Find where words are said."""
    heard = recogniser.hear(waveform, audio.SAMPLE_RATE)
    return recogniser.model.align(Spellings([[word] for word in words], all_said=True), heard.emissions, waveform)


def judged(recogniser: Recogniser, waveform: np.ndarray, words: list[list[str]], place: int) -> tuple[bool, str | None]:
    """Tell whether a phone is found wrong, and what is named in its place."""
    evidence = hear_speech(recogniser, waveform, placed(recogniser, waveform, words))
    found = mistakes(evidence, recogniser.scorer.score(evidence).phones, recogniser.scorer)
    named = [each.heard for each in found if each.phone == place and each.expected is not None]
    return bool(named), named[0] if named else None


def main() -> None:
    """Print machine, versions and the shares."""
    arguments = parse_arguments()
    print(describe("numpy", "torch"))
    recogniser, experts = Recogniser.from_pretrained(arguments.model), read_experts(arguments.scores)
    place = None if arguments.data is None else configuration.places_in({CORPUS: None}, arguments.data)[CORPUS]
    splits.prepare({CORPUS: place}, arguments.manifests, may_obtain=False)
    cuts = sorted(splits.load_split(arguments.manifests, [CORPUS], "test"), key=lambda cut: cut.id)
    rng, outcomes, pairs = np.random.default_rng(0), Counter[str](), Counter[str]()
    for i in rng.permutation(len(cuts))[: arguments.count]:
        known = experts[cuts[i].id]
        said = [label for word in known.spellings for label in word]
        options = [k for k, label in enumerate(said) if label in EXPECTED and known.scores.phones[k] == RIGHT]
        if not options:
            continue
        k = int(rng.choice(options))
        written = str(rng.choice(EXPECTED[said[k]]))
        edges = np.cumsum([0, *map(len, known.spellings)])
        word = int(np.searchsorted(edges, k, "right")) - 1
        changed = [list(each) for each in known.spellings]
        changed[word][k - edges[word]] = written
        waveform = audio.load(cuts[i].recording.sources[0].source)
        is_wrong, heard = judged(recogniser, waveform, changed, k)
        is_blamed, _ = judged(recogniser, waveform, [list(each) for each in known.spellings], k)
        outcomes.update(["all", *["wrong"] * is_wrong, *["named"] * (heard == said[k]), *["blamed"] * is_blamed])
        pairs.update([f"{said[k]} for {written}", *[f"right: {said[k]} for {written}"] * (heard == said[k])])
    total = outcomes["all"]
    print(f"{total} phones that were written as others, one an utterance")
    print(f"found wrong: {100 * outcomes['wrong'] / total:.1f} %")
    print(f"of these, what was said is named: {100 * outcomes['named'] / max(1, outcomes['wrong']):.1f} %")
    print(f"the same phones found wrong in the true text: {100 * outcomes['blamed'] / total:.1f} %")
    rows = [(name, count) for name, count in pairs.most_common() if not name.startswith("right")]
    print("named rightly, of all: " + ", ".join(f"{name} {pairs[f'right: {name}']}/{count}" for name, count in rows))


if __name__ == "__main__":
    main()
