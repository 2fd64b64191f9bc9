"""Folders of language models: ``lm.json``, ``model.safetensors`` and a card. Loading runs no code from a folder.

The arrays are mapped into memory: only what is used is read.
"""

import json
from pathlib import Path

from asr.core.errors import ModelError
from asr.core.files import map_tensors, write_tensors, write_text
from asr.lm.language_model import EDGE, LanguageModel
from asr.lm.ngram import NGram
from asr.lm.text import GRAPHONES, UNITS

ABOUT, WEIGHTS, CARD = "lm.json", "model.safetensors", "README.md"
LEXICON = "lexicon.txt"  # of a model over words


def save(folder: Path, lm: LanguageModel, card: str) -> None:
    """Write a model's folder; each file is first written under a temporary name."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = "ngram" if isinstance(lm, NGram) else "recurrent"
    about = {"kind": kind, "format": lm.FORMAT, "unit": lm.unit, "options": lm.options(), "tokens": list(lm.tokens)}
    write_text(folder / ABOUT, json.dumps(about, ensure_ascii=False, separators=(",", ":")) + "\n")
    write_text(folder / CARD, card)
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
        from asr.lm import arpa  # most models are folders

        return arpa.read(path, unit)
    folder = locate(path)
    if not (folder / ABOUT).is_file():
        raise _missing(path)
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf8"))
        kind, written = _kind(about["kind"]), about.get("format", 1)
        if written != kind.FORMAT:
            newer = isinstance(written, int) and written > kind.FORMAT
            mend = "update asr" if newer else "train it again, or import its ARPA file with `asr lm import`"
            raise ModelError(f"{folder} is of a{' newer' if newer else 'n older'} version of asr: {mend}")
        tokens = tuple(about["tokens"])
        if tokens[0] != EDGE or about["unit"] not in (*UNITS, GRAPHONES) or len(set(tokens)) != len(tokens):
            raise ValueError(f"{ABOUT} names no unit, or its tokens are not what they were")
        return kind.restore(about["unit"], tokens, about["options"], map_tensors(folder / WEIGHTS))
    except (OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise ModelError(f"{folder} is damaged ({reason}): copy the whole folder again, or train again") from error


def card(path: Path, lm: LanguageModel) -> str:
    """Return the card of the model at a path that `load` takes; that of an ARPA file is a title."""
    file = locate(path) / CARD
    return file.read_text(encoding="utf8") if file.is_file() else f"# Language model over {lm.unit}\n\n"


def locate(path: Path) -> Path:
    """Return the model folder: that in a run folder, or the one given."""
    return path / "model" if (path / "model" / ABOUT).is_file() else path


def weights_of(path: Path) -> Path:
    """Return the file with the parameters of the model at a path that `load` takes.

    Raises
    ------
    ModelError
        There is none.
    """
    file = path if path.is_file() else locate(path) / WEIGHTS
    if not file.is_file():
        raise _missing(path)
    return file


def _missing(path: Path) -> ModelError:
    return ModelError(f"no language model at {path}: give a run or model folder of `asr lm train`, or an ARPA file")


def _kind(name: str) -> type[LanguageModel]:
    """Return the class that a folder names."""
    if name == "ngram":
        return NGram
    if name != "recurrent":
        raise ValueError(f"{ABOUT}: no kind {name!r}")
    from asr.lm.recurrent_lm import RecurrentLM

    return RecurrentLM
