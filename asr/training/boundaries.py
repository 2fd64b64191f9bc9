"""Training of the HMMs that place phone boundaries (`asr.models.boundaries`), for a network that is there already.

Where a corpus has the times of its phones, as the embedded one and TIMIT have, the HMMs learn them. Elsewhere the
network aligns the transcripts, and Viterbi training goes on from there: a phone sounds alike wherever it is said, so
that places which are wrong at random agree on the right one.
"""

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from lhotse.cut import Cut
from threadpoolctl import threadpool_limits

from asr.core.errors import AsrError, CorpusError
from asr.core.terminal import track
from asr.data import splits
from asr.evaluation import boundaries
from asr.evaluation.inputs import load_configured, prepare_corpora
from asr.hmm.em import GmmHmm, Utterance, gaussians_at, iterate, moments
from asr.hmm.mixtures import VARIANCE_FLOOR, Mixtures
from asr.hmm.phone_hmms import NUM_STATES, SILENCE, PhoneHMMs, silences_of
from asr.models import model_folder
from asr.models.base import AcousticModel, Spellings
from asr.models.boundaries import NORMALISER, STEP, PhoneBoundaries, frames
from asr.recognition.recogniser import Recogniser
from asr.speech import audio
from asr.speech.segments import Segment

HOURS = 1.5  # of speech, which is enough for so few parameters
SEED = 0  # of the choice of utterances
NUM_GAUSSIANS, NUM_ITERATIONS, LAST_SPLIT = 1000, 8, 5

log = logging.getLogger(__name__)


def train(name: str, overrides: Sequence[str] = (), corpora: Path | None = None, output: Path | None = None) -> str:
    """Train the HMMs on the training speakers of a model, and write them into its folder or into a copy of it.

    Parameters
    ----------
    name, overrides, corpora
        As for `asr.evaluation.inputs.load_configured`.
    output
        The model folder to write: a copy with the HMMs. By default the model itself gets them.

    Returns
    -------
    str
        A line that says what was trained, and how good it is on dev speakers with times, if there are any.

    Raises
    ------
    AsrError
        The model or a corpus is missing, no utterance can be used, or the model is a shipped one and `output` is not
        given.
    """
    folder, model = load_configured(name, overrides, corpora)
    target = folder if output is None else output
    model_folder.check_output(target)
    names, manifests = prepare_corpora(model.config, "train"), model.config.data.manifests
    chosen = _choose(splits.load_split(manifests, names, "train"))
    hmms = PhoneHMMs.monophones(*silences_of(model.config.data.labels))
    utterances, segments = list[Utterance](), list[list[Segment]]()
    for cut, waveform in _heard(chosen, "times of the network"):
        try:
            placed, utterance = _place(model, cut, waveform, hmms)
        except AsrError as error:
            log.warning("left out %s: %s", cut.id, error)
            continue
        utterances.append(utterance)
        segments.append(placed)
    if not utterances:
        raise CorpusError("no utterance is left to train on; the warnings above say why")
    with threadpool_limits(1, "blas"):
        found = PhoneBoundaries(fit(hmms, utterances, segments))
    if output is not None:
        model_folder.copy(folder, output)
    seconds = STEP * sum(len(each.features) for each in utterances)
    what = f"{len(utterances):,} utterances, {seconds / 3600:.1f} h, of {', '.join(names)}"
    found.save(target / model_folder.BOUNDARIES, model.tokens, {"trained on": what})
    line = f"boundaries learnt from {what}: {target / model_folder.BOUNDARIES}"
    return "\n".join([line, *_figures(replace(model, boundaries=found), names)])


def fit(hmms: PhoneHMMs, utterances: Sequence[Utterance], segments: Sequence[Sequence[Segment]]) -> GmmHmm:
    """Train HMMs from phones with rough times, which are kept to where they are known (`Utterance.known`)."""
    floor = VARIANCE_FLOOR * moments(each.features for each in utterances)[1]
    model, first = _start(hmms, utterances, segments, floor), hmms.tying.num_pdfs
    for number in range(1, NUM_ITERATIONS + 1):
        target = gaussians_at(number, first, max(NUM_GAUSSIANS, first), LAST_SPLIT)
        done, model = iterate(model, utterances, number, target, "viterbi", floor)
        log.info("iteration %d  %.3f nats a frame  %d Gaussians", number, done.log_likelihood, done.num_gaussians)
    return model


def _choose(cuts: Sequence[Cut]) -> list[Cut]:
    """Return `HOURS` of utterances, chosen at random."""
    every = sorted(cuts, key=lambda cut: cut.id)
    order = [every[i] for i in np.random.default_rng(SEED).permutation(len(every))]
    ends = itertools.accumulate(cut.duration for cut in order)
    return [cut for cut, end in zip(order, ends, strict=True) if end - cut.duration < 3600 * HOURS]


def _heard(cuts: Sequence[Cut], what: str) -> Iterator[tuple[Cut, np.ndarray]]:
    """Yield utterances with their waveforms; those that cannot be read are named in a warning."""
    for cut in track(cuts, what):
        try:
            yield cut, audio.load(cut.recording.sources[0].source)
        except AsrError as error:
            log.warning("left out %s: %s", cut.id, error)


def _place(model: AcousticModel, cut: Cut, waveform: np.ndarray, hmms: PhoneHMMs) -> tuple[list[Segment], Utterance]:
    """Return the phones of an utterance with their times, known or those of the network, and what HMMs learn from."""
    label_set, features = model.config.data.labels, NORMALISER(frames(waveform))
    timed = splits.timed_phones(cut, label_set)
    if timed:
        transcript = hmms.transcript([each.label for each in timed])
        return timed, Utterance(cut.id, features, transcript, _numbers(timed, hmms, len(features)))
    labels, lengths = splits.reference(cut, label_set), splits.word_lengths(cut, label_set)
    rest = iter(labels)
    words = [[list(itertools.islice(rest, length))] for length in lengths]
    text = Spellings(words, all_said=True) if lengths else Spellings.of_phones(labels)
    placed = model.align(text, Recogniser(model).emissions(waveform), waveform, cut.id)
    return placed.phones, Utterance(cut.id, features, hmms.transcript(labels, lengths))


def _numbers(segments: Sequence[Segment], hmms: PhoneHMMs, num_frames: int) -> np.ndarray:
    """Return the number of the phone in each frame (T,): a silence, or −1 if there is none, outside of all."""
    number = {label: i for i, label in enumerate(hmms.labels)}
    found = np.full(num_frames, number.get(SILENCE, -1))
    for each in segments:
        found[round(each.start / STEP) : round(each.end / STEP)] = number[each.label]
    return found


def _start(
    hmms: PhoneHMMs, utterances: Sequence[Utterance], segments: Sequence[Sequence[Segment]], floor: np.ndarray
) -> GmmHmm:
    """Return a Gaussian for each state, from an equal part of the frames of each phone and of the silences between."""
    mixtures = Mixtures.flat(hmms.tying.num_pdfs, *moments(each.features for each in utterances))
    sums = np.zeros((hmms.tying.num_pdfs, 1 + 2 * mixtures.means_.shape[1]))
    for utterance, phones in zip(utterances, segments, strict=True):
        features = utterance.features.astype(np.float64)
        numbers = _numbers(phones, hmms, len(features))
        edges = {0, len(numbers), *(round(time / STEP) for each in phones for time in (each.start, each.end))}
        for start, stop in itertools.pairwise(sorted(edge for edge in edges if edge <= len(numbers))):
            states = NUM_STATES * np.arange(stop - start) // (stop - start)
            rows = np.column_stack([np.ones(stop - start), features[start:stop], np.square(features[start:stop])])
            if numbers[start] >= 0:
                np.add.at(sums, NUM_STATES * numbers[start] + states, rows)
    counts = sums[:, :1]
    seen = counts[:, 0] > 0
    means, squares = np.split(sums[seen, 1:] / counts[seen], 2, axis=1)
    mixtures.means_[seen], mixtures.covars_[seen] = means, np.maximum(squares - np.square(means), floor)
    return GmmHmm(hmms, mixtures)


def _figures(model: AcousticModel, names: Sequence[str]) -> Iterator[str]:
    """Say how near the boundaries of dev speakers are to known times, with the HMMs and without."""
    with_dev = [name for name in names if splits.has_split(model.config.data.manifests, name, "dev")]
    cuts = splits.load_split(model.config.data.manifests, with_dev, "dev") if with_dev else []
    timed = [cut for cut in cuts if splits.timed_phones(cut, model.config.data.labels)]
    errors: dict[str, list[np.ndarray]] = {"before": [], "now": []}
    for cut, waveform in _heard(timed, "dev speakers"):
        phones = splits.timed_phones(cut, model.config.data.labels)
        text = Spellings.of_phones([phone.label for phone in phones])
        try:
            found = model.align(text, Recogniser(model).emissions(waveform), waveform, cut.id)
        except AsrError as error:
            log.warning("left out %s: %s", cut.id, error)
            continue
        errors["before"].append(boundaries.boundary_errors(phones, found.phones))
        errors["now"].append(boundaries.boundary_errors(phones, model.refine(found, waveform).phones))
    if errors["now"]:
        before, now = (boundaries.summary(name, each)["within"]["20"] for name, each in errors.items())
        yield f"boundaries of dev speakers within 20 ms: {now:.1f} %, before {before:.1f} %"
