"""Folders of language models: ``lm.json``, ``model.safetensors`` and a card. Loading runs no code from a folder."""

import json
from pathlib import Path

from asr.core.errors import ModelError
from asr.core.files import read_tensors, write_json, write_tensors, write_text
from asr.lm import arpa
from asr.lm.language_model import EDGE, LanguageModel
from asr.lm.ngram import NGram
from asr.lm.text import UNITS

ABOUT, WEIGHTS = "lm.json", "model.safetensors"


def save(folder: Path, lm: LanguageModel, card: str) -> None:
    """Write a model's folder; each file is first written under a temporary name."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = "ngram" if isinstance(lm, NGram) else "recurrent"
    write_json(folder / ABOUT, {"kind": kind, "unit": lm.unit, "options": lm.options(), "tokens": list(lm.tokens)})
    write_text(folder / "README.md", card)
    write_tensors(folder / WEIGHTS, lm.arrays())


def load(path: str | Path, unit: str = "words") -> LanguageModel:
    """Read a run or model folder, or an ARPA file.

    Parameters
    ----------
    path
        The folder or file.
    unit
        Unit of an ARPA file's tokens; a folder states its own.

    Raises
    ------
    ModelError
        There is no model, or one of its files is missing or damaged.
    """
    path = Path(path)
    if path.is_file():
        return arpa.read(path, unit)
    folder = path / "model" if (path / "model" / ABOUT).is_file() else path
    if not (folder / ABOUT).is_file():
        raise ModelError(f"no language model at {path}: give a run or model folder of `asr lm train`, or an ARPA file")
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf8"))
        tokens = tuple(about["tokens"])
        if tokens[0] != EDGE or about["unit"] not in UNITS or len(set(tokens)) != len(tokens):
            raise ValueError(f"{ABOUT} names no unit, or its tokens are not what they were")
        arrays, _ = read_tensors(folder / WEIGHTS)
        return _kind(about["kind"]).restore(about["unit"], tokens, about["options"], arrays)
    except (OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise ModelError(f"{folder} is damaged ({reason}): copy the whole folder again, or train again") from error


def _kind(name: str) -> type[LanguageModel]:
    """Return the class that a folder names; torch is imported only for a recurrent model."""
    if name == "ngram":
        return NGram
    if name != "recurrent":
        raise ValueError(f"{ABOUT}: no kind {name!r}")
    from asr.lm.recurrent_lm import RecurrentLM

    return RecurrentLM
