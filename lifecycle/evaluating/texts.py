"""The texts a model is evaluated on, by their names."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from handler.errors import InvalidRequestError
from lifecycle.data.shards import INDEX
from lifecycle.data.sources import LINES, PLAIN, read_documents


@dataclass(frozen=True, slots=True)
class Text:
    """One file of text.

    Attributes:
        name: the file's name without its suffix; that of a split that `prepare` made follows its folder's.
        sha256: of the file, in hex digits.
        documents: what is in it.
    """

    name: str
    sha256: str
    documents: tuple[str, ...]


def read_texts(paths: Iterable[Path]) -> list[Text]:
    """Read files of plain text or JSON lines, and those of folders.

    Raises:
        InvalidRequestError: there are none, one holds no words, a line is no document, or two have the same name.
    """
    files = [file for path in paths for file in _files(path)]
    texts = [_read(file) for file in files]
    for index, text in enumerate(texts):
        if not any(document.split() for document in text.documents):
            raise InvalidRequestError(f"text: {files[index]} holds no words", param="text")
        if text.name in (other.name for other in texts[:index]):
            raise InvalidRequestError(f"text: two files are called {text.name}, and figures go by names", param="text")
    return texts


def _files(path: Path) -> list[Path]:
    files = [path] if path.is_file() else sorted(path.glob("*"))
    files = [file for file in files if file.suffix in {PLAIN, LINES}]
    if not files:
        raise InvalidRequestError(f"text: {path} is no *{PLAIN} or *{LINES} file, nor a folder of some", param="text")
    return files


def _read(file: Path) -> Text:
    documents = tuple(document.text for document in read_documents(str(file)))
    name = f"{file.parent.name}/{file.stem}" if (file.parent / INDEX).exists() else file.stem
    return Text(name, hashlib.sha256(file.read_bytes()).hexdigest(), documents)
