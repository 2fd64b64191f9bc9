"""Scores of learners' speech as lines of coloured text."""

from rich.text import Text

from asr.recognition.pronounce import Pronunciation

COLOURS = {"good": "green", "fair": "yellow", "wrong": "bold red"}


def coloured(found: Pronunciation, name: str | None = None) -> Text:
    """Return scores as lines: of the sentence, of words with their phones, and the mistakes.

    A phone that is not good is followed by its score, so that nothing rests on colours alone. Where the recording has
    no scores, the first line says why; words without them are not heard.
    """
    title = Text("" if name is None else f"{name}: ", "bold")
    scores = found.scores or {}
    title.append(", ".join(f"{key} {value:.1f}" for key, value in scores.items()) or f"no scores: {found.misfit}")
    line, first = Text(), 0
    for i, (word, length) in enumerate(zip(found.words or (), found.word_lengths, strict=True)):
        line.append(" " if i else "").append(word.label, COLOURS[found.word_grade(i)]).append(" [")
        if found.word_scores[i] is None:
            line.append("not heard", COLOURS["wrong"])
        else:
            for k in range(first, first + length):
                grade = found.grade(k)
                label = found.phones[k].label + ("" if grade == "good" else f"={found.phone_scores[k]:.1f}")
                line.append(" " if k > first else "").append(label, COLOURS[grade])
        line.append("]")
        first += length
    lines = title.append("\n") + line.append("\n")
    for each in found.mistakes:
        lines.append(f"  {(found.words or ())[each.word].label}: ").append(str(each), COLOURS["wrong"])
        lines.append(f", {each.start:.2f} s\n")
    return lines
