"""The microphone, through the optional package sounddevice."""

import queue
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from asr.cli.options import note
from asr.cli.recordings import Recording
from asr.core.errors import AsrError
from asr.speech.audio import SAMPLE_RATE

RECORDING = Recording(Path("microphone"), "microphone", "microphone")  # as outputs name it


def library() -> Any:
    """Return the package sounddevice.

    Raises
    ------
    AsrError
        It is not installed.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: PortAudio is missing
        raise AsrError(f'--mic needs a microphone\'s library ({error}): in a checkout, pip install ".[mic]"') from error
    return sounddevice


def record() -> np.ndarray:
    """Return what the microphone picks up until Enter is pressed: (N,) float32 at 16 kHz.

    Raises
    ------
    AsrError
        There is no microphone, or sounddevice is not installed.
    """
    return np.concatenate([np.zeros(0, np.float32), *blocks()])


def blocks() -> Iterator[np.ndarray]:
    """Yield what the microphone picks up, a tenth of a second at a time, until Enter is pressed.

    Raises
    ------
    AsrError
        As for `record`.
    """
    sounddevice = library()
    recorded: queue.SimpleQueue[np.ndarray | None] = queue.SimpleQueue()

    def wait() -> None:
        sys.stdin.readline()
        recorded.put(None)

    try:
        with sounddevice.InputStream(
            samplerate=SAMPLE_RATE,
            channels=1,
            blocksize=SAMPLE_RATE // 10,
            callback=lambda block, frames, time, status: recorded.put(block[:, 0].copy()),
        ):
            note("recording: press Enter to end")
            threading.Thread(target=wait, daemon=True).start()
            while (block := recorded.get()) is not None:
                yield block
    except sounddevice.PortAudioError as error:
        raise AsrError(f"--mic: {error}: check that a microphone is there") from error
