"""The alignment of some recordings of `asr align`, in this process or in one of several."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import asr
from asr.cli import journal, recordings
from asr.cli.loop import attempt, shortened
from asr.cli.recordings import STDIN, Recording
from asr.core.errors import AsrError, AudioError, CorpusError
from asr.core.files import digest, hash_of, write_text
from asr.models import model_folder
from asr.recognition import align as alignment
from asr.recognition import quality, render_alignment
from asr.recognition.align_utterances import align_utterances
from asr.recognition.alignment import Alignment
from asr.recognition.recogniser import Heard, Recogniser
from asr.recognition.render_alignment import Shape
from asr.speech import texts_beside, tier_files
from asr.speech.audio import SAMPLE_RATE, load, name_of

AT_ONCE = 480  # seconds of sound that are heard together, and the last recording that exceeds them


class Done(NamedTuple):
    """What became of a recording.

    Attributes
    ----------
    text
        To be printed; empty if it was written to a file.
    remarks
        What is to be said of the recording, a line each.
    summary
        Its row in the summary.
    """

    text: str
    remarks: list[str]
    summary: dict[str, Any]


class _Source(NamedTuple):
    """What is said in a recording: a text, or a file of tiers with utterances; both None where an option says it."""

    text: str | None
    tiers: Path | None


class _Opened(NamedTuple):
    """A recording that was read: its result's file, what that is made from, its name for errors, and its sound (N,)."""

    recording: Recording
    source: _Source
    file_name: str
    made_from: str
    name: str
    waveform: np.ndarray


@dataclass(frozen=True)
class Aligner:
    """Aligns recordings, and writes what it finds.

    Attributes
    ----------
    model, g2p, gop
        As the options of `asr align`.
    text, phones
        What is said in the only recording; without both each recording's text is beside it.
    lexicon
        A file of pronunciations.
    tiers
        The tiers of utterances in files beside the recordings.
    shape, ipa
        What is written.
    folder
        Where each recording gets a file; None to return the text.
    with_words
        The summary has the quality of each word.
    done
        The results that are in the folder already, to be passed by.
    """

    model: str
    text: str | None
    phones: str | None
    g2p: bool
    gop: bool
    lexicon: Path | None
    tiers: tuple[str, ...]
    shape: Shape
    ipa: bool
    folder: Path | None
    with_words: bool = False
    done: dict[str, journal.Entry] = field(default_factory=dict, hash=False)

    @cached_property
    def recogniser(self) -> Recogniser:
        """The recogniser, loaded once in each process."""
        return Recogniser.from_pretrained(self.model)

    @cached_property
    def own(self) -> dict[str, list[Any]] | None:
        """The pronunciations of the lexicon."""
        return None if self.lexicon is None else alignment.read_lexicon(self.lexicon, self.recogniser.model)

    def prepare(self) -> None:
        """Load the model and the lexicon, so that their faults are known before the first recording."""
        _ = self.own, self.recogniser

    def __call__(self, several: Sequence[Recording]) -> Iterator[Done | Exception]:
        """Yield what became of each recording, or what is wrong with it; some in a row are heard together.

        A recording is passed by if its result is there and was made from the same. The next one is aligned when it is
        asked for, so that nothing more is written where a result could not be.
        """
        opened, samples = list[Done | _Opened | AsrError | OSError](), 0
        for recording in several:
            opened.append(attempt(partial(self._open, recording)))
            samples += len(opened[-1].waveform) if isinstance(opened[-1], _Opened) else 0
            if samples > AT_ONCE * SAMPLE_RATE:
                yield from self._done(opened)
                opened, samples = [], 0
        yield from self._done(opened)

    def _open(self, recording: Recording) -> "Done | _Opened":
        """Read a recording, unless its result is there."""
        source = self._source(recording)
        file_name = recording.name + render_alignment.SUFFIXES[self.shape.form]
        path = None if self.folder is None else self.folder / file_name
        made_from = "" if path is None else self._made_from(recording, source)
        before = self.done.get(file_name)
        if path and before and made_from and before.made_from == made_from and path.is_file():
            return Done("", [], {**before.summary, "passed": True})
        if path and source.tiers and path.exists() and path.samefile(source.tiers):
            raise AsrError(f"{path} has the utterances, and would be written over: name another --output-dir")
        with recordings.opened(recording.path) as file:
            return _Opened(
                recording, source, file_name, made_from, name_of(file), load(file, channel=recording.channel)
            )

    def _done(self, opened: "Sequence[Done | _Opened | AsrError | OSError]") -> Iterator[Done | Exception]:
        """Hear what was read, and yield what becomes of it, one by one, and what else there is in its place."""
        sounds = [(each.name, each.waveform) for each in opened if isinstance(each, _Opened)]
        heard = iter(self.recogniser.hear_several(sounds))
        for each in opened:
            yield attempt(partial(self._finish, each, next(heard))) if isinstance(each, _Opened) else each

    def _finish(self, opened: "_Opened", heard: Heard | AudioError) -> Done:
        """Align a recording, and write what is found."""
        if isinstance(heard, AudioError):
            raise heard
        recording, source = opened.recording, opened.source
        found, faults = self._align(source, heard)
        text = self._render(found, source, recording)
        summary = self._summary(found, heard)
        if self.folder:
            journal.forget(self.folder, opened.file_name)
            write_text(self.folder / opened.file_name, text)
            journal.note(self.folder, opened.file_name, journal.Entry(opened.made_from, summary))
        remarks = [f"guessed: {shortened(each.guessed)}" for each in found.values() if each.guessed]
        remarks += [each.misfit for each in found.values() if each.misfit]
        return Done("" if self.folder else text, faults + remarks, summary)

    def _source(self, recording: Recording) -> _Source:
        """Find what is said in a recording."""
        if self.text is not None or self.phones is not None:
            return _Source(None, None)
        text = None if self.tiers else texts_beside.find(recording.path, recording.channel)
        tiers = recordings.tiers_beside(recording.path) if text is None else None
        if text is None and tiers is None:
            hint = f"write what is said to {recording.path.with_suffix('.txt').name}"
            if recording.channel is None and texts_beside.find(recording.path, 0) is not None:
                hint = "its channels have texts, which --each-channel takes"
            what = "TextGrid or .eaf" if self.tiers else "text"
            raise CorpusError(f"{recording.path}: no {what} beside it{'' if self.tiers else f': {hint}'}")
        return _Source(text, tiers)

    def _align(self, source: _Source, heard: Heard) -> tuple[dict[str, Alignment], list[str]]:
        """Align the text, or the utterances of each tier; return the alignments by tiers, and what failed."""
        model = self.recogniser.model
        if source.tiers is None:
            text = self.text if self.text is not None else source.text
            known = alignment.known_text(model, None if self.phones else text, self.phones, self.g2p, self.own)
            return {"": alignment.place(model, known, heard, self.gop)}, []
        tiers = tier_files.read_utterances(source.tiers, self.tiers)
        if not tiers:
            hint = "name one (--tier), or write the text to a .txt"
            raise CorpusError(f"{source.tiers} has no tier of utterances: {hint}")
        if self.shape.form not in render_alignment.TIERED:  # there is one row for the utterances of all
            every = itertools.chain.from_iterable(tiers.values())
            tiers = {"": sorted(every, key=lambda utterance: utterance.start)}
        found, faults = dict[str, Alignment](), list[str]()
        for name, utterances in tiers.items():
            found[name], some = align_utterances(self.recogniser, heard, utterances, self.g2p, self.gop, self.own)
            faults += some
        return found, faults

    def _render(self, found: dict[str, Alignment], source: _Source, recording: Recording) -> str:
        """Return the alignments as text."""
        shown = {name: each.ipa if self.ipa else each for name, each in found.items()}
        channel = 1 if recording.channel is None else recording.channel + 1
        shape = replace(self.shape, channel=channel)
        if source.tiers and shape.form in render_alignment.TIERED:
            return render_alignment.merge(source.tiers, shown, shape, recording.path)
        name = str(recording.path) if shape.form == "json" else recording.utterance
        return render_alignment.write(next(iter(shown.values())), shape, name, recording.path)

    def _summary(self, found: dict[str, Alignment], heard: Heard) -> dict[str, Any]:
        """Return a recording's row in the summary."""
        several = list(found.values())
        rated = quality.joined([quality.assess(each, heard.waveform) for each in several])
        row: dict[str, Any] = {
            "seconds": heard.duration,
            "words": sum(len(each.words or ()) for each in several),
            "unsaid": sum(len(each.unsaid) for each in several),
            "unspoken": round(sum(end - start for each in several for start, end in each.unspoken), 2),
            "misfit": next((each.misfit for each in several if each.misfit), None),
        }
        row |= rated.summary()
        if self.with_words:
            row["rated"] = [asdict(word) for word in rated.words]
            phones = [phone for each in several for phone in each.phones]
            row["phones"] = [[phone.label, phone.start, phone.end, phone.confidence] for phone in phones]
        return row

    def _made_from(self, recording: Recording, source: _Source) -> str:
        """Return a hash of everything that a result is made from; empty where the recording can be read once only."""
        if recording.path == STDIN or recording.path.is_fifo():
            return ""
        written = {"json": str(recording.path), "eaf": str(recording.path.resolve())}.get(self.shape.form, "")
        about = (self._options, str(recording.channel), repr(source.text), recording.utterance, written)
        files = [recording.path, *([source.tiers] if source.tiers else [])]
        return digest([*(each.encode("utf8", "surrogateescape") for each in about), *map(hash_of, files)])

    @cached_property
    def _options(self) -> str:
        """Everything that all results are made from, as text: the program, the model, the lexicon and the options."""
        files = model_folder.files_of(self.model)
        files += [self.lexicon] if self.lexicon else []
        options = (self.text, self.phones, self.g2p, self.gop, self.tiers, self.shape, self.ipa, self.with_words)
        return f"{asr.__version__} {options!r} {digest(map(hash_of, files))}"
