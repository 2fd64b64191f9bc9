"""Word models: a language model over words with its lexicon, and what suits it best with an acoustic model.

Beside the language model (`asr.lm.folder`) a folder may hold

=============== ======================================================================================================
``lexicon.txt`` its lexicon, as `asr.lm.lexicon.Lexicon.read` reads it; without it CMUdict is the lexicon
``words.json``  by the name of each acoustic model that it was tuned with: ``decode``, settings of the search, and
                ``posteriors`` and ``probabilities``, the map of words' confidences (`asr.models.calibration`)
=============== ======================================================================================================

An acoustic model that is not named takes what the first one has, and a folder without ``words.json``, or an ARPA file,
takes the settings of the shipped model, but for rescoring: of two models over words both need about the same weights.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.core import files
from asr.core.config import DecodeConfig
from asr.core.errors import ConfigError, ModelError
from asr.core.settings import section
from asr.lm.folder import LEXICON, locate
from asr.lm.search import find, language_model
from asr.models.calibration import Calibration

DEFAULT = "en-us-words"
SETTINGS = "words.json"
KEYS = ("decode", "posteriors", "probabilities")  # of an acoustic model


@dataclass(frozen=True)
class WordModel:
    """How an acoustic model is to search for words.

    Attributes
    ----------
    decode
        Settings of `DecodeConfig`: the language model and the lexicon, and what was tuned.
    calibration
        The map from geometric means of phones' confidences to confidences of words.
    """

    decode: Mapping[str, Any]
    calibration: Calibration = field(default_factory=Calibration)

    @classmethod
    def load(cls, name: str | Path, acoustic: str) -> "WordModel":
        """Read what a word model's folder holds for an acoustic model; the language model itself is not read.

        Parameters
        ----------
        name
            A run or model folder, an ARPA file, or the name of a shipped model.
        acoustic
            Name of the acoustic model.

        Raises
        ------
        ModelError
            The model is the shipped one, and is not there; or its settings are damaged.
        """
        path = find(name)
        if name == DEFAULT and not path.exists():
            raise ModelError(f"{DEFAULT} is not part of this install: name a language model over words (--lm FOLDER)")
        folder = locate(path)
        decode: dict[str, Any] = {"lm": str(path)}
        if (folder / LEXICON).is_file():
            decode["lexicon"] = str(folder / LEXICON)
        tuned = _read(folder)
        others = tuned or _read(find(DEFAULT))
        if not others:
            return cls(decode)
        of_model = others.get(acoustic) or next(iter(others.values()))
        if not tuned:
            of_model = cls({key: value for key, value in of_model.decode.items() if "rescore" not in key})
        return cls({**of_model.decode, **decode}, of_model.calibration)

    def check(self, labels: Sequence[str]) -> None:
        """Read the language model.

        Raises
        ------
        AsrError
            It is missing, damaged, or not over words.
        """
        unit = language_model(self.decode["lm"], tuple(labels)).unit
        if unit != "words":
            raise ConfigError(f"{self.decode['lm']} is over {unit}: words need a language model over words")

    def store(self, folder: Path, acoustic: str) -> None:
        """Write settings and map into a word model's folder; those of other acoustic models stay."""
        tuned = _read(folder) | {acoustic: self}
        values = {
            name: {
                "decode": dict(each.decode),
                "posteriors": each.calibration.posteriors,
                "probabilities": each.calibration.probabilities,
            }
            for name, each in tuned.items()
        }
        files.write_json(folder / SETTINGS, values)


def _read(folder: Path) -> dict[str, WordModel]:
    """Return what a folder holds by the names of acoustic models; nothing without the file.

    Raises
    ------
    ModelError
        The file is damaged.
    """
    path = folder / SETTINGS
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf8"))
        if not isinstance(entries, dict):
            raise ValueError("it has no names of acoustic models")
        return {name: _of(name, entry) for name, entry in entries.items()}
    except (ConfigError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"{path} is damaged ({error}): copy the folder again, or delete the file") from error


def _of(name: str, entry: Any) -> WordModel:
    """Return what the entry of an acoustic model holds.

    Raises
    ------
    ConfigError, TypeError, ValueError
        It is not what `WordModel.store` writes.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"{name!r} must have {', '.join(KEYS)}, but it is {entry!r}")
    for key in KEYS:
        if key not in entry:
            raise ValueError(f"{name!r} has no {key!r}")
    for key in entry:
        if key not in KEYS:
            raise ValueError(f"{name!r} has the unknown key {key!r}")
    section("decode", DecodeConfig, entry["decode"])
    for key in KEYS[1:]:
        if not isinstance(entry[key], list):
            raise ValueError(f"the {key} of {name!r} must be a list, but they are {entry[key]!r}")
    points = {key: entry[key] for key in KEYS[1:]}
    return WordModel(entry["decode"], Calibration.of({**points, "boundary_offset": 0.0}))
