"""Phone recognition with CTC, from audio to phones and their error rate.

>>> from asr import Recogniser
>>> phones = Recogniser.from_pretrained("en-us-phones").transcribe
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asr.transcribe import Recogniser

__all__ = ["Recogniser"]


def __getattr__(name: str) -> Any:
    """Import the recogniser when it is first asked for: `import asr` alone stays quick."""
    if name == "Recogniser":
        from asr.transcribe import Recogniser

        return Recogniser
    raise AttributeError(f"module 'asr' has no attribute {name!r}")
