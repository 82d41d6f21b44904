"""Reading books: boilerplate, wrapping, chapters, encodings, and which books are held out."""

from pathlib import Path

import pytest

from handler.errors import InvalidRequestError
from lifecycle.training.corpus import Book, hold_out, read_books, split_documents, strip_boilerplate, unwrap

LONG = "word " * 120


def test_paragraphs_become_lines_and_verse_keeps_its_breaks() -> None:
    wrapped = "He came.  He\nsaw, and\nhe went.\n\n     There's a garden\n     that I ken;\n\n\tShe said:\nno."

    assert unwrap(wrapped) == "He came. He saw, and he went.\n\nThere's a garden\nthat I ken;\n\nShe said: no."


@pytest.mark.parametrize(
    "raw",
    [
        "Licence.\n*** START OF THE PROJECT GUTENBERG EBOOK EMMA ***\nEmma was rich.\n*** END OF THE PROJECT GUTENBERG",
        "[Emma by Jane Austen 1816]\nEmma was rich.\nEnd of Project Gutenberg's Emma, by Jane Austen\nLicence.",
        "[Emma by Jane Austen 1816]\n\nEmma was rich.",
    ],
)
def test_boilerplate_is_cut(raw: str) -> None:
    assert strip_boilerplate(raw).strip() == "Emma was rich."


def test_wide_gaps_separate_documents_and_headings_stay_with_their_chapter() -> None:
    text = f"VOLUME I\n\n\nCHAPTER I\n\n\n{LONG}\n\n\n\nCHAPTER II\n\n{LONG}\n\n\nFINIS\n"

    assert split_documents(text) == [
        f"VOLUME I\n\nCHAPTER I\n\n{LONG.strip()}",
        f"CHAPTER II\n\n{LONG.strip()}\n\nFINIS",
    ]


def test_a_short_text_is_one_document() -> None:
    assert split_documents("One line.\n\n\n\nAnother.") == ["One line.\n\nAnother."]


def test_books_are_read_in_the_order_of_their_names_whatever_their_encoding(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes("Café.\r\nNoir.".encode("latin-1"))
    (tmp_path / "a.txt").write_bytes("Café.\nNoir.".encode())
    (tmp_path / "notes.md").write_text("not a book", encoding="utf-8")

    assert read_books(tmp_path) == [Book("a", ("Café. Noir.",)), Book("b", ("Café. Noir.",))]


def test_whole_books_are_held_out() -> None:
    books = [Book(name, (name,)) for name in "abc"]

    assert hold_out(books, ["c", "a", "c"]) == ([books[1]], [books[2], books[0]])


@pytest.mark.parametrize("missing", [True, False])
def test_a_folder_without_texts_is_refused(tmp_path: Path, missing: bool) -> None:
    folder = tmp_path / "nowhere" if missing else tmp_path

    with pytest.raises(InvalidRequestError) as raised:
        read_books(folder)

    assert raised.value.message == f"texts: {folder} is not a folder with at least one *.txt file in it"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "hold-out: name at least one book to evaluate on, of: a, b"),
        (["emma"], "hold-out: no book is called 'emma'; there are: a, b"),
        (["a", "b"], "hold-out: all of a, b are held out, so none is left to train on"),
    ],
)
def test_a_hold_out_that_cannot_be_is_refused(names: list[str], message: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        hold_out([Book("a", ("a",)), Book("b", ("b",))], names)

    assert (raised.value.message, raised.value.param) == (message, "hold-out")
