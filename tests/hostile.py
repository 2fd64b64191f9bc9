"""Recordings that should not be, and some that are only strange: each gives phones or one clear line.

python tests/hostile.py FOLDER
"""

import os
import struct
import sys
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000


def make(folder: Path) -> dict[str, Path]:
    """Write all of them into a folder; return their paths by what is wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal(RATE)
    found: dict[str, Path] = {}

    def path(what: str, name: str | None = None, suffix: str = ".wav") -> Path:
        found[what] = folder / (name or what.replace(" ", "_").replace("/", "_") + suffix)
        return found[what]

    def wav(what: str, samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16", **names: str) -> None:
        soundfile.write(path(what, **names), samples, rate, subtype=subtype, format="WAV")

    wav("no samples", np.zeros(0))
    wav("one sample", np.ones(1) * 0.5)
    wav("399 samples", noise[:399])
    wav("400 samples", noise[:400])
    wav("silence", np.zeros(RATE))
    wav("clipped", np.sign(noise))
    wav("direct current", np.full(RATE, 0.7))
    wav("one click", np.eye(1, RATE, 5000)[0])
    wav("NaN", np.where(np.arange(RATE) == 77, np.nan, noise), subtype="FLOAT")
    wav("infinity", np.where(np.arange(RATE) == 77, np.inf, noise), subtype="FLOAT")
    wav("floats of 1e30", 1e30 * noise, subtype="FLOAT")
    wav("floats of 1e-30", 1e-30 * noise, subtype="FLOAT")
    wav("doubles beyond float", 1e300 * noise, subtype="DOUBLE")
    for subtype in ("PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "GSM610"):
        wav(f"coded as {subtype}", noise, subtype=subtype)
    for rate in (1, 100, 999, 1000, 4000, 8000, 11025, 44100, 96000, 192000, 384000):
        wav(f"{rate} Hz", noise, rate)
    wav("8 channels", np.tile(noise[:, None], (1, 8)))
    wav("channels that cancel", np.stack([noise, -noise], axis=1))
    wav("spaces in the name", noise, name="a b  c.wav")
    wav("a newline in the name", noise, name="a\nb.wav")
    noise_file = folder / "latin.wav"
    soundfile.write(noise_file, noise, RATE)
    found["a name in Latin-1"] = noise_file.rename(folder / os.fsdecode("caf\xe9.wav".encode("latin-1")))
    wav("letters of Korea", noise, name="경마장에.wav")
    wav("an emoji and quotes", noise, name="\U0001f40e'\".wav")
    wav("a dash in front", noise, name="-x.wav")
    wav("no suffix", noise, name="sound")
    wav("WAV called mp3", noise, name="wav.mp3")
    wav("WAV called raw", noise, name="wav.raw")
    wav("brackets in the name", noise, name="[x].wav")
    for form, suffix in (("FLAC", ".flac"), ("OGG", ".ogg"), ("MP3", ".mp3"), ("AIFF", ".aiff"), ("AU", ".au")):
        soundfile.write(path(f"{form} of 8 kHz", suffix=suffix), noise[:8000], 8000, format=form)
    whole = (folder / "silence.wav").read_bytes()
    for size in range(45):
        path(f"cut after {size} bytes").write_bytes(whole[:size])
    for suffix in (".flac", ".ogg", ".mp3"):
        kind = suffix[1:].upper()
        full = found[f"{kind} of 8 kHz"].read_bytes()
        path(f"{kind} cut in half", suffix=suffix).write_bytes(full[: len(full) // 2])
        path(f"{kind} cut in its header", suffix=suffix).write_bytes(full[:20])
    path("random bytes").write_bytes(rng.bytes(5000))
    path("text").write_text("not a sound\n" * 50)
    path("zeros").write_bytes(bytes(5000))
    path("a header that promises 4 GB").write_bytes(whole[:40] + struct.pack("<I", 0xFFFF_FFF0) + whole[44:])
    path("a header of 65535 channels").write_bytes(whole[:22] + struct.pack("<H", 65535) + whole[24:])
    path("a header of no channels").write_bytes(whole[:22] + struct.pack("<H", 0) + whole[24:])
    path("a header of 0 Hz").write_bytes(whole[:24] + struct.pack("<I", 0) + whole[28:])
    path("a folder").mkdir()
    path("a folder of nothing that sounds").mkdir()
    (found["a folder of nothing that sounds"] / "a.txt").write_text("x")
    path("a link to nowhere").symlink_to(folder / "nowhere.wav")
    path("a link to itself").symlink_to(found["a link to itself"])
    found["missing"] = folder / "missing.wav"
    path("unreadable").write_bytes(whole)
    found["unreadable"].chmod(0)
    if os.geteuid() == 0:  # who reads everything
        found["unreadable"].chmod(0o600)
    return found


if __name__ == "__main__":
    for what, where in make(Path(sys.argv[1])).items():
        print(f"{what}: {str(where)!r}")
