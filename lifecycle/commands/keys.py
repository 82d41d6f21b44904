"""`lifecycle keys create`, `list` and `revoke`."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer import Argument, Option

if TYPE_CHECKING:
    from lifecycle.keys import KeyRegistry

TableName = Annotated[str, Option("--table", envvar="KEYS_TABLE", help="DynamoDB table of the API keys.")]

app = typer.Typer(help="Hand out API keys, and take them back.", no_args_is_help=True)


@app.command()
def create(
    label: Annotated[str, Argument(help="Whose key it is, or what for.")],
    *,
    table: TableName,
    requests_per_minute: Annotated[int | None, Option(help="Requests it may make in a minute; any number.")] = None,
    tokens_per_day: Annotated[int | None, Option(help="Tokens it may use in a day (UTC); any number.")] = None,
) -> None:
    """Make a key and print it: this once, for only its hash is stored."""
    key, stored = _keys(table).create(label, requests_per_minute=requests_per_minute, tokens_per_day=tokens_per_day)
    Console(stderr=True).print(
        f"key {stored.key_id} for {label}; it cannot be shown again", markup=False, soft_wrap=True
    )
    print(key)  # noqa: T201 (the one word a script reads)


@app.command("list")
def list_(*, table: TableName) -> None:
    """List the keys by their ids; the keys themselves are known to nobody."""
    rows = Table("id", "label", "created", "revoked", "requests/min", "tokens/day")
    for key in _keys(table).list():
        limits = [str(limit or "") for limit in (key.requests_per_minute, key.tokens_per_day)]
        rows.add_row(key.key_id, escape(key.label), key.created_at, key.revoked_at or "", *limits)
    Console().print(rows if rows.row_count else f"{escape(table)} holds no key")


@app.command()
def revoke(key_id: Annotated[str, Argument(help="Id of the key, as `list` shows it.")], *, table: TableName) -> None:
    """Revoke a key: from the next request on it opens nothing."""
    key = _keys(table).revoke(key_id)
    Console().print(f"key {key.key_id} for {key.label} is revoked since {key.revoked_at}", markup=False, soft_wrap=True)


def _keys(table: str) -> "KeyRegistry":
    from lifecycle.keys import KeyRegistry  # noqa: PLC0415

    return KeyRegistry(table)
