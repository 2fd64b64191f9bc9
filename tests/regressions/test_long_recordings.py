"""Long recordings and language models: what was said before a short pause counts after it, wherever the cuts are."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from asr.core import workers
from asr.core.config import from_dict
from asr.ctc import beam, beam_kernels, beam_search
from asr.lm import arpa, fusion, word_search
from asr.lm.config import RecurrentConfig
from asr.lm.estimation import estimate
from asr.lm.language_model import EDGE
from asr.lm.lexicon import Lexicon
from asr.lm.word_search import WordSearch
from asr.models.calibration import Calibration
from asr.models.ctc import CTCModel
from asr.recognition import windows
from asr.recognition.recogniser import Recogniser
from asr.speech.normaliser import Normaliser
from asr.training.recurrent_lm import Network

pytestmark = pytest.mark.kernels

TOKENS = ("<blank>", "AA", "B", "T")
LABELS = ("<blank>", "A", "B", "C", "D")
# AA and B take turns, and none of them begins: a model that forgets what was before a pause wants another T there.
TEXT = [["T", *["AA", "B"] * 20]] * 20


class Scripted(nn.Module):
    """An encoder of one frame a step that says what it was told in the frames that it hears."""

    subsampling = 1

    def __init__(self, probs):
        super().__init__()
        self.log_probs = torch.log(torch.tensor(probs, dtype=torch.float32))

    def forward(self, features, lengths):
        firsts = features[:, 0, 0].long()
        frames = (firsts + torch.arange(features.shape[1])[:, None]).clamp(max=len(self.log_probs) - 1)
        return self.log_probs[frames], lengths


def recogniser(probs, lm, **decode):
    """Return a recogniser that hears `probs`: its features are the numbers of the frames."""
    given = {"lm": str(lm), "lm_weight": 1.0, "beam_size": 8} | decode
    config = from_dict({"data": {"corpora": {"mini": None}}, "features": {"cmvn": "none"}, "decode": given})
    found = Recogniser(CTCModel(config, TOKENS, Normaliser(config.features), Calibration(), Scripted(probs)))
    found._extractor = lambda waveform: np.arange(len(probs), dtype=np.float32)[:, None]
    return found


def unsure_after_pauses(seconds):
    """Posteriors of T, AA, B, AA, …, one a second; at every fifth, after a pause, T is likelier than what it is."""
    probs = np.full((100 * seconds, 4), 1e-6)
    probs[:, 0] = 1 - 3e-6
    labels = ["T", *itertools.islice(itertools.cycle(("AA", "B")), seconds - 1)]
    for second, label in enumerate(labels):
        frame = 100 * second + (50 if second % 5 else 80)
        probs[frame] = 1e-6
        if second % 5 or second == 0:
            probs[frame, TOKENS.index(label)] = 1 - 3e-6
        else:
            probs[frame, TOKENS.index(label)], probs[frame, TOKENS.index("T")] = 0.3, 0.7 - 2e-6
    return probs, labels


def sound(probs):
    return np.zeros(400 + 160 * (len(probs) - 1), np.float32)


@pytest.mark.parametrize(("core", "piece"), [(2400, 20.0), (700, 4.0), (1100, 7.0), (10**9, 1e9)])
def test_phones_after_a_pause_follow_those_before_it(core, piece, tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "CORE", core)
    monkeypatch.setattr(windows, "PIECE", piece)
    arpa.write(estimate(TEXT, "phones", 2, "witten_bell"), tmp_path / "turns.arpa")
    probs, labels = unsure_after_pauses(120)
    found = recogniser(probs, tmp_path / "turns.arpa").transcribe(sound(probs), 16000)
    assert [phone.label for phone in found] == labels
    for second, phone in enumerate(found):
        assert phone.start - 0.01 <= second + (0.5 if second % 5 else 0.8) <= phone.end + 0.01


@pytest.mark.parametrize("piece", [20.0, 4.0, 1e9])
def test_words_go_on_over_the_cuts_and_each_is_put_where_it_is(piece, tmp_path, monkeypatch):
    """A word whose phones lie on both sides of a cut is one word."""
    monkeypatch.setattr(windows, "PIECE", piece)
    monkeypatch.setattr(windows, "SILENCE", 2.0)  # the words themselves have pauses of a second
    (tmp_path / "lexicon.txt").write_text("tab T AA B\nab AA B\n")
    arpa.write(estimate([["tab", *["ab"] * 20]] * 20, "words", 2, "witten_bell"), tmp_path / "words.arpa")
    probs, labels = unsure_after_pauses(121)
    lexicon = str(tmp_path / "lexicon.txt")
    found = recogniser(probs, tmp_path / "words.arpa", lexicon=lexicon).transcribe(sound(probs), 16000)
    assert [phone.label for phone in found] == labels
    assert [word.label for word in found.words] == ["tab", *["ab"] * 59]
    assert [word.start for word in found.words] == [found.phones[i].start for i in (0, *range(3, 121, 2))]
    assert [word.end for word in found.words] == [found.phones[i].end for i in range(2, 121, 2)]


@pytest.mark.parametrize("num_threads", [1, 3])
def test_words_after_a_long_pause_are_those_of_what_follows_alone(num_threads, tmp_path, monkeypatch):
    """Sentences of 0.9 s have 1.1 s of silence between; only in a new search is a T before the first word likely."""
    monkeypatch.setattr(workers, "_num_threads", num_threads)
    (tmp_path / "lexicon.txt").write_text("tab T AA B\nab AA B\n")
    arpa.write(estimate([["tab", "ab", "ab"]] * 20, "words", 2, "witten_bell"), tmp_path / "words.arpa")
    probs = np.full((200 * 60, len(TOKENS)), 1e-6)
    probs[:, 0] = 1 - 3e-6
    for start in range(0, len(probs), 200):
        for i, label in enumerate(("T", "AA", "B", "AA", "B", "AA", "B")):
            frame = start + 60 + 15 * i
            probs[frame] = 1e-6
            probs[frame, TOKENS.index(label)] = 1 - 3e-6
        probs[start + 60] = 0.6 - 2e-6, 1e-6, 1e-6, 0.4
    long = recogniser(probs, tmp_path / "words.arpa", lexicon=str(tmp_path / "lexicon.txt"))
    heard = long.hear(sound(probs), 16000)
    ends = windows.cuts(heard.emissions, 0.01, windows.SILENCE, windows.SURE)
    assert 4 < len(ends) <= 13
    assert not any(50 < end % 200 < 160 for end in ends[1:-1])
    new = {(end + 50) // 200 for end in ends[:-1]}
    found = long.transcript(heard)
    labels = [word.label for word in found.words]
    assert labels == [label for k in range(60) for label in ("tab" if k in new else "ab", "ab", "ab")]
    assert [word.start // 2 for word in found.words] == [k for k in range(60) for _ in range(3)]
    alone = [long.model.hypotheses([heard.emissions[a:b]], 8, 1)[0][0] for a, b in itertools.pairwise(ends)]
    assert [label for each in alone for label in each.words] == labels


def test_several_hypotheses_of_a_long_recording_are_those_of_one_search(tmp_path, rng):
    arpa.write(estimate(TEXT, "phones", 2, "witten_bell"), tmp_path / "turns.arpa")
    probs = rng.dirichlet(np.ones(4) / 8, 7000) + 1e-9
    long = recogniser(probs / probs.sum(axis=1, keepdims=True), tmp_path / "turns.arpa", nbest=3)
    emissions = long.hear(sound(probs), 16000).emissions
    assert len(windows.cuts(emissions, 0.01)) > 3
    found = long.transcribe(sound(probs), 16000)
    (expected,) = long.model.search(emissions[:, None], np.array([7000]), 8, 3)
    assert found.nbest == [(tuple(TOKENS[token] for token in each.tokens), each.score, None) for each in expected]
    assert tuple(phone.label for phone in found) == found.nbest[0][0]


def recurrent():
    torch.manual_seed(1)
    network = Network(RecurrentConfig(cell="lstm", embedding_size=6, hidden_size=8), 5)
    return network.lm("phones", (EDGE, *LABELS[1:]))


@pytest.fixture(scope="module")
def searches():
    """Each search of log_probs, lengths, beam size and number of hypotheses, over the labels A to D."""
    rng = np.random.default_rng(3)
    lm = estimate([list(rng.choice(LABELS[1:], 12)) for _ in range(30)], "phones", 3, "witten_bell")
    words = ["ab", "b", "ca", "dca", "a"]
    spoken = estimate([list(rng.choice(words, 6)) for _ in range(30)], "words", 2, "witten_bell")
    automaton, network = fusion.automaton(lm, LABELS, 0.8, 0.1), recurrent()
    return {
        "no model": beam_search,
        "n-gram": lambda *given: beam_search(*given, token_model=automaton),
        "pruned": lambda *given: beam_search(*given, token_model=automaton, beam_threshold=4.0, token_threshold=0.01),
        "frame by frame": lambda *given: fusion.beam_search(given[0], given[1], lm, LABELS, 0.8, 0.1, *given[2:]),
        "recurrent": lambda *given: fusion.beam_search(given[0], given[1], network, LABELS, 0.8, 0.1, *given[2:]),
        "words": WordSearch(Lexicon.build((word, word.upper()) for word in words), spoken, LABELS, 0.7, 0.1),
    }


def posteriors(rng, num_frames, batch, sharp):
    logits = sharp * rng.standard_normal((num_frames, batch, len(LABELS)))
    return logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)


@pytest.mark.parametrize("name", ["no model", "n-gram", "pruned", "frame by frame", "recurrent", "words"])
@pytest.mark.parametrize("sharp", [1.0, 4.0])
def test_a_tree_that_is_cleared_when_full_changes_no_bit(name, sharp, searches, rng, monkeypatch):
    log_probs, lengths = posteriors(rng, 150, 2, sharp), np.array([150, 121])
    expected = searches[name](log_probs, lengths, 6, 3)
    for room in (1, 2, 5, 40):
        monkeypatch.setattr(beam_kernels, "ROOM", room)
        found = searches[name](log_probs, lengths, 6, 3)
        if name == "recurrent":  # torch rounds by the number of rows, and a prefix that comes back is a new row
            for ours, theirs in zip(itertools.chain(*found), itertools.chain(*expected), strict=True):
                assert ours.tokens == theirs.tokens
                assert ours.score == pytest.approx(theirs.score, abs=1e-5)
        else:
            assert found == expected


@pytest.mark.parametrize("name", ["no model", "n-gram", "words"])
@pytest.mark.parametrize("sharp", [1.0, 4.0])
def test_the_best_path_of_a_long_utterance_is_looked_for_near_the_search(name, sharp, searches, rng, monkeypatch):
    log_probs, lengths = posteriors(rng, 500, 2, sharp), np.array([500, 421])
    expected = searches[name](log_probs, lengths, 6, 3)
    monkeypatch.setattr(beam, "CELLS", 0)
    assert searches[name](log_probs, lengths, 6, 3) == expected


def test_memory_does_not_grow_with_the_recording(rng, monkeypatch):
    for size in (beam_kernels.workspace_size, word_search._workspace_size):
        assert size(10**7, 16) == size(beam_kernels.ROOM, 16)
    sizes, make_room = [], beam_kernels.make_room

    def noted(*args):
        tree, former = make_room(*args)
        sizes.append(len(tree))
        return tree, former

    monkeypatch.setattr(beam_kernels, "make_room", noted)
    monkeypatch.setattr(beam_kernels, "ROOM", 8)
    lm = estimate([list("ABCD")], "phones", 2, "witten_bell")
    said = np.where(np.arange(6000) % 50, 0, rng.integers(1, 5, 6000))
    probs = 10.0 ** rng.uniform(-12, -1, (6000, 5))
    probs[np.arange(6000), said] = 1
    log_probs = np.log(probs / probs.sum(axis=1, keepdims=True))[:, None]
    ((found,),) = fusion.beam_search(log_probs, None, lm, LABELS, 0.5, 0.0, 8)
    assert 0 < max(sizes) <= 4 * 8 * (8 + len(found.tokens)) < 6000  # the tokens of 8 prefixes, not K a frame
    assert math.isfinite(found.score)
