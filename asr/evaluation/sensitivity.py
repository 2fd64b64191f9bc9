"""The vanishing gradient, seen: how much an output of a trained network still depends on inputs long past.

For an output frame T the Jacobian ∂v_T / ∂x_t of its logits v at each input frame t has C × F entries; its Frobenius
norm against T − t is the picture that the lectures draw of the sigmoid network that forgets (and A. Graves 2012,
figure 4.1). Logits, not posteriors: where a softmax is sure of itself its own derivative is nearly 0, which has nothing
to do with memory.

Letters: T feature frames, F values a frame, C classes, n feature frames an output frame.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

from asr.core.errors import ModelError
from asr.core.terminal import track
from asr.data import splits
from asr.data.feature_store import cache_features
from asr.evaluation import figures
from asr.models.base import AcousticModel
from asr.speech.features import FRAME_SHIFT

NUM_UTTERANCES = 20
NOT_SHOWN = ("attention_decoder", "echo_state")  # a step a phone and not a frame; a reservoir outside autograd
LONGEST = 1.5  # seconds into the past that are drawn


def sensitivity(encoder: nn.Module, features: Tensor, frame: int | None = None) -> Tensor:
    """Return ‖∂v / ∂x_t‖, the Frobenius norm of the Jacobian of an output frame's logits at each input frame.

    Parameters
    ----------
    encoder
        In evaluation mode.
    features : (T, F)
        Of one utterance.
    frame
        The output frame; by default the middle one.

    Returns
    -------
    Tensor
        (T,)

    Examples
    --------
    >>> class Sum(nn.Module):  # v_T = Σ_{t ≤ T} x_t: nothing is ever forgotten
    ...     def forward(self, features, lengths):
    ...         return features.cumsum(dim=1).transpose(0, 1), lengths
    >>> sensitivity(Sum(), torch.zeros(5, 1)).tolist()
    [1.0, 1.0, 1.0, 0.0, 0.0]
    """
    lengths = torch.tensor([len(features)])
    with torch.no_grad():
        num_frames, _, num_classes = encoder(features[None], lengths)[0].shape
    frame = num_frames // 2 if frame is None else frame
    # The same utterance once a class: the gradient of the sum of logit c of copy c is then all rows at once.
    copies = features.detach().repeat(num_classes, 1, 1).requires_grad_()  # (C, T, F)
    logits, _ = encoder(copies, lengths.repeat(num_classes))  # (T', C, C)
    (jacobian,) = torch.autograd.grad(logits[frame].diagonal().sum(), copies)
    return jacobian.square().sum(dim=(0, 2)).sqrt()


@dataclass(frozen=True)
class Curve:
    """How the sensitivity of one system falls with the distance.

    Attributes
    ----------
    name
        Of the system.
    seconds, norms : (D,)
        Distance into the past, and the mean of ‖∂v_T / ∂x_t‖ over utterances, its largest value set to 1.
    ahead
        Whether the system also depends on frames to come, which are not shown.
    """

    name: str
    seconds: np.ndarray
    norms: np.ndarray
    ahead: bool


def curve(name: str, model: AcousticModel, utterances: Sequence[Tensor]) -> Curve:
    """Average a model's sensitivity over utterances (T, F), each at its middle frame.

    Raises
    ------
    ModelError
        The system is an HMM of Gaussians or one of NOT_SHOWN.
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
        last = min(middle * step + step, len(features)) - 1  # the newest of the frames that the output frame stands for
        past = norms[last::-1][:longest]
        sums[: len(past)] += past
        counts[: len(past)] += 1
        ahead |= bool(norms[last + 1 :].any())
    shown = counts >= max(1, len(utterances) / 2)
    means = sums[shown] / counts[shown]
    return Curve(name, FRAME_SHIFT * np.arange(len(means)), means / max(means.max(), 1e-300), ahead)


def draw(runs: Sequence[Path], output: Path, corpora: Path | None = None) -> str:
    """Draw the sensitivity of several trained networks into one picture, and return what it shows as lines.

    Parameters
    ----------
    runs
        Run or model folders.
    output
        The picture; its suffix tells the format.
    corpora
        The folder that holds the corpora, where they are not prepared yet.

    Raises
    ------
    AsrError
        A folder holds no network; the dev split of its corpora is not there; the picture cannot be written.
    """
    from asr.evaluation.evaluate import (
        load,  # which imports what draws reports, and is not needed for the numbers alone
    )

    curves = []
    for run in track(list(runs), "sensitivity"):
        folder, model, config = load(str(run), (), corpora)
        name = folder.parent.name if folder.name == "model" else folder.name
        utterances = list(_utterances(model, config.data.corpora, config.data.manifests))
        curves.append(curve(name, model, utterances))
    _picture(curves, output)
    return "\n".join(map(describe, curves))


def describe(found: Curve) -> str:
    """Return how far back a curve stays above a tenth and a hundredth of its peak, in words.

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


def _utterances(model: AcousticModel, corpora: Sequence[str] | dict, manifests: str) -> Iterator[Tensor]:
    """Yield the normalised features (T, F) of some dev utterances, at equal steps through each corpus's."""
    for corpus in corpora:
        cuts = splits.load_split(manifests, [corpus], "dev")
        store = cache_features(cuts, model.config.features, Path(manifests) / "features", f"{corpus}-dev")
        cuts = cuts.filter(lambda cut, store=store: cut.id in store).to_eager()
        model.normaliser.add_speakers(cuts, store)
        members = list(cuts)
        for i in np.linspace(0, len(members) - 1, min(NUM_UTTERANCES, len(members))).round().astype(int):
            speaker = members[i].supervisions[0].speaker
            yield torch.from_numpy(model.normaliser(store[members[i].id], speaker))


def _picture(curves: Sequence[Curve], output: Path) -> None:
    figure, axes = plt.subplots(figsize=(7.5, 4.4), layout="constrained")
    for each in curves:
        label = each.name + (" (past frames only)" if each.ahead else "")
        axes.plot(each.seconds, np.where(each.norms > 0, each.norms, np.nan), label=label)
    axes.set(yscale="log", xlabel="T − t in seconds", ylabel="‖∂v_T / ∂x_t‖, largest = 1", ylim=(1e-6, 2))
    axes.set_title("what the logits of a frame owe to the frames before it; mean over dev utterances", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figures.save(figure, output)
