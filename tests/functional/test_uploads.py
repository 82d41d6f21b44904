"""Uploads over HTTP: parts in any order become the file that was promised, or an error that says what is wrong."""

import time
from collections.abc import Iterator
from hashlib import md5
from typing import Any

import pytest

from handler.kept.uploads import Upload
from tests.functional.batch_place import Place, running_place


@pytest.fixture
def place(aws: str) -> Iterator[Place]:
    with running_place() as place:
        yield place


def begin(place: Place, size: int = 6, **changes: Any) -> Any:
    body = {"filename": "requests.jsonl", "bytes": size, "mime_type": "application/jsonl", "purpose": "batch"}
    return place.client.post("/v1/uploads", json=body | changes).json()


def add(place: Place, upload_id: str, content: bytes) -> Any:
    return place.client.post(f"/v1/uploads/{upload_id}/parts", files={"data": ("part", content)}).json()


def complete(place: Place, upload_id: str, *part_ids: str, **more: str) -> Any:
    return place.client.post(f"/v1/uploads/{upload_id}/complete", json={"part_ids": part_ids, **more}).json()


def message(answer: Any) -> str:
    said: str = answer["error"]["message"]
    return said


def test_parts_become_the_file_in_the_order_named(place: Place) -> None:
    before = int(time.time())
    upload = begin(place)
    assert upload == {
        "id": upload["id"],
        "object": "upload",
        "bytes": 6,
        "created_at": upload["created_at"],
        "expires_at": upload["created_at"] + 3600,
        "filename": "requests.jsonl",
        "purpose": "batch",
        "status": "pending",
        "file": None,
    }
    assert upload["created_at"] in range(before, before + 60)
    last, first = (add(place, upload["id"], content) for content in (b"\xffef", b"abc"))
    assert first == {
        "id": first["id"],
        "object": "upload.part",
        "created_at": first["created_at"],
        "upload_id": upload["id"],
    }
    checksum = md5(b"abc\xffef").hexdigest()
    done = complete(place, upload["id"], first["id"], last["id"], md5=checksum)
    assert done == upload | {"status": "completed", "file": done["file"]}
    assert place.client.get(f"/v1/files/{done['file']['id']}").json() == done["file"]
    assert (done["file"]["bytes"], done["file"]["filename"]) == (6, "requests.jsonl")
    assert place.client.get(f"/v1/files/{done['file']['id']}/content").content == b"abc\xffef"
    # Asked again, as a client does that never heard the answer, it says the same.
    assert complete(place, upload["id"], first["id"], last["id"]) == done


def test_many_parts_become_a_file(place: Place) -> None:
    upload = begin(place, 40)
    parts = [add(place, upload["id"], bytes([i, i])) for i in range(20)]
    done = complete(place, upload["id"], *(part["id"] for part in parts))
    content = place.client.get(f"/v1/files/{done['file']['id']}/content").content
    assert content == b"".join(bytes([i, i]) for i in range(20))


def test_what_was_not_promised_is_no_file(place: Place) -> None:
    upload = begin(place, 4)
    one, two = (add(place, upload["id"], b"abc")["id"] for _ in range(2))
    other = add(place, begin(place)["id"], b"abc")["id"]
    short, long = complete(place, upload["id"], one), complete(place, upload["id"], one, two)
    assert message(short) == "`part_ids`: the parts must have 4 bytes together; given: 3."
    assert message(long) == "`part_ids`: the parts must have 4 bytes together; given: more."
    assert message(complete(place, upload["id"], one, one)) == "`part_ids`: a part may be named once."
    for foreign in (other, "part_0", "../x"):
        assert message(complete(place, upload["id"], foreign)) == "`part_ids`: there is no such part of this upload."
    exact = add(place, upload["id"], b"abcd")["id"]
    wrong = complete(place, upload["id"], exact, md5="0" * 32)
    assert message(wrong) == "`md5`: the parts put together have another checksum."
    assert place.client.get("/v1/files").json()["data"] == []
    assert complete(place, upload["id"], exact)["status"] == "completed"


def test_an_upload_that_is_over_takes_no_more(place: Place) -> None:
    upload = begin(place, 3)
    path = f"/v1/uploads/{upload['id']}"
    part = add(place, upload["id"], b"abc")
    cancelled = place.client.post(f"{path}/cancel").json()
    assert cancelled == upload | {"status": "cancelled"}
    for answer in (
        add(place, upload["id"], b"abc"),
        complete(place, upload["id"], part["id"]),
        place.client.post(f"{path}/cancel").json(),
    ):
        assert message(answer) == "`upload_id`: this upload is cancelled."

    completed = begin(place, 0)
    complete(place, completed["id"])
    refused = place.client.post(f"/v1/uploads/{completed['id']}/cancel").json()
    assert message(refused) == "`upload_id`: this upload is completed."


def test_an_upload_expires(place: Place) -> None:
    upload = Upload.model_validate(begin(place)).model_copy(update={"id": "upload_old", "expires_at": int(time.time())})
    place.storage.create(f"uploads/states/{upload.id}.json", upload.model_dump_json().encode())
    assert message(add(place, upload.id, b"abc")) == "`upload_id`: this upload is expired."


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bytes": 100_000_001}, "`bytes`: input should be less than or equal to 100000000; given: 100000001."),
        ({"bytes": -1}, "`bytes`: input should be greater than or equal to 0; given: -1."),
        ({"purpose": "vision"}, "`purpose`: input should be 'batch'; given: a string of 6 characters."),
        ({"filename": ""}, "`filename`: string should have at least 1 character; given: an empty string."),
        ({"colour": 1}, "Unknown field: `colour`."),
    ],
)
def test_an_upload_that_cannot_be_is_refused(place: Place, change: dict[str, Any], said: str) -> None:
    assert message(begin(place, **change)) == said


def test_there_is_no_such_upload(place: Place) -> None:
    for answer in (add(place, "upload_0", b"a"), complete(place, "upload_0"), complete(place, "x" * 2000)):
        assert (message(answer), answer["error"]["code"]) == ("There is no such upload.", "not_found")


def test_a_file_that_is_too_large_for_a_body_is_sent_to_uploads(place: Place) -> None:
    refused = place.upload(b"x" * 1_000_000)
    assert message(refused).startswith("The body may have at most 1000000 bytes; given: at least 1000")
    assert message(refused).endswith(" /v1/uploads takes larger files, in parts.")
