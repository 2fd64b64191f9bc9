"""Corpus trees become Lhotse manifests; one module a corpus.

A corpus module's `prepare(corpus_dir, output_dir)` writes `recordings_SPLIT.jsonl.gz` and `supervisions_SPLIT.jsonl.gz`
for the splits train, dev and test, or those of them that the corpus has; `obtain(target_dir)` downloads or synthesises
the corpus where that is allowed.
"""

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.core.errors import ConfigError


@dataclass(frozen=True)
class Corpus:
    """What the pipeline knows of a corpus before it has read a file of it."""

    module: str  # in data_prep
    phone_set: str  # of the phones in its manifests
    options: dict[str, Any] = field(default_factory=dict)  # of the module's `prepare`, beside its folders
    parts: tuple[str, ...] = ()  # to download, where the module can download others
    speakers: str = ""  # corpora with the same word here share speakers, who have the same names in all of them


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
    "table": Corpus("table", "arpabet39", speakers="librispeech"),  # where most free speech in small pieces is from
}


def prepare(name: str, corpus_dir: str | Path | None, manifests: str | Path) -> Path:
    """Write the manifests of a corpus unless they stand already.

    Parameters
    ----------
    name
        A key of CORPORA.
    corpus_dir
        The corpus tree; None downloads or synthesises it into ``corpora/<name>``.
    manifests
        The manifests go to ``<manifests>/<name>``.

    Returns
    -------
    Path
        The folder of the manifests.

    Raises
    ------
    ConfigError
        No such corpus.
    CorpusError
        The tree is missing or not laid out as documented.
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
