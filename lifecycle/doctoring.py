"""Whether this machine and this AWS account have what deploying needs; each thing in one line, with its mend.

What no API tells is not guessed at: a new account's cap on memory, or whether the region takes snapshots of images.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from botocore.exceptions import BotoCoreError, ClientError

from handler.errors import ServiceError
from lifecycle.deploying import check_account
from lifecycle.local.containers import SAM, container_engine

# Makes a client of a service of AWS by its name.
Clients: TypeAlias = Callable[[str], Any]

# As https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-public-parameters-global-infrastructure.html
# names them. Cost budgets are of no region.
SERVICES = (
    "apigateway", "cloudformation", "cloudwatch", "codedeploy", "dynamodb", "ecr", "eventbridge", "kms", "lambda", "s3",
    "sns", "sqs",
)  # fmt: skip
OF_REGION = "/aws/service/global-infrastructure/regions/{region}/services/{service}"

# What Lambda keeps for functions that reserve nothing; what is above can be reserved.
UNRESERVED = 100

# Processors of instances with GPUs that may run at once, which is none in a new account.
GPU_QUOTAS = {"L-DB2E81BA": "on demand", "L-3819A6DF": "on Spot"}
GPU_QUOTA = "https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas/L-DB2E81BA"

QUOTA = "https://console.aws.amazon.com/servicequotas/home/services/lambda/quotas/L-B99A9384"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        state: `ok`, `note` where something could be better, or `missing` where deploying would fail.
        name: of what.
        text: what there is; or what there is not, and how to mend it.
    """

    state: Literal["ok", "note", "missing"]
    name: str
    text: str


def examine_machine(*, compiler: str, sam: str = SAM) -> Iterator[Finding]:
    """Look for the programs that are needed.

    Args:
        compiler: the C++ compiler, by name or path.
        sam: the AWS SAM command line.
    """
    if shutil.which(compiler):
        yield Finding("ok", "compiler", _first_line(compiler, "--version"))
    else:
        yield Finding(
            "note",
            "compiler",
            f"{compiler} is not there, so `make run` serves on torch; install g++ or clang, or set CXX",
        )
    if Path(sam).is_file():
        yield Finding("ok", "sam", _first_line(sam, "--version"))
    else:
        yield Finding("missing", "sam", f"{sam} is not there; run `make .venv-sam/.ready`")
    try:
        with closing(container_engine()) as engine:
            yield Finding("ok", "containers", f"engine {engine.version()['Version']}")
    except ServiceError as error:
        yield Finding("missing", "containers", f"{error.message}; start it, or point DOCKER_HOST to podman's socket")


def examine_account(clients: Clients) -> Iterator[Finding]:
    """Ask AWS who we are, and whether the region and the account have what the stack needs."""
    try:
        account = check_account()
    except ServiceError as error:
        yield Finding("missing", "credentials", error.message)
        return
    region = clients("sts").meta.region_name
    yield Finding("ok", "credentials", f"account {account}, region {region}")
    for name, ask in (("region", _services), ("concurrency", _concurrency), ("gpu", _gpus)):
        try:
            yield ask(clients)
        except (BotoCoreError, ClientError) as error:
            yield Finding("note", name, f"AWS does not tell: {' '.join(str(error).split())}")


def _services(clients: Clients) -> Finding:
    ssm = clients("ssm")
    region = ssm.meta.region_name
    names = {OF_REGION.format(region=region, service=service): service for service in SERVICES}
    # It takes ten names at a time.
    parts = [list(names)[start : start + 10] for start in range(0, len(names), 10)]
    unknown = [name for part in parts for name in ssm.get_parameters(Names=part)["InvalidParameters"]]
    if unknown:
        absent = ", ".join(names[name] for name in unknown)
        return Finding("missing", "region", f"{region} has no {absent}; choose another with AWS_DEFAULT_REGION")
    return Finding("ok", "region", f"{region} has all {len(SERVICES)} services of the stack")


def _concurrency(clients: Clients) -> Finding:
    limits = clients("lambda").get_account_settings()["AccountLimit"]
    limit, free = limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"] - UNRESERVED
    has = f"{limit} environments at once, of all functions of the account"
    if free <= 0:
        return Finding(
            "note", "concurrency", f"{has}; MaxConcurrency can reserve none of them: ask for more at {QUOTA}"
        )
    return Finding("ok", "concurrency", f"{has}; MaxConcurrency can reserve up to {free}")


def _gpus(clients: Clients) -> Finding:
    quotas = clients("service-quotas")
    found = {
        name: int(quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"])
        for code, name in GPU_QUOTAS.items()
    }
    has = ", ".join(f"{processors} processors {name}" for name, processors in found.items())
    # The smallest instance has four.
    if max(found.values()) < 4:
        return Finding(
            "note", "gpu", f"{has}; a GPU service (ComputeTarget) needs 4 a task: ask for more at {GPU_QUOTA}"
        )
    return Finding("ok", "gpu", f"{has}, for a GPU service (ComputeTarget), 4 or more a task")


def _first_line(program: str, *arguments: str) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)  # noqa: S603 - no shell
    return (done.stdout or done.stderr).partition("\n")[0]
