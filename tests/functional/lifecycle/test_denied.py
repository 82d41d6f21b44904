"""A bucket that denies: whichever request it is, the error names the object and the alias stays where it was."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from handler.errors import AccessDeniedError
from lifecycle.aliases import history
from lifecycle.card import model_card
from lifecycle.collecting import collect, find_garbage
from lifecycle.promoting import promote, rollback
from lifecycle.publishing import publish
from lifecycle.store import WritableStore
from tests.checkpoints import checkpoint
from tests.functional.lifecycle.meddling import meddled

LATER = datetime.now(UTC) + timedelta(days=2)

Action = Callable[[WritableStore, list[str], Path], Any]

ACTIONS: dict[str, Action] = {
    "publish": lambda store, _, folder: publish(folder, store, "tiny"),
    "promote": lambda store, versions, _: promote(store, "tiny", versions[0], "live", force=True),
    "rollback": lambda store, versions, _: rollback(store, "tiny", "live"),
    "history": lambda store, versions, _: history(store, "tiny", "live"),
    "card": lambda store, versions, _: model_card(store, "tiny", versions[0]),
    "gc": lambda store, versions, _: collect(store, "tiny", find_garbage(store, "tiny", now=LATER)),
}


def deny() -> None:
    raise ClientError(
        {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}},  # type: ignore[typeddict-item]
        "Anything",
    )


@pytest.mark.parametrize(
    ("action", "method"),
    [
        ("publish", "head_object"),
        ("publish", "put_object"),
        ("promote", "get_object"),
        ("promote", "head_object"),
        ("promote", "put_object"),
        ("rollback", "get_object"),
        ("rollback", "put_object"),
        ("history", "get_object"),
        ("card", "get_object"),
        ("gc", "get_object"),
        ("gc", "delete_object"),
    ],
)
def test_a_bucket_that_denies_is_told_and_nothing_moves(
    store: WritableStore, tmp_path: Path, action: str, method: str
) -> None:
    folders = [checkpoint(tmp_path / f"c{seed}", seed=seed).folder for seed in range(4)]
    versions = [publish(folder, store, "tiny").version for folder in folders[:3]]
    for version in versions[:2]:
        promote(store, "tiny", version, "live", force=True)
    with pytest.raises(
        AccessDeniedError, match=r"s3://models-bucket/models/tiny/.* may not be accessed: S3 answered 403"
    ):
        ACTIONS[action](meddled(store, method, None, deny), versions, folders[3])
    assert store.alias("tiny", "live").version == versions[1]
    assert len(history(store, "tiny", "live")) == 2
    assert set(store.versions("tiny")) == set(versions)
