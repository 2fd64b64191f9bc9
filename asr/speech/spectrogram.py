"""Spectrograms as pictures: log-mel energies as grey levels.

Letters: N samples, T frames, M mel bins, W columns of a picture.
"""

import numpy as np

from asr.speech.features import FRAME_LENGTH, FRAME_SHIFT, fbank

NUM_MEL_BINS = 80
DYNAMIC_RANGE = 80.0  # dB from the loudest mel bin down to the level 0


def spectrogram_levels(waveform: np.ndarray, num_columns: int) -> np.ndarray:
    """Return log-mel energies as levels from 0 to 255, low frequencies in the bottom row.

    Parameters
    ----------
    waveform : (N,)
        At 16 kHz.
    num_columns
        W; a column is 10 ms wide, and the first one starts with the recording.

    Returns
    -------
    np.ndarray, shape (M, W), uint8

    Raises
    ------
    AudioError
        The waveform is shorter than one frame.

    Examples
    --------
    >>> spectrogram_levels(np.zeros(16000, np.float32), 100).shape
    (80, 100)
    """
    mels = fbank(waveform, NUM_MEL_BINS, use_energy=False)  # (T, M)
    centres = (np.arange(num_columns) + 0.5) * FRAME_SHIFT
    frames = np.round((centres - FRAME_LENGTH / 2) / FRAME_SHIFT).astype(int).clip(0, len(mels) - 1)
    span = DYNAMIC_RANGE / 10 * np.log(10)
    levels = 1 + (mels[frames].T[::-1] - mels.max()) / span
    return (255 * levels.clip(0, 1)).round().astype(np.uint8)
