"""Files over HTTP: kept, described, listed, handed out and deleted."""

import time
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest

from handler.api.files import LARGEST_DOWNLOAD
from handler.api.pages import LARGEST_PAGE
from handler.kept.files import FileObject, Files, new_id
from handler.kept.storage import storage_of
from tests.functional.batch_place import Place, running_place


@pytest.fixture
def place(aws: str) -> Iterator[Place]:
    with running_place() as place:
        yield place


def test_a_file_is_kept_described_handed_out_and_deleted(place: Place) -> None:
    before = int(time.time())
    file = place.upload(b"\x00\xff one\r\n")
    assert file == {
        "id": file["id"],
        "object": "file",
        "bytes": 8,
        "created_at": file["created_at"],
        "expires_at": None,
        "filename": "requests.jsonl",
        "purpose": "batch",
        "status": "processed",
    }
    assert file["created_at"] in range(before, before + 60)
    path = f"/v1/files/{file['id']}"
    assert place.client.get(path).json() == file
    content = place.client.get(f"{path}/content")
    assert (content.content, content.headers["content-type"]) == (b"\x00\xff one\r\n", "application/octet-stream")
    assert place.client.delete(path).json() == {"id": file["id"], "object": "file", "deleted": True}
    assert place.client.get(path).status_code == place.client.get(f"{path}/content").status_code == 404
    assert list(place.storage.keys("files/")) == []


def test_an_empty_file_is_a_file(place: Place) -> None:
    file = place.upload(b"")
    assert place.client.get(f"/v1/files/{file['id']}/content").content == b""


def test_a_file_that_expired_is_gone(place: Place) -> None:
    file = place.upload(b"one", **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"})
    assert file["expires_at"] == file["created_at"] + 3600
    gone = FileObject(
        id=new_id("file-"), bytes=3, created_at=0, expires_at=int(time.time()), filename="old", purpose="batch"
    )
    Files(place.storage).create(gone, b"one")
    assert place.client.get(f"/v1/files/{gone.id}").status_code == 404
    assert [each["id"] for each in place.client.get("/v1/files").json()["data"]] == [file["id"]]


def test_a_large_file_is_fetched_from_s3_itself(place: Place) -> None:
    content = b"x" * (LARGEST_DOWNLOAD + 1)
    large = FileObject(id=new_id("file-"), bytes=len(content), created_at=0, filename="large", purpose="batch_output")
    Files(place.storage).create(large, content)
    answer = place.client.get(f"/v1/files/{large.id}/content")
    assert answer.status_code == 302
    with urlopen(answer.headers["location"]) as found:
        assert found.read() == content


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_addresses_are_signed_as_every_bucket_accepts_them(monkeypatch: pytest.MonkeyPatch, region: str) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    address = storage_of("results").address("files/contents/file-0", 300)
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in address
    assert "X-Amz-Expires=300" in address


def test_files_are_listed_in_either_order_page_by_page(place: Place) -> None:
    ids = []
    for i in range(5):
        purpose: Any = "batch" if i != 2 else "batch_output"
        ids.append(new_id("file-", at=1_700_000_000 + i))
        file = FileObject(id=ids[-1], bytes=1, created_at=0, filename=str(i), purpose=purpose)
        Files(place.storage).create(file, b"x")

    def listed(**query: Any) -> tuple[list[str], bool]:
        page = place.client.get("/v1/files", params=query).json()
        found = [file["id"] for file in page["data"]]
        assert page == {
            "object": "list",
            "data": page["data"],
            "first_id": found[0] if found else None,
            "last_id": found[-1] if found else None,
            "has_more": page["has_more"],
        }
        return found, page["has_more"]

    assert listed() == (ids[::-1], False)
    assert listed(limit=10_000) == (ids[::-1], False)
    assert listed(limit=2) == ([ids[4], ids[3]], True)
    assert listed(limit=2, after=ids[3]) == ([ids[2], ids[1]], True)
    assert listed(limit=2, after=ids[1]) == ([ids[0]], False)
    assert listed(order="asc", limit=2) == ([ids[0], ids[1]], True)
    assert listed(order="asc", limit=3, after=ids[1]) == ([ids[2], ids[3], ids[4]], False)
    assert listed(purpose="batch_output") == ([ids[2]], False)
    assert listed(purpose="batch", limit=3) == ([ids[4], ids[3], ids[1]], True)


def test_a_page_holds_no_more_than_so_many(place: Place) -> None:
    for i in range(LARGEST_PAGE + 1):
        file = FileObject(id=new_id("file-", at=i), bytes=0, created_at=i, filename="f", purpose="batch")
        place.storage.create(f"files/descriptions/{file.id}.json", file.model_dump_json().encode())
    page = place.client.get("/v1/files").json()
    assert (len(page["data"]), page["has_more"]) == (LARGEST_PAGE, True)


FILE: dict[str, Any] = {"file": ("a.jsonl", b"one")}

# A name that some of Python's encodings make half a surrogate pair of, and one of them nothing at all.
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="+2AA-\\ud800"\r\n\r\none\r\n'
    b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n'
)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"files": FILE}, "`purpose` is required."),
        ({"files": {"other": ("a", b"one")}, "data": {"purpose": "batch"}}, "Unknown field: `other`."),
        ({"data": {"purpose": "batch"}, "files": {"x": ("", b"")}}, "Unknown field: `x`."),
        ({"data": {"purpose": "batch"}}, "`file` is required."),
        ({"data": {"purpose": "batch", "file": "one"}}, "`file` must be a file with a name; given: a text."),
        ({"files": FILE, "data": {"purpose": "vision"}}, "`purpose` must be batch; given: a string of 6 characters."),
        (
            {"files": FILE, "data": {"purpose": "batch", "expires_after[seconds]": "3600"}},
            "`expires_after[anchor]` must be created_at.",
        ),
        (
            {
                "files": FILE,
                "data": {
                    "purpose": "batch",
                    "expires_after[anchor]": "created_at",
                    "expires_after[seconds]": "60",
                },
            },
            "`expires_after[seconds]` must be from 3600 to 2592000; given: 60.",
        ),
        (
            {
                "files": FILE,
                "data": {
                    "purpose": "batch",
                    "expires_after[anchor]": "created_at",
                    "expires_after[seconds]": "soon",
                },
            },
            "`expires_after[seconds]` must be a number.",
        ),
        (
            {
                "files": FILE,
                "data": {
                    "purpose": "batch",
                    "expires_after[anchor]": "created_at",
                    "expires_after[seconds]": "000000003600" + "9" * 5000,
                },
            },
            f"`expires_after[seconds]` must be from 3600 to 2592000; given: 000000003600{'9' * 52}....",
        ),
        *(
            (
                {"content": FORM, "headers": {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}},
                f"The body must be UTF-8; given: the charset `{charset}`.",
            )
            for charset in ("utf-7", "unicode_escape", "undefined")
        ),
        ({"json": {"purpose": "batch"}}, "`file` is required."),
        (
            {"content": b"--x\r\nbroken", "headers": {"content-type": "multipart/form-data"}},
            "The body must be multipart/form-data: Missing boundary in multipart.",
        ),
    ],
)
def test_a_form_that_is_no_file_is_refused(place: Place, sent: dict[str, Any], message: str) -> None:
    answer = place.client.post("/v1/files", **sent)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, message)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"limit": 0}, "`limit`: input should be greater than or equal to 1"),
        ({"limit": 10_001}, "`limit`: input should be less than or equal to 10000"),
        ({"order": "up"}, "`order`: input should be 'asc' or 'desc'"),
        ({"purpose": "vision"}, "`purpose`: input should be 'batch' or 'batch_output'"),
    ],
)
def test_a_list_that_cannot_be_is_refused(place: Place, query: dict[str, Any], message: str) -> None:
    answer = place.client.get("/v1/files", params=query)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(message)
