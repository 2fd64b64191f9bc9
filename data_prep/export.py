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

from collections.abc import Mapping
from pathlib import Path

import soundfile
from lhotse import CutSet, RecordingSet, SupervisionSet
from lhotse.cut import Cut

from asr.core import files
from asr.core.errors import CorpusError
from asr.core.terminal import track
from asr.speech import audio

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
        supervisions = SupervisionSet.from_file(manifests / name)
        recordings = RecordingSet.from_file(manifests / name.replace("supervisions", "recordings"))
        cuts = CutSet.from_manifests(recordings, supervisions).to_eager()
        WRITERS[form](cuts, output / split)
        counts[split] = len(cuts)
    return counts


def _to_kaldi(cuts: CutSet, folder: Path) -> None:
    tables: dict[str, dict[str, str]] = {name: {} for name in ("wav.scp", "text", "phones", "utt2spk", "utt2dur")}
    genders, members = dict[str, str](), dict[str, list[str]]()
    for cut in track(list(cuts), folder.name):
        said = cut.supervisions[0]
        speaker = _name(said.speaker)
        name = _name(said.id) if _name(said.id).startswith(speaker) else f"{speaker}-{_name(said.id)}"
        row = (str(_wav(cut, folder, name)), said.text or "", said.custom["phones"], speaker, f"{cut.duration:.3f}")
        for table, value in zip(tables.values(), row, strict=True):
            table[name] = " ".join(value.split())
        members.setdefault(speaker, []).append(name)
        if said.gender in ("f", "m"):
            genders[speaker] = said.gender
    tables["spk2utt"] = {speaker: " ".join(sorted(each, key=str.encode)) for speaker, each in members.items()}
    tables["reco2dur"] = tables["utt2dur"]
    if genders.keys() == members.keys():
        tables["spk2gender"] = genders
    for name, table in tables.items():
        _write(folder / name, table)


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


def _write(path: Path, rows: Mapping[str, str]) -> None:
    """Write a list in the order of its names' bytes, as Kaldi needs it."""
    lines = (f"{name} {rows[name]}".rstrip() for name in sorted(rows, key=str.encode))
    files.write_text(path, "".join(f"{line}\n" for line in lines))


def _to_lhotse(cuts: CutSet, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    recordings, supervisions, _ = cuts.decompose(verbose=False)
    for name, manifest in (("recordings", recordings), ("supervisions", supervisions), ("cuts", cuts)):
        if manifest is not None:
            with files.replacing(folder / f"{name}.jsonl.gz") as temporary:
                manifest.to_file(temporary)


def _to_shar(cuts: CutSet, folder: Path) -> None:
    with files.replacing_folder(folder) as temporary:
        cuts.to_shar(temporary, {"recording": "flac"}, shard_size=SHARD, verbose=False)


WRITERS = {"kaldi": _to_kaldi, "lhotse": _to_lhotse, "shar": _to_shar}
