"""Small free corpora of nine languages as tables, for recipes/multilingual.

python -m data_prep.languages SOURCES corpora/languages [--minutes 30]

========= ============================ ====================================================== ================
table     what                         where it is in SOURCES                                 licence
========= ============================ ====================================================== ================
en        many voices; others to test  LibriSpeech: train-clean-5 and test-clean              CC BY 4.0
de        sentences by Kerstin         github.com/rhasspy/dataset-voice-kerstin               CC0
nl        sentences by Nathalie        github.com/rhasspy/dataset-voice-nathalie              CC0
nl_other  dialogues by the big fish    debian: packages fillets-ng-data, fillets-ng-data-nl   GPL-2
cs        dialogues by the small fish  debian: packages fillets-ng-data, fillets-ng-data-cs   GPL-2
cs_other  dialogues by the big fish    the same                                               GPL-2
cmn       words by Yue Tan             github.com/hugolpz/audio-cmn                           CC BY-SA 3.0
cmn_other syllables by Chen Wang       the same                                               CC BY-SA 3.0
es        prompts by Allison Smith     debian: packages asterisk-core-sounds-es, -es-g722     CC BY-SA 3.0
fr        prompts by June Wallack      debian: asterisk-core-sounds-fr, -fr-g722              CC BY-SA 3.0
it        prompts by Carlo Flora       debian: asterisk-core-sounds-it, -it-g722              CC BY 3.0
ru        prompts of ivrvoice.ru       debian: asterisk-core-sounds-ru, -ru-g722              CC BY 3.0
========= ============================ ====================================================== ================

Repositories have the names of their last part, and ``debian`` the packages unpacked by ``dpkg -x``. What is missing is
named and left out. Words of Mandarin need pypinyin (``pip install -e ".[mandarin]"``), and G.722 is read by ffmpeg
(``.[media]``). Dev and test are recordings of the voice that is trained on, but in English; the tables called ``other``
test what was learnt from one voice.
"""

import argparse
import gzip
import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from asr.core.errors import CorpusError
from asr.core.files import write_text
from data_prep import mandarin

DEV_MINUTES, TEST_MINUTES = 3, 8
G722_RATE = 8000  # bytes a second
PROMPTS = {"es": "es_MX_f_Allison", "fr": "fr_CA_f_June", "it": "it_IT_m_Carlo", "ru": "ru_RU_f_IvrvoiceRU"}
FEWER = 0.5  # of the minutes of dev and test, where there are 20 minutes in all
SLOW, FAST = 0.4, 1.6  # letters a second of a prompt, for the median of the voice
_DIALOG = re.compile(r'dialogId\("([\w-]+)".*\)\s*dialogStr\("((?:[^"\\]|\\.)*)"\)')
_PROMPT = re.compile(r"(?!letters/|phonetic/|silence/|spy-)([\w/-]+): *(\S.*)")  # not names of letters, of protocols
_NOT_AS_SAID = re.compile(
    r"[][(){}<>@#/]"  # remarks, sounds and alternatives
    r"|\?\s*[a-zà-ÿ]"  # a letter with an accent was lost
    r"|\w-\w+:"  # the next prompt's name
    r"|\w\.\w|\w[A-ZА-Я]|\b[B-DF-HJ-NP-TV-XZ]\b(?!['’])"  # abbreviations, letters
    r"|\d\w"  # numbers of several digits
    r"|[a-z].*[а-я]|[а-я].*[a-z]"
    r"|(?i:\b(?:contrasen|manan))"  # Spanish without its ñ
    r"|^\W*\w?\W*$"
)


class Row(NamedTuple):
    """A recording: its text, or its phones; and its split, where the corpus has splits."""

    path: Path
    speaker: str
    text: str = ""
    phones: str = ""
    split: str = ""


def librispeech(folder: Path) -> Iterator[Row]:
    """Yield the utterances of LibriSpeech's smallest training part, and of a test part."""
    for part, split in (("train-clean-5", "train"), ("test-clean", "test")):
        for texts in sorted((folder / part).rglob("*.trans.txt")):
            for line in texts.read_text(encoding="utf-8").splitlines():
                name, text = line.split(" ", 1)
                yield Row(texts.parent / f"{name}.flac", name.split("-")[0], text, split=split)


def rhasspy(folder: Path) -> Iterator[Row]:
    """Yield the recordings of a voice of Rhasspy: FLAC beside a ``metadata.csv`` with bars between its columns."""
    for line in (folder / "verified" / "metadata.csv").read_text(encoding="utf-8").splitlines():
        name, text = line.split("|", 1)
        yield Row(folder / "verified" / f"{name}.flac", folder.name.rpartition("-")[2], text.strip())


def game(folder: Path, language: str, fish: str) -> Iterator[Row]:
    """Yield the dialogues of a fish of Fish Fillets: ``m``, the small one, or ``v``, the big one."""
    for script in sorted((folder / "script").glob(f"*/dialogs_{language}.lua")):
        for name, text in _DIALOG.findall(script.read_text(encoding="utf-8")):
            path = folder / "sound" / script.parent.name / language / f"{name}.ogg"
            if name.split("-")[1:2] == [fish] and path.is_file():
                yield Row(path, f"{language}-{fish}", text.replace('\\"', '"'))


def mandarin_syllables(folder: Path) -> Iterator[Row]:
    """Yield the Mandarin syllables of audio-cmn; interjections such as ``hm`` are left out."""
    for path in sorted((folder / "64k" / "syllabs").glob("cmn-*.mp3")):
        yield from _spelt(path, "wang", [path.stem.removeprefix("cmn-")])


def mandarin_words(folder: Path) -> Iterator[Row]:
    """Yield the Mandarin words of audio-cmn, spelt by pypinyin."""
    try:
        from pypinyin import Style, lazy_pinyin
    except ImportError as error:
        raise CorpusError('words of Mandarin need pypinyin: in a checkout, pip install ".[mandarin]"') from error
    for path in sorted((folder / "64k" / "hsk").glob("cmn-*.mp3")):
        word = path.stem.removeprefix("cmn-")
        if word.isalpha():  # others are parts of words
            yield from _spelt(path, "tan", lazy_pinyin(word, Style.TONE3))


def _spelt(path: Path, speaker: str, syllables: list[str]) -> Iterator[Row]:
    """Yield a recording with its phones, unless one of its syllables is none."""
    with suppress(CorpusError):
        yield Row(path, speaker, phones=" ".join(phone for each in syllables for phone in mandarin.of_pinyin(each)))


def prompts(folder: Path) -> Iterator[Row]:
    """Yield the prompts of a voice of Asterisk that are said as they are written, each text once.

    One that has less than `SLOW` or more than `FAST` times as many letters a second as the median of all is taken for
    another text; a digit counts as four letters. Russian words that are written with ё in one prompt have it in all.
    """
    language, voice = folder.name[:2], folder.name.rpartition("_")[2].lower()
    package = f"asterisk-core-sounds-{language}"
    path = folder.parents[2] / "doc" / package / f"core-sounds-{language}.txt.gz"
    if not path.is_file():
        raise CorpusError(f"there is no {path}: unpack the package {package}")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        found = [match.groups() for match in map(_PROMPT.match, lines) if match]
    names, words = Counter(name for name, _ in found), {*re.findall(r"\w+", " ".join(text for _, text in found))}
    with_yo = {word.replace("ё", "е"): word for word in words if "ё" in word}
    rows = dict[str, Row]()
    for name, text in found:
        text, path = re.sub(r"\w+", lambda word: with_yo.get(word[0], word[0]), text.strip()), folder / f"{name}.g722"
        if names[name] == 1 and not _NOT_AS_SAID.search(text) and path.is_file():
            rows.setdefault(" ".join(re.findall(r"\w+", text.lower())), Row(path, voice, text))
    letters = [sum(4 if sign.isdigit() else sign.isalpha() for sign in row.text) for row in rows.values()]
    rates = np.array(letters) / [_minutes(row.path) for row in rows.values()]
    usual = (rates > SLOW * np.median(rates)) & (rates < FAST * np.median(rates))
    yield from itertools.compress(rows.values(), usual)


def _minutes(path: Path) -> float:
    """Return how long a recording is; G.722 has no header."""
    seconds = path.stat().st_size / G722_RATE if path.suffix == ".g722" else soundfile.info(path).duration
    return seconds / 60


def write(rows: Iterable[Row], folder: Path, minutes: float, held_out: float = 1) -> str:
    """Write a table with so many minutes of training speech at most, and return how long each split is.

    Which recordings are in it, and where, depends on their names alone. Dev and test have a share of their usual
    minutes.
    """
    limits = {"test": held_out * TEST_MINUTES, "dev": held_out * DEV_MINUTES, "train": minutes}
    used, lines = dict.fromkeys(limits, 0.0), ["path\tspeaker\tsplit\ttext\tphones"]
    for row in sorted(rows, key=lambda row: hashlib.sha256(row.path.name.encode()).digest()):
        duration = _minutes(row.path)
        allowed = [row.split] if row.split else list(limits)
        split = next((each for each in allowed if used[each] + duration <= limits[each]), None)
        if split is not None:
            used[split] += duration
            lines.append("\t".join((str(row.path.resolve()), row.speaker, split, row.text, row.phones)))
    write_text(folder / "utterances.tsv", "\n".join(lines) + "\n")
    return ", ".join(f"{split} {found:.1f} min" for split, found in used.items() if found)


def main() -> None:
    """Write the tables of all corpora that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, default=30, help="of training speech in each table")
    arguments = parser.parse_args()
    fillets, cmn = Path("debian/usr/share/games/fillets-ng"), "audio-cmn"
    tables: dict[str, tuple[str | Path, Callable[[Path], Iterator[Row]]]] = {
        "en": ("LibriSpeech", librispeech),
        "de": ("dataset-voice-kerstin", rhasspy),
        "nl": ("dataset-voice-nathalie", rhasspy),
        "nl_other": (fillets, partial(game, language="nl", fish="v")),
        "cs": (fillets, partial(game, language="cs", fish="m")),
        "cs_other": (fillets, partial(game, language="cs", fish="v")),
        "cmn": (cmn, mandarin_words),
        "cmn_other": (cmn, mandarin_syllables),
        **{language: (Path("debian/usr/share/asterisk/sounds", voice), prompts) for language, voice in PROMPTS.items()},
    }
    for name, (place, read) in tables.items():
        folder = arguments.sources / place
        try:
            held_out = FEWER if name in PROMPTS else 1
            said = write(read(folder), arguments.output / name, arguments.minutes, held_out) if folder.is_dir() else ""
            print(f"{name}: {said}" if said else f"{name} is left out, for there is no {folder}")
        except CorpusError as error:
            print(f"{name} is left out: {error}")


if __name__ == "__main__":
    main()
