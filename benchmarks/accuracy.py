"""Phone error rates beside hama and pocketsphinx, on the same recordings, folded to the same 39 phones, in one run.

python benchmarks/accuracy.py --data /path/to/LibriSpeech
python benchmarks/accuracy.py --corpus speechocean762 --data /path/to/speechocean762 --models en-us-phones my-model
python benchmarks/accuracy.py --count 100 --conditions
python benchmarks/accuracy.py --models en-us-phones-stream --live en-us-phones-stream --peers none

hama 1.7 recognises phones of many languages, written in IPA, which `IPA` maps to ARPAbet; pocketsphinx 5.1 searches for
phones (allphone) with its own US English model and phone trigram, weight 2. Ours decode as they do without
being told; --live names models that hear the speech as it comes. References are the dictionary's. With --conditions
each recording is recognised as it is, and again in silence, noise, rooms, over telephones and otherwise changed
(benchmarks/_conditions.py), and at last come recordings in which nobody speaks; --only names some of all these. --peers
none leaves out the others. Times are of whole recordings, one after the other, on all cores.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from _bench import describe
from lhotse.cut import Cut

from asr import Recogniser, Stream
from asr.core.terminal import track
from asr.data import splits
from asr.evaluation.metrics import ErrorCounts, bootstrap_interval, count_errors
from asr.speech import audio
from data_prep import prepare

IPA = (
    "ɑ AA, ɒ AA, a AA, æ AE, ʌ AH, ə AH, ɐ AH, ᵊ AH, ɔ AO, aʊ AW, aɪ AY, b B, t͡ʃ CH, d D, ð DH, ɛ EH, e EH, "
    "eə EH R, ɝ ER, ɚ ER, ɜ ER, eɪ EY, f F, ɡ G, g G, h HH, ɪ IH, ɨ IH, ɪə IH R, i IY, d͡ʒ JH, k K, l L, ɫ L, m M, "
    "n N, ŋ NG, oʊ OW, o OW, ɔɪ OY, p P, ɹ R, r R, s S, ʃ SH, t T, ɾ T, θ TH, ʊ UH, u UW, ju Y UW, v V, w W, j Y, "
    "z Z, ʒ ZH"
)
Recognise = Callable[[np.ndarray], list[str]]
QUIET_SECONDS, QUIET_COUNT = 5, 20


def hama() -> Recognise:
    """Return hama's recogniser."""
    import hama

    model = hama.ASRModel()
    table = {each.split()[0]: each.split()[1:] for each in IPA.split(", ")}

    def recognise(waveform: np.ndarray) -> list[str]:
        said = model.transcribe_waveform(waveform, audio.SAMPLE_RATE).phonemes
        return [phone for symbol in said for phone in table.get(symbol, [])]

    return recognise


def pocketsphinx() -> Recognise:
    """Return pocketsphinx's phone loop."""
    from pocketsphinx import Decoder, get_model_path

    model = Path(get_model_path()) / "en-us"
    decoder = Decoder(
        hmm=str(model / "en-us"),
        allphone=str(model / "en-us-phone.lm.bin"),
        lw=2.0,
        lm=None,
        dict=None,
        loglevel="FATAL",
    )

    def recognise(waveform: np.ndarray) -> list[str]:
        decoder.start_utt()
        decoder.process_raw((waveform.clip(-1, 1) * 32767).astype(np.int16).tobytes(), full_utt=True)
        decoder.end_utt()
        return [segment.word for segment in decoder.seg() if segment.word not in ("SIL", "+NSN+", "+SPN+")]

    return recognise


def ours(name: str) -> Recognise:
    """Return one of our models."""
    recogniser = Recogniser.from_pretrained(name)
    return lambda waveform: [phone.label for phone in recogniser.transcribe(waveform, audio.SAMPLE_RATE)]


def live(name: str) -> Recognise:
    """Return one of our models for live speech, which hears blocks of a tenth of a second."""
    stream, block = Stream(name, audio.SAMPLE_RATE), audio.SAMPLE_RATE // 10

    def recognise(waveform: np.ndarray) -> list[str]:
        parts = (waveform[start : start + block] for start in range(0, len(waveform), block))
        found = [spike.label for part in parts for spike in stream.accept(part)]
        return found + [spike.label for spike in stream.finish()]

    return recognise


PEERS = {"hama": hama, "pocketsphinx": pocketsphinx}


def main() -> None:
    """Print a row for each system, in each condition."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="mini_librispeech", help="whose test set (default mini_librispeech)")
    parser.add_argument("--data", type=Path, help="where it lies, unless it is prepared already")
    parser.add_argument("--manifests", type=Path, default=Path("data"))
    parser.add_argument("--models", nargs="*", default=["en-us-phones"], help="ours (default en-us-phones)")
    parser.add_argument("--live", nargs="+", default=[], help="ours for live speech, heard as it comes")
    parser.add_argument("--count", type=int, default=0, help="utterances, at equal steps (default all)")
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=[*PEERS, "none"])
    parser.add_argument("--conditions", action="store_true", help="change the recordings as use does")
    parser.add_argument("--only", nargs="+", default=[""], help="conditions whose names contain one of these")
    arguments = parser.parse_args()
    if arguments.data is None and not splits.has_split(arguments.manifests, arguments.corpus, "test"):
        print(f"left out: it needs {arguments.corpus} and --data")
        return
    print(describe(*(name for name in arguments.peers if name in PEERS), "onnxruntime"))
    prepare(arguments.corpus, arguments.data, arguments.manifests)
    cuts = list(splits.load_split(arguments.manifests, [arguments.corpus], "test"))
    cuts = cuts[:: max(1, len(cuts) // arguments.count) if arguments.count else 1]
    print(f"{arguments.corpus} test: {len(cuts)} utterances, {sum(cut.duration for cut in cuts) / 3600:.2f} h")
    systems = {name: ours(name) for name in arguments.models} | {f"{name}, live": live(name) for name in arguments.live}
    systems |= {name: PEERS[name]() for name in arguments.peers if name in PEERS}
    changes = {"as it is": lambda waveform, rng: waveform}
    if arguments.conditions:
        from _conditions import conditions

        changes = conditions([waveform_of(cut) for cut in cuts[:: max(1, len(cuts) // 40)]])
    for number, (condition, change) in enumerate(changes.items()):
        if not any(name in condition for name in arguments.only):
            continue
        errors: dict[str, list[ErrorCounts]] = {name: [] for name in systems}
        seconds, duration = dict.fromkeys(systems, 0.0), 0.0
        for i, cut in enumerate(track(cuts, condition)):
            waveform = change(waveform_of(cut), np.random.default_rng((number, i)))
            duration += len(waveform) / audio.SAMPLE_RATE
            for name, recognise in systems.items():
                start = time.perf_counter()
                said = recognise(waveform)
                seconds[name] += time.perf_counter() - start
                errors[name].append(count_errors(splits.reference(cut, "arpabet39"), said))
        for name, counts in errors.items():
            print(f"{condition:26} {name:25} {row(counts)}  {duration / seconds[name]:.0f} x real time", flush=True)
    if arguments.conditions:
        print_without_speech(systems, arguments.only)


def print_without_speech(systems: Mapping[str, Recognise], only: Sequence[str]) -> None:
    """Print how many phones each system finds in recordings of sounds in which nobody speaks."""
    from _conditions import without_speech

    found = [without_speech(QUIET_SECONDS, np.random.default_rng(i)) for i in range(QUIET_COUNT)]
    for sound in found[0]:
        if not any(name in f"{sound} alone" for name in only):
            continue
        for name, recognise in systems.items():
            counts = [len(recognise(each[sound])) for each in found]
            rate = f"{60 * sum(counts) / (QUIET_SECONDS * QUIET_COUNT):.1f} phones a minute"
            print(f"{sound + ' alone':26} {name:25} {rate}, in {np.count_nonzero(counts)} of {QUIET_COUNT}", flush=True)


def waveform_of(cut: Cut) -> np.ndarray:
    """Return the recording of an utterance."""
    return audio.load(cut.recording.sources[0].source)


def row(counts: Sequence[ErrorCounts]) -> str:
    """Return the error rate of utterances, its interval, and the errors by kind."""
    total = sum(counts[1:], counts[0])
    low, high = bootstrap_interval(counts)
    parts = f"{total.substitutions:,} sub {total.insertions:,} ins {total.deletions:,} del"
    rate = f"PER {100 * total.rate:6.2f} %  [{100 * low:.2f}, {100 * high:.2f}]"
    return f"{rate}  {parts} of {total.reference_length:,}"


if __name__ == "__main__":
    main()
