"""How often `asr pronounce` names the right phone: "said S for TH", where what was said is known.

python benchmarks/diagnosis.py --data FOLDER --scores resource/scores.json

Where the scores of speechocean762 name what was said instead of a phone, `asr train-scorer` prints how often the scorer
names the same. Here it is known by construction: in recordings of the test speakers, one phone that all experts find
right is written as another one, which learners replace by it: where the speaker says S, the text has TH. Then S was
said for TH, clearly, and the scorer should find the phone wrong and name what was written before. The same phone in the
true text should not be found wrong.

Likewise one word that all experts find right is written as another one of the corpus that has none of its phones, and
one phone more or less at most: the scorer should find that something else was said, and not in the true text.

At last, `asr pronounce` should give no scores with the text of another recording, and give them with the true text.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from _bench import describe

from asr.core import config as configuration
from asr.data import splits
from asr.evaluation.pronunciation import plant, read_experts
from asr.models.base import Placement, Spellings
from asr.models.pronunciation import BEST_PHONE, Scores
from asr.models.pronunciation_features import Evidence
from asr.recognition.pronounce import hear_speech, mistakes, pronounce
from asr.recognition.recogniser import Recogniser
from asr.speech import audio

CORPUS = "speechocean762"
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


def judged(recogniser: Recogniser, waveform: np.ndarray, words: list[list[str]]) -> tuple[Evidence, Scores]:
    """Return what the network and the scorer say of words."""
    evidence = hear_speech(recogniser, waveform, placed(recogniser, waveform, words))
    return evidence, recogniser.scorer.score(evidence)


def named(recogniser: Recogniser, found: tuple[Evidence, Scores], place: int) -> list[str | None]:
    """Return what is named in place of a phone; nothing where it is not found wrong."""
    faults = mistakes(found[0], found[1].phones, recogniser.scorer)
    return [each.heard for each in faults if each.phone == place and each.expected is not None]


def others(recogniser: Recogniser, found: tuple[Evidence, Scores]) -> list[int]:
    """Return the words for which something else was said."""
    return recogniser.scorer.other_words(found[0], found[1].words[:, 0])


def main() -> None:
    """Print machine, versions and the shares."""
    arguments = parse_arguments()
    print(describe("numpy", "torch"))
    recogniser, experts = Recogniser.from_pretrained(arguments.model), read_experts(arguments.scores)
    place = None if arguments.data is None else configuration.places_in({CORPUS: None}, arguments.data)[CORPUS]
    splits.prepare({CORPUS: place}, arguments.manifests, may_obtain=False)
    cuts = sorted(splits.load_split(arguments.manifests, [CORPUS], "test"), key=lambda cut: cut.id)
    vocabulary = sorted({tuple(word) for cut in cuts for word in experts[cut.id].spellings})
    rng, outcomes, pairs = np.random.default_rng(0), Counter[str](), Counter[str]()
    for i in rng.permutation(len(cuts))[: arguments.count]:
        known = experts[cuts[i].id]
        said = [label for word in known.spellings for label in word]
        edges = np.cumsum([0, *map(len, known.spellings)])
        is_right = known.scores.phones == BEST_PHONE
        options = [k for k, label in enumerate(said) if label in EXPECTED and is_right[k]]
        waveform = audio.load(cuts[i].recording.sources[0].source)
        true = judged(recogniser, waveform, known.spellings)
        if options:
            k = int(rng.choice(options))
            written = str(rng.choice(EXPECTED[said[k]]))
            word = int(np.searchsorted(edges, k, "right")) - 1
            changed = [list(each) for each in known.spellings]
            changed[word][k - edges[word]] = written
            heard = named(recogniser, judged(recogniser, waveform, changed), k)
            is_blamed = bool(named(recogniser, true, k))
            outcomes.update(["all", *["wrong"] * bool(heard), *["named"] * (said[k] in heard), *["blamed"] * is_blamed])
            pairs.update([f"{said[k]} for {written}", *[f"right: {said[k]} for {written}"] * (said[k] in heard)])
        outcomes["right words"] += len(known.right_words)
        outcomes["blamed words"] += len({*known.right_words} & {*others(recogniser, true)})
        planted = plant(known, vocabulary, rng)
        if planted is not None:
            outcomes["words"] += 1
            found = others(recogniser, judged(recogniser, waveform, planted.spellings))
            outcomes["found words"] += planted.word in found
        texts = [cut.supervisions[0].text for cut in (cuts[i], cuts[(i + 1) % len(cuts)])]
        for text, name in zip(texts, ("true texts", "other texts"), strict=True):
            has_scores = pronounce(recogniser, waveform, text, sample_rate=audio.SAMPLE_RATE).scores is not None
            outcomes.update([name, *[f"{name} without"] * (not has_scores)])
    total = outcomes["all"]
    print(f"{total} phones that were written as others, one an utterance")
    print(f"found wrong: {100 * outcomes['wrong'] / total:.1f} %")
    print(f"of these, what was said is named: {100 * outcomes['named'] / max(1, outcomes['wrong']):.1f} %")
    print(f"the same phones found wrong in the true text: {100 * outcomes['blamed'] / total:.1f} %")
    rows = [(name, count) for name, count in pairs.most_common() if not name.startswith("right")]
    print("named rightly, of all: " + ", ".join(f"{name} {pairs[f'right: {name}']}/{count}" for name, count in rows))
    print(f"{outcomes['words']} words that were written as others, one an utterance")
    print(f"found to be something else: {100 * outcomes['found words'] / outcomes['words']:.1f} %")
    print(f"of {outcomes['right words']} right words in the true texts: {outcomes['blamed words']}")
    for name in ("true texts", "other texts"):
        print(f"no scores with {outcomes[f'{name} without']} of {outcomes[name]} {name}")


if __name__ == "__main__":
    main()
