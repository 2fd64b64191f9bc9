"""Words in a row that a text shares with references, and the text without them."""

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.lm import text
from asr.lm.overlap import References, copy_without

TEXT = """\
It was, he said, the best of times -
it was the worst of times. "Don't go!"

Nothing to see here at all
nothing TO see
"""
DEV = "d-1 THE BEST OF TIMES IT WAS THE WORST\nd-2 DON’T GO HOME\nd-3 see\n\nd-4 GO NOTHING TO SEE\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "book.txt").write_text(TEXT)
    (tmp_path / "dev.txt").write_text(DEV)
    return tmp_path


@pytest.mark.parametrize("size", [1, 5, 1 << 22])
def test_words_are_shared_across_lines_but_not_documents(size, files, monkeypatch):
    monkeypatch.setattr(text, "BLOCK", size)
    references = References([files / "dev.txt"], 3, has_ids=True)
    assert (references.num_sentences, references.num_short) == (3, 1)
    found = list(references.find(files / "book.txt"))
    dev = files / "dev.txt"
    assert [
        (each.first_line, each.last_line, each.document, each.reference, " ".join(each.words)) for each in found
    ] == [
        (1, 2, 0, f"{dev}:1", "the best of times it was the worst"),
        (4, 4, 1, f"{dev}:5", "nothing to see"),
        (5, 5, 1, f"{dev}:5", "nothing to see"),
    ]


def test_without_ids_they_are_words(files):
    assert next(each.words for each in References([files / "dev.txt"], 4).find(files / "dev.txt"))[:2] == ("d", "1")


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=3), min_size=3, max_size=9),
    st.lists(st.lists(st.sampled_from("ab"), min_size=2, max_size=6), max_size=6),
    st.integers(1, 4),
    st.sampled_from([1, 3, 1000]),
)
def test_as_by_all_pairs(tmp_path_factory, lines, references, order, size):
    folder = tmp_path_factory.mktemp("overlap")
    for name, sentences in (("text", lines), ("references", references)):
        (folder / name).write_text("".join(" ".join(sentence) + "\n" for sentence in sentences))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK", size)
        found = list(References([folder / "references"], order).find(folder / "text"))
    documents, words = [[]], []
    for number, line in enumerate(lines, 1):
        documents[-1].extend((number, word) for word in line)
        if not line:
            documents.append([])
    wanted = {tuple(line[i : i + order]) for line in references for i in range(len(line) - order + 1)}
    expected = set()
    for document in documents:
        for i in range(len(document) - order + 1):
            numbers, words = zip(*document[i : i + order], strict=True)
            if words in wanted:
                expected |= set(range(numbers[0], numbers[-1] + 1))
    assert {line for each in found for line in range(each.first_line, each.last_line + 1)} == expected
    grams = {each.words[i : i + order] for each in found for i in range(len(each.words) - order + 1)}
    assert grams <= wanted
    assert bool(grams) == bool(expected)


def test_a_copy_without_lines(files):
    output = files / "out" / "rest.txt.gz"
    assert copy_without(files / "book.txt", output, lambda line, document: line in (1, 5)) == 2
    lines = TEXT.splitlines()
    assert gzip.decompress(output.read_bytes()).decode().splitlines() == lines[1:4]
    assert copy_without(files / "book.txt", files / "rest.txt", lambda line, document: document == 0) == 2
    assert (files / "rest.txt").read_text().splitlines() == lines[2:]


def test_the_command(files, cli):
    book, dev, rest = files / "book.txt", files / "dev.txt", files / "rest.txt"
    code, out, errors = cli("lm", "overlap", book, dev, "--ids", "--order", 3, "--output", rest)
    assert code == 1
    assert out.splitlines() == [
        f"{book}:1\t{dev}:1\tthe best of times it was the worst",
        f"{book}:4\t{dev}:5\tnothing to see",
        f"{book}:5\t{dev}:5\tnothing to see",
    ]
    assert "2 of 3 sentences share 3 words in a row or more with the text, in 3 places; 1 shorter one" in errors
    assert rest.read_text() == "\n"
    assert cli("lm", "overlap", rest, dev, "--ids", "--order", 3)[:2] == (0, "")
    assert cli("lm", "overlap", book, dev, "--ids", "--order", 4, "--output", rest, "--documents")[0] == 1
    assert rest.read_text().splitlines() == TEXT.splitlines()[2:]


def test_what_cannot_be_compared(files, cli):
    code, _, errors = cli("lm", "overlap", files / "book.txt", files / "dev.txt", "--order", 20)
    assert (code, errors) == (
        2,
        "asr: no sentence of the references has 20 words: lower --order, or give other references\n",
    )
    code, _, errors = cli("lm", "overlap", files / "none.txt", files / "dev.txt", "--order", 3)
    assert (code, errors) == (
        2,
        f"asr: cannot read {files / 'none.txt'}: No such file or directory; a text file with a sentence a line\n",
    )
    code, _, errors = cli("lm", "overlap", files / "book.txt", files / "dev.txt", "--documents")
    assert (code, errors) == (2, "asr: --documents must be left out without --output, but it is True\n")
