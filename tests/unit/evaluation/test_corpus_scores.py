"""What is counted in a test set: words in brackets, which the language model did not know, are wrong."""

from types import SimpleNamespace

from asr.evaluation import metrics
from asr.evaluation.corpus_scores import word_texts


def test_a_word_in_brackets_is_wrong_even_if_it_is_spelt_right():
    cut = SimpleNamespace(id="u1", supervisions=[SimpleNamespace(text="Mr. Nusbaum came [home]")])
    said = SimpleNamespace(words=("mr", "[nusbaum]", "came", "[HH OW M]"))
    references, hypotheses = word_texts([SimpleNamespace(cut=cut, hypotheses={"beam": said})], "beam")
    assert references == {"u1": ["mr", "nusbaum", "came", "home"]}
    assert hypotheses == {"u1": ["mr", "[nusbaum]", "came", "[hh_ow_m]"]}
    assert metrics.score(references, hypotheses).counts.substitutions == 2
