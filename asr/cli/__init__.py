"""The `asr` command: options, help and error messages of each verb; the algorithms are in the rooms below."""

import lazy_loader

# `from asr.cli import main; main()` is the command; what it needs is imported when it is asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"app": ["main"]})
