"""The embedded corpus: synthetic speech in TIMIT's own layout, made on the spot, the same bytes each time.

espeak-ng speaks sentences of a small grammar (``mini_sentences.tsv`` over ``mini_vocabulary.tsv``) in many voices
(``mini_voices.tsv``) at many rates and pitches; no sentence and no voice occurs in two splits. Speakers of the dev and
test splits bear the names that TIMIT's standard splits ask for, so that `data_prep.timit` prepares the tree unchanged.

The labels are TIMIT's 61, from espeak-ng's own phones through ``espeak_en_us.tsv``. What that table cannot say:

- Closures. espeak-ng counts the silence before a stop as the end of the phone before it; from where that phone falls
  26 dB below its loudest 2 ms, the rest is the stop's closure. A voiced stop may also begin with a murmur, which has
  next to no high-frequency energy (the waveform differenced twice) and ends at the burst, the largest rise of that
  energy within the stop. The burst and what follows are the release; without silence or murmur before it, the release
  stands alone. After a pause a voiceless closure cannot be heard and is left to the pause.
- A mnemonic of two phones (``aI3``: ``ay axr``) is cut in equal parts.
- Edges are ``h#``, lengthened by a random silence; pauses within are ``pau``. A noise of 2 units in 32,768 is added.
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
"""Each shard is spoken by a process of its own, for espeak-ng's voices waver on from one text to the next."""

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
    """One synthetic speaker and the sentences that they say.

    Attributes
    ----------
    folder : str
        Where their files are, relative to the corpus: ``TRAIN/DR1/MABC0``.
    voice : str
        Voice of espeak-ng with its variant.
    rate, pitch, pitch_range : int
        In espeak-ng's units, as `asr.speech.espeak.synthesise` takes them.
    sentences : dict
        Sentence id, as in TIMIT (``SX12``, ``SI340``), to text.
    seed : int
        For the silences and the noise.
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
    """Make the corpus, unless it is there already.

    It is written under a temporary name and renamed when complete: `output_dir` never holds half a corpus.

    Parameters
    ----------
    output_dir : Path
        The corpus to make, with ``TRAIN`` and ``TEST`` inside.
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
        If `output_dir` exists and is not a corpus.
    """
    output_dir = Path(output_dir)
    if (output_dir / "TRAIN").is_dir() and (output_dir / "TEST").is_dir():
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


def obtain(target_dir: Path) -> Path:
    """Make the corpus in its full size under `target_dir`, unless it is there; return where it is."""
    return synthesise(target_dir)


def prepare(corpus_dir: Path, output_dir: Path) -> None:
    """Write the manifests of the corpus, which is made first if it is absent: the same as `data_prep.timit.prepare`."""
    from data_prep import timit  # not at the top: the processes that speak would wait for its slow imports

    timit.prepare(synthesise(corpus_dir), output_dir)


def plan(num_train: int, num_dev: int, num_test: int, seed: int = 0) -> list[Speaker]:
    """Draw the speakers and their sentences, all different.

    Parameters
    ----------
    num_train, num_dev, num_test : int
        Speakers of each split.
    seed : int
        Of everything drawn.

    Returns
    -------
    list of Speaker
        Train, then dev, then test.

    Examples
    --------
    >>> speakers = plan(2, 1, 1)
    >>> [speaker.folder for speaker in speakers[2:]]
    ['TEST/DR1/FAKS0', 'TEST/DR1/MDAB0']
    >>> len({text for speaker in speakers for text in speaker.sentences.values()})
    32
    """
    rng = np.random.default_rng(seed)
    standard = {"dev": _standard_names("dev"), "test": _standard_names("test")}
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
    """Label speech with TIMIT's 61 phones.

    Parameters
    ----------
    speech : asr.speech.espeak.Speech
        As synthesised.

    Returns
    -------
    phones, words : list of (str, int, int)
        Label, first sample, one past the last sample, in the samples of `speech`. The phones are contiguous.

    Raises
    ------
    CorpusError
        If espeak-ng used a phone that ``espeak_en_us.tsv`` lacks.
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
        if phones and pieces[0][1] > phones[-1][2]:  # the silence is too short for a closure: it stays where it was
            phones[-1] = (*phones[-1][:2], pieces[0][1])
            ends[-1] = pieces[0][1]
        starts.append(pieces[0][1])
        ends.append(end - quiet)
        phones += pieces
        closure_start = end - quiet
    # A word's edge within a span (a linking r, which has no span of its own) moves to the end of that span.
    first = np.searchsorted([start for _, start, _ in spans], [start for _, start, _ in speech.words])
    last = np.searchsorted([end for _, _, end in spans], [end for _, _, end in speech.words])
    words = [(word, starts[i], ends[j]) for (word, _, _), i, j in zip(speech.words, first, last, strict=True)]
    return phones, words


def _speak_all(corpus_dir: Path, speakers: list[Speaker]) -> None:
    """Share the speakers out to fresh processes: what a shard says does not depend on how many processors there are."""
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
    """Make the pauses at both ends into h#, which reach to the ends of the file."""
    spoken = [i for i, phone in enumerate(phones) if phone[0] != "pau"]
    inner = [phone for phone in phones[spoken[0] : spoken[-1] + 1] if phone[2] > phone[1]]
    return [("h#", 0, inner[0][1]), *inner, ("h#", inner[-1][2], num_samples)]


def _write_times(path: Path, rows: list[tuple[str, int, int]]) -> None:
    path.write_text("".join(f"{start} {end} {label}\n" for label, start, end in rows), encoding="ascii")


def _timit_spans(speech: espeak.Speech) -> list[tuple[list[str], int, int]]:
    """Translate espeak-ng's phones; one without a label of its own lengthens the phone before it."""
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
    """Root mean square of each whole frame, never 0."""
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame).astype(np.float64)
    return np.sqrt((frames**2).mean(axis=1)) + 1


def _trailing_quiet(speech: espeak.Speech, start: int, end: int) -> int:
    """Count the samples at the end of a span, in whole frames, that are 26 dB below its loudest frame."""
    frame = round(_FRAME * speech.sample_rate)
    levels = _levels(speech.samples[start:end][::-1], frame)
    if len(levels) == 0:
        return 0
    loud = np.flatnonzero(levels >= levels.max() * _QUIET)
    return int(loud[0]) * frame


def _burst(speech: espeak.Speech, start: int, end: int) -> int:
    """Find where a voiced stop's murmur ends and its release starts; `start` if there is no murmur."""
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


def _standard_names(split: str) -> list[str]:
    return [row["speaker"] for row in _table("timit_speakers") if row["split"] == split]


def _voices(split: str, sex: str) -> list[str]:
    return [row["variant"] for row in _table("mini_voices") if (row["split"], row["sex"]) == (split, sex)]


def _new_name(rng: np.random.Generator, taken: set[str]) -> str:
    """Draw a speaker's name as TIMIT forms them, 3 women in 10."""
    while True:
        initials = "".join(rng.choice(list("ABCDEFGHJKLMNPRSTVWXYZ"), size=3))
        name = f"{'F' if rng.random() < 0.3 else 'M'}{initials}0"
        if name not in taken:
            taken.add(name)
            return name


def sentences(rng: np.random.Generator) -> Iterator[str]:
    """Draw sentences of the grammar without end, none twice."""
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
