"""What runs, how it is told what to do, how it is published, and what is kept of its logs."""

import os
import re
from typing import Any

import pytest

from handler.settings import Settings
from lifecycle.local.containers import FUNCTION
from tests.infrastructure.stack import Stack, stacks, stacks_of

STREAM = "StreamFunction"
WORKER = "WorkerFunction"
CHECK = "CheckFunction"

# The AWS SDK's own, which sam local overrides: empty is the same as absent.
SDK_VARIABLES = {
    FUNCTION: {"AWS_ENDPOINT_URL_S3": "", "AWS_ENDPOINT_URL_DYNAMODB": ""},
    STREAM: {"AWS_ENDPOINT_URL_S3": "", "AWS_ENDPOINT_URL_DYNAMODB": ""},
    WORKER: {"AWS_ENDPOINT_URL_S3": "", "AWS_ENDPOINT_URL_SQS": "", "AWS_ENDPOINT_URL_EVENTBRIDGE": ""},
}

RESOURCES = {"ModelsBucket": "ModelsBucket", "ResultsBucket": "ResultsBucket", "KeysTable": "KeysTable"}


def version_of(stack: Stack, function: str = FUNCTION) -> str:
    """The logical id of the published version, which is published anew whenever this changes."""
    [version] = [
        name
        for name, each in stack.of_type("AWS::Lambda::Version").items()
        if each["Properties"]["FunctionName"] == {"Ref": function}
    ]
    return version


def functions_of(stack: Stack) -> dict[str, dict[str, Any]]:
    """The properties of every function that serves the model: all but the one that checks new versions."""
    functions = {name: each["Properties"] for name, each in stack.of_type("AWS::Lambda::Function").items()}
    del functions[CHECK]
    assert set(functions) == {FUNCTION, WORKER} | (set() if stack.parameters["Streaming"] == "none" else {STREAM})
    return functions


def test_environment_is_exactly_what_the_settings_read(stack: Stack) -> None:
    for function, properties in functions_of(stack).items():
        variables = properties["Environment"]["Variables"]
        sdk = SDK_VARIABLES[function]
        assert set(variables) == {name.upper() for name in Settings.model_fields} | set(sdk)
        assert {name: variables[name] for name in sdk} == sdk


def test_functions_differ_only_in_who_may_call_them(stack: Stack) -> None:
    api, worker = (stack.properties(name)["Environment"]["Variables"] for name in (FUNCTION, WORKER))
    different = {name.upper() for name in Settings.model_fields if api[name.upper()] != worker[name.upper()]}
    snapshot = stack.parameters["SnapStart"] == "true"
    assert different == {
        "AUTH_MODE",
        "KEYS_TABLE",
        "JWT_ISSUER",
        "JWT_AUDIENCE",
        *(["REFRESH_SECONDS"] if snapshot else []),
    }
    assert api["REFRESH_SECONDS"] == (0 if snapshot else {"Ref": "RefreshSeconds"})
    assert (worker["AUTH_MODE"], worker["KEYS_TABLE"], worker["JWT_ISSUER"]) == ("iam", "", "")
    stream = functions_of(stack).get(STREAM)
    assert stream is None or stream["Environment"]["Variables"] == api


def test_defaults_are_those_of_the_settings(default_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in default_stack.properties(FUNCTION)["Environment"]["Variables"].items():
        if isinstance(value, dict):
            # Parameters have values; a resource is known by its name here.
            monkeypatch.setenv(name, {**default_stack.parameters, **RESOURCES}[value["Ref"]])
    expected = Settings(
        models_bucket="ModelsBucket",
        results_bucket="ResultsBucket",
        model_name="gpt2",
        keys_table="KeysTable",
        cache_mb=400,
    )
    assert Settings.from_environment(os.environ) == expected


def test_functions_are_x86_images_of_the_size_asked_for(stack: Stack) -> None:
    for function, properties in functions_of(stack).items():
        assert properties["PackageType"] == "Image"
        assert properties["MemorySize"] == {"Ref": "MemorySize"}
        assert properties["Timeout"] == {FUNCTION: {"Ref": "Timeout"}, STREAM: 900, WORKER: 300}[function]
        assert properties["Architectures"] == [{"Ref": "Architecture"}]
    assert stack.template["Parameters"]["Architecture"]["AllowedValues"] == ["x86_64"]
    assert (stack.parameters["MemorySize"], stack.parameters["Timeout"]) == ("3008", "30")


def test_snapshots_are_taken_when_asked_for(stack: Stack) -> None:
    expected = "PublishedVersions" if stack.parameters["SnapStart"] == "true" else "None"
    assert {name: each["SnapStart"] for name, each in functions_of(stack).items() if name != WORKER} == {
        name: {"ApplyOn": expected} for name in functions_of(stack) if name != WORKER
    }
    assert "SnapStart" not in stack.properties(WORKER)


def test_alias_points_to_the_version_published_by_this_deployment(stack: Stack) -> None:
    for function in functions_of(stack):
        assert stack.properties(f"{function}Aliaslive") == {
            "Name": "live",
            "FunctionName": {"Ref": function},
            "FunctionVersion": {"Fn::GetAtt": [version_of(stack, function), "Version"]},
        }
        # A version that was replaced would keep its snapshot, and its price.
        assert stack.template["Resources"][version_of(stack, function)]["DeletionPolicy"] == "Delete"


def test_every_deployment_publishes_a_version_of_its_own() -> None:
    first, again, second = stacks_of([{"Deployment": digit * 32} for digit in "aab"])
    for function in (FUNCTION, STREAM, WORKER):
        assert version_of(first, function) == version_of(again, function)
        assert version_of(first, function) != version_of(second, function)
        # Lambda publishes nothing when the function is the same as before, so the function must change as well.
        assert first.properties(function)["Description"] != second.properties(function)["Description"]


def test_api_calls_the_alias(stack: Stack) -> None:
    assert stack.properties("ApiIntegration") == {
        "ApiId": {"Ref": "HttpApi"},
        "IntegrationType": "AWS_PROXY",
        "IntegrationUri": {"Fn::Sub": "${ApiFunction.Arn}:live"},
        "PayloadFormatVersion": "2.0",
        "TimeoutInMillis": 30000,
    }
    targets = {route["Properties"]["Target"]["Fn::Sub"] for route in stack.of_type("AWS::ApiGatewayV2::Route").values()}
    assert targets == {"integrations/${ApiIntegration}"}


def test_api_throttles(stack: Stack) -> None:
    [stage] = stack.of_type("AWS::ApiGatewayV2::Stage").values()
    settings = stage["Properties"]["DefaultRouteSettings"]
    assert settings["ThrottlingRateLimit"] == {"Ref": "ThrottleRate"}
    assert settings["ThrottlingBurstLimit"] == {"Ref": "ThrottleBurst"}
    assert (stack.parameters["ThrottleRate"], stack.parameters["ThrottleBurst"]) == ("20", "40")


def test_logs_are_kept_for_a_time(stack: Stack) -> None:
    groups = stack.of_type("AWS::Logs::LogGroup")
    logs = {FUNCTION: "ApiLogs", STREAM: "StreamLogs", WORKER: "WorkerLogs", CHECK: "CheckLogs"}
    functions = stack.of_type("AWS::Lambda::Function")
    assert set(groups) == {"AccessLogs", *(logs[function] for function in functions)}
    for group in groups.values():
        assert group["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    for name, function in functions.items():
        assert function["Properties"]["LoggingConfig"]["LogGroup"] == {"Ref": logs[name]}


def test_access_log_says_who_and_how_long_but_not_what(stack: Stack) -> None:
    logging = stack.properties("HttpApiStage")["AccessLogSettings"]
    assert logging["DestinationArn"] == {"Fn::GetAtt": ["AccessLogs", "Arn"]}
    assert "\n" not in logging["Format"]
    assert set(re.findall(r"\$context\.([A-Za-z.]+)", logging["Format"])) == {
        "requestTime",
        "requestId",
        "identity.sourceIp",
        "httpMethod",
        "path",
        "routeKey",
        "status",
        "responseLength",
        "responseLatency",
        "integrationLatency",
        "integrationErrorMessage",
        "authorizer.error",
    }


def test_outputs_are_what_deploying_reads_and_people_need(stack: Stack) -> None:
    outputs = {
        name: output["Value"] for name, output in stack.template["Outputs"].items() if not name.startswith("Stream")
    }
    assert outputs == {
        "ApiUrl": {"Fn::Sub": "https://${HttpApi}.execute-api.${AWS::Region}.${AWS::URLSuffix}"},
        "ModelsBucket": {"Ref": "ModelsBucket"},
        "ResultsBucket": {"Ref": "ResultsBucket"},
        "RequestQueueUrl": {"Ref": "RequestQueue"},
        "DeadLetterQueueUrl": {"Ref": "DeadLetterQueue"},
        "BulkStateMachine": {"Fn::GetAtt": ["Bulk", "Outputs.StateMachineArn"]},
        "KeysTable": {"Ref": "KeysTable"},
        "FunctionName": {"Ref": FUNCTION},
        "AliasArn": {"Ref": f"{FUNCTION}Aliaslive"},
        "ApiLogs": {"Ref": "ApiLogs"},
        "WorkerLogs": {"Ref": "WorkerLogs"},
        "AccessLogs": {"Ref": "AccessLogs"},
        "Dashboard": {"Fn::GetAtt": ["Dashboard", "Outputs.Url"]},
    }
    # Deploying sets or reads these.
    assert {"ModelName", "ModelAlias", "AuthMode", "SnapStart", "Deployment"} <= set(stack.parameters)


def test_every_parameter_says_what_it_is() -> None:
    parameters = stacks()["api-key"].template["Parameters"]
    assert [name for name, each in parameters.items() if not each["Description"].endswith(".")] == []
    # Whatever can be typed in freely has a pattern, and a number a smallest value.
    free = {"String": "AllowedPattern", "Number": "MinValue"}
    assert [
        name for name, each in parameters.items() if "AllowedValues" not in each and free[each["Type"]] not in each
    ] == []
