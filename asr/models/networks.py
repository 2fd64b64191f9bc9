"""PyTorch networks within acoustic models: their outputs, and their weights as a model folder keeps them.

Letters: T feature frames, F values a frame, T' output frames, C classes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from asr import encoders
from asr.core.config import Config
from asr.speech.features import FeatureExtractor


def run(encoder: nn.Module, features: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Run a network on utterances (T, F), padded into a batch; return outputs (T', B, C) and lengths (B,)."""
    device = next((weights.device for weights in encoder.parameters()), torch.device("cpu"))
    padded = nn.utils.rnn.pad_sequence([torch.tensor(each) for each in features], batch_first=True).to(device)
    with torch.inference_mode():
        return encoder(padded, torch.tensor([len(each) for each in features], device=device))


def outputs(encoder: nn.Module, features: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return a network's natural-log posteriors (T', C) float32 for each utterance (T, F)."""
    logits, lengths = run(encoder, features)
    log_probs = logits.float().log_softmax(dim=2).cpu().numpy()
    return [np.ascontiguousarray(log_probs[:length, i]) for i, length in enumerate(lengths.tolist())]


def load_encoder(config: Config, num_classes: int, tensors: Mapping[str, np.ndarray]) -> nn.Module:
    """Build a configuration's network, load the tensors named ``encoder.…``, and set evaluation mode.

    Raises
    ------
    RuntimeError
        They do not fit it.
    """
    encoder = encoders.build(config.model, FeatureExtractor(config.features).num_features, num_classes)
    load_weights(encoder, "encoder.", tensors)
    return encoder.eval()


def load_weights(network: nn.Module, prefix: str, tensors: Mapping[str, np.ndarray]) -> None:
    """Load the tensors whose names begin with a prefix.

    Raises
    ------
    RuntimeError
        They do not fit the network.
    """
    named = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    network.load_state_dict({name: torch.tensor(value) for name, value in named.items()})


def weights(network: nn.Module, prefix: str) -> dict[str, np.ndarray]:
    """Return a network's weights under names that `load_weights` knows."""
    return {f"{prefix}{name}": value.detach().cpu().numpy() for name, value in network.state_dict().items()}
