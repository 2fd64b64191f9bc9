"""Phone recognition with CTC, from audio to phones and their error rate.

>>> from asr import Recogniser
>>> phones = Recogniser.from_pretrained("en-us-phones").transcribe
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from asr.core.errors import AsrError, AudioError, ConfigError, CorpusError, InfeasibleError, ModelError
    from asr.recognition.align import align
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
    "Recogniser",
    "Segment",
    "Stream",
    "Transcript",
    "align",
]

# Each is imported when it is first asked for: `import asr` alone stays quick.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "core.errors": ["AsrError", "AudioError", "ConfigError", "CorpusError", "InfeasibleError", "ModelError"],
        "recognition.align": ["align"],
        "recognition.recogniser": ["Recogniser", "Transcript"],
        "recognition.stream": ["Stream"],
        "speech.segments": ["Segment"],
    },
)
