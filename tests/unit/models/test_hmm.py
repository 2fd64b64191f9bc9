"""HMM systems: what a model folder keeps, and how frames become phones with times."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from asr import encoders
from asr.core.config import from_dict
from asr.core.errors import InfeasibleError, ModelError
from asr.data.batches import collate
from asr.hmm.inference import viterbi
from asr.hmm.mixtures import Mixtures
from asr.hmm.phone_hmms import PhoneHMMs, silences_of
from asr.hmm.phone_loop import bigram
from asr.hmm.transforms import Transform
from asr.hmm.tying import NUM_STATES, Tying
from asr.models import model_folder
from asr.models.base import BLANK, Spellings
from asr.models.calibration import Calibration
from asr.models.hmm import GMMModel, HybridModel
from asr.models.networks import outputs
from asr.speech.normaliser import Normaliser

LABELS, SILENCES = silences_of("arpabet39")
TOKENS = (BLANK, *LABELS)
(SIL,) = SILENCES
AA, B, T = (LABELS.index(label) for label in ("AA", "B", "T"))
SAID = [SIL, AA, B, B, T, SIL]
FRAMES_A_STATE = 3
SECTIONS = {
    "data": {"corpora": {"mini": None}},
    "features": {"kind": "mfcc", "num_mel_bins": 23, "num_ceps": 13, "use_energy": False},
    "decode": {"lm_weight": 2.0, "beam": 200.0},
}


def tables():
    """HMMs of phones, of which B has a last state of its own before T, and a bigram."""
    table = Tying.monophones(len(LABELS)).pdfs.copy()
    table[B, 2, :, T] = len(LABELS) * NUM_STATES
    hmms = PhoneHMMs.of(LABELS, SILENCES, Tying(table))
    return hmms, bigram(LABELS, [[LABELS[phone] for phone in SAID], list(LABELS)])


def gmm(transform=None):
    """Means of the densities lie far from each other."""
    rng = np.random.default_rng(3)
    hmms, log_bigram = tables()
    width = 39 if transform is None else len(transform.matrix)
    sizes = 1 + np.arange(hmms.tying.num_pdfs) % 2
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    weights = np.repeat(1 / sizes, sizes)
    means = np.repeat(3 * rng.standard_normal((len(sizes), width)), sizes, axis=0)
    mixtures = Mixtures(offsets, weights, means, rng.uniform(0.8, 1.2, means.shape))
    config = from_dict(SECTIONS | {"model": {"name": "gmm_hmm"}})
    return GMMModel(config, TOKENS, Normaliser(config.features), Calibration(), hmms, log_bigram, mixtures, transform)


def hybrid(stack=3):
    hmms, log_bigram = tables()
    sections = {"model": {"name": "blstm", "num_layers": 1, "hidden_size": 8, "stack": stack}}
    config = from_dict(SECTIONS | sections | {"train": {"alignments": "hmm_tri"}})
    torch.manual_seed(2)
    encoder = encoders.build(config.model, 39, hmms.tying.num_pdfs).eval()
    log_priors = np.log(np.random.default_rng(4).dirichlet(np.ones(hmms.tying.num_pdfs))).astype(np.float32)
    common = (config, TOKENS, Normaliser(config.features), Calibration())
    return HybridModel(*common, hmms, log_bigram, encoder, log_priors)


def lda():
    rng = np.random.default_rng(6)
    return Transform(1, 13, rng.standard_normal((20, 39)) / 6, rng.standard_normal(20))


def speech(model, said=SAID):
    """Frames (T, 39) at the means of the states of phones, three each."""
    around = [len(LABELS), *said, len(LABELS)]
    pdfs = [model.hmms.tying.pdfs[c, s, around[i], around[i + 2]] for i, c in enumerate(said) for s in range(3)]
    means = model.mixtures.means_[model.mixtures.offsets[pdfs]]
    return np.repeat(means, FRAMES_A_STATE, axis=0).astype(np.float32)


def batch(*features):
    return collate([(f"u{i}", each, []) for i, each in enumerate(features)])


def noise(num_frames, seed=7):
    return np.random.default_rng(seed).standard_normal((num_frames, 39)).astype(np.float32)


def tokens_of(phones):
    return tuple(phone + 1 for phone in phones if phone != SIL)


@pytest.mark.parametrize("make", [gmm, lambda: gmm(lda()), hybrid], ids=["gmm", "lda", "hybrid"])
@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_what_is_saved_comes_back(make, storage, tmp_path):
    half = storage == "float16"
    model = make()
    model_folder.save(tmp_path / "model", model, "# A card\n", storage)
    loaded = model_folder.load(tmp_path / "model")
    assert type(loaded) is type(model)
    assert loaded.tokens == model.tokens
    assert loaded.config == model.config
    assert loaded.num_parameters == model.num_parameters
    np.testing.assert_array_equal(loaded.hmms.tying.pdfs, model.hmms.tying.pdfs)
    assert (loaded.hmms.labels, loaded.hmms.silences) == (model.hmms.labels, model.hmms.silences)
    utterances = batch(noise(50), speech(gmm()), noise(31))
    ours, theirs = model.emissions(utterances.rows()), loaded.emissions(utterances.rows())
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(other, one, rtol=0.1 if half else 1e-5, atol=0.5 if half else 1e-3)
    if not half:
        for one, other in zip(model.decode(ours), loaded.decode(theirs), strict=True):
            assert (one.tokens, one.starts, one.ends) == (other.tokens, other.starts, other.ends)
            assert one.score == pytest.approx(other.score, rel=1e-5)
            np.testing.assert_allclose(one.confidences, other.confidences, atol=1e-3)


def test_a_system_finds_what_was_said_and_when():
    model = gmm()
    emissions = model.emissions(batch(speech(model)).rows())
    (found,) = model.decode(emissions)
    assert found.tokens == tokens_of(SAID)
    assert found.starts == (9, 18, 27, 36)
    assert found.ends == (18, 27, 36, 45)
    assert all(start <= peak < end for start, peak, end in zip(found.starts, found.timesteps, found.ends, strict=True))
    assert min(found.confidences) > 0.99
    assert model.best_tokens(emissions) == [list(found.tokens)]


def test_changes_of_state_lie_half_way_between_the_middles_of_frames():
    """Windows of 25 ms begin every 10 ms: frames 8 and 9 have their middles at 92.5 and 102.5 ms."""
    model = gmm()
    emissions = model.emissions(batch(speech(model)).rows())[0]
    segments = model.segments(model.nbest(emissions)[0], emissions)
    assert [segment.label for segment in segments] == ["AA", "B", "B", "T"]
    assert [segment.start for segment in segments] == pytest.approx([0.0975, 0.1875, 0.2775, 0.3675], abs=6e-4)
    assert [segment.end for segment in segments] == pytest.approx([0.1875, 0.2775, 0.3675, 0.4575], abs=6e-4)


def test_what_fills_a_recording_begins_and_ends_with_it():
    model = gmm()
    emissions = model.emissions(batch(speech(model, [AA, T])).rows())[0]
    first, last = model.segments(model.nbest(emissions)[0], emissions)
    assert first.start == 0
    assert last.end == pytest.approx(17 * 0.01 + 0.025)
    late = replace(model, calibration=Calibration(boundary_offset=-0.02))
    first, last = late.segments(late.nbest(emissions)[0], emissions)
    assert (first.start, first.end, last.end) == pytest.approx((0, 0.0775, 0.195), abs=6e-4)


def test_known_phones_are_found_with_and_without_pauses():
    model = gmm()
    pausing = [SIL, AA, B, SIL, B, T, SIL]
    emissions = model.emissions(batch(speech(model, pausing)).rows())[0]
    labels = ["AA", "B", "B", "T"]
    placed = model.align(Spellings([[["AA", "B"]], [["B", "T"], ["T"]]]), emissions)
    segments, score = placed.phones, placed.score
    assert placed.word_lengths == [2, 2]
    assert [segment.label for segment in segments] == labels
    assert [segment.start for segment in segments] == pytest.approx([0.0975, 0.1875, 0.3675, 0.4575], abs=6e-4)
    assert [segment.end for segment in segments] == pytest.approx([0.1875, 0.2775, 0.4575, 0.5475], abs=6e-4)
    assert score == viterbi(emissions, model.hmms.transcript(labels, [2, 2]).graph(model.hmms))[0]
    assert score > model.align(Spellings.of_phones(labels), emissions).score  # without a silence between the words
    with pytest.raises(InfeasibleError, match="hello has 11 frames; the states of its phones need 12"):
        model.align(Spellings.of_phones(labels), emissions[:11], name="hello")


def test_states_of_known_phones_are_found():
    model = gmm()
    emissions = model.emissions(batch(speech(model)).rows())[0]
    found = model.align_states(["AA", "B", "B", "T"], emissions)
    labels = ["SIL", "AA", "B", "B", "T", "SIL"]
    assert [segment.label for segment in found] == [f"{label}.{s}" for label in labels for s in (1, 2, 3)]
    assert [segment.start for segment in found[1:]] == pytest.approx(0.03 * np.arange(1, 18) + 0.0075, abs=6e-4)
    assert [segment.end for segment in found[:-1]] == [segment.start for segment in found[1:]]
    assert (found[0].start, found[-1].end) == (0, 0.555)


def test_the_beam_grows_with_the_weight_of_the_bigram():
    model = gmm()
    for weight, beam in ((0.5, 200), (1.0, 200), (2.0, 400)):
        config = replace(model.config, decode=replace(model.config.decode, lm_weight=weight))
        assert replace(model, config=config).beam == beam


def test_silence_alone_is_no_phone():
    model = gmm()
    emissions = model.emissions(batch(speech(model, [SIL])).rows())[0]
    (found,) = model.decode([emissions])
    assert (found.tokens, found.starts, found.confidences) == ((), (), ())
    assert model.segments(found, emissions) == []


@pytest.mark.parametrize("make", [gmm, lambda: gmm(lda()), hybrid], ids=["gmm", "lda", "hybrid"])
def test_the_likeliest_hypotheses_are_sorted_and_differ(make):
    model = make()
    (emissions,) = model.emissions(batch(noise(60)).rows())
    found = model.nbest(emissions, 6)
    scores = [each.score for each in found]
    assert len(found) == 6
    assert scores == sorted(scores, reverse=True)
    assert len({each.tokens for each in found}) == 6
    assert all(0 not in each.tokens and SIL + 1 not in each.tokens for each in found)
    assert found[0] == model.nbest(emissions)[0] == model.decode([emissions])[0]


def test_posteriors_are_those_of_labels():
    model = gmm()
    (emissions,) = model.emissions(batch(speech(model)).rows())
    found = np.exp(model.log_probs(emissions))
    assert found.shape == (54, len(TOKENS))
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found[:, 0] == 0).all()
    assert found.argmax(axis=1).tolist() == np.repeat(np.array(SAID) + 1, 9).tolist()


def test_mixtures_hear_what_the_transform_leaves():
    transform = lda()
    model, frames = gmm(transform), noise(20)
    (emissions,) = model.emissions(batch(frames).rows())
    np.testing.assert_allclose(emissions, model.mixtures.log_likelihoods(transform(frames)), rtol=1e-5)
    assert emissions.shape == (20, len(LABELS) * NUM_STATES + 1)


@pytest.mark.parametrize("num_frames", [1, 30, 31, 32])
def test_a_networks_frame_stands_for_those_stacked_in_it(num_frames):
    model = hybrid()
    utterances = batch(noise(num_frames), noise(40))
    emissions = model.emissions(utterances.rows())
    rows = outputs(model.encoder, utterances.rows())[0]
    assert [len(each) for each in emissions] == [num_frames, 40]
    for t in range(num_frames):
        np.testing.assert_allclose(emissions[0][t], rows[t // 3] - model.log_priors, atol=1e-6)


def test_parameters_are_counted():
    speech_ways = (len(LABELS) - 1) * 2 * NUM_STATES + 2 + 3 + 2 + 3  # one density more; silence has three, two, three
    model = gmm()
    count = len(model.mixtures.weights_)
    assert model.num_parameters == count * (1 + 39 + 39) + speech_ways
    assert gmm(lda()).num_parameters == count * (1 + 20 + 20) + speech_ways + 20 * 39
    weights = sum(value.numel() for value in hybrid().encoder.parameters())
    assert hybrid().num_parameters == weights + speech_ways


def shorter(value):
    return value[:-1].copy()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *((f"hmm.{name}", change) for name in ("pdfs", "log_transitions", "log_bigram") for change in (None, shorter)),
        *((f"gmm.{name}", change) for name in ("offsets", "weights", "means", "covars") for change in (None, shorter)),
        ("hmm.pdfs", lambda value: value - 1),
        ("hmm.pdfs", lambda value: value[:, :2].copy()),
        ("hmm.pdfs", lambda value: np.where(value == 5, 4, value)),
        ("hmm.log_transitions", lambda value: value[:, :-1].copy()),
        ("hmm.log_bigram", lambda value: value[:, :-1].copy()),
        ("gmm.means", lambda value: value[:, :-1].copy()),
        ("gmm.means", lambda value: np.where(value == value[0, 0], np.nan, value)),
        ("gmm.covars", np.zeros_like),
        ("gmm.weights", lambda value: value[:, None].copy()),
        ("gmm.offsets", lambda value: np.concatenate((value[1:2], value[:1], value[2:]))),
        ("hmm.pdfs", lambda value: np.array(3, np.int32)),
        ("transform.matrix", shorter),
        ("transform.offset", shorter),
        ("transform.splice", shorter),
        ("transform.splice", None),
        ("transform.offset", None),
    ],
)
def test_tensors_that_do_not_fit_are_one_line(name, change, tmp_path):
    model_folder.save(tmp_path, gmm(lda()), "# A card\n")
    tensors = load_file(tmp_path / "model.safetensors")
    value = tensors.pop(name)
    save_file(tensors | ({} if change is None else {name: change(value)}), tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"model.safetensors does not fit config.yaml and tokens.txt \(.+\)") as caught:
        model_folder.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["hmm.log_priors", "encoder.output.bias"])
@pytest.mark.parametrize("change", [None, shorter])
def test_tensors_of_a_hybrid_that_do_not_fit_are_one_line(name, change, tmp_path):
    model_folder.save(tmp_path, hybrid(), "# A card\n")
    tensors = load_file(tmp_path / "model.safetensors")
    value = tensors.pop(name)
    save_file(tensors | ({} if change is None else {name: change(value)}), tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="does not fit") as caught:
        model_folder.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_labels_in_another_order_are_refused(tmp_path):
    model_folder.save(tmp_path, gmm(), "# A card\n")
    lines = (tmp_path / "tokens.txt").read_text().splitlines()
    (tmp_path / "tokens.txt").write_text("\n".join([lines[0], lines[2], lines[1], *lines[3:]]) + "\n")
    with pytest.raises(ModelError, match="the HMMs are not those of the labels arpabet39"):
        model_folder.load(tmp_path)


@pytest.mark.parametrize("make", [gmm, hybrid])
def test_hmms_have_no_average(make, tmp_path):
    for name in ("one", "other"):
        model_folder.save(tmp_path / name, make(), "")
    with pytest.raises(ModelError, match="HMMs have no average"):
        model_folder.average(tmp_path / "one", tmp_path / "other", 0.5, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
