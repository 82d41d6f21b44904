"""The doctor: what it finds on a machine and in an account, and how it says what to do."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from lifecycle.commands.doctor import doctor
from lifecycle.doctoring import GPU_QUOTA, QUOTA, Finding, examine_account, examine_machine
from lifecycle.local.containers import SAM

# Nothing listens there.
NOBODY = "tcp://127.0.0.1:9"


class FakeLambda:
    """Tells an account's limits, which moto does not."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def get_account_settings(self) -> dict[str, Any]:
        limits = {"ConcurrentExecutions": self._limit, "UnreservedConcurrentExecutions": self._limit}
        return {"AccountLimit": limits}


class FakeSsm:
    """Tells of a region without some services; moto's regions have them all."""

    meta = SimpleNamespace(region_name="atlantis-1")

    def __init__(self, *absent: str) -> None:
        self._absent = absent

    def get_parameters(self, Names: list[str]) -> dict[str, Any]:  # noqa: N803 - as boto3 has it
        assert len(Names) <= 10
        return {"InvalidParameters": [name for name in Names if name.rpartition("/")[2] in self._absent]}


class FakeQuotas:
    """Tells how many processors with GPUs there may be, which moto does not."""

    def __init__(self, on_demand: float, spot: float) -> None:
        self._quotas = {"L-DB2E81BA": on_demand, "L-3819A6DF": spot}

    def get_service_quota(self, ServiceCode: str, QuotaCode: str) -> dict[str, Any]:  # noqa: N803 - as boto3 has it
        assert ServiceCode == "ec2"
        return {"Quota": {"Value": self._quotas[QuotaCode]}}


def account(**fakes: Any) -> Callable[[str], Any]:
    """moto's services, and fakes in place of some."""
    return lambda name: fakes.get(name) or boto3.client(name)


@pytest.mark.usefixtures("aws")
def test_an_account_that_has_everything() -> None:
    fakes = {"lambda": FakeLambda(1000), "service-quotas": FakeQuotas(8.0, 0.0)}
    assert list(examine_account(account(**fakes))) == [
        Finding("ok", "credentials", "account 123456789012, region us-east-1"),
        Finding("ok", "region", "us-east-1 has all 12 services of the stack"),
        Finding(
            "ok",
            "concurrency",
            "1000 environments at once, of all functions of the account; MaxConcurrency can reserve up to 900",
        ),
        Finding(
            "ok",
            "gpu",
            "8 processors on demand, 0 processors on Spot, for a GPU service (ComputeTarget), 4 or more a task",
        ),
    ]


@pytest.mark.usefixtures("aws")
def test_a_new_account_can_reserve_nothing() -> None:
    fakes = {"lambda": FakeLambda(10), "service-quotas": FakeQuotas(0.0, 0.0)}
    [*_, concurrency, gpu] = examine_account(account(**fakes))
    assert gpu == Finding(
        "note",
        "gpu",
        "0 processors on demand, 0 processors on Spot; a GPU service (ComputeTarget) needs 4 a task: "
        f"ask for more at {GPU_QUOTA}",
    )
    assert concurrency == Finding(
        "note",
        "concurrency",
        "10 environments at once, of all functions of the account; MaxConcurrency can reserve none of them: "
        f"ask for more at {QUOTA}",
    )


@pytest.mark.usefixtures("aws")
def test_a_region_that_lacks_services_is_told() -> None:
    _, finding, *_ = examine_account(account(ssm=FakeSsm("codedeploy", "sqs")))
    assert finding == Finding(
        "missing", "region", "atlantis-1 has no codedeploy, sqs; choose another with AWS_DEFAULT_REGION"
    )


@pytest.mark.usefixtures("aws")
def test_what_aws_does_not_tell_is_no_trouble() -> None:
    [*_, concurrency, gpu] = examine_account(boto3.client)
    for finding, said in ((concurrency, "404"), (gpu, "NoSuchResourceException")):
        assert finding.state == "note"
        assert finding.text.startswith(f"AWS does not tell: An error occurred ({said})")


@pytest.mark.usefixtures("aws")
def test_without_credentials_nothing_else_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert list(examine_account(boto3.client)) == [
        Finding("missing", "credentials", "AWS credentials are missing: run `aws configure`, or set AWS_PROFILE")
    ]


def program(path: Path, says: str) -> str:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return str(path)


def test_a_machine_that_lacks_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", NOBODY)
    compiler, sam, containers = examine_machine(compiler="no-such-compiler", sam=str(tmp_path / "sam"))
    assert compiler == Finding(
        "note",
        "compiler",
        "no-such-compiler is not there, so `make run` serves on torch; install g++ or clang, or set CXX",
    )
    assert sam == Finding("missing", "sam", f"{tmp_path}/sam is not there; run `make .venv-sam/.ready`")
    assert containers == Finding(
        "missing",
        "containers",
        "No container engine answers; is Docker running? (Connection refused); start it, or point DOCKER_HOST to "
        "podman's socket",
    )


def test_programs_are_named_with_their_versions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", NOBODY)
    compiler = program(tmp_path / "c++", "c++ 14.2")
    found = list(examine_machine(compiler=compiler, sam=program(tmp_path / "sam", "SAM CLI, version 1.170.0")))
    assert found[:2] == [Finding("ok", "compiler", "c++ 14.2"), Finding("ok", "sam", "SAM CLI, version 1.170.0")]


def test_sam_is_where_make_puts_it() -> None:
    assert Path(SAM).is_file()


@pytest.mark.usefixtures("aws")
def test_the_command_says_one_line_each_and_fails_where_something_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", NOBODY)
    with pytest.raises(SystemExit) as ended:
        doctor()
    assert ended.value.code == 1
    lines = [line.split(maxsplit=2)[:2] for line in capsys.readouterr().out.splitlines()]
    of_the_account = ["credentials", "region", "concurrency", "gpu"]
    assert [name for _, name in lines] == ["compiler", "sam", "containers", *of_the_account]
    assert ["missing", "containers"] in lines
