"""A small corpus of synthesised German, with a lexicon, phones and labels of its own."""

import soundfile

from asr.speech import espeak

SPEAKERS = {"anna": "de+f2", "ben": "de+m3", "cleo": "de+f4", "dirk": "de+m1"}
TEXTS = (
    "Schöne Töchter pflücken Pflaumen",
    "Jeder Deutsche mag Kuchen",
    "Zwei Katzen jagen Mäuse",
    "Der Tschüss-Ruf klang hübsch",
    "Gute Nacht, liebe Leute!",
    "Schöne Katzen mögen Kuchen",
)
SPLITS = {"anna": "train", "ben": "train", "cleo": "dev", "dirk": "test"}
TONED = {"ɑː": "ɑː˥˩", "ts": "t͡s", "tʃ": "t͡ʃ", "pf": "p͡f"}  # as people write phones of other languages


def phones(text):
    """German phones, some with ties and tones."""
    return [TONED.get(phone, phone) for phone in espeak.ipa(text, "de")]


def words():
    return sorted({word.strip(",!").lower() for text in TEXTS for word in text.split()})


def corpus(folder, with_phones=False):
    """A table of recordings, of words or of phones."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [("path", "speaker", "split", "phones" if with_phones else "text")]
    for speaker, voice in SPEAKERS.items():
        for number, text in enumerate(TEXTS):
            speech = espeak.synthesise(text, voice)
            soundfile.write(folder / f"{speaker}-{number}.wav", speech.samples, speech.sample_rate)
            said = " ".join(phones(text)) if with_phones else text
            rows.append((f"{speaker}-{number}.wav", speaker, SPLITS[speaker], said))
    (folder / "utterances.tsv").write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf8")
    return folder


def lexicon(path, without=()):
    """A lexicon as WikiPron has it."""
    lines = (f"{word}\t{' '.join(phones(word))}\n" for word in words() if word not in without)
    path.write_text("".join(lines), encoding="utf8")
    return path


def labels(path):
    """A file of labels: in SAMPA where ASCII has none, with IPA, and with what they count as."""
    names = {"ʃ": "S", "ç": "C", "ŋ": "N", "ə": "@", "ɑː˥˩": "A:_F", "ɔ": "O"}
    used = sorted({phone for text in TEXTS for phone in phones(text)})
    rows = [("label", "ipa", "scoring")]
    rows += [(names.get(each, each), each, names.get(each, each).replace("ː", "").replace(":_F", "")) for each in used]
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf8")
    return path
