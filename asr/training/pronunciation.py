"""Training of a scorer of pronunciation on the experts' scores of speechocean762's training speakers.

The network has heard most of these speakers, and is surer of them than of strangers. So its scorer is trained on them,
but where its scores lie is fitted on the dev speakers, who were kept from the network. Words and sentences learn from
phone scores of speakers whom the trees in question have not seen. Test speakers are for the figures alone.

Letters: L phones, W words, F features, K scores.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lhotse.cut import Cut
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from asr.core import config as configuration
from asr.core.errors import CorpusError, InfeasibleError, ModelError
from asr.core.files import as_json, read_tensors, write_tensors, write_text
from asr.core.terminal import track
from asr.data import splits
from asr.evaluation.pronunciation import MISPRONOUNCED, Experts, Judged, compare, detection, read_experts, table
from asr.models import model_folder
from asr.models.base import Spellings
from asr.models.boosted_trees import BoostedTrees
from asr.models.ctc import CTCModel
from asr.models.pronunciation import BEST_PHONE, FIGURES, FILE, WORD_SCALES, Linear, PronunciationScorer, curved
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

log = logging.getLogger(__name__)


def train(name: str, output: Path, corpora: Path | None = None, scores: Path | None = None) -> str:
    """Train the scorer of an acoustic model, and write it into a copy of the model folder.

    Beside it, ``pronunciation.json`` holds the figures.

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
        How well the scorer agrees with the experts on dev and test speakers.

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
    if model_folder.is_shipped(output):
        raise ModelError(f"{output.name} is a shipped model and stays as it is: name another folder for a copy")
    place = None if corpora is None else configuration.places_in({CORPUS: None}, corpora)[CORPUS]
    manifests = model.config.data.manifests
    splits.prepare({CORPUS: place}, manifests, may_obtain=False)
    parts = {each: splits.load_split(manifests, [CORPUS], each) for each in splits.SPLITS}
    experts = read_experts(_corpus_folder(parts["test"][0]) / "resource" / "scores.json" if scores is None else scores)
    judged = {}
    for part, cuts in parts.items():
        spelt = repr([(cut.id, experts[cut.id].spellings) for cut in cuts if cut.id in experts])
        state = _state(folder, splits.contents(manifests, CORPUS, [part]) + spelt)
        stored = Path(manifests) / CORPUS / "features" / f"pronunciation-{part}-{state}"
        judged[part] = judge(recogniser, list(cuts), experts, stored.with_suffix(".safetensors"))
    scorer = fit(model.tokens, judged["train"], judged["dev"])
    if output.resolve() != folder.resolve():
        model_folder.copy(folder, output)
    figures = {part: compare(scorer, judged[part]) for part in ("dev", "test")}
    scorer.save(output, {"trained on": f"{CORPUS}, {len(judged['train'])} utterances"})
    write_text(output / FIGURES, as_json(figures))
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


def judge(recogniser: Recogniser, cuts: Sequence[Cut], experts: dict[str, Experts], stored: Path) -> list[Judged]:
    """Return utterances with what network and experts say of them; what the network says is kept in a file.

    Utterances with fewer frames than phones are left out.

    Raises
    ------
    CorpusError
        There are no scores of an utterance.
    """
    missing = [cut.id for cut in cuts if cut.id not in experts]
    if missing:
        raise CorpusError(f"no scores of {len(missing)} utterances, such as {missing[0]}: give all of the corpus's")
    if not stored.is_file():
        found = {}
        for cut in track(cuts, "hearing"):
            try:
                found[cut.id] = hear(recogniser, cut, experts[cut.id].spellings)
            except InfeasibleError as error:
                log.warning("left out: %s", error)
        parts = {f"{key}/{name}": np.asarray(part) for key, each in found.items() for name, part in vars(each).items()}
        write_tensors(
            stored, {name: each.astype(np.float32) if each.ndim > 1 else each for name, each in parts.items()}
        )
    tensors, _ = read_tensors(stored)
    return [
        Judged(cut.supervisions[0].speaker, _evidence(tensors, cut.id), experts[cut.id])
        for cut in cuts
        if f"{cut.id}/tokens" in tensors
    ]


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
