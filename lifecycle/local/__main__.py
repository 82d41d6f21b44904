"""`python -m lifecycle.local`: what `make run`, `make invoke` and the targets beside them call."""

import sys
from pathlib import Path
from typing import Annotated

from rich.console import Console
from typer import Argument, Option, Typer

from handler.errors import ServiceError
from lifecycle.local import containers
from lifecycle.local.cloud import embedded_cloud
from lifecycle.local.invoke import emulated_function
from lifecycle.local.invoke import invoke as send
from lifecycle.local.life import live
from lifecycle.local.models import publish_source
from lifecycle.local.serve import serve as run_server

cli = Typer(help=__doc__, no_args_is_help=True, add_completion=False)
console = Console(stderr=True, highlight=False, soft_wrap=True)

Event = Annotated[Path, Argument(exists=True, dir_okay=False, help="A file that holds one event as JSON.")]
Model = Annotated[str, Option(help="`demo`, a folder with a checkpoint, or a name on the Hugging Face hub.")]


@cli.command()
def serve(model: Model = "gpt2", port: Annotated[int, Option(min=1, max=65535)] = 8000) -> None:
    """Serve a model over HTTP until interrupted."""
    sys.exit(run_server(model, port, console))


@cli.command()
def stream(model: Model = "gpt2", port: Annotated[int, Option(min=1, max=65535)] = 8000) -> None:
    """Serve a model the way the streaming function does on Lambda, behind its function URL, until interrupted."""
    sys.exit(run_server(model, port, console, "function"))


@cli.command()
def container(model: Model = "gpt2", port: Annotated[int, Option(min=1, max=65534)] = 8000) -> None:
    """Serve a model as the process of the container does, its metrics at the next free port, until interrupted."""
    sys.exit(run_server(model, port, console, "container"))


@cli.command()
def batch(
    file: Annotated[Path, Argument(exists=True, dir_okay=False, help="Requests in OpenAI's batch format, one a line.")],
    model: Model = "demo",
    out: Annotated[Path | None, Option(help="Where the answers go; FILE.answers.jsonl unless given.")] = None,
) -> None:
    """Answer a file of requests, as the state machine for bulk does on AWS."""
    from lifecycle.local.batch import answer_file  # noqa: PLC0415 - moto's interpreter takes seconds to import

    answers = out or Path(f"{file.stem}.answers.jsonl")
    result = answer_file(file, model, answers, console)
    errors = f": {answers.with_suffix('.errors.jsonl')}" if result["errors"] else "."
    console.print(f"{result['completed']} answered, {result['failed']} with an error{errors}", markup=False)
    if result["output"]:
        print(answers)  # noqa: T201 (the one word a script reads)


@cli.command()
def life(
    texts: Annotated[
        Path | None, Option(help="Folder of *.txt books, two or more; the last one is the other author.")
    ] = None,
) -> None:
    """Take a tiny model through its whole life, from texts to a rollback, command by command."""
    live(texts, console)


@cli.command()
def invoke(event: Event, model: Model = "demo") -> None:
    """Send an event to the function under Lambda's runtime interface emulator and print the answer."""
    with embedded_cloud() as cloud:
        name = publish_source(model, cloud.store, console)
        with emulated_function(cloud.environment(name)) as address:
            answer = send(address, event.read_bytes())
    sys.stdout.buffer.write(answer + b"\n")


@cli.command()
def sam_invoke(event: Event, model: Model = "demo") -> None:
    """Send an event to the function in its container and print the answer."""
    with containers.container_environment(model, console) as environment:
        answer = containers.sam_invoke(event, environment)
    sys.stdout.buffer.write(answer.rstrip() + b"\n")


@cli.command()
def sam_api(model: Model = "demo", port: Annotated[int, Option(min=1, max=65535)] = 8000) -> None:
    """Serve the HTTP API in front of the function in its container, until interrupted."""
    containers.serve(model, port, console)


if __name__ == "__main__":
    try:
        cli()
    except ServiceError as error:
        console.print(error.message)
        sys.exit(1)
