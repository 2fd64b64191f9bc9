"""Text from books: what a sentence is, and that none of a book's file gets lost."""

import io
import tarfile

import pytest

from asr.core.errors import CorpusError
from data_prep import books, download


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is. He went home!", ["it is", "he went home"]),
        ("Yes. No one knows.", ["no one knows"]),  # a sentence of one word teaches nothing of sequences
        ("Dr. Smith met\nSt. John", ["doctor smith met saint john"]),
        ("don’t say ‘never’ again", ["don't say never again"]),
        ("Zoë’s naïve façade", ["zoe's naive facade"]),
        ("one thing--another thing; the rest", ["one thing", "another thing", "the rest"]),
        ("In 1815 he died. He was _very_ old", ["he was very old"]),
        ("# A Title\n\n***\n\nthe text", ["the text"]),
        ("the end\n\nof it", ["the end", "of it"]),
        ("Ωμέγα and omega", ["and omega"]),
        (
            "This eBook is free\n\n*** START OF THIS PROJECT GUTENBERG EBOOK A TITLE ***\n\nthe text\n\n"
            "*** END OF THE PROJECT GUTENBERG EBOOK A TITLE ***\n\nthe licence",
            ["the text"],
        ),
        ("the text\n\nEnd of Project Gutenberg's A Title, by Me\n\nthe licence", ["the text"]),
        ("at the end of it\n\nend of the day", ["at the end of it", "end of the day"]),
    ],
)
def test_sentences(text, expected):
    assert list(books.sentences(text)) == expected


def test_tei_without_its_header():
    text = "<TEI><teiHeader><p>made by me</p></teiHeader><p>the <hi>good</hi> man</p><p>went home</p></TEI>"
    assert list(books.sentences(text, is_xml=True)) == ["the good man", "went home"]


@pytest.mark.parametrize("encoding", ["latin1", "utf-8", "utf-8-sig"])
def test_books_of_each_encoding(monkeypatch, tmp_path, encoding):
    monkeypatch.setattr(books, "BOOKS", tmp_path / "books.tsv")
    (tmp_path / "books.tsv").write_text("some/one\ta.txt\n")
    (tmp_path / "some+one").mkdir()
    (tmp_path / "some+one" / "a.txt").write_bytes("Évian is naïve".encode(encoding))
    books.prepare(tmp_path, tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text() == "evian is naive\n"


@pytest.fixture
def two_books(monkeypatch, tmp_path):
    """A table of two books in one repository, and the repository as its server sends it."""
    table = tmp_path / "books.tsv"
    table.write_text('some/one\tA/"Quoted" Title.md\nsome/one\tb.xml\n')
    monkeypatch.setattr(books, "BOOKS", table)
    monkeypatch.setattr(books, "COMMITS", {"some/one": "abc"})

    def fetch(url, target, checksum=None):
        assert url == "https://github.com/some/one/archive/abc.tar.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(target, "w:gz") as archive:
            for name, text in {'A/"Quoted" Title.md': "It is so.", "b.xml": "<p>a b c</p>"}.items():
                member = tarfile.TarInfo(f"one-abc/{name}")
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))

    monkeypatch.setattr(download, "download", fetch)


def test_repositories_are_downloaded_once_and_written_as_sentences(two_books, tmp_path, monkeypatch):
    books.obtain(tmp_path / "books")
    assert books.prepare(tmp_path / "books", tmp_path / "out.txt") == (2, 6)
    assert (tmp_path / "out.txt").read_text() == "it is so\na b c\n"
    assert [path.name for path in (tmp_path / "books").iterdir()] == ["some+one"]
    monkeypatch.setattr(download, "download", lambda *_: pytest.fail("it is there"))
    books.obtain(tmp_path / "books")


def test_a_missing_book_is_named_and_no_text_is_left(two_books, tmp_path):
    books.obtain(tmp_path / "books")
    (tmp_path / "books" / "some+one" / "b.xml").unlink()
    with pytest.raises(CorpusError, match=r"b\.xml \(No such file"):
        books.prepare(tmp_path / "books", tmp_path / "out.txt")
    assert not (tmp_path / "out.txt").exists()


def test_the_table_names_repositories_whose_state_is_known():
    rows = [line.split("\t") for line in books.BOOKS.read_text(encoding="utf8").splitlines()]
    assert len(rows) == 2884 == len({tuple(row) for row in rows})
    assert {repository for repository, _ in rows} == set(books.COMMITS)
