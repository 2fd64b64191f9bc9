import itertools

import numpy as np
import pytest

from asr.core.errors import AsrError
from asr.hmm.graph import required_frames
from asr.hmm.phone_hmms import LEAST_TRANSITION, SILENCE, PhoneHMMs, silences_of
from asr.hmm.tying import NUM_STATES, Tying

LABELS = ("a", "b", "c", SILENCE)
SIL, EDGE = 3, 4


def in_every_context(heard=(0, 1)):
    """HMMs that have a density of its own for each state of each phone of `heard` in each context."""
    pdfs, count = np.empty((4, NUM_STATES, 5, 5), np.int64), 0
    for phone, state in np.ndindex(4, NUM_STATES):
        size = 25 if phone in heard else 1
        pdfs[phone, state] = (count + np.arange(size)).reshape((5, 5) if size == 25 else (1, 1))
        count += size
    return PhoneHMMs.of(LABELS, (SIL,), Tying(pdfs))


def monophones():
    return PhoneHMMs.monophones(LABELS, (SIL,))


def mass(graph, num_frames):
    """Probability of all paths of at most so many frames."""
    reached, total = np.exp(graph.starts), 0.0
    targets = np.repeat(np.arange(len(graph.pdfs)), np.diff(graph.offsets))
    for _ in range(num_frames):
        total += (reached * np.exp(graph.finals)).sum()
        reached = np.bincount(targets, reached[graph.sources] * np.exp(graph.weights), len(graph.pdfs))
    return total


def with_pauses(said, word_lengths):
    """What may be said, by hand: a silence or none at both ends and between words."""
    gaps = sorted({0, len(said), *np.cumsum(word_lengths).astype(int).tolist()})
    for silent in itertools.product([False, True], repeat=len(gaps)):
        chosen = {gap for gap, stands in zip(gaps, silent, strict=True) if stands}
        yield [
            phone
            for i in range(len(said) + 1)
            for phone in ([SIL] if i in chosen else []) + ([said[i]] if i < len(said) else [])
        ]


def densities(hmms, sequence):
    """Densities of the states that a sequence of phones passes, without staying, skipping or going back."""
    around = [EDGE, *sequence, EDGE]
    return tuple(
        int(hmms.tying.pdfs[phone, state, around[i], around[i + 2]])
        for i, phone in enumerate(sequence)
        for state in range(NUM_STATES)
    )


def passages(hmms, transcript):
    """Every path through a transcript's states from left to right, as its densities, with its phones."""
    graph = transcript.graph(hmms)
    follow = {j: [] for j in range(len(graph.pdfs))}
    states = transcript.states
    for target in range(len(graph.pdfs)):
        for source in graph.sources[graph.offsets[target] : graph.offsets[target + 1]].tolist():
            inside = transcript.instances[source] == transcript.instances[target]
            onward = states[target] == (states[source] + 1 if inside else 0)
            if onward and (inside or states[source] == NUM_STATES - 1):
                follow[source].append(target)

    def walk(path):
        if graph.finals[path[-1]] > -np.inf and states[path[-1]] == NUM_STATES - 1:
            yield path
        for target in follow[path[-1]]:
            yield from walk([*path, target])

    for first in np.flatnonzero(graph.starts > -np.inf).tolist():
        for path in walk([first]):
            yield tuple(graph.pdfs[path].tolist()), tuple(transcript.segments(np.array(path))[0].tolist())


@pytest.mark.parametrize(
    "hmms", [monophones(), in_every_context(), in_every_context((0, 1, 2)), in_every_context((1,))]
)
@pytest.mark.parametrize(
    ("labels", "word_lengths"),
    [
        (["a"], []),
        (["a", "b"], []),
        (["a", "a", "a"], []),
        (["b"], [1]),
        (["a", "b"], [1, 1]),
        (["a", "b", "a", "c"], [2, 1, 1]),
        (["b", "b", "b"], [1, 1, 1]),
        (["c", "a", "b", "b", "a"], [1, 3, 1]),
        (["c", "a", "b", "b", "a"], [5]),
    ],
)
def test_a_transcripts_paths_are_all_that_may_be_said(hmms, labels, word_lengths):
    said = [LABELS.index(label) for label in labels]
    expected = {densities(hmms, each): tuple(each) for each in with_pauses(said, word_lengths)}
    found = list(passages(hmms, hmms.transcript(labels, word_lengths)))
    assert dict(found) == expected
    assert len(found) == len(expected)  # none of them twice


@pytest.mark.parametrize("hmms", [monophones(), in_every_context(), in_every_context((0, 1, 2))])
@pytest.mark.parametrize(("labels", "word_lengths"), [(["a"], []), (["a", "b", "a"], [1, 2]), (["c", "b"], [1, 1])])
def test_probabilities_of_a_transcripts_paths_add_up_to_one(hmms, labels, word_lengths, rng):
    """Of all lengths together: 600 frames leave out less than 1e-9."""
    counts = rng.uniform(1, 3, (hmms.tying.num_pdfs, NUM_STATES + 1))
    estimated = hmms.estimate(np.where(hmms.ways(), counts, 0))
    assert mass(hmms.transcript(labels, word_lengths).graph(estimated), 600) == pytest.approx(1, abs=1e-9)


def test_each_silence_stands_on_half_of_the_paths():
    """A path of as few frames as can be takes a way of probability 1/2 from each state, 1/2 a gap besides."""
    graph = PhoneHMMs.monophones(LABELS, ()).transcript(["a", "b"], [1, 1]).graph(monophones())
    assert required_frames(graph) == 6
    assert mass(graph, 6) == pytest.approx(0.5**6 * 0.5**3)


def test_a_transcript_without_an_added_silence_is_what_is_said():
    hmms = PhoneHMMs.monophones(("h#", "a"), (0,))
    transcript = hmms.transcript(["h#", "a", "a", "h#"], [1, 2, 1])
    assert [phones for _, phones in passages(hmms, transcript)] == [(0, 1, 1, 0)]
    marked = monophones().transcript([SILENCE, "a"])  # where silences are written, none is optional
    assert [phones for _, phones in passages(monophones(), marked)] == [(SIL, 0)]


@pytest.mark.parametrize("hmms", [monophones(), in_every_context((0, 1, 2))])
def test_silence_may_be_short_or_go_round_and_speech_may_not(hmms):
    transcript = hmms.transcript(["a"])
    graph = transcript.graph(hmms)
    targets = np.repeat(np.arange(len(graph.pdfs)), np.diff(graph.offsets))
    ways = {SIL: set(), 0: set()}
    for source, target in zip(graph.sources.tolist(), targets.tolist(), strict=True):
        if transcript.instances[source] == transcript.instances[target]:
            ways[transcript.phones[source]].add((transcript.states[source], transcript.states[target]))
    assert ways[0] == {(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)}
    assert ways[SIL] == ways[0] | {(0, 2), (2, 0)}
    assert required_frames(hmms.transcript([SILENCE]).graph(hmms)) == 2


def test_estimates_are_shares_with_a_floor():
    hmms = monophones()
    counts = np.zeros((12, 4))
    counts[0] = [6, 2, 0, 0]
    counts[1] = [0, 1000, 0, 0]
    counts[9] = [5, 3, 2, 0]
    found = np.exp(hmms.estimate(counts).log_transitions)
    np.testing.assert_allclose(found[0], [0.75, 0.25, 0, 0])
    assert LEAST_TRANSITION / 1.1 < found[1, 2] <= LEAST_TRANSITION
    np.testing.assert_allclose(found[9], [0.5, 0.3, 0.2, 0])
    np.testing.assert_allclose(found[11], [1 / 3, 0, 1 / 3, 1 / 3])  # never visited: as it was
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert ((found > 0) == hmms.ways()).all()


def test_counts_of_ways_that_there_are_not_change_nothing():
    counts = np.zeros((12, 4))
    counts[0] = [6, 2, 4, 0]
    np.testing.assert_allclose(np.exp(monophones().estimate(counts).log_transitions[0]), [0.75, 0.25, 0, 0])


def test_segments_part_equal_neighbours():
    transcript = monophones().transcript(["a", "a", "b"], [2, 1])
    instance = {}
    for state, each in enumerate(zip(transcript.phones.tolist(), transcript.instances.tolist(), strict=True)):
        instance.setdefault(each, state)
    order = [instance[each] for each in sorted(instance, key=lambda each: each[1])]
    pause, one, two, between, last, _ = order
    path = np.array([pause, pause + 2, one, one + 1, one + 2, two, two, two + 1, two + 2, between, last, last + 2])
    phones, firsts = transcript.segments(path)
    assert phones.tolist() == [SIL, 0, 0, SIL, 1]
    assert firsts.tolist() == [0, 2, 5, 9, 10]


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["a", "x"], "label 'x' has no HMM: the labels are a b c SIL"), ([], "without phones has no path")],
)
def test_what_has_no_hmm_is_named(labels, message):
    with pytest.raises(AsrError, match=message):
        monophones().transcript(labels)


def test_words_must_have_all_phones():
    with pytest.raises(ValueError, match="words of 3 phones, but 2 phones"):
        monophones().transcript(["a", "b"], [1, 2])


@pytest.mark.parametrize(
    ("phone_set", "silences"), [("timit61", {"epi", "h#", "pau"}), ("timit39", {"sil"}), ("arpabet39", {"SIL"})]
)
def test_silences_of_phone_sets(phone_set, silences):
    labels, numbers = silences_of(phone_set)
    assert {labels[i] for i in numbers} == silences
    assert len(labels) == len(set(labels)) == int(phone_set[-2:]) + (SILENCE in silences)
