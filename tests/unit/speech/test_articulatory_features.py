"""Phones that are articulated alike, against the feature error rate of one for the other."""

import pytest

from asr.core.errors import AsrError
from asr.evaluation.confusions import feature_error_rate
from asr.speech import articulatory_features, phones


def test_the_nearest_phone_has_the_fewest_feature_errors():
    pytest.importorskip("panphon")
    written = phones.table("arpabet39").ipa
    labels = {sound: label for label, sound in written.items()}
    for label, sound in written.items():
        others = [other for other in labels if other != sound]
        near = articulatory_features.nearest(sound, others)
        rates = [feature_error_rate([[label]], [[labels[other]]], "arpabet39") for other in others]
        assert others.index(near) == rates.index(min(rates))


def test_of_several_the_first_is_nearest():
    pytest.importorskip("panphon")
    assert articulatory_features.nearest("a˥", ["a˧˥", "i", "a"]) == "a˧˥"
    assert articulatory_features.nearest("a˥", ["a", "i", "a˧˥"]) == "a"


@pytest.mark.parametrize(("phone", "among"), [("#", ["k"]), ("spn", ["k"]), ("k", ["#"]), ("k", [])])
def test_what_is_no_phone_is_like_nothing(phone, among):
    pytest.importorskip("panphon")
    assert articulatory_features.nearest(phone, among) is None


def test_without_panphon_it_says_what_to_install(monkeypatch):
    articulatory_features._table.cache_clear()
    articulatory_features._features.cache_clear()
    monkeypatch.setattr(articulatory_features.util, "find_spec", lambda name: None)
    with pytest.raises(AsrError, match=r"\[pfer\]"):
        articulatory_features.nearest("k", ["t"])
