"""A function that says what becomes of it: imported by the runtime under test, its hooks registered."""

import os

from mangum.types import Receive, Scope, Send
from snapshot_restore_py import register_after_restore, register_before_snapshot

if os.environ.get("FAIL_AT") == "init":
    raise ValueError("The function cannot be initialised.")

seen: list[str] = []


def before() -> None:
    """Fails if it is told to."""
    seen.append("before")
    if os.environ.get("FAIL_AT") == "before":
        raise ValueError("There can be no snapshot.")


def after() -> None:
    """Fails if it is told to."""
    seen.append("after")
    if os.environ.get("FAIL_AT") == "after":
        raise ValueError("It cannot be restored.")


register_before_snapshot(before)
register_after_restore(after)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Says which hooks have been called."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": " ".join(seen).encode()})
