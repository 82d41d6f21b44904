"""From a folder and an AWS account to an address that answers: build the image, deploy the stack, publish the model.

The stack makes the bucket, so the first deployment comes before the first publication: its function answers 503 until
a model is there, and loads it then. Every later deployment comes after the publication, so that the environments it
starts, and the snapshot it may take, hold the new model.
"""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol
from uuid import uuid4

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from handler.errors import AccessDeniedError, InvalidRequestError, StoreUnavailableError
from handler.registry.s3 import s3_client
from lifecycle.keys import KeyRegistry
from lifecycle.promoting import promote
from lifecycle.publishing import publish
from lifecycle.signing import public_key
from lifecycle.store import WritableStore

# What a stack has while no model is in it: no snapshot, which would hold none, and no GPU service, whose tasks would
# never be ready and whose deployment would therefore be undone.
WITHOUT_A_MODEL: Final = {"SnapStart": "false", "ComputeTarget": "lambda"}

FIRST_KEY = "made by the first deployment"


class Builder(Protocol):
    """What makes a stack of the template: `sam`, or something that stands in for it."""

    def build(self) -> None:
        """Build the image."""

    def deploy(self, stack: str, parameters: Mapping[str, str]) -> None:
        """Create or update the stack; parameters that are not given keep their values."""


class Sam:
    """The AWS SAM command line, which says itself what it does."""

    def __init__(self, program: str = ".venv-sam/bin/sam") -> None:
        self._program = program

    def build(self) -> None:
        """Build the image.

        Raises:
            StoreUnavailableError: sam failed.
        """
        self._run("build")

    def deploy(self, stack: str, parameters: Mapping[str, str]) -> None:
        """Push the image and create or update the stack.

        Raises:
            StoreUnavailableError: sam failed.
        """
        overrides = [f"{name}={json.dumps(value)}" for name, value in parameters.items()]
        self._run("deploy", "--stack-name", stack, "--parameter-overrides", *overrides)

    def delete(self, stack: str) -> None:
        """Delete the stack, and the images and templates that were uploaded for it.

        Raises:
            StoreUnavailableError: sam failed.
        """
        self._run("delete", "--stack-name", stack, "--no-prompts")

    def _run(self, *arguments: str) -> None:
        command = [self._program, *arguments]
        status = subprocess.run(command, check=False).returncode  # noqa: S603 - no shell reads it
        if status:
            raise StoreUnavailableError(f"`sam {arguments[0]}` ended with status {status}; it said why above")


@dataclass(frozen=True, slots=True)
class Stack:
    """A deployed stack: its outputs, its parameters, and the first API key, where this deployment made it.

    `stream_url` is where responses stream, if they do: the function URL, or else the REST API. `gpu_url` is where a GPU
    service answers, with a bucket for the logs of who came; in a stack of both, it answers to the functions alone.
    """

    api_url: str
    models_bucket: str
    results_bucket: str
    keys_table: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    stream_url: str | None = None
    gpu_url: str | None = None
    gpu_access_logs: str | None = None
    new_key: str | None = None


def check_account() -> str:
    """The account that the credentials of this environment belong to.

    Raises:
        AccessDeniedError: there are no credentials, or AWS does not take them.
        InvalidRequestError: no region is set.
        StoreUnavailableError: AWS does not answer.
    """
    try:
        session = boto3.Session()
        if session.get_credentials() is None:
            raise AccessDeniedError("AWS credentials are missing: run `aws configure`, or set AWS_PROFILE")
        if session.region_name is None:
            raise InvalidRequestError("A region is missing: set AWS_DEFAULT_REGION, or `region` in ~/.aws/config")
        account: str = session.client("sts").get_caller_identity()["Account"]
    except ClientError as error:
        raise AccessDeniedError(f"AWS does not take these credentials: {error}") from error
    except BotoCoreError as error:
        raise StoreUnavailableError(f"The AWS account cannot be reached: {error}") from error
    return account


def deploy(
    builder: Builder,
    stack: str,
    folder: Path,
    parameters: Mapping[str, str],
    *,
    force: bool = False,
    sign_with: str | None = None,
) -> Stack:
    """Deploy the stack with a model live in it.

    Args:
        builder: what builds the image and deploys the template.
        stack: the stack's name.
        folder: the checkpoint folder of the model, which takes its name from it.
        parameters: of the template, beside those that name model and deployment.
        force: make the model live even if it is not evaluated or worse than what is, as the first one always is.
        sign_with: the ARN of a key of KMS: the model is signed by it, and the stack serves nothing else.

    Returns:
        The stack. `new_key` is set if it checks API keys and had none: it is shown nowhere else.

    Raises:
        InvalidRequestError: the stack serves signed models only, and no key is given.
        StoreUnavailableError: building or deploying failed, or AWS does not answer.
        RegistryError: the model cannot be published, or the gate keeps it from being live.
        KeysUnavailableError: the keys table cannot be used.
    """
    parameters = {**parameters, "ModelName": folder.name}
    before = find_stack(stack)
    if sign_with is not None:
        parameters["ModelPublicKey"] = public_key(sign_with)
    elif parameters.get("ModelPublicKey", before.parameters.get("ModelPublicKey") if before else None):
        raise InvalidRequestError("The stack serves signed models only: give the key, --sign-with KEY_ARN")
    builder.build()
    if before is None:
        # A stack without a model answers nothing, so the first one goes live even if nobody evaluated it; the alias's
        # history says so.
        deployed = _deploy(builder, stack, {**parameters, **WITHOUT_A_MODEL})
        _publish(folder, deployed.models_bucket, deployed.parameters["ModelAlias"], force=True, sign_with=sign_with)
        if any(parameters.get(name, value) != value for name, value in WITHOUT_A_MODEL.items()):
            deployed = _deploy(builder, stack, parameters)
    else:
        alias = parameters.get("ModelAlias", before.parameters["ModelAlias"])
        _publish(folder, before.models_bucket, alias, force=force, sign_with=sign_with)
        deployed = _deploy(builder, stack, parameters)
    return _with_key(deployed) if deployed.parameters["AuthMode"] == "api-key" else deployed


def find_stack(name: str) -> Stack | None:
    """A stack's outputs, or None if there is no such stack or its creation never came to an end.

    Raises:
        AccessDeniedError: CloudFormation refuses to tell.
        StoreUnavailableError: it does not answer.
    """
    try:
        (found,) = boto3.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        # CloudFormation's way of saying that there is none.
        if error.response["Error"]["Code"] == "ValidationError":
            return None
        raise AccessDeniedError(f"The stack {name} cannot be looked up: {error}") from error
    except BotoCoreError as error:
        raise StoreUnavailableError(f"The stack {name} cannot be looked up: {error}") from error
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    if "ModelsBucket" not in outputs:
        return None
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])}
    stream_url = outputs.get("StreamUrl", outputs.get("StreamApiUrl"))
    return Stack(
        outputs["ApiUrl"],
        outputs["ModelsBucket"],
        outputs["ResultsBucket"],
        outputs["KeysTable"],
        parameters,
        stream_url,
        outputs.get("GpuUrl"),
        outputs.get("GpuAccessLogs"),
    )


def _deploy(builder: Builder, stack: str, parameters: Mapping[str, str]) -> Stack:
    """Deploy under a new name, which makes a new version of the function (see Deployment in template.yaml)."""
    builder.deploy(stack, {**parameters, "Deployment": uuid4().hex})
    deployed = find_stack(stack)
    if deployed is None:
        raise StoreUnavailableError(f"The stack {stack} was deployed but cannot be found")
    return deployed


def _publish(folder: Path, bucket: str, alias: str, *, force: bool, sign_with: str | None) -> None:
    store = WritableStore(s3_client(attempts=5), bucket)
    manifest = publish(folder, store, folder.name, sign_with=sign_with)
    promote(store, manifest.name, manifest.version, alias, why="deployed", force=force)


def _with_key(stack: Stack) -> Stack:
    keys = KeyRegistry(stack.keys_table)
    if keys.list():
        return stack
    secret, _ = keys.create(FIRST_KEY)
    return replace(stack, new_key=secret)
