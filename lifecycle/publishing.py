"""Publish a checkpoint folder as an immutable version.

A version exists from the moment its manifest does, which is written last and only if there is none; until then its
files are of no consequence, and publishing again completes them.
"""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from handler.errors import ConflictError, CorruptModelError
from handler.registry.manifest import Manifest, ManifestFile, version_of
from handler.registry.names import CHUNK_SIZE, MANIFEST, file_key
from lifecycle.checkpoint import Checkpoint, Provenance, read_checkpoint
from lifecycle.evaluations import attach, evaluation_of
from lifecycle.quality import passed_evaluation
from lifecycle.signing import sign
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
    sign_with: str | None = None,
) -> Manifest:
    """Publish a checkpoint folder; the same content is the same version however often and by whomever it is published.

    Args:
        folder: the checkpoint folder.
        store: the bucket.
        name: the model to publish a version of.
        progress: told of the progress; from several threads.
        max_perplexity_rise: how much quantizing may have cost, as a share of the perplexity; by default
            `quality.MAX_PERPLEXITY_RISE`. What it was held to stays in the manifest.
        sign_with: the ARN of a key of KMS to sign the manifest with.

    Returns:
        The version's manifest: the one that is in the registry, where somebody else's was there first.

    Raises:
        InvalidRequestError: `name` cannot name a model, or there is no such folder.
        CorruptModelError: the folder is not sound, or what is published under this version is damaged.
        UnsupportedModelError: something about the model is not implemented.
        QualityError: the weights are quantized, and lost too much by it, or nobody knows how much; or the folder's
            evaluation is one of other bytes.
        ConflictError: it is to be signed, but was published before with a manifest that says something else.
        RegistryError: the bucket does not do as it should, as `s3.translated` lists it, or the key.
    """
    checkpoint = read_checkpoint(folder)
    files = describe_files(checkpoint, progress)
    evaluation = passed_evaluation(checkpoint, files, max_perplexity_rise)
    ours = manifest = _manifest(replace(checkpoint.provenance, evaluation=evaluation), checkpoint, name, files)
    evaluated = evaluation_of(folder, manifest.version)
    for file in files:
        upload_if_absent(store, manifest, file, folder, progress)
    try:
        put(store, file_key(name, manifest.version, MANIFEST), manifest.to_json(), etag=None)
    except ConflictError:
        # Somebody published the same content before or just now. Theirs is the version's manifest.
        manifest = store.manifest(name, manifest.version)
    if sign_with is not None:
        sign(store, ours, sign_with)
    if evaluated is not None:
        attach(store, manifest, evaluated)
    return manifest


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
        data=provenance.data,
        code=provenance.code,
    )
