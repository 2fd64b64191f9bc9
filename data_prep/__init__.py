"""Preparation of corpora: a module for each corpus turns its files into Lhotse manifests.

The module's `prepare(corpus_dir, output_dir)` writes ``recordings_SPLIT.jsonl.gz`` and ``supervisions_SPLIT.jsonl.gz``
for those of the splits train, dev and test that the corpus has. Its `obtain(target_dir)` downloads or synthesises the
corpus where that is allowed. A corpus with any other name is one's own, in one of the forms of `data_prep.forms`, and
`data_prep.own` prepares it. A corpus of any name may also be in shards, which `data_prep.shar` prepares.
"""

import hashlib
import importlib
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from asr.core import files
from asr.core.errors import ConfigError, CorpusError
from asr.core.places import is_url
from asr.core.turns import turn
from asr.speech.shar import TRAIN_SHARDS, Shar, is_shar
from asr.speech.transcription import Transcription

STAMP = "source.txt"  # beside the manifests: what they were made of
OUTSIDE = "outside.txt"  # recordings that lie outside the folder of a corpus of one's own, a path on each line
_NAME = re.compile(r"[^\W_][\w.-]*")
_TAKEN = {"features"}  # what else is in the folder of manifests

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
}
# Any other name is that of a corpus of one's own. Most small free corpora are parts of LibriSpeech.
OWN = Corpus("own", "arpabet39", speakers="librispeech")


def known(name: str) -> Corpus:
    """Return what is known of a corpus by its name.

    >>> known("timit").phone_set, known("mine").module
    ('timit61', 'own')
    """
    return CORPORA.get(name, OWN)


def prepare(
    name: str,
    corpus_dir: str | Path | None,
    manifests: str | Path,
    may_obtain: bool = True,
    seed: int | None = None,
    said: Transcription | None = None,
) -> Path:
    """Write the manifests of a corpus, unless they exist and the corpus is as it was when they were written.

    Of several processes that call it at the same time one does the work, and the others wait.

    Parameters
    ----------
    name
        A key of CORPORA, or any other name for a corpus of one's own.
    corpus_dir
        The folder of the corpus, or for one's own a file, too; or the path or URL of one in shards. None takes what the
        manifests were made of.
    manifests
        The manifests are written to ``<manifests>/<name>``.
    may_obtain
        Whether to download or synthesise a corpus without a folder and without manifests into ``corpora/<name>``.
    seed
        Of the splits of a corpus of one's own that has none; None takes that of the manifests there, or else 0.
    said
        How the texts of a corpus of one's own become labels; None takes that of the manifests there, or else the
        default.

    Returns
    -------
    Path
        The folder of the manifests.

    Raises
    ------
    ConfigError
        The name cannot be that of a folder; or a corpus of one's own has no place, or another's has a seed.
    CorpusError
        The folder is missing or not laid out as documented, or nothing tells where the corpus is; or it has changed,
        and `said` is not given where it is not the default.
    """
    if not _NAME.fullmatch(name) or name in _TAKEN:
        raise ConfigError(f"config: data.corpora has {name!r}: call a corpus by letters, digits, '-', '_' and '.'")
    if seed is not None and name in CORPORA:
        raise ConfigError(f"{name} has splits of its own: leave the seed out, or call your corpus otherwise")
    output_dir = Path(manifests) / name
    before = _read_stamp(output_dir)
    place = str(corpus_dir) if corpus_dir is not None else next(iter(before.splitlines()), None)
    if place is not None and is_shar(place):
        return _prepare_shar(name, place, output_dir)
    if place is not None:
        corpus = Path(place)
        if corpus_dir is None and not corpus.exists():  # deleted since: what was made of it stays of use
            return output_dir
    elif may_obtain:
        corpus = _obtain(name)
    else:
        raise CorpusError(f"it is not prepared: name its folder with data.corpora.{name}=FOLDER or --data FOLDER")
    if name not in CORPORA and not corpus.exists():
        mend = f"check the path, or the name: the corpora are {', '.join(CORPORA)}"
        raise ConfigError(f"config: data.corpora has {name!r}, and there is no {corpus}: {mend}")
    if seed is None:
        seed = int((*before.splitlines()[2:], "0")[0])
    key = said.key if said is not None else "".join(before.splitlines()[3:])
    inside, key = _state(corpus, _files(corpus)), "" if name in CORPORA else key
    stamp = _stamp(corpus, inside, output_dir, seed, key)
    if before != stamp:
        if name not in CORPORA and said is None and key:
            raise CorpusError(f"{name} has changed, and its labels are no ARPAbet: prepare it with its recipe first")
        with turn(output_dir, partial(log.info, "waiting for another process: it prepares %s", name)):
            before = _read_stamp(output_dir)  # by then
            if before and before != stamp:
                log.info("%s: the corpus is not what it was: its manifests are written anew", name)
            if before != stamp:
                own = {"seed": seed, "said": said or Transcription()}
                options = known(name).options | ({} if name in CORPORA else own)
                (output_dir / TRAIN_SHARDS).unlink(missing_ok=True)  # of when the corpus was in shards
                _module(name).prepare(corpus, output_dir, **options)
                files.write_text(output_dir / STAMP, _stamp(corpus, inside, output_dir, seed, key))
    return output_dir


def _prepare_shar(name: str, place: str, output_dir: Path) -> Path:
    """Prepare a corpus in shards, unless it is as it was."""
    from data_prep import shar

    found = Shar.read(place)
    stamp = f"{place if is_url(place) else Path(place).resolve()}\n{found.contents} {json.dumps(found.sizes)}\n"
    if _read_stamp(output_dir) != stamp:
        with turn(output_dir, partial(log.info, "waiting for another process: it prepares %s", name)):
            if _read_stamp(output_dir) != stamp:  # by then
                shar.prepare(found, output_dir)
                files.write_text(output_dir / STAMP, stamp)
    return output_dir


def _module(name: str) -> ModuleType:
    """Import the module of a corpus, for whose labels alone its dictionaries are needed."""
    return importlib.import_module(f"data_prep.{known(name).module}")


def _obtain(name: str) -> Path:
    """Download or synthesise a corpus, and return its folder."""
    if name not in CORPORA:
        place = f"name the place of one of your own with data.corpora.{name}=PATH"
        raise ConfigError(f"config: data.corpora has {name!r}; the corpora are {', '.join(CORPORA)}; {place}")
    parts = (CORPORA[name].parts,) if CORPORA[name].parts else ()
    target = Path("corpora") / name
    with turn(target, partial(log.info, "waiting for another process: it downloads or makes %s", name)):
        return _module(name).obtain(target, *parts)


def _read_stamp(output_dir: Path) -> str:
    """Return what `_stamp` said of the corpus when the manifests were written; nothing if there are none."""
    path = output_dir / STAMP
    return path.read_text(encoding="utf8", errors="surrogateescape") if path.is_file() else ""


def _stamp(corpus: Path, inside: str, output_dir: Path, seed: int, key: str) -> str:
    """Return the place of a corpus, a hash of the state of all its files, and more.

    The seed of its splits and the key of its transcription are there where they are not the default.
    """
    outside = output_dir / OUTSIDE
    if outside.is_file():
        with outside.open(encoding="utf8", errors="surrogateescape") as listed:
            inside = _state(corpus, (Path(line.rstrip("\n")) for line in listed), inside)
    return f"{corpus.resolve()}\n{inside}\n" + (f"{seed}\n" if seed or key else "") + (f"{key}\n" if key else "")


def _state(corpus: Path, paths: Iterable[Path], before: str = "") -> str:
    """Return a hash of the names, sizes and times of change of files."""
    found = hashlib.sha256(before.encode())
    for path in paths:
        line = f"{path.relative_to(corpus) if path.is_relative_to(corpus) else path}\0"
        with suppress(OSError):  # a recording that is lost
            status = path.stat()
            line += f"{status.st_size}\0{status.st_mtime_ns}\n"
        found.update(line.encode("utf8", "surrogateescape"))
    return found.hexdigest()


def _files(corpus: Path) -> Iterator[Path]:
    """Yield all files of a corpus in an order that does not change; those in folders that are linked, too."""
    if corpus.is_file():
        yield corpus
    roots = [os.path.realpath(corpus)]
    for folder, folders, names in os.walk(corpus, followlinks=True):
        inside = [os.path.join(folder, name) for name in sorted(folders)]
        folders[:] = [Path(each).name for each in inside if not os.path.islink(each) or files.is_elsewhere(each, roots)]
        yield from (path for path in (Path(folder, name) for name in sorted(names)) if path.is_file())
