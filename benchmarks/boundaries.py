"""How near phone boundaries are to the truth, ours beside torchaudio.functional.forced_align on the same posteriors.

python benchmarks/boundaries.py
python benchmarks/boundaries.py --model en-us-phones --textgrids FOLDER --audio FOLDER
python benchmarks/boundaries.py --model en-us-phones --emu emuR/inst/extdata/rawDemoData

The first takes the embedded corpus's test speakers, whose phone times the synthesiser knows (`make train` first). The
second takes recordings of real speech with a Praat TextGrid each, of the same name, that has a tier of ARPAbet phones
called "phones", maybe one called "words", and a model of ARPAbet phones; stress is dropped, silences are skipped. Both
sides align the reference's own labels; ours knows the words too where they have a tier. The third takes the seven
sentences that people have labelled in the R package emuR (https://github.com/IPS-LMU/emuR), an Australian's, whose
phonemes are mapped to ARPAbet. A boundary is the start of each phone but the first.

With --moves, what is printed instead is how many of our boundaries move by more than 20 ms when a low rumble, 20 dB
below the speech, or an offset of 0.03 is added.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torchaudio
from _bench import describe
from _conditions import rumble, scaled

from asr.core.errors import InfeasibleError, ModelError
from asr.data import splits
from asr.evaluation import boundaries
from asr.evaluation.tables import boundary_table
from asr.models.base import Spellings
from asr.recognition.recogniser import Recogniser
from asr.speech import audio
from asr.speech.label_files import read_segments, read_tiers
from asr.speech.segments import Segment

PEER = "torchaudio forced_align"
PUBLISHED = (
    "for comparison: mean errors of MFA 3.0 on four hand-labelled corpora, other than these, are below 15 ms "
    "(M. McAuliffe et al., arXiv 2606.18466, 2026)"
)
SILENCES = {"", "sil", "sp", "SIL", "SP"}
WORDS = "words"
NOISE = "spn"  # words that the reference's aligner did not know
SAMPA = (  # of emuR's speaker, with ARPAbet's nearest
    "V AH, @ AH, @: ER, I IH, i: IY, E EH, A AE, O AA, o: AO, u: UW, ai AY, ei EY, @u OW, N NG, S SH, tS CH, dZ JH, "
    "D DH, T TH, r R, j Y, h HH, m M, n N, s S, z Z, t T, d D, k K, g G, p P, b B, f F, v V, l L, w W"
)
Utterance = tuple[str, np.ndarray, list[Segment], Spellings]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="runs/mini/blstm_ctc", help="run or model folder, or a shipped model")
    parser.add_argument("--manifests", default="data", help="folder of the embedded corpus's manifests")
    parser.add_argument("--split", default="test", choices=["test", "dev"])
    parser.add_argument("--textgrids", type=Path, help="folder of reference TextGrids, searched to any depth")
    parser.add_argument("--audio", type=Path, help="folder of their recordings, laid out alike")
    parser.add_argument("--emu", type=Path, help="emuR's folder inst/extdata/rawDemoData")
    parser.add_argument("--moves", action="store_true", help="tell how far rumble and an offset move boundaries")
    return parser.parse_args()


def of_corpus(manifests: str, split: str) -> Iterator[Utterance]:
    """Yield the embedded corpus's utterances with their true times."""
    for cut in splits.load_split(manifests, ["mini"], split):
        items = cut.supervisions[0].alignment["phone"]
        phones = [Segment(item.symbol, item.start, item.start + item.duration) for item in items]
        text = Spellings.of_phones([phone.label for phone in phones])
        yield cut.id, audio.load(cut.recording.sources[0].source), phones, text


def of_textgrids(folder: Path, recordings: Path) -> Iterator[Utterance]:
    """Yield recordings with the phones of their TextGrids; those with a word of unknown phones are left out."""
    for path in sorted(folder.rglob("*.TextGrid")):
        (intervals,) = read_segments(path).values()
        beside = recordings / path.relative_to(folder)
        found = [beside.with_suffix(suffix) for suffix in (".flac", ".wav") if beside.with_suffix(suffix).is_file()]
        if not found or any(each.label == NOISE for each in intervals):
            continue
        phones = [replace(each, label=each.label.rstrip("012")) for each in intervals if each.label not in SILENCES]
        yield path.stem, audio.load(found[0]), phones, spelt(path, phones)


def of_emu(folder: Path) -> Iterator[Utterance]:
    """Yield the sentences of emuR with their hand-labelled phonemes."""
    arpabet = dict(pair.split() for pair in SAMPA.split(", "))
    for path in sorted((folder / "annotationFiles").glob("*.TextGrid")):
        phones = list[Segment]()
        for each in read_tiers(path)["Phoneme"]:
            labels = [arpabet[label] for label in each.label.split("_")]  # several share a segment: equal parts
            edges = np.linspace(each.start, each.end, len(labels) + 1).tolist()
            phones += map(Segment, labels, edges, edges[1:])
        recording = folder / "wavFiles" / f"{path.stem}.wav"
        yield path.stem, audio.load(recording), phones, spelt(path, phones, "Text")


def spelt(path: Path, phones: list[Segment], tier: str = WORDS) -> Spellings:
    """Group the phones of a TextGrid by its words, if it has a tier of them."""
    tiers = read_tiers(path)
    if tier not in tiers:
        return Spellings.of_phones([phone.label for phone in phones])
    ends = np.array([word.end for word in tiers[tier]])
    words = np.searchsorted(ends, [(phone.start + phone.end) / 2 for phone in phones])
    spellings = [[[phones[i].label for i in np.flatnonzero(words == word)]] for word in np.unique(words)]
    return Spellings(spellings, all_said=True)


def peer_spans(log_probs: np.ndarray, tokens: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return first frames of torchaudio's token spans and the ones after their last."""
    path, scores = torchaudio.functional.forced_align(
        torch.from_numpy(log_probs)[None], torch.tensor([tokens]), blank=0
    )
    spans = torchaudio.functional.merge_tokens(path[0], scores[0].exp(), blank=0)
    return np.array([span.start for span in spans]), np.array([span.end for span in spans])


def print_moves(recogniser: Recogniser, utterances: Iterator[Utterance]) -> None:
    """Print how many boundaries move by more than 20 ms where something is added to the sound."""
    rng, model = np.random.default_rng(0), recogniser.model

    def starts(waveform: np.ndarray, text: Spellings) -> np.ndarray:
        found = model.align(text, recogniser.emissions(waveform), waveform)
        return np.array([phone.start for phone in model.refine(found, waveform).phones])

    moves: dict[str, list[np.ndarray]] = {"rumble, 20 dB": [], "offset 0.03": []}
    for _, waveform, _, text in utterances:
        before = starts(waveform, text)
        changed = rumble(waveform, rng, snr=20), scaled(waveform, rng, decibels=0, offset=0.03)
        for each, other in zip(moves.values(), changed, strict=True):
            each.append(np.abs(starts(other, text) - before))
    for name, each in moves.items():
        every = np.concatenate(each)
        far = f"{(every > 0.0201).sum()} of {len(every)} starts move by more than 20 ms"
        print(f"{name}: {far}, at most {every.max():.2f} s")


def compare(recogniser: Recogniser, utterances: Iterator[Utterance]) -> list[dict]:
    """Return a row for each system."""
    model = recogniser.model
    index = {label: i for i, label in enumerate(model.tokens)}
    shift, lag = model.frame_shift, model.calibration.boundary_offset
    systems: dict[str, Callable] = {
        f"{PEER}: starts of spans": lambda starts, ends: starts[1:] * shift,
        f"{PEER}: mid-points between spans": lambda starts, ends: (starts[1:] + ends[:-1]) / 2 * shift,
        f"the same + our dev offset, {1000 * lag:.0f} ms": lambda starts, ends: (
            (starts[1:] + ends[:-1]) / 2 * shift + lag
        ),
    }
    ours = ["asr: from posteriors alone", "asr: from posteriors and sound", "asr align"]
    errors: dict[str, list[np.ndarray]] = {name: [] for name in [*systems, *ours]}
    for name, waveform, phones, text in utterances:
        log_probs = recogniser.emissions(waveform)
        labels = [phone.label for phone in phones]
        try:
            alone, sound = (model.align(text, log_probs, wave) for wave in (None, waveform))
        except InfeasibleError as error:
            print(f"{name}: left out, {error}")
            continue
        for system, found in zip(ours, (alone, sound, model.refine(sound, waveform)), strict=True):
            errors[system].append(boundaries.boundary_errors(phones, found.phones))
        starts, ends = peer_spans(log_probs, [index[label] for label in labels])
        true = np.array([phone.start for phone in phones[1:]])
        for system, place in systems.items():
            errors[system].append(place(starts, ends) - true)
    for name, each in errors.items():
        print(f"mean absolute error {1000 * np.abs(np.concatenate(each)).mean():.1f} ms  {name}")
    return [boundaries.summary(name, each) for name, each in errors.items()]


def main() -> None:
    """Print machine, versions, what is compared, and the table."""
    arguments = parse_arguments()
    print(describe("numpy", "torch", "torchaudio"))
    try:
        recogniser = Recogniser.from_pretrained(arguments.model)
    except ModelError as error:
        print(f"left out: {error}")
        return
    print(f"model {arguments.model}, output frames of {1000 * recogniser.model.frame_shift:.0f} ms")
    if arguments.textgrids:
        print(f"recordings in {arguments.audio}, references in {arguments.textgrids}")
        print("where a forced aligner made the references, not people, its own errors count as ours")
        utterances = of_textgrids(arguments.textgrids, arguments.audio)
    elif arguments.emu:
        print(f"hand-labelled sentences in {arguments.emu}")
        utterances = of_emu(arguments.emu)
    else:
        print(f"the embedded corpus's {arguments.split} speakers, times known from synthesis")
        utterances = of_corpus(arguments.manifests, arguments.split)
    if arguments.moves:
        print_moves(recogniser, utterances)
        return
    print(boundary_table(compare(recogniser, utterances)))
    print(PUBLISHED)


if __name__ == "__main__":
    main()
