"""Books from a folder of plain text files: publishers' boilerplate cut, lines unwrapped, chapters told apart.

The files of Project Gutenberg are wrapped at some 70 columns and wear legal text at both ends. A model trained on
them as they are learns to break lines and to recite licences; here each file becomes a list of documents (chapters,
mostly) in which a paragraph is one line, so that what the model writes reads as prose.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from handler.errors import InvalidRequestError

# Where the book itself starts and ends, in the markers of the last thirty years.
_START = re.compile(r"^\*\*\* ?START OF TH(?:E|IS) PROJECT GUTENBERG.*$", re.IGNORECASE | re.MULTILINE)
_END = re.compile(
    r"^(?:\*\*\* ?END OF TH(?:E|IS) PROJECT GUTENBERG|End of (?:the )?Project Gutenberg).*",
    re.IGNORECASE | re.MULTILINE,
)
_CATALOGUE_LINE = re.compile(r"\A\s*\[[^\]]+\]\s*\n")
_SHORTEST_DOCUMENT = 500  # characters: less between two wide gaps is a heading or a title page


@dataclass(frozen=True, slots=True)
class Book:
    """One file of the corpus.

    Attributes:
        name: the file's name without its suffix.
        documents: the book's chapters, or whatever else wide gaps separate, in reading order.
    """

    name: str
    documents: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole book."""
        return "\n\n".join(self.documents)


def read_books(folder: Path) -> list[Book]:
    """Read every `*.txt` file of a folder, in the order of their names; UTF-8, or else Latin-1.

    Raises:
        InvalidRequestError: the folder does not exist or holds no text file.
    """
    paths = sorted(folder.glob("*.txt")) if folder.is_dir() else []
    if not paths:
        raise InvalidRequestError(f"texts: {folder} is not a folder with at least one *.txt file in it", param="texts")
    return [_read_book(path) for path in paths]


def read_texts(path: Path) -> list[Book]:
    """Read one text file, or every `*.txt` file of a folder.

    Raises:
        InvalidRequestError: there is neither.
    """
    return [_read_book(path)] if path.is_file() else read_books(path)


def _read_book(path: Path) -> Book:
    return Book(path.stem, tuple(book_documents(path.read_bytes())))


def book_documents(raw: bytes) -> list[str]:
    """The documents of a plain-text file, without boilerplate; UTF-8, or else Latin-1."""
    return split_documents(strip_boilerplate(_decode(raw)))


def _decode(raw: bytes) -> str:
    """Text in UTF-8, or else in Latin-1, the encoding of Project Gutenberg's older files."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text.replace("\r\n", "\n")


def hold_out(books: Sequence[Book], names: Sequence[str]) -> tuple[list[Book], list[Book]]:
    """Split whole books into those trained on and those held out.

    Raises:
        InvalidRequestError: no book is held out, a name is no book's, or no book would be left to train on.
    """
    by_name: Mapping[str, Book] = {book.name: book for book in books}
    known = ", ".join(by_name)
    if not names:
        raise InvalidRequestError(f"hold-out: name at least one book to evaluate on, of: {known}", param="hold-out")
    for name in names:
        if name not in by_name:
            raise InvalidRequestError(f"hold-out: no book is called {name!r}; there are: {known}", param="hold-out")
    training = [book for book in books if book.name not in names]
    if not training:
        raise InvalidRequestError(
            f"hold-out: all of {known} are held out, so none is left to train on", param="hold-out"
        )
    return training, [by_name[name] for name in dict.fromkeys(names)]


def strip_boilerplate(raw: str) -> str:
    """Cut what stands before the start marker and after the end marker, and a catalogue line in brackets at the top."""
    if start := _START.search(raw):
        raw = raw[start.end() :]
    if end := _END.search(raw):
        raw = raw[: end.start()]
    return _CATALOGUE_LINE.sub("", raw)


def split_documents(text: str) -> list[str]:
    """Split a book at gaps of two or more empty lines and unwrap each part; headings stay with what they head."""
    documents: list[str] = []
    heading = ""
    for part in re.split(r"\n(?:[ \t]*\n){2,}", text):
        heading = f"{heading}\n\n{unwrap(part)}".strip()
        if len(heading) >= _SHORTEST_DOCUMENT:
            documents.append(heading)
            heading = ""
    if heading and documents:
        documents[-1] = f"{documents[-1]}\n\n{heading}"
    elif heading:
        documents.append(heading)
    return documents


def unwrap(text: str) -> str:
    """Make each paragraph one line, and one space of every run of spaces; an indented line (verse) keeps its break."""
    paragraphs = []
    for paragraph in re.split(r"\n[ \t]*\n", text):
        joined = re.sub(r"\s*\n(?! {2,})", " ", paragraph.rstrip())
        paragraphs.append("\n".join(" ".join(line.split()) for line in joined.splitlines()).strip())
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
