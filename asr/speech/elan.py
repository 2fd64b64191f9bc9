"""ELAN's annotation files (.eaf): what is said in a recording, by speakers, with times.

The schema: https://www.mpi.nl/tools/elan/EAFv3.0.xsd. An annotation either has times of its own, or belongs to one of a
tier above it and has that one's times. The text is looked for in the tiers whose names begin like those of `TEXT_TIERS`
(``tx@anna``, ``Transcription``); where there is none, in the tiers that belong to no other.
"""

import re
from pathlib import Path
from xml.etree import ElementTree

from asr.core.errors import AsrError
from asr.speech.segments import Segment

TEXT_TIERS = ("tx", "text", "transcript", "transcription", "utterance", "utterances", "orthography", "ort")


def read(path: Path) -> dict[str, list[Segment]]:
    """Read the annotations of an .eaf file by their speakers.

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
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except ElementTree.ParseError as error:
        raise AsrError(f"{path}, line {error.position[0]} is not XML: save it again from ELAN") from error
    if root.tag != "ANNOTATION_DOCUMENT":
        raise AsrError(f"{path} is no annotation file of ELAN: its first element is {root.tag}")
    slots = {each.get("TIME_SLOT_ID"): each.get("TIME_VALUE") for each in root.iter("TIME_SLOT")}
    tiers = {str(tier.get("TIER_ID")): tier for tier in root.iter("TIER")}
    annotations = {str(each.get("ANNOTATION_ID")): each for tier in tiers.values() for each in tier.iterfind("./*/*")}
    named = [name for name in tiers if re.split(r"[@\W_]", name)[0].lower() in TEXT_TIERS]
    found: dict[str, list[Segment]] = {}
    for name in named or [name for name, tier in tiers.items() if not tier.get("PARENT_REF")]:
        speaker = tiers[name].get("PARTICIPANT") or name.partition("@")[2]
        for annotation in tiers[name].iterfind("./*/*"):
            label = " ".join((annotation.findtext("ANNOTATION_VALUE") or "").split())
            if label:
                segment = Segment(label, *_times(path, annotation, annotations, slots))
                found.setdefault(speaker, []).append(segment)
    return {speaker: sorted(segments, key=lambda each: each.start) for speaker, segments in found.items()}


def _times(
    path: Path,
    annotation: ElementTree.Element,
    annotations: dict[str, ElementTree.Element],
    slots: dict[str | None, str | None],
) -> tuple[float, float]:
    """Return start and end in seconds of an annotation, or of the one that it belongs to."""
    name = annotation.get("ANNOTATION_ID")
    for _ in annotations:  # as often at most as there are annotations: those of a damaged file may go in a circle
        reference = annotation.get("ANNOTATION_REF")
        if reference is None:
            break
        annotation = annotations.get(reference, annotation)
    start, end = (slots.get(annotation.get(f"TIME_SLOT_REF{i}")) for i in (1, 2))
    if start is None or end is None or not int(start) < int(end):
        raise AsrError(f"{path}: the annotation {name} has no start and end: give it times in ELAN")
    return int(start) / 1000, int(end) / 1000
