"""Speed of asr.ctc.beam_search beside fast-ctc-decode and flashlight-text, one thread each, pruned by the beam alone.

python benchmarks/ctc_beam.py
python benchmarks/ctc_beam.py a.flac b.wav

Posteriors: those of the model en-us-phones for the files (without them, for sentences that espeak-ng speaks), joined
to utterances of 400 frames; and flat ones, of random logits over 41 phones. The log probability is that of the best
hypothesis over all its paths, computed afresh for each side.
"""

import argparse
import itertools

import fast_ctc_decode
import numpy as np
import torch
from _bench import describe, in_turns, spread
from flashlight.lib.text.decoder import CriterionType, LexiconFreeDecoder, LexiconFreeDecoderOptions, ZeroLM

from asr import ctc
from asr.recognition.recogniser import Recogniser
from asr.speech import audio, espeak

NUM_FRAMES, UTTERANCES = 400, 4
SENTENCES = [
    "She had your dark suit in greasy wash water all year.",
    "A student of speech may read every algorithm in an afternoon, and run it on recordings of his own.",
    "The quick brown fox jumps over the lazy dog, while five boxing wizards look on and applaud.",
    "We measured the same thing twice on one machine, and wrote down the command beside the figure.",
]


def recognised(files: list[str]) -> np.ndarray:
    """Return log posteriors (400, B, 40) of recordings, or of sentences spoken on the spot."""
    recogniser = Recogniser.from_pretrained()
    if files:
        waveforms = [audio.load(path) for path in files]
    else:
        speeches = [espeak.synthesise(text, pitch=pitch) for pitch in (35, 50, 65, 80) for text in SENTENCES]
        waveforms = [audio.from_array(speech.samples, speech.sample_rate) for speech in speeches]
    joined = np.concatenate([recogniser.emissions(waveform) for waveform in waveforms])
    count = min(len(joined) // NUM_FRAMES, UTTERANCES)
    if count == 0:
        raise SystemExit(f"the files hold {len(joined)} frames, and {NUM_FRAMES} are needed: name more of them")
    return np.ascontiguousarray(joined[: count * NUM_FRAMES].reshape(count, NUM_FRAMES, -1).transpose(1, 0, 2))


def flat() -> np.ndarray:
    """Return log posteriors (400, B, 42) of normal logits."""
    logits = np.random.default_rng(1).standard_normal((NUM_FRAMES, UTTERANCES, 42))
    return torch.from_numpy(logits).log_softmax(2).float().numpy()


def sides(log_probs: np.ndarray, beam_size: int) -> dict:
    """Return a function for each decoder that returns the labels of all utterances."""
    _, batch, num_classes = log_probs.shape
    alphabet = [chr(0x100 + c) for c in range(num_classes)]
    options = LexiconFreeDecoderOptions(
        beam_size=beam_size,
        beam_size_token=num_classes,
        beam_threshold=float("inf"),
        lm_weight=0.0,
        sil_score=0.0,
        log_add=True,
        criterion_type=CriterionType.CTC,
    )
    flashlight = LexiconFreeDecoder(options, ZeroLM(), -1, 0, [])
    rows = [np.ascontiguousarray(log_probs[:, b]) for b in range(batch)]

    def by_fast_ctc_decode() -> list[list[int]]:
        decoded = [
            fast_ctc_decode.beam_search(np.exp(row), alphabet, beam_size=beam_size, beam_cut_threshold=0.0)
            for row in rows
        ]
        return [[ord(letter) - 0x100 for letter in letters] for letters, _ in decoded]

    def by_flashlight() -> list[list[int]]:
        paths = [flashlight.decode(row.ctypes.data, *row.shape)[0].tokens for row in rows]
        return [[label for label, _ in itertools.groupby(path) if label > 0] for path in paths]

    def by_asr() -> list[list[int]]:
        return [list(nbest[0].tokens) for nbest in ctc.beam_search(log_probs, beam_size=beam_size)]

    return {"fast-ctc-decode": by_fast_ctc_decode, "flashlight-text": by_flashlight, "asr": by_asr}


def mean_log_probability(log_probs: np.ndarray, labels: list[list[int]]) -> float:
    """Return the mean over utterances of ln p(labels), over all their paths."""
    logits = torch.from_numpy(log_probs).double()
    targets = torch.tensor([label for row in labels for label in row])
    frames = [len(logits)] * len(labels)
    return -ctc.ctc_loss(logits, targets, frames, [len(row) for row in labels], reduction="none").mean().item()


def main() -> None:
    """Print machine, versions, and for each kind of posteriors and beam the three times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="audio files, 12 s or more together")
    parser.add_argument("--repeats", type=int, default=5, help="passes (default 5)")
    arguments = parser.parse_args()
    ctc.set_num_threads(1)
    print(describe("numba", "fast-ctc-decode", "flashlight-text"))
    for kind, log_probs in {"trained model": recognised(arguments.files), "flat": flat()}.items():
        num_frames, batch, num_classes = log_probs.shape
        print(
            f"{kind}: {batch} utterances of {num_frames} frames, {num_classes} classes; one thread; "
            f"time of an utterance, median [10 % - 90 %] of {arguments.repeats} passes in turns"
        )
        for beam_size in (16, 50, 100):
            runs = sides(log_probs, beam_size)
            times = in_turns(runs, arguments.repeats)
            for name, run in runs.items():
                score = mean_log_probability(log_probs, run())
                print(
                    f"beam {beam_size:3}  {name:16} {spread(times[name] / batch):32} mean log probability {score:.3f}"
                )
            fastest = min(np.median(seconds) for name, seconds in times.items() if name != "asr")
            print(f"beam {beam_size:3}  {'ratio to faster':16} {fastest / np.median(times['asr']):9.1f}", flush=True)


if __name__ == "__main__":
    main()
