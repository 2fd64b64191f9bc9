"""Preparation of corpora: a module for each corpus turns its files into Lhotse manifests.

The module's `prepare(corpus_dir, output_dir)` writes ``recordings_SPLIT.jsonl.gz`` and ``supervisions_SPLIT.jsonl.gz``
for those of the splits train, dev and test that the corpus has. Its `obtain(target_dir)` downloads or synthesises the
corpus where that is allowed.
"""

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.core.errors import ConfigError


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
    """Write the manifests of a corpus unless they exist already.

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
    if corpus_dir is None and done.is_file():
        return output_dir
    parts = (CORPORA[name].parts,) if CORPORA[name].parts else ()
    corpus = Path(corpus_dir) if corpus_dir is not None else module.obtain(Path("corpora") / name, *parts)
    if not (done.is_file() and done.read_text(encoding="utf8") == str(corpus.resolve())):
        module.prepare(corpus, output_dir, **CORPORA[name].options)
        done.write_text(str(corpus.resolve()), encoding="utf8")
    return output_dir
