"""Progress and notes on standard error: lines where there is no terminal, one note when kernels are compiled."""

import logging
from types import SimpleNamespace

import pytest
from numba.core import event
from rich.console import Console

from asr.core import compilation, terminal
from asr.core.terminal import Progress, track


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when it is told to."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now.seconds)
    return now


def test_without_a_terminal_progress_is_a_line_now_and_then(clock, caplog):
    with caplog.at_level(logging.INFO, "asr"):
        for _ in track(range(40), "counting"):
            clock.seconds += 1
    assert caplog.messages == ["counting: 15 of 40, 25 s left", "counting: 30 of 40, 10 s left"]


def test_a_short_loop_says_nothing(clock, caplog):
    with caplog.at_level(logging.INFO, "asr"):
        assert list(track([1, 2], "counting")) == [1, 2]
    assert not caplog.messages


def test_a_loop_that_goes_on_reckons_with_its_own_steps(clock, caplog):
    with caplog.at_level(logging.INFO, "asr"), Progress("epoch 2 of 9", total=100) as progress:
        for done in range(61, 81):
            clock.seconds += 1
            progress.update(done, "loss 2.500")
    assert caplog.messages == ["epoch 2 of 9: 75 of 100, loss 2.500, 25 s left"]


def test_the_first_update_may_be_of_several_steps(clock, caplog):
    with caplog.at_level(logging.INFO, "asr"), Progress("recordings", total=40, before=0) as progress:
        clock.seconds += 20
        progress.update(10)
    assert caplog.messages == ["recordings: 10 of 40, 60 s left"]


def test_a_loop_of_unknown_length(clock, caplog):
    with caplog.at_level(logging.INFO, "asr"):
        for _ in track(iter(range(20)), "reading"):
            clock.seconds += 1
    assert caplog.messages == ["reading: 15"]


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_on_a_terminal_progress_is_a_bar_unless_notes_are_hidden(monkeypatch, capsys, level):
    monkeypatch.setattr(terminal, "STDERR", Console(stderr=True, force_terminal=True))
    monkeypatch.setattr(logging.getLogger("asr"), "level", level)
    list(track([1, 2], "counting"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("2/2" in captured.err) is (level == logging.INFO)


def test_compiling_is_told_once_and_of_our_kernels_only(caplog):
    def compiled(module):
        function = SimpleNamespace(__module__=module)
        with event.trigger_event("numba:compile", {"dispatcher": SimpleNamespace(py_func=function)}):
            pass

    announcer = compilation._Announcer()
    event.register("numba:compile", announcer)
    try:
        with caplog.at_level(logging.INFO, "asr"):
            compiled("librosa.util")
            assert not caplog.messages
            compiled("asr.ctc.align_kernels")
            told = [message for message in caplog.messages if "compiling kernels, once" in message]
            assert len(told) >= 1
            caplog.clear()
            compiled("asr.ctc.align_kernels")
            assert not caplog.messages
    finally:
        event.unregister("numba:compile", announcer)
