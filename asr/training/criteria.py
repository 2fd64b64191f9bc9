"""Training criteria of networks: labels with CTC or attention, or the states of HMMs frame by frame.

Letters: B utterances, T' output frames, C classes, P densities of the HMM.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from lhotse.cut import Cut
from torch import Tensor, nn

from asr.core.config import Config, DecodeConfig
from asr.core.errors import ConfigError
from asr.core.settings import model_options
from asr.ctc import alternatives_loss, consistency_loss, crf_loss, ctc_loss
from asr.ctc.priors import LabelPriors
from asr.data.batches import Batch, LabelTargets, Targets, TextTargets
from asr.data.feature_store import cache_features
from asr.data.pronunciations import alternatives
from asr.data.utterances import Utterances
from asr.encoders.attention_decoder import END, Decoder, EncoderConfig
from asr.hmm.alignment import align_all
from asr.lm import fusion, search
from asr.lm.ngram import NGram
from asr.models import model_folder
from asr.models.attention import AttentionModel
from asr.models.base import BLANK, AcousticModel
from asr.models.calibration import Calibration
from asr.models.ctc import CTCModel
from asr.models.hmm import GMMModel, HybridModel
from asr.models.kinds import Kind, kind_of
from asr.models.word_model import WordModel
from asr.speech import phones
from asr.speech.normaliser import Normaliser
from asr.training import processes
from asr.training.dev_score import PER, WER, Find
from asr.training.gmm_data import load_utterances

DEV_BEAM, WORD_BEAM = 8, 50  # hypotheses of the searches for phones and words that the dev score of an epoch takes


class Criterion(nn.Module, ABC):
    """A training criterion: targets, loss, and the acoustic model that the trained network makes.

    Attributes
    ----------
    num_classes
        C, the outputs of the network.
    tokens : (C,)
        The labels of the classes; none for the densities of HMMs.
    """

    num_classes: int
    tokens: tuple[str, ...] = ()
    epoch = 0  # of the training step, from 0

    @abstractmethod
    def targets(self, cuts: Utterances, split: str, subsampling: int) -> Targets:
        """Return the targets of a split, for a network with `subsampling` feature frames in an output frame."""

    @abstractmethod
    def forward(self, logits: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Return the mean loss of a batch from logits (T', B, C) and their lengths (B,)."""

    @abstractmethod
    def each(self, logits: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Return the loss of each utterance (B,)."""

    def num_terms(self, lengths: Tensor, batch: Batch) -> int:
        """Return over how many terms the loss is the mean: utterances."""
        return len(batch.ids)

    @abstractmethod
    def acoustic_model(self, encoder: nn.Module, normaliser: Normaliser) -> AcousticModel:
        """Return the acoustic model that the network makes."""

    def dev_decoders(self, model: AcousticModel) -> dict[str, Find]:
        """Return what finds the labels of each dev utterance, without a beam, by the name of the score."""

        def labels(emissions: Sequence[np.ndarray]) -> list[list[str]]:
            return [[model.tokens[token] for token in tokens] for tokens in model.best_tokens(emissions)]

        return {PER: labels}

    def observe(self, logits: Tensor, lengths: Tensor) -> None:
        """Take in the outputs of a training step, those of all processes that train together."""

    def end_epoch(self) -> None:
        """Do what is due at the end of an epoch."""


def per_label(nats: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
    """Divide the nats (B,) of a batch's first utterances by their labels, or by their frames where nobody speaks."""
    frames, labels = lengths[: len(nats)].to(nats.device), batch.target_lengths[: len(nats)].to(nats.device)
    return nats / torch.where(labels > 0, labels, frames.clamp(min=1))


class CTC(Criterion):
    """Labels without times: the sum over all their alignments (docs/theory/ctc.md)."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        phones.fold([], config.data.labels, config.data.scoring)  # a wrong name fails here, not after an epoch
        self.tokens = (BLANK, *phones.PhoneSet.load(config.data.labels).labels)
        self.num_classes = len(self.tokens)
        scale = config.train.label_prior_scale
        self.priors = LabelPriors(len(self.tokens), scale) if scale > 0 else None

    def targets(self, cuts: Utterances, split: str, subsampling: int) -> Targets:
        """Return indices of labels."""
        return LabelTargets(self.tokens, self.config.data.labels)

    def forward(self, logits: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Return the mean over the utterances of their nats per label."""
        priors = None if self.priors is None else self.priors.log_priors
        args = logits, batch.targets, lengths, batch.target_lengths
        if (batch.target_lengths > 0).all():
            loss = ctc_loss(*args, log_priors=priors)
        else:
            loss = per_label(ctc_loss(*args, log_priors=priors, reduction="none"), lengths, batch).mean()
        return loss + self.inconsistency(logits, lengths, batch)

    def each(self, logits: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Return the nats of each utterance."""
        return ctc_loss(logits, batch.targets, lengths, batch.target_lengths, reduction="none")

    def inconsistency(self, logits: Tensor, lengths: Tensor, batch: Batch) -> Tensor | float:
        """Return the weighted mean of the nats per label by which the two views of each utterance differ."""
        weight = self.config.train.consistency
        if weight == 0:
            return 0.0
        one, other = logits.chunk(2, dim=1)
        differences = consistency_loss(one, other, lengths[: one.shape[1]])
        return weight * per_label(differences, lengths, batch).mean()

    def acoustic_model(self, encoder: nn.Module, normaliser: Normaliser) -> AcousticModel:
        """Return a CTC model."""
        return CTCModel(self.config, self.tokens, normaliser, Calibration(), encoder)

    def observe(self, logits: Tensor, lengths: Tensor) -> None:
        """Add the outputs to the label priors, where they are used."""
        if self.priors is not None:
            self.priors.observe(logits, lengths, processes.total)

    def end_epoch(self) -> None:
        """Update the label priors."""
        if self.priors is not None:
            self.priors.update()


class CTCCRF(CTC):
    """Labels without times, their sequences weighted by an n-gram (docs/theory/criteria.md), after epochs of CTC.

    Where all pronunciations count, the epochs of CTC learn the first ones.
    """

    def __init__(self, config: Config):
        super().__init__(config)
        self.options = config.train.criterion
        lm = search.language_model(str(self.options.lm), self.tokens)
        if not isinstance(lm, NGram):
            raise ConfigError(
                f"{self.options.lm} (train.criterion.lm) is no n-gram: name one over {config.data.labels}"
            )
        self.lm, self.denominator = lm, fusion.denominator(lm, self.tokens)
        self.word_decoding = None if self.options.words is None else self._word_decoding(self.options.words)
        self.with_alternatives = self.options.pronunciations == "all"

    def targets(self, cuts: Utterances, split: str, subsampling: int) -> Targets:
        """Return indices of labels, and where all pronunciations count those of each word."""
        data = self.config.data
        if not self.with_alternatives:
            return super().targets(cuts, split, subsampling)
        return TextTargets(self.tokens, data.labels, [alternatives(data, corpus) for corpus in data.corpora])

    def _word_decoding(self, name: str) -> DecodeConfig:
        word_model = WordModel.load(name, "")
        word_model.check(self.tokens)
        settings = {"beam_size": WORD_BEAM, "label_prior_scale": 0.0, "rescore_lm": None}  # no priors, and it is fast
        return DecodeConfig(**{**word_model.decode, **settings})

    def forward(self, logits: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Return the mean over the utterances of their nats per label."""
        loss = per_label(self.each(logits, lengths, batch), lengths, batch).mean()
        return loss + self.inconsistency(logits, lengths, batch)

    def each(self, logits: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Return the nats of each utterance."""
        if self.epoch < self.options.warmup_epochs:
            return super().each(logits, lengths, batch)
        if self.with_alternatives:
            texts = [self.denominator.restricted(each) for each in batch.texts]
            return alternatives_loss(logits, texts, lengths, self.denominator)
        args, weight = (logits, batch.targets, lengths, batch.target_lengths), self.options.ctc_weight
        return crf_loss(*args, self.denominator, reduction="none", ctc_weight=weight)

    def acoustic_model(self, encoder: nn.Module, normaliser: Normaliser) -> AcousticModel:
        """Return a CTC model with its n-gram."""
        return CTCModel(self.config, self.tokens, normaliser, Calibration(), encoder, lm=self.lm)

    def dev_decoders(self, model: AcousticModel) -> dict[str, Find]:
        """Return a search with the n-gram, with which the network is trained, and one for words if a model is named."""
        searching = model.with_decoding(DecodeConfig(beam_size=DEV_BEAM))

        def labels(emissions: Sequence[np.ndarray]) -> list[list[str]]:
            return [[model.tokens[token] for token in best.tokens] for best in searching.decode(emissions, DEV_BEAM)]

        if self.word_decoding is None:
            return {PER: labels}
        of_words = model.with_decoding(self.word_decoding)

        def words(emissions: Sequence[np.ndarray]) -> list[list[str]]:
            found = of_words.decode(emissions, of_words.config.decode.beam_size)
            return [[word.lower() for word in best.words or ()] for best in found]

        return {PER: labels, WER: words}


class Frames(Criterion):
    """The density of each frame in a GMM-HMM's alignments: the hybrid of Bourlard and Morgan (1994)."""

    log_priors: Tensor

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        phones.fold([], config.data.labels, config.data.scoring)
        aligner = model_folder.load(str(config.train.alignments))
        known = phones.PhoneSet.load(config.data.labels).labels
        if not isinstance(aligner, GMMModel) or phones.PhoneSet.load(aligner.config.data.labels).labels != known:
            raise ConfigError(
                f"{config.train.alignments} (train.alignments) is no GMM-HMM of {config.data.labels}: name one"
            )
        self._aligner = aligner
        self.num_classes = self._aligner.hmms.tying.num_pdfs
        self.register_buffer("log_priors", torch.zeros(self.num_classes))

    def targets(self, cuts: Utterances, split: str, subsampling: int) -> Targets:
        """Align a split; the alignments of the training speech also give the priors."""
        aligner, config = self._aligner, self.config
        title = f"{'+'.join(config.data.corpora)}-{split}"
        store = cache_features(cuts, aligner.config.features, Path(config.data.manifests) / "features", title)
        cuts = cuts.filter(lambda cut: cut.id in store)
        aligner.normaliser.add_speakers(cuts, store)
        utterances = load_utterances(list(cuts), store, aligner.normaliser, aligner.hmms, config.data.labels)
        found = align_all(aligner.hmms, aligner.mixtures, utterances, aligner.transform)
        targets = FrameTargets({key: each.pdfs(aligner.hmms.tying) for key, each in found.items()}, subsampling)
        if split == "train":
            counts = np.bincount(np.concatenate(list(targets.pdfs.values())), minlength=self.num_classes) + 1.0
            self.log_priors.copy_(torch.tensor(np.log(counts / counts.sum())))
        return targets

    def forward(self, logits: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross entropy of the frames in nats."""
        return self.each(logits, lengths, batch).sum() / lengths.sum()

    def num_terms(self, lengths: Tensor, batch: Batch) -> int:
        """Return over how many terms the loss is the mean: frames."""
        return int(lengths.sum())

    def each(self, logits: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Return the cross entropy of each utterance, summed over its frames."""
        num_frames = len(logits)
        targets = torch.nn.functional.pad(batch.targets, (0, max(0, num_frames - batch.targets.shape[1])))
        losses = torch.nn.functional.cross_entropy(logits.permute(1, 2, 0), targets[:, :num_frames], reduction="none")
        inside = torch.arange(num_frames, device=logits.device) < lengths.to(logits.device)[:, None]
        return (losses * inside).sum(dim=1)

    def acoustic_model(self, encoder: nn.Module, normaliser: Normaliser) -> AcousticModel:
        """Return a hybrid model."""
        aligner = self._aligner
        priors = self.log_priors.cpu().numpy()
        common = (self.config, aligner.tokens, normaliser, Calibration(), aligner.hmms, aligner.log_bigram)
        return HybridModel(*common, encoder, priors)


class FrameTargets:
    """The density at the middle of each output frame.

    Parameters
    ----------
    pdfs
        The densities of each utterance's feature frames at speed 1, (T,).
    subsampling
        Feature frames in an output frame.
    """

    def __init__(self, pdfs: Mapping[str, np.ndarray], subsampling: int):
        self.pdfs, self.subsampling = pdfs, subsampling

    def __contains__(self, cut: Cut) -> bool:
        """Tell whether the utterance was aligned."""
        return cut.id in self.pdfs

    def __call__(self, cut: Cut, speed: float) -> list[int]:
        """Return the density of each output frame, and perhaps of a few frames beyond the end."""
        pdfs = self.pdfs[cut.id]
        middles = np.arange(self.subsampling // 2, len(pdfs) / speed + self.subsampling, self.subsampling)
        nearest = np.rint(middles * speed).astype(int)
        return pdfs[np.minimum(nearest, len(pdfs) - 1)].tolist()


class Attention(Criterion):
    """The next phone given those before it (teacher forcing), and a share of CTC on the encoder's states.

    Without CTC, the decoder may never learn from little data where to look: S. Watanabe, T. Hori, S. Kim, J. R.
    Hershey and T. Hayashi, "Hybrid CTC/attention architecture for end-to-end speech recognition", IEEE Journal of
    Selected Topics in Signal Processing 11(8), 2017, equation 15. The network's outputs are the encoder's states, so
    the decoder is a part of this module, and is trained with it.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config, sizes = config, model_options(config.model, EncoderConfig)
        phones.fold([], config.data.labels, config.data.scoring)  # a wrong name fails here, not after an epoch
        self.tokens = (BLANK, *phones.PhoneSet.load(config.data.labels).labels)
        self.num_classes = sizes.state_size
        self.ctc_weight = sizes.ctc_weight
        self.decoder = Decoder(sizes, len(self.tokens))
        self.ctc = nn.Linear(sizes.state_size, len(self.tokens)) if sizes.ctc_weight > 0 else None

    def targets(self, cuts: Utterances, split: str, subsampling: int) -> Targets:
        """Return indices of labels."""
        return LabelTargets(self.tokens, self.config.data.labels)

    def forward(self, logits: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Return the mean over the utterances of their nats per label, from states (T', B, E)."""
        return per_label(self.each(logits, lengths, batch), lengths, batch).mean()

    def each(self, logits: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """Return the nats of each utterance, with the end of the sentence and the share of CTC."""
        log_probs, _ = self.decoder(logits.transpose(0, 1), lengths, batch.targets)
        right = nn.functional.pad(batch.targets, (0, 1), value=END)
        inside = torch.arange(right.shape[1], device=right.device) <= batch.target_lengths[:, None]
        losses = -(log_probs.gather(2, right[:, :, None]).squeeze(2) * inside).sum(dim=1)
        if self.ctc is None:
            return losses
        spelt = ctc_loss(self.ctc(logits), batch.targets, lengths, batch.target_lengths, reduction="none")
        return self.ctc_weight * spelt + (1 - self.ctc_weight) * losses

    def acoustic_model(self, encoder: nn.Module, normaliser: Normaliser) -> AcousticModel:
        """Return a model of encoder and decoder; the layer that CTC needed is left behind."""
        return AttentionModel(self.config, self.tokens, normaliser, Calibration(), encoder, self.decoder.eval())


CRITERIA: dict[Kind, Callable[[Config], Criterion]] = {
    Kind.CTC: CTC,
    Kind.ATTENTION: Attention,
    Kind.HYBRID: Frames,
}


def build(config: Config) -> Criterion:
    """Return the criterion of a configuration that `asr.training.check` lets pass, without frames beside it."""
    is_crf = config.train.criterion.name == "ctc_crf"
    return CTCCRF(config) if is_crf else CRITERIA[kind_of(config)](config)
