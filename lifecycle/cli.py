"""The command line of a model's life: `lifecycle --help` lists its words, in the order they are used.

Commands import what they need when they run, so that help is there at once.
"""

import sys

import typer
from rich.console import Console

from handler.errors import ServiceError
from lifecycle.commands import keys, models, registry
from lifecycle.commands.deploy import deploy
from lifecycle.commands.destroy import destroy
from lifecycle.commands.doctor import doctor
from lifecycle.commands.evaluate import compare, evaluate
from lifecycle.commands.plan import plan
from lifecycle.commands.prepare import prepare
from lifecycle.commands.train import train

app = typer.Typer(
    help="Prepare texts; import, train, evaluate, quantize, publish, promote and take back models; plan and deploy "
    "stacks; hand out API keys.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("import")(models.import_)
app.command("prepare")(prepare)
app.command("train")(train)
app.command("evaluate")(evaluate)
app.command("compare")(compare)
app.command("quantize")(models.quantize)
app.command("publish")(models.publish)
app.command("promote")(registry.promote)
app.command("rollback")(registry.rollback)
app.command("list")(models.list_)
app.command("history")(registry.history)
app.command("card")(registry.card)
app.command("gc")(registry.gc)
app.command("plan")(plan)
app.command("doctor")(doctor)
app.command("deploy")(deploy)
app.command("destroy")(destroy)
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Run a command; whatever a person can mend is told in one line, with exit status 1."""
    try:
        app()
    except ServiceError as error:
        _fail(error.message)
    except OSError as error:  # a full disk, a folder that may not be written to
        _fail(str(error))


def _fail(message: str) -> None:
    Console(stderr=True, soft_wrap=True).print("error:", message, style="red", markup=False, highlight=False)
    sys.exit(1)
