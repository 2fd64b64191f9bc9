"""The kinds of systems. Which one a configuration describes is decided here and nowhere else.

Where kinds differ, a table by kind says how: the classes of models (`asr.models.model_folder`), what a network is
trained on (`asr.training.criteria`), and who trains it (`asr.training`).
"""

from enum import Enum, auto

from asr.core.config import Config


class Kind(Enum):
    """How a system gets from features to phones.

    Attributes
    ----------
    CTC
        A network that emits labels and the blank.
    ATTENTION
        An encoder, and a decoder that emits one label after the other.
    HYBRID
        HMMs whose states a network scores, trained on the alignments of a GMM-HMM.
    GMM_HMM
        HMMs whose states Gaussian mixtures score.
    """

    CTC = auto()
    ATTENTION = auto()
    HYBRID = auto()
    GMM_HMM = auto()


def kind_of(config: Config) -> Kind:
    """Return the kind of the system that a configuration describes.

    >>> from asr.core.config import from_dict
    >>> kind_of(from_dict({"data": {"corpora": {"mini": None}}, "train": {"alignments": "gmm_hmm"}}))
    <Kind.HYBRID: 3>
    """
    named = {"gmm_hmm": Kind.GMM_HMM, "attention_decoder": Kind.ATTENTION}
    of_alignments = Kind.CTC if config.train.alignments is None else Kind.HYBRID
    return named.get(config.model["name"], of_alignments)


def has_graph(config: Config) -> bool:
    """Tell whether onnxruntime can run the network of a configuration (`asr.models.onnx`): a `blstm` with CTC."""
    return kind_of(config) is Kind.CTC and config.model["name"] == "blstm"
