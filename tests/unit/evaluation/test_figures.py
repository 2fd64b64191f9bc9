import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from asr.core.errors import AsrError
from asr.evaluation import figures, lettering
from asr.evaluation.confusions import Confusions
from asr.speech import phones


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Return a function that draws a matrix and hands back its axes, which closing would empty."""
    kept = []
    monkeypatch.setattr(figures.plt, "close", kept.append)

    def draw(pairs, phone_set="timit39", **changed):
        counted = Confusions.of([pairs], phone_set).to_json() | changed
        figures.confusion_heatmap(counted, tmp_path / "map.png", "".join(changed.get("labels", "")))
        return kept[-1].axes[0]

    yield draw
    monkeypatch.undo()
    for figure in kept:
        plt.close(figure)


def test_cells_are_shares_of_the_reference_label(drawn):
    """Of four t one is right, one a d, two are lost; of three insertions two are s."""
    said = [("t", "t"), ("t", "d"), ("t", None), ("t", None)]
    axes = drawn([*said, (None, "s"), (None, "s"), (None, "d")])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["d", "t", "s", "inserted"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["d", "t", "s", "deleted"]
    cells = np.asarray(axes.collections[0].get_array()).reshape(4, 4)
    expected = [[0, 0, 0, 0], [25, 25, 0, 50], [0, 0, 0, 0], [100 / 3, 0, 200 / 3, 0]]
    np.testing.assert_allclose(cells, expected, rtol=1e-12)
    assert axes.yaxis_inverted()  # the diagonal falls


def test_colours_follow_the_square_root(drawn):
    mesh = drawn([("t", "t")]).collections[0]
    np.testing.assert_allclose(mesh.norm([0, 1, 25, 100]), [0, 0.1, 0.5, 1], rtol=1e-12)


@pytest.mark.parametrize("phone_set", phones.names())
def test_labels_of_a_whole_set_do_not_touch(drawn, phone_set):
    labels = phones.PhoneSet.load(phone_set).labels
    axes = drawn([(label, label) for label in labels], phone_set)
    boxes = [tick.get_window_extent() for tick in axes.get_yticklabels()]
    assert len(boxes) == len(labels) + 1
    assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))


def test_the_picture_is_written_whole(drawn, tmp_path):
    drawn([("t", "t"), ("t", "d")])
    assert [path.name for path in tmp_path.iterdir()] == ["map.png"]
    with Image.open(tmp_path / "map.png") as picture:
        assert min(picture.size) > 200
        assert len(picture.convert("RGB").getcolors(1 << 16)) > 20


def test_labels_of_any_script_are_drawn_in_another_font_or_named(drawn):
    """A d with a palatal hook is in STIX, which comes with Matplotlib; no font has characters of private use."""
    labels = ["\u1d81", "\U0010fffd", "t͡ʃ"]
    axes = drawn([("d", "t"), ("s", "t")], labels=labels)
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [each.get_text() for each in ticks][:-1] == ["\u1d81", "[U+10FFFD]", "t͡ʃ"]
        assert all(len(each.get_fontfamily()) > 1 for each in ticks)
    assert axes.get_title() == "\u1d81[U+10FFFD]t͡ʃ"


@pytest.mark.parametrize(
    ("character", "name"),
    [("한", "han"), ("क", "ka"), ("ा", "sign aa"), ("ก", "ko kai"), ("你", "U+4F60"), ("\t", "U+0009"), ("ب", "beh")],
)
def test_a_letter_that_no_font_has_is_called_by_its_name(character, name):
    assert lettering.name_of(character) == name


def test_a_matrix_of_nothing_is_refused(tmp_path):
    with pytest.raises(AsrError, match="without labels"):
        figures.confusion_heatmap(Confusions.of([], "timit39").to_json(), tmp_path / "map.png")
    assert not list(tmp_path.iterdir())
