"""Scoring: a trained model's phone error rates on held-out speakers."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr import audio, data, metrics, model_folder, phones, report
from asr import config as configuration
from asr.config import Config
from asr.ctc import Hypothesis, beam_search, best_path
from asr.data import BatchLoader, SpeechDataset
from asr.errors import ConfigError
from asr.model_folder import AcousticModel
from asr.progress import track
from data_prep import prepare

SCORES = "\n## Scores\n"  # what follows it in a model card is written by `asr evaluate`


def evaluate_run(
    name: str,
    overrides: Sequence[str] = (),
    corpora: Path | None = None,
    split: str = "test",
    output: Path | None = None,
) -> str:
    """Score a model, write what is worth keeping, and return the rates as text.

    Parameters
    ----------
    name
        A run or model folder, or a shipped model.
    overrides
        Dotted, over the model's own configuration.
    corpora
        The folder that holds the corpora, where they are not prepared yet.
    split
        ``test`` or ``dev``.
    output
        Folder of ``metrics.json``, hypotheses and figures.
        By default the run folder, and ``runs/NAME`` for a shipped model.

    Raises
    ------
    AsrError
        The model or a corpus is missing.
    """
    folder = model_folder.find(name)
    config = configuration.load(folder / "config.yaml", overrides)
    if corpora is not None:
        config = configuration.with_corpora_in(config, corpora)
    model = model_folder.load(folder)
    own = model.config
    if (config.features, config.model, config.data.labels) != (own.features, own.model, own.data.labels):
        raise ConfigError("config: features, model and data.labels belong to the trained model: train another instead")
    output = output or (folder.parent if folder.parent != model_folder.PRETRAINED else Path("runs") / folder.name)
    output.mkdir(parents=True, exist_ok=True)
    rows = [row for corpus in config.data.corpora for row in score_corpus(model, config, corpus, split, output)]
    _keep(rows, config, output, folder)
    history = output / "history.json"
    if history.is_file():
        epochs = json.loads(history.read_text(encoding="utf8"))["epochs"]
        report.training_curves(epochs, output / "training.png")
    return f"{summary(rows)}\nrun folder: {output} (metrics.json, hypotheses, figures)"


def score_corpus(model: AcousticModel, config: Config, corpus: str, split: str, output: Path) -> list[dict[str, Any]]:
    """Score a model on one corpus, best path and beam.

    Parameters
    ----------
    model
        The recogniser.
    config
        Where the corpus lies, the beam, and the phone set to score in.
    output
        Folder of the hypotheses and of the figure of one utterance.

    Returns
    -------
    list of dict
        A row for each decoder: PER in percent with its 95 % interval, counts of errors, and how much was scored.
    """
    prepare(corpus, config.data.corpora[corpus], config.data.manifests)
    loader = _loader(model, config, corpus, split)
    utterances, seconds = _posteriors(model, loader)
    references = {cut.id: data.reference(cut, config.data.scoring) for cut in loader.cuts}
    speech = sum(cut.duration for cut in loader.cuts)
    rows = []
    for beam_size in sorted({1, config.decode.beam_size}):
        start = time.monotonic()
        hypotheses = decode(utterances, beam_size)
        spent = seconds + time.monotonic() - start
        texts = {key: _fold(model, hypothesis, config) for key, hypothesis in hypotheses.items()}
        decoder = "best path" if beam_size == 1 else f"beam {beam_size}"
        _write_hypotheses(output / f"hypotheses-{corpus}-{split}-{decoder.replace(' ', '-')}.txt", texts)
        score = metrics.score(references, texts)
        rows.append(
            {
                "corpus": corpus,
                "split": split,
                "decoder": decoder,
                "scoring": config.data.scoring,
                "per": round(100 * score.counts.rate, 2),
                "interval": [round(100 * bound, 2) for bound in score.interval],
                "substitutions": score.counts.substitutions,
                "insertions": score.counts.insertions,
                "deletions": score.counts.deletions,
                "num_phones": score.counts.reference_length,
                "num_utterances": len(references),
                "hours": round(speech / 3600, 3),
                "times_real_time": round(speech / spent, 1),
            }
        )
    _draw(model, loader, utterances, texts, references, output / f"posteriors-{corpus}-{split}.png")
    return rows


def _draw(
    model: AcousticModel,
    loader: BatchLoader,
    utterances: dict[str, np.ndarray],
    texts: dict[str, list[str]],
    references: dict[str, list[str]],
    path: Path,
) -> None:
    """Draw the utterance whose length is nearest to 3 seconds, so that labels can be read."""
    cut = min(loader.cuts, key=lambda cut: (abs(cut.duration - 3), cut.id))
    waveform = audio.load(cut.recording.sources[0].source)
    said = {"reference": references[cut.id], "recognised": texts[cut.id]}
    supervision = cut.supervisions[0]
    times = [(item.symbol, item.start, item.end) for item in (supervision.alignment or {}).get("phone", [])]
    title = f"{cut.id}: {supervision.text}"
    report.posteriors(waveform, utterances[cut.id], model.tokens, model.frame_shift, said, times, path, title)


def _keep(rows: list[dict[str, Any]], config: Config, output: Path, folder: Path) -> None:
    """Merge the rows into the output's metrics.json and, where the model is that run's, into its folder and card."""
    path = output / "metrics.json"
    values = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {"results": []}
    fresh = {(row["corpus"], row["split"], row["decoder"]) for row in rows}
    kept = [row for row in values["results"] if (row["corpus"], row["split"], row["decoder"]) not in fresh]
    values = {"seed": config.seed, "results": kept + rows}
    model_folder.write_json(path, values)
    if folder.parent == output:
        model_folder.write_json(folder / "metrics.json", values)
        card = (folder / "README.md").read_text(encoding="utf8").split(SCORES)[0]
        model_folder.write_text(folder / "README.md", card + SCORES + "\n" + score_table(values["results"]))


def _loader(model: AcousticModel, config: Config, name: str, split: str) -> BatchLoader:
    cuts = data.load_split(config.data.manifests, [name], split)
    store = data.cache_features(cuts, config.features, Path(config.data.manifests) / "features", f"{name}-{split}")
    cuts = cuts.filter(lambda cut: cut.id in store).to_eager()
    model.normaliser.add_speakers(cuts, store)
    token_ids = {token: i for i, token in enumerate(model.tokens)}
    dataset = SpeechDataset({1.0: store}, model.normaliser, token_ids, config.data.labels)
    return BatchLoader(cuts, dataset, config.data.max_frames, config.data.num_buckets)


def _posteriors(model: AcousticModel, loader: BatchLoader) -> tuple[dict[str, np.ndarray], float]:
    """Return log-posteriors (T', C) of each utterance, and the seconds that the encoder took."""
    start = time.monotonic()
    utterances = {}
    for cuts in track(loader.batches, "posteriors"):
        batch = loader.dataset[cuts]
        log_probs, lengths = model.log_probs(batch)
        for i, utterance_id in enumerate(batch.ids):
            utterances[utterance_id] = np.ascontiguousarray(log_probs[: lengths[i], i])
    return utterances, time.monotonic() - start


def decode(utterances: dict[str, np.ndarray], beam_size: int) -> dict[str, Hypothesis]:
    """Decode log-posteriors (T', C) of many utterances; `beam_size` 1 is the best path.

    >>> decode({"a": np.log(np.array([[0.1, 0.9], [0.8, 0.2]]))}, 1)["a"].tokens
    (1,)
    """
    hypotheses: dict[str, Hypothesis] = {}
    blocks = [list(utterances)[i : i + 32] for i in range(0, len(utterances), 32)]
    for block in track(blocks, "best path" if beam_size == 1 else f"beam {beam_size}"):
        lengths = np.array([len(utterances[key]) for key in block])
        log_probs = np.zeros((lengths.max(), len(block), utterances[block[0]].shape[1]), np.float32)
        for i, key in enumerate(block):
            log_probs[: lengths[i], i] = utterances[key]
        if beam_size == 1:
            best = best_path(log_probs, lengths)
        else:
            best = [nbest[0] for nbest in beam_search(log_probs, lengths, beam_size=beam_size)]
        hypotheses.update(zip(block, best, strict=True))
    return hypotheses


def _fold(model: AcousticModel, hypothesis: Hypothesis, config: Config) -> list[str]:
    labels = [model.tokens[token] for token in hypothesis.tokens]
    return phones.fold(labels, config.data.labels, config.data.scoring)


def _write_hypotheses(path: Path, texts: dict[str, list[str]]) -> None:
    """Write Kaldi text: an utterance id and its phones on each line."""
    lines = (f"{key} {' '.join(labels)}".rstrip() for key, labels in sorted(texts.items()))
    model_folder.write_text(path, "\n".join(lines) + "\n")


def score_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table.

    >>> print(score_table([{"corpus": "mini", "split": "test", "decoder": "beam 16", "scoring": "timit39", "per": 9.5,
    ...     "interval": [9.0, 10.0], "num_phones": 84, "num_utterances": 3}]))  # doctest: +NORMALIZE_WHITESPACE
    | corpus | split | decoder | phones | PER | 95 % interval | scored |
    |---|---|---|---|---|---|---|
    | mini | test | beam 16 | timit39 | 9.50 % | 9.00 - 10.00 | 3 utterances, 84 phones |
    """
    head = "| corpus | split | decoder | phones | PER | 95 % interval | scored |\n|---|---|---|---|---|---|---|\n"
    return head + "".join(
        f"| {row['corpus']} | {row['split']} | {row['decoder']} | {row['scoring']} | {row['per']:.2f} % | "
        f"{row['interval'][0]:.2f} - {row['interval'][1]:.2f} | "
        f"{row['num_utterances']:,} utterances, {row['num_phones']:,} phones |\n"
        for row in rows
    )


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as lines to read.

    >>> print(summary([{"corpus": "mini", "split": "test", "decoder": "beam 16", "per": 9.5, "interval": [9.0, 10.0],
    ...     "substitutions": 5, "insertions": 1, "deletions": 2, "num_phones": 84, "num_utterances": 3}]))
    mini test, beam 16: PER 9.50 % [9.00, 10.00]  (5 sub, 1 ins, 2 del of 84 phones, 3 utterances)
    """
    return "\n".join(
        f"{row['corpus']} {row['split']}, {row['decoder']}: PER {row['per']:.2f} % "
        f"[{row['interval'][0]:.2f}, {row['interval'][1]:.2f}]  ({row['substitutions']} sub, {row['insertions']} ins, "
        f"{row['deletions']} del of {row['num_phones']} phones, {row['num_utterances']} utterances)"
        for row in rows
    )
