"""Small versions for tests: a manifest for any files, and putting them into a bucket by hand."""

import hashlib
from collections.abc import Mapping

from handler.registry.manifest import Architecture, Manifest, ManifestFile, version_of
from handler.registry.names import MANIFEST, alias_key, file_key
from lifecycle.store import WritableStore

CHUNK_SIZE = 4096


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def manifest_of(files: Mapping[str, bytes], name: str = "gpt2") -> Manifest:
    """The manifest of a version that consists of these files."""
    entries = tuple(
        ManifestFile(
            path,
            len(data),
            sha256(data),
            tuple(sha256(data[start : start + CHUNK_SIZE]) for start in range(0, len(data), CHUNK_SIZE)),
        )
        for path, data in sorted(files.items())
    )
    return Manifest(
        name=name,
        version=version_of(entries),
        created="2026-11-24T12:00:00+00:00",
        source="openai-community/gpt2@607a30d783dfa663caf39e06633721c8d4cfcd7e",
        license="mit",
        derived_from=None,
        architecture=Architecture("gpt2", 12, 12, 768, 1024, 50257, 124439808),
        dtype="F32",
        layout=None,
        chunk_size=CHUNK_SIZE,
        files=entries,
        evaluation={"perplexity": 29.4},
        training={},
    )


def put_version(store: WritableStore, files: Mapping[str, bytes], name: str = "gpt2", alias: str = "live") -> Manifest:
    """Put a version into the bucket, and an alias onto it."""
    manifest = manifest_of(files, name)
    for path, data in files.items():
        store.client.put_object(Bucket=store.bucket, Key=file_key(name, manifest.version, path), Body=data)
    key = file_key(name, manifest.version, MANIFEST)
    store.client.put_object(Bucket=store.bucket, Key=key, Body=manifest.to_json())
    store.client.put_object(Bucket=store.bucket, Key=alias_key(name, alias), Body=manifest.version.encode())
    return manifest
