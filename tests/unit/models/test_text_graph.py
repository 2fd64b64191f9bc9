"""The graph of a text: each word by one of its pronunciations, which share nodes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.models import text_graph
from asr.models.base import Spellings
from asr.speech.pronounce import ways
from asr.speech.text import split_words

LABELS = ["<blank>", "A", "B", "C"]
INDEX = {label: i for i, label in enumerate(LABELS)}
PRONUNCIATION = st.lists(st.sampled_from("ABC"), min_size=1, max_size=5).map(tuple)


class Recorder(text_graph._Builder):
    """Builds one word after a node, and knows which nodes follow each."""

    def paths(self, pronunciations):
        self.before = [0]
        self.add_word(0, [[INDEX[label] for label in each] for each in pronunciations])
        follow = {}
        for source, target, _ in self.arcs:
            follow.setdefault(source, []).append(target)
        waiting, found = [(0, ())], []
        while waiting:
            node, labels = waiting.pop()
            found += [labels] if node in self.before else []
            waiting += [(target, (*labels, LABELS[self.tokens[target]])) for target in follow.get(node, ())]
        return found


@given(st.lists(PRONUNCIATION, min_size=1, max_size=6, unique=True))
def test_the_paths_of_a_word_are_its_pronunciations_each_once(pronunciations):
    builder = Recorder(len(LABELS), -0.5)
    assert sorted(builder.paths(pronunciations)) == sorted(pronunciations)
    assert all(source < target for source, target, _ in builder.arcs)


@given(st.lists(PRONUNCIATION, min_size=1, max_size=6, unique=True))
def test_pauses_cost_within_a_word_and_not_behind_it(pronunciations):
    builder = Recorder(len(LABELS), -0.5)
    builder.paths(pronunciations)
    sources = {source for source, _, _ in builder.arcs} - {0}
    assert all(builder.rests[node] == -0.5 for node in sources)
    assert all(builder.rests[node] == 0 and node not in sources for node in builder.before)


def test_readings_that_share_beginnings_and_ends_share_nodes():
    (word,) = split_words("12/25/1998")
    several = [way.phones for way in ways(word.readings)]
    labels = sorted({*itertools.chain.from_iterable(several)})
    index = {label: i for i, label in enumerate(["<blank>", *labels])}
    num_nodes = len(text_graph.build(Spellings([several]), index, 0.03).words)
    assert num_nodes < sum(map(len, several)) / 5


@pytest.mark.parametrize("count", [1, 3000])
def test_a_long_row_of_phones_is_one_chain(count):
    graph = text_graph.build(Spellings.of_phones(["A", "B"] * count), INDEX, 0.03)
    assert len(graph.words) == 2 * count + 3
