"""Downloads of public archives: resumed after an interruption, verified, and unpacked safely."""

import bz2
import gzip
import hashlib
import http.client
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from asr.core.errors import CorpusError

OPENSLR = "https://www.openslr.org/resources"
_CHUNK = 1 << 20  # bytes
_TIMEOUT = 60  # seconds without a byte
_MAX_STALLS = 3  # consecutive connections without a byte


class _Interrupted(Exception):
    """The connection ended before the file did."""


def fetch_and_unpack(url: str, target_dir: Path, checksum: str | None = None) -> Path:
    """Download an archive and unpack it into a folder of the same name, unless that folder exists.

    Parameters
    ----------
    url : str
        Address of a file ``NAME.tar.gz`` or ``NAME.tar.bz2``.
    target_dir : Path
        Receives ``NAME``, and the archive until it is unpacked.
    checksum : str, optional
        As for `download`.

    Returns
    -------
    Path
        ``target_dir/NAME``.

    Raises
    ------
    CorpusError
        As for `download` and `unpack`.
    """
    archive = Path(target_dir) / url.rsplit("/", 1)[-1]
    folder = archive.with_name(archive.name.removesuffix(archive.suffix).removesuffix(".tar"))
    if not folder.is_dir():
        download(url, archive, checksum)
        unpack(archive, folder)
        archive.unlink()
    return folder


def download(url: str, target: Path, checksum: str | None = None) -> None:
    """Download a file, unless it exists; an interrupted download is resumed from ``TARGET.part``.

    Parameters
    ----------
    url : str
        An address with http or https.
    target : Path
        The file, which appears only when it is complete and verified.
    checksum : str, optional
        Algorithm and digest, such as ``"md5:32fa31d2..."``.

    Raises
    ------
    CorpusError
        The server refuses, the connection keeps breaking, or the checksum is wrong.
    """
    target = Path(target)
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        _transfer_all(url, part, progress)
    if checksum is not None:
        _verify(url, part, checksum)
    os.replace(part, target)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar.gz or tar.bz2 into a new folder, which appears only when it is complete.

    Members outside the folder, device files and the like are refused (tarfile's filter ``data``).

    Parameters
    ----------
    archive : Path
        Read to its end, so that its checksum is verified. It is deleted if it is damaged.
    folder : Path
        Must not exist.

    Raises
    ------
    CorpusError
        The archive is damaged or unsafe.
    """
    archive, folder = Path(archive), Path(folder)
    unpacking = folder.with_name(folder.name + ".part")
    shutil.rmtree(unpacking, ignore_errors=True)
    try:
        with (bz2 if archive.suffix == ".bz2" else gzip).open(archive) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as members:
                members.extractall(unpacking, filter="data")
            while stream.read(_CHUNK):  # what follows the last member: at its end the checksum is verified
                pass
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        shutil.rmtree(unpacking, ignore_errors=True)
        if isinstance(error, OSError) and error.errno is not None:  # of the disk, not of the archive
            raise
        archive.unlink()
        raise CorpusError(f"{archive}: damaged or unsafe ({error}); deleted: run the same command again") from error
    unpacking.rename(folder)


def _transfer_all(url: str, part: Path, progress: Progress) -> None:
    task = progress.add_task(part.name.removesuffix(".part"), total=None)
    stalls = 0
    while True:
        size = part.stat().st_size if part.is_file() else 0
        try:
            _transfer(url, part, size, lambda done, total: progress.update(task, completed=done, total=total))
            return
        except urllib.error.HTTPError as error:
            error.close()
            raise CorpusError(f"{url}: the server answers {error.code} {error.reason}: download it by hand") from error
        except (OSError, http.client.HTTPException, _Interrupted) as error:
            grown = part.is_file() and part.stat().st_size > size
            stalls = 0 if grown else stalls + 1
            if stalls == _MAX_STALLS:
                raise CorpusError(f"{url}: no connection ({error}): run the same command again to go on") from error


def _transfer(url: str, part: Path, size: int, report) -> None:
    """Request the bytes after the first `size`, and append them."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={size}-"} if size else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not size:
            raise
        error.close()
        if error.headers.get("Content-Range") == f"bytes */{size}":
            return
        part.unlink()
        raise _Interrupted("the file on the server is another one now") from error
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            size = 0  # a server without ranges sends the whole file
        length = response.headers.get("Content-Length")
        total = size + int(length) if length else None
        with part.open("ab" if size else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                size += len(chunk)
                report(size, total)
    if total is not None and size < total:
        raise _Interrupted(f"{size} of {total} bytes came")


def _verify(url: str, part: Path, checksum: str) -> None:
    algorithm, _, expected = checksum.partition(":")
    with part.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        part.unlink()
        raise CorpusError(f"{url}: {algorithm} is {found} instead of {expected}; deleted: run the same command again")
