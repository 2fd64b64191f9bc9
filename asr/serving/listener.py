"""One client's stream of samples: phrases that pauses end, and what is known of the phrase that goes on.

    bytes ─ 16 kHz ─ phrase so far ─ partial results while it goes on ─ a pause ─ final result

All times are seconds from the beginning of the stream.

Letters: N samples, T' steps of a network, C classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from asr.serving.live import Live
from asr.speech import audio, phones

PAUSE = 0.8  # seconds without a phone that end a phrase; it is cut in the middle of them
SPIKE = 0.2  # seconds that a phone is taken to last of which only the beginning is known
LONGEST = 20.0  # seconds of a phrase; it is ended without a pause then
BEFORE = 0.5  # seconds that are kept of the silence before a phrase
FRESH = 0.08  # seconds of new sound that are worth another partial result: messages have 0.1 s, or nearly so
LONG = 3.0  # seconds of a phrase that are recognised over and over
RECENT = 1.5  # seconds of them that stay open when the rest is settled
CONTEXT = 1.0  # seconds that are heard again before what is open

Rows = Mapping[str, Sequence[dict[str, Any]]]  # words and phones, as the JSON of a transcript has them


class Stretch(NamedTuple):
    """A part of a stream that is to be recognised.

    Attributes
    ----------
    start
        Where it begins.
    waveform
        (N,) float32 at 16 kHz.
    emissions
        (T', C), if a model for live speech has heard it already.
    """

    start: float
    waveform: np.ndarray
    emissions: np.ndarray | None = None

    @property
    def end(self) -> float:
        """Where it ends."""
        return self.start + len(self.waveform) / audio.SAMPLE_RATE


class Listener:
    """Collects the samples of a stream, and says where a phrase ends.

    Parameters
    ----------
    sample_rate
        Samples a second, in Hz.
    live
        Hears the samples as they come; None where the phrase so far is heard over and over. In either case its words
        are searched for over and over (`due`, `set_partial`). Of a long phrase this is done with the last seconds only,
        or else partial results would come later and later.
    ipa
        Give the phones of `live` in the International Phonetic Alphabet.

    Raises
    ------
    AudioError
        The rate is not between 1 kHz and 1 MHz.
    """

    def __init__(self, sample_rate: float, live: Live | None = None, ipa: bool = False):
        self._ipa = ipa
        self._converter, self._live, self._rest = audio.Converter(sample_rate), live, b""
        self._phrase = Stretch(0.0, np.zeros(0, np.float32))
        self._begin()

    def _begin(self) -> None:
        """Forget what is known of the phrase before."""
        self._asked = self._known = self._phrase.start  # how far it was recognised, or is being recognised
        self._recognised = self._phrase.start  # how far the last partial result goes
        self._phones = list[dict[str, Any]]()
        self._text = ""
        self._settled: Rows = {}  # what partial results do not change any more, which lasts until the next
        self._settled_end = self._phrase.start

    @property
    def end(self) -> float:
        """How much was heard."""
        return self._phrase.end

    @property
    def partial(self) -> dict[str, Any]:
        """What is known of the phrase, as a message."""
        return {"partial": self._text, "phones": self._phones}

    def accept(self, content: bytes) -> None:
        """Hear the next samples: 16-bit integers of little-endian order, one channel."""
        content = self._rest + content
        whole = len(content) // 2 * 2
        self._rest = content[whole:]
        self._hear(self._converter(np.frombuffer(content[:whole], "<i2")))

    def finish(self) -> None:
        """Hear the rest of the samples."""
        self._hear(self._converter.finish())

    def _hear(self, waveform: np.ndarray) -> None:
        self._phrase = Stretch(self._phrase.start, np.concatenate([self._phrase.waveform, waveform]))
        if self._live is not None:
            for spike in self._live.accept(waveform):
                if spike.time < self._recognised:  # the phrase has it already, or that before
                    continue
                label = phones.ipa(spike.label, self._live.labels) if self._ipa else spike.label
                self._phones.append({"label": label, "start": spike.time})
            self._known = max(self._known, self._live.known)
            if not self._live.finds_words:
                self._text = " ".join(phone["label"] for phone in self._phones)
        if not self._phones and self._known - self._phrase.start > PAUSE + BEFORE:
            self.cut(self._known - BEFORE)

    @property
    def due(self) -> Stretch | None:
        """What is to be recognised, if there is enough new sound for another partial result."""
        live = self._live
        end = self.end if live is None else live.end
        if end < self._asked + FRESH or (live is not None and not live.finds_words):
            return None
        self._asked = end
        num_settled = max(0, round((self._settled_end - CONTEXT - self._phrase.start) * audio.SAMPLE_RATE))
        start = self._phrase.start + num_settled / audio.SAMPLE_RATE
        waveform = self._phrase.waveform[num_settled : round((end - self._phrase.start) * audio.SAMPLE_RATE)]
        return Stretch(start, waveform, None if live is None else live.emissions(start))

    def set_partial(self, found: Rows, stretch: Stretch) -> None:
        """Take what was recognised in a stretch as what is known of the phrase, behind what is settled."""
        rows = moved(found, stretch.start)
        known = {
            kind: [*self._settled.get(kind, ()), *(row for row in rows[kind] if _middle(row) > self._settled_end)]
            for kind in rows
        }
        since = [phone for phone in self._phones if phone["start"] >= stretch.end]  # while it was being recognised
        self._text, self._phones = text_of(known), [*known["phones"], *since]
        self._known, self._recognised = max(self._known, stretch.end), stretch.end
        if stretch.end - self._settled_end > LONG:
            self._settle(known, stretch.end - RECENT)

    def _settle(self, known: Rows, latest: float) -> None:
        """Settle the words, or where no words are known the phones, that end before a time."""
        ends = [row["end"] for row in known.get("words") or known["phones"] if row["end"] <= latest]
        if ends:
            self._settled_end = ends[-1]
            self._settled = {kind: [row for row in known[kind] if _middle(row) <= self._settled_end] for kind in known}

    @property
    def phrase_end(self) -> float | None:
        """Where the phrase ends, if it does."""
        ends = [phone.get("end", phone["start"] + SPIKE) for phone in self._phones]
        for end, following in zip(ends, [*(phone["start"] for phone in self._phones[1:]), self._known], strict=False):
            if following - end >= PAUSE:
                return end + PAUSE / 2
        return self.end if self.end - self._phrase.start >= LONGEST else None

    def cut(self, end: float) -> Stretch:
        """Return the phrase as far as `end`; what follows begins another one."""
        num_samples = round((end - self._phrase.start) * audio.SAMPLE_RATE)
        before = Stretch(self._phrase.start, self._phrase.waveform[:num_samples])
        self._phrase = Stretch(before.end, self._phrase.waveform[num_samples:])
        self._begin()
        if self._live is not None:
            self._live.forget(before.end)
        return before


def _middle(row: Mapping[str, Any]) -> float:
    return (row["start"] + row["end"]) / 2


def final(found: Rows, start: float) -> dict[str, Any]:
    """Return the final result of a phrase that began at `start`, as a message."""
    rows = moved(found, start)
    result = [
        {"word": row["label"], "start": row["start"], "end": row["end"], "conf": row["confidence"]}
        for row in rows.get("words", ())
    ]
    return {"text": text_of(rows), "result": result, "phones": rows["phones"]}


def moved(found: Rows, start: float) -> Rows:
    """Return words and phones with `start` added to their times.

    >>> moved({"phones": [{"label": "AY", "start": 0.1, "end": 0.2, "confidence": 0.9}]}, 2.0)["phones"][0]["end"]
    2.2
    """
    return {
        kind: [
            row | {"start": round(row["start"] + start, 3), "end": round(row["end"] + start, 3)} for row in found[kind]
        ]
        for kind in ("words", "phones")
        if kind in found
    }


def text_of(rows: Rows) -> str:
    """Return the words in a line, or where no words are known the phones."""
    return " ".join(row["label"] for row in rows.get("words", rows["phones"]))
