"""Scoring: a trained model's phone error rates on held-out speakers, and all that tells where the errors are."""

import contextlib
import json
import logging
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut

from asr.core import config as configuration
from asr.core import files
from asr.core.config import Config
from asr.core.errors import ConfigError, CorpusError, InfeasibleError
from asr.core.terminal import track
from asr.ctc import Hypothesis, forced_align
from asr.data import splits
from asr.data.batches import BatchLoader, NoTargets, SpeechDataset
from asr.data.feature_store import cache_features
from asr.evaluation import boundaries, breakdown, figures, metrics, page, reliability, score, tables
from asr.evaluation.breakdown import Utterance
from asr.evaluation.compare import EVALUATION
from asr.models import calibration, model_folder
from asr.models.attention import AttentionHypothesis
from asr.models.base import AcousticModel
from asr.models.calibration import Calibration
from asr.models.ctc import CTCModel
from asr.models.run_folder import read_history, training_seconds
from asr.speech import audio
from asr.speech.segments import Segment

SCORES = "\n## Scores\n"  # what follows it in a model card is written by `asr evaluate`
NUM_SHOWN = 24  # utterances whose sound and pictures go into the report

log = logging.getLogger(__name__)


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
        A run or model folder, or a shipped model. A run with several seeds is scored seed by seed.
    overrides
        Dotted, over the model's own configuration.
    corpora
        The folder that holds the corpora, where they are not prepared yet.
    split
        ``test`` or ``dev``.
    output
        Folder of ``metrics.json``, ``report.html``, ``evaluation-….json``, hypotheses and figures.
        By default the run folder, and ``runs/NAME`` for a shipped model.

    Raises
    ------
    AsrError
        The model or a corpus is missing.
    """
    seeds = sorted(Path(name).glob("seed-*/model/"), key=lambda path: int(path.parent.name.removeprefix("seed-")))
    if not seeds:
        rows, evaluations, output = _evaluate_model(name, overrides, corpora, split, output)
        found = "\n\n".join(map(tables.details, evaluations))
        return f"{tables.lines(rows)}\n\n{found}\n\nreport: {output / 'report.html'} (and JSON beside it)"
    output = output or Path(name)
    rows_of = {
        folder.parent.name: _evaluate_model(str(folder.parent), overrides, corpora, split, output / folder.parent.name)[
            0
        ]
        for folder in seeds
    }
    spread = tables.seed_rows(rows_of)
    files.write_json(output / "metrics.json", {"seeds": list(rows_of), "results": spread})
    lines = [f"{seed}: {line}" for seed, rows in rows_of.items() for line in tables.lines(rows).splitlines()]
    return "\n".join([*lines, *map(tables.say_spread, spread), f"run folder: {output} (a folder a seed)"])


def _evaluate_model(
    name: str, overrides: Sequence[str], corpora: Path | None, split: str, output: Path | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Path]:
    folder, model, config = load(name, overrides, corpora)
    output = output or (folder.parent if folder.parent != model_folder.PRETRAINED else Path("runs") / folder.name)
    output.mkdir(parents=True, exist_ok=True)
    history = read_history(folder.parent)
    epochs, iterations = history.get("epochs", []), history.get("iterations", [])
    seconds = training_seconds(folder.parent)
    about = {"system": _system(folder, output), "command": shlex.join(["asr", *sys.argv[1:]]), "training": epochs}
    about |= {"iterations": iterations, "parameters": model.num_parameters, "training_seconds": seconds}
    rows, evaluations = [], []
    for corpus in _having(split, config):
        scored, evaluation = score_corpus(model, config, corpus, split, output)
        files.write_json(output / EVALUATION.format(corpus=corpus, split=split), about | evaluation)
        rows += scored
        evaluations.append(about | evaluation)
    _keep(rows, config, output, folder)
    page.write(output / "report.html", evaluations)
    if epochs:
        figures.training_curves(epochs, output / "training.png")
    return rows, evaluations, output


def _having(split: str, config: Config) -> list[str]:
    """Prepare the corpora that are there, and name those of them that have a split.

    Raises
    ------
    CorpusError
        None is there, or none has it.
    """
    found, absent = [], []
    for corpus, place in config.data.corpora.items():
        try:
            splits.prepare({corpus: place}, config.data.manifests)
        except CorpusError as error:  # nobody has all that the shipped models heard
            absent.append(f"{corpus}: {error}")
            continue
        if splits.has_split(config.data.manifests, corpus, split):
            found.append(corpus)
    if not found and absent:
        raise CorpusError("; ".join(absent))
    if not found:
        raise CorpusError(f"{', '.join(config.data.corpora)}: no {split} utterances: name a corpus that has some")
    for each in absent:
        log.warning("left out: %s", each)
    return found


def _system(folder: Path, output: Path) -> str:
    """Name a system by its run folder, with the seed where there are several, or by its shipped name."""
    if folder.parent == model_folder.PRETRAINED:
        return folder.name
    run = output.absolute()
    return f"{run.parent.name}, {run.name}" if run.name.startswith("seed-") else run.name


def load(name: str, overrides: Sequence[str], corpora: Path | None) -> tuple[Path, AcousticModel, Config]:
    """Find a model folder, load it, and resolve its configuration with what the command line says.

    Raises
    ------
    AsrError
        The model is missing or damaged, or an override would need another model.
    """
    folder = model_folder.find(name)
    config = configuration.load(folder / "config.yaml", overrides)
    if corpora is not None:
        config = configuration.with_corpora_in(config, corpora)
    model = model_folder.load(folder)
    own = model.config
    if (config.features, config.model, config.data.labels) != (own.features, own.model, own.data.labels):
        raise ConfigError("config: features, model and data.labels belong to the trained model: train another instead")
    return folder, replace(model, config=config).with_decoding(config.decode), config


@dataclass(frozen=True)
class Recognised:
    """What a model makes of a test set.

    Attributes
    ----------
    cuts
        The utterances that could be read.
    log_probs
        Of each, natural-log posteriors of the classes (T', C).
    hypotheses
        Of each way of decoding, what was found in each utterance.
    phones
        The last of them with times and confidences.
    alignments
        Where the corpus has true times of the model's own phones: the times that the model gives these phones.
    seconds
        Each way of decoding's, with the time from features to emissions.
    """

    cuts: CutSet
    log_probs: dict[str, np.ndarray]
    hypotheses: dict[str, dict[str, Hypothesis]]
    phones: dict[str, list[Segment]]
    alignments: dict[str, list[Segment]]
    seconds: dict[str, float]


def recognise(model: AcousticModel, config: Config, corpus: str, split: str, with_sound: bool = True) -> Recognised:
    """Run a model over one split of a prepared corpus; confidences stay raw.

    Parameters
    ----------
    model, config, corpus, split
        What to run on what.
    with_sound
        Place boundaries by the sound, too.

    Raises
    ------
    AsrError
        The split's manifests are missing, or none of its recordings can be read.
    """
    cuts = splits.load_split(config.data.manifests, [corpus], split)
    store = cache_features(cuts, config.features, Path(config.data.manifests) / "features", f"{corpus}-{split}")
    cuts = cuts.filter(lambda cut: cut.id in store).to_eager()
    model.normaliser.add_speakers(cuts, store)
    dataset = SpeechDataset({1.0: store}, model.normaliser, NoTargets())
    loader = BatchLoader(cuts, dataset, config.data.max_frames, config.data.num_buckets)
    decoders = model.decoders(config.decode.beam_size)
    raw = replace(model, calibration=replace(model.calibration, posteriors=(), probabilities=()))
    raw.prepare()
    found = Recognised(cuts, {}, {name: {} for name in decoders}, {}, {}, dict.fromkeys(decoders, 0.0))
    for members in track(loader.batches, f"{corpus} {split}"):
        batch = dataset[members]
        by_id = {cut.id: cut for cut in members}
        start = time.monotonic()
        emissions = raw.emissions(batch.rows())
        spent = time.monotonic() - start
        for name, beam_size in decoders.items():
            start = time.monotonic()
            hypotheses = raw.decode(emissions, beam_size)
            found.seconds[name] += spent + time.monotonic() - start
            found.hypotheses[name].update(zip(batch.ids, hypotheses, strict=True))
        for utterance_id, rows, hypothesis in zip(batch.ids, emissions, hypotheses, strict=True):
            cut = by_id[utterance_id]
            waveform = audio.load(cut.recording.sources[0].source) if with_sound else None
            found.log_probs[utterance_id] = raw.log_probs(rows)
            found.phones[utterance_id] = raw.segments(hypothesis, rows, waveform)
            truth = [segment.label for segment in splits.true_times(cut)]
            if truth and splits.phone_set(corpus) == config.data.labels:
                with contextlib.suppress(InfeasibleError):  # fewer frames than phones
                    found.alignments[utterance_id], _ = raw.align(truth, rows, waveform)
    return found


def score_corpus(
    model: AcousticModel, config: Config, corpus: str, split: str, output: Path
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Score a model on one corpus, best path and beam.

    Where the corpus has a full test set around the core test set, both are scored, and the core is what is quoted.

    Parameters
    ----------
    model
        The recogniser.
    config
        Where the corpus lies, the beam, and the phone set to score in.
    output
        Folder of the hypotheses, the references and the figure of one utterance.

    Returns
    -------
    rows : list of dict
        One for each decoder: PER in percent with its 95 % interval, counts of errors, and how much was scored.
    evaluation : dict
        The last decoder's, as docs/reference/evaluation.md has it.
    """
    manifests = config.data.manifests
    has_full_test = (Path(manifests) / corpus / "supervisions_test_full.jsonl.gz").is_file()
    found = recognise(model, config, corpus, "test_full" if split == "test" and has_full_test else split)
    core = {cut.id for cut in splits.load_split(manifests, [corpus], split)} & found.log_probs.keys()
    references = {cut.id: splits.reference(cut, config.data.labels) for cut in found.cuts}
    sets = {split: core} | ({f"{split}_full": set(references)} if len(core) < len(references) else {})
    for name, ids in sets.items():
        _write_text(output / f"references-{corpus}-{name}.txt", references, ids)
    scored = [cut for cut in found.cuts if cut.id in core]
    decoded_seconds, scored_seconds = (sum(cut.duration for cut in cuts) for cuts in (found.cuts, scored))
    rows = []
    for decoder, hypotheses in found.hypotheses.items():
        labels = {key: [model.tokens[token] for token in each.tokens] for key, each in hypotheses.items()}
        for name, ids in sets.items():
            _write_text(output / f"hypotheses-{corpus}-{name}-{decoder.replace(' ', '-')}.txt", labels, ids)
        regimes = _regimes(found, references, labels, sets, config)
        about = {"corpus": corpus, "split": split, "decoder": decoder, "scoring": config.data.scoring}
        speed = round(decoded_seconds / found.seconds[decoder], 1)
        about |= {"hours": round(scored_seconds / 3600, 3), "times_real_time": speed}
        rows.append(
            about | score.headline(regimes) | {"regimes": regimes} | _word_row(scored, hypotheses, output, about)
        )
    utterances = _utterances(config, found, scored)
    result = breakdown.analyse(utterances, config.data.labels, config.data.scoring, model.calibration)
    result |= {"regimes": regimes, "boundaries": boundary_rows(model, found, scored)}
    rows[-1]["groups"] = {name: result["groups"][name] for name in ("gender", "children") if name in result["groups"]}
    title = f"{corpus} {split}, {decoder}"
    figures.confusion_heatmap(result["confusions"], output / f"confusions-{corpus}-{split}.png", title)
    _show(model, found, scored, result["utterances"])
    _draw(model, found, scored, utterances, output / f"posteriors-{corpus}-{split}.png")
    return rows, about | {"frame_shift": model.frame_shift, **result}


def _word_row(
    cuts: Sequence[Cut], hypotheses: dict[str, Hypothesis], output: Path, about: dict[str, Any]
) -> dict[str, Any]:
    """Return the word error rate with its counts, and write the words down, where a system finds words."""
    said = {cut.id: hypotheses[cut.id].words for cut in cuts}
    if None in said.values():
        return {}
    texts = {
        "references": {cut.id: splits.words(cut) for cut in cuts},
        "hypotheses": {key: [word.lower().replace(" ", "_") for word in words or ()] for key, words in said.items()},
    }
    for name, each in texts.items():
        _write_text(output / f"words-{name}-{about['corpus']}-{about['split']}.txt", each, set(said))
    found = metrics.score(texts["references"], texts["hypotheses"])
    low, high = (round(100 * bound, 2) for bound in found.interval)
    counts = found.counts
    values = {"wer": round(100 * found.rate, 2), "interval": [low, high], "num_words": counts.reference_length}
    return {"words": values | {key: getattr(counts, key) for key in ("substitutions", "insertions", "deletions")}}


def _regimes(
    found: Recognised, references: score.Texts, hypotheses: score.Texts, sets: dict[str, set[str]], config: Config
) -> list[dict[str, Any]]:
    """Score the core test and, where there is more, the full test."""
    speakers = {cut.id: cut.supervisions[0].speaker for cut in found.cuts}
    rows = []
    for name, ids in zip(("", "; full test"), sets.values(), strict=False):
        ours, theirs = ({key: texts[key] for key in ids} for texts in (references, hypotheses))
        for row in score.regime_rows(ours, theirs, config.data.labels, speakers, config.data.scoring):
            rows.append(row | {"name": row["name"] + name, "headline": row["headline"] and not name})
    return rows


def _utterances(config: Config, found: Recognised, cuts: Sequence[Cut]) -> list[Utterance]:
    """Put what the corpus has of each utterance beside what was recognised in it."""
    utterances = []
    for cut in cuts:
        supervision = cut.supervisions[0]
        utterances.append(
            Utterance(
                cut.id,
                supervision.speaker,
                supervision.text or "",
                supervision.gender,
                (supervision.custom or {}).get("age"),
                cut.duration,
                splits.reference(cut, config.data.labels),
                splits.true_times(cut),
                found.phones[cut.id],
            )
        )
    return utterances


def boundary_rows(model: AcousticModel, found: Recognised, cuts: Sequence[Cut]) -> list[dict[str, Any]] | None:
    """Compare phone boundaries with the corpus's; those of CTC's likeliest path alone stand beside ours.

    None where the corpus has no times, or other phones than the model.
    """
    ways: dict[str, list[np.ndarray]] = defaultdict(list)
    for cut in (cut for cut in cuts if cut.id in found.alignments):
        truth, log_probs = splits.true_times(cut), found.log_probs[cut.id]
        ways["asr"].append(boundaries.boundary_errors(truth, found.alignments[cut.id]))
        if isinstance(model, CTCModel):
            starts = np.array([segment.start for segment in truth[1:]])
            targets = np.array([[model.tokens.index(segment.label) for segment in truth]])
            path = forced_align(log_probs[:, None], targets)[0]
            ways["CTC's spikes: first frames"].append(path.starts[1:] * model.frame_shift - starts)
            ways["CTC's spikes: mid-points"].append((path.ends[:-1] + path.starts[1:]) / 2 * model.frame_shift - starts)
    return [boundaries.report(name, errors) for name, errors in ways.items()] or None


def _show(model: AcousticModel, found: Recognised, cuts: Sequence[Cut], rows: list[dict[str, Any]]) -> None:
    """Add sound and pictures to utterances from the best to the worst, at equal steps."""
    ranked = sorted(rows, key=lambda row: (row["per"] or 0, row["id"]))
    steps = np.linspace(0, len(ranked) - 1, min(NUM_SHOWN, len(ranked))).round().astype(int)
    shown = {ranked[i]["id"]: ranked[i] for i in steps}
    for cut in track([cut for cut in cuts if cut.id in shown], "sound and pictures"):
        waveform = audio.load(cut.recording.sources[0].source)
        media = page.utterance_media(waveform, found.log_probs[cut.id], model.tokens, model.frame_shift)
        shown[cut.id].update(media)


def _draw(
    model: AcousticModel, found: Recognised, cuts: Sequence[Cut], utterances: Sequence[Utterance], path: Path
) -> None:
    """Draw the utterance whose length is nearest to 3 seconds, so that labels can be read."""
    each = min(utterances, key=lambda each: (abs(each.duration - 3), each.id))
    (cut,) = (cut for cut in cuts if cut.id == each.id)
    waveform = audio.load(cut.recording.sources[0].source)
    said = {"reference": each.reference, "recognised": each.labels}
    times = [(segment.label, segment.start, segment.end) for segment in each.times]
    title = f"{each.id}: {each.text}"
    figures.posteriors(waveform, found.log_probs[each.id], model.tokens, model.frame_shift, said, times, path, title)
    *_, hypotheses = found.hypotheses.values()
    hypothesis = hypotheses[each.id]
    if isinstance(hypothesis, AttentionHypothesis):
        labels = [model.tokens[token] for token in hypothesis.tokens]
        beside = path.with_name(f"model-{path.name}")
        figures.attention_weights(waveform, hypothesis.weights, labels, model.frame_shift, times, beside, title)


def calibrate(name: str, overrides: Sequence[str] = (), corpora: Path | None = None) -> str:
    """Fit a model's confidences, and the lag of its times where the corpora have times, on its dev speakers.

    Parameters
    ----------
    name, overrides, corpora
        As for `evaluate_run`.

    Returns
    -------
    str
        What was found, in a line; ``calibration.json`` stands in the model folder.
    """
    folder, model, config = load(name, overrides, corpora)
    model = replace(model, calibration=Calibration())
    raw, correct, true_starts, found_starts = [], [], [], []
    for corpus in _having("dev", config):
        found = recognise(model, config, corpus, "dev", with_sound=False)
        cuts = list(found.cuts)
        utterances = _utterances(config, found, cuts)
        pairs = {each.id: breakdown.align(each, config.data.labels, config.data.scoring) for each in utterances}
        values, right = breakdown.scored_confidences(utterances, pairs, config.data.labels, config.data.scoring)
        raw.append(values)
        correct.append(right)
        for cut in (cut for cut in cuts if cut.id in found.alignments):
            true_starts += [segment.start for segment in splits.true_times(cut)[1:]]
            found_starts += [segment.start for segment in found.alignments[cut.id][1:]]
    points = reliability.fit(np.concatenate(raw), np.concatenate(correct))
    fitted = Calibration(*points, boundaries.fit_boundary_offset(true_starts, found_starts))
    fitted.save(folder)
    offset = f"; times move by {1e3 * fitted.boundary_offset:+.0f} ms" if true_starts else ""
    return f"calibrated on {sum(map(len, raw)):,} phones of dev speakers{offset}: {folder / calibration.FILE}"


def _keep(rows: list[dict[str, Any]], config: Config, output: Path, folder: Path) -> None:
    """Merge the rows into the output's metrics.json and, where the model is that run's, into its folder and card."""
    path = output / "metrics.json"
    values = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {"results": []}
    fresh = {(row["corpus"], row["split"], row["decoder"]) for row in rows}
    kept = [row for row in values["results"] if (row["corpus"], row["split"], row["decoder"]) not in fresh]
    values = {"seed": config.seed, "results": kept + rows}
    files.write_json(path, values)
    if folder.parent == output:
        files.write_json(folder / "metrics.json", values)
        card = (folder / "README.md").read_text(encoding="utf8").split(SCORES)[0]
        scores = [tables.score_table(values["results"]), tables.group_table(values["results"])]
        files.write_text(folder / "README.md", card + SCORES + "\n" + "\n".join(scores))


def _write_text(path: Path, texts: dict[str, list[str]], ids: set[str]) -> None:
    """Write Kaldi text, an utterance id and its phones on each line, which `asr score` reads."""
    lines = (f"{key} {' '.join(texts[key])}".rstrip() for key in sorted(ids))
    files.write_text(path, "\n".join(lines) + "\n")
