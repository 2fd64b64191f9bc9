"""Text for word language models: 2,884 public-domain books in English, a sentence a line, as LibriSpeech spells words.

    python -m data_prep.books corpora/books books.txt

The first argument is the folder of five repositories; those that it lacks are downloaded into it, 0.9 GB.

`tables/books.tsv` names the books: the repository on GitHub and the path in it. Those that LibriSpeech's dev and test
sets were read from are not among them. They had been found by title, by number, and by the sequences of eight words
that they share with the transcripts; ``asr lm overlap`` does the last of these for any text. A book that shares a fifth
of its sequences with books before it is not among them either.

A sentence is in lower case, without punctuation, accents or italics; titles such as Mr are written out. Sentences with
digits or symbols are left out, since nothing tells how they are read.
"""

import csv
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from asr.core import files
from asr.core.errors import AsrError, CorpusError
from asr.core.terminal import track
from data_prep import download

BOOKS = Path(__file__).parent / "tables" / "books.tsv"
COMMITS = {  # the state of each repository that the books were taken from
    "mlschmitt/classic-books-markdown": "944882722e9a96fa6cf2739dc2ea757e101f412f",
    "computationalstylistics/100_english_novels": "143e601875d70e195f2cc5ebd8b034609271194d",
    "COST-ELTeC/ELTeC-eng": "3db3b6738a836f0e1b276b6c9703e42f4297f978",
    "dbamman/litbank": "3e50db0ffc033d7ccbb94f4d88f6b99210328ed8",
    "rcdm-uga/Gutenberg_Text": "a0b16d35a9851168ce9ac649851c17b7ab08d48e",
}
_TITLES = {
    "mr": "mister",
    "mrs": "missus",
    "dr": "doctor",
    "st": "saint",
    "messrs": "messers",
    "capt": "captain",
    "col": "colonel",
    "gen": "general",
    "rev": "reverend",
    "prof": "professor",
    "hon": "honourable",
}
_TITLE = re.compile(rf"\b({'|'.join(_TITLES)})\.", re.IGNORECASE)
_GUTENBERG_START = re.compile(r"^\*\*\* ?START OF TH(?:E|IS) PROJECT GUTENBERG.*$", re.MULTILINE | re.IGNORECASE)
_GUTENBERG_END = re.compile(
    r"^(?:\*\*\* ?END OF TH(?:E|IS) PROJECT GUTENBERG|End of (?:the |this )?Project Gutenberg).*",
    re.MULTILINE | re.IGNORECASE | re.DOTALL,
)
_HEADER = re.compile(r"<teiHeader.*?</teiHeader>", re.DOTALL)
_PARAGRAPH_END = re.compile(r"</(?:p|head|l|div)>")
_TAG = re.compile(r"<[^>]+>")
_MARKUP = re.compile(r"^(?:#|\*\*\*|---|=).*$", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.!?;:]+|--+")
_UNREADABLE = re.compile(r"[0-9&@#%$£|<>\[\]{}=+^~/\\]")
_WORD = re.compile(r"[a-z']+")


def sentences(text: str, is_xml: bool = False) -> Iterator[str]:
    r"""Yield the sentences of a book, of two words or more.

    Project Gutenberg's notices before and after a book are left out.

    Parameters
    ----------
    text : str
        Plain text or Markdown, with empty lines between paragraphs; or TEI.
    is_xml : bool
        The text is TEI.

    Examples
    --------
    >>> list(sentences("# One\n\n“Is it Mr. Poe’s?”—It cost 5 pounds. A café\nin the _village_."))
    ["is it mister poe's", 'a cafe in the village']
    """
    if is_xml:
        text = _TAG.sub(" ", _PARAGRAPH_END.sub("\n\n", _HEADER.sub(" ", text)))
    text = _GUTENBERG_END.sub("", _GUTENBERG_START.split(text)[-1])
    text = _MARKUP.sub("", text)
    text = unicodedata.normalize("NFKD", re.sub("[‘’]", "'", text).replace("—", ", "))
    text = "".join(character for character in text if not unicodedata.combining(character))
    for paragraph in re.split(r"\n\s*\n", text):
        paragraph = _TITLE.sub(lambda found: _TITLES[found[1].lower()], paragraph.replace("\n", " "))
        for sentence in _SENTENCE_END.split(paragraph):
            words = [word.strip("'") for word in _WORD.findall(sentence.lower())]
            words = [word for word in words if word]
            if len(words) > 1 and not _UNREADABLE.search(sentence):
                yield " ".join(words)


def obtain(target_dir: Path) -> None:
    """Download and unpack the repositories, unless they are there, as ``OWNER+NAME``.

    Raises
    ------
    CorpusError
        A download fails.
    """
    for repository, commit in COMMITS.items():
        folder = _folder(target_dir, repository)
        if not folder.is_dir():
            archive = download.fetch_and_unpack(f"https://github.com/{repository}/archive/{commit}.tar.gz", target_dir)
            (archive / f"{repository.split('/')[1]}-{commit}").rename(folder)
            archive.rmdir()


def prepare(books_dir: Path, path: Path) -> tuple[int, int]:
    """Write the sentences of all books to a file; return how many sentences and words they are.

    Parameters
    ----------
    books_dir : Path
        Holds each repository's files as ``OWNER+NAME``.
    path : Path
        The text, UTF-8, which appears only when it is complete.

    Raises
    ------
    CorpusError
        A book is missing.
    """
    with BOOKS.open(encoding="utf8", newline="") as file:
        books = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    num_sentences = num_words = 0
    with files.replacing(path) as temporary, temporary.open("w", encoding="utf8") as out:
        for repository, name in track(books, "books"):
            book = _folder(books_dir, repository) / name
            try:
                content = book.read_bytes()
            except OSError as error:
                raise CorpusError(f"cannot read {book} ({error.strerror}): is the repository whole?") from error
            try:
                text = content.decode("utf-8-sig")
            except UnicodeDecodeError:
                text = content.decode("latin1")
            for sentence in sentences(text, is_xml=name.endswith(".xml")):
                out.write(sentence + "\n")
                num_sentences += 1
                num_words += sentence.count(" ") + 1
    return num_sentences, num_words


def _folder(books_dir: Path, repository: str) -> Path:
    return Path(books_dir) / repository.replace("/", "+")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        obtain(Path(sys.argv[1]))
        print("{}: {:,} sentences, {:,} words".format(sys.argv[2], *prepare(Path(sys.argv[1]), Path(sys.argv[2]))))
    except AsrError as error:
        sys.exit(f"error: {error}")
