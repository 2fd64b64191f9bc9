"""Labels of one's own in a folder: what a training settles, and what a model folder keeps.

================ =====================================================================================
``phones.tsv``   the labels with their IPA, and what each counts as (`asr.speech.phone_files`)
``scoring.tsv``  the labels that errors are counted in, where these are others
``lexicon.txt``  the lexicon (`asr.speech.lexicons`); one of several corpora is ``lexicon-CORPUS.txt``
``g2p/``         the joint n-gram that was learnt from it; one of several is ``g2p-CORPUS/``
================ =====================================================================================

In the configuration of a model folder the settings ``data.labels``, ``data.scoring``, ``data.lexicon`` and ``data.g2p``
name these files without a path.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from asr.core.config import DataConfig
from asr.core.files import replacing
from asr.speech import phone_files
from asr.speech.phone_files import PhoneTable

LABELS, SCORING = "phones.tsv", "scoring.tsv"
LEXICON, G2P = "lexicon{}.txt", "g2p{}"


def write(folder: Path, data: DataConfig, table: PhoneTable) -> DataConfig:
    """Write labels into a folder, and return settings that name them there."""
    phone_files.write(folder / LABELS, table)
    if table.scoring is None:
        return replace(data, labels=str(folder / LABELS), scoring=str(folder / LABELS))
    phone_files.write(folder / SCORING, table.scored())
    return replace(data, labels=str(folder / LABELS), scoring=str(folder / SCORING))


def name(form: str, corpus: str) -> str:
    """Return the name of a corpus's file; an empty corpus is all of them.

    >>> name(LEXICON, ""), name(G2P, "mine")
    ('lexicon.txt', 'g2p-mine')
    """
    return form.format(f"-{corpus}" if corpus else "")


def each(value: Any, change: Callable[[str, Any], Any]) -> Any:
    """Change a setting that is one value, or one for each corpus; the function takes the corpus and its value.

    >>> each({"mine": "a"}, lambda corpus, value: corpus + value), each("a", lambda corpus, value: corpus + value)
    ({'mine': 'minea'}, 'a')
    """
    if isinstance(value, dict):
        return {corpus: change(corpus, its) for corpus, its in value.items()}
    return change("", value)


def copy(data: DataConfig, folder: Path) -> DataConfig:
    """Copy what settings name into a model folder, and return settings that name the copies without their path."""

    def kept(setting: str, form: str, corpus: str) -> str:
        if setting is None or not Path(setting).exists():  # the name of a phone set, or of a voice
            return setting
        target = folder / name(form, corpus)
        if Path(setting).is_dir():
            shutil.copytree(setting, target, dirs_exist_ok=True)
        else:
            with replacing(target) as temporary:
                shutil.copyfile(setting, temporary)
        return target.name

    labels, scoring = data.labels, data.scoring
    return replace(
        data,
        labels=kept(labels, LABELS, ""),
        scoring=kept(scoring, LABELS if scoring == labels else SCORING, ""),
        lexicon=each(data.lexicon, lambda corpus, value: kept(value, LEXICON, corpus)),
        g2p=each(data.g2p, lambda corpus, value: kept(value, G2P, corpus)),
    )


def resolve(data: DataConfig, folder: Path) -> DataConfig:
    """Return settings whose names of files in a model folder are paths."""

    def path(corpus: str, value: Any) -> Any:
        inside = isinstance(value, str) and Path(value).name == value and (folder / value).exists()
        return str(folder / value) if inside else value

    return replace(
        data,
        labels=path("", data.labels),
        scoring=path("", data.scoring),
        lexicon=each(data.lexicon, path),
        g2p=each(data.g2p, path),
    )
