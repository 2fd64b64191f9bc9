"""ELAN's annotation files (.eaf): what is said in a recording, by speakers, with times; and tiers to be written.

The schema: https://www.mpi.nl/tools/elan/EAFv3.0.xsd. An annotation either has times of its own, or belongs to one of a
tier above it and has that one's times. Several that belong to one share it equally, and so do neighbours between which
no time is set, as ELAN shows them. The text is looked for in the tiers whose names begin like those of `TEXT_TIERS`
(``tx@anna``, ``Transcription``); where there is none, in the tiers that belong to no other.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

from asr.core.errors import AsrError
from asr.speech.segments import Segment

SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_TYPE = "asr"  # the linguistic type of the tiers that are written: each annotation has times of its own
TEXT_TIERS = ("tx", "text", "transcript", "transcription", "utterance", "utterances", "orthography", "ort")


def read(path: Path) -> dict[str, list[Segment]]:
    """Read the annotations of the tiers of text of an .eaf file, by their speakers.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    dict
        The annotations in the order of their starts. A tier names its speaker as its participant, or behind an ``@`` in
        its name; the name is empty where there is neither.

    Raises
    ------
    AsrError
        The file is not ELAN's, or an annotation has no times; the message names the line or the annotation.
    """
    root = _parse(path)
    tiers = _tiers(root)
    found: dict[str, list[Segment]] = {}
    for name in text_tiers(path):
        speaker = tiers[name].get("PARTICIPANT") or name.partition("@")[2]
        segments = _segments(path, root, tiers[name])
        if segments:
            found.setdefault(speaker, []).extend(segments)
    return {speaker: sorted(segments, key=lambda each: each.start) for speaker, segments in found.items()}


def text_tiers(path: Path) -> list[str]:
    """Return the names of the tiers of text of an .eaf file; errors are those of `read`."""
    tiers = _tiers(_parse(path))
    named = [name for name in tiers if re.split(r"[@\W_]", name)[0].lower() in TEXT_TIERS]
    return named or [name for name, tier in tiers.items() if not tier.get("PARENT_REF")]


def read_tiers(path: Path) -> dict[str, list[Segment]]:
    """Read all tiers of an .eaf file by their names, without annotations of no text; errors are those of `read`."""
    root = _parse(path)
    return {
        name: sorted(_segments(path, root, tier), key=lambda each: each.start) for name, tier in _tiers(root).items()
    }


def to_eaf(tiers: Mapping[str, Sequence[Segment]], recording: Path | None = None, given: Path | None = None) -> str:
    """Return an .eaf file with tiers, in version 3.0 of the format.

    Parameters
    ----------
    tiers
        The name of each tier with its segments, which are in order. Segments without length are left out, which ELAN
        does not allow. Times are whole milliseconds.
    recording
        The file with the sound, which ELAN then opens.
    given
        An .eaf file that is kept as it is, and gets the tiers behind its own.

    Raises
    ------
    AsrError
        The file that is given is not ELAN's.

    Examples
    --------
    >>> text = to_eaf({"words": [Segment("hi", 0.1, 0.35)]})
    >>> text.count("<ALIGNABLE_ANNOTATION "), 'TIME_VALUE="350"' in text
    (1, True)
    """
    root = _parse(given) if given else _empty(recording)
    slots: list[tuple[int, ElementTree.Element]] = []
    slot_number = _next_number(each.get("TIME_SLOT_ID") for each in root.iter("TIME_SLOT"))
    annotations = [each.get("ANNOTATION_ID") for each in root.iter() if each.get("ANNOTATION_ID")]
    number = _next_number(annotations)
    place = max((i for i, each in enumerate(root) if each.tag in ("TIME_ORDER", "TIER")), default=len(root) - 1) + 1
    for name, segments in tiers.items():
        tier = ElementTree.Element("TIER", {"LINGUISTIC_TYPE_REF": _TYPE, "TIER_ID": name})
        for segment in segments:
            times = round(1000 * segment.start), round(1000 * segment.end)
            if times[0] >= times[1]:
                continue
            names = [f"ts{next(slot_number)}" for _ in times]
            slots += [
                (time, ElementTree.Element("TIME_SLOT", {"TIME_SLOT_ID": slot, "TIME_VALUE": str(time)}))
                for slot, time in zip(names, times, strict=True)
            ]
            about = {"ANNOTATION_ID": f"a{next(number)}", "TIME_SLOT_REF1": names[0], "TIME_SLOT_REF2": names[1]}
            annotation = ElementTree.SubElement(
                ElementTree.SubElement(tier, "ANNOTATION"), "ALIGNABLE_ANNOTATION", about
            )
            ElementTree.SubElement(annotation, "ANNOTATION_VALUE").text = segment.label
        root.insert(place, tier)
        place += 1
    _insert_slots(root, slots)
    _note_last_annotation(root, next(number) - 1)
    if all(each.get("LINGUISTIC_TYPE_ID") != _TYPE for each in root.iter("LINGUISTIC_TYPE")):
        kind = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": _TYPE, "TIME_ALIGNABLE": "true"}
        root.insert(place, ElementTree.Element("LINGUISTIC_TYPE", kind))
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, "unicode")}\n'


def _empty(recording: Path | None) -> ElementTree.Element:
    """Return a document without tiers."""
    about = {"AUTHOR": "", "DATE": datetime.now().astimezone().isoformat(timespec="seconds")}
    about |= {"FORMAT": "3.0", "VERSION": "3.0", f"{{{_XSI}}}noNamespaceSchemaLocation": SCHEMA}
    root = ElementTree.Element("ANNOTATION_DOCUMENT", about)
    header = ElementTree.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    if recording is not None:
        media = {"MEDIA_URL": recording.resolve().as_uri(), "MIME_TYPE": "audio/x-wav"}
        ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", media)
    ElementTree.SubElement(root, "TIME_ORDER")
    return root


def _next_number(names: Iterable[str | None]) -> Iterator[int]:
    """Return the numbers above those at the ends of names."""
    numbers = [int(found[0]) for name in names if name and (found := re.search(r"\d+$", name))]
    return itertools.count(max(numbers, default=0) + 1)


def _insert_slots(root: ElementTree.Element, slots: Sequence[tuple[int, ElementTree.Element]]) -> None:
    """Put time slots among those of a document, in the order of their times."""
    order = root.find("TIME_ORDER")
    if order is None:
        order = ElementTree.Element("TIME_ORDER")
        root.insert(1, order)
    waiting = sorted(slots, key=lambda each: each[0], reverse=True)
    merged = list[ElementTree.Element]()
    for slot in order:
        value = slot.get("TIME_VALUE")
        while value is not None and waiting and waiting[-1][0] <= int(value):
            merged.append(waiting.pop()[1])
        merged.append(slot)
    order[:] = [*merged, *(slot for _, slot in reversed(waiting))]


def _note_last_annotation(root: ElementTree.Element, number: int) -> None:
    """Correct ELAN's own note of the last number of an annotation, from which it counts on."""
    for each in root.iterfind("HEADER/PROPERTY[@NAME='lastUsedAnnotationId']"):
        each.text = str(number)


def _parse(path: Path) -> ElementTree.Element:
    """Read a document; raise AsrError if it is not ELAN's."""
    ElementTree.register_namespace("xsi", _XSI)
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except ElementTree.ParseError as error:
        raise AsrError(f"{path}, line {error.position[0]} is not XML: save it again from ELAN") from error
    if root.tag != "ANNOTATION_DOCUMENT":
        raise AsrError(f"{path} is no annotation file of ELAN: its first element is {root.tag}")
    return root


def _tiers(root: ElementTree.Element) -> dict[str, ElementTree.Element]:
    return {str(tier.get("TIER_ID")): tier for tier in root.iter("TIER")}


def _segments(path: Path, root: ElementTree.Element, tier: ElementTree.Element) -> list[Segment]:
    """Return the annotations of a tier that have a text."""
    slots, annotations, parts = _slots(root), dict[str, ElementTree.Element](), dict[str, tuple[int, int]]()
    for every in root.iter("TIER"):
        below: dict[str, list[str]] = {}
        for each in every.iterfind("./*/*"):
            name = str(each.get("ANNOTATION_ID"))
            annotations[name] = each
            below.setdefault(each.get("ANNOTATION_REF", ""), []).append(name)
        below.pop("", None)
        parts |= {name: (k, len(names)) for names in below.values() for k, name in enumerate(names)}
    labelled = ((" ".join((each.findtext("ANNOTATION_VALUE") or "").split()), each) for each in tier.iterfind("./*/*"))
    return [Segment(label, *_times(path, each, annotations, parts, slots)) for label, each in labelled if label]


def _slots(root: ElementTree.Element) -> dict[str | None, str | None]:
    """Return the times of all time slots; those without one lie at equal distances between others of their tier."""
    slots = {each.get("TIME_SLOT_ID"): each.get("TIME_VALUE") for each in root.iter("TIME_SLOT")}
    for tier in root.iter("TIER"):
        rows = tier.iterfind("./*/ALIGNABLE_ANNOTATION")
        ends = {each.get("TIME_SLOT_REF1"): each.get("TIME_SLOT_REF2") for each in rows}
        for first in ends:
            chain = [first, ends[first]]
            while slots.get(chain[-1]) is None and chain[-1] in ends and len(chain) <= len(ends):
                chain.append(ends[chain[-1]])
            low, high = slots.get(first) or "", slots.get(chain[-1]) or ""
            if low.isdecimal() and high.isdecimal():
                times = [int(low) + (int(high) - int(low)) * k // (len(chain) - 1) for k in range(len(chain))]
                slots |= dict(zip(chain, map(str, times), strict=True))
    return slots


def _times(
    path: Path,
    annotation: ElementTree.Element,
    annotations: dict[str, ElementTree.Element],
    parts: dict[str, tuple[int, int]],
    slots: dict[str | None, str | None],
) -> tuple[float, float]:
    """Return start and end in seconds of an annotation, or of its part of the one that it belongs to."""
    name, shares = annotation.get("ANNOTATION_ID"), list[tuple[int, int]]()
    for _ in annotations:  # as often at most as there are annotations: those of a damaged file may go in a circle
        reference = annotation.get("ANNOTATION_REF")
        if reference is None:
            break
        shares.append(parts[str(annotation.get("ANNOTATION_ID"))])
        annotation = annotations.get(reference, annotation)
    start, end = (slots.get(annotation.get(f"TIME_SLOT_REF{i}")) or "" for i in (1, 2))
    if not (start.isdecimal() and end.isdecimal() and int(start) < int(end)):
        raise AsrError(f"{path}: the annotation {name} has no start and end: give it times in ELAN")
    low, high = int(start), int(end)
    for k, count in reversed(shares):
        low, high = low + (high - low) * k // count, low + (high - low) * (k + 1) // count
    return low / 1000, high / 1000
