"""Make features.npz: a short waveform with its fbank and MFCC by torchaudio, in double precision.

python tests/golden/make_features.py
"""

from pathlib import Path

import numpy as np
import torch
from torchaudio.compliance import kaldi


def main() -> None:
    seconds = np.arange(4000) / 16000
    rising_tone = 0.3 * np.sin(2 * np.pi * (200 + 6000 * seconds) * seconds)
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(seconds))
    waveform = np.float32(rising_tone + noise)
    waveform[2000:2800] = 0  # digital silence: the floors
    scaled = torch.from_numpy(waveform).double()[None] * 32768
    np.savez_compressed(
        Path(__file__).with_name("features.npz"),
        waveform=waveform,
        fbank=kaldi.fbank(scaled, num_mel_bins=40, use_energy=True).float().numpy(),
        mfcc=kaldi.mfcc(scaled, num_mel_bins=23, num_ceps=13, use_energy=True).float().numpy(),
    )


if __name__ == "__main__":
    main()
