"""onnxruntime-web, which runs a network in the browser: fetched from npm's registry once, checked, and kept.

It is no part of this project, and no more than its smallest build of WebAssembly is taken: no WebGPU, no threads.
"""

import base64
import hashlib
import http.client
import io
import os
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import onnxruntime

from asr.core.errors import AsrError, OutputError
from asr.core.files import replacing

VERSION = "1.23.2"
ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
INTEGRITY = "T09JUtMn+CZLk3mFwqiH0lgQf+4S7+oYHHtk6uhaYAAJI95bTcKi5bOOZYwORXfS/RLZCjDDEXGWIuOCAFlEjg=="  # SHA-512
FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
LICENCES = ("LICENSE", "ThirdPartyNotices.txt")  # which the package for Python has, and that for the web has not
SECONDS = 60  # without a byte, after which the registry is given up


def located(given: Path | None = None) -> Path:
    """Return a folder that has the runtime's files.

    Parameters
    ----------
    given
        Such a folder, as ``node_modules/onnxruntime-web/dist`` is. None takes the cache, and fetches the files into it
        the first time.

    Raises
    ------
    AsrError
        The files are not there, or the registry cannot be reached or sends something else.
    """
    source = given or cache()
    if given is None and not all((source / name).is_file() for name in FILES):
        _keep(source, _files_in(_fetched()))
    lacking = [name for name in FILES if not (source / name).is_file()]
    if lacking:
        raise AsrError(f"{source} lacks {' and '.join(lacking)}: name the folder dist of onnxruntime-web {VERSION}")
    return source


def copy(source: Path, folder: Path) -> None:
    """Copy the runtime's files from one folder to another, with its licences."""
    licences = Path(onnxruntime.__file__).parent
    for path in [*(source / name for name in FILES), *(licences / name for name in LICENCES)]:
        with replacing(folder / path.name) as temporary:
            shutil.copyfile(path, temporary)


def cache(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder in which the runtime is kept.

    >>> cache({"XDG_CACHE_HOME": "/var/cache"}).as_posix()
    '/var/cache/asr/onnxruntime-web-1.23.2'
    """
    caches = environment.get("XDG_CACHE_HOME") or os.path.join(environment.get("HOME") or ".", ".cache")
    return Path(caches) / "asr" / f"onnxruntime-web-{VERSION}"


def _fetched() -> bytes:
    """Return the package as the registry has it."""
    hint = "give --runtime, a folder with the files of that package's dist"
    try:
        with urllib.request.urlopen(ADDRESS, timeout=SECONDS) as answer:
            content = answer.read()
    except (OSError, http.client.HTTPException) as error:  # of which urllib.error.URLError is one
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise AsrError(f"cannot get {ADDRESS} ({reason}): {hint}") from error
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != INTEGRITY:
        raise AsrError(f"{ADDRESS} is not what it was when this version of asr was made: {hint}")
    return content


def _files_in(package: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
        members = {name: archive.extractfile(f"package/dist/{name}") for name in FILES}
        return {name: member.read() for name, member in members.items() if member is not None}


def _keep(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        try:
            with replacing(folder / name) as temporary:
                temporary.write_bytes(content)
        except OutputError as error:
            raise AsrError(f"{error}: XDG_CACHE_HOME names another folder for caches") from error
