"""Destroying: what goes with a stack, what stays, and that nothing goes unasked."""

import io
import sys
from dataclasses import replace

import boto3
import pytest

from handler.errors import InvalidRequestError, StoreUnavailableError
from handler.registry.s3 import s3_client
from lifecycle.commands.destroy import Models
from lifecycle.commands.destroy import destroy as command
from lifecycle.deploying import Sam, Stack, deploy, find_stack
from lifecycle.destroying import destroy
from lifecycle.local.models import DEMO
from tests.functional.lifecycle.test_deploying import FakeBuilder


@pytest.fixture
def stack(aws: str) -> Stack:
    """A stack that has been in use: with a model, a key and, versioned or not, objects in its buckets."""
    deployed = deploy(FakeBuilder(), "text", DEMO, {})
    s3 = s3_client()
    s3.put_bucket_versioning(Bucket=deployed.models_bucket, VersioningConfiguration={"Status": "Enabled"})
    for body in (b"once", b"twice"):
        for bucket in (deployed.models_bucket, deployed.results_bucket):
            s3.put_object(Bucket=bucket, Key="a/b", Body=body)
    s3.delete_object(Bucket=deployed.models_bucket, Key="a/b")
    return deployed


def buckets() -> set[str]:
    return {bucket["Name"] for bucket in s3_client().list_buckets()["Buckets"]}


def tables() -> list[str]:
    names: list[str] = boto3.client("dynamodb").list_tables()["TableNames"]
    return names


def test_models_stay(stack: Stack) -> None:
    destroy(FakeBuilder(), "text", stack, models=False)
    assert find_stack("text") is None
    assert (buckets(), tables()) == ({stack.models_bucket}, [])
    assert s3_client().list_objects_v2(Bucket=stack.models_bucket)["KeyCount"] > 0


def test_models_go_with_every_version_when_told_to(stack: Stack) -> None:
    destroy(FakeBuilder(), "text", stack, models=True)
    assert (buckets(), tables()) == (set(), [])


def test_access_logs_of_a_gpu_service_go(stack: Stack) -> None:
    s3_client().create_bucket(Bucket="access-logs")
    s3_client().put_object(Bucket="access-logs", Key="AWSLogs/1", Body=b"GET /")
    destroy(FakeBuilder(), "text", replace(stack, gpu_access_logs="access-logs"), models=True)
    assert buckets() == set()


def test_a_stack_that_cannot_be_deleted_loses_nothing(stack: Stack) -> None:
    with pytest.raises(StoreUnavailableError, match="`sam delete` ended with status 1"):
        destroy(Sam(program="false"), "text", stack, models=True)
    assert (buckets(), tables()) == ({stack.models_bucket, stack.results_bucket}, [stack.keys_table])


def test_what_is_left_is_named(stack: Stack) -> None:
    boto3.client("dynamodb").delete_table(TableName=stack.keys_table)
    left = f"left, to be deleted by hand: table {stack.keys_table}, s3://{stack.models_bucket} "
    with pytest.raises(StoreUnavailableError, match=left):
        destroy(FakeBuilder(), "text", stack, models=True)


def test_sam_is_asked_to_delete_the_stack_and_not_to_ask(capfd: pytest.CaptureFixture[str]) -> None:
    Sam(program="echo").delete("text")
    assert capfd.readouterr().out == "delete --stack-name text --no-prompts\n"


@pytest.mark.parametrize("models", list(Models))
def test_another_name_than_the_stacks_deletes_nothing(
    stack: Stack, models: Models, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("test\n"))
    with pytest.raises(InvalidRequestError, match="That is another name; nothing was deleted"):
        command("text", models=models)
    assert find_stack("text") == replace(stack, new_key=None)
    said = capsys.readouterr().err
    for name in (stack.results_bucket, stack.keys_table, stack.models_bucket):
        assert name in said
    assert ("will be deleted, too." if models is Models.DELETE else "stay.") in said


@pytest.mark.usefixtures("aws")
def test_a_stack_that_is_not_there_is_told() -> None:
    with pytest.raises(InvalidRequestError, match="There is no stack nowhere in the account 123456789012"):
        command("nowhere")
