"""`lifecycle promote`, `rollback`, `history`, `card` and `gc`: what is done with versions that are published."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from typer import Argument, Option

from handler.errors import InvalidRequestError
from lifecycle.commands.bucket import Bucket, open_store

if TYPE_CHECKING:
    from lifecycle.aliases import Move

Name = Annotated[str, Argument(help="Name of the model.")]
Version = Annotated[str, Argument(help="Version, as `publish` printed it.")]
Alias = Annotated[str, Option(help="The alias.")]
Why = Annotated[str, Option(help="The reason, for the history.")]


def promote(
    name: Name,
    version: Version,
    *,
    alias: Alias = "live",
    bucket: Bucket,
    why: Why = "",
    max_perplexity_rise: Annotated[
        float,
        Option(help="How much the perplexity per word of a text may rise over the live version's, 0.01 being 1 %."),
    ] = 0.01,
    force: Annotated[
        bool, Option("--force", help="Move the alias even if the version was not evaluated or is worse; noted.")
    ] = False,
    wait: Annotated[
        str | None, Option(metavar="URL", help="Address of the service: wait until the version answers there.")
    ] = None,
    alarm: Annotated[
        list[str] | None,
        Option(help="With --wait: CloudWatch alarm that takes the alias back if it fires in time. Repeatable."),
    ] = None,
    seconds: Annotated[float, Option(min=1, help="How long to wait; with alarms, to watch them.")] = 600,
) -> None:
    """Move an alias onto a published version; running environments follow it, and new ones load it.

    The version must have been evaluated, and must be no worse than the live one on the texts both were evaluated on.
    """
    from lifecycle.promoting import promote as run  # noqa: PLC0415
    from lifecycle.watching import Watch  # noqa: PLC0415

    store = open_store(bucket)
    if alarm and wait is None:
        raise InvalidRequestError("alarm needs --wait, the address at which the version arrives", param="alarm")
    watch = None if wait is None else Watch(wait, alarm or (), seconds)
    if watch is not None:
        watch.check()
    move = run(store, name, version, alias, why=why, max_rise=max_perplexity_rise, force=force)
    if move is None:
        _say(f"{alias} of {name} points to {version} already")
        return
    _say_moved(name, alias, move)
    if watch is not None:
        watch.until_arrived(store, name, alias, move, lambda now: _say(f"{wait} answers with {now or 'no version'}"))
        _say(f"{version} has arrived")


def rollback(name: Name, *, alias: Alias = "live", bucket: Bucket, why: Why = "") -> None:
    """Move an alias back onto the version that was promoted before."""
    from lifecycle.promoting import rollback as run  # noqa: PLC0415

    _say_moved(name, alias, run(open_store(bucket), name, alias, why=why))


def history(name: Name, *, alias: Alias = "live", bucket: Bucket) -> None:
    """List every move of an alias: when, by whom, from where to where, and why."""
    from lifecycle.aliases import history as run  # noqa: PLC0415

    headers = ("when", "by", "what", "from", "to", "why", "the gate")
    table = Table(*(Column(header, no_wrap=header in {"from", "to"}, overflow="fold") for header in headers))
    for move in run(open_store(bucket), name, alias):
        said = f"FORCED: {move.verdict}" if move.forced else move.verdict
        cells = (move.at, move.by, move.action, move.before or "nothing", move.version, move.why, said)
        table.add_row(*map(Text, cells))
    Console().print(table if table.row_count else Text(f"{alias} of {name} has no history"))


def card(name: Name, version: Version, *, bucket: Bucket) -> None:
    """Print a version's model card, in Markdown."""
    from lifecycle.card import model_card  # noqa: PLC0415

    print(model_card(open_store(bucket), name, version), end="")  # noqa: T201 (goes into a file)


def gc(
    name: Name,
    *,
    bucket: Bucket,
    keep: Annotated[int, Option(min=1, help="Versions to keep of each alias's history.")] = 3,
    dry_run: Annotated[bool, Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove the versions that no alias needs, and what interrupted publications have left.

    Nothing goes that was written, or that an alias pointed to, within the last day.
    """
    from lifecycle.collecting import collect, find_garbage  # noqa: PLC0415

    store = open_store(bucket)
    garbage = find_garbage(store, name, keep)
    for version, reason in garbage.kept.items():
        _say(f"stays: {version} ({reason})")
    for version in garbage.versions:
        _say(f"goes: {version}")
    for version in garbage.unfinished:
        _say(f"goes: {version} (never published to its end)")
    for key, _ in garbage.uploads:
        _say(f"goes: an unfinished upload of {key}")
    if garbage.is_empty:
        _say("there is nothing to remove")
    elif not dry_run and (yes or typer.confirm("Remove it?", abort=True)):
        for version in collect(store, name, garbage):
            _say(f"stays after all: {version} (an alias was moved onto it)")


def _say_moved(name: str, alias: str, move: "Move") -> None:
    _say(f"{alias} of {name}: {move.before or 'nothing'} -> {move.version}")
    if move.verdict:
        _say(f"{'FORCED, although ' if move.forced else ''}{move.verdict}")


def _say(text: str) -> None:
    Console().print(text, soft_wrap=True, highlight=False, markup=False)
