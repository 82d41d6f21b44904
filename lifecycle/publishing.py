"""The registry's writing side: publish a checkpoint folder as an immutable version, and move an alias onto a version.

A version exists from the moment its manifest does, which is written last and only if there is none; until then its
files are of no consequence, and publishing again completes them. An alias is replaced only if nobody else did since
it was read.
"""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from handler.errors import ConflictError, CorruptModelError, NotInRegistryError
from handler.registry.manifest import Manifest, ManifestFile, version_of
from handler.registry.names import CHUNK_SIZE, MANIFEST, alias_key, file_key
from handler.registry.store import AliasState
from lifecycle.checkpoint import Checkpoint, Provenance, read_checkpoint
from lifecycle.quality import passed_evaluation
from lifecycle.store import WritableStore
from lifecycle.uploading import Progress, put, upload_if_absent


def no_progress(_what: str, _bytes: int) -> None:
    """For whoever does not want to know."""


def publish(
    folder: Path,
    store: WritableStore,
    name: str,
    progress: Progress = no_progress,
    *,
    max_perplexity_rise: float | None = None,
) -> Manifest:
    """Publish a checkpoint folder; the same content is the same version however often and by whomever it is published.

    Args:
        folder: the checkpoint folder.
        store: the bucket.
        name: the model to publish a version of.
        progress: told of the progress; from several threads.
        max_perplexity_rise: how much quantizing may have cost, as a share of the perplexity; by default
            `quality.MAX_PERPLEXITY_RISE`. What it was held to stays in the manifest.

    Returns:
        The version's manifest: the one that is in the registry, where somebody else's was there first.

    Raises:
        InvalidRequestError: `name` cannot name a model, or there is no such folder.
        CorruptModelError: the folder is not sound, or what is published under this version is damaged.
        UnsupportedModelError: something about the model is not implemented.
        QualityError: the weights are quantized, and lost too much by it, or nobody knows how much.
        RegistryError: the bucket does not do as it should, as `s3.translated` lists it.
    """
    checkpoint = read_checkpoint(folder)
    files = describe_files(checkpoint, progress)
    evaluation = passed_evaluation(checkpoint, files, max_perplexity_rise)
    manifest = _manifest(replace(checkpoint.provenance, evaluation=evaluation), checkpoint, name, files)
    for file in files:
        upload_if_absent(store, manifest, file, folder, progress)
    try:
        put(store, file_key(name, manifest.version, MANIFEST), manifest.to_json(), etag=None)
    except ConflictError:
        # Somebody published the same content before or just now. Theirs is the version's manifest.
        return store.manifest(name, manifest.version)
    return manifest


def promote(store: WritableStore, name: str, version: str, alias: str) -> AliasState | None:
    """Move an alias onto a version, which new environments load from then on.

    Returns:
        Where the alias pointed before, or None if it is new.

    Raises:
        NotInRegistryError: the version is not published, or one of its files is gone.
        ConflictError: somebody else moved the alias at the same time; theirs holds.
        CorruptModelError: the version is damaged.
    """
    manifest = store.manifest(name, version)
    for file in manifest.files:
        store.etag(manifest, file)
    try:
        before = store.alias(name, alias)
    except NotInRegistryError:
        before = None
    if before is None or before.version != version:
        try:
            put(store, alias_key(name, alias), version.encode(), etag=before.etag if before else None)
        except ConflictError as error:
            # It may be our own write: S3 did it, its answer was lost, and boto3 asked again.
            if store.alias(name, alias).version == version:
                return before
            raise ConflictError(
                f"{alias} of {name} was moved by somebody else while it was to be moved from"
                f" {before.version if before else 'nothing'} to {version}; nothing was changed. Look where it points"
                " now, and promote again if it still should move"
            ) from error
    return before


def describe_files(checkpoint: Checkpoint, progress: Progress = no_progress) -> tuple[ManifestFile, ...]:
    """The entries of a checkpoint's files in a manifest, ordered; they alone decide its version."""
    return tuple(_describe(checkpoint.folder / path, progress) for path in checkpoint.files)


def _describe(path: Path, progress: Progress) -> ManifestFile:
    whole = hashlib.sha256()
    chunks, size = [], 0
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_SIZE):
            whole.update(chunk)
            chunks.append(hashlib.sha256(chunk).hexdigest())
            size += len(chunk)
            progress("hash", len(chunk))
    if not chunks:
        raise CorruptModelError(f"{path} is empty")
    return ManifestFile(path.name, size, whole.hexdigest(), tuple(chunks))


def _manifest(provenance: Provenance, checkpoint: Checkpoint, name: str, files: tuple[ManifestFile, ...]) -> Manifest:
    return Manifest(
        name=name,
        version=version_of(files),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        source=provenance.source,
        license=provenance.license,
        derived_from=provenance.derived_from,
        architecture=checkpoint.architecture,
        dtype=checkpoint.dtype,
        layout=checkpoint.layout,
        chunk_size=CHUNK_SIZE,
        files=files,
        evaluation=provenance.evaluation,
        training=provenance.training,
    )
