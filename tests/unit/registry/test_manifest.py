"""Manifests: written and read back whole, and refused for every single thing that can be wrong with them."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from handler.errors import CorruptModelError
from handler.registry.manifest import Manifest, version_of
from tests.manifests import CHUNK_SIZE, manifest_of, sha256

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 40}  # of one chunk and of three


def document() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(manifest_of(FILES).to_json())
    return loaded


def test_what_is_written_is_read_back() -> None:
    manifest = manifest_of(FILES)
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert [len(file.chunks) for file in manifest.files] == [1, -(-10240 // CHUNK_SIZE)]


def test_a_manifest_from_before_lineage_was_noted_is_read() -> None:
    older = document()
    del older["data"], older["code"]
    assert Manifest.from_json(json.dumps(older).encode()) == manifest_of(FILES)


def test_a_version_is_the_digest_of_paths_sizes_and_hashes_in_any_order() -> None:
    files = manifest_of(FILES).files
    canonical = json.dumps([[f.path, f.size, f.sha256, f.chunks] for f in files], separators=(",", ":"))
    assert version_of(files) == version_of(reversed(files)) == "v" + sha256(canonical.encode())[:16]
    assert version_of(files) != version_of(files[:1])


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set what lies under a dotted path; None removes it."""

    def apply(manifest: dict[str, Any]) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        target: Any = manifest
        for part in parents:
            target = target[part]
        if value is None:
            del target[last]
        else:
            target[last] = value

    return apply


def add_again(manifest: dict[str, Any]) -> None:
    manifest["files"].append(manifest["files"][-1])


def swap(manifest: dict[str, Any]) -> None:
    manifest["files"].reverse()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change("schema", 2), "schema is 2, and only 1 is known"),
        (change("schema", "1"), "schema must be of type int"),
        (change("schema", 1.0), "schema must be of type int"),
        (change("name", None), "name is missing"),
        (change("name", "../gpt2"), "name must be the name of a model"),
        (change("version", "live"), "version must be the digest of the files"),
        (change("version", "v0123456789abcdef"), "version must be the digest of the files"),
        (change("created", "yesterday"), "created must be a time in UTC"),
        (change("created", "2026-11-24T12:00:00+01:00"), "created must be a time in UTC"),
        (change("created", "2026-11-24T12:00:00"), "created must be a time in UTC"),
        (change("source", 7), "source must be of type str"),
        (change("license", 7), "license must be of type str or NoneType"),
        (change("evaluation", []), "evaluation must be of type dict"),
        (change("data", []), "data must be of type dict"),
        (change("code", 7), "code must be of type str or NoneType"),
        (change("chunk_size", 0), "chunk_size must be between 1 and"),
        (change("chunk_size", 1 << 40), "chunk_size must be between 1 and"),
        (change("architecture", "gpt2"), "architecture must be of type dict"),
        (change("architecture.layers", None), r"architecture\.layers is missing"),
        (change("architecture.width", 0), r"architecture\.width must be between 1 and"),
        (change("architecture.colour", "red"), r"unknown fields \['architecture.colour'\]"),
        (change("notes", "hello"), r"unknown fields \['notes'\]"),
        (change("files", []), "files must be one or more"),
        (change("files", {}), "files must be of type list"),
        (change("files.0", "config.json"), r"files\[0\] must be an object"),
        (change("files.0.path", "../config.json"), "path of a file must be a plain file name"),
        (change("files.0.path", "/etc/passwd"), "path of a file must be a plain file name"),
        (change("files.0.path", "a/b.json"), "path of a file must be a plain file name"),
        (change("files.0.path", ".."), "path of a file must be a plain file name"),
        (change("files.0.path", "manifest.json"), "path of a file must be a plain file name"),
        (change("files.0.size", 0), r"files\[0\]\.size must be between 1"),
        (change("files.0.size", 3), "version must be the digest of the files"),
        (change("files.0.size", 2.0), r"files\[0\]\.size must be of type int"),
        (change("files.0.sha256", "0" * 63), "hashes of config.json must be 64 hex digits each"),
        (change("files.0.sha256", "0" * 64), "the one chunk of config.json must have the file's hash"),
        (change("files.0.chunks", [7]), "hashes of config.json must be 64 hex digits each"),
        (change("files.1.sha256", "0" * 64), "version must be the digest of the files"),
        (change("files.1.chunks.2", "0" * 64), "version must be the digest of the files"),
        (change("files.1.chunks.2", None), "chunks of model.safetensors must be 3 for 10240 bytes, not 2"),
        (change("files.0.mode", 420), r"unknown fields \['files\[0\].mode'\]"),
        (add_again, "files must be one or more, ordered by path, each path once"),
        (swap, "files must be one or more, ordered by path, each path once"),
    ],
)
def test_whatever_is_wrong_is_named(spoil: Callable[[dict[str, Any]], None], message: str) -> None:
    manifest = document()
    spoil(manifest)
    with pytest.raises(CorruptModelError, match=message):
        Manifest.from_json(json.dumps(manifest).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"\xff{}", b"[]", b"null", b"[" * 100_000, repr(document()).encode()])
def test_what_is_not_a_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptModelError, match="manifest: "):
        Manifest.from_json(data)
