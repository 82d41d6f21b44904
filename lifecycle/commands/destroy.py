"""`lifecycle destroy`: a stack and what it leaves behind."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from typer import Argument, Option

from handler.errors import InvalidRequestError


class Models(StrEnum):
    """What becomes of the models bucket."""

    KEEP = "keep"
    DELETE = "delete"


def destroy(
    stack: Annotated[str, Argument(help="Name of the stack.")],
    *,
    models: Annotated[Models, Option(help="Whether the bucket of models stays.")] = Models.KEEP,
) -> None:
    """Delete a stack with its results and API keys, once its name has been typed again."""
    from lifecycle.deploying import Sam, check_account, find_stack  # noqa: PLC0415
    from lifecycle.destroying import destroy as run  # noqa: PLC0415

    account = check_account()
    found = find_stack(stack)
    if found is None:
        raise InvalidRequestError(f"There is no stack {stack} in the account {account}", param="stack")
    with_models = models is Models.DELETE
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    console.print(
        f"The stack {stack} of the account {account} will be deleted, its API at {found.api_url}, all results, files "
        f"and batches (s3://{found.results_bucket}) and all API keys ({found.keys_table}). The models "
        f"(s3://{found.models_bucket}) {'will be deleted, too' if with_models else 'stay'}."
    )
    if typer.prompt("The stack's name, to go on", err=True) != stack:
        raise InvalidRequestError("That is another name; nothing was deleted", param="stack")
    run(Sam(), stack, found, models=with_models)
    console.print(f"The stack {stack} is gone." + ("" if with_models else f" s3://{found.models_bucket} is left."))
