"""The embedded corpus: speech in TIMIT's layout that espeak-ng synthesises, the same bytes each time.

espeak-ng speaks sentences of a small grammar (``mini_sentences.tsv`` and ``mini_vocabulary.tsv``) in many voices
(``mini_voices.tsv``) at many rates and pitches. No sentence and no voice occurs in two splits. Speakers of the dev and
test splits have the names of TIMIT's standard splits, so that `data_prep.timit` prepares the corpus like TIMIT.

The labels are TIMIT's 61. The table ``espeak/en_us.tsv`` maps espeak-ng's own phones to them. The rest is found in the
signal:

- Closures. espeak-ng counts the silence before a stop as the end of the phone before it. The closure of the stop begins
  where that phone falls 26 dB below its loudest 2 ms. A voiced stop may also begin with a murmur, which has almost no
  high-frequency energy (the waveform is differenced twice) and ends at the burst, the largest rise of that energy
  within the stop. The release begins with the burst. A stop without silence or murmur before its burst has no closure.
  After a pause, the closure of a voiceless stop cannot be heard and belongs to the pause.
- A mnemonic of two phones (``aI3``: ``ay axr``) is cut in equal parts.
- Both ends are ``h#``, lengthened by a random silence; pauses between them are ``pau``. Noise of 2 units in 32,768 is
  added.
"""

import concurrent.futures
import csv
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from rich.progress import Progress

from asr.core.errors import CorpusError
from asr.speech import espeak

SAMPLE_RATE = 16000
NUM_TRAIN_SPEAKERS = 176
NUM_DEV_SPEAKERS = 24
NUM_TEST_SPEAKERS = 24
SENTENCES_PER_SPEAKER = 8
NUM_SHARDS = 16
"""Each shard has a process of its own, because espeak-ng's voices carry their state from one text to the next."""

_TABLES = Path(__file__).parent / "tables"
_STOPS = {"b": "bcl", "d": "dcl", "g": "gcl", "p": "pcl", "t": "tcl", "k": "kcl", "jh": "dcl", "ch": "tcl"}
_VOICED_STOPS = {"b", "d", "g", "jh"}
_FRAME = 0.002
_QUIET = 10 ** (-26 / 20)
_SHORTEST_CLOSURE = 0.008
_BURST_RISE_DB = 9.0
_MURMUR_TILT_DB = -20.0


@dataclass(frozen=True)
class Speaker:
    """One synthetic speaker and the sentences to be spoken.

    Attributes
    ----------
    folder : str
        The folder of the speaker's files, relative to the corpus: ``TRAIN/DR1/MABC0``.
    voice : str
        Voice of espeak-ng with its variant.
    rate, pitch, pitch_range : int
        In espeak-ng's units, as `asr.speech.espeak.synthesise` takes them.
    sentences : dict
        Sentence id, as in TIMIT (``SX12``, ``SI340``), to text.
    seed : int
        Of the random silences and the noise.
    """

    folder: str
    voice: str
    rate: int
    pitch: int
    pitch_range: int
    sentences: dict[str, str]
    seed: int


def synthesise(
    output_dir: Path,
    num_train_speakers: int = NUM_TRAIN_SPEAKERS,
    num_dev_speakers: int = NUM_DEV_SPEAKERS,
    num_test_speakers: int = NUM_TEST_SPEAKERS,
    seed: int = 0,
) -> Path:
    """Synthesise the corpus, unless it is there already.

    It is written under a temporary name and renamed when complete, so that `output_dir` never holds half a corpus.

    Parameters
    ----------
    output_dir : Path
        The folder of the corpus, which receives ``TRAIN`` and ``TEST``.
    num_train_speakers, num_dev_speakers, num_test_speakers : int
        Speakers of each split, with 8 sentences each; at most 50 for dev and 24 for test.
    seed : int
        Another seed gives other sentences and speakers.

    Returns
    -------
    Path
        `output_dir`.

    Raises
    ------
    CorpusError
        `output_dir` holds something else.
    """
    output_dir = Path(output_dir)
    if _is_made(output_dir):
        return output_dir
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise CorpusError(f"{output_dir} holds something other than the mini corpus: name another folder, or remove it")
    speakers = plan(num_train_speakers, num_dev_speakers, num_test_speakers, seed)
    partial = output_dir.with_name(f".{output_dir.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _speak_all(partial, speakers)
    if output_dir.exists():
        output_dir.rmdir()
    partial.rename(output_dir)
    return output_dir


def _is_made(corpus_dir: Path) -> bool:
    return all((corpus_dir / part).is_dir() for part in ("TRAIN", "TEST"))


def obtain(target_dir: Path) -> Path:
    """Synthesise the corpus in full size into `target_dir`, unless it is there; return `target_dir`."""
    return synthesise(target_dir)


def prepare(corpus_dir: Path, output_dir: Path) -> None:
    """Write the manifests as `data_prep.timit.prepare` does.

    Raises
    ------
    CorpusError
        The corpus is not in the folder.
    """
    if not _is_made(Path(corpus_dir)):
        raise CorpusError(f"no mini corpus in {corpus_dir}: without a folder it is made in corpora/mini")
    from data_prep import timit  # not at the top: each process that speaks would import lhotse, which is slow

    timit.prepare(corpus_dir, output_dir)


def plan(num_train: int, num_dev: int, num_test: int, seed: int = 0) -> list[Speaker]:
    """Draw the speakers and their sentences. No sentence is drawn twice.

    Parameters
    ----------
    num_train, num_dev, num_test : int
        Speakers of each split.
    seed : int
        Of all random choices.

    Returns
    -------
    list of Speaker
        Those of train, then dev, then test.

    Examples
    --------
    >>> speakers = plan(2, 1, 1)
    >>> [speaker.folder for speaker in speakers[2:]]
    ['TEST/DR1/FAKS0', 'TEST/DR1/MDAB0']
    >>> len({text for speaker in speakers for text in speaker.sentences.values()})
    32
    """
    from data_prep.timit import standard_speakers  # not at the top, as in `prepare`

    rng = np.random.default_rng(seed)
    standard = {"dev": standard_speakers("dev"), "test": standard_speakers("test")}
    taken = {name for names in standard.values() for name in names}
    for split, count in (("dev", num_dev), ("test", num_test)):
        if count > len(standard[split]):
            raise CorpusError(f"mini has {len(standard[split])} speakers for {split}, not {count}: ask for fewer")
    texts = sentences(rng)
    speakers: list[Speaker] = []
    for split, count in (("train", num_train), ("dev", num_dev), ("test", num_test)):
        voices = {sex: _voices(split, sex) for sex in "MF"}
        for i in range(count):
            name = standard[split][i] if split != "train" else _new_name(rng, taken)
            of_sex = voices[name[0]]
            said = len(speakers) * SENTENCES_PER_SPEAKER
            numbers = range(said + 1, said + SENTENCES_PER_SPEAKER + 1)
            speakers.append(
                Speaker(
                    folder=f"{'TRAIN' if split == 'train' else 'TEST'}/DR{i % 8 + 1}/{name}",
                    voice=f"en-us+{of_sex[int(rng.integers(len(of_sex)))]}",
                    rate=int(rng.integers(145, 206)),
                    pitch=int(rng.integers(35, 66)),
                    pitch_range=int(rng.integers(30, 71)),
                    sentences={f"{'SX' if number % 8 < 5 else 'SI'}{number}": next(texts) for number in numbers},
                    seed=int(rng.integers(2**32)),
                )
            )
    return speakers


def segment(speech: espeak.Speech) -> tuple[list[tuple[str, int, int]], list[tuple[str, int, int]]]:
    """Label synthetic speech with TIMIT's 61 phones.

    Parameters
    ----------
    speech : asr.speech.espeak.Speech
        Speech with espeak-ng's own phones.

    Returns
    -------
    phones, words : list of (str, int, int)
        Label, first sample, one past the last sample, in the samples of `speech`. The phones are contiguous.

    Raises
    ------
    CorpusError
        espeak-ng used a phone that ``espeak/en_us.tsv`` lacks.
    """
    spans = _timit_spans(speech)
    phones: list[tuple[str, int, int]] = []
    closure_start = 0
    starts: list[int] = []
    ends: list[int] = []
    for i, (labels, start, end) in enumerate(spans):
        follower = spans[i + 1][0][0] if i + 1 < len(spans) else "pau"
        quiet = _trailing_quiet(speech, start, end) if follower in _STOPS or follower == "pau" else 0
        after_pause = not phones or phones[-1][0] == "pau"
        pieces = _pieces(speech, labels, start if after_pause else closure_start, start, end - quiet)
        if phones and pieces[0][1] > phones[-1][2]:  # the silence is too short for a closure and stays with its phone
            phones[-1] = (*phones[-1][:2], pieces[0][1])
            ends[-1] = pieces[0][1]
        starts.append(pieces[0][1])
        ends.append(end - quiet)
        phones += pieces
        closure_start = end - quiet
    # An edge of a word within a span moves to the end of that span: a linking r has no span of its own.
    first = np.searchsorted([start for _, start, _ in spans], [start for _, start, _ in speech.words])
    last = np.searchsorted([end for _, _, end in spans], [end for _, _, end in speech.words])
    words = [(word, starts[i], ends[j]) for (word, _, _), i, j in zip(speech.words, first, last, strict=True)]
    return phones, words


def _speak_all(corpus_dir: Path, speakers: list[Speaker]) -> None:
    """Let fresh processes speak; the shards, and so the speech, do not depend on the number of processors."""
    shards = [speakers[i::NUM_SHARDS] for i in range(min(NUM_SHARDS, len(speakers)))]
    with (
        concurrent.futures.ProcessPoolExecutor(
            max_workers=min(os.cpu_count() or 1, len(shards)),
            mp_context=multiprocessing.get_context("spawn"),
            max_tasks_per_child=1,
        ) as pool,
        Progress(transient=True) as progress,
    ):
        task = progress.add_task("Speaking the mini corpus", total=len(speakers))
        futures = {pool.submit(_speak_shard, corpus_dir, shard): len(shard) for shard in shards}
        for future in concurrent.futures.as_completed(futures):
            future.result()
            progress.advance(task, futures[future])


def _speak_shard(corpus_dir: Path, speakers: list[Speaker]) -> None:
    for speaker in speakers:
        rng = np.random.default_rng(speaker.seed)
        (corpus_dir / speaker.folder).mkdir(parents=True)
        for sentence_id, text in speaker.sentences.items():
            _speak(corpus_dir / speaker.folder / sentence_id, text, speaker, rng)


def _speak(stem: Path, text: str, speaker: Speaker, rng: np.random.Generator) -> None:
    """Write the four files of one utterance."""
    speech = espeak.synthesise(text, speaker.voice, speaker.rate, speaker.pitch, speaker.pitch_range)
    phones, words = segment(speech)
    lead, tail = (int(n) for n in rng.integers(SAMPLE_RATE // 16, SAMPLE_RATE // 4, size=2))
    spoken = soxr.resample(speech.samples / 32768, speech.sample_rate, SAMPLE_RATE)
    waveform = np.concatenate([np.zeros(lead), spoken, np.zeros(tail)]) * 0.5
    waveform += rng.normal(scale=2 / 32768, size=len(waveform))
    # The suffix of a NIST SPHERE file is .WAV in TIMIT, hence the explicit format.
    soundfile.write(stem.with_suffix(".WAV"), waveform, SAMPLE_RATE, format="NIST", subtype="PCM_16")

    def place(sample: int) -> int:
        return min(lead + round(sample * SAMPLE_RATE / speech.sample_rate), len(waveform))

    timed = _with_edges([(label, place(start), place(end)) for label, start, end in phones], len(waveform))
    _write_times(stem.with_suffix(".PHN"), timed)
    _write_times(stem.with_suffix(".WRD"), [(word.lower(), place(start), place(end)) for word, start, end in words])
    _write_times(stem.with_suffix(".TXT"), [(text, 0, len(waveform))])


def _with_edges(phones: list[tuple[str, int, int]], num_samples: int) -> list[tuple[str, int, int]]:
    """Replace the pauses at both ends by h#, which extend to the ends of the file."""
    spoken = [i for i, phone in enumerate(phones) if phone[0] != "pau"]
    inner = [phone for phone in phones[spoken[0] : spoken[-1] + 1] if phone[2] > phone[1]]
    return [("h#", 0, inner[0][1]), *inner, ("h#", inner[-1][2], num_samples)]


def _write_times(path: Path, rows: list[tuple[str, int, int]]) -> None:
    path.write_text("".join(f"{start} {end} {label}\n" for label, start, end in rows), encoding="ascii")


def _timit_spans(speech: espeak.Speech) -> list[tuple[list[str], int, int]]:
    """Translate espeak-ng's phones to TIMIT's labels; a phone without a label extends the phone before it."""
    table = espeak.mnemonics()
    spans: list[tuple[list[str], int, int]] = []
    names = espeak.without_linking_r([name for name, _, _ in speech.phones])
    for name, (original, start, end) in zip(names, speech.phones, strict=True):
        if original not in table and not original.startswith("_"):
            raise CorpusError(f"espeak-ng used the phone {original!r}: add it to asr/speech/tables/espeak/en_us.tsv")
        labels = [] if name is None else ["pau"] if name.startswith("_") else table[name]["timit61"]
        if end > start and (not labels or (labels == ["pau"] and spans and spans[-1][0] == ["pau"])) and spans:
            spans[-1] = (spans[-1][0], spans[-1][1], end)
        elif end > start:
            spans.append((labels, start, end))
    return spans


def _pieces(
    speech: espeak.Speech, labels: list[str], closure_start: int, start: int, end: int
) -> list[tuple[str, int, int]]:
    """Cut the span of one mnemonic into its phones, a stop into closure and release."""
    if labels[0] not in _STOPS:
        first = closure_start if labels == ["pau"] else start
        edges = np.linspace(first, end, len(labels) + 1).round().astype(int).tolist()
        return list(zip(labels, edges[:-1], edges[1:], strict=True))
    stop = labels[0]
    shortest = round(_SHORTEST_CLOSURE * speech.sample_rate)
    burst = _burst(speech, start, end) if stop in _VOICED_STOPS else start
    if burst - closure_start < shortest:
        return [(stop, start, end)]
    return [(_STOPS[stop], closure_start, burst), (stop, burst, end)]


def _levels(samples: np.ndarray, frame: int) -> np.ndarray:
    """Return the root mean square of each whole frame, plus 1, so that its logarithm is finite."""
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame).astype(np.float64)
    return np.sqrt((frames**2).mean(axis=1)) + 1


def _trailing_quiet(speech: espeak.Speech, start: int, end: int) -> int:
    """Count the samples in whole frames at the end of a span that are 26 dB below its loudest frame."""
    frame = round(_FRAME * speech.sample_rate)
    levels = _levels(speech.samples[start:end][::-1], frame)
    if len(levels) == 0:
        return 0
    loud = np.flatnonzero(levels >= levels.max() * _QUIET)
    return int(loud[0]) * frame


def _burst(speech: espeak.Speech, start: int, end: int) -> int:
    """Return the sample where a voiced stop's murmur ends and its release begins; `start` if there is no murmur."""
    frame = round(_FRAME * speech.sample_rate)
    samples = speech.samples[start:end].astype(np.float64)
    levels = 20 * np.log10(_levels(samples[2:], frame))
    high = 20 * np.log10(_levels(np.diff(samples, n=2), frame))
    places = range(2, len(high) - 2)
    if not places:
        return start
    rises = [high[i : i + 3].mean() - high[max(0, i - 4) : i].mean() for i in places]
    best = places[int(np.argmax(rises))]
    murmurs = (high - levels)[:best].mean() < _MURMUR_TILT_DB
    return start + best * frame if murmurs and max(rises) >= _BURST_RISE_DB else start


def _table(stem: str) -> list[dict[str, str]]:
    with (_TABLES / f"{stem}.tsv").open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def _voices(split: str, sex: str) -> list[str]:
    return [row["variant"] for row in _table("mini_voices") if (row["split"], row["sex"]) == (split, sex)]


def _new_name(rng: np.random.Generator, taken: set[str]) -> str:
    """Draw a new speaker's name in TIMIT's form; 3 of 10 are women's."""
    while True:
        initials = "".join(rng.choice(list("ABCDEFGHJKLMNPRSTVWXYZ"), size=3))
        name = f"{'F' if rng.random() < 0.3 else 'M'}{initials}0"
        if name not in taken:
            taken.add(name)
            return name


def sentences(rng: np.random.Generator) -> Iterator[str]:
    """Draw sentences of the grammar endlessly, no sentence twice."""
    words: dict[str, list[str]] = {}
    for row in _table("mini_vocabulary"):
        words.setdefault(row["class"], []).append(row["word"])
    templates = [row["template"] for row in _table("mini_sentences")]
    said = set()
    while True:
        text = templates[int(rng.integers(len(templates)))]
        while "{" in text:
            before, _, rest = text.partition("{")
            word_class, _, after = rest.partition("}")
            word = words[word_class][int(rng.integers(len(words[word_class])))]
            article = before == "A " or before.endswith(" a ")
            text = f"{before[:-1]}n {word}{after}" if article and word[0] in "aeiou" else before + word + after
        text = text[0].upper() + text[1:]
        if text not in said:
            said.add(text)
            yield text
