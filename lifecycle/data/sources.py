"""Where text comes from: a file, a folder or a prefix in S3, of plain text (`*.txt`) and JSON lines (`*.jsonl`).

A plain-text file is read whole and told apart at wide gaps, as `training.corpus` does it with books. JSON lines are
read one at a time, each an object whose `text` is a document, so that they may be of any length. Nothing else is
held, and the order is that of the names: the same source always is the same documents in the same order.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from handler.errors import InvalidRequestError
from lifecycle.data.prefix import SCHEME, S3Prefix
from lifecycle.training.corpus import book_documents

PLAIN, LINES = ".txt", ".jsonl"


@dataclass(frozen=True, slots=True)
class Document:
    """One text of a source.

    Attributes:
        name: its file, and its number in there, from 1: of JSON lines the line.
        text: the text as it was found.
    """

    name: str
    text: str


def read_documents(source: str) -> Iterator[Document]:
    """Every document of a source, one after the other.

    Args:
        source: a `*.txt` or `*.jsonl` file, a folder that holds some at any depth, or `s3://BUCKET/PREFIX`.

    Raises:
        InvalidRequestError: there is no text there, or a line is no JSON object with a `text`; the message names it.
        RegistryError: S3 does not hand it out.
    """
    if source.startswith(SCHEME):
        return _read_prefix(S3Prefix.parse(source, "source"))
    path = Path(source).expanduser()
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    files = [file for file in files if file.suffix in {PLAIN, LINES}]
    if not files:
        raise _nothing(source)
    return _read_files(files, path if path.is_dir() else path.parent)


def _read_files(files: list[Path], root: Path) -> Iterator[Document]:
    for file in files:
        with file.open("rb") as stream:
            name = file.relative_to(root).as_posix()
            yield from _read_lines(name, stream) if file.suffix == LINES else _read_plain(name, stream.read())


def _read_prefix(prefix: S3Prefix) -> Iterator[Document]:
    found = False
    for key in prefix.keys():  # noqa: SIM118 (no mapping)
        if not key.endswith((PLAIN, LINES)):
            continue
        found, name = True, key[prefix.prefix.rfind("/") + 1 :]
        with prefix.open(key) as body:
            yield from _read_lines(name, body.iter_lines()) if key.endswith(LINES) else _read_plain(name, body.read())
    if not found:
        raise _nothing(f"{SCHEME}{prefix.bucket}/{prefix.prefix}")


def _read_plain(name: str, raw: bytes) -> Iterator[Document]:
    return (Document(f"{name}#{number}", text) for number, text in enumerate(book_documents(raw), 1))


def _read_lines(name: str, lines: Iterable[bytes]) -> Iterator[Document]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{name}#{number}"
        try:
            value = json.loads(line)
            text = value["text"]
            text.encode()
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
            raise InvalidRequestError(
                f"source: {where} must be a JSON object with a string as its `text`, not {line[:80]!r}", param="source"
            ) from error
        yield Document(where, text)


def _nothing(source: str) -> InvalidRequestError:
    return InvalidRequestError(f"source: {source} holds no *{PLAIN} or *{LINES} file", param="source")
