"""The scores of a recognised corpus: a row for each decoder, and the distance of phone boundaries from true ones.

Where a corpus has a full test set around its core test set, both are scored, and the core is what is quoted.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr.core import files
from asr.ctc import forced_align
from asr.data import splits
from asr.evaluation import boundaries, metrics, score, tables
from asr.evaluation.breakdown import ScoredUtterance
from asr.evaluation.recognise import Recognised, RecognisedSplit, recognise
from asr.models.base import AcousticModel
from asr.models.ctc import CTCModel
from asr.models.kinds import Kind, kind_of
from asr.speech import characters, phones

# Keys of a row that say what was scored.
ABOUT = ("corpus", "split", "decoder", "decode", "scoring", "hours", "times_real_time")


@dataclass(frozen=True)
class ScoredSplit:
    """The utterances of a corpus that were recognised, and those among them whose scores are quoted.

    Attributes
    ----------
    split
        ``test`` or ``dev``.
    recognised
        Every utterance, those of the full test set included.
    core
        The utterances of the split itself, in the same order.
    """

    split: str
    recognised: RecognisedSplit
    core: tuple[Recognised, ...]

    @property
    def by_name(self) -> dict[str, tuple[Recognised, ...]]:
        """The utterances of each set that is scored, the core first."""
        everything = self.recognised.utterances
        full = {f"{self.split}_full": everything} if len(self.core) < len(everything) else {}
        return {self.split: self.core} | full


def recognise_split(model: AcousticModel, corpus: str, split: str) -> ScoredSplit:
    """Recognise a split of a corpus, or the full test set around it.

    Raises
    ------
    AsrError
        The split's manifests are missing, or none of its recordings can be read.
    """
    manifests = model.config.data.manifests
    full = f"{split}_full"
    has_full_test = split == "test" and splits.has_split(manifests, corpus, full)
    recognised = recognise(model, corpus, full if has_full_test else split)
    ids = {cut.id for cut in splits.load_split(manifests, [corpus], split)}
    return ScoredSplit(split, recognised, tuple(each for each in recognised.utterances if each.cut.id in ids))


def decoder_row(model: AcousticModel, scored: ScoredSplit, decoder: str) -> dict[str, Any]:
    """Return the scores of one decoder, as ``metrics.json`` keeps them.

    Returns
    -------
    dict
        What was scored (the keys of ABOUT); the headline's PER in percent with its 95 % interval and the counts of
        errors; ``regimes``; ``words`` where the decoder finds words; and ``unit`` where characters are counted.
    """
    recognised = scored.recognised
    hours = sum(each.cut.duration for each in scored.core) / 3600
    speed = sum(each.cut.duration for each in recognised.utterances) / recognised.seconds[decoder]
    decode = _settings(model, decoder)
    scoring = phones.title(model.config.data.scoring)
    about = (recognised.corpus, scored.split, decoder, decode, scoring, round(hours, 3), round(speed, 1))
    regimes = regime_rows(model, scored, decoder)
    words = _word_scores(model, scored.core, decoder)
    return (
        dict(zip(ABOUT, about, strict=True))
        | score.headline(regimes)
        | ({"unit": tables.CHARACTERS} if phones.is_characters(model.config.data.labels) else {})
        | {"regimes": regimes}
        | ({} if words is None else {"words": words})
    )


def _settings(model: AcousticModel, decoder: str) -> dict[str, Any]:
    """Return the settings of `decode` that a decoder uses, by which rows of one decoder are told apart."""
    decode = model.config.decode
    if kind_of(model.config) in (Kind.HYBRID, Kind.GMM_HMM):
        used = ["beam", "lm_weight", "insertion_penalty"]
    elif model.decoders(decode.beam_size)[decoder] == 1:
        used = []
    else:
        used = ["lm", "lexicon"] if decode.lm else []
        used += ["lm_weight", "insertion_penalty"] if decode.lm or model.config.train.criterion.lm else []
        used += ["label_prior_scale"] if decode.label_prior_scale else []
        used += ["rescore_lm", "rescore_weight", "rescored_lm_weight"] if decode.rescore_lm else []
        used += ["hints", "hint_bonus"] if decode.hints else []
    return {name: getattr(decode, name) for name in used}


def regime_rows(model: AcousticModel, scored: ScoredSplit, decoder: str) -> list[dict[str, Any]]:
    """Score one decoder in every regime, on the core test set and, where there is one, on the full test set.

    Returns
    -------
    list of dict
        The rows of `asr.evaluation.score.regime_rows`; those of the full test set say so in their names.
    """
    config = model.config.data
    rows = []
    for suffix, utterances in zip(("", "; full test"), scored.by_name.values(), strict=False):
        references, hypotheses = references_of(model, utterances), hypotheses_of(model, utterances, decoder)
        speakers = {each.cut.id: each.cut.supervisions[0].speaker for each in utterances}
        for row in score.regime_rows(references, hypotheses, config.labels, speakers, config.scoring):
            rows.append(row | {"name": row["name"] + suffix, "headline": row["headline"] and not suffix})
    return rows


def references_of(model: AcousticModel, utterances: Sequence[Recognised]) -> dict[str, list[str]]:
    """Return the phones said in each utterance, in the model's phone set, by the utterance's id."""
    return {each.cut.id: splits.reference(each.cut, model.config.data.labels) for each in utterances}


def hypotheses_of(model: AcousticModel, utterances: Sequence[Recognised], decoder: str) -> dict[str, list[str]]:
    """Return the phones that a decoder recognised in each utterance, by the utterance's id."""
    return {each.cut.id: [model.tokens[token] for token in each.hypotheses[decoder].tokens] for each in utterances}


def _word_scores(model: AcousticModel, utterances: Sequence[Recognised], decoder: str) -> dict[str, Any] | None:
    """Return the word error rate in percent with its counts; None where the decoder does not find words."""
    texts = _word_texts(model, utterances, decoder)
    if texts is None:
        return None
    found = metrics.score(*texts)
    counts = found.counts
    return {
        "wer": round(100 * found.rate, 2),
        "interval": [round(100 * bound, 2) for bound in found.interval],
        "num_words": counts.reference_length,
        "substitutions": counts.substitutions,
        "insertions": counts.insertions,
        "deletions": counts.deletions,
    }


def _word_texts(
    model: AcousticModel, utterances: Sequence[Recognised], decoder: str
) -> tuple[dict[str, list[str]], dict[str, list[str]]] | None:
    """Return what `word_texts` does, or of a model of characters the words that these spell."""
    if not phones.is_characters(model.config.data.labels):
        return word_texts(utterances, decoder)
    both = references_of(model, utterances), hypotheses_of(model, utterances, decoder)
    references, hypotheses = ({key: characters.join(each) for key, each in texts.items()} for texts in both)
    return references, hypotheses


def word_texts(
    utterances: Sequence[Recognised], decoder: str
) -> tuple[dict[str, list[str]], dict[str, list[str]]] | None:
    """Return the words said and the words recognised in each utterance; None where the decoder does not find words."""
    said = {each.cut.id: each.hypotheses[decoder].words for each in utterances}
    if None in said.values():
        return None
    references = {each.cut.id: splits.words(each.cut) for each in utterances}
    return references, {key: [word.lower().replace(" ", "_") for word in words or ()] for key, words in said.items()}


def write_texts(model: AcousticModel, scored: ScoredSplit, output: Path) -> None:
    """Write references and hypotheses, phones and words, as Kaldi text, which `asr score` reads."""
    corpus = scored.recognised.corpus
    for name, utterances in scored.by_name.items():
        _write_text(output / f"references-{corpus}-{name}.txt", references_of(model, utterances))
        for decoder in scored.recognised.seconds:
            path = output / f"hypotheses-{corpus}-{name}-{decoder.replace(' ', '-')}.txt"
            _write_text(path, hypotheses_of(model, utterances, decoder))
    for decoder in scored.recognised.seconds:
        words = _word_texts(model, scored.core, decoder)
        if words is not None:
            for kind, texts in zip(("references", "hypotheses"), words, strict=True):
                _write_text(output / f"words-{kind}-{corpus}-{scored.split}.txt", texts)


def _write_text(path: Path, texts: Mapping[str, Sequence[str]]) -> None:
    """Write an utterance's id and its labels on each line."""
    lines = (f"{key} {' '.join(texts[key])}".rstrip() for key in sorted(texts))
    files.write_text(path, "\n".join(lines) + "\n")


def scored_utterances(model: AcousticModel, utterances: Sequence[Recognised]) -> list[ScoredUtterance]:
    """Put what the corpus has of each utterance beside what the last decoder recognised in it."""
    return [_scored_utterance(each, model.config.data.labels) for each in utterances]


def _scored_utterance(utterance: Recognised, labels: str) -> ScoredUtterance:
    cut = utterance.cut
    supervision = cut.supervisions[0]
    return ScoredUtterance(
        id=cut.id,
        speaker=supervision.speaker,
        text=supervision.text or "",
        gender=supervision.gender,
        age=(supervision.custom or {}).get("age"),
        duration=cut.duration,
        reference=splits.reference(cut, labels),
        times=splits.true_times(cut),
        hypothesis=utterance.segments,
    )


def boundary_rows(model: AcousticModel, utterances: Sequence[Recognised]) -> list[dict[str, Any]] | None:
    """Compare the model's phone boundaries with the corpus's, a row for each way to place them.

    For CTC systems the boundaries that follow from the spikes of the likeliest path alone stand beside ours.

    Returns
    -------
    list of dict or None
        Rows of `asr.evaluation.boundaries.summary`; None where the corpus has no times of the model's own phones.
    """
    ways: dict[str, list[np.ndarray]] = defaultdict(list)
    for each in utterances:
        if each.alignment is not None:
            ways["asr"].append(boundaries.boundary_errors(splits.true_times(each.cut), each.alignment))
            if isinstance(model, CTCModel):
                for way, errors in _spike_errors(model, each).items():
                    ways[way].append(errors)
    return [boundaries.summary(name, errors) for name, errors in ways.items()] or None


def _spike_errors(model: CTCModel, utterance: Recognised) -> dict[str, np.ndarray]:
    """Return the signed error in seconds (L − 1,) of boundaries placed by the spikes of CTC's likeliest path."""
    truth = splits.true_times(utterance.cut)
    true_starts = np.array([segment.start for segment in truth[1:]])
    targets = np.array([[model.tokens.index(segment.label) for segment in truth]])
    path = forced_align(utterance.log_probs[:, None], targets)[0]
    middles = (path.ends[:-1] + path.starts[1:]) / 2
    return {
        "CTC's spikes: first frames": path.starts[1:] * model.frame_shift - true_starts,
        "CTC's spikes: mid-points": middles * model.frame_shift - true_starts,
    }
