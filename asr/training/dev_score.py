"""The dev score of an epoch: how much of the dev speakers' phones is wrong, or of their words where these count."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from lhotse.cut import Cut

from asr.core.config import Config
from asr.data import splits
from asr.data.batches import Batch
from asr.evaluation.metrics import ErrorCounts, count_errors
from asr.models.base import AcousticModel
from asr.speech import phones

PER, WER = "dev_per", "dev_wer"
Find = Callable[[Sequence[np.ndarray]], Sequence[Sequence[str]]]  # labels or words from the emissions of utterances


def monitor(config: Config) -> str:
    """Return the score by which the best epoch is chosen."""
    return PER if config.train.criterion.words is None else WER


class DevScore:
    """Counts the errors in the dev utterances of an epoch.

    Parameters
    ----------
    config
        The run.
    cuts
        The dev utterances.
    """

    def __init__(self, config: Config, cuts: Iterable[Cut]):
        self._sets = config.data.labels, config.data.scoring
        self._references = {PER: {cut.id: self._folded(splits.reference(cut, config.data.labels)) for cut in cuts}}
        if monitor(config) == WER:
            self._references[WER] = {cut.id: splits.words(cut) for cut in cuts}

    def _folded(self, labels: Sequence[str]) -> list[str]:
        return phones.fold(labels, *self._sets)

    def begin(self, model: AcousticModel, find: dict[str, Find]) -> None:
        """Begin an epoch, whose network a model has; `find` has a function for each score."""
        self._model, self._find = model, find
        self.counts = {name: ErrorCounts(0, 0, 0, 0) for name in self._references}

    def add(self, batch: Batch) -> None:
        """Count the errors in a batch, unless its utterances are counted elsewhere."""
        if batch.is_spare:
            return
        emissions = self._model.emissions(batch.rows())
        for name, references in self._references.items():
            for utterance_id, found in zip(batch.ids, self._find[name](emissions), strict=True):
                guess = self._folded(found) if name == PER else found
                self.counts[name] += count_errors(references[utterance_id], guess)
