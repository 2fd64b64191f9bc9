"""What libsndfile cannot decode, such as MP4, Matroska, WMA and AMR, by ffmpeg: by PyAV, or by the program on the PATH.

Both are optional. Decoding makes no connection, even if a file is a playlist.

Letters: n samples of a block.
"""

import math
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import IO, Any, BinaryIO

import numpy as np

from asr.core.errors import AudioError

# Of files with sound: what a search of folders finds beside the suffixes of libsndfile.
SUFFIXES = {
    ".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".aac", ".amr", ".awb", ".wma", ".wmv", ".asf", ".webm",
    ".weba", ".mkv", ".mka", ".avi", ".ac3", ".eac3", ".dts", ".ape", ".tta", ".wv", ".mpc", ".spx", ".ra", ".rm",
    ".mpg", ".mpeg", ".mts", ".m2ts", ".flv", ".dsf", ".tak", ".shn", ".g722",
}  # fmt: skip
# Of all files with sound: the former, and what libsndfile decodes.
SOUND_SUFFIXES = {
    *SUFFIXES,
    ".wav", ".wave", ".bwf", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".sph", ".nist",
    ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".gsm", ".vox", ".voc", ".ircam", ".sf", ".paf", ".pvf",
    ".svx", ".8svx", ".avr", ".sds", ".wve",
}  # fmt: skip
# How files begin that ffmpeg decodes: a place, and what stands there.
SIGNATURES = (
    (4, b"ftyp"),  # MP4
    (0, b"\x1a\x45\xdf\xa3"),  # Matroska and WebM
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),  # ASF, WMA
    (0, b"#!AMR"),
    (0, b"FLV\x01"),
    (0, b"wvpk"),
    (0, b"TTA1"),
    (0, b"MAC "),
    (0, b"\x0b\x77"),  # AC-3
    (0, b"\xff\xf1"),  # AAC
    (0, b"\xff\xf9"),
    (0, b"OggS\x00\x02"),
    (8, b"AVI "),
)
CODED_WAVE = {0x45, 0x64, 0xFF, 0x160, 0x161, 0x162, 0x163, 0x1610, 0x2000}  # G.726, AAC, WMA, AC-3: tags in WAV files
BLOCK_SAMPLES = 1 << 16  # that are put together to one block, or more
SLACK = 0.5  # seconds by which a track may be shorter than the file says: encoders' padding
DAMAGE = re.compile(r"partial file|prematurely|invalid data|corrupt|truncat|error while decoding", re.IGNORECASE)


def blocks(
    file: BinaryIO, path: Path | None, head: bytes, suffix: str, reason: str
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the first sound track of a file in blocks (n, channels), floats or integers, each with its sample rate.

    Parameters
    ----------
    file
        Can seek.
    path
        Of the file, if it has one.
    head, suffix
        Its first bytes, and the suffix of its name in lower case.
    reason
        What libsndfile says of it.

    Raises
    ------
    AudioError
        The file has no sound, is damaged or cut short; or it needs ffmpeg, and there is none.
    """
    file.seek(0)
    program = shutil.which("ffmpeg")
    is_media = _is_media(head, suffix) or "unsupported encoding" in reason
    if _has_pyav():
        yield from _unless_nothing(_by_pyav(file), is_media, reason)
    elif program is not None:
        with _on_disk(file, path) as place:
            yield from _unless_nothing(_by_program(program, place), is_media, reason)
    elif is_media:
        raise AudioError("this format needs ffmpeg: pip install av, or put the program ffmpeg on the PATH")
    else:
        raise AudioError(_damaged(reason))


def _unless_nothing(
    found: Iterator[tuple[float, np.ndarray]], is_media: bool, reason: str
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield what ffmpeg decodes; if that is nothing and the file is not marked as media, libsndfile's reason stands."""
    decoded_any = False
    try:
        for block in found:
            decoded_any = True
            yield block
    except AudioError:
        if decoded_any or is_media:
            raise
    if not decoded_any and not is_media:
        raise AudioError(_damaged(reason))


def _is_media(head: bytes, suffix: str) -> bool:
    """Whether a file is one that ffmpeg decodes, by its first bytes or its name."""
    place = head.find(b"fmt ", 12) + 8
    coded = head[:4] == b"RIFF" and place > 8 and int.from_bytes(head[place : place + 2], "little") in CODED_WAVE
    transport = head[:1] == head[188:189] == b"G"  # MPEG-TS
    marked = any(head.startswith(mark, place) for place, mark in SIGNATURES)
    return coded or transport or marked or suffix in SUFFIXES


def _damaged(reason: str) -> str:
    return f"damaged, or not audio ({reason}): copy it again or convert it to WAV"


def _has_pyav() -> bool:
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


def _by_pyav(file: BinaryIO) -> Iterator[tuple[float, np.ndarray]]:
    import av

    num_read, rate, parts = 0, 0, list[np.ndarray]()
    try:
        # With no protocol allowed, a playlist cannot make ffmpeg open another file or a connection.
        with av.open(file, "r", options={"protocol_whitelist": ""}, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise AudioError("there is no sound track in it: give another file")
            track = container.streams.audio[0]
            seconds = _seconds_promised(container.format.name, track)
            # An MP4 says where the sound ends in the last frame; what follows is the encoder's padding.
            limit = seconds if container.format.name.startswith("mov") and seconds > 0 else math.inf
            for frame in container.decode(track):
                if parts and (frame.sample_rate != rate or sum(map(len, parts)) >= BLOCK_SAMPLES):
                    yield rate, np.concatenate(parts)
                    parts = []
                samples, rate = frame.to_ndarray(), frame.sample_rate
                samples = samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)
                parts.append(samples[: round(min(limit * rate, num_read + len(samples))) - num_read])
                num_read += len(parts[-1])
    except av.FFmpegError as error:
        raise AudioError(_damaged(error.strerror or str(error))) from error
    if num_read > 0:
        yield rate, np.concatenate(parts)
    heard = num_read / rate if rate else 0.0
    if heard < seconds - SLACK:
        raise AudioError(f"cut short, it has {heard:.1f} of {seconds:.1f} s: copy or convert it again")


def _seconds_promised(container: str, track: Any) -> float:
    """Return the length of a track as the file states it, 0 if it states none that can be relied on."""
    if container.startswith(("mov", "wv", "tta")) and track.duration is not None:
        return float(track.duration * track.time_base)
    clock = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", track.metadata.get("DURATION", ""))  # in Matroska
    return 0.0 if clock is None else 3600 * int(clock[1]) + 60 * int(clock[2]) + float(clock[3])


@contextmanager
def _on_disk(file: BinaryIO, path: Path | None) -> Iterator[Path]:
    """Give the path of a file, or if it has none, of a temporary copy: ffmpeg must seek in most formats."""
    if path is not None:
        yield path
        return
    with NamedTemporaryFile() as copy:
        shutil.copyfileobj(file, copy)
        copy.flush()
        yield Path(copy.name)


def _by_program(program: str, path: Path) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the sound track that the program ffmpeg writes into a pipe, as an AU file of floats."""
    # ... so that a playlist cannot make it open a connection, and a name such as "http:x" is that of a file.
    source = ["-protocol_whitelist", "file", "-i", f"file:{path}"]
    command = [program, "-nostdin", "-v", "error", *source, "-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "-"]
    with TemporaryFile() as messages:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=messages) as process:
            assert process.stdout is not None
            try:
                yield from _au_blocks(process.stdout)
                process.wait()
            finally:
                process.kill()  # where nobody wants the rest
        messages.seek(0)
        lines = messages.read().decode(errors="replace").splitlines()
    faults = [line for line in lines if DAMAGE.search(line)] or (lines or ["it failed"] if process.returncode else [])
    if faults:
        reason = re.sub(r"\[[^]]*\] *", "", faults[-1]).strip()  # without the addresses of its objects
        raise AudioError(_damaged(f"ffmpeg: {reason}"))


def _au_blocks(pipe: IO[bytes]) -> Iterator[tuple[float, np.ndarray]]:
    head = pipe.read(24)
    if len(head) < 24:
        return
    start, _, _, rate, num_channels = struct.unpack(">5I", head[4:])
    pipe.read(start - 24)
    while content := pipe.read(4 * num_channels * BLOCK_SAMPLES):
        whole = len(content) // (4 * num_channels) * 4 * num_channels
        yield rate, np.frombuffer(content[:whole], ">f4").reshape(-1, num_channels)
