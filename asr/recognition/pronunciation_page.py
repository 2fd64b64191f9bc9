"""The page of a learner's pronunciation: one HTML file with sound in it, which needs neither network nor server.

Words and phones are buttons, coloured by their scores, that play their stretch of the recording; where there is a
reference, its rendering of the same stretch too. Mistakes are named below. On paper everything but the sound is there.
"""

import base64
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from asr.core.errors import AsrError
from asr.core.files import write_text
from asr.recognition.align import Alignment
from asr.recognition.pronounce import Pronunciation
from asr.speech.audio import to_ogg
from asr.speech.segments import Segment

MARGIN = 0.04  # seconds that are played before and after a phone
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
CHOICE = "".join(
    f'<label><input type="radio" name="sounds" value="{value}"{" checked" if value == "both" else ""}> {value}</label> '
    for value in ("learner", "reference", "both")
)
HELP = "A click on a word, a phone or a mistake plays it. Scores are of 10; a phone is "
UNHEARD = "not heard"
KEY = "".join(f'<span class="key {grade}">{grade}</span> ' for grade in ("good", "fair", "wrong"))


class Entry(NamedTuple):
    """A recording of the page: its name, its scores, and a reference in which the same text is said."""

    name: str
    found: Pronunciation
    reference: Alignment | None = None


def write(path: Path, entries: Sequence[Entry]) -> None:
    """Write the page of some recordings.

    Raises
    ------
    AsrError
        A recording is too long to be a part of a page (`asr.recognition.notebook.LONGEST`).
    """
    write_text(path, render(entries))


def render(entries: Sequence[Entry]) -> str:
    """Return the page as text; see `write`."""
    style, script = (
        resources.files("asr.recognition").joinpath("templates", f"pronunciation.{kind}").read_text(encoding="utf8")
        for kind in ("css", "js")
    )
    has_reference = any(entry.reference is not None for entry in entries)
    sounds = f'<p class="sounds">Play: {CHOICE}</p>' if has_reference else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<title>Pronunciation</title>\n<link rel="icon" href="data:,">\n<style>\n{style}</style>\n</head>\n<body>\n'
        f'<main>\n<h1>Pronunciation</h1>\n<p class="muted">{HELP}{KEY}</p>\n{sounds}\n'
        f"{''.join(map(_section, entries))}</main>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _section(entry: Entry) -> str:
    found, reference = entry.found, entry.reference
    scores = "".join(f"<li>{name} <b>{value:.1f}</b></li>" for name, value in (found.scores or {}).items())
    listed = f'<ul class="scores">{scores}</ul>' if scores else ""
    misfit = f"<p>{'' if scores else '<b>No scores</b>: '}{escape(found.misfit)}</p>" if found.misfit else ""
    faults = "".join(f"<li>{_mistake(found, reference, i)}</li>" for i in range(len(found.mistakes)))
    named = f'<ul class="mistakes">{faults}</ul>' if faults else "<p>No mistake found.</p>"
    sounds = _player("learner", entry.name, found)
    if reference is not None:
        sounds += _player("reference", "reference", reference)
    return (
        f"<section>\n<h2>{escape(entry.name)}</h2>\n{listed}{misfit}\n"
        f'<div class="words">{_words(found, reference)}</div>\n'
        f"{named}\n{sounds}\n</section>\n"
    )


def _player(who: str, name: str, found: Pronunciation | Alignment) -> str:
    if found.sound is None:
        raise AsrError(f"{name} is too long for a page: cut it into sentences")
    sound = base64.b64encode(to_ogg(found.sound())).decode()
    label = escape(f"{who}: {name}", quote=True)
    player = f'<audio class="{who}" controls aria-label="{label}" src="data:audio/ogg;base64,{sound}"></audio>'
    return f'<div class="player"><span class="muted">{who}</span> {player}</div>'


def _words(found: Pronunciation, reference: Alignment | None) -> str:
    parts, first = list[str](), 0
    for i, (word, length, scores) in enumerate(
        zip(found.words or (), found.word_lengths, found.word_scores, strict=True)
    ):
        phones = "".join(_phone(found, reference, k) for k in range(first, first + length))
        title = ", ".join(f"{name} {value:.1f}" for name, value in (scores or {}).items()) or UNHEARD
        button = _button(word.label, word, _same_word(reference, i), found.word_grade(i), title)
        parts.append(f'<span class="word">{button}<span class="phones">{phones}</span></span>')
        first += length
    return "".join(parts)


def _phone(found: Pronunciation, reference: Alignment | None, k: int) -> str:
    phone, score = found.phones[k], found.phone_scores[k]
    title = UNHEARD if score is None else f"{score:.1f} of 2"
    return _button(phone.label, phone, _same_phone(found, reference, k), found.grade(k), title)


def _mistake(found: Pronunciation, reference: Alignment | None, i: int) -> str:
    mistake = found.mistakes[i]
    word, where = (found.words or ())[mistake.word], Segment(str(mistake), mistake.start, mistake.end)
    button = _button(str(mistake), where, _same_phone(found, reference, mistake.phone), "wrong", f"{where.start:.2f} s")
    return f"<b>{escape(word.label)}</b>: {button}"


def _same_word(reference: Alignment | None, i: int) -> Segment | None:
    return None if reference is None else (reference.words or ())[i]


def _same_phone(found: Pronunciation, reference: Alignment | None, k: int) -> Segment | None:
    """Return the reference's phone; its word where it says the word in another way, so that phones do not match."""
    if reference is None:
        return None
    if [each.label for each in reference.phones] == [each.label for each in found.phones]:
        return reference.phones[k]
    return _same_word(reference, found.word_of(k))


def _button(label: str, where: Segment, same: Segment | None, grade: str, title: str) -> str:
    times = f'data-start="{where.start - MARGIN:.3f}" data-end="{where.end + MARGIN:.3f}"'
    if same is not None:
        times += f' data-reference="{max(0.0, same.start - MARGIN):.3f} {same.end + MARGIN:.3f}"'
    return f'<button type="button" class="{grade}" title="{escape(title, quote=True)}" {times}>{escape(label)}</button>'
