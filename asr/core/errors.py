"""Errors that a user can correct.

Each message is one line that says what is wrong, where, and how to mend it; the command line prints it alone, without a
traceback, and exits with 2.
"""


class AsrError(Exception):
    """Base of all errors that a user can correct."""


class AudioError(AsrError):
    """An audio file that is missing, empty, corrupt, too short or not finite."""


class TooLongError(AudioError):
    """A recording that is longer than is allowed."""


class ConfigError(AsrError):
    """A configuration with an unknown key, a wrong type or a value out of range.

    Parameters
    ----------
    message
        What is wrong, and how to mend it.
    key
        The dotted name of the setting that is wrong, where it is one.
    """

    def __init__(self, message: str, key: str = ""):
        super().__init__(message)
        self.key = key


class CorpusError(AsrError):
    """A corpus that is missing, incomplete or not laid out as its documentation says."""


class InfeasibleError(AsrError):
    """A target that no CTC path can spell in the frames that the utterance has."""


class ModelError(AsrError):
    """A model folder with a missing, changed or mismatched file."""


class OutputError(AsrError):
    """A file that cannot be written: a full disk, a folder without permission."""
