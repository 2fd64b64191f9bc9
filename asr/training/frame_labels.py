"""A loss of label sequences with a second one beside it: which label each frame belongs to (`train.criterion.frames`).

The sum over all alignments leaves it open where a label is; early in training that is most of what there is to find
out. A trained system tells, and a second half of the output layer learns it: cross entropy frame by frame, as beside
LF-MMI (D. Povey et al., Interspeech 2016, 2.7). The model folder has no trace of it but better weights.

Letters: B utterances, T' output frames, C classes of the labels, L labels.
"""

import copy
import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lhotse.cut import Cut
from torch import Tensor, nn

import asr
from asr.core import files, workers
from asr.core.config import Config
from asr.core.errors import AudioError, ConfigError, InfeasibleError
from asr.core.terminal import track
from asr.core.turns import turn
from asr.data import splits
from asr.data.batches import Batch, Drawn, LabelTargets, RichTargets, Text, TextTargets
from asr.data.feature_store import FeatureStore, cache_features
from asr.data.pronunciations import alternatives
from asr.data.utterances import Utterances
from asr.models import model_folder
from asr.models.base import AcousticModel, Spellings
from asr.speech import audio, phones
from asr.speech.features import FRAME_SHIFT
from asr.speech.normaliser import Normaliser
from asr.speech.segments import Segment
from asr.training import criteria
from asr.training.criteria import CTC, Criterion
from asr.training.dev_score import Find

log = logging.getLogger(__name__)

NOWHERE = -100  # what torch leaves out: frames beyond an utterance

Times = tuple[np.ndarray, np.ndarray]  # starts and ends of labels in seconds (L, 2), and their classes (L,)


class WithFrames(Criterion):
    """Label sequences by another criterion from the first half of the classes, and frames from the other half.

    Parameters
    ----------
    config
        The configuration of the run.
    labels
        The criterion of the label sequences.

    Raises
    ------
    ConfigError
        The system that aligns has other labels.
    """

    def __init__(self, config: Config, labels: CTC):
        super().__init__()
        self.config, self.labels, self.tokens = config, labels, labels.tokens
        self.num_classes, self.weight = 2 * len(labels.tokens), config.train.criterion.frame_weight
        name = str(config.train.criterion.frames)
        self._aligner = model_folder.load(name)
        known = phones.PhoneSet.load(config.data.labels).labels
        if phones.PhoneSet.load(self._aligner.config.data.labels).labels != known:
            fault = f"{name} (train.criterion.frames) has other labels than {config.data.labels}: name another"
            raise ConfigError(fault, "train.criterion.frames")

    @property
    def epoch(self) -> int:  # type: ignore[override]
        """Of the training step, from 0."""
        return self.labels.epoch

    @epoch.setter
    def epoch(self, number: int) -> None:
        self.labels.epoch = number

    def targets(self, cuts: Utterances, split: str, subsampling: int) -> "FrameLabels":
        """Align a split, and return where the labels are beside the targets of the other criterion."""
        found = align(self._aligner, self.config, cuts, split, self.tokens)
        targets = self.labels.targets(cuts, split, subsampling)
        assert isinstance(targets, LabelTargets)
        return FrameLabels(targets, found, subsampling)

    def forward(self, logits: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Return the mean over the utterances of their nats per label, and of the weighted nats per frame."""
        return self.labels(self._spelt(logits), lengths, batch) + self.weight * self.of_frames(logits, batch).mean()

    def each(self, logits: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Return the nats of each utterance's labels."""
        return self.labels.each(self._spelt(logits), lengths, batch)

    def of_frames(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross entropy of each utterance's frames in nats (B,)."""
        frames = batch.frames[:, : len(logits)].to(logits.device)
        heard = logits[:, :, len(self.tokens) :].permute(1, 2, 0)
        nats = nn.functional.cross_entropy(heard, frames, ignore_index=NOWHERE, reduction="none")
        return nats.sum(dim=1) / (frames != NOWHERE).sum(dim=1).clamp(min=1)

    def acoustic_model(self, encoder: nn.Module, normaliser: Normaliser) -> AcousticModel:
        """Return the model of the other criterion, with the classes of the labels alone."""
        return self.labels.acoustic_model(first_classes(encoder, len(self.tokens)), normaliser)

    def dev_decoders(self, model: AcousticModel) -> dict[str, Find]:
        """Return those of the other criterion."""
        return self.labels.dev_decoders(model)

    def observe(self, logits: Tensor, lengths: Tensor) -> None:
        """Take in the outputs of a training step."""
        self.labels.observe(self._spelt(logits), lengths)

    def end_epoch(self) -> None:
        """Do what is due at the end of an epoch."""
        self.labels.end_epoch()

    def _spelt(self, logits: Tensor) -> Tensor:
        return logits[:, :, : len(self.tokens)]


class FrameLabels(RichTargets):
    """Targets of another kind, and the label of each output frame.

    Parameters
    ----------
    labels
        The other targets.
    times
        Where the labels of each utterance are.
    subsampling
        Feature frames in an output frame.
    """

    def __init__(self, labels: LabelTargets, times: Mapping[str, Times], subsampling: int):
        self.labels, self.times, self.subsampling = labels, times, subsampling

    def __contains__(self, cut: Cut) -> bool:
        """Tell whether the utterance was aligned."""
        return cut.id in self.times and cut in self.labels

    def __call__(self, cut: Cut, speed: float) -> list[int]:
        """Return the other targets."""
        return self.labels(cut, speed)

    def fields(self, cuts: Sequence[Cut], drawn: Sequence[Drawn], batch: Batch) -> dict[str, Any]:
        """Return ``frames``, and the fields of the other targets."""
        lengths = [-(-length // self.subsampling) for length in batch.feature_lengths.tolist()]
        frames = np.full((len(cuts), max(lengths)), NOWHERE, np.int64)
        for row, cut, each, length in zip(frames, cuts, drawn, lengths, strict=True):
            row[:length] = self.frames(cut, each, length)
        more = self.labels.fields(cuts, drawn, batch) if isinstance(self.labels, RichTargets) else {}
        return {"frames": torch.from_numpy(frames), **more}

    def frames(self, cut: Cut, drawn: Drawn, length: int) -> np.ndarray:
        """Return the class at the middle of each output frame (T',), 0 where there is no label."""
        if not drawn.has_speech:
            return np.zeros(length, np.int64)
        times, classes = self.times[cut.id]
        starts, ends, classes = times[:, 0], np.append(times[:, 1], -np.inf), np.append(classes, 0)
        first = (self.subsampling / 2 - drawn.padding[0]) * FRAME_SHIFT  # the middle of the first frame, from the start
        middles = (first + np.arange(length) * self.subsampling * FRAME_SHIFT) * drawn.speed
        places = np.searchsorted(starts, middles, "right") - 1  # −1 before the first, which is that beyond the last
        return np.where(middles < ends[places], classes[places], 0)


def build(config: Config) -> Criterion:
    """Return the criterion of a configuration, with frames beside it where `train.criterion.frames` names a system."""
    criterion = criteria.build(config)
    if config.train.criterion.frames is None:
        return criterion
    assert isinstance(criterion, CTC)
    return WithFrames(config, criterion)


def align(
    aligner: AcousticModel, config: Config, cuts: Utterances, split: str, tokens: Sequence[str]
) -> dict[str, Times]:
    """Return where a system finds the labels of each utterance, by whichever pronunciations of the words it hears.

    A file beside the features keeps it for later calls with the same system, recordings and texts. What cannot be
    aligned is left out, with a warning that says how many and names the first.
    """
    data, system = config.data, model_folder.find(str(config.train.criterion.frames))
    said = TextTargets(tokens, data.labels, [alternatives(data, corpus) for corpus in data.corpora])
    title, name = f"{'+'.join(data.corpora)}-{split}", model_folder.name_of(system)
    store = cache_features(cuts, aligner.config.features, Path(data.manifests) / "features", title)
    cuts = cuts.filter(lambda cut: cut.id in store)
    spoken = [(cut, _spellings(cut, said.text(cut), tokens, data.labels)) for cut in cuts]
    texts = [f"{cut.id} {cut.supervisions[0].speaker} {text}" for cut, text in spoken]
    about = [each.encode() for each in (asr.__version__, store.path.name, *tokens, *texts)]
    parts = [*about, *map(files.hash_of, model_folder.files_of(system))]
    path = store.path.with_name(f"{title}-frames-{files.digest(parts)[:16]}.safetensors")
    if not path.is_file():
        with turn(path, lambda: log.info("waiting for another process: it computes the alignments by %s", name)):
            if not path.is_file():  # by then
                aligner.normaliser.add_speakers(cuts, store)
                place = partial(_place, aligner, store)
                places = track(workers.map_in_order(place, spoken), f"alignments by {name}", len(spoken))
                _write(path, {cut.id: found for (cut, _), found in zip(spoken, places, strict=True)}, tokens)
    found, failed = _read(path)
    if failed:
        fault = "%d of %d utterances cannot be aligned, and are left out, the first of them %s"
        log.warning(fault, len(failed), len(spoken), failed[0])
    return found


def _spellings(cut: Cut, text: Text, tokens: Sequence[str], labels: str) -> Spellings:
    if len(text) == len(splits.word_lengths(cut, labels)):
        return Spellings([[[tokens[i] for i in way] for way in word] for word in text], all_said=True)
    return Spellings.of_phones(splits.reference(cut, labels))


def _place(aligner: AcousticModel, store: FeatureStore, spoken: tuple[Cut, Spellings]) -> list[Segment] | str:
    """Return the phones of an utterance with their times, or why there are none."""
    cut, text = spoken
    try:
        (emissions,) = aligner.emissions([aligner.normaliser(store[cut.id], cut.supervisions[0].speaker)])
        return list(aligner.align(text, emissions, audio.load(cut.recording.sources[0].source), cut.id).phones)
    except (AudioError, InfeasibleError) as error:
        return f"{cut.id}: {error}"


def _write(path: Path, places: Mapping[str, list[Segment] | str], tokens: Sequence[str]) -> None:
    index = {token: i for i, token in enumerate(tokens)}
    aligned = {key: each for key, each in places.items() if not isinstance(each, str)}
    said = {key: [phone for phone in each if phone.label in index] for key, each in aligned.items()}
    everything = list(chain.from_iterable(said.values()))
    tensors: dict[str, np.ndarray] = {
        "times": np.array([(each.start, each.end) for each in everything], np.float32).reshape(-1, 2),
        "classes": np.array([index[each.label] for each in everything], np.int16),
        "counts": np.array([len(each) for each in said.values()], np.int64),
    }
    failed = [each for each in places.values() if isinstance(each, str)]
    files.write_tensors(path, tensors, {"ids": json.dumps(list(said)), "failed": json.dumps(failed)})


def _read(path: Path) -> tuple[dict[str, Times], list[str]]:
    tensors, notes = files.read_tensors(path)
    ends = np.cumsum(tensors["counts"])
    parts = zip(*(np.split(tensors[name], ends)[:-1] for name in ("times", "classes")), strict=True)
    return dict(zip(json.loads(notes["ids"]), parts, strict=True)), json.loads(notes["failed"])


def first_classes(encoder: nn.Module, num_classes: int) -> nn.Module:
    """Return a copy of a network with the first classes of its output layer alone.

    Raises
    ------
    ConfigError
        Its last layer is no linear one.
    """
    found = copy.deepcopy(encoder)
    layer = getattr(found, "output", None)
    if not isinstance(layer, nn.Linear):
        fault = "train.criterion.frames must be null for a network without a linear output layer"
        raise ConfigError(fault, "train.criterion.frames")
    narrow = nn.Linear(layer.in_features, num_classes, device=layer.weight.device)
    with torch.no_grad():
        narrow.weight.copy_(layer.weight[:num_classes])
        narrow.bias.copy_(layer.bias[:num_classes])
    found.output = narrow
    return found
