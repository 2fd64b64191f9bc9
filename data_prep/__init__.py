"""Preparation of corpora: a module for each corpus turns its files into Lhotse manifests.

The module's `prepare(corpus_dir, output_dir)` writes ``recordings_SPLIT.jsonl.gz`` and ``supervisions_SPLIT.jsonl.gz``
for those of the splits train, dev and test that the corpus has. Its `obtain(target_dir)` downloads or synthesises the
corpus where that is allowed.
"""

import hashlib
import importlib
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.core.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corpus:
    """What is known of a corpus before any of its files is read.

    Attributes
    ----------
    module
        Its module in data_prep.
    phone_set
        The phone set of its manifests.
    options
        Arguments of the module's `prepare` besides the folders.
    parts
        The parts to download, where the module lets one choose.
    speakers
        Corpora with the same word here may share speakers, who have the same names in all of them.
    """

    module: str
    phone_set: str
    options: dict[str, Any] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    speakers: str = ""


CORPORA = {
    "mini": Corpus("mini", "timit61"),
    "timit": Corpus("timit", "timit61"),
    "mini_librispeech": Corpus("librispeech", "arpabet39", speakers="librispeech"),
    "librispeech": Corpus(
        "librispeech",
        "arpabet39",
        {"train": ("train-clean-100", "train-clean-360", "train-other-500"), "dev": "dev-clean"},
        ("train-clean-100", "dev-clean", "test-clean"),
        "librispeech",
    ),
    "speechocean762": Corpus("speechocean762", "arpabet39"),
    "cmu_arctic": Corpus("cmu_arctic", "arpabet39"),
    "table": Corpus("table", "arpabet39", speakers="librispeech"),  # the source of most small free corpora
}


def prepare(name: str, corpus_dir: str | Path | None, manifests: str | Path) -> Path:
    """Write the manifests of a corpus, unless they exist and the corpus is as it was when they were written.

    Parameters
    ----------
    name
        A key of CORPORA.
    corpus_dir
        The folder of the corpus; None downloads or synthesises it into ``corpora/<name>``.
    manifests
        The manifests are written to ``<manifests>/<name>``.

    Returns
    -------
    Path
        The folder of the manifests.

    Raises
    ------
    ConfigError
        There is no such corpus.
    CorpusError
        The folder is missing or not laid out as documented.
    """
    if name not in CORPORA:
        raise ConfigError(f"config: data.corpora has {name!r}; the corpora are {', '.join(CORPORA)}")
    output_dir = Path(manifests) / name
    done = output_dir / "source.txt"
    module = importlib.import_module(f"data_prep.{CORPORA[name].module}")
    before = done.read_text(encoding="utf8", errors="surrogateescape") if done.is_file() else ""
    if corpus_dir is not None:
        corpus = Path(corpus_dir)
    elif before:
        corpus = Path(before.splitlines()[0])
        if not corpus.is_dir():  # deleted since, as the features are enough to train on
            return output_dir
    else:
        parts = (CORPORA[name].parts,) if CORPORA[name].parts else ()
        corpus = module.obtain(Path("corpora") / name, *parts)
    stamp = _stamp(corpus)
    if before != stamp:
        if before:
            log.info("%s: the corpus is not what it was: its manifests are written anew", name)
        module.prepare(corpus, output_dir, **CORPORA[name].options)
        done.write_text(stamp, encoding="utf8", errors="surrogateescape")
    return output_dir


def _stamp(corpus: Path) -> str:
    """Return the folder of a corpus, and a hash of the names, sizes and times of change of all files in it."""
    found = hashlib.sha256()
    for folder, folders, names in os.walk(corpus):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file():
                status = path.stat()
                line = f"{path.relative_to(corpus)}\0{status.st_size}\0{status.st_mtime_ns}\n"
                found.update(line.encode("utf8", "surrogateescape"))
    return f"{corpus.resolve()}\n{found.hexdigest()}\n"
