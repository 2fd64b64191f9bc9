"""The page of an evaluation: one HTML file that needs neither network nor server.

``templates`` beside this file holds the page's skeleton, its style sheet and its scripts. `write` puts them and the
evaluations' figures into one file: the figures as JSON, from which the scripts draw tables and charts when the page is
opened; sound and pictures as base64. A content security policy in the page forbids every request.

An evaluation is the dictionary that ``asr evaluate`` writes as JSON. What takes room is packed: labels become numbers,
times whole milliseconds, and a recording that several evaluations share is stored once.

Letters: N samples, T' frames of posteriors, C labels with the blank, W columns of a picture.
"""

import base64
import html
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from matplotlib import colormaps
from PIL import Image

from asr.core.errors import AsrError
from asr.core.files import write_text
from asr.speech.audio import SAMPLE_RATE
from asr.speech.features import FRAME_LENGTH, FRAME_SHIFT, HOP_LENGTH, fbank

STYLES = ("report.css", "utterances.css")
SCRIPTS = ("dom.js", "charts.js", "sections.js", "player.js", "utterances.js", "report.js")
KEYS: tuple[str, ...] = (
    "system",
    "corpus",
    "split",
    "decoder",
    "command",
    "regimes",
    "groups",
    "confusions",
    "classes",
    "training",
)
KEYS += ("pfer", "boundaries", "calibration", "utterances")
MEDIA = ("audio", "posteriors", "spectrogram")
DYNAMIC_RANGE = 80.0  # dB below the loudest mel bin at which the spectrogram turns black
NUM_MEL_BINS = 80
SHOWN_POSTERIOR = 0.1  # a label never likelier than this has no row in the posteriorgram
INK = (59, 113, 202)  # of a posterior of 1, which reads on white and on black; less of it is more transparent
VORBIS_BLOCK = SAMPLE_RATE  # samples; libsndfile's Vorbis encoder overflows its stack when it is given minutes at once


def write(
    path: Path,
    evaluations: Sequence[Mapping[str, Any]],
    notes: Sequence[str] = (),
    comparisons: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the page of one evaluation, or of several side by side.

    Parameters
    ----------
    path
        The HTML file, written under a temporary name first.
    evaluations
        What ``asr evaluate`` writes as JSON. The page opens on the first.
    notes
        Sentences to print under the comparison, such as a significance test's result.
    comparisons
        Test sets, as ``compare.json`` has them, whose differences are to stand there as a table.

    Raises
    ------
    AsrError
        There is no evaluation, or one lacks a part.

    Examples
    --------
    >>> write(Path("report.html"), [])
    Traceback (most recent call last):
    ...
    asr.core.errors.AsrError: no evaluation for report.html: run `asr evaluate` first
    """
    if not evaluations:
        raise AsrError(f"no evaluation for {path}: run `asr evaluate` first")
    for evaluation in evaluations:
        missing = [key for key in KEYS if key not in evaluation]
        if missing:
            name = evaluation.get("system", "without a name")
            raise AsrError(f"evaluation {name} lacks {', '.join(missing)}: run `asr evaluate` on it again")
    write_text(path, render(evaluations, notes, comparisons))


def render(
    evaluations: Sequence[Mapping[str, Any]],
    notes: Sequence[str] = (),
    comparisons: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Return the page as text; see `write`."""
    first = evaluations[0]
    title = f"{first['system']} on {first['corpus']} {first['split']}"
    if len(evaluations) > 1:
        title = f"{len(evaluations)} evaluations compared"
    tables = {"notes": list(notes), "comparisons": list(comparisons)}
    return _fill(
        _template("report.html"),
        {
            "title": html.escape(title),
            "style": "\n".join(map(_template, STYLES)),
            "script": "\n".join(map(_template, SCRIPTS)),
            "data": _script_json({"title": title, **tables, **_pack(evaluations)}),
        },
    )


def utterance_media(
    waveform: np.ndarray, log_probs: np.ndarray, tokens: Sequence[str], frame_shift: float
) -> dict[str, Any]:
    """Make an utterance's sound and pictures, to be merged into its dictionary in an evaluation.

    Both pictures have a column for each 10 ms, the first at the start of the recording, and no axes: the page draws
    those, with the times of the phones.

    Parameters
    ----------
    waveform : (N,)
        At 16 kHz, a frame of 25 ms or longer.
    log_probs : (T', C)
        Natural logs; column 0 is the blank.
    tokens
        Label of each column.
    frame_shift
        Seconds from one row of `log_probs` to the next.

    Returns
    -------
    dict
        ``audio``, Ogg Vorbis; ``spectrogram`` and ``posteriors``, PNG: text in base64. ``posterior_tokens``: the labels
        of the posteriorgram's rows from the top, in the order of their highest posteriors in time, the blank last.

    Raises
    ------
    AudioError
        The waveform is shorter than one frame.

    Examples
    --------
    >>> log_probs = np.log([[0.1, 0.88, 0.01, 0.01], [0.6, 0.1, 0.01, 0.29]])
    >>> media = utterance_media(np.zeros(960, np.float32), log_probs, ["<blank>", "t", "n", "iy"], 0.03)
    >>> media["posterior_tokens"]
    ['t', 'iy', '<blank>']
    """
    num_columns = max(1, round(len(waveform) / HOP_LENGTH))
    rows = shown_tokens(log_probs)
    return {
        "audio": _ogg(waveform),
        "spectrogram": _png(_spectrogram_levels(waveform, num_columns), _magma()),
        "posteriors": _png(_posterior_levels(log_probs[:, rows], frame_shift, num_columns), bytes(INK * 256), True),
        "posterior_tokens": [tokens[row] for row in rows],
    }


def shown_tokens(log_probs: np.ndarray) -> list[int]:
    """Choose the posteriorgram's rows.

    Parameters
    ----------
    log_probs : (T', C)
        Natural logs; column 0 is the blank.

    Returns
    -------
    list of int
        Columns of `log_probs` that are likely somewhere, by the frame where they are likeliest, and the blank last.

    Examples
    --------
    >>> shown_tokens(np.log([[0.2, 0.01, 0.79], [0.3, 0.69, 0.01]]))
    [2, 1, 0]
    """
    phones = np.flatnonzero(log_probs[:, 1:].max(axis=0) > np.log(SHOWN_POSTERIOR)) + 1
    peaks = log_probs[:, phones].argmax(axis=0)
    return [*phones[np.argsort(peaks, kind="stable")].tolist(), 0]


def names(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name each evaluation by what tells it from the others.

    >>> a = {"system": "blstm", "corpus": "mini", "split": "test", "decoder": "beam 16"}
    >>> names([a])
    ['blstm']
    >>> names([a, a | {"decoder": "best path"}])
    ['beam 16', 'best path']
    >>> names([a, a | {"system": "hmm", "decoder": "Viterbi"}])
    ['blstm', 'hmm']
    >>> names([a, a | {"system": "hmm", "split": "dev"}, a])
    ['blstm, mini test (1)', 'hmm, mini dev', 'blstm, mini test (2)']
    """
    parts = [(e["system"], f"{e['corpus']} {e['split']}", e["decoder"]) for e in evaluations]
    varied = [i for i in range(3) if len({part[i] for part in parts}) > 1] or [0]
    if len({part[:2] for part in parts}) == len(set(parts)):  # the decoder tells nothing more
        varied = [i for i in varied if i < 2]
    plain = [", ".join(part[i] for i in varied) for part in parts]
    return [f"{name} ({plain[: i + 1].count(name)})" if plain.count(name) > 1 else name for i, name in enumerate(plain)]


def _template(name: str) -> str:
    return resources.files("asr.evaluation").joinpath("templates", name).read_text(encoding="utf8")


def _fill(template: str, values: Mapping[str, str]) -> str:
    """Replace each ``{{name}}`` once; what is put in is not searched again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)


def _script_json(values: Any) -> str:
    """Return JSON that cannot end the script element around it, nor open a comment in it."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _pack(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the evaluations without repetition, and the sound and pictures that they point into."""
    media: dict[str, int] = {}
    packed = [
        {**evaluation, "name": name, **_pack_utterances(evaluation["utterances"], media)}
        for evaluation, name in zip(evaluations, names(evaluations), strict=True)
    ]
    return {"evaluations": packed, "media": list(media)}


def _pack_utterances(utterances: Sequence[Mapping[str, Any]], media: dict[str, int]) -> dict[str, Any]:
    """Put numbers for labels and media; keep times only where there is something to play or to look at."""
    number: dict[str | None, int] = {None: -1}

    def index(label: str | None) -> int:
        return number.setdefault(label, len(number) - 1)

    rows = []
    for utterance in utterances:
        row = {key: value for key, value in utterance.items() if key not in ("reference", "hypothesis", *MEDIA)}
        row["pairs"] = [index(label) for pair in utterance["pairs"] for label in pair]
        shown = {key: utterance[key] for key in MEDIA if utterance.get(key)}
        row |= {key: media.setdefault(value, len(media)) for key, value in shown.items()}
        if shown:
            row |= {key: _pack_segments(utterance[key], index) for key in ("reference", "hypothesis")}
        rows.append(row)
    return {"labels": [label for label in number if label is not None], "utterances": rows}


def _pack_segments(segments: Sequence[Mapping[str, Any]], index: Callable[[str | None], int]) -> list[int | None]:
    """Flatten segments to label, start and end in ms, and confidence in thousandths or null."""
    packed: list[int | None] = []
    for segment in segments:
        confidence = segment.get("confidence")
        packed += [index(segment["label"]), round(1000 * segment["start"]), round(1000 * segment["end"])]
        packed.append(None if confidence is None else round(1000 * confidence))
    return packed


def _ogg(waveform: np.ndarray) -> str:
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", SAMPLE_RATE, 1, format="OGG", subtype="VORBIS") as file:
        for start in range(0, len(waveform), VORBIS_BLOCK):
            file.write(waveform[start : start + VORBIS_BLOCK])
    return base64.b64encode(buffer.getvalue()).decode()


def _png(levels: np.ndarray, palette: bytes, transparent: bool = False) -> str:
    """Return a picture (H, W) uint8 of palette numbers; where it is transparent, the number is the opacity too."""
    image = Image.fromarray(levels).convert("P")
    image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, **({"transparency": bytes(range(256))} if transparent else {}))
    return base64.b64encode(buffer.getvalue()).decode()


def _magma() -> bytes:
    return bytes((255 * colormaps["magma"](np.arange(256))[:, :3]).round().astype(np.uint8).tobytes())


def _spectrogram_levels(waveform: np.ndarray, num_columns: int) -> np.ndarray:
    """Return log-mel energies (M, W) as 0 to 255, low frequencies at the bottom."""
    mels = fbank(waveform, NUM_MEL_BINS, use_energy=False)  # (T, M)
    centres = (np.arange(num_columns) + 0.5) * FRAME_SHIFT
    frames = np.round((centres - FRAME_LENGTH / 2) / FRAME_SHIFT).astype(int).clip(0, len(mels) - 1)
    span = DYNAMIC_RANGE / 10 * np.log(10)
    levels = 1 + (mels[frames].T[::-1] - mels.max()) / span
    return (255 * levels.clip(0, 1)).round().astype(np.uint8)


def _posterior_levels(log_probs: np.ndarray, frame_shift: float, num_columns: int) -> np.ndarray:
    """Return posteriors as opacities (rows, W); their square roots, so that the second choices can be seen."""
    frames = ((np.arange(num_columns) + 0.5) * FRAME_SHIFT / frame_shift).astype(int)
    opacity = (255 * np.exp(log_probs / 2)).round().clip(0, 255).astype(np.uint8)  # (T', rows)
    levels = np.zeros((log_probs.shape[1], num_columns), np.uint8)
    inside = frames < len(log_probs)
    levels[:, inside] = opacity[frames[inside]].T
    return levels
