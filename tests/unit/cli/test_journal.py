"""The file that says what results were made from."""

from asr.cli import journal
from asr.cli.journal import Entry


def test_the_last_line_of_a_result_counts(tmp_path):
    assert journal.read(tmp_path) == {}
    journal.note(tmp_path, "a.TextGrid", Entry("1", {"words": 3}))
    journal.note(tmp_path, "deep/ü b.TextGrid", Entry("2", {}))
    journal.note(tmp_path, "a.TextGrid", Entry("3", {"words": 4}))
    assert journal.read(tmp_path) == {"a.TextGrid": Entry("3", {"words": 4}), "deep/ü b.TextGrid": Entry("2", {})}
    journal.forget(tmp_path, "a.TextGrid")
    assert journal.read(tmp_path) == {"deep/ü b.TextGrid": Entry("2", {})}


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path):
    journal.note(tmp_path, "a", Entry("1", {"words": 3}))
    journal.note(tmp_path, "b", Entry("2", {"words": 3}))
    whole = (tmp_path / journal.FILE).read_text()
    for length in range(len(whole)):
        (tmp_path / journal.FILE).write_text(whole[:length])
        journal.forget(tmp_path, "a")
        journal.note(tmp_path, "c", Entry("3", {}))
        found = journal.read(tmp_path)
        assert "a" not in found
        assert found["c"] == Entry("3", {})
        assert found.get("b") in (None, Entry("2", {"words": 3}))
