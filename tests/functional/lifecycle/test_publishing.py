"""Publishing: once and again, half-way, and by two at the same time."""

import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from botocore.exceptions import ConnectionClosedError

from handler.errors import ConflictError, CorruptModelError, InvalidRequestError, RegistryError
from handler.registry.loader import ModelSource
from handler.registry.names import CHUNK_SIZE, MANIFEST, file_key
from lifecycle.checkpoint import Checkpoint
from lifecycle.promoting import promote
from lifecycle.publishing import publish
from lifecycle.store import WritableStore
from tests.checkpoints import checkpoint
from tests.functional.lifecycle.meddling import InterruptedPublisherError, interrupt, meddled


@pytest.fixture
def small(tmp_path: Path) -> Checkpoint:
    return checkpoint(tmp_path / "small")


@pytest.fixture
def large(tmp_path: Path) -> Checkpoint:
    """Of 21 MB, so that its weights are put in three parts."""
    made = checkpoint(tmp_path / "large", n_embd=320, n_layer=4, n_positions=512)
    assert 2 * CHUNK_SIZE < (made.folder / "model.safetensors").stat().st_size < 3 * CHUNK_SIZE
    return made


def objects(store: WritableStore) -> dict[str, str]:
    """Every key in the bucket with its ETag."""
    pages = store.client.get_paginator("list_objects_v2").paginate(Bucket=store.bucket)
    return {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", ())}


def test_what_is_published_and_promoted_is_loaded(store: WritableStore, small: Checkpoint) -> None:
    manifest = publish(small.folder, store, "tiny")
    promote(store, "tiny", manifest.version, "live", force=True)

    model = ModelSource(store.bucket, "tiny", "live").load()
    assert model.manifest == manifest
    assert {path: bytes(data) for path, data in model.files.items()} == {
        path: (small.folder / path).read_bytes() for path in small.files
    }
    assert (manifest.name, manifest.source, manifest.dtype) == ("tiny", "small-source", "F32")
    assert manifest.architecture == small.architecture


def test_a_large_file_is_put_in_parts(store: WritableStore, large: Checkpoint) -> None:
    progress: Counter[str] = Counter()
    manifest = publish(large.folder, store, "large", lambda what, size: progress.update({what: size}))
    weights = next(file for file in manifest.files if file.path == "model.safetensors")
    assert len(weights.chunks) == 3
    assert objects(store)[file_key("large", manifest.version, weights.path)].endswith('-3"')
    total = sum(file.size for file in manifest.files)
    assert progress == {"hash": total, "upload": total}

    promote(store, "large", manifest.version, "live", force=True)
    assert (
        ModelSource(store.bucket, "large", "live").load().files[weights.path]
        == (large.folder / weights.path).read_bytes()
    )


def test_publishing_again_changes_nothing(store: WritableStore, large: Checkpoint) -> None:
    manifest = publish(large.folder, store, "large")
    before = objects(store)
    read_only = meddled(store, "upload_part", 1, interrupt)
    assert publish(large.folder, read_only, "large") == manifest
    assert objects(store) == before


def test_other_content_is_another_version(store: WritableStore, small: Checkpoint, tmp_path: Path) -> None:
    first = publish(small.folder, store, "tiny")
    second = publish(checkpoint(tmp_path / "other", seed=1).folder, store, "tiny")
    assert store.versions("tiny") == sorted([first.version, second.version])
    assert len({first.version, second.version}) == 2


@pytest.mark.parametrize("number", [1, 2, 3, 4])  # config, generation config, tokenizer, manifest
def test_a_half_published_version_is_not_there_until_it_is_completed(
    store: WritableStore, large: Checkpoint, number: int
) -> None:
    with pytest.raises(InterruptedPublisherError):
        publish(large.folder, meddled(store, "put_object", number, interrupt), "large")
    assert store.models() == store.versions("large") == []

    manifest = publish(large.folder, store, "large")
    assert store.versions("large") == [manifest.version]
    promote(store, "large", manifest.version, "live", force=True)
    assert ModelSource(store.bucket, "large", "live").load().manifest == manifest


def test_an_upload_in_parts_goes_on_where_it_broke_off(store: WritableStore, large: Checkpoint) -> None:
    with pytest.raises(InterruptedPublisherError):
        publish(large.folder, meddled(store, "complete_multipart_upload", 1, interrupt), "large")
    (upload,) = store.client.list_multipart_uploads(Bucket=store.bucket)["Uploads"]
    store.client.upload_part(
        Bucket=store.bucket, Key=upload["Key"], UploadId=upload["UploadId"], PartNumber=2, Body=bytes(CHUNK_SIZE)
    )

    sent: list[int] = []
    manifest = publish(large.folder, meddled(store, "upload_part", None, lambda: sent.append(1)), "large")
    assert sent == [1]  # the damaged one
    assert "Uploads" not in store.client.list_multipart_uploads(Bucket=store.bucket)
    promote(store, "large", manifest.version, "live", force=True)
    weights = ModelSource(store.bucket, "large", "live").load().files["model.safetensors"]
    assert weights == (large.folder / "model.safetensors").read_bytes()


def test_an_upload_that_somebody_else_ended_is_begun_anew(store: WritableStore, large: Checkpoint) -> None:
    with pytest.raises(InterruptedPublisherError):
        publish(large.folder, meddled(store, "upload_part", 1, interrupt), "large")
    (upload,) = store.client.list_multipart_uploads(Bucket=store.bucket)["Uploads"]

    def end_it() -> None:
        store.client.abort_multipart_upload(Bucket=store.bucket, Key=upload["Key"], UploadId=upload["UploadId"])

    with pytest.raises(RegistryError, match=upload["Key"]):  # S3 says NoSuchUpload, moto 500
        publish(large.folder, meddled(store, "upload_part", 1, end_it), "large")
    publish(large.folder, store, "large")


def test_two_publishers_may_go_on_with_the_same_upload(store: WritableStore, large: Checkpoint) -> None:
    with pytest.raises(InterruptedPublisherError):
        publish(large.folder, meddled(store, "complete_multipart_upload", 1, interrupt), "large")
    theirs = []
    overtaken = meddled(
        store, "complete_multipart_upload", 1, lambda: theirs.append(publish(large.folder, store, "large"))
    )
    assert [publish(large.folder, overtaken, "large")] == theirs
    assert "Uploads" not in store.client.list_multipart_uploads(Bucket=store.bucket)


KILLED = """
import os, signal, sys
from pathlib import Path
from handler.registry.s3 import s3_client
from lifecycle.publishing import publish
from lifecycle.store import WritableStore
from tests.functional.lifecycle.meddling import meddled

store = WritableStore(s3_client(), "models-bucket")
publish(Path(sys.argv[1]), meddled(store, sys.argv[2], 2, lambda: os.kill(os.getpid(), signal.SIGKILL)), "large")
"""


@pytest.mark.parametrize("method", ["upload_part", "put_object"])
def test_what_a_killed_publisher_leaves_is_completed_by_the_next(
    store: WritableStore, large: Checkpoint, method: str
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(large.folder), method], check=False)
    assert done.returncode == -signal.SIGKILL
    assert store.models() == []

    manifest = publish(large.folder, store, "large")
    promote(store, "large", manifest.version, "live", force=True)
    assert ModelSource(store.bucket, "large", "live").load().manifest == manifest
    assert "Uploads" not in store.client.list_multipart_uploads(Bucket=store.bucket)


def test_a_damaged_object_of_a_version_is_mended_by_publishing_again(store: WritableStore, small: Checkpoint) -> None:
    manifest = publish(small.folder, store, "tiny")
    key = file_key("tiny", manifest.version, "model.safetensors")
    whole = (small.folder / "model.safetensors").read_bytes()
    store.client.put_object(Bucket=store.bucket, Key=key, Body=whole[:-1])
    store.client.delete_object(Bucket=store.bucket, Key=file_key("tiny", manifest.version, "config.json"))

    assert publish(small.folder, store, "tiny") == manifest
    promote(store, "tiny", manifest.version, "live", force=True)
    assert ModelSource(store.bucket, "tiny", "live").load().files["model.safetensors"] == whole


@pytest.mark.parametrize(("method", "number"), [("head_object", 1), ("put_object", 2), ("put_object", 4)])
def test_two_publishers_of_the_same_content_agree(
    store: WritableStore, large: Checkpoint, method: str, number: int
) -> None:
    """One is overtaken by the other: before it began, between two files, just before its manifest."""
    theirs = []
    overtaken = meddled(store, method, number, lambda: theirs.append(publish(large.folder, store, "large")))
    ours = publish(large.folder, overtaken, "large")
    assert [ours] == theirs
    assert store.manifest("large", ours.version) == ours
    assert store.versions("large") == [ours.version]


def test_an_upload_in_parts_that_is_overtaken_is_let_go(store: WritableStore, large: Checkpoint) -> None:
    overtaken = meddled(store, "complete_multipart_upload", 1, lambda: publish(large.folder, store, "large"))
    manifest = publish(large.folder, overtaken, "large")
    assert store.versions("large") == [manifest.version]
    assert "Uploads" not in store.client.list_multipart_uploads(Bucket=store.bucket)


def test_many_publishers_at_once_make_one_version(store: WritableStore, small: Checkpoint) -> None:
    start = Barrier(6)

    def run(_: int) -> str:
        start.wait()
        return publish(small.folder, store, "tiny").to_json().decode()

    with ThreadPoolExecutor(6) as pool:
        manifests = set(pool.map(run, range(6)))
    assert len(manifests) == 1
    assert len(objects(store)) == len(small.files) + 1


def test_an_object_that_somebody_changes_at_the_same_time_is_a_conflict(
    store: WritableStore, small: Checkpoint
) -> None:
    key = file_key("tiny", publish(small.folder, store, "tiny").version, "config.json")
    store.client.delete_object(Bucket=store.bucket, Key=key)
    overtaken = meddled(
        store, "put_object", 1, lambda: store.client.put_object(Bucket=store.bucket, Key=key, Body=b"mine")
    )
    with pytest.raises(ConflictError, match=f"{key} was changed by somebody else"):
        publish(small.folder, overtaken, "tiny")


def test_a_manifest_that_is_damaged_is_told(store: WritableStore, small: Checkpoint) -> None:
    manifest = publish(small.folder, store, "tiny")
    store.client.put_object(Bucket=store.bucket, Key=file_key("tiny", manifest.version, MANIFEST), Body=b"{")
    with pytest.raises(CorruptModelError, match=r"manifest\.json: manifest: not JSON"):
        publish(small.folder, store, "tiny")


def test_a_checkpoint_that_is_not_sound_is_not_published(store: WritableStore, small: Checkpoint) -> None:
    (small.folder / "tokenizer.json").unlink()
    with pytest.raises(CorruptModelError, match=r"tokenizer\.json is missing"):
        publish(small.folder, store, "tiny")
    assert objects(store) == {}


def test_a_name_that_is_none_is_refused(store: WritableStore, small: Checkpoint) -> None:
    with pytest.raises(InvalidRequestError, match=r"name must match .*, not 'Tiny!'"):
        publish(small.folder, store, "Tiny!")
    assert objects(store) == {}


def test_a_bucket_that_does_not_exist_is_told(store: WritableStore, small: Checkpoint) -> None:
    with pytest.raises(RegistryError, match=r"s3://nowhere-at-all/models/tiny/.*NoSuchBucket"):
        publish(small.folder, WritableStore(store.client, "nowhere-at-all"), "tiny")


def test_a_connection_that_breaks_is_told(store: WritableStore, small: Checkpoint) -> None:
    def broken() -> None:
        raise ConnectionClosedError(endpoint_url="https://s3")

    with pytest.raises(RegistryError, match=r"s3://models-bucket/models/tiny/.*the store did not answer as it should"):
        publish(small.folder, meddled(store, "put_object", 1, broken), "tiny")
