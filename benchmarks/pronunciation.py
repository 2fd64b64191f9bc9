"""Goodness of pronunciation against the experts' phone scores of speechocean762's test speakers.

python benchmarks/pronunciation.py --data FOLDER --scores resource/scores.json

Printed are Pearson correlations (PCC) and mean squared errors (MSE) over all phones of the test set:

* of the goodness as it is, to which nothing was fitted;
* of a polynomial of degree 2 for each phone, from goodness to score, fitted on the training speakers;
* of a support vector regression for each phone, from the log posteriors of all phones in its place, fitted likewise.

Beside the last stands Kaldi's, egs/gop_speechocean762/s5/RESULT: support vector regression for each phone, from log
posteriors and their ratios of all phones, by a TDNN that was trained on LibriSpeech's 960 h. The experts' scores, means
over five of them, are rounded to 0, 1 or 2 there: so both are given here.
"""

import argparse
import csv
import itertools
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from _bench import describe
from sklearn.svm import SVR

from asr.core import config as configuration
from asr.core.errors import CorpusError, ModelError
from asr.ctc.goodness import alternatives
from asr.data.splits import load_split
from asr.models import model_folder
from asr.models.ctc import CTCModel
from asr.recognition.recogniser import Recogniser
from asr.speech import audio
from data_prep import prepare

CORPUS = "speechocean762"
LEAST = -20.0  # log posteriors below it are as good as each other, and would rule the polynomials
FEWEST = 50  # examples of a phone; with less, its mean score
KALDI = "Kaldi, support vectors, 960 h (published)   experts rounded  PCC 0.45   MSE 0.16"

Scores = dict[str, tuple[list[str], list[float]]]


@dataclass(frozen=True)
class Phones:
    """Phones of many utterances in a row.

    Attributes
    ----------
    labels : (N,)
        Indices of the model's tokens.
    posteriors : (N, C)
        Natural logs of what `asr.ctc.goodness.alternatives` gives.
    scores : (N,)
        The experts', 0..2.
    """

    labels: np.ndarray
    posteriors: np.ndarray
    scores: np.ndarray

    @property
    def goodness(self) -> np.ndarray:
        """Return (N,)."""
        return self.posteriors[np.arange(len(self.labels)), self.labels]


def read_scores(path: Path) -> Scores:
    """Read phones and scores of each utterance, from the corpus's scores.json or a table of the same as CSV."""
    if path.suffix == ".json":
        found = {}
        for key, utterance in json.loads(path.read_text(encoding="utf8")).items():
            rows = [zip(word["phones"], word["phones-accuracy"], strict=True) for word in utterance["words"]]
            pairs = list(itertools.chain.from_iterable(rows))
            found[key] = [phone for phone, _ in pairs], [float(score) for _, score in pairs]
    else:
        with path.open(newline="", encoding="utf8") as lines:
            rows = list(csv.DictReader(lines))
        found = {
            Path(row["file_name"]).stem: (row["transcription"].split(), [float(x) for x in row["p_scores"].split()])
            for row in rows
        }
    for key, (phones, scores) in found.items():
        if len(phones) != len(scores):
            raise CorpusError(
                f"{path}: utterance {key} has {len(phones)} phones and {len(scores)} scores: copy it again"
            )
    return {key: ([re.sub(r"[0-2]?(_[BIES])?$", "", p) for p in phones], s) for key, (phones, s) in found.items()}


def score_phones(model: CTCModel, splits: list[str], scores: Scores) -> Phones:
    """Return the phones of some splits, and print how long the goodness took."""
    tokens = {token: i for i, token in enumerate(model.tokens)}
    recogniser, data = Recogniser(model), model.config.data
    prepare(CORPUS, data.corpora[CORPUS], data.manifests)
    cuts = [cut for split in splits for cut in load_split(data.manifests, [CORPUS], split)]
    emissions = {cut.id: recogniser.emissions(audio.load(cut.recording.sources[0].source)) for cut in cuts}
    missing = emissions.keys() - scores.keys()
    if missing:
        raise CorpusError(f"no scores of {len(missing)} utterances, such as {min(missing)}: give all of the corpus's")
    labels = {key: np.array([tokens[phone] for phone in scores[key][0]]) for key in emissions}

    def posteriors(key: str) -> np.ndarray:
        weights = None if model.lm is None else model.denominator.substitutions(labels[key])
        return alternatives(emissions[key], labels[key], log_weights=weights)

    posteriors(cuts[0].id)  # compiles
    start = time.monotonic()
    found = [posteriors(key) for key in emissions]
    spent = time.monotonic() - start
    phones = Phones(
        np.concatenate([labels[key] for key in emissions]),
        np.concatenate(found),
        np.concatenate([scores[key][1] for key in emissions]),
    )
    print(
        f"{'+'.join(splits)}: {len(emissions):,} utterances, {len(phones.labels):,} phones, {spent:.1f} s", flush=True
    )
    return phones


def polynomial(features: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Fit scores (N,) by a polynomial of degree 2 in features (N, 1)."""
    coefficients = np.polyfit(features[:, 0], scores, 2)
    return lambda values: np.polyval(coefficients, values[:, 0])


def support_vectors(features: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Fit scores (N,) by scikit-learn's support vector regression with its own settings, as Kaldi's recipe does."""
    return SVR().fit(features, scores).predict


def predict(regression: Callable, train: Phones, test: Phones, features: Callable[[Phones], np.ndarray]) -> np.ndarray:
    """Fit a regression for each phone on the training speakers and return scores (N,) in 0..2 of the test speakers."""
    predicted = np.full(len(test.labels), train.scores.mean())
    known, wanted = (np.maximum(features(phones), LEAST) for phones in (train, test))
    for label in np.unique(train.labels):
        ours, theirs = train.labels == label, test.labels == label
        if ours.sum() < FEWEST:
            predicted[theirs] = train.scores[ours].mean()
        elif theirs.any():
            predicted[theirs] = regression(known[ours], train.scores[ours])(wanted[theirs])
    return predicted.clip(0, 2)


def report(name: str, values: np.ndarray, scores: np.ndarray, error: bool = True) -> None:
    """Print a line for the experts' scores as they are, and one for them rounded."""
    for experts, truth in (("means", scores), ("rounded", np.rint(scores))):
        pcc = np.corrcoef(values, truth)[0, 1]
        mse = f"   MSE {((values - truth) ** 2).mean():.3f}" if error else ""
        print(f"{name:43} experts {experts:7}  PCC {pcc:.3f}{mse}", flush=True)


def main() -> None:
    """Print machine, versions, what the model saw, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="en-us-phones", help="run or model folder, or a shipped model (default %(default)s)"
    )
    parser.add_argument("--data", type=Path, help="the folder that holds speechocean762, or the corpus itself")
    parser.add_argument("--scores", type=Path, help="scores.json, or a CSV of the phones' scores")
    arguments = parser.parse_args()
    if arguments.scores is None:
        print("left out: it needs speechocean762 and --scores resource/scores.json")
        return
    model = model_folder.load(arguments.model)
    config = model.config
    if not isinstance(model, CTCModel):
        raise ModelError(f"{arguments.model} was not trained with CTC, whose posteriors goodness is made of")
    if config.data.labels != "arpabet39":
        raise ModelError(f"{arguments.model} knows {config.data.labels}: take a model of arpabet39, the scores' phones")
    config = replace(config, data=replace(config.data, corpora={CORPUS: None}))
    if arguments.data is not None:
        config = configuration.with_corpora_in(config, arguments.data)
    scores = read_scores(arguments.scores)
    print(describe("numba", "torch", "scikit-learn"))
    seen = " and ".join(model.config.data.corpora)
    print(f"{arguments.model}: trained on the train split of {seen}, seed {config.seed}")
    if CORPUS in model.config.data.corpora:
        print(
            f"of {CORPUS} it saw train's audio with the dictionary's phones: neither the scores nor the test speakers"
        )
    configured = replace(model, config=config)
    train = score_phones(configured, ["train", "dev"], scores)
    test = score_phones(configured, ["test"], scores)
    report("goodness, nothing fitted", test.goodness, test.scores, error=False)
    curve = predict(polynomial, train, test, lambda phones: phones.goodness[:, None])
    report("polynomial of degree 2 a phone", curve, test.scores)
    report("support vectors a phone", predict(support_vectors, train, test, lambda p: p.posteriors), test.scores)
    print(KALDI)


if __name__ == "__main__":
    main()
