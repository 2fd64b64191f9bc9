"""Settings: plain values become dataclasses, and a fault names the setting that is wrong, and perhaps the right one.

Values come from a YAML file and from words on the command line such as ``train.max_epochs=3``. A setting that is wrong
in the file is named together with the file.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from asr.core.errors import ConfigError

T = TypeVar("T")
ALIKE = 0.6  # how much of two names must agree before one is taken for a mistyped other


def check(condition: bool, key: str, requirement: str, value: object) -> None:
    """Raise ConfigError unless a value meets its requirement.

    >>> check(0.5 < 1, "model.dropout", "be below 1", 0.5)
    """
    if not condition:
        raise ConfigError(f"{key} must {requirement}, but it is {value!r}", key)


def one_of(key: str, value: str, choices: Sequence[str]) -> None:
    """Raise ConfigError unless a value is one of the choices.

    >>> one_of("features.kind", "mfcc", ("fbank", "mfcc"))
    """
    check(value in choices, key, f"be one of {', '.join(choices)}", value)


def read(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the sections of a YAML file as plain values, with dotted overrides applied.

    Raises
    ------
    ConfigError
        The file is missing or not YAML, or an override is not of the form ``section.key=value``.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"no file {path}; the recipes stand in recipes/<recipe>/<system>.yaml")
    try:
        recipe = OmegaConf.load(path)
        if not OmegaConf.is_dict(recipe):
            raise ConfigError(f"{path} must hold sections such as 'data:' and 'model:'")
        for item in overrides:
            recipe = _changed(recipe, item, path)
        values = OmegaConf.to_container(recipe, resolve=True, throw_on_missing=True)
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {_first_line(error)}") from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _changed(recipe: Any, item: str, path: Path) -> Any:
    """Return a recipe with an override applied."""
    if "=" not in item.lstrip("="):
        raise ConfigError(f"{item!r} is not of the form section.key=value")
    key = item.partition("=")[0]
    try:
        if key.endswith(".corpora"):  # given as a whole: those of the file are meant no more
            OmegaConf.update(recipe, key, {}, merge=False)
        return OmegaConf.merge(recipe, OmegaConf.from_dotlist([item]))
    except TypeError as error:  # OmegaConf names no key
        raise ConfigError(f"{item}: a list where {path} has keys and values") from error
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        reason = error.problem if isinstance(error, MarkedYAMLError) else _first_line(error)
        raise ConfigError(f"cannot read {item!r}: {reason}") from error


def _first_line(error: Exception) -> str:
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error).strip().splitlines()[0]


@contextmanager
def read_from(path: str | Path, overrides: Sequence[str]) -> Iterator[None]:
    """Name a file in front of a fault of its settings; a fault of an override has no file.

    >>> with read_from("mine.yaml", ["decode.nbest=0"]):
    ...     check(False, "train.warmup", "lie in 0..1", 2)
    Traceback (most recent call last):
    ...
    asr.core.errors.ConfigError: mine.yaml: train.warmup must lie in 0..1, but it is 2
    """
    try:
        yield
    except ConfigError as error:
        names = [item.partition("=")[0] for item in overrides]
        given = any(f"{name}.".startswith(f"{error.key}.") or error.key.startswith(f"{name}.") for name in names)
        if given or not error.key:
            raise
        raise ConfigError(f"{path}: {error}", error.key) from error


def section(name: str, cls: type[T], values: dict[str, Any]) -> T:
    """Build a section's dataclass, and those within it, from plain values.

    Parameters
    ----------
    name
        Of the section, for errors; empty for a whole configuration.
    cls
        The dataclass.
    values
        Some of its fields; the others take their defaults.

    Raises
    ------
    ConfigError
        A key is unknown, or a value has the wrong type or lies out of range; the message names the key.

    Examples
    --------
    >>> from asr.core.config import DecodeConfig
    >>> section("decode", DecodeConfig, {"beam_size": 4}).beam_size
    4
    """
    merged = _merged(cls, values) if isinstance(values, dict) else None
    if merged is None:
        raise next(_faults(name, cls, values, [*full_names(name, cls)]))
    return OmegaConf.to_object(merged)  # type: ignore[return-value]


def model_options(model: dict[str, Any], cls: type[T]) -> T:
    """Build the dataclass of what a `model` section holds beside the name.

    >>> from asr.core.config import DecodeConfig
    >>> model_options({"name": "anything", "beam_size": 4}, DecodeConfig).beam_size
    4
    """
    return section("model", cls, {key: value for key, value in model.items() if key != "name"})


def types_of(cls: type) -> dict[str, Any]:
    """Return the type of each field of a dataclass."""
    return {key: each.type for key, each in cls.__dataclass_fields__.items()}  # type: ignore[attr-defined]


def full_names(name: str, cls: type) -> Iterator[str]:
    """Yield the full name of each key of a section and of those within it."""
    for key, kind in types_of(cls).items():
        full = f"{name}.{key}" if name else key
        if isinstance(kind, type) and is_dataclass(kind):
            yield from full_names(full, kind)
        else:
            yield full


def _merged(cls: type, values: dict[str, Any]) -> Any:
    """Return a dataclass's defaults with some values put in; None where OmegaConf refuses one of them."""
    try:
        return OmegaConf.merge(OmegaConf.structured(cls), values)
    except (OmegaConfBaseException, TypeError):  # TypeError: a list for a mapping
        return None


def _faults(name: str, cls: type, values: Any, known: Sequence[str]) -> Iterator[ConfigError]:
    """Find what OmegaConf refuses, unknown keys first: its own errors do not always name the key."""
    if not isinstance(values, dict):
        yield ConfigError(f"{name} must be a section of keys and values, but it is {values!r}", name)
        return
    types, prefix = types_of(cls), f"{name}." if name else ""
    for key in sorted(values.keys() - types.keys()):
        yield unknown(f"{prefix}{key}", values[key], known, f"{name} has" if name else "the sections are", [*types])
    for key, value in values.items():
        kind = types[key]
        if isinstance(kind, type) and is_dataclass(kind):
            yield from _faults(f"{prefix}{key}", kind, value, known)
        elif _merged(cls, {key: value}) is None:
            wanted = kind.__name__ if isinstance(kind, type) else kind
            yield ConfigError(f"{prefix}{key} must be of type {wanted}, but it is {value!r}", f"{prefix}{key}")


def unknown(key: str, value: Any, known: Sequence[str], there: str, keys: Sequence[str]) -> ConfigError:
    """Return the error of a key that does not exist.

    Parameters
    ----------
    key, value
        Its full name, and what it was given.
    known
        The full names of keys that it may be a mistyped one of.
    there, keys
        Where it was looked for, and the keys that are there.

    Examples
    --------
    >>> unknown("trian", {"warmup": 0.1}, ["seed", "train.warmup"], "the sections are", ["seed", "train"])
    ConfigError("unknown key 'trian.warmup': did you mean train.warmup? the sections are seed, train")
    """
    while isinstance(value, dict) and value:
        inner, value = next(iter(value.items()))
        key = f"{key}.{inner}"
    right = _nearest(key, known)
    hint = ";" if right is None else f": did you mean {right}?"
    return ConfigError(f"unknown key '{key}'{hint} {there} {', '.join(keys)}", key)


def _nearest(key: str, known: Sequence[str]) -> str | None:
    """Return the known key whose last part is most like that of a mistyped key, in a like section if there are several.

    >>> _nearest("train.epochs", ["seed", "train.max_epochs", "lm.max_epochs"]), _nearest("train.x", ["train.warmup"])
    ('train.max_epochs', None)
    """
    from difflib import SequenceMatcher  # for a fault alone

    def likeness(other: str) -> tuple[float, float]:
        (section, _, leaf), (theirs, _, name) = key.rpartition("."), other.rpartition(".")
        return SequenceMatcher(None, leaf, name).ratio(), SequenceMatcher(None, section, theirs).ratio()

    best = max(known, key=likeness, default=None)
    return best if best is not None and likeness(best)[0] >= ALIKE else None
