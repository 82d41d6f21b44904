"""Deploying: in which order image, stack, model and key come to be, told from what a builder sees when it is called."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import pytest

from handler.errors import AccessDeniedError, InvalidRequestError, StoreUnavailableError
from handler.registry.loader import ModelSource
from handler.registry.s3 import s3_client
from lifecycle.aliases import history
from lifecycle.commands.deploy import deploy as command
from lifecycle.deploying import WITHOUT_A_MODEL, Sam, check_account, deploy, find_stack
from lifecycle.keys import KeyRegistry
from lifecycle.local.models import DEMO
from lifecycle.quality import QualityError
from lifecycle.store import WritableStore
from tests.checkpoints import checkpoint

# What deploying reads of template.yaml: its outputs, what outlives it, and parameters that remember what they were.
TEMPLATE = {
    "Parameters": {
        name: {"Type": "String", "Default": default}
        for name, default in {
            "ModelName": "gpt2",
            "ModelAlias": "live",
            "AuthMode": "api-key",
            "SnapStart": "false",
            "ComputeTarget": "lambda",
            "ModelPublicKey": "",
            "GpuImageUri": "",
            "Deployment": "",
        }.items()
    },
    "Resources": {
        "Bucket": {"Type": "AWS::S3::Bucket", "DeletionPolicy": "Retain"},
        "Results": {"Type": "AWS::S3::Bucket", "DeletionPolicy": "Retain"},
        "Table": {
            "Type": "AWS::DynamoDB::Table",
            "DeletionPolicy": "Retain",
            "Properties": {
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{"AttributeName": "key_hash", "AttributeType": "S"}],
                "KeySchema": [{"AttributeName": "key_hash", "KeyType": "HASH"}],
            },
        },
    },
    "Outputs": {
        "ApiUrl": {"Value": "https://api.example"},
        "StreamUrl": {"Value": "https://stream.example/"},
        "ModelsBucket": {"Value": {"Ref": "Bucket"}},
        "ResultsBucket": {"Value": {"Ref": "Results"}},
        "KeysTable": {"Value": {"Ref": "Table"}},
    },
}


@dataclass
class FakeBuilder:
    """Deploys the template above instead of `template.yaml`, and notes what was asked and what was live then."""

    builds: int = 0
    deployments: list[tuple[dict[str, str], list[str]]] = field(default_factory=list)

    def build(self) -> None:
        self.builds += 1

    def deploy(self, stack: str, parameters: Mapping[str, str]) -> None:
        cloud = boto3.client("cloudformation")
        before = find_stack(stack)
        live = [] if before is None else WritableStore(s3_client(), before.models_bucket).models()
        self.deployments.append((dict(parameters), list(live)))
        values = {**(before.parameters if before else {}), **parameters}
        change = cloud.create_stack if before is None else cloud.update_stack
        change(
            StackName=stack,
            TemplateBody=json.dumps(TEMPLATE),
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
        )

    def delete(self, stack: str) -> None:
        boto3.client("cloudformation").delete_stack(StackName=stack)


def without_name(parameters: dict[str, str]) -> dict[str, str]:
    """The parameters less the deployment's name, which must look as the template wants it."""
    name = parameters.pop("Deployment")
    assert len(name) == 32
    assert int(name, 16) >= 0
    return parameters


@pytest.mark.usefixtures("aws")
def test_first_deployment_comes_before_the_model_and_makes_a_key() -> None:
    builder = FakeBuilder()
    deployed = deploy(builder, "text", DEMO, {})

    assert builder.builds == 1
    [(parameters, live)] = builder.deployments
    assert without_name(parameters) == {"ModelName": "demo", **WITHOUT_A_MODEL}
    assert live == []
    store = WritableStore(s3_client(), deployed.models_bucket)
    assert store.aliases("demo")["live"].version == store.versions("demo")[0]
    assert deployed.api_url == "https://api.example"
    assert deployed.stream_url == "https://stream.example/"
    assert deployed.new_key is not None
    assert [key.label for key in KeyRegistry(deployed.keys_table).list()] == ["made by the first deployment"]


@pytest.mark.usefixtures("aws")
def test_snapshot_is_taken_when_the_model_is_there() -> None:
    builder = FakeBuilder()
    deploy(builder, "text", DEMO, {"SnapStart": "true"})

    (first, live_at_first), (second, live_then) = builder.deployments
    assert first["Deployment"] != second["Deployment"]
    assert without_name(first) == {"ModelName": "demo", **WITHOUT_A_MODEL}
    assert without_name(second) == {"ModelName": "demo", "SnapStart": "true"}
    assert (live_at_first, live_then) == ([], ["demo"])


@pytest.mark.usefixtures("aws")
def test_a_gpu_service_is_started_when_the_model_is_there() -> None:
    builder = FakeBuilder()
    asked_for = {"ComputeTarget": "both", "GpuImageUri": "an image"}
    deploy(builder, "text", DEMO, asked_for)

    (first, live_at_first), (second, live_then) = builder.deployments
    assert without_name(first) == {"ModelName": "demo", "GpuImageUri": "an image", **WITHOUT_A_MODEL}
    assert without_name(second) == {"ModelName": "demo", **asked_for}
    assert (live_at_first, live_then) == ([], ["demo"])


@pytest.mark.usefixtures("aws")
def test_later_deployment_comes_after_the_model_and_keeps_keys_and_settings() -> None:
    builder = FakeBuilder()
    first = deploy(builder, "text", DEMO, {"ModelAlias": "canary"})
    second = deploy(builder, "text", DEMO, {})

    assert without_name(builder.deployments[1][0]) == {"ModelName": "demo"}
    assert builder.deployments[1][1] == ["demo"]
    assert second.parameters["ModelAlias"] == "canary"
    assert list(WritableStore(s3_client(), second.models_bucket).aliases("demo")) == ["canary"]
    assert second.new_key is None
    assert len(KeyRegistry(first.keys_table).list()) == 1


@pytest.mark.usefixtures("aws")
def test_no_key_is_made_where_the_gateway_checks() -> None:
    deployed = deploy(FakeBuilder(), "text", DEMO, {"AuthMode": "iam"})
    assert deployed.new_key is None
    assert KeyRegistry(deployed.keys_table).list() == []


@pytest.mark.usefixtures("aws")
def test_a_stack_that_was_deployed_with_a_key_serves_what_is_signed_and_takes_nothing_else() -> None:
    kms, builder = boto3.client("kms"), FakeBuilder()
    arn = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    deployed = deploy(builder, "text", DEMO, {}, sign_with=arn)
    key = deployed.parameters["ModelPublicKey"]
    assert ModelSource(deployed.models_bucket, "demo", "live", public_key=key).load().manifest.name == "demo"
    with pytest.raises(InvalidRequestError, match="serves signed models only: give the key, --sign-with KEY_ARN"):
        deploy(builder, "text", DEMO, {})
    assert builder.builds == 1


@pytest.mark.usefixtures("aws")
def test_a_later_model_is_held_against_the_live_one(tmp_path: Path) -> None:
    deployed = deploy(FakeBuilder(), "text", DEMO, {})
    other = checkpoint(tmp_path / "demo").folder
    with pytest.raises(QualityError, match="live of demo stays where it is: nobody evaluated"):
        deploy(FakeBuilder(), "text", other, {})
    deploy(FakeBuilder(), "text", other, {}, force=True)
    moves = history(WritableStore(s3_client(), deployed.models_bucket), "demo", "live")
    assert [(move.why, move.forced) for move in moves] == [("deployed", True), ("deployed", True)]


@pytest.mark.usefixtures("aws")
def test_failed_build_changes_nothing() -> None:
    builder = Sam(program="false")
    with pytest.raises(StoreUnavailableError, match=r"`sam build` ended with status 1"):
        deploy(builder, "text", DEMO, {})
    assert find_stack("text") is None


def test_parameters_reach_sam_as_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    Sam(program="echo").deploy("text", {"AllowedOrigins": "https://a.example,https://b.example", "JwtIssuer": ""})
    assert capfd.readouterr().out == (
        'deploy --stack-name text --parameter-overrides AllowedOrigins="https://a.example,https://b.example"'
        ' JwtIssuer=""\n'
    )


@pytest.mark.usefixtures("aws")
def test_account_is_that_of_the_credentials() -> None:
    assert check_account() == "123456789012"


@pytest.mark.usefixtures("aws")
def test_missing_region_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(InvalidRequestError, match=r"A region is missing: set AWS_DEFAULT_REGION"):
        check_account()


@pytest.mark.usefixtures("aws")
def test_missing_credentials_are_named_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(AccessDeniedError, match=r"AWS credentials are missing: run `aws configure`"):
        command("demo")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("AuthMode", r"--set: 'AuthMode' is not NAME=VALUE"),
        ("=jwt", r"--set: '=jwt' is not NAME=VALUE"),
        ("ModelName=x", r"--set: ModelName is what the deployment itself sets"),
        ("AuthMod=iam", r"--set: template.yaml has no parameter AuthMod; is AuthMode meant\?"),
        ("Xyz=1", r"--set: template.yaml has no parameter Xyz$"),
        ("AuthMode=open", r"--set: AuthMode must be one of api-key, jwt, iam; given: 'open'"),
        ("SnapStart=yes", r"--set: SnapStart must be one of true, false; given: 'yes'"),
    ],
)
def test_malformed_setting_is_refused(setting: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        command("demo", settings=[setting])
