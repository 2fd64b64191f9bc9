"""Speed of asr.speech.features beside torchaudio.compliance.kaldi: the same features of the same audio, in one process.

python benchmarks/features.py
python benchmarks/features.py --repeats 50 a.flac b.wav
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from _bench import describe, in_turns, spread
from torchaudio.compliance import kaldi

from asr.speech import audio
from asr.speech.features import fbank, mfcc

PEER = "torchaudio.compliance.kaldi"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "files", nargs="*", help="audio files; without them, 60 s of noise as 12 utterances, then as one"
    )
    parser.add_argument("--repeats", type=int, default=25, help="passes over the audio (default 25)")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads; ours takes one (default 2)")
    return parser.parse_args()


def compare(name: str, waveforms: list[np.ndarray], ours: Callable, theirs: Callable, repeats: int) -> None:
    """Time both over all waveforms, alternately, and print real-time factors (processing time / audio time)."""
    tensors = [torch.from_numpy(waveform)[None] * 32768 for waveform in waveforms]
    runs = {"asr.speech.features": lambda: [ours(w) for w in waveforms], PEER: lambda: [theirs(t) for t in tensors]}
    times = in_turns(runs, repeats)
    seconds = sum(map(len, waveforms)) / audio.SAMPLE_RATE
    for label, values in times.items():
        median = np.median(values)
        factor = f"{median / seconds:.6f} ({seconds / median:,.0f} x real time)"
        print(f"{name:20} {label:28} {spread(values)}  {factor}")
    print(f"{name:20} {'ratio of medians':28} {np.median(times[PEER]) / np.median(times['asr.speech.features']):8.2f}")


def main() -> None:
    """Print machine, versions and both sides' times."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    print(describe("numpy", "scipy", "numba", "torch", "torchaudio"))
    print(f"torch with {arguments.threads} threads, asr.speech.features with 1")
    print(f"median [10 % - 90 %] of {arguments.repeats} passes, real-time factor")
    noise = np.float32(0.1 * np.random.default_rng(0).standard_normal(60 * audio.SAMPLE_RATE))
    audios = {"12 x 5 s": np.split(noise, 12), "1 x 60 s": [noise]}
    if arguments.files:
        audios = {f"{len(arguments.files)} files": [audio.load(path) for path in arguments.files]}
    for name, waveforms in audios.items():
        pairs: dict[str, tuple[Callable, Callable]] = {
            "fbank": (fbank, lambda t: kaldi.fbank(t, num_mel_bins=40, use_energy=True)),
            "mfcc": (mfcc, lambda t: kaldi.mfcc(t, num_mel_bins=23, num_ceps=13, use_energy=True)),
        }
        for kind, (ours, theirs) in pairs.items():
            compare(f"{name} {kind}", waveforms, ours, theirs, arguments.repeats)


if __name__ == "__main__":
    main()
