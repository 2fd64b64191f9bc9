"""The configuration of a language model: text, model, training; read as in asr/core/config.py."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from asr.core.config import PRECISIONS, places_in
from asr.core.errors import ConfigError
from asr.core.settings import check, full_names, one_of, read, read_from, section, types_of, unknown
from asr.lm.estimation import SMOOTHINGS
from asr.lm.text import UNITS

CELLS = ("elman", "gru", "lstm")


@dataclass(frozen=True)
class TextConfig:
    """The text that is learnt: transcripts of corpora, a text file, or both.

    Attributes
    ----------
    corpora
        Corpora whose training speakers' transcripts are learnt, each with its folder; null as in `data.corpora`.
    manifests
        Folder of the prepared manifests.
    text
        A UTF-8 file with a sentence on each line.
    dev_text
        Held-out text, in the same form. Without it, the transcripts of the corpora's dev speakers are held out; where
        there are no corpora, every 20th line of `text` is.
    unit
        ``phones``, ``characters`` or ``words``.
    labels
        The phone set, where the unit is phones.
    lowercase
        Whether the text of the file is put into lower case. Transcripts always are, and lose their punctuation.
    open_vocabulary
        Whether there is a token for everything unknown.
    min_count
        With an open vocabulary, tokens that occur fewer times than this count as unknown.
    max_words
        With an open vocabulary, all but so many of the most frequent tokens count as unknown.
    vocabulary
        A UTF-8 file with all tokens of the vocabulary, in place of those of the text.
    """

    corpora: dict[str, str | None] = field(default_factory=dict)
    manifests: str = "data"
    text: str | None = None
    dev_text: str | None = None
    unit: str = "phones"
    labels: str = "arpabet39"
    lowercase: bool = False
    open_vocabulary: bool = False
    min_count: int = 1
    max_words: int | None = None
    vocabulary: str | None = None

    def __post_init__(self) -> None:
        one_of("text.unit", self.unit, UNITS)
        check(bool(self.corpora or self.text), "text", "name corpora or a text file", None)
        check(self.min_count >= 1, "text.min_count", "be 1 or more", self.min_count)
        fits = self.min_count == 1 or self.open_vocabulary
        check(fits, "text.min_count", "be 1 without text.open_vocabulary", self.min_count)
        fits = self.max_words is None or (self.max_words >= 1 and self.open_vocabulary)
        check(fits, "text.max_words", "be 1 or more, and left out without text.open_vocabulary", self.max_words)
        fits = self.vocabulary is None or (self.min_count == 1 and self.max_words is None and self.unit != "phones")
        needs = "be left out with text.min_count and text.max_words, and for phones, which text.labels lists"
        check(fits, "text.vocabulary", needs, self.vocabulary)


@dataclass(frozen=True)
class NGramConfig:
    """The `model` section of an n-gram.

    Attributes
    ----------
    order
        n, the number of tokens in the longest n-gram.
    smoothing
        ``kneser_ney``, or ``witten_bell`` for little text.
    min_counts
        For each length, n-grams that occur fewer times than this are left out; the last one holds for longer n-grams,
        too. [1, 1, 2] leaves out what occurs once of three tokens and more, as KenLM's --prune 0 0 1 does.
    """

    order: int = 3
    smoothing: str = "kneser_ney"
    min_counts: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        one_of("model.smoothing", self.smoothing, SMOOTHINGS)
        check(self.order >= 1, "model.order", "be 1 or more", self.order)
        counts = list(self.min_counts)
        fits = counts[:1] == [1] and counts == sorted(counts) and len(counts) <= self.order
        needs = f"be at most {self.order} counts, the first one 1, none less than the one before"
        check(fits, "model.min_counts", needs, counts)


@dataclass(frozen=True)
class RecurrentConfig:
    """The `model` section of a recurrent language model.

    Attributes
    ----------
    cell
        ``elman``, ``gru`` or ``lstm``.
    num_layers
        Recurrent layers.
    embedding_size
        E, the size of a token's embedding.
    hidden_size
        H, units of each layer.
    dropout
        Probability of dropping a unit of the embeddings, between layers and before the output layer.
    tied
        Whether the weights of the output layer are the embeddings.
    """

    cell: str = "lstm"
    num_layers: int = 1
    embedding_size: int = 128
    hidden_size: int = 256
    dropout: float = 0.2
    tied: bool = True

    def __post_init__(self) -> None:
        one_of("model.cell", self.cell, CELLS)
        for name in ("num_layers", "embedding_size", "hidden_size"):
            check(getattr(self, name) > 0, f"model.{name}", "be positive", getattr(self, name))
        check(0 <= self.dropout < 1, "model.dropout", "lie in 0..1", self.dropout)


@dataclass(frozen=True)
class LmTrainConfig:
    """Optimisation of a recurrent language model.

    Attributes
    ----------
    max_epochs
        Passes over the text.
    learning_rate
        Peak of the learning rate, which then falls along a cosine.
    batch_tokens
        Tokens in a batch.
    gradient_clip
        Largest global norm of a gradient.
    weight_decay
        Of AdamW.
    window
        Tokens in each piece of text that is trained on, whatever the sentences. With 0, pieces are whole sentences.
    epoch_tokens
        Tokens in an epoch, which are then other pieces of a large text each time, at random. With 0, all of the text.
    sampled_tokens
        With so many tokens, drawn anew for each batch as often as the text has them, each next token is compared in
        training; with 0, with the whole vocabulary, which takes long if it is large.
    precision
        ``32-true``, or ``bf16-mixed``: products in bfloat16, which processors with AVX-512 BF16 or AMX compute faster.
    """

    max_epochs: int = 20
    learning_rate: float = 2e-3
    batch_tokens: int = 4000
    gradient_clip: float = 1.0
    weight_decay: float = 1e-4
    window: int = 0
    epoch_tokens: int = 0
    sampled_tokens: int = 0
    precision: str = "32-true"

    def __post_init__(self) -> None:
        one_of("train.precision", self.precision, PRECISIONS)
        for name in ("max_epochs", "learning_rate", "batch_tokens", "gradient_clip"):
            check(getattr(self, name) > 0, f"train.{name}", "be positive", getattr(self, name))
        for name in ("weight_decay", "window", "epoch_tokens", "sampled_tokens"):
            check(getattr(self, name) >= 0, f"train.{name}", "be 0 or more", getattr(self, name))


@dataclass(frozen=True)
class LmConfig:
    """A whole language model.

    Attributes
    ----------
    text
        What is learnt.
    model
        Its kind and size.
    train
        Optimisation of a recurrent model; a recipe of an n-gram has no such section.
    seed
        Seed of weights and batches.
    """

    text: TextConfig
    model: NGramConfig | RecurrentConfig
    train: LmTrainConfig
    seed: int = 1


MODELS: dict[str, type] = {"ngram": NGramConfig, "recurrent": RecurrentConfig}


def load(path: str | Path, overrides: Sequence[str] = ()) -> LmConfig:
    """Read a language model's YAML and apply dotted overrides.

    Raises
    ------
    ConfigError
        The file is missing or not YAML; a key is unknown; a value has the wrong type or lies out of range.
    """
    with read_from(path, overrides):
        return from_dict(read(path, overrides))


def from_dict(values: dict[str, Any]) -> LmConfig:
    """Validate nested plain values.

    >>> from_dict({"text": {"text": "a.txt"}, "model": {"name": "ngram", "order": 2}}).model.order
    2
    """
    sections = types_of(LmConfig)
    for key in sorted(values.keys() - sections.keys()):
        raise unknown(key, values[key], [*full_names("", LmConfig)], "the sections are", [*sections])
    model = values.get("model") or {}
    check(isinstance(model, dict), "model", "hold a name and the options of that model", model)
    model = dict(model)
    name = model.pop("name", None)
    check(name in MODELS, "model.name", f"be one of {', '.join(MODELS)}", name)
    seed = values.get("seed", 1)
    check(isinstance(seed, int) and seed >= 0, "seed", "be an integer from 0", seed)
    train = values.get("train") or {}
    if name == "ngram" and train:
        raise ConfigError("train belongs to recurrent models: an n-gram is counted", "train")
    text = section("text", TextConfig, values.get("text") or {})
    rare = text.min_count > 1 or text.max_words is not None or text.vocabulary is not None
    fits = name == "ngram" or not text.open_vocabulary or rare
    check(fits, "text.min_count", "be 2 or more, or a recurrent model never meets an unknown token", text.min_count)
    return LmConfig(
        text,
        section("model", MODELS[name], model),
        section("train", LmTrainConfig, train),
        seed,
    )


def to_dict(config: LmConfig) -> dict[str, Any]:
    """Return plain values that `from_dict` reads back to the same configuration."""
    values = asdict(config)
    name = next(name for name, kind in MODELS.items() if isinstance(config.model, kind))
    values["model"] = {"name": name} | values["model"]
    if name == "ngram":
        del values["train"]
    return values


def with_corpora_in(config: LmConfig, folder: Path) -> LmConfig:
    """Look for the corpora that have no folder yet in `folder`."""
    text = replace(config.text, corpora=places_in(config.text.corpora, folder))
    return replace(config, text=text)
