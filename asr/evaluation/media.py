"""An utterance's sound and pictures for the page of an evaluation, as text in base64.

Letters: N samples, T frames of features, T' frames of posteriors, C labels with the blank, M mel bins, H and W rows and
columns of a picture.
"""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image

from asr.speech.audio import to_ogg
from asr.speech.features import FRAME_SHIFT, HOP_LENGTH
from asr.speech.spectrogram import spectrogram_levels

SHOWN_POSTERIOR = 0.1  # a label never likelier than this has no row in the posteriorgram
INK = (59, 113, 202)  # of a posterior of 1, which reads on white and on black; less of it is more transparent


def utterance_media(
    waveform: np.ndarray, log_probs: np.ndarray, tokens: Sequence[str], frame_shift: float
) -> dict[str, Any]:
    """Return an utterance's sound and pictures, which are added to its dictionary in an evaluation.

    Both pictures have a column for each 10 ms; the first column is at the start of the recording. They have no axes:
    the page draws axes and the times of the phones.

    Parameters
    ----------
    waveform : (N,)
        Samples at 16 kHz, at least one frame of 25 ms.
    log_probs : (T', C)
        Natural logs; column 0 is the blank.
    tokens
        Label of each column.
    frame_shift
        Seconds from one row of `log_probs` to the next.

    Returns
    -------
    dict
        In base64, ``audio`` as Ogg Vorbis and ``spectrogram`` and ``posteriors`` as PNG. ``posterior_tokens`` are the
        labels of the posteriorgram's rows from the top, in the order of the frames where each label is likeliest; the
        blank is last.

    Raises
    ------
    AudioError
        The waveform is shorter than one frame.

    Examples
    --------
    >>> log_probs = np.log([[0.1, 0.88, 0.01, 0.01], [0.6, 0.1, 0.01, 0.29]])
    >>> media = utterance_media(np.zeros(960, np.float32), log_probs, ["<blank>", "t", "n", "iy"], 0.03)
    >>> media["posterior_tokens"]
    ['t', 'iy', '<blank>']
    """
    num_columns = max(1, round(len(waveform) / HOP_LENGTH))
    rows = shown_tokens(log_probs)
    return {
        "audio": base64.b64encode(to_ogg(waveform)).decode(),
        "spectrogram": _png(spectrogram_levels(waveform, num_columns), _magma()),
        "posteriors": _png(_posterior_levels(log_probs[:, rows], frame_shift, num_columns), bytes(INK * 256), True),
        "posterior_tokens": [tokens[row] for row in rows],
    }


def shown_tokens(log_probs: np.ndarray) -> list[int]:
    """Return the classes that the posteriorgram has rows for.

    Parameters
    ----------
    log_probs : (T', C)
        Natural logs; column 0 is the blank.

    Returns
    -------
    list of int
        Columns of `log_probs` that are likely in some frame, in the order of the frame where each is likeliest; the
        blank is last.

    Examples
    --------
    >>> shown_tokens(np.log([[0.2, 0.01, 0.79], [0.3, 0.69, 0.01]]))
    [2, 1, 0]
    """
    phones = np.flatnonzero(log_probs[:, 1:].max(axis=0) > np.log(SHOWN_POSTERIOR)) + 1
    peaks = log_probs[:, phones].argmax(axis=0)
    return [*phones[np.argsort(peaks, kind="stable")].tolist(), 0]


def _png(levels: np.ndarray, palette: bytes, transparent: bool = False) -> str:
    """Encode a picture (H, W) uint8 of palette numbers; if it is transparent, the numbers are the opacities too."""
    image = Image.fromarray(levels).convert("P")
    image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, **({"transparency": bytes(range(256))} if transparent else {}))
    return base64.b64encode(buffer.getvalue()).decode()


def _magma() -> bytes:
    return bytes((255 * colormaps["magma"](np.arange(256))[:, :3]).round().astype(np.uint8).tobytes())


def _posterior_levels(log_probs: np.ndarray, frame_shift: float, num_columns: int) -> np.ndarray:
    """Return the square roots of posteriors as opacities (H, W), so that second choices can be seen."""
    frames = ((np.arange(num_columns) + 0.5) * FRAME_SHIFT / frame_shift).astype(int)
    opacity = (255 * np.exp(log_probs / 2)).round().clip(0, 255).astype(np.uint8)  # (T', H)
    levels = np.zeros((log_probs.shape[1], num_columns), np.uint8)
    inside = frames < len(log_probs)
    levels[:, inside] = opacity[frames[inside]].T
    return levels
