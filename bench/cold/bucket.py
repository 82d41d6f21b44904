"""The models bucket as a folder: published by our own publisher into an embedded S3, then copied object by object."""

from functools import partial
from pathlib import Path

from bench.peers.child import made
from lifecycle.local.cloud import embedded_cloud
from lifecycle.promoting import LIVE, promote
from lifecycle.publishing import publish
from lifecycle.store import WritableStore


def bucket_folder(folder: Path, *models: Path) -> Path:
    """`folder`/BUCKET/KEY for every object of a bucket that holds these checkpoints, each live under its folder's name.

    Args:
        folder: where the bucket's copy is made, once.
        models: checkpoint folders.
    """
    return made(folder, partial(_publish, models))


def mirror(store: WritableStore, folder: Path) -> None:
    """Copy every object of a bucket into `folder`/BUCKET/KEY."""
    pages = store.client.get_paginator("list_objects_v2").paginate(Bucket=store.bucket)
    for key in [item["Key"] for page in pages for item in page.get("Contents", ())]:
        path = folder / store.bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        store.client.download_file(store.bucket, key, str(path))


def _publish(models: tuple[Path, ...], folder: Path) -> None:
    with embedded_cloud() as cloud:
        for model in models:
            manifest = publish(model, cloud.store, model.name)
            promote(cloud.store, manifest.name, manifest.version, LIVE, why="a benchmark", force=True)
        mirror(cloud.store, folder)
