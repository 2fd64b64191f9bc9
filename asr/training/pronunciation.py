"""Training of a scorer of pronunciation on the experts' scores of speechocean762's training speakers.

The network has heard most of these speakers, and is surer of them than of strangers. So its scorer is trained on them,
but where its scores lie is fitted on the dev speakers, who were kept from the network. Words and sentences learn from
phone scores of speakers whom the trees in question have not seen. Dev speakers also set the limits for words for which
something else was said: between words that experts find right and words that were put in place of these in the text.
Test speakers are for the figures alone.

Letters: L phones, W words, F features, K scores.
"""

import hashlib
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from lhotse.cut import Cut
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from asr.core import config as configuration
from asr.core.errors import CorpusError, InfeasibleError, ModelError
from asr.core.files import read_tensors, write_tensors
from asr.core.terminal import track
from asr.data import splits
from asr.evaluation.pronunciation import MISPRONOUNCED, Judged, compare, detection, plant, read_experts, table
from asr.models import model_folder
from asr.models.base import Spellings
from asr.models.boosted_trees import BoostedTrees
from asr.models.ctc import CTCModel
from asr.models.pronunciation import (
    BEST_PHONE,
    FIGURES,
    FILE,
    WORD_SCALES,
    Limits,
    Linear,
    PronunciationScorer,
    curved,
)
from asr.models.pronunciation_features import Evidence, phone_features, sentence_features, vowels, word_features
from asr.recognition.pronounce import hear_speech
from asr.recognition.recogniser import Recogniser

CORPUS = "speechocean762"
TREES = {  # chosen by the dev speakers' correlation
    "max_iter": 400,
    "learning_rate": 0.05,
    "max_leaf_nodes": 12,
    "min_samples_leaf": 40,
    "l2_regularization": 5.0,
    "max_features": 0.3,
    "random_state": 0,
}
FOLDS = 5  # of the training speakers
PENALTIES = np.logspace(-1, 4, 11)  # of the linear regressions, chosen by leaving one out
RANGE = (0.5, 99.5)  # percentiles of a feature that linear regressions know
POWERS = np.arange(0.5, 3.0, 0.05)  # of what phones lack of the best score
USUAL = 1.8  # score of a phone that the training speakers never say
MISTAKEN = 0.002  # of right words, the share that may be taken for others
ACCURACIES = np.arange(0, 10.05, 0.1).round(1)
SEED = 0  # of the words that are written as others

log = logging.getLogger(__name__)


def train(name: str, output: Path, corpora: Path | None = None, scores: Path | None = None) -> str:
    """Train the scorer of an acoustic model, and write it into a copy of the model folder.

    Beside it, ``pronunciation.json`` holds its limits and the figures.

    Parameters
    ----------
    name
        A run or model folder, or a shipped model.
    output
        The model folder to write, or the model's own.
    corpora
        The folder that holds speechocean762, or the corpus itself; None takes what it was prepared from.
    scores
        The experts' scores; by default ``resource/scores.json`` of the corpus.

    Returns
    -------
    str
        How well the scorer agrees with the experts on dev and test speakers, and finds other words of dev speakers.

    Raises
    ------
    AsrError
        The model or the corpus is missing, the model was not trained with CTC on ARPAbet, or it is a shipped one and
        `output` is its folder.
    """
    folder = model_folder.find(name)
    recogniser = Recogniser.from_pretrained(folder)
    model = recogniser.model
    if not isinstance(model, CTCModel) or model.config.data.labels != "arpabet39":
        raise ModelError(f"{name}: pronunciation is scored by a model of arpabet39 that was trained with CTC")
    model_folder.check_output(output)
    place = None if corpora is None else configuration.places_in({CORPUS: None}, corpora)[CORPUS]
    manifests = model.config.data.manifests
    splits.prepare({CORPUS: place}, manifests, may_obtain=False)
    parts = {each: splits.load_split(manifests, [CORPUS], each) for each in splits.SPLITS}
    experts = read_experts(_corpus_folder(parts["test"][0]) / "resource" / "scores.json" if scores is None else scores)
    missing = [cut.id for cuts in parts.values() for cut in cuts if cut.id not in experts]
    if missing:
        raise CorpusError(f"no scores of {len(missing)} utterances, such as {missing[0]}: give all of the corpus's")
    judged = {}
    for part, cuts in parts.items():
        heard = hear_all(recogniser, part, cuts, {cut.id: experts[cut.id].spellings for cut in cuts})
        judged[part] = [
            Judged(cut.supervisions[0].speaker, heard[cut.id], experts[cut.id]) for cut in cuts if cut.id in heard
        ]
    scorer = fit(model.tokens, judged["train"], judged["dev"])
    vocabulary = sorted({tuple(word) for cut in parts["train"] for word in experts[cut.id].spellings})
    rng = np.random.default_rng(SEED)
    planted = {cut.id: each for cut in parts["dev"] if (each := plant(experts[cut.id], vocabulary, rng))}
    heard = hear_all(recogniser, "dev", parts["dev"], {name: each.spellings for name, each in planted.items()})
    right = _numbers(scorer, [(each.evidence, each.experts.right_words) for each in judged["dev"]])
    others = _numbers(scorer, [(evidence, [planted[name].word]) for name, evidence in heard.items()])
    scorer = replace(scorer, limits=choose_limits(right, others))
    figures = {part: compare(scorer, judged[part]) for part in ("dev", "test")}
    figures["dev"]["other_words"] = {
        "found": _num_below(others, scorer.limits),
        "count": len(others),
        "mistaken": _num_below(right, scorer.limits),
        "right": len(right),
    }
    if output.resolve() != folder.resolve():
        model_folder.copy(folder, output)
    scorer.save(output, {"trained on": f"{CORPUS}, {len(judged['train'])} utterances"}, figures)
    return "\n\n".join(f"{part} speakers\n{table(each)}" for part, each in figures.items())


def _corpus_folder(cut: Cut) -> Path:
    """Return the folder of the corpus, in which an utterance is WAVE/SPEAKER/FILE."""
    return Path(cut.recording.sources[0].source).parents[2]


def _state(folder: Path, text: str) -> str:
    """Return a hash of the acoustic model, with its n-gram if it has one, and of a text."""
    found = hashlib.sha256(text.encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in (FILE, FIGURES, model_folder.BOUNDARIES, "README.md", "metrics.json"):
            found.update(path.read_bytes())
    return found.hexdigest()[:16]


def hear_all(
    recogniser: Recogniser, part: str, cuts: Sequence[Cut], spellings: Mapping[str, Sequence[Sequence[str]]]
) -> dict[str, Evidence]:
    """Return by their ids what the network says of utterances; it is kept in a file for the next time.

    Utterances with fewer frames than phones are left out.

    Parameters
    ----------
    recogniser
        Of a model folder.
    part
        Of the corpus.
    cuts
        Its utterances.
    spellings
        The phones of each word, by the ids of the utterances that are asked for.
    """
    manifests, folder = recogniser.model.config.data.manifests, cast(Path, recogniser.folder)
    state = _state(folder, splits.contents(manifests, CORPUS, [part]) + repr([*spellings.items()]))
    stored = Path(manifests) / CORPUS / "features" / f"pronunciation-{part}-{state}.safetensors"
    if not stored.is_file():
        found = {}
        for cut in track([cut for cut in cuts if cut.id in spellings], "hearing"):
            try:
                found[cut.id] = hear(recogniser, cut, spellings[cut.id])
            except InfeasibleError as error:
                log.warning("left out: %s", error)
        values = {f"{key}/{name}": np.asarray(each) for key, one in found.items() for name, each in vars(one).items()}
        write_tensors(
            stored, {name: each.astype(np.float32) if each.ndim > 1 else each for name, each in values.items()}
        )
    tensors, _ = read_tensors(stored)
    return {name: _evidence(tensors, name) for name in spellings if f"{name}/tokens" in tensors}


def _evidence(tensors: dict[str, np.ndarray], name: str) -> Evidence:
    """Return what was kept of an utterance."""
    values: dict[str, Any] = {field: tensors[f"{name}/{field}"] for field in Evidence.__dataclass_fields__}
    return Evidence(**values | {"unspoken": values["unspoken"].item()})


def hear(recogniser: Recogniser, cut: Cut, spellings: Sequence[Sequence[str]]) -> Evidence:
    """Return what the network says of an utterance whose words are spelt so."""
    heard = recogniser.hear(cut.recording.sources[0].source)
    text = Spellings([[word] for word in spellings], all_said=True)
    placed = recogniser.model.align(text, heard.emissions, heard.waveform, cut.id)
    return hear_speech(recogniser, heard.waveform, placed)


def fit(tokens: tuple[str, ...], train: Sequence[Judged], dev: Sequence[Judged]) -> PronunciationScorer:
    """Train a scorer on some speakers; its phone scores are put in their place by others, whom the network never heard.

    Parameters
    ----------
    tokens
        The labels of the acoustic model's classes.
    train, dev
        Utterances, of five training speakers at least.
    """
    is_vowel, labels = vowels(tokens), np.concatenate([each.evidence.tokens for each in train])
    known, unheard = (np.concatenate([each.experts.scores.phones for each in part]) for part in (train, dev))
    durations = np.concatenate([each.evidence.log_durations for each in train])
    lengths, usual = (_means(labels, each, len(tokens)) for each in (durations, known))
    usual = np.where(np.bincount(labels, minlength=len(tokens)) > 0, usual, USUAL)
    rows, others = (
        np.concatenate([phone_features(each.evidence, is_vowel, lengths, usual) for each in part])
        for part in (train, dev)
    )
    counts = [len(each.evidence.tokens) for each in train]
    folds = np.repeat(_folds([each.speaker for each in train]), counts)
    strangers = np.empty(len(known))  # scores of speakers by trees that were not trained on them
    for fold in range(FOLDS):
        strangers[folds == fold] = _boost(rows[folds != fold], known[folds != fold]).predict(rows[folds == fold])
    trees = _trees(_boost(rows, known))
    sums = trees.predict(others)
    curve = _curve(sums, unheard)
    found, right = np.concatenate([strangers, curved(sums, curve)]), np.concatenate([known, unheard])
    phones = np.split(strangers.clip(0, BEST_PHONE), np.cumsum(counts)[:-1])
    each_word = [word_features(each.evidence, is_vowel, usual, own) for each, own in zip(train, phones, strict=True)]
    words = _regress(each_word, [each.experts.scores.words for each in train])
    accuracies = [words.predict(each, WORD_SCALES)[:, 0] for each in each_word]
    each_sentence = [
        sentence_features(each.evidence, is_vowel, own, of_words)[None]
        for each, own, of_words in zip(train, phones, accuracies, strict=True)
    ]
    sentence = _regress(each_sentence, [each.experts.scores.sentence[None] for each in train])
    return PronunciationScorer(tokens, trees, curve, lengths, usual, words, sentence, _threshold(found, right))


def _means(labels: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """Return the mean of the values of each label; that of all values where a label has none."""
    counts = np.bincount(labels, minlength=size)
    return np.where(counts > 0, np.bincount(labels, values, size) / np.maximum(counts, 1), values.mean())


def _folds(speakers: Sequence[str]) -> list[int]:
    """Give each speaker one of the folds; neighbours in the order of names are in different ones."""
    place = {speaker: i % FOLDS for i, speaker in enumerate(sorted({*speakers}))}
    return [place[speaker] for speaker in speakers]


def _boost(rows: np.ndarray, scores: np.ndarray) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(**TREES).fit(rows, scores)


def _trees(model: HistGradientBoostingRegressor) -> BoostedTrees:
    """Return scikit-learn's trees with each node before the two that it leads to, which are side by side."""
    roots, nodes = list[int](), list[tuple[int, int, float]]()  # feature, node to the left, number
    for (predictor,) in model._predictors:
        source, base = predictor.nodes, len(nodes)
        roots.append(base)
        order = [0]
        for i in order:  # grows on the way
            node = source[i]
            if node["is_leaf"]:
                nodes.append((0, 0, node["value"]))
            else:
                nodes.append((node["feature_idx"], base + len(order), node["num_threshold"]))
                order += [node["left"], node["right"]]
    features, left, numbers = (np.array(column) for column in zip(*nodes, strict=True))
    return BoostedTrees(float(model._baseline_prediction.item()), np.array(roots), features, left, numbers)


def _regress(rows: Sequence[np.ndarray], scores: Sequence[np.ndarray]) -> Linear:
    """Fit scores (N, K) by linear regressions on features (N, F)."""
    features, wanted = np.concatenate(rows), np.concatenate(scores)
    low, high = np.percentile(features, RANGE, axis=0)
    scaler = StandardScaler().fit(np.clip(features, low, high))
    model = RidgeCV(PENALTIES, alpha_per_target=True).fit(scaler.transform(np.clip(features, low, high)), wanted)
    slopes = model.coef_.T / scaler.scale_[:, None]
    return Linear(low, high, np.vstack([slopes, model.intercept_ - scaler.mean_ @ slopes]))


def _curve(sums: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return factor and exponent with which `curved` comes nearest to scores (N,): the least mean squared error."""
    lacking, wanted = np.maximum(BEST_PHONE - sums, 0), BEST_PHONE - scores
    powers = [lacking**power for power in POWERS]
    factors = [float(each @ wanted / (each @ each)) for each in powers]
    errors = [np.square(factor * each - wanted).mean() for factor, each in zip(factors, powers, strict=True)]
    best = int(np.argmin(errors))
    return np.array([factors[best], POWERS[best]])


def _threshold(found: np.ndarray, known: np.ndarray) -> float:
    """Return the score below which phones count as mispronounced: the one with the best F1."""
    options = np.arange(0.3, 1.8, 0.02)
    return float(max(options, key=lambda each: detection(found, known < MISPRONOUNCED, each)["f1"]))


def _numbers(scorer: PronunciationScorer, words: Iterable[tuple[Evidence, Sequence[int]]]) -> np.ndarray:
    """Return what `Limits` bound (N, 2) of words, given by their utterance and their numbers in it."""
    each = [
        np.column_stack([evidence.word_goodness, scorer.score(evidence).words[:, 0]])[[*numbers]]
        for evidence, numbers in words
    ]
    return np.concatenate([np.empty((0, 2)), *each])


def _num_below(words: np.ndarray, limits: Limits) -> int:
    return int((words < limits).all(axis=1).sum())


def choose_limits(right: np.ndarray, others: np.ndarray) -> Limits:
    """Return the limits that name most of the words that were not said, and of right ones the share `MISTAKEN` at most.

    Parameters
    ----------
    right : (N, 2), others : (M, 2)
        Mean goodness and accuracy of words that experts find right, and of words that were put into the text.
    """
    allowed, options = int(MISTAKEN * len(right)), list[Limits]()
    for accuracy in ACCURACIES.tolist():
        goodness = np.sort(right[right[:, 1] < accuracy, 0])
        lowest = goodness[allowed] if len(goodness) > allowed else 0.0
        options.append(Limits(math.floor(100 * lowest) / 100, accuracy))
    return max(options, key=lambda each: _num_below(others, each))  # of equal ones that with the lowest accuracy
