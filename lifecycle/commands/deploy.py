"""`lifecycle deploy`: the stack, and a model live in it."""

from typing import Annotated

import typer
from rich.console import Console
from typer import Argument, Option

from handler.errors import InvalidRequestError


def deploy(
    source: Annotated[
        str, Argument(metavar="SRC", help="`demo`, hub name, or folder of a transformers checkpoint.")
    ] = "gpt2",
    *,
    stack: Annotated[str, Option(help="Name of the stack.")] = "gpt2",
    settings: Annotated[
        list[str] | None,
        Option(
            "--set", metavar="NAME=VALUE", help="A parameter of template.yaml. Repeatable; others stay as they are."
        ),
    ] = None,
    force: Annotated[
        bool, Option("--force", help="Make the model live even if the gate of `lifecycle promote` refuses.")
    ] = False,
    sign_with: Annotated[
        str | None,
        Option(metavar="KEY_ARN", help="Key of AWS KMS to sign the model with; the stack then serves nothing else."),
    ] = None,
) -> None:
    """Build the image, deploy the stack, and publish and promote the model into its bucket.

    Needs AWS credentials, a region and a container engine, and says at once which of them is missing.
    """
    from lifecycle.deploying import Sam, check_account  # noqa: PLC0415
    from lifecycle.deploying import deploy as run  # noqa: PLC0415
    from lifecycle.local.containers import container_engine  # noqa: PLC0415
    from lifecycle.local.models import checkpoint_folder, packed_folder  # noqa: PLC0415
    from lifecycle.template import check_parameters  # noqa: PLC0415

    parameters = dict(_setting(text) for text in settings or [])
    check_parameters(parameters)
    account = check_account()
    container_engine().close()
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    folder = packed_folder(checkpoint_folder(source, console), console)
    console.print(f"Deploying the stack {stack} with the model {folder.name} into the account {account}.")
    deployed = run(Sam(), stack, folder, parameters, force=force, sign_with=sign_with)
    if deployed.new_key:
        console.print("The first API key follows; it cannot be shown again.")
        typer.echo(deployed.new_key)
    console.print(f"{folder.name} is live at {deployed.api_url} (documentation: {deployed.api_url}/docs).")
    if deployed.stream_url:
        console.print(f"It streams at {deployed.stream_url.rstrip('/')}.")
    if deployed.gpu_url and deployed.parameters["ComputeTarget"] == "gpu":
        console.print(f"The GPU service answers at {deployed.gpu_url}.")


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isalnum():
        raise InvalidRequestError(f"--set: {text!r} is not NAME=VALUE", param="set")
    if name in {"ModelName", "Deployment"}:
        raise InvalidRequestError(f"--set: {name} is what the deployment itself sets", param="set")
    return name, value
