"""A published version as a checkpoint folder again, every byte of it checked, to be trained further or evaluated."""

from dataclasses import asdict
from pathlib import Path

from handler.errors import InvalidRequestError
from handler.registry.loader import ModelSource
from handler.registry.s3 import s3_client
from lifecycle.checkpoint import PROVENANCE, Provenance, write_json
from lifecycle.folders import complete_or_absent
from lifecycle.store import WritableStore

CACHE = Path(".cache/published")


def checkpoint_folder(source: str, bucket: str | None) -> Path:
    """The checkpoint folder of a source.

    Args:
        source: a folder, or NAME@ALIAS of a published version, which is fetched if it was not before.
        bucket: the models bucket, needed for the latter.

    Raises:
        InvalidRequestError: it is neither, or the bucket is not named.
        RegistryError: the version is not there, is damaged or is not handed out.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    name, at, alias = source.partition("@")
    if not at:
        raise InvalidRequestError(f"{source} is neither a folder nor NAME@ALIAS of a published model", param="source")
    if not bucket:
        raise InvalidRequestError(f"bucket: {source} lies in a bucket; name it with --bucket", param="bucket")
    state = WritableStore(s3_client(attempts=5), bucket).alias(name, alias)
    out = CACHE / name / state.version
    return out if out.is_dir() else _fetched(ModelSource(bucket, name, alias), CACHE / name)


def _fetched(source: ModelSource, into: Path) -> Path:
    """The folder of the version that the alias points to by now, which may be another one."""
    model = source.load()
    manifest = model.manifest
    out = into / manifest.version
    if out.is_dir():
        return out
    with complete_or_absent(out) as new:
        for path, data in model.files.items():
            (new / path).write_bytes(data)
        provenance = Provenance(
            manifest.source,
            manifest.license,
            manifest.derived_from,
            manifest.evaluation,
            manifest.training,
            manifest.data,
            manifest.code,
        )
        write_json(new / PROVENANCE, asdict(provenance))
    return out
