"""Documents of files and folders: each by its name, in order, one at a time; what is none is refused by name."""

import json
from pathlib import Path

import pytest

from handler.errors import InvalidRequestError
from lifecycle.data.sources import Document, read_documents


def write_lines(path: Path, *texts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text, "id": 7}) + "\n" for text in texts), encoding="utf-8")


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    write_lines(tmp_path / "b" / "lines.jsonl", "first", "second")
    long = "word " * 120
    book = f"*** START OF THE PROJECT GUTENBERG EBOOK ***\n{long}\n\n\n\n{long}\n*** END OF THE PROJECT GUTENBERG"
    (tmp_path / "a.txt").write_text(book, encoding="utf-8")
    (tmp_path / "c.md").write_text("no text", encoding="utf-8")

    assert list(read_documents(str(tmp_path))) == [
        Document("a.txt#1", long.strip()),
        Document("a.txt#2", long.strip()),
        Document("b/lines.jsonl#1", "first"),
        Document("b/lines.jsonl#2", "second"),
    ]


def test_a_file_is_a_source_and_empty_lines_are_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "one"}\n\n{"text": "two"}', encoding="utf-8")

    assert list(read_documents(str(tmp_path / "x.jsonl"))) == [
        Document("x.jsonl#1", "one"),
        Document("x.jsonl#3", "two"),
    ]


@pytest.mark.parametrize(
    "line", ["{", "[]", "{}", '{"text": 1}', '{"text": null}', '{"text": "\\ud800"}', "[" * 99_999]
)
def test_a_line_that_is_no_document_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "one"}\n' + line, encoding="utf-8")

    with pytest.raises(InvalidRequestError) as raised:
        list(read_documents(str(tmp_path)))
    assert raised.value.message == (
        f"source: x.jsonl#2 must be a JSON object with a string as its `text`, not {line[:80].encode()!r}"
    )


@pytest.mark.parametrize("name", ["nowhere", ".", "notes.md"])
def test_a_source_without_text_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.md").touch()

    with pytest.raises(InvalidRequestError) as raised:
        read_documents(str(tmp_path / name))
    assert raised.value.message == f"source: {tmp_path / name} holds no *.txt or *.jsonl file"


@pytest.mark.parametrize("uri", ["s3://", "s3://B/x", "s3:///x", "s3://a"])
def test_an_address_that_is_none_is_refused(uri: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        read_documents(uri)
    assert raised.value.message == f"source: must be s3://BUCKET/PREFIX, got {uri!r}"
