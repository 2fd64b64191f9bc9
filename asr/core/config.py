"""The configuration of a run: one frozen dataclass a section, read from YAML and dotted overrides.

A recipe is a YAML file of plain data. `load` merges it over the defaults below, applies overrides such as
``train.max_epochs=3``, and rejects unknown keys and wrong types by name. The `model` section belongs to the encoder
that it names: `asr.encoders` validates its other keys against that encoder's own dataclass.

The `Attributes` of each dataclass say what its keys mean; the reference of the documentation is made of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from asr.core.settings import check, one_of, read, read_from, section, types_of

PRECISIONS = ("32-true", "bf16-mixed")


@dataclass(frozen=True)
class FeatureConfig:
    """Acoustic features at a 10 ms shift; the defaults are the 123 values of Graves (2013).

    Attributes
    ----------
    kind
        ``fbank``, log mel energies, or ``mfcc``, cepstra of them.
    num_mel_bins
        Bins of the mel filter bank, 4 to 128.
    num_ceps
        Cepstral coefficients a frame, with ``mfcc`` only; 1 to `num_mel_bins`.
    use_energy
        Add the log energy of the frame as one more value.
    delta_order
        0 keeps the static values alone, 1 adds their derivatives in time (Δ), 2 also the second ones (ΔΔ).
    cmvn
        Normalisation to zero mean and unit variance, by the statistics of the whole training data (``global``), of each
        ``speaker``, of each ``utterance``, or of each utterance's frames with ``speech``, which no silence around it
        changes. ``running`` takes the mean of the speech so far, for streams of any loudness, and the variance of the
        training data; it goes with `fbank` and without deltas. ``none`` leaves the values as they are.
    """

    kind: str = "fbank"
    num_mel_bins: int = 40
    num_ceps: int = 13
    use_energy: bool = True
    delta_order: int = 2
    cmvn: str = "speech"

    def __post_init__(self) -> None:
        one_of("features.kind", self.kind, ("fbank", "mfcc"))
        one_of("features.cmvn", self.cmvn, ("global", "speaker", "utterance", "speech", "running", "none"))
        check(4 <= self.num_mel_bins <= 128, "features.num_mel_bins", "lie in 4..128", self.num_mel_bins)
        fits = self.kind != "mfcc" or 1 <= self.num_ceps <= self.num_mel_bins
        check(fits, "features.num_ceps", "lie in 1..num_mel_bins", self.num_ceps)
        check(self.delta_order in (0, 1, 2), "features.delta_order", "be 0, 1 or 2", self.delta_order)
        fits = self.cmvn != "running" or (self.kind == "fbank" and self.delta_order == 0)
        check(fits, "features.cmvn", "not be running with mfcc or deltas", self.cmvn)


@dataclass(frozen=True)
class DataConfig:
    """Which corpora, which phones, and how utterances become batches.

    Attributes
    ----------
    corpora
        Names of corpora, each with the folder that holds it, or null: `asr prepare` and `asr train` then synthesise or
        download the corpus where that is allowed. ``data.corpora.mine=PATH`` adds a corpus or names its place,
        ``"data.corpora={mine: PATH}"`` takes that corpus alone. A name that is none of the library's is that of a
        corpus of your own, whose form is recognised. Of a corpus in shards (`asr prepare --shar`) the place is the
        path or URL of its folder.
    manifests
        Folder of the prepared manifests, ``<manifests>/<corpus>``, and of the cached features.
    labels
        What the model emits: the phone set ``arpabet39``, ``timit61``, ``timit48`` or ``timit39``; a file with a phone
        on each line, and perhaps its IPA and what it counts as (``mine/phones.tsv``); or ``auto``, all labels that the
        corpora have.
    scoring
        Phone set that error rates are counted in; `labels` must fold into it. Labels of a file are counted as its third
        column says, and other labels of one's own as they are.
    units
        ``phones``, or ``characters``: letters of any script, for a model without a lexicon. `labels` are ``auto`` then,
        or a file with a character on each line.
    lexicon
        How words of a corpus of your own sound: ``cmudict``, or a file with a word and its phones on each line; or such
        a name for each corpus. Null is ``cmudict`` for the phone sets above, and none for other labels.
    g2p
        How words sound that the lexicon lacks: ``lexicon`` guesses them by what it learns from it, ``espeak:de`` asks
        espeak-ng, here in German, ``cmudict`` CMUdict and espeak-ng's rules for English, ``none`` leaves utterances
        with such words out; or such a name for each corpus. Null is ``cmudict`` for that lexicon, and ``lexicon`` for a
        file.
    cache_features
        Compute the training features once and keep them on disk. False computes them anew in each epoch, which takes
        time and saves space; those of shards always are.
    max_frames
        Feature frames of 10 ms in a batch, padding included. Several processes share a batch.
    num_buckets
        Classes of like duration that batches are drawn from.
    num_workers
        Processes that make training batches ahead of their use: some 10 keep a fast GPU busy. With 0 the training
        process makes them, which suits a CPU.
    max_duration
        Seconds; longer training utterances are left out.
    exclude
        File with the name of a training utterance on each line that is not trained on: whose text was not said, say.
    speeds
        Speed perturbation: factors in 0.5 to 2, one of which is drawn for each utterance and epoch.
    """

    corpora: dict[str, str | None] = field(default_factory=dict)
    manifests: str = "data"
    labels: str = "arpabet39"
    scoring: str = "arpabet39"
    units: str = "phones"
    lexicon: Any = None
    g2p: Any = None
    cache_features: bool = True
    max_frames: int = 8000
    num_buckets: int = 20
    num_workers: int = 0
    max_duration: float = 25.0
    exclude: str | None = None
    speeds: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        check(len(self.corpora) > 0, "data.corpora", "name at least one corpus", dict(self.corpora))
        one_of("data.units", self.units, ("phones", "characters"))
        check(bool(self.labels), "data.labels", "name a phone set or a file, or be auto", self.labels)
        for key in ("lexicon", "g2p"):
            value = getattr(self, key)
            names = list(value.values()) if isinstance(value, dict) else [value]
            named = all(isinstance(name, str | None) and name != "" for name in names)
            check(named, f"data.{key}", "be a name, or a name for each corpus", value)
        check(self.max_frames > 0, "data.max_frames", "be positive", self.max_frames)
        check(self.num_buckets > 0, "data.num_buckets", "be positive", self.num_buckets)
        check(self.num_workers >= 0, "data.num_workers", "be 0 or more", self.num_workers)
        check(self.max_duration > 0, "data.max_duration", "be positive", self.max_duration)
        check(
            len(self.speeds) > 0 and all(0.5 <= s <= 2 for s in self.speeds),
            "data.speeds",
            "be factors in 0.5..2",
            list(self.speeds),
        )


@dataclass(frozen=True)
class SpecAugmentConfig:
    """SpecAugment (Park et al. 2019) on training features: masked bands and spans take the mean, which is 0.

    Attributes
    ----------
    num_freq_masks
        Frequency masks an utterance; 0 masks no frequencies.
    max_freq_width
        Width of a frequency mask in mel bins, at most.
    num_time_masks
        Time masks an utterance; 0 masks no times.
    max_time_width
        Length of a time mask in frames of 10 ms, at most.
    max_time_share
        Length of a time mask as a share of the utterance, at most; 0 to 1.
    """

    num_freq_masks: int = 0
    max_freq_width: int = 8
    num_time_masks: int = 0
    max_time_width: int = 30
    max_time_share: float = 0.1

    def __post_init__(self) -> None:
        for name in ("num_freq_masks", "max_freq_width", "num_time_masks", "max_time_width"):
            check(getattr(self, name) >= 0, f"spec_augment.{name}", "be 0 or more", getattr(self, name))
        check(0 <= self.max_time_share <= 1, "spec_augment.max_time_share", "lie in 0..1", self.max_time_share)


@dataclass(frozen=True)
class ConditionsConfig:
    """Voices, rooms, noises and lines that training utterances are given (`asr.data.augmentation`): log mel only.

    Attributes
    ----------
    max_warp
        Share of the mel scale by which it is stretched or compressed, at most; 0 to 0.3. With 0.1 the vocal tract
        becomes shorter or longer by up to a tenth.
    reverb
        Share of the utterances that are put into a room, 0 to 1.
    noise
        Share of the utterances that noise, from white to that of traffic, is added to, 0 to 1.
    telephone
        Share of the utterances that are sent over a telephone, and some into a file of 8,000 samples a second, 0 to 1.
    music
        Share of the utterances that chords are added to, 0 to 1.
    babble
        Share of the utterances that other training utterances are added to, 0 to 1.
    padding
        Share of the utterances that have up to 3 s of silence, noise, hum or chords before or behind them, 0 to 1; with
        CTC and attention only.
    no_speech
        Share of the utterances in whose place, and for as long, there is nothing but such other sound, 0 to 1: of these
        it is learnt that nobody speaks. With CTC and attention only.
    """

    max_warp: float = 0.0
    reverb: float = 0.0
    noise: float = 0.0
    telephone: float = 0.0
    music: float = 0.0
    babble: float = 0.0
    padding: float = 0.0
    no_speech: float = 0.0

    def __post_init__(self) -> None:
        check(0 <= self.max_warp <= 0.3, "conditions.max_warp", "lie in 0..0.3", self.max_warp)
        for name in ("reverb", "noise", "telephone", "music", "babble", "padding", "no_speech"):
            check(0 <= getattr(self, name) <= 1, f"conditions.{name}", "lie in 0..1", getattr(self, name))


@dataclass(frozen=True)
class CriterionConfig:
    """What the network of a CTC system is trained on (docs/theory/criteria.md).

    Attributes
    ----------
    name
        ``ctc``, or ``ctc_crf``, which weighs label sequences by an n-gram.
    lm
        N-gram over the labels for ``ctc_crf``: a name such as ``phone_trigram``, which is trained by the recipe's
        ``lm/phone_trigram.yaml`` where it is missing; or a folder of `asr lm train`, or an ARPA file. The dev speakers
        are decoded with it.
    ctc_weight
        So many times the loss of CTC is added to that of ``ctc_crf``.
    warmup_epochs
        Epochs of CTC alone before ``ctc_crf``.
    pronunciations
        What ``ctc_crf`` learns of a word: the ``first``, by which it is spelt; or ``all`` that the lexicon has, of
        which the network weighs those that it hears (`asr.ctc.alternatives_loss`), without CTC beside.
    frames
        System that says beforehand where each label is, which the network learns beside the sequences of labels: a run
        or model folder, or a shipped model's name. Null teaches no frames.
    frame_weight
        So many times the cross entropy of the frames is added.
    words
        Language model over words for ``ctc_crf``: the best epoch is that with the fewest wrong words of the dev
        speakers, instead of phones. A folder, or the name of a shipped model.
    """

    name: str = "ctc"
    lm: str | None = None
    ctc_weight: float = 0.0
    warmup_epochs: int = 0
    pronunciations: str = "first"
    frames: str | None = None
    frame_weight: float = 0.3
    words: str | None = None

    def __post_init__(self) -> None:
        one_of("train.criterion.name", self.name, ("ctc", "ctc_crf"))
        one_of("train.criterion.pronunciations", self.pronunciations, ("first", "all"))
        fits = (self.name == "ctc_crf") == (self.lm is not None)
        check(fits, "train.criterion.lm", "name an n-gram for ctc_crf, and nothing for ctc", self.lm)
        check(self.words is None or self.name == "ctc_crf", "train.criterion.words", "be null for ctc", self.words)
        for name in ("ctc_weight", "warmup_epochs", "frame_weight"):
            check(getattr(self, name) >= 0, f"train.criterion.{name}", "be 0 or more", getattr(self, name))
        if self.pronunciations == "all":
            check(self.name == "ctc_crf", "train.criterion.pronunciations", "be first for ctc", self.pronunciations)
            check(self.ctc_weight == 0, "train.criterion.ctc_weight", "be 0 for all pronunciations", self.ctc_weight)


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation. Training stops at `max_epochs`, or when the dev score has not fallen for `patience` epochs.

    Attributes
    ----------
    max_epochs
        Passes over the training data, at most.
    patience
        Epochs without a lower dev score after which training stops; 0 never stops early.
    learning_rate
        Peak of the learning rate.
    warmup
        Share of all updates in which the learning rate rises to its peak, 0 to below 1.
    final_learning_rate
        Learning rate at the end of the cosine that follows the peak.
    weight_decay
        Decoupled weight decay of AdamW.
    gradient_clip
        Largest global norm of the gradient.
    weight_noise
        Standard deviation of the noise that each update adds to the encoder's weights; Graves (2013) has 0.075.
    criterion
        What the network of a CTC system is trained on.
    consistency
        Weight of `asr.ctc.consistency_loss`: above 0, each utterance of a CTC system goes through the network in two
        views, under other conditions and masks, which learn from each other. The authors use 0.2 and more masks.
    label_prior_scale
        Power of the label priors that the posteriors are divided by in the CTC loss: above 0, spikes are wider and
        times are better.
    init
        System trained with CTC from whose weights training starts, as far as they fit: a run or model folder, or a
        shipped model's name. Labels that it lacks start as those that are articulated most like them, where panphon is
        installed. Null starts anew.
    freeze
        Layers, counted from the input, whose weights stay as they start; 0 trains all.
    layer_decay
        Factor of the learning rate from each layer to the one below, above 0 and up to 1: at 0.5 the highest layer
        below the output learns half as fast as the output layer, the next a quarter as fast.
    initialiser
        How new weights start: ``default`` (PyTorch's), ``zeros``, ``normal``, ``xavier``, ``he``, ``orthogonal`` or
        ``rbm`` (docs/theory/recurrent.md).
    alignments
        System of the same recipe, or its run folder, whose HMM alignments are the targets. Null trains with CTC, or
        GMM-HMMs from a flat start.
    average
        Decay, an update, of the moving average of the weights, which is what is scored and kept; 0 keeps the weights
        themselves.
    precision
        ``32-true`` or ``bf16-mixed``.
    devices
        Processes to start on this machine, each with a device or, without a GPU, on the processor. Above 1 they share
        each batch (DistributedDataParallel), so that they learn what one would. Left out where torchrun or srun starts
        them.
    accelerator
        ``auto``, ``cpu`` or ``gpu``.
    checkpoint_minutes
        Minutes between checkpoints within an epoch, so that a killed run loses little.
    """

    max_epochs: int = 20
    patience: int = 0
    learning_rate: float = 1e-3
    warmup: float = 0.05
    final_learning_rate: float = 1e-5
    weight_decay: float = 1e-6
    gradient_clip: float = 1.0
    weight_noise: float = 0.0
    criterion: CriterionConfig = field(default_factory=CriterionConfig)
    consistency: float = 0.0
    label_prior_scale: float = 0.0
    init: str | None = None
    freeze: int = 0
    layer_decay: float = 1.0
    initialiser: str = "default"
    alignments: str | None = None
    average: float = 0.0
    precision: str = "32-true"
    devices: int = 1
    accelerator: str = "auto"
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        for name in ("max_epochs", "learning_rate", "gradient_clip", "devices", "checkpoint_minutes"):
            check(getattr(self, name) > 0, f"train.{name}", "be positive", getattr(self, name))
        least = "freeze", "patience", "final_learning_rate", "weight_decay", "weight_noise"
        for name in (*least, "consistency", "label_prior_scale"):
            check(getattr(self, name) >= 0, f"train.{name}", "be 0 or more", getattr(self, name))
        fits = self.criterion.name == "ctc" or (self.label_prior_scale == 0 and self.alignments is None)
        check(fits, "train.criterion.name", "be ctc with label priors or alignments", self.criterion.name)
        check(0 <= self.warmup < 1, "train.warmup", "lie in 0..1", self.warmup)
        check(0 < self.layer_decay <= 1, "train.layer_decay", "lie above 0 and up to 1", self.layer_decay)
        check(0 <= self.average < 1, "train.average", "lie in 0..1", self.average)
        names = ("default", "zeros", "normal", "xavier", "he", "orthogonal", "rbm")
        one_of("train.initialiser", self.initialiser, names)
        one_of("train.precision", self.precision, PRECISIONS)
        one_of("train.accelerator", self.accelerator, ("auto", "cpu", "gpu"))


@dataclass(frozen=True)
class DecodeConfig:
    """How emissions become phones or words.

    Attributes
    ----------
    beam_size
        Hypotheses that the beam search of a CTC or attention system keeps; 1 takes the best path.
    nbest
        Hypotheses to return, 1 to `beam_size`.
    beam
        Beam of an HMM's Viterbi search: nats below the best state, multiplied by `lm_weight` where that is above 1.
    lm
        Language model over phones or words for a CTC system: a folder of `asr lm train` or an ARPA file.
    lexicon
        Pronunciations for a language model over words: ``cmudict``, or a file with a word and its phones on each line.
    hints
        Words and phrases to expect in a search for words: a list of them, or of paths of files with one on each line. A
        word may be followed by a tab and its phones.
    hint_bonus
        Nats that each word of a hint adds to the score of a sentence in which the whole hint is said.
    lm_weight
        Weight of the language model. `asr tune` finds it for CTC, training finds it for an HMM's bigram; both use the
        dev speakers.
    insertion_penalty
        Nats that each phone costs, or each word where the language model is over words; found like `lm_weight`.
    label_prior_scale
        Exponent of the priors by which a CTC system's posteriors are divided before each beam search, 0 or more; found
        like `lm_weight`. Most frames are blanks, and a network is surer of them, and of common phones, than a language
        model wants it to be. The priors are those that `asr calibrate` finds. The best path, times and confidences do
        without them.
    unknown
        How words appear that a language model over words does not know, always in brackets: ``spelling``, as they are
        probably written, or ``phones``, as they sound. Words with phones that are not ARPAbet's 39 appear as phones.
    rescore_lm
        Second language model for a CTC system, which reorders the hypotheses of the beam: for words the best ten.
    rescore_weight
        Weight of `rescore_lm`; found like `lm_weight`, with `rescored_lm_weight`.
    rescored_lm_weight
        Weight of `lm` when the hypotheses are reordered, in place of `lm_weight`, which finds them. Null keeps that.
    """

    beam_size: int = 16
    nbest: int = 1
    beam: float = 12.0
    lm: str | None = None
    lexicon: str = "cmudict"
    hints: tuple[str, ...] = ()
    hint_bonus: float = 4.0
    lm_weight: float = 1.0
    insertion_penalty: float = 0.0
    label_prior_scale: float = 0.0
    unknown: str = "spelling"
    rescore_lm: str | None = None
    rescore_weight: float = 0.5
    rescored_lm_weight: float | None = None

    def __post_init__(self) -> None:
        check(self.beam > 0, "decode.beam", "be positive", self.beam)
        check(not isinstance(self.hints, str), "decode.hints", "be a list", self.hints)
        check(0 <= self.hint_bonus < math.inf, "decode.hint_bonus", "be 0 or more and finite", self.hint_bonus)
        for name in ("lm_weight", "rescore_weight", "label_prior_scale"):
            check(getattr(self, name) >= 0, f"decode.{name}", "be 0 or more", getattr(self, name))
        fits = self.rescored_lm_weight is None or self.rescored_lm_weight >= 0
        check(fits, "decode.rescored_lm_weight", "be 0 or more, or null", self.rescored_lm_weight)
        one_of("decode.unknown", self.unknown, ("spelling", "phones"))
        check(self.beam_size >= 1, "decode.beam_size", "be 1 or more", self.beam_size)
        check(1 <= self.nbest <= self.beam_size, "decode.nbest", f"lie in 1..beam_size ({self.beam_size})", self.nbest)


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole run, or with `seeds` several that differ in nothing else.

    Attributes
    ----------
    seed
        Seed of weights, batches and augmentation; an integer from 0.
    seeds
        Seeds to train one system with each; the mean and the spread of their error rates are reported.
    data, features, conditions, spec_augment, train, decode
        The sections.
    model
        The name of an encoder family, or ``gmm_hmm``, and the options of its own dataclass; without the section,
        ``blstm``.
    """

    seed: int = 1
    seeds: tuple[int, ...] = ()
    data: DataConfig
    features: FeatureConfig = field(default_factory=FeatureConfig)
    conditions: ConditionsConfig = field(default_factory=ConditionsConfig)
    spec_augment: SpecAugmentConfig = field(default_factory=SpecAugmentConfig)
    model: dict[str, Any]
    train: TrainConfig = field(default_factory=TrainConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        check(self.seed >= 0, "seed", "be an integer from 0", self.seed)
        different = len(set(self.seeds)) == len(self.seeds) != 1 and all(seed >= 0 for seed in self.seeds)
        check(different, "seeds", "be a list of two or more different integers from 0", list(self.seeds))
        bare = self.features.kind == "fbank" and self.features.delta_order == 0 and not self.features.use_energy
        fits = bare or self.conditions == ConditionsConfig()
        check(fits, "conditions", "stay out unless features are fbank, delta_order 0, no energy", self.conditions)


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a recipe's YAML and apply dotted overrides.

    Parameters
    ----------
    path
        The YAML file, such as ``recipes/mini/blstm_ctc.yaml``.
    overrides
        Items such as ``train.max_epochs=3``.

    Returns
    -------
    Config
        Validated and frozen.

    Raises
    ------
    ConfigError
        The file is missing or not YAML; a key is unknown; a value has the wrong type or lies out of range.
    """
    with read_from(path, overrides):
        return from_dict(read(path, overrides))


def with_corpora_in(config: Config, folder: Path) -> Config:
    """Return a configuration whose corpora without a folder lie in `folder`, as `places_in` says.

    >>> config = from_dict({"data": {"corpora": {"timit": None}}})
    >>> with_corpora_in(config, Path("/speech")).data.corpora["timit"]
    '/speech'
    """
    return replace(config, data=replace(config.data, corpora=places_in(config.data.corpora, folder)))


def places_in(corpora: dict[str, str | None], folder: Path) -> dict[str, str | None]:
    """Return corpora in which each without a folder lies in the subfolder of its name, or in `folder` itself.

    >>> places_in({"timit": None, "mini": "here"}, Path("/speech"))
    {'timit': '/speech', 'mini': 'here'}
    """
    return {
        name: place or str(folder / name if (folder / name).is_dir() else folder) for name, place in corpora.items()
    }


def found_beside(config: Config, run: Path) -> Config:
    """Return a configuration in which the systems and language models that `train` names are folders near `run`.

    >>> config = from_dict({"data": {"corpora": {"mini": None}}, "train": {"alignments": "gmm_hmm"}})
    >>> found_beside(config, Path("runs/mini/blstm_hmm")).train.alignments
    'runs/mini/gmm_hmm'
    """

    def beside(name: str | None, folder: Path) -> str | None:
        return (folder / name).as_posix() if name is not None and Path(name).name == name else name

    train, criterion = config.train, config.train.criterion
    criterion = replace(criterion, lm=beside(criterion.lm, run.parent / "lm"))
    return replace(config, train=replace(train, alignments=beside(train.alignments, run.parent), criterion=criterion))


def from_dict(values: dict[str, Any]) -> Config:
    """Validate nested plain values as a Config.

    >>> from_dict({"data": {"corpora": {"mini": None}}, "seed": 3}).seed
    3
    """
    values = {"model": {"name": "blstm"}} | values
    model = values["model"]
    check(isinstance(model, dict) and "name" in model, "model", "hold a name and the options of that encoder", model)
    empty = {name for name, kind in types_of(Config).items() if is_dataclass(kind) and values.get(name) is None}
    return section("", Config, values | {name: {} for name in empty})


def each_seed(config: Config, run: Path) -> dict[Path, Config]:
    """Return the configuration of each run folder: that of the run, or with `seeds` one folder in it for each seed.

    >>> config = from_dict({"data": {"corpora": {"mini": None}}, "seeds": [1, 5]})
    >>> {path.as_posix(): each.seed for path, each in each_seed(config, Path("runs/a")).items()}
    {'runs/a/seed-1': 1, 'runs/a/seed-5': 5}
    """
    if not config.seeds:
        return {run: config}
    return {run / f"seed-{seed}": replace(config, seed=seed, seeds=()) for seed in config.seeds}


def to_dict(config: Config) -> dict[str, Any]:
    """Return a Config as nested plain values, ready for YAML or JSON.

    >>> to_dict(from_dict({"data": {"corpora": {"mini": None}}}))["decode"]["beam_size"]
    16
    """
    values = OmegaConf.to_container(OmegaConf.structured(config), resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def to_yaml(config: Config) -> str:
    """Return a Config as YAML text that `load` reads back to the same Config."""
    return OmegaConf.to_yaml(OmegaConf.create(to_dict(config)))
