"""The configuration of a run: one frozen dataclass a section, read from YAML and dotted overrides.

A recipe is a YAML file of plain data. `load` merges it over the defaults below, applies overrides such as
``train.max_epochs=3``, and rejects unknown keys and wrong types by name. The `model` section belongs to the encoder
that it names: `asr.encoders` validates its other keys against that encoder's own dataclass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from asr.core.errors import ConfigError


def check(condition: bool, key: str, requirement: str, value: object) -> None:
    """Raise ConfigError unless a value meets its requirement.

    >>> check(0.5 < 1, "model.dropout", "be below 1", 0.5)
    """
    if not condition:
        raise ConfigError(f"config: {key} must {requirement}, but it is {value!r}")


def one_of(key: str, value: str, choices: Sequence[str]) -> None:
    """Raise ConfigError unless a value is one of the choices.

    >>> one_of("features.kind", "mfcc", ("fbank", "mfcc"))
    """
    check(value in choices, key, f"be one of {', '.join(choices)}", value)


@dataclass(frozen=True)
class FeatureConfig:
    """Acoustic features at a 10 ms shift; the defaults are the 123 values of Graves (2013)."""

    kind: str = "fbank"  # fbank | mfcc
    num_mel_bins: int = 40
    num_ceps: int = 13  # mfcc only
    use_energy: bool = True
    delta_order: int = 2  # 0: statics only, 1: with Δ, 2: with Δ and ΔΔ
    cmvn: str = "utterance"  # global | speaker | utterance | none

    def __post_init__(self) -> None:
        one_of("features.kind", self.kind, ("fbank", "mfcc"))
        one_of("features.cmvn", self.cmvn, ("global", "speaker", "utterance", "none"))
        check(4 <= self.num_mel_bins <= 128, "features.num_mel_bins", "lie in 4..128", self.num_mel_bins)
        fits = self.kind != "mfcc" or 1 <= self.num_ceps <= self.num_mel_bins
        check(fits, "features.num_ceps", "lie in 1..num_mel_bins", self.num_ceps)
        check(self.delta_order in (0, 1, 2), "features.delta_order", "be 0, 1 or 2", self.delta_order)


@dataclass(frozen=True)
class DataConfig:
    """Which corpora, which phones, and how utterances become batches."""

    corpora: dict[str, str | None] = field(default_factory=dict)  # name → folder; null: synthesise or download it
    manifests: str = "data"  # prepared manifests and cached features go to <manifests>/<corpus>
    labels: str = "arpabet39"  # the phone set that the model emits
    scoring: str = "arpabet39"  # the phone set that error rates are counted in
    cache_features: bool = True  # false: compute them anew in each epoch, which takes time and saves space on the disk
    max_frames: int = 8000  # 10 ms frames a batch, padding included
    num_buckets: int = 20
    max_duration: float = 25.0  # longer training utterances, in seconds, are left out
    speeds: tuple[float, ...] = (1.0,)  # speed perturbation: one of these for each utterance and epoch

    def __post_init__(self) -> None:
        check(len(self.corpora) > 0, "data.corpora", "name at least one corpus", dict(self.corpora))
        check(self.max_frames > 0, "data.max_frames", "be positive", self.max_frames)
        check(self.num_buckets > 0, "data.num_buckets", "be positive", self.num_buckets)
        check(self.max_duration > 0, "data.max_duration", "be positive", self.max_duration)
        check(
            len(self.speeds) > 0 and all(0.5 <= s <= 2 for s in self.speeds),
            "data.speeds",
            "be factors in 0.5..2",
            list(self.speeds),
        )


@dataclass(frozen=True)
class SpecAugmentConfig:
    """SpecAugment (Park et al. 2019) on training features: masked bands and spans take the mean, which is 0."""

    num_freq_masks: int = 0
    max_freq_width: int = 8  # mel bins
    num_time_masks: int = 0
    max_time_width: int = 30  # 10 ms frames
    max_time_share: float = 0.1  # of the utterance, for one mask

    def __post_init__(self) -> None:
        for name in ("num_freq_masks", "max_freq_width", "num_time_masks", "max_time_width"):
            check(getattr(self, name) >= 0, f"spec_augment.{name}", "be 0 or more", getattr(self, name))
        check(0 <= self.max_time_share <= 1, "spec_augment.max_time_share", "lie in 0..1", self.max_time_share)


@dataclass(frozen=True)
class ConditionsConfig:
    """Voices, rooms, noises and lines given to training utterances (`asr.data.augmentation`): log mel only."""

    max_warp: float = 0.0  # of the mel scale, either way: 0.1 is another vocal tract, shorter or longer by a tenth
    reverb: float = 0.0  # share of the utterances in a room
    noise: float = 0.0  # share with noise
    telephone: float = 0.0  # share from 300 to 3400 Hz

    def __post_init__(self) -> None:
        check(0 <= self.max_warp <= 0.3, "conditions.max_warp", "lie in 0..0.3", self.max_warp)
        for name in ("reverb", "noise", "telephone"):
            check(0 <= getattr(self, name) <= 1, f"conditions.{name}", "lie in 0..1", getattr(self, name))


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation. Training stops at `max_epochs`, or when dev PER has not fallen for `patience` epochs."""

    max_epochs: int = 20
    patience: int = 0  # 0: never stop early
    learning_rate: float = 1e-3  # peak
    warmup: float = 0.05  # share of all updates spent rising to the peak
    final_learning_rate: float = 1e-5  # end of the cosine
    weight_decay: float = 1e-6
    gradient_clip: float = 1.0  # global norm
    weight_noise: float = 0.0  # standard deviation, on the encoder's weights anew each step; Graves (2013): 0.075
    label_prior_scale: float = 0.0  # divide posteriors by priors to this power in the loss: wider spikes, better times
    initialiser: str = "default"  # or zeros, normal, xavier, he, orthogonal, rbm: docs/theory/recurrent.md
    alignments: str | None = None  # the system of the same recipe whose HMM alignments are the targets; null: CTC
    average: float = 0.0  # decay a step of the weights' moving average, which is scored and kept; 0: none
    precision: str = "32-true"  # or bf16-mixed
    devices: int = 1  # more than 1: DistributedDataParallel
    accelerator: str = "auto"
    checkpoint_minutes: float = 5.0  # also within an epoch, so that a killed run loses little

    def __post_init__(self) -> None:
        for name in ("max_epochs", "learning_rate", "gradient_clip", "devices", "checkpoint_minutes"):
            check(getattr(self, name) > 0, f"train.{name}", "be positive", getattr(self, name))
        for name in ("patience", "final_learning_rate", "weight_decay", "weight_noise", "label_prior_scale"):
            check(getattr(self, name) >= 0, f"train.{name}", "be 0 or more", getattr(self, name))
        check(0 <= self.warmup < 1, "train.warmup", "lie in 0..1", self.warmup)
        check(0 <= self.average < 1, "train.average", "lie in 0..1", self.average)
        names = ("default", "zeros", "normal", "xavier", "he", "orthogonal", "rbm")
        one_of("train.initialiser", self.initialiser, names)
        one_of("train.precision", self.precision, ("32-true", "bf16-mixed"))
        one_of("train.accelerator", self.accelerator, ("auto", "cpu", "gpu"))


@dataclass(frozen=True)
class DecodeConfig:
    """Decoding of the posteriors."""

    beam_size: int = 16  # of CTC's beam search, in hypotheses; 1: best path
    nbest: int = 1
    beam: float = 12.0  # of an HMM's Viterbi search: nats below the best state, times lm_weight where that is above 1
    lm: str | None = None  # for CTC: a language model over phones or words, a folder of `asr lm train` or an ARPA file
    lexicon: str = "cmudict"  # for one over words: or a file of a word and its phones a line
    lm_weight: float = 1.0  # `asr tune` finds it for CTC, and training for an HMM's bigram, both on the dev speakers
    insertion_penalty: float = 0.0  # nats a phone, or a word where the language model is over words; found likewise
    rescore_lm: str | None = None  # for CTC: another one, which puts the hypotheses of the beam into its own order
    rescore_weight: float = 0.5

    def __post_init__(self) -> None:
        check(self.beam > 0, "decode.beam", "be positive", self.beam)
        for name in ("lm_weight", "rescore_weight"):
            check(getattr(self, name) >= 0, f"decode.{name}", "be 0 or more", getattr(self, name))
        check(self.beam_size >= 1, "decode.beam_size", "be 1 or more", self.beam_size)
        check(1 <= self.nbest <= self.beam_size, "decode.nbest", "lie in 1..beam_size", self.nbest)


@dataclass(frozen=True)
class Config:
    """A whole run, or with `seeds` several that differ in nothing else."""

    seed: int = 1
    seeds: tuple[int, ...] = ()  # train one system with each, and report the mean and spread of their rates
    data: DataConfig = field(default_factory=DataConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    conditions: ConditionsConfig = field(default_factory=ConditionsConfig)
    spec_augment: SpecAugmentConfig = field(default_factory=SpecAugmentConfig)
    model: dict[str, Any] = field(default_factory=lambda: {"name": "blstm"})
    train: TrainConfig = field(default_factory=TrainConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        bare = self.features.kind == "fbank" and self.features.delta_order == 0 and not self.features.use_energy
        fits = bare or self.conditions == ConditionsConfig()
        check(fits, "conditions", "stay out unless features are fbank, delta_order 0, no energy", self.conditions)


_SECTIONS = {
    "data": DataConfig,
    "features": FeatureConfig,
    "conditions": ConditionsConfig,
    "spec_augment": SpecAugmentConfig,
    "train": TrainConfig,
    "decode": DecodeConfig,
}


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
    return from_dict(read(path, overrides))


def read(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the sections of a YAML file as plain values, dotted overrides applied.

    Raises
    ------
    ConfigError
        The file is missing or not YAML, or an override has no form.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"config: no file {path}; the recipes stand in recipes/<recipe>/<system>.yaml")
    for item in overrides:
        if "=" not in item.lstrip("="):
            raise ConfigError(f"config: override {item!r} is not of the form section.key=value")
    try:
        recipe = OmegaConf.load(path)
        if not OmegaConf.is_dict(recipe):
            raise ConfigError(f"config: {path} must hold sections such as 'data:' and 'model:'")
        raw = OmegaConf.merge(recipe, OmegaConf.from_dotlist(list(overrides)))
        values = OmegaConf.to_container(raw, resolve=True, throw_on_missing=True)
    except TypeError as error:  # OmegaConf names no key
        raise ConfigError(f"config: {' '.join(overrides)}: a list where {path} has keys and values") from error
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"config: cannot read {path}: {_first_line(error)}") from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def with_corpora_in(config: Config, folder: Path) -> Config:
    """Look for the corpora that have no folder yet in `folder`: each in the subfolder of its name, else in it itself.

    >>> config = from_dict({"data": {"corpora": {"timit": None}}})
    >>> with_corpora_in(config, Path("/speech")).data.corpora["timit"]
    '/speech'
    """
    return replace(config, data=replace(config.data, corpora=places_in(config.data.corpora, folder)))


def places_in(corpora: dict[str, str | None], folder: Path) -> dict[str, str | None]:
    """Return corpora with the folder of each that has none: the subfolder of its name, else `folder` itself.

    >>> places_in({"timit": None, "mini": "here"}, Path("/speech"))
    {'timit': '/speech', 'mini': 'here'}
    """
    return {
        name: place or str(folder / name if (folder / name).is_dir() else folder) for name, place in corpora.items()
    }


def align_beside(config: Config, run: Path) -> Config:
    """Return a configuration whose `train.alignments` is a run folder: of a system's name, that beside `run`.

    >>> config = from_dict({"data": {"corpora": {"mini": None}}, "train": {"alignments": "gmm_hmm"}})
    >>> align_beside(config, Path("runs/mini/blstm_hmm")).train.alignments
    'runs/mini/gmm_hmm'
    """
    name = config.train.alignments
    if name is None or Path(name).name != name:
        return config
    return replace(config, train=replace(config.train, alignments=(run.parent / name).as_posix()))


def from_dict(values: dict[str, Any]) -> Config:
    """Validate nested plain values as a Config.

    >>> from_dict({"data": {"corpora": {"mini": None}}, "seed": 3}).seed
    3
    """
    unknown = set(values) - set(_SECTIONS) - {"seed", "seeds", "model"}
    if unknown:
        known = ", ".join(["seed", "seeds", "model", *_SECTIONS])
        raise ConfigError(f"config: unknown key {min(unknown)!r}; the sections are {known}")
    sections = {name: section(name, cls, values.get(name) or {}) for name, cls in _SECTIONS.items()}
    seed, seeds = values.get("seed", 1), values.get("seeds") or []
    model = values.get("model", {"name": "blstm"})
    check(_is_seed(seed), "seed", "be an integer from 0", seed)
    different = isinstance(seeds, list) and all(map(_is_seed, seeds)) and len(set(seeds)) == len(seeds) != 1
    check(different, "seeds", "be a list of two or more different integers from 0", seeds)
    check(isinstance(model, dict) and "name" in model, "model", "hold a name and the options of that encoder", model)
    return Config(seed=seed, seeds=tuple(seeds), model=model, **sections)


def _is_seed(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def each_seed(config: Config, run: Path) -> dict[Path, Config]:
    """Return the run folders of a configuration: the run's own, or with `seeds` one within it for each.

    >>> config = from_dict({"data": {"corpora": {"mini": None}}, "seeds": [1, 5]})
    >>> {path.as_posix(): each.seed for path, each in each_seed(config, Path("runs/a")).items()}
    {'runs/a/seed-1': 1, 'runs/a/seed-5': 5}
    """
    if not config.seeds:
        return {run: config}
    return {run / f"seed-{seed}": replace(config, seed=seed, seeds=()) for seed in config.seeds}


def section(name: str, cls: type, values: dict[str, Any]) -> Any:
    """Build one section's dataclass from plain values, rejecting unknown keys and wrong types by name.

    >>> section("decode", DecodeConfig, {"beam_size": 4}).beam_size
    4
    """
    check(isinstance(values, dict), name, "be a section of keys and values", values)
    fields = cls.__dataclass_fields__  # type: ignore[attr-defined]
    for key in values:
        if key not in fields:
            raise ConfigError(f"config: unknown key '{name}.{key}'; {name} has {', '.join(fields)}")
    merged = _merged(cls, values)
    for key, value in values.items() if merged is None else ():
        if _merged(cls, {key: value}) is None:
            kind = fields[key].type
            wanted = kind.__name__ if isinstance(kind, type) else kind
            raise ConfigError(f"config: {name}.{key} must be of type {wanted}, but it is {value!r}")
    return OmegaConf.to_object(merged)


def _merged(cls: type, values: dict[str, Any]) -> Any:
    """Return a dataclass's defaults with some values put in; nothing where one of them has the wrong type."""
    try:
        return OmegaConf.merge(OmegaConf.structured(cls), values)
    except (OmegaConfBaseException, TypeError):  # TypeError: a list for a mapping
        return None


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


def _first_line(error: Exception) -> str:
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error).strip().splitlines()[0]
