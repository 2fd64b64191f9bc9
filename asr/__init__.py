"""Phone recognition with CTC, from audio to phones and their error rate.

>>> import numpy as np
>>> from asr import Recogniser
>>> recogniser = Recogniser.from_pretrained("en-us-phones")
>>> recogniser.transcribe(np.zeros(16000), sample_rate=16000).duration  # or a path: recogniser.transcribe("a.wav")
1.0
"""

import os
from typing import TYPE_CHECKING

import lazy_loader

# Since 1.31 onnxruntime keeps a device id and a queue of events below the user's cache folder and asks for its vendor's
# host. It reads this variable when it is imported, which comes later than this; what the user has set stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from asr.core.errors import (
        AsrError,
        AudioError,
        ConfigError,
        CorpusError,
        InfeasibleError,
        ModelError,
        OutputError,
        TooLongError,
    )
    from asr.recognition.align import align
    from asr.recognition.pronounce import pronounce
    from asr.recognition.recogniser import Recogniser, Transcript
    from asr.recognition.stream import Stream
    from asr.speech.segments import Segment

__version__ = "0.2.0"
__all__ = [
    "AsrError",
    "AudioError",
    "ConfigError",
    "CorpusError",
    "InfeasibleError",
    "ModelError",
    "OutputError",
    "Recogniser",
    "Segment",
    "Stream",
    "TooLongError",
    "Transcript",
    "align",
    "pronounce",
]

# Each name is imported when it is first used, so that `import asr` stays quick.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "core.errors": [
            "AsrError",
            "AudioError",
            "ConfigError",
            "CorpusError",
            "InfeasibleError",
            "ModelError",
            "OutputError",
            "TooLongError",
        ],
        "recognition.align": ["align"],
        "recognition.pronounce": ["pronounce"],
        "recognition.recogniser": ["Recogniser", "Transcript"],
        "recognition.stream": ["Stream"],
        "speech.segments": ["Segment"],
    },
)
