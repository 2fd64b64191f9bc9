"""Where a stream's phrases end, without a recogniser: phones are put where the test wants them."""

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the extra `serve` is not installed")

from asr.recognition.stream import Spike
from asr.serving.listener import LONGEST, Listener, final

RATE = 16000


def sound(seconds, rate=RATE):
    return np.zeros(round(seconds * rate), "<i2").tobytes()


def found(*spans):
    return {"phones": [{"label": "AH", "start": start, "end": end, "confidence": 0.9} for start, end in spans]}


def test_samples_of_any_rate_and_cut_anywhere(rng):
    samples = rng.integers(-9000, 9000, 4001).astype("<i2")
    content = samples.tobytes()
    listener = Listener(RATE)
    for start in range(0, len(content), 333):
        listener.accept(content[start : start + 333])
    np.testing.assert_array_equal(listener.cut(listener.end).waveform, (samples / 32768).astype(np.float32))
    listener = Listener(8000)
    listener.accept(sound(1, 8000))
    listener.finish()
    assert listener.end == 1


def test_a_partial_result_is_due_after_new_sound():
    listener = Listener(RATE)
    listener.accept(sound(0.05))
    assert listener.due is None
    listener.accept(sound(0.05))
    assert listener.due.end == pytest.approx(0.1)
    assert listener.due is None


def test_of_a_long_phrase_only_the_end_is_recognised_again():
    listener = Listener(RATE)
    listener.accept(sound(6))
    listener.set_partial(found((0.2, 1.5), (1.5, 3.0), (3.0, 4.6), (4.6, 5.9)), listener.due)
    listener.accept(sound(1))
    due = listener.due
    assert (due.start, due.end) == pytest.approx((2, 7))  # what ends before 4.5 s is settled, and 1 s of it is context
    listener.set_partial(found((0.1, 0.9), (1.1, 2.4), (2.5, 4.9)), due)
    assert [phone["start"] for phone in listener.partial["phones"]] == pytest.approx([0.2, 1.5, 3.1, 4.5])
    assert listener.partial["partial"] == "AH AH AH AH"
    assert listener.cut(7).start == 0


def test_a_pause_ends_a_phrase_in_its_middle():
    listener = Listener(RATE)
    listener.accept(sound(2))
    listener.set_partial(found((0.2, 0.5), (0.5, 1.0)), listener.due)
    assert listener.phrase_end == pytest.approx(1.4)
    assert listener.partial["partial"] == "AH AH"
    stretch = listener.cut(listener.phrase_end)
    assert (stretch.start, stretch.end, listener.end) == pytest.approx((0, 1.4, 2))
    assert listener.partial == {"partial": "", "phones": []}


def test_a_pause_that_is_past_ends_a_phrase_too():
    listener = Listener(RATE)
    listener.accept(sound(4))
    listener.set_partial(found((0.2, 1.0), (1.9, 3.9)), listener.due)
    assert listener.phrase_end == pytest.approx(1.4)
    listener.cut(1.4)
    assert listener.due.start == pytest.approx(1.4)


def test_speech_without_a_pause_is_cut_at_last():
    listener = Listener(RATE)
    listener.accept(sound(LONGEST - 1))
    listener.set_partial(found((0.2, LONGEST - 1.2)), listener.due)
    assert listener.phrase_end is None
    listener.accept(sound(1))
    assert listener.phrase_end == pytest.approx(LONGEST)


def test_silence_is_forgotten_but_not_before_it_was_heard():
    listener = Listener(RATE)
    listener.accept(sound(5))
    due = listener.due
    assert due.start == 0
    listener.accept(sound(5))
    listener.set_partial(found(), due)
    listener.accept(sound(0.1))
    assert listener.due.start == pytest.approx(4.5)


def test_times_are_those_of_the_stream():
    rows = found((0.2, 0.5)) | {"words": [{"label": "a", "start": 0.2, "end": 0.5, "confidence": 0.8}]}
    message = final(rows, 10.0)
    assert message["text"] == "a"
    assert message["result"] == [{"word": "a", "start": 10.2, "end": 10.5, "conf": 0.8}]
    assert message["phones"][0]["start"] == 10.2
    assert final(found((0.2, 0.5)), 0.0)["text"] == "AH"


class Beat:
    """Hears a phone at the start of each even second, as far as 0.2 s before the last sample."""

    labels = "arpabet39"

    def __init__(self, finds_words=False):
        self.finds_words, self.num_samples, self.start = finds_words, 0, 0.0

    @property
    def end(self):
        return max(0.0, self.num_samples / RATE - 0.2)

    @property
    def known(self):
        return self.end

    def accept(self, samples):
        before = self.end
        self.num_samples += len(samples)
        return [Spike("T", second) for second in range(0, 100, 2) if before <= second < self.end]

    def emissions(self, start):
        return np.zeros((round((self.end - max(start, self.start)) / 0.03), 5), np.float32)

    def forget(self, end):
        self.start = end


def test_a_streaming_model_gives_the_partial_results():
    listener = Listener(RATE, Beat())
    listener.accept(sound(0.5))
    assert listener.due is None
    assert listener.partial == {"partial": "T", "phones": [{"label": "T", "start": 0}]}
    assert listener.phrase_end is None
    listener.accept(sound(0.8))
    assert listener.phrase_end == pytest.approx(0.6)
    listener.cut(0.6)
    listener.accept(sound(1))
    assert listener.partial["phones"] == [{"label": "T", "start": 2}]


class LateBeat(Beat):
    """Tells a phone 0.3 s after it was heard."""

    lag = 0.3

    @property
    def known(self):
        return max(0.0, self.end - self.lag)

    def accept(self, samples):
        before = self.known
        self.num_samples += len(samples)
        return [Spike("T", second) for second in range(0, 100, 2) if before <= second < self.known]


def test_a_phone_that_is_told_late_stands_once_where_it_belongs():
    live = LateBeat(finds_words=True)
    listener = Listener(RATE, live)
    listener.accept(sound(2.3))  # the network has heard 2.1 s, and told what begins before 1.8 s
    assert listener.partial["phones"] == [{"label": "T", "start": 0}]
    due = listener.due
    rows = found((0.0, 0.2), (2.0, 2.1)) | {"words": [{"label": "a", "start": 0.0, "end": 2.1, "confidence": 0.8}]}
    listener.set_partial(rows, due)
    listener.accept(sound(0.5))  # now the second phone is told, too
    assert [phone["start"] for phone in listener.partial["phones"]] == [0.0, 2.0]
    listener.cut(2.4)
    listener.accept(sound(1.9))
    assert [phone["start"] for phone in listener.partial["phones"]] == [4]
    live = LateBeat()
    listener = Listener(RATE, live)
    listener.accept(sound(2.3))
    listener.cut(2.2)  # as after 20 s
    listener.accept(sound(0.5))
    assert listener.partial["phones"] == []


def test_the_words_of_a_streaming_model_are_searched_for():
    live = Beat(finds_words=True)
    listener = Listener(RATE, live)
    listener.accept(sound(0.5))
    due = listener.due
    assert (due.start, due.end, len(due.emissions)) == (0, pytest.approx(0.3), 10)
    assert listener.due is None  # nothing is new
    listener.accept(sound(2.0))  # while the words are searched for, another phone begins
    rows = found((0.0, 0.2)) | {"words": [{"label": "a", "start": 0.0, "end": 0.2, "confidence": 0.8}]}
    listener.set_partial(rows, due)
    assert listener.partial["partial"] == "a"
    assert [phone["label"] for phone in listener.partial["phones"]] == ["AH", "T"]
    assert listener.phrase_end == pytest.approx(0.6)
    listener.cut(0.6)
    assert live.start == pytest.approx(0.6)
    assert listener.due.end == pytest.approx(2.3)
