"""Rows, epochs and utterances that had one name and were taken for one."""

import json

import torch
from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.audio import AudioSource

from asr.core.config import from_dict
from asr.data import splits
from asr.evaluation import results
from asr.models.model_folder import load
from asr.training.network import RecogniserModule, model_card


def row(decoder="beam 16 + book", per=10.0, **decode):
    about = {"corpus": "mini", "split": "test", "decoder": decoder, "scoring": "timit39", "per": per}
    return (
        about
        | {"interval": [9.0, 11.0], "num_phones": 84, "num_utterances": 3}
        | ({"decode": decode} if decode else {})
    )


def test_rows_of_other_weights_stand_side_by_side(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "README.md").write_text("card\n")
    greedy = row("best path") | {"decode": {}}
    for weight, per in ((0.5, 12.0), (0.8, 11.0), (0.5, 10.0)):
        decode = {"lm": "book", "lm_weight": weight, "insertion_penalty": -0.5}
        results.write_metrics([greedy, row(per=per, **decode)], 1, tmp_path, folder)
    found = json.loads((tmp_path / "metrics.json").read_text())["results"]
    assert [(each["decoder"], each["decode"].get("lm_weight"), each["per"]) for each in found] == [
        ("beam 16 + book", 0.8, 11.0),
        ("best path", None, 10.0),
        ("beam 16 + book", 0.5, 10.0),
    ]
    card = (folder / "README.md").read_text()
    assert "beam 16 + book, lm_weight 0.8 |" in card
    assert "beam 16 + book, lm_weight 0.5 |" in card


def test_rows_of_a_model_folder_that_was_moved_are_replaced(tmp_path):
    """Its n-gram has no place of its own: it was named with the folder of that day, and the rows stood there twice."""
    for place, per in (("here", 12.0), ("there", 11.0)):
        folder = tmp_path / place / "model"
        results.write_metrics([row(per=per, lm=str(folder / "book"), lm_weight=0.5)], 1, tmp_path, folder)
    (found,) = json.loads((tmp_path / "metrics.json").read_text())["results"]
    assert (found["decode"]["lm"], found["per"]) == ("book", 11.0)
    elsewhere = str(tmp_path / "book")
    results.write_metrics([row(per=10.0, lm=elsewhere, lm_weight=0.5)], 1, tmp_path, folder)
    found = json.loads((tmp_path / "metrics.json").read_text())["results"]
    assert [each["decode"]["lm"] for each in found] == ["book", elsewhere]


def test_a_row_of_an_older_version_is_replaced(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps({"seed": 1, "results": [row(), row("best path")]}))
    results.write_metrics([row(per=9.0, lm="book")], 1, tmp_path, tmp_path / "elsewhere" / "model")
    found = json.loads((tmp_path / "metrics.json").read_text())["results"]
    assert [(each["decoder"], each["per"]) for each in found] == [("best path", 10.0), ("beam 16 + book", 9.0)]


def test_the_card_names_the_epoch_that_is_kept(tmp_path):
    """Rounded to what the history keeps, two epochs have the same rate; the second is better and kept."""
    lines = [{"epoch": epoch, "updates": 10 * epoch, "dev_per": 12.34, "seconds": 1.0} for epoch in (1, 2)]
    config = from_dict({"data": {"corpora": {"mini": None}}, "model": {"name": "blstm", "hidden_size": 4}})
    module = RecogniserModule(config, tmp_path)
    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": module.state_dict(), "history": lines}, tmp_path / "checkpoints" / "best.ckpt")
    module.history = [*lines, lines[1] | {"epoch": 3, "dev_per": 20.0}]
    _, epoch = module.best()
    assert epoch["epoch"] == 2
    assert "kept: epoch 2 of" in model_card(load("en-us-phones-small"), epoch, 1.0, "")


def manifest(folder, corpus, utterances):
    (folder / corpus).mkdir(parents=True)
    recordings, supervisions = [], []
    for name, (duration, speaker, phones) in utterances.items():
        source = AudioSource("file", [0], f"{corpus}/{name}.wav")
        recordings.append(Recording(name, [source], 16000, round(16000 * duration), duration))
        supervisions.append(
            SupervisionSegment(name, name, 0.0, duration, speaker=speaker, text="", custom={"phones": phones})
        )
    RecordingSet.from_recordings(recordings).to_file(folder / corpus / "recordings_train.jsonl.gz")
    SupervisionSet.from_segments(supervisions).to_file(folder / corpus / "supervisions_train.jsonl.gz")


def test_other_utterances_with_the_same_id_stay(tmp_path, caplog):
    """The first utterance is in both corpora; the others have a name in common, and nothing else."""
    manifest(tmp_path, "mini", {"u1": (1.0, "ann", "s iy"), "u2": (1.0, "ann", "t"), "u3": (1.0, "ann", "t")})
    manifest(tmp_path, "timit", {"u1": (1.0, "ann", "s iy"), "u2": (2.0, "ann", "t"), "u3": (1.0, "ann", "d iy")})
    with caplog.at_level("INFO"):
        cuts = splits.load_split(tmp_path, ["mini", "timit"], "train")
    assert {cut.id: (cut.corpus, cut.duration) for cut in cuts} == {
        "u1": ("mini", 1.0),
        "u2": ("mini", 1.0),
        "u3": ("mini", 1.0),
        "timit-u2": ("timit", 2.0),
        "timit-u3": ("timit", 1.0),
    }
    assert "timit: 2 train utterances have the ids of others" in caplog.text
