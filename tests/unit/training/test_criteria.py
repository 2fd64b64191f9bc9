"""What networks are trained on: CTC's labels as they were, and an alignment's densities frame by frame."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import naive
import numpy as np
import pytest
import torch
from torch import nn

from asr.core.config import FeatureConfig, from_dict
from asr.core.errors import ConfigError
from asr.ctc import alternatives_loss, beam_search, consistency_loss, crf_loss, ctc_loss
from asr.data.batches import Batch, LabelTargets
from asr.lm import folder, fusion
from asr.lm.estimation import estimate
from asr.models.base import BLANK
from asr.models.ctc import CTCModel
from asr.speech.normaliser import Normaliser
from asr.speech.phones import PhoneSet
from asr.training import criteria
from asr.training.criteria import CTC, Frames, FrameTargets
from asr.training.dev_score import PER, WER, DevScore, monitor

NUM_PDFS = 5


def named(name, phones="", text=""):
    """Stand for a cut."""
    said = SimpleNamespace(text=text, custom={"phones": phones})
    return SimpleNamespace(id=name, corpus="mini_librispeech", phone_set="arpabet39", supervisions=[said])


def batch(targets, lengths):
    """A batch whose features nobody looks at."""
    width = max(map(len, targets))
    padded = torch.tensor([[*row, *[0] * (width - len(row))] for row in targets])
    ids = [f"u{i}" for i in range(len(targets))]
    return Batch(ids, torch.zeros(len(ids), 1, 1), torch.tensor(lengths), padded, torch.tensor(list(map(len, targets))))


# --- densities of output frames

# The number of each feature frame at its own speed is its density here, so that a target tells where it comes from.
TEN = {"u": np.arange(10, dtype=np.int64)}


@pytest.mark.parametrize(
    ("speed", "subsampling", "expected"),
    [
        (1.0, 1, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (1.0, 2, [1, 3, 5, 7, 9]),  # of frames 0 and 1, 1; of 2 and 3, 3
        (1.0, 3, [1, 4, 7, 9]),  # of 0, 1, 2 the middle; the last output frame has frame 9 alone
        (0.9, 1, [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9]),  # 11 frames, the third of what was at 1.8
        (0.9, 2, [1, 3, 4, 6, 8, 9]),  # frames 1, 3, … 9 of those above, and one beyond the end
        (0.9, 3, [1, 4, 6, 9]),
        (1.1, 1, [0, 1, 2, 3, 4, 6, 7, 8, 9]),  # 9 frames, the sixth of what was at 5.5
        (1.1, 2, [1, 3, 6, 8, 9]),
        (1.1, 3, [1, 4, 8]),
    ],
)
def test_an_output_frame_has_the_density_of_its_middle(speed, subsampling, expected):
    found = FrameTargets(TEN, subsampling)(named("u"), speed)
    assert len(expected) == -(-round(10 / speed) // subsampling)
    assert found[: len(expected)] == expected
    assert len(found) - len(expected) <= 2
    assert set(found[len(expected) :]) <= {9}


@pytest.mark.parametrize("subsampling", [1, 2, 3, 4])
@pytest.mark.parametrize("speed", [0.5, 0.9, 1.0, 1.1, 2.0])
def test_there_are_targets_for_all_output_frames(speed, subsampling):
    for count in range(1, 60):
        targets = FrameTargets({"u": np.arange(count)}, subsampling)(named("u"), speed)
        num_frames = round(count / speed) + 1  # what resampling and the window's edges may add
        assert len(targets) >= (num_frames - 1) // subsampling
        assert all(0 <= pdf < count for pdf in targets)
        assert targets == sorted(targets)


def test_utterances_without_an_alignment_are_not_there():
    targets = FrameTargets(TEN, 1)
    assert named("u") in targets
    assert named("v") not in targets


# --- frames


@dataclass(frozen=True)
class Path:
    """Stands for a StateAlignment."""

    densities: np.ndarray

    def pdfs(self, tying):
        return self.densities


class Aligner:
    """Stands for a GMM-HMM of so many densities."""

    tokens = (BLANK, "a")
    hmms = SimpleNamespace(tying=SimpleNamespace(num_pdfs=NUM_PDFS))


@pytest.fixture
def frames(monkeypatch):
    monkeypatch.setattr(criteria, "GMMModel", Aligner)
    config = from_dict({"data": {"corpora": {"mini": None}}, "train": {"alignments": "somewhere"}})
    Aligner.config = config
    monkeypatch.setattr(criteria.model_folder, "load", lambda name: {"somewhere": Aligner()}[name])
    made = criteria.build(config)
    assert isinstance(made, Frames)
    return made


def test_frames_are_as_many_classes_as_densities(frames):
    assert frames.num_classes == NUM_PDFS


@pytest.mark.parametrize("padding", [0.0, 1e4])
def test_the_loss_is_the_cross_entropy_of_the_frames_there_are(frames, rng, padding):
    logits = torch.tensor(rng.normal(size=(6, 3, NUM_PDFS)), dtype=torch.float64)
    lengths = torch.tensor([6, 4, 1])
    targets = [[1, 0, 2, 4, 4, 3, 3], [2, 2, 0, 1], [3, 1]]  # one more than frames for the first and the last
    by_hand = []
    for b, length in enumerate(lengths.tolist()):
        probs = [torch.exp(row) / torch.exp(row).sum() for row in logits[:length, b]]
        by_hand.append(-sum(torch.log(row[target]) for row, target in zip(probs, targets[b], strict=False)))
        logits[length:, b, 0] = padding
    given = batch(targets, [12, 8, 2])
    each = frames.each(logits, lengths, given)
    torch.testing.assert_close(each, torch.stack(by_hand))
    torch.testing.assert_close(frames(logits, lengths, given), torch.stack(by_hand).sum() / 11)


@pytest.mark.parametrize("kind", ["ctc", "frames"])
def test_the_losses_of_two_parts_make_that_of_the_batch(frames, ctc, rng, kind):
    criterion = {"ctc": ctc(), "frames": frames}[kind]
    logits = torch.tensor(rng.normal(size=(6, 3, NUM_PDFS)), dtype=torch.float32)
    lengths, targets = torch.tensor([6, 4, 2]), [[1, 0, 2, 4, 4, 3], [2, 3, 1, 1], [3, 1]]
    if kind == "ctc":
        targets = [[1, 2], [3], [4, 1]]
    total = terms = 0
    for part in ([0], [1, 2]):
        given = batch([targets[b] for b in part], lengths[part].tolist())
        count = criterion.num_terms(lengths[part], given)
        total, terms = total + count * criterion(logits[:, part], lengths[part], given), terms + count
    torch.testing.assert_close(total / terms, criterion(logits, lengths, batch(targets, lengths.tolist())))


def test_padding_has_no_gradient(frames, rng):
    logits = torch.tensor(rng.normal(size=(5, 2, NUM_PDFS)), requires_grad=True)
    frames(logits, torch.tensor([5, 2]), batch([[1, 2, 3, 4, 0], [1, 1]], [5, 2])).backward()
    assert logits.grad[2:, 1].abs().max() == 0
    assert (logits.grad[:2, 1].abs().amax(dim=1) > 0).all()


def test_a_good_network_has_no_loss(frames):
    targets = [[1, 4, 4, 0]]
    logits = 100 * nn.functional.one_hot(torch.tensor(targets).T, NUM_PDFS).double()
    assert frames(logits, torch.tensor([4]), batch(targets, [4])).item() < 1e-9


def test_priors_are_the_shares_of_the_training_frames(frames, monkeypatch):
    """With one frame more for each density, so that none is impossible; the dev speakers change nothing."""
    aligned = {"train": {"u": [0, 0, 0, 1, 1, 4], "v": [4, 4, 4, 4]}, "dev": {"w": [3] * 90}}
    paths = [{key: Path(np.array(pdfs)) for key, pdfs in each.items()} for each in aligned.values()]
    found = iter(paths)
    monkeypatch.setattr(criteria, "cache_features", lambda *_: {"u", "v", "w"})
    monkeypatch.setattr(criteria, "load_utterances", lambda *_: [])
    monkeypatch.setattr(criteria, "align_all", lambda *_: next(found))
    Aligner.normaliser, Aligner.mixtures, Aligner.transform = Normaliser(FeatureConfig(cmvn="none")), None, None
    cuts = SimpleNamespace(filter=lambda _: [])
    for split in aligned:
        targets = frames.targets(cuts, split, 1)
        assert targets.pdfs.keys() == aligned[split].keys()
        expected = np.array([4, 3, 1, 1, 6]) / 15
        np.testing.assert_allclose(frames.log_priors.exp().numpy(), expected, rtol=1e-6)
    assert "log_priors" in frames.state_dict()  # a resumed run has them without an alignment of the training speech


@pytest.mark.parametrize("other", ["labels", "kind"])
def test_alignments_of_another_kind_are_one_line(frames, monkeypatch, other):
    config = from_dict({"data": {"corpora": {"mini": None}}, "train": {"alignments": "somewhere"}})
    if other == "labels":
        Aligner.config = from_dict({"data": {"corpora": {"mini": None}, "labels": "timit61", "scoring": "timit39"}})
    else:
        monkeypatch.setattr(criteria.model_folder, "load", lambda name: SimpleNamespace(config=config))
    with pytest.raises(ConfigError, match=r"somewhere \(train.alignments\) is no GMM-HMM of arpabet39: name") as caught:
        Frames(config)
    assert "\n" not in str(caught.value)


# --- CTC


@pytest.fixture
def ctc():
    def make(**train):
        return criteria.build(from_dict({"data": {"corpora": {"mini": None}}, "train": train}))

    return make


def test_without_alignments_it_is_ctc(ctc, rng):
    criterion = ctc()
    assert isinstance(criterion, CTC)
    assert criterion.tokens == (BLANK, *PhoneSet.load("arpabet39").labels)
    assert criterion.num_classes == 40
    logits = torch.tensor(rng.normal(size=(9, 2, 40)), dtype=torch.float32)
    lengths, given = torch.tensor([9, 5]), batch([[1, 7, 7], [39]], [9, 5])
    arguments = (logits, given.targets, lengths, given.target_lengths)
    torch.testing.assert_close(criterion(logits, lengths, given), ctc_loss(*arguments))
    torch.testing.assert_close(criterion.each(logits, lengths, given), ctc_loss(*arguments, reduction="none"))
    theirs = nn.functional.ctc_loss(
        logits.log_softmax(2), given.targets, lengths, given.target_lengths, reduction="none"
    )
    torch.testing.assert_close(criterion.each(logits, lengths, given), theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(criterion(logits, lengths, given), (theirs / torch.tensor([3, 1])).mean())
    assert not criterion.state_dict()


def test_label_priors_are_in_force_after_the_first_epoch(ctc, rng):
    criterion = ctc(label_prior_scale=0.5)
    logits = torch.tensor(rng.normal(size=(9, 1, 40)), dtype=torch.float32)
    logits[:, :, 0] += 5
    lengths, given = torch.tensor([9]), batch([[1, 7, 7]], [9])
    before = criterion(logits, lengths, given)
    torch.testing.assert_close(before, ctc_loss(logits, given.targets, lengths, given.target_lengths))
    criterion.observe(logits, lengths)
    criterion.end_epoch()
    assert criterion(logits, lengths, given) < before - 0.5  # blanks are dear now, and labels cheap
    assert criterion.state_dict()


def test_its_model_hears_what_the_network_says(ctc):
    encoder = nn.Identity()
    model = ctc().acoustic_model(encoder, Normaliser(FeatureConfig(cmvn="none")))
    assert isinstance(model, CTCModel)
    assert model.encoder is encoder
    assert model.num_parameters == 0


def test_label_targets_are_indices_of_tokens_at_any_speed():
    spoken = SimpleNamespace(
        id="u",
        corpus="timit",
        phone_set="timit61",
        supervisions=[SimpleNamespace(custom={"phones": "h# dcl d ix q zh h#"})],
    )
    targets = LabelTargets((BLANK, "sil", "d", "ih", "sh"), "timit39")
    assert targets(spoken, 0.9) == targets(spoken, 1.1) == [1, 1, 2, 3, 4, 1]
    assert spoken in targets


# --- CTC-CRF


@pytest.fixture
def ctc_crf(rng, tmp_path):
    """Make the criterion with a bigram of random phones, in a folder."""
    phones = PhoneSet.load("arpabet39").labels
    text = [[phones[i] for i in rng.integers(0, 39, 12)] for _ in range(30)]
    lm = estimate(text, "phones", 2, "witten_bell", phones)
    folder.save(tmp_path, lm, "# a bigram")

    def make(**options):
        criterion = {"name": "ctc_crf", "lm": str(tmp_path)} | options
        return criteria.build(from_dict({"data": {"corpora": {"mini": None}}, "train": {"criterion": criterion}})), lm

    return make


@pytest.mark.parametrize("ctc_weight", [0.0, 0.1])
def test_ctc_crf_after_epochs_of_ctc(ctc_crf, ctc, rng, ctc_weight):
    criterion, lm = ctc_crf(ctc_weight=ctc_weight, warmup_epochs=2)
    logits = torch.tensor(rng.normal(size=(9, 2, 40)), dtype=torch.float32)
    lengths, given = torch.tensor([9, 5]), batch([[1, 7, 7], [39]], [9, 5])
    arguments = (logits, given.targets, lengths, given.target_lengths)
    weights = fusion.denominator(lm, criterion.tokens)
    expected = crf_loss(*arguments, weights, reduction="none", ctc_weight=ctc_weight)
    for epoch in (0, 1):
        criterion.epoch = epoch
        torch.testing.assert_close(criterion.each(logits, lengths, given), ctc().each(logits, lengths, given))
    criterion.epoch = 2
    torch.testing.assert_close(criterion.each(logits, lengths, given), expected)
    torch.testing.assert_close(criterion(logits, lengths, given), (expected / torch.tensor([3, 1])).mean())


@pytest.mark.parametrize("with_lm", [False, True])
def test_two_views_are_drawn_to_each_other(with_lm, ctc_crf, ctc, rng):
    """The loss is that of all views, and the weighted inconsistency of the pairs in nats per label."""
    plain, criterion = (ctc_crf()[0] if with_lm else ctc() for _ in range(2))
    criterion.config = replace(plain.config, train=replace(plain.config.train, consistency=0.2))
    both = batch([[1, 2], [3]] * 2, [9, 5] * 2)
    logits = torch.tensor(rng.normal(size=(9, 4, criterion.num_classes)), dtype=torch.float32, requires_grad=True)
    lengths = torch.tensor([9, 5, 9, 5])
    differences = consistency_loss(logits[:, :2], logits[:, 2:], [9, 5]) / torch.tensor([2, 1])
    found = criterion(logits, lengths, both)
    torch.testing.assert_close(found, plain(logits, lengths, both) + 0.2 * differences.mean())


def test_dev_speakers_are_decoded_with_the_n_gram(ctc_crf, rng):
    """As the search does that the criterion's sums are those of: the potentials, and the n-gram with weight 1."""
    criterion, lm = ctc_crf()
    model = criterion.acoustic_model(nn.Identity(), Normaliser(FeatureConfig(cmvn="none")))
    log_probs = torch.tensor(rng.normal(size=(20, 2, 40))).log_softmax(2).numpy()
    emissions = [log_probs[:20, 0], log_probs[:13, 1]]
    (find,) = criterion.dev_decoders(model).values()
    token_model = fusion.automaton(lm, criterion.tokens, 1.0)
    expected = beam_search(log_probs, [20, 13], beam_size=criteria.DEV_BEAM, token_model=token_model)
    assert find(emissions) == [[criterion.tokens[token] for token in nbest[0].tokens] for nbest in expected]
    assert find(emissions) != [[criterion.tokens[token] for token in each] for each in model.best_tokens(emissions)]


def test_the_best_epoch_may_be_that_of_the_words(ctc_crf, rng, monkeypatch):
    """Dev utterances are scored by phones and by words, and the words decide."""
    criterion, _ = ctc_crf(words="en-us-words")
    model = criterion.acoustic_model(nn.Identity(), Normaliser(FeatureConfig(cmvn="none")))
    spelt = ["DH", "AH", "K", "AE", "T", "S", "AE", "T", "DH", "EH", "R"]
    logits = np.full((48, 40), -9.0)
    logits[:, 0] = 0.0
    for i, label in enumerate(spelt):
        logits[4 * i + 1, criterion.tokens.index(label)] = 9.0
    emissions = [naive.log_softmax(logits).astype(np.float32)]
    monkeypatch.setattr(type(model), "emissions", lambda self, rows: emissions)
    cuts = [named("u", phones=" ".join(spelt[:-1]), text="The cat sat here.")]
    score = DevScore(criterion.config, cuts)
    score.begin(model, criterion.dev_decoders(model))
    given = replace(batch([[1]], [40]), ids=["u"])
    score.add(replace(given, is_spare=True))
    assert score.counts[PER].reference_length == 0  # another process counts it
    score.add(given)
    assert (score.counts[PER].errors, score.counts[PER].reference_length) == (1, len(spelt) - 1)
    assert (score.counts[WER].errors, score.counts[WER].reference_length) == (1, 4)
    assert (monitor(criterion.config), monitor(ctc_crf()[0].config)) == (WER, PER)


def test_a_recurrent_model_is_no_denominator(ctc_crf, monkeypatch):
    monkeypatch.setattr(criteria.search, "language_model", lambda *_: SimpleNamespace(unit="phones"))
    with pytest.raises(ConfigError, match=r"\(train.criterion.lm\) is no n-gram: name one over arpabet39"):
        ctc_crf()


def test_all_pronunciations_count_after_epochs_of_ctc(ctc_crf, ctc, rng):
    criterion, lm = ctc_crf(ctc_weight=0, warmup_epochs=1, pronunciations="all")
    weights = fusion.denominator(lm, criterion.tokens)
    logits = torch.tensor(rng.normal(size=(9, 2, 40)), dtype=torch.float32)
    words = ([[(1, 7), (2,)], [(7,)]], [[(39,)]])
    lengths, given = torch.tensor([9, 5]), replace(batch([[1, 7, 7], [39]], [9, 5]), texts=words)
    torch.testing.assert_close(criterion.each(logits, lengths, given), ctc().each(logits, lengths, given))
    criterion.epoch = 1
    expected = alternatives_loss(logits, [weights.restricted(each) for each in words], lengths, weights)
    torch.testing.assert_close(criterion.each(logits, lengths, given), expected)
    torch.testing.assert_close(criterion(logits, lengths, given), (expected / torch.tensor([3, 1])).mean())


def test_targets_have_pronunciations_where_all_count(ctc_crf):
    said = SimpleNamespace(text="The", custom={"phones": "DH IY", "word_lengths": [2]})
    spoken = SimpleNamespace(id="u", corpus="mini", phone_set="arpabet39", supervisions=[said])
    criterion, _ = ctc_crf(ctc_weight=0, pronunciations="all")
    targets = criterion.targets([], "train", 3)
    assert [[criterion.tokens[i] for i in each] for each in targets.text(spoken)[0]] == [["DH", "IY"], ["DH", "AH"]]
    assert type(ctc_crf()[0].targets([], "train", 3)) is LabelTargets


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"pronunciations": "some"}, r"train\.criterion\.pronunciations must be one of first, all"),
        (
            {"pronunciations": "all", "ctc_weight": 0.1},
            r"train\.criterion\.ctc_weight must be 0 for all pronunciations",
        ),
        (
            {"pronunciations": "all", "name": "ctc", "lm": None},
            r"pronunciations must be first for ctc",
        ),
    ],
)
def test_all_pronunciations_are_for_ctc_crf_alone(ctc_crf, options, fault):
    with pytest.raises(ConfigError, match=fault):
        ctc_crf(**options)


def test_an_utterance_in_which_nobody_speaks_counts_by_its_frames(rng):
    """As much as others: undivided, it would outweigh all labels of a batch."""
    criterion = CTC(from_dict({"data": {"corpora": {"mini": None}}}))
    logits, lengths = torch.from_numpy(rng.standard_normal((30, 3, criterion.num_classes))), torch.tensor([30, 20, 25])
    mixed = batch([[1, 2, 3], [], [4, 4]], lengths.tolist())
    nats = criterion.each(logits, lengths, mixed)
    expected = (nats / torch.tensor([3, 20, 2])).mean()
    torch.testing.assert_close(criterion(logits, lengths, mixed), expected)
    torch.testing.assert_close(criteria.per_label(nats[:2], lengths, mixed), nats[:2] / torch.tensor([3, 20]))
