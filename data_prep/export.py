"""Prepared corpora for other toolkits: data directories of Kaldi, manifests of Lhotse, and Shar.

========== ===========================================================================================================
form       a folder for each split, with
========== ===========================================================================================================
``kaldi``  ``wav.scp``, ``text``, ``phones``, ``utt2spk``, ``spk2utt``, ``utt2dur``, ``reco2dur`` and, where genders are
           known, ``spk2gender``, sorted as Kaldi sorts. Names of utterances begin with the speaker's. Sound that is not
           WAV is written to ``wav``
``lhotse`` ``recordings``, ``supervisions`` and ``cuts`` as .jsonl.gz, whose recordings stay where they are
``shar``   cuts and sound in shards, to be copied and streamed
========== ===========================================================================================================

https://kaldi-asr.org/doc/data_prep.html, https://lhotse.readthedocs.io
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import soundfile
from lhotse import CutSet, RecordingSet, SupervisionSet
from lhotse.cut import Cut

from asr.core import files
from asr.core.errors import CorpusError
from asr.core.terminal import track
from asr.speech import audio
from data_prep.stored import Stored

SHARD = 1000  # utterances


def export(manifests: Path, output: Path, form: str) -> dict[str, int]:
    """Write a prepared corpus in another form.

    Parameters
    ----------
    manifests
        The folder of its manifests, such as ``data/mine``.
    output
        Receives a folder for each split.
    form
        ``kaldi``, ``lhotse`` or ``shar``.

    Returns
    -------
    dict
        The number of utterances of each split.

    Raises
    ------
    CorpusError
        The folder has no manifests, or a recording cannot be read.
    """
    names = sorted(path.name for path in manifests.glob("supervisions_*.jsonl.gz"))
    if not names:
        raise CorpusError(f"{manifests} has no manifests: run `asr prepare`, and name the folder that it tells")
    counts = {}
    for name in names:
        split = name.removeprefix("supervisions_").removesuffix(".jsonl.gz")
        WRITERS[form](track(_cuts(manifests, name), split), output / split)
        counts[split] = sum(1 for _ in _cuts(manifests, name))
    return counts


def _cuts(manifests: Path, name: str) -> Iterator[Cut]:
    """Yield the utterances of a split by the name of its supervisions."""
    recordings = RecordingSet.from_jsonl_lazy(manifests / name.replace("supervisions", "recordings"))
    pairs = zip(recordings, SupervisionSet.from_jsonl_lazy(manifests / name), strict=True)
    for number, (recording, said) in enumerate(pairs):
        cut = recording.to_cut().with_id(f"{recording.id}-{number}")
        cut.supervisions = [said]
        yield cut


def _to_kaldi(cuts: Iterable[Cut], folder: Path) -> None:
    genders, members = dict[str, str](), dict[str, list[str]]()

    def rows() -> Iterator[tuple[str, ...]]:
        for cut in cuts:
            said = cut.supervisions[0]
            speaker = _name(said.speaker)
            name = _name(said.id)
            if not name.startswith(f"{speaker}-"):  # or names that begin with "s10_" stand before those with "s1_"
                name = f"{speaker}-{name}"
            members.setdefault(speaker, []).append(name)
            if said.gender in ("f", "m"):
                genders[speaker] = said.gender
            seconds = f"{cut.duration:.3f}"
            yield name, str(_wav(cut, folder, name)), said.text or "", said.custom["phones"], speaker, seconds, seconds

    found = Stored(rows())
    order = np.array(sorted(range(len(found)), key=[row[0].encode() for row in found].__getitem__), np.int64)
    for column, name in enumerate(("wav.scp", "text", "phones", "utt2spk", "utt2dur", "reco2dur"), 1):
        _write(folder / name, ((row[0], row[column]) for row in found.take(order)))
    speakers = sorted(members, key=str.encode)
    _write(folder / "spk2utt", ((each, " ".join(sorted(members[each], key=str.encode))) for each in speakers))
    if genders.keys() == members.keys():
        _write(folder / "spk2gender", ((each, genders[each]) for each in speakers))


def _name(name: str) -> str:
    """Return a name without blanks, which part the columns of Kaldi's lists."""
    return "_".join(name.split())


def _wav(cut: Cut, folder: Path, name: str) -> Path:
    """Return a recording as WAV: the corpus's own file, or one that is written."""
    source = Path(cut.recording.sources[0].source).absolute()
    try:
        if soundfile.info(str(source)).format in ("WAV", "WAVEX") and len(source.as_posix().split()) == 1:
            return source
    except soundfile.LibsndfileError:  # audio.load says why
        pass
    path = folder.absolute() / "wav" / f"{name.replace('/', '_')}.wav"
    with files.replacing(path) as temporary:
        soundfile.write(temporary, audio.load(source), audio.SAMPLE_RATE, "PCM_16", format="WAV")
    return path


def _write(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write a list; Kaldi needs it in the order of the names' bytes."""
    with files.replacing(path) as temporary, temporary.open("w", encoding="utf8") as file:
        file.writelines(f"{' '.join([name, *text.split()])}\n" for name, text in rows)


def _to_lhotse(cuts: Iterable[Cut], folder: Path) -> None:
    with ExitStack() as stack:
        paths = [
            stack.enter_context(files.replacing(folder / f"{name}.jsonl.gz"))
            for name in ("recordings", "supervisions", "cuts")
        ]
        kinds = (RecordingSet, SupervisionSet, CutSet)
        writers = [stack.enter_context(kind.open_writer(path)) for kind, path in zip(kinds, paths, strict=True)]
        for cut in cuts:
            for writer, item in zip(writers, (cut.recording, cut.supervisions[0], cut), strict=True):
                writer.write(item)


def _to_shar(cuts: Iterable[Cut], folder: Path) -> None:
    with files.replacing_folder(folder) as temporary:
        CutSet(cuts).to_shar(temporary, {"recording": "flac"}, shard_size=SHARD, verbose=False)


WRITERS = {"kaldi": _to_kaldi, "lhotse": _to_lhotse, "shar": _to_shar}
