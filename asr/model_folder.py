"""Model folders: everything that a trained recogniser needs, in plain files.

=================== ==========================================================================
``config.yaml``     the resolved configuration, features and encoder included
``tokens.txt``      one label a line, in the order of the outputs; the first is the blank
``model.safetensors`` weights, and the normalisation statistics where there are any
``metrics.json``    what the model scored, on which data
``calibration.json`` the map from posteriors to confidences and the lag of times, once fitted on dev speakers
``README.md``       the model card
=================== ==========================================================================

Nothing here is unpickled: loading a folder never runs code from it.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from asr import calibration, models
from asr import config as configuration
from asr.calibration import Calibration
from asr.config import Config
from asr.data import Batch, Normaliser
from asr.errors import ModelError
from asr.features import FRAME_SHIFT, FeatureExtractor

BLANK = "<blank>"
PRETRAINED = Path(__file__).parent / "pretrained"


@dataclass(frozen=True)
class AcousticModel:
    """A trained encoder with all that surrounds it.

    Attributes
    ----------
    config
        What it was trained with.
    tokens
        Label of each output; 0 is the blank.
    encoder
        In evaluation mode.
    normaliser
        To apply to its features.
    calibration
        Of confidences and times; changes nothing until it is fitted.
    """

    config: Config
    tokens: tuple[str, ...]
    encoder: nn.Module
    normaliser: Normaliser
    calibration: Calibration

    @property
    def frame_shift(self) -> float:
        """Seconds from one output frame to the next."""
        return FRAME_SHIFT * int(self.encoder.subsampling)  # type: ignore[arg-type]

    def log_probs(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Return natural-log posteriors (T', B, C) float32 and their lengths (B,)."""
        with torch.inference_mode():
            logits, lengths = self.encoder(batch.features, batch.feature_lengths)
            return logits.float().log_softmax(dim=2).numpy(), lengths.numpy()


def save(
    folder: Path,
    config: Config,
    tokens: tuple[str, ...],
    encoder: nn.Module,
    normaliser: Normaliser,
    card: str,
    half: bool = False,
) -> None:
    """Write a model folder, each file under a temporary name first.

    Parameters
    ----------
    card
        Text of README.md.
    half
        Store the weights as float16.
    """
    weights = {f"encoder.{name}": value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    if half:
        weights = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    if normaliser.mean is not None and normaliser.std is not None:
        weights["cmvn.mean"], weights["cmvn.std"] = torch.tensor(normaliser.mean), torch.tensor(normaliser.std)
    folder.mkdir(parents=True, exist_ok=True)
    # Where this machine keeps the corpora is nobody else's business.
    public = replace(config, data=replace(config.data, corpora=dict.fromkeys(config.data.corpora)))
    write_text(folder / "config.yaml", configuration.to_yaml(public))
    write_text(folder / "tokens.txt", "".join(f"{token}\n" for token in tokens))
    write_text(folder / "README.md", card)
    partial = folder / "model.safetensors.partial"
    save_file(weights, partial)
    partial.replace(folder / "model.safetensors")


def export(name: str | Path, folder: Path) -> None:
    """Copy a model folder, its weights as float16."""
    source = find(name)
    model = load(source)
    card = (source / "README.md").read_text(encoding="utf8")
    save(folder, model.config, model.tokens, model.encoder, model.normaliser, card, half=True)
    for name in ("metrics.json", calibration.FILE):
        if (source / name).is_file():
            write_text(folder / name, (source / name).read_text(encoding="utf8"))


def load(folder: str | Path) -> AcousticModel:
    """Read a model folder, a run folder that holds one, or a shipped model by its name.

    Raises
    ------
    ModelError
        There is no such folder; a file is missing, or does not fit the others.
    """
    folder = find(folder)
    config = configuration.load(folder / "config.yaml")
    tokens = tuple((folder / "tokens.txt").read_text(encoding="utf8", errors="replace").split("\n")[:-1])
    if not tokens or tokens[0] != BLANK:
        raise ModelError(
            f"{folder / 'tokens.txt'}: the first line must be {BLANK}; take the file from the training run"
        )
    num_features = FeatureExtractor(config.features).num_features
    encoder = models.build(config.model, num_features, len(tokens))
    try:
        weights = load_file(folder / "model.safetensors")
        statistics = {name: weights.pop(name).numpy() for name in ("cmvn.mean", "cmvn.std") if name in weights}
        encoder.load_state_dict({name.removeprefix("encoder."): value.float() for name, value in weights.items()})
    except SafetensorError as error:
        raise ModelError(f"{folder / 'model.safetensors'} is damaged ({error}): copy the model folder again") from error
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(
            f"{folder / 'model.safetensors'} does not fit config.yaml and tokens.txt ({reason}): copy the folder again"
        ) from error
    normaliser = Normaliser(config.features.cmvn, statistics.get("cmvn.mean"), statistics.get("cmvn.std"))
    shapes = [statistic.shape for statistic in (normaliser.mean, normaliser.std) if statistic is not None]
    if shapes != ([(num_features,)] * 2 if config.features.cmvn == "global" else []):
        raise ModelError(
            f"{folder / 'model.safetensors'}: cmvn.mean and cmvn.std are not what config.yaml asks for: copy it again"
        )
    return AcousticModel(config, tokens, encoder.eval(), normaliser, Calibration.load(folder))


def find(name: str | Path) -> Path:
    """Return the model folder that a path or the name of a shipped model means.

    Raises
    ------
    ModelError
        There is none, or a file of it is missing.
    """
    places = [Path(name) / "model", Path(name), PRETRAINED / name]
    folder = next((place for place in places if (place / "config.yaml").is_file()), None)
    if folder is None:
        shipped = ", ".join(sorted(path.name for path in PRETRAINED.glob("*/"))) or "none"
        raise ModelError(
            f"no model folder at {name}: give a run or model folder, or a shipped model's name ({shipped})"
        )
    missing = [file for file in ("tokens.txt", "model.safetensors") if not (folder / file).is_file()]
    if missing:
        raise ModelError(f"{folder} lacks {' and '.join(missing)}: copy the whole model folder, or train again")
    return folder


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, then rename it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf8")
    partial.replace(path)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write indented JSON under a temporary name, then rename it."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
