"""Small trees of each form of speech data, with the same four utterances; the sound is noise."""

import json
import shutil
import zlib

import numpy as np
import soundfile
from lhotse import CutSet, RecordingSet, SupervisionSet

from asr.speech.label_files import to_textgrid
from asr.speech.segments import Segment
from data_prep import own

SAID = {  # of each utterance: speaker, split, words
    "a1": ("ann", "train", "Hello world"),
    "a2": ("ann", "train", "a wooden fish"),
    "b1": ("bob", "dev", "seven buttons"),
    "c1": ("cid", "test", "hello again"),
}
PHONES = {"a1": "HH AH L OW W ER L D", "a2": "AH W UH D AH N F IH SH", "b1": "S EH V AH N B AH T AH N Z"}
PHONES["c1"] = "HH AH L OW AH G EH N"
SECONDS = 1.5


def sound(path, seconds=SECONDS, sample_rate=16000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    soundfile.write(path, 0.1 * rng.standard_normal((round(seconds * sample_rate), channels)), sample_rate)
    return path


def text_beside(folder, suffix=".txt"):
    for name, (speaker, split, words) in SAID.items():
        sound(folder / split / speaker / f"{name}.wav").with_suffix(suffix).write_text(words + "\n")


def lab_with_phones(folder):
    text_beside(folder)
    for path in folder.rglob("*.txt"):
        ends = enumerate(PHONES[path.stem].split())
        path.with_suffix(".lab").write_text(
            "".join(f"{i * 100000} {i * 100000 + 100000} {label}\n" for i, label in ends)
        )


def textgrid_of_phones(folder):
    for name, (speaker, split, words) in SAID.items():
        audio = sound(folder / split / speaker / f"{name}.wav")
        labels = ["sil", *PHONES[name].lower().split(), "sil"]
        step = SECONDS / len(labels)
        phones = [Segment(label, i * step, (i + 1) * step) for i, label in enumerate(labels)]
        grid = {"words": [Segment(words, 0.1, 1.4)], "phones": phones}
        audio.with_suffix(".TextGrid").write_text(to_textgrid(grid, SECONDS))


def one_recording(folder):
    """All utterances in one file, of three speakers."""
    return sound(folder / "talk.wav", SECONDS * len(SAID))


def times(name):
    start = SECONDS * list(SAID).index(name)
    return start, start + SECONDS


def textgrid_of_speakers(folder):
    one_recording(folder)
    tiers = {}
    for name, (speaker, _, words) in SAID.items():
        tiers.setdefault(speaker, []).append(Segment(words, *times(name)))
    (folder / "talk.TextGrid").write_text(to_textgrid(tiers, SECONDS * len(SAID)))


def eaf(folder):
    one_recording(folder)
    slots, above, texts = [], [], {}
    for number, (name, (speaker, _, words)) in enumerate(SAID.items()):
        for i, time in enumerate(times(name)):
            slots.append(f'<TIME_SLOT TIME_SLOT_ID="t{number}{i}" TIME_VALUE="{round(1000 * time)}"/>')
        above.append(
            f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="r{number}" TIME_SLOT_REF1="t{number}0" '
            f'TIME_SLOT_REF2="t{number}1"><ANNOTATION_VALUE>{name}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>'
        )
        texts.setdefault(speaker, []).append(
            f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="x{number}" ANNOTATION_REF="r{number}">'
            f"<ANNOTATION_VALUE>{words}</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
        )
    tiers = "".join(
        f'<TIER TIER_ID="tx@{speaker}" PARENT_REF="ref" LINGUISTIC_TYPE_REF="tx">{"".join(each)}</TIER>'
        for speaker, each in texts.items()
    )
    (folder / "talk.eaf").write_text(
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT><TIME_ORDER>{"".join(slots)}</TIME_ORDER>'
        f'<TIER TIER_ID="ref" LINGUISTIC_TYPE_REF="ref">{"".join(above)}</TIER>{tiers}</ANNOTATION_DOCUMENT>'
    )


def table(folder, name="utterances.tsv", separator="\t"):
    rows = [["path", "speaker", "split", "text"]]
    rows += [[f"{sound(folder / 'wav' / f'{name}.wav').relative_to(folder)}", *each] for name, each in SAID.items()]
    (folder / name).write_text("".join(separator.join(row) + "\n" for row in rows))


def table_of_parts(folder):
    one_recording(folder)
    (folder / "parts.jsonl").write_text(
        "".join(
            json.dumps(
                {
                    "path": "talk.wav",
                    "phones": PHONES[name].split(),
                    "speaker": speaker,
                    "split": split,
                    "start": times(name)[0],
                    "end": times(name)[1],
                }
            )
            + "\n"
            for name, (speaker, split, _) in SAID.items()
        )
    )


def tables_of_splits(folder):
    for split in ("train", "dev", "test"):
        rows = [
            (sound(folder / f"{name}.flac").name, each[0], each[2]) for name, each in SAID.items() if each[1] == split
        ]
        (folder / f"{split}.csv").write_text("path;speaker;text\n" + "".join(f'{a};{b};"{c}"\n' for a, b, c in rows))


def common_voice(folder):
    head = "client_id\tpath\tsentence_id\tsentence\tup_votes\tage\tgender\n"
    for split in ("train", "dev", "test"):
        rows = [(name, *each) for name, each in SAID.items() if each[1] == split]
        for name, *_ in rows:
            sound(folder / "clips" / f"{name}.mp3")
        text = "".join(f"{speaker}\t{name}.mp3\t1\t{words}\t2\t\tfemale_feminine\n" for name, speaker, _, words in rows)
        (folder / f"{split}.tsv").write_text(head + text)
    (folder / "validated.tsv").write_text(head)


def ljspeech(folder):
    for name in SAID:
        sound(folder / "wavs" / f"{name}.wav", sample_rate=22050)
    lines = (f"{name}|{words.upper()}|{words}\n" for name, (_, _, words) in SAID.items())
    (folder / "metadata.csv").write_text("".join(lines))


def kaldi(folder):
    for name, (speaker, split, words) in SAID.items():
        for file, line in {
            "wav.scp": f"{name} {sound(folder / 'wav' / f'{name}.wav').relative_to(folder)}",
            "text": f"{name} {words}",
            "utt2spk": f"{name} {speaker}",
            "reco2dur": f"{name} {SECONDS}",
            "spk2gender": f"{speaker} f" if name != "a2" else "",
        }.items():
            path = folder / f"{split}_clean" / file
            path.parent.mkdir(exist_ok=True)
            path.write_text((path.read_text() if path.is_file() else "") + line + "\n")


def kaldi_segments(folder):
    one_recording(folder)
    (folder / "wav.scp").write_text(f"talk {folder / 'talk.wav'}\n")
    (folder / "segments").write_text("".join(f"{name} talk {times(name)[0]} {times(name)[1]}\n" for name in SAID))
    (folder / "text").write_text("".join(f"{name} {PHONES[name]}\n" for name in SAID))
    (folder / "utt2spk").write_text("".join(f"{name} {SAID[name][0]}\n" for name in SAID))


def prepared(folder):
    """Manifests of Lhotse, as `asr prepare` writes them."""
    table(folder / "first")
    own.prepare(folder / "first", folder)


def cuts(folder):
    """One file of cuts, of which each is a part of one recording."""
    prepared(folder)
    splits = {}
    for split in ("train", "dev", "test"):
        recordings = RecordingSet.from_file(folder / f"recordings_{split}.jsonl.gz")
        supervisions = SupervisionSet.from_file(folder / f"supervisions_{split}.jsonl.gz")
        splits[split] = CutSet.from_manifests(recordings, supervisions)
        splits[split].to_file(folder / f"my_cuts_{split}.jsonl.gz")
    return splits


def shar(folder):
    for split, each in cuts(folder / "made").items():
        (folder / split).mkdir()
        each.to_shar(folder / split, {"recording": "flac"}, shard_size=1)
    shutil.rmtree(folder / "made")


def audio_folder(folder):
    for name, (speaker, split, words) in SAID.items():
        part = "validation" if split == "dev" else split
        sound(folder / part / f"{name}.wav")
        with (folder / part / "metadata.jsonl").open("a") as file:
            file.write(json.dumps({"file_name": f"{name}.wav", "transcription": words, "speaker_id": speaker}) + "\n")


def edit(path, old, new):
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


FORMS = {
    text_beside: "a folder of recordings with labels",
    lab_with_phones: "a folder of recordings with labels",
    textgrid_of_phones: "a folder of recordings with labels",
    textgrid_of_speakers: "a folder of recordings with labels",
    eaf: "a folder of recordings with labels",
    table: "a table",
    table_of_parts: "a table",
    tables_of_splits: "a table",
    common_voice: "Common Voice",
    ljspeech: "the layout of LJ Speech",
    kaldi: "a data directory of Kaldi",
    kaldi_segments: "a data directory of Kaldi",
    prepared: "manifests of Lhotse",
    cuts: "manifests of Lhotse",
    shar: "manifests of Lhotse",
    audio_folder: "an audio folder of Hugging Face",
}
