"""The vanishing gradient: how much the outputs of a trained network depend on inputs long past.

The Jacobian ∂v_T / ∂x_t of the logits v of an output frame T with respect to an input frame t has C × F entries. Its
Frobenius norm as a function of T − t shows how a recurrent network forgets (A. Graves, "Supervised sequence labelling
with recurrent neural networks", 2012, figure 4.1). Logits are used instead of posteriors because the derivative of a
softmax is nearly 0 where one posterior is near 1, which has nothing to do with memory.

Letters: T feature frames, F values a frame, C classes, T' output frames, D distances.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from asr.core.errors import ModelError
from asr.core.terminal import track
from asr.evaluation import figures
from asr.evaluation.inputs import cuts_with_features, load_configured, prepare_corpora
from asr.models.base import AcousticModel
from asr.speech.features import FRAME_SHIFT

NUM_UTTERANCES = 20  # of each corpus
NOT_SHOWN = ("attention_decoder", "echo_state")  # has a step a phone, not a frame; has a reservoir outside autograd
LONGEST = 1.5  # seconds into the past that are drawn


def sensitivity(encoder: nn.Module, features: Tensor, frame: int | None = None) -> Tensor:
    """Return ‖∂v / ∂x_t‖, the Frobenius norm of the Jacobian of an output frame's logits at each input frame.

    Parameters
    ----------
    encoder
        In evaluation mode.
    features : (T, F)
        The features of one utterance.
    frame
        The output frame; by default the middle one.

    Returns
    -------
    Tensor
        (T,)

    Examples
    --------
    >>> class Sum(nn.Module):  # v_T = Σ_{t ≤ T} x_t: nothing is forgotten
    ...     def forward(self, features, lengths):
    ...         return features.cumsum(dim=1).transpose(0, 1), lengths
    >>> sensitivity(Sum(), torch.zeros(5, 1)).tolist()
    [1.0, 1.0, 1.0, 0.0, 0.0]
    """
    lengths = torch.tensor([len(features)])
    with torch.no_grad():
        num_frames, _, num_classes = encoder(features[None], lengths)[0].shape
    frame = num_frames // 2 if frame is None else frame
    # A copy of the utterance for each class: the gradient of the sum over c of logit c of copy c has all rows at once.
    copies = features.detach().repeat(num_classes, 1, 1).requires_grad_()  # (C, T, F)
    logits, _ = encoder(copies, lengths.repeat(num_classes))  # (T', C, C)
    (jacobian,) = torch.autograd.grad(logits[frame].diagonal().sum(), copies)
    return jacobian.square().sum(dim=(0, 2)).sqrt()


@dataclass(frozen=True)
class Curve:
    """How the sensitivity of one system falls with the distance into the past.

    Attributes
    ----------
    name
        The system's name.
    seconds, norms : (D,)
        The distance, and the mean of ‖∂v_T / ∂x_t‖ over utterances, scaled so that its largest value is 1.
    ahead
        Whether the system also depends on later frames, which are not shown.
    """

    name: str
    seconds: np.ndarray
    norms: np.ndarray
    ahead: bool


def curve(name: str, model: AcousticModel, utterances: Sequence[Tensor]) -> Curve:
    """Average a model's sensitivity over utterances (T, F), each at its middle output frame.

    Raises
    ------
    ModelError
        The system is a GMM-HMM or one of NOT_SHOWN.
    """
    encoder = getattr(model, "encoder", None)
    if encoder is None or model.config.model["name"] in NOT_SHOWN:
        raise ModelError(f"{name} has no gradient from the logits of a frame to its features: leave it out")
    longest = round(LONGEST / FRAME_SHIFT)
    sums, counts, ahead = np.zeros(longest), np.zeros(longest), False
    step = int(encoder.subsampling)
    for features in utterances:
        middle = -(-len(features) // step) // 2
        norms = sensitivity(encoder, features, middle).double().numpy()
        last = min(middle * step + step, len(features)) - 1  # the last input frame of the output frame
        past = norms[last::-1][:longest]
        sums[: len(past)] += past
        counts[: len(past)] += 1
        ahead |= bool(norms[last + 1 :].any())
    shown = counts >= max(1, len(utterances) / 2)
    means = sums[shown] / counts[shown]
    return Curve(name, FRAME_SHIFT * np.arange(len(means)), means / max(means.max(), 1e-300), ahead)


def draw(runs: Sequence[Path], output: Path, corpora: Path | None = None) -> str:
    """Draw the sensitivity of several trained networks into one picture, and describe each curve in a line of text.

    Parameters
    ----------
    runs
        Run or model folders.
    output
        The picture; its suffix tells the format.
    corpora
        The folder that holds the corpora of which the models' settings name no folder.

    Raises
    ------
    AsrError
        A folder holds no network, its corpora have no dev split, or the picture cannot be written.
    """
    curves = []
    for run in track(list(runs), "sensitivity"):
        folder, model = load_configured(str(run), (), corpora)
        name = folder.parent.name if folder.name == "model" else folder.name
        curves.append(curve(name, model, list(_dev_features(model))))
    figures.sensitivity_curves(curves, output)
    return "\n".join(map(describe, curves))


def describe(found: Curve) -> str:
    """Say after how many seconds a curve falls below a tenth and a hundredth of its peak.

    >>> describe(Curve("elman", np.arange(4) / 100, np.array([1.0, 0.1, 0.01, 0.001]), ahead=False))
    'elman: falls below 1/10 after 0.02 s, below 1/100 after 0.03 s'
    """
    told = []
    for part in (10, 100):
        above = np.flatnonzero(found.norms >= (1 - 1e-9) / part)
        end = above[-1] + 1 if len(above) else 0
        when = f"after {found.seconds[end]:.2f} s" if end < len(found.norms) else f"after more than {LONGEST:.1f} s"
        told.append(f"below 1/{part} {when}")
    return f"{found.name}: falls {', '.join(told)}" + (" (past frames only)" if found.ahead else "")


def _dev_features(model: AcousticModel) -> Iterator[Tensor]:
    """Yield the normalised features (T, F) of some dev utterances of each corpus, at equal steps."""
    for corpus in prepare_corpora(model.config, "dev"):
        cuts, store = cuts_with_features(model, [corpus], "dev")
        members = list(cuts)
        for i in np.linspace(0, len(members) - 1, min(NUM_UTTERANCES, len(members))).round().astype(int):
            speaker = members[i].supervisions[0].speaker
            yield torch.from_numpy(model.normaliser(store[members[i].id], speaker))
