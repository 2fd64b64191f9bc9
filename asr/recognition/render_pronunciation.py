"""Scores of learners' speech as lines of coloured text."""

from rich.text import Text

from asr.recognition.pronounce import Pronunciation

COLOURS = {"good": "green", "fair": "yellow", "wrong": "bold red"}


def coloured(found: Pronunciation, name: str | None = None) -> Text:
    """Return scores as lines: of the sentence, of words with their phones, and the mistakes.

    A phone that is not good is followed by its score, so that nothing rests on colours alone. Where the recording has
    no scores, the first line says why; words without them are not heard.
    """
    lines, first = Text(), 0
    lines.append("" if name is None else f"{name}: ", "bold")
    scores = ", ".join(f"{key} {value:.1f}" for key, value in (found.scores or {}).items())
    lines.append(f"{scores or f'no scores: {found.misfit}'}\n")
    for i, (word, length) in enumerate(zip(found.words or (), found.word_lengths, strict=True)):
        lines.append(" " if i else "").append(word.label, COLOURS[found.word_grade(i)]).append(" [")
        if found.word_scores[i] is None:
            lines.append("not heard", COLOURS["wrong"])
        else:
            for k in range(first, first + length):
                grade = found.grade(k)
                label = found.phones[k].label + ("" if grade == "good" else f"={found.phone_scores[k]:.1f}")
                lines.append(" " if k > first else "").append(label, COLOURS[grade])
        lines.append("]")
        first += length
    lines.append("\n")
    for each in found.mistakes:
        lines.append(f"  {(found.words or ())[each.word].label}: ").append(str(each), COLOURS["wrong"])
        lines.append(f", {each.start:.2f} s\n")
    return lines
