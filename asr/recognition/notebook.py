"""An annotated recording as HTML for notebooks: sound, spectrogram, and the labels below it on the same time axis.

The HTML needs no style sheet, script or file beside it. Text has the colour of the page around it, and everything else
is one blue of varying opacity, so that it reads on light and on dark pages.

Letters: N samples, M mel bins, W columns of the picture.
"""

import base64
import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import soundfile

from asr.speech.audio import SAMPLE_RATE
from asr.speech.features import HOP_LENGTH, WINDOW_LENGTH
from asr.speech.segments import Segment
from asr.speech.spectrogram import spectrogram_levels

LONGEST = 120.0  # seconds; a minute of sound and picture makes a notebook larger by about 3 MB
INK = (59, 113, 202)  # RGB
SECOND, PICTURE, ROW = 320, 120, 26  # pixels: width of a second, heights of the spectrogram and of a tier
FONT, LETTER = 13, 9  # pixels: size of the letters, and their width at most


def html(tiers: Mapping[str, Sequence[Segment]], duration: float, waveform: np.ndarray | None = None) -> str:
    """Return an HTML element.

    Parameters
    ----------
    tiers
        Segments by the name of their tier; each tier is a row below the spectrogram.
    duration
        Length of the recording in seconds.
    waveform : (N,), optional
        At 16 kHz. Without it, or with less than one frame of it, only the labels are shown: as text, since a picture of
        an hour would be a million pixels wide.

    Examples
    --------
    >>> html({"phones": [Segment("<s>", 0.1, 0.2)]}, 0.5)
    '<div><p><b>phones</b> &lt;s&gt;</p></div>'
    """
    if waveform is None or len(waveform) < WINDOW_LENGTH:
        rows = [f"<b>{escape(name)}</b> {escape(' '.join(each.label for each in tiers[name]))}" for name in tiers]
        return f"<div>{''.join(f'<p>{row}</p>' for row in rows)}</div>"
    width, top = round(SECOND * duration), PICTURE
    parts = [f'<image href="{_picture(waveform)}" width="{width}" height="{top}" preserveAspectRatio="none"/>']
    for segments in tiers.values():
        parts += [_box(segment, top) for segment in segments]
        top += ROW
    parts += [_tick(second, top) for second in range(int(duration) + 1)]
    size = f'width="{width}" height="{top + ROW}"'
    style = f'font-size="{FONT}" font-family="sans-serif" fill="currentColor" style="display:block;max-width:none"'
    picture = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{"".join(parts)}</svg>'
    return f'<div>{_player(waveform)}<div style="overflow-x:auto">{picture}</div></div>'


def _player(waveform: np.ndarray) -> str:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    sound = base64.b64encode(buffer.getvalue()).decode()
    return f'<audio controls="controls" src="data:audio/wav;base64,{sound}"></audio>'


def _picture(waveform: np.ndarray) -> str:
    """Return the spectrogram as the address of a PNG: `INK`, the louder the more opaque."""
    png = _png(spectrogram_levels(waveform, max(1, round(len(waveform) / HOP_LENGTH))))
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _png(levels: np.ndarray) -> bytes:
    """Return a PNG in `INK` of levels (H, W) uint8, the higher the more opaque (ISO/IEC 15948; palette, 8 bits)."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = levels.shape
    rows = np.pad(levels, ((0, 0), (1, 0)))  # each row starts with its filter, 0 for none
    chunks = (
        chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 3, 0, 0, 0)),
        chunk(b"PLTE", bytes(INK * 256)),
        chunk(b"tRNS", bytes(level * level // 255 for level in range(256))),  # squared: noise fades, speech stands out
        chunk(b"IDAT", zlib.compress(rows.tobytes())),
        chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _box(segment: Segment, top: int) -> str:
    """Draw a label in a box as long as its segment; the more confident it is, the more opaque is the box."""
    left, width = SECOND * segment.start, SECOND * (segment.end - segment.start)
    opacity = 0.1 + 0.4 * (1 if segment.confidence is None else segment.confidence)
    sure = "" if segment.confidence is None else f", confidence {segment.confidence:.2f}"
    title = f"{escape(segment.label)}: {segment.start:.3f} to {segment.end:.3f} s{sure}"
    place = f'x="{left:.1f}" y="{top + 1}" width="{width:.1f}" height="{ROW - 2}"'
    box = f'<rect {place} fill="rgb{INK}" fill-opacity="{opacity:.2f}" stroke="currentColor" stroke-opacity="0.4"/>'
    middle = f'x="{left + width / 2:.1f}" y="{top + ROW / 2 + FONT / 3:.1f}" text-anchor="middle"'
    if LETTER * len(segment.label) > width:
        middle += f' textLength="{width:.1f}" lengthAdjust="spacingAndGlyphs"'
    return f"<g><title>{title}</title>{box}<text {middle}>{escape(segment.label)}</text></g>"


def _tick(second: int, top: int) -> str:
    x = SECOND * second
    line = f'<path d="M{x} 0V{PICTURE}M{x} {top}v{ROW}" stroke="currentColor" stroke-opacity="0.4"/>'
    return f'{line}<text x="{x + 4}" y="{top + ROW - 8}" opacity="0.7">{second} s</text>'
