"""`asr serve` as the container runs it: without a home, and where nothing but a temporary folder can be written."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, ROOT, started
from tests.serving import RECORDING

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")


def without_rights():
    """What root's commands need before them so that permissions bind them, too."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv to take that away")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.fixture
def install(tmp_path):
    """The package, where it cannot be written."""
    folder = tmp_path / "install"
    shutil.copytree(ROOT / "asr", folder / "asr", ignore=shutil.ignore_patterns("__pycache__"))
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder
    for path in paths:
        path.chmod(0o755)


def test_a_server_without_a_home_on_a_file_system_that_cannot_be_written(install, tmp_path):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TMPDIR": str(temporary)}
    environment |= {"NUMBA_CACHE_DIR": str(temporary / "kernels"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(install)}
    options = ["--port", "0", "--model", "en-us-phones-small", "--words", "none", "--workers", "1"]
    command = [*without_rights(), sys.executable, "-m", "asr", "serve", *options]
    before = sorted(install.rglob("*"))
    with started(command, env=environment, cwd=install, stderr=subprocess.PIPE, text=True) as process:
        lines = [process.stderr.readline()]
        while lines[-1] and not lines[-1].startswith("serving at "):
            lines.append(process.stderr.readline())
        url = re.fullmatch(r"serving at (http://\S+)\n", lines[-1])[1]
        answer = httpx.post(f"{url}/v1/phones", files={"file": ("a", RECORDING.read_bytes())}, timeout=PATIENCE)
        assert answer.json()["phones"][0]["label"] == "AY"
        process.terminate()
        process.wait(PATIENCE)
    assert sorted(install.rglob("*")) == before
    assert list((temporary / "kernels").rglob("*.nbi"))
    assert not Path("/nonexistent").exists()


def test_what_the_container_compiles_exists():
    containerfile = (ROOT / "Containerfile").read_text("utf8").replace("\\\n", "")
    (code,) = re.findall(r'python -c "(.*)"\n', containerfile)
    imports = [line for line in ast.parse(re.sub(r"; +", "\n", code)).body if isinstance(line, ast.ImportFrom)]
    assert len(imports) == 2
    for line in imports:
        for name in line.names:
            assert hasattr(importlib.import_module(line.module), name.name)
