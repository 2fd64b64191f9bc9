"""onnxruntime-web is taken from npm's registry once, and only as it was when it was chosen."""

import base64
import hashlib
import io
import tarfile

import pytest

from asr.core.errors import AsrError
from asr.serving import web_runtime


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry of one package, in a folder."""
    package = tmp_path / "package.tgz"
    with tarfile.open(package, "w:gz") as archive:
        for name in (*web_runtime.FILES, "ort.all.js"):
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(name)
            archive.addfile(entry, io.BytesIO(name.encode()))
    integrity = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    monkeypatch.setattr(web_runtime, "ADDRESS", package.as_uri())
    monkeypatch.setattr(web_runtime, "INTEGRITY", integrity)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return package


def test_it_is_fetched_once(registry, tmp_path):
    assert web_runtime.located() == web_runtime.cache()
    registry.unlink()
    web_runtime.copy(web_runtime.located(), tmp_path / "runtime")
    files = {path.name: path.read_bytes() for path in (tmp_path / "runtime").iterdir()}
    assert b"MIT License" in files.pop("LICENSE")
    files.pop("ThirdPartyNotices.txt")
    assert files == {name: name.encode() for name in web_runtime.FILES}


def test_another_package_is_refused(registry, tmp_path):
    registry.write_bytes(registry.read_bytes() + b"\0")
    with pytest.raises(AsrError, match="is not what it was") as caught:
        web_runtime.located()
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["package.tgz"]


def test_a_registry_out_of_reach(registry, tmp_path):
    registry.unlink()
    with pytest.raises(AsrError, match=r"cannot get file:.* give --runtime") as caught:
        web_runtime.located()
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written(registry, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(AsrError, match="XDG_CACHE_HOME names another folder"):
        web_runtime.located()


def test_files_at_hand(tmp_path):
    with pytest.raises(AsrError, match=r"lacks ort.wasm.bundle.min.mjs and ort-wasm-simd-threaded.wasm"):
        web_runtime.located(tmp_path)
    for name in web_runtime.FILES:
        (tmp_path / name).write_bytes(b"of another version")
    assert web_runtime.located(tmp_path) == tmp_path
