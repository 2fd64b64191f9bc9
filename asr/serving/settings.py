"""What a server offers, and the limits that it keeps."""

import ipaddress
from dataclasses import dataclass, field

from asr.core.settings import check

MEGABYTE = 1 << 20
SHORTEST_TOKEN = 16  # characters


@dataclass(frozen=True)
class Models:
    """The models that each worker loads.

    Attributes
    ----------
    model
        A run or model folder, or the name of a shipped model.
    words
        A language model over words, as `Recogniser.from_pretrained` takes it; None recognises phones only.
    """

    model: str
    words: str | None = None


@dataclass(frozen=True)
class Limits:
    """What a client may ask of the server.

    Attributes
    ----------
    upload_bytes
        Length of a request's body.
    upload_seconds
        Time in which the body has to arrive, and in which a stream has to send something.
    sound_seconds
        Length of a recording or a stream.
    work_seconds
        Time that a worker may spend on one recording, and that a request may wait for a worker.
    memory_bytes
        Memory of a worker, the models included.
    workers
        Processes that work side by side.
    queue
        Requests that may wait beside those that are worked on.
    streams
        Streams at a time.

    Raises
    ------
    ConfigError
        A limit is not positive.
    """

    upload_bytes: int = 128 * MEGABYTE  # an hour of 16 kHz and 16 bits has 110
    upload_seconds: float = 60.0
    sound_seconds: float = 3600.0
    work_seconds: float = 300.0
    memory_bytes: int = 4096 * MEGABYTE
    workers: int = 2
    queue: int = 32
    streams: int = 16

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check(value > 0, name, "be positive", value)


@dataclass(frozen=True)
class Access:
    """Who may use the server.

    Attributes
    ----------
    token
        What clients have to send as ``Authorization: Bearer TOKEN``; None where the server listens on this machine's
        own address only, and asks for none.
    origins
        Web sites whose pages may use the server, such as ``https://example.org``.

    Raises
    ------
    ConfigError
        The token is short enough to be guessed.
    """

    token: str | None = field(default=None, repr=False)
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        size = SHORTEST_TOKEN if self.token is None else len(self.token)
        check(size >= SHORTEST_TOKEN, "token", f"have {SHORTEST_TOKEN} characters or more", f"{size} characters")


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine's own address, which no other machine can reach.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
