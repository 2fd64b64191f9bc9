"""Labels of one's own: collected from corpora or read from a file, and settled before a training begins."""

import itertools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from asr.core.config import Config, DataConfig
from asr.core.errors import AsrError
from asr.data import pronunciations, splits
from asr.data.pronunciations import AUTO
from asr.lm import folder as lm_folder
from asr.speech import characters, label_folder, lexicons, phone_files, phones
from asr.speech.characters import BOUNDARY
from asr.speech.ipa import may_be_no_phone, normal
from asr.speech.phone_files import PhoneTable

SHOWN = 10  # phones in a message

log = logging.getLogger(__name__)


def settle(config: Config, folder: Path) -> Config:
    """Return a configuration whose labels and lexicons are files in a folder; names of the library stay as they are.

    Parameters
    ----------
    config
        The configuration of a training; its corpora are prepared.
    folder
        Receives the files of `asr.speech.label_folder`.

    Raises
    ------
    AsrError
        A file cannot be read, or the corpora have labels that the file lacks.
    """
    data = config.data
    if pronunciations.has_own_labels(data):
        data = label_folder.write(folder, data, _collected(data) if data.labels == AUTO else _listed(data))
    if data.units == "phones":
        data = _with_lexicons(data, folder)
    return replace(config, data=data)


def _listed(data: DataConfig) -> PhoneTable:
    """Return the labels of a file, which must have those of all corpora."""
    table = phones.table(data.labels)
    if data.units == "characters":
        table = replace(table, ipa={**table.ipa, BOUNDARY: BOUNDARY})
    for corpus in data.corpora:
        found = {label: _folded(table, label, data, corpus) for label in _labels_of(data, corpus)}
        lacking = [label for label, new in found.items() if new is None]
        if lacking:
            few = _few(map(repr, lacking))
            raise AsrError(f"{data.labels} lacks labels of {corpus}: {few}: add a line for each, or mend the corpus")
        others = [f"{label} as {' '.join(new)}" for label, new in found.items() if new]
        if others:
            log.warning("%s lacks phones of %s, which count as others: %s", data.labels, corpus, _few(others))
    return table


def _folded(table: PhoneTable, label: str, data: DataConfig, corpus: str) -> list[str] | None:
    """Return the other phones of a list that stand for a label: none if it has the phone, None if it has none."""
    if data.units == "characters":
        return [] if label in table.ipa else None
    phone_set = splits.phone_set(data.manifests, corpus)
    try:
        new = phones.fold([label], phone_set, data.labels)
    except AsrError:
        return None
    said = normal("".join(table.ipa.get(each, each) for each in new))
    return [] if [label] == new or (len(new) == 1 and said == normal(phones.ipa(label, phone_set))) else new


def _few(found: Iterable[str]) -> str:
    """Return the first of many, between commas."""
    first = [*itertools.islice(found, SHOWN + 1)]
    return ", ".join(first[:SHOWN]) + (", …" if len(first) > SHOWN else "")


def _collected(data: DataConfig) -> PhoneTable:
    """Return all labels of the corpora, those of the library's phone sets in IPA where no corpus writes them.

    Of a phone that two corpora of one's own write otherwise, the first one's label counts.
    """
    own, others = dict[str, str](), dict[str, str]()
    for corpus in data.corpora:
        phone_set = splits.phone_set(data.manifests, corpus)
        is_own, its = phones.is_own(phone_set), _labels_of(data, corpus)
        if data.units == "characters":
            own |= dict.fromkeys(its, "")
        elif is_own:
            before = {key for label, key in own.items() if label not in its}
            own |= {label: normal(label) for label in its if label in own or normal(label) not in before}
        else:
            for written in (phones.ipa(label, phone_set) for label in its):
                others.setdefault(normal(written), written)
    more = [written for key, written in others.items() if key not in own.values()]
    strange = [label for label in own if data.units == "phones" and may_be_no_phone(label)]
    if strange:
        mend = "write blanks between phones, and nothing that stands for no sound"
        log.warning("labels that may be no phones: %s: if they are none, %s", _few(strange), mend)
    return phone_files.of_labels([*own, *more, *([BOUNDARY] if data.units == "characters" else [])])


def _labels_of(data: DataConfig, corpus: str) -> list[str]:
    """Return the labels of a corpus; of a phone set of the library all of them."""
    phone_set = splits.phone_set(data.manifests, corpus)
    if data.units == "phones" or phones.is_characters(phone_set):
        return list(phones.table(phone_set).ipa)
    return sorted({c for text in _texts(data, corpus) for word in characters.words(text) for c in word})


def _texts(data: DataConfig, corpus: str) -> Iterator[str]:
    for split in splits.SPLITS:
        if splits.has_split(data.manifests, corpus, split):
            yield from (cut.supervisions[0].text or "" for cut in splits.load_split(data.manifests, [corpus], split))


def _with_lexicons(data: DataConfig, folder: Path) -> DataConfig:
    """Return settings whose lexicons, and the n-grams that are learnt from them, are in a folder."""
    own = pronunciations.has_own_labels(data)
    found: dict[str, dict[str, str]] = {"lexicon": {}, "g2p": {}}
    names = data.lexicon if isinstance(data.lexicon, dict) else {"": data.lexicon}
    for corpus, name in names.items():
        guess = pronunciations.setting(data.g2p, corpus)
        if name is None or name in pronunciations.NAMES:
            continue
        path, model = (folder / label_folder.name(form, corpus) for form in (label_folder.LEXICON, label_folder.G2P))
        known = pronunciations.read_lexicon(name, own)
        is_new = not path.is_file() or lexicons.key_of(lexicons.read(path)) != lexicons.key_of(known)
        lexicons.write(path, known)
        found["lexicon"][corpus] = str(path)
        if guess in (None, pronunciations.LEARNT):
            if is_new or not model.is_dir():
                lm_folder.save(model, pronunciations.learn(known).lm, f"# {pronunciations.ORDER}-gram of graphones\n")
            found["g2p"][corpus] = str(model)
    return replace(data, lexicon=_merged(data.lexicon, found["lexicon"]), g2p=_merged(data.g2p, found["g2p"]))


def _merged(setting: Any, found: dict[str, str]) -> Any:
    if "" in found:
        return found[""]
    return {**setting, **found} if isinstance(setting, dict) else found or setting
