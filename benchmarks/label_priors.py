"""Words with label priors divided out of the posteriors, with blanks made less likely instead, and with neither.

python benchmarks/label_priors.py --lm FOLDER --audio FOLDER [--model en-us-phones]

The folder of recordings is laid out as LibriSpeech: FLAC, with `*.trans.txt` beside. Language model weight, word
penalty, and the scale of the priors or the nats taken from blanks are tuned on every fourth recording, by the search
of `asr tune`; errors are counted on the others. Then the confidences of the words found with priors: their expected
calibration error as geometric means and as products of phones' confidences, and with a map from the means that was
fitted on the other speakers.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _bench import describe

from asr.cli.recordings import text_beside
from asr.core.terminal import track
from asr.ctc import Hypothesis
from asr.evaluation import reliability
from asr.evaluation.metrics import ErrorCounts, align, count_errors
from asr.models.calibration import Calibration, aligned_confidence, recognised_confidence
from asr.models.ctc import CTCModel
from asr.recognition.recogniser import Recogniser
from asr.speech import audio
from asr.training.tuning import WORDS, Setting, search

BATCH = 16
NATS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)


class Utterance(NamedTuple):
    """A recording's speaker, words and log posteriors (T, C)."""

    speaker: str
    words: list[str]
    log_probs: np.ndarray


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="en-us-phones", help="run or model folder, or a shipped model")
    parser.add_argument("--lm", required=True, help="language model over words")
    parser.add_argument("--audio", type=Path, required=True, help="folder of recordings, searched to any depth")
    parser.add_argument("--beam-size", type=int, default=50)
    return parser.parse_args()


def hear(recogniser: Recogniser, folder: Path) -> list[Utterance]:
    """Return the recordings in a folder."""
    files = sorted(folder.rglob("*.flac"))
    return [
        Utterance(path.stem.split("-")[0], text_beside(path).lower().split(), recogniser.emissions(audio.load(path)))
        for path in track(files, "listening")
    ]


def decode(model: CTCModel, utterances: Sequence[Utterance], nats: float) -> list[Hypothesis]:
    """Return the best hypothesis of each utterance after nats have been taken from the blank of each frame."""
    found: list[Hypothesis] = []
    for first in range(0, len(utterances), BATCH):
        emissions = [each.log_probs.copy() for each in utterances[first : first + BATCH]]
        for rows in emissions:
            rows[:, 0] -= nats
        found += model.decode(emissions, model.config.decode.beam_size)
    return found


def error_rate(utterances: Sequence[Utterance], hypotheses: Sequence[Hypothesis]) -> float:
    """Return the share of words that are wrong, in percent."""
    pairs = zip(utterances, hypotheses, strict=True)
    return 100 * sum((count_errors(each.words, found.words or ()) for each, found in pairs), ErrorCounts()).rate


def tuned(model: CTCModel, utterances: Sequence[Utterance], steps: Sequence[float], of_blanks: bool) -> Setting:
    """Return the best setting, whose `prior_scale` stands for nats where these are taken from blanks."""

    def rates(settings: Sequence[Setting]) -> list[float]:
        return [error_rate(utterances, run(model, utterances, setting, of_blanks)) for setting in settings]

    trials = search(rates, replace(WORDS, prior_scales=tuple(steps)))
    return min(trials, key=lambda trial: trial.dev_rate).setting


def run(model: CTCModel, utterances: Sequence[Utterance], setting: Setting, of_blanks: bool) -> list[Hypothesis]:
    """Recognise utterances with a setting."""
    applied = replace(setting, prior_scale=0.0) if of_blanks else setting
    return decode(applied.applied_to(model), utterances, setting.prior_scale if of_blanks else 0.0)


def print_confidences(model: CTCModel, utterances: Sequence[Utterance], hypotheses: Sequence[Hypothesis]) -> None:
    """Print expected calibration errors of the words' confidences."""
    correct: list[bool] = []
    speakers: list[str] = []
    phones: list[np.ndarray] = []
    for utterance, found in zip(utterances, hypotheses, strict=True):
        correct += reliability.correctness(align(utterance.words, found.words or ()))
        speakers += [utterance.speaker] * len(found.word_lengths)
        calibrated = model.calibration.confidence(np.array(found.confidences)).round(3)
        phones += np.split(calibrated, np.cumsum(found.word_lengths)[:-1]) if found.word_lengths else []
    right, who = np.array(correct), np.array(speakers)

    def of_phones(confidence: Callable[[Sequence[float]], float]) -> np.ndarray:
        return np.array([confidence(each.tolist()) for each in phones])

    means, mapped = of_phones(recognised_confidence), np.empty(len(right))
    for speaker in np.unique(who):
        of_others = Calibration(*reliability.fit(means[who != speaker], right[who != speaker]))
        mapped[who == speaker] = of_others.confidence(means[who == speaker])
    error = reliability.expected_calibration_error
    within = np.mean([error(mapped[who == speaker], right[who == speaker]) for speaker in np.unique(who)])
    print(f"{len(right)} words found, {100 * right.mean():.1f} % right; expected calibration error of confidences:")
    print(f"products {error(of_phones(aligned_confidence), right):.3f}, means {error(means, right):.3f}")
    print(f"means mapped as for the other speakers {error(mapped, right):.3f}, within a speaker {within:.3f}")


def main() -> None:
    """Print error rates, then calibration errors."""
    arguments = parse_arguments()
    print(describe("numpy", "numba"))
    recogniser = Recogniser.from_pretrained(arguments.model, arguments.beam_size, words=arguments.lm)
    model, utterances = recogniser.model, hear(recogniser, arguments.audio)
    assert isinstance(model, CTCModel)
    dev, test = utterances[::4], [each for i, each in enumerate(utterances) if i % 4]
    print(f"{arguments.model}: tuned on {len(dev)} recordings, words wrong in {len(test)} others:")
    for name, steps, of_blanks in (
        ("neither", (), False),
        ("nats taken from blanks", NATS, True),
        ("priors divided out", WORDS.prior_scales, False),
    ):
        setting = tuned(model, dev, steps, of_blanks)
        found = run(model, test, setting, of_blanks)
        at = f"weight {setting.weight:g}, penalty {setting.penalty:g}, {setting.prior_scale:g}"
        print(f"{error_rate(test, found):6.2f} %  {name} ({at})", flush=True)
    print_confidences(model, test, found)


if __name__ == "__main__":
    main()
