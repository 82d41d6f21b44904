"""What streams, by which doors, and who gets through them, for every choice of AuthMode and Streaming."""

import pytest

from lifecycle.local.invoke import STREAMING
from tests.infrastructure.stack import Stack

ALIAS = {"Ref": "StreamFunctionAliaslive"}

CORS = {
    "AllowOrigins": {"Fn::Split": [",", {"Ref": "AllowedOrigins"}]},
    "AllowMethods": ["GET", "POST", "DELETE"],
    "AllowHeaders": ["authorization", "*"],
    "ExposeHeaders": ["retry-after", "server-timing", "x-request-id", "x-model-version"],
    "MaxAge": 3600,
}

INTEGRATION = {
    "type": "aws_proxy",
    "httpMethod": "POST",
    "uri": {
        "Fn::Sub": "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2021-11-15/functions/"
        "${StreamFunction.Arn}:live/response-streaming-invocations"
    },
    "responseTransferMode": "STREAM",
    "timeoutInMillis": 900_000,
}


@pytest.fixture
def doors(stack: Stack) -> set[str]:
    """By what the function is reached."""
    return {"url": {"url"}, "rest": {"rest"}, "both": {"url", "rest"}, "none": set()}[stack.parameters["Streaming"]]


def test_the_function_runs_our_runtime_in_the_same_image(stack: Stack, doors: set[str]) -> None:
    if not doors:
        assert "StreamFunction" not in stack.template["Resources"]
        return
    function = stack.properties("StreamFunction")
    module, *arguments = STREAMING
    assert function["ImageConfig"] == {"EntryPoint": ["python", "-m", module], "Command": arguments}
    assert function["Code"] == stack.properties("ApiFunction")["Code"]
    bound = None if stack.parameters["StreamConcurrency"] == "0" else {"Ref": "StreamConcurrency"}
    assert function.get("ReservedConcurrentExecutions") == bound


def test_a_function_url_streams_and_leaves_checking_to_iam_or_the_application(stack: Stack, doors: set[str]) -> None:
    urls = stack.of_type("AWS::Lambda::Url")
    assert set(urls) == ({"StreamUrl"} if "url" in doors else set())
    for url in urls.values():
        assert url["DependsOn"] == "StreamFunctionAliaslive"
        assert url["Properties"] == {
            "TargetFunctionArn": {"Ref": "StreamFunction"},
            "Qualifier": "live",
            "InvokeMode": "RESPONSE_STREAM",
            "AuthType": "AWS_IAM" if stack.parameters["AuthMode"] == "iam" else "NONE",
            **({"Cors": CORS} if stack.parameters["AllowedOrigins"] else {}),
        }


def test_a_rest_api_streams_and_leaves_checking_to_iam_or_the_application(stack: Stack, doors: set[str]) -> None:
    apis = stack.of_type("AWS::ApiGateway::RestApi")
    assert set(apis) == ({"StreamApi"} if "rest" in doors else set())
    for api in apis.values():
        assert api["Properties"]["EndpointConfiguration"] == {"Types": ["REGIONAL"]}
        methods = {
            path: each["x-amazon-apigateway-any-method"] for path, each in api["Properties"]["Body"]["paths"].items()
        }
        assert set(methods) == {"/", "/{proxy+}"}
        for method in methods.values():
            auth = "AWS_IAM" if stack.parameters["AuthMode"] == "iam" else "NONE"
            assert method["x-amazon-apigateway-auth"] == {"type": auth}
            assert method["x-amazon-apigateway-integration"] == INTEGRATION


def test_the_rest_api_throttles(stack: Stack, doors: set[str]) -> None:
    for stage in stack.of_type("AWS::ApiGateway::Stage").values():
        assert stage["Properties"]["StageName"] == "live"
        assert stage["Properties"]["MethodSettings"] == [
            {
                "HttpMethod": "*",
                "ResourcePath": "/*",
                "ThrottlingRateLimit": {"Ref": "ThrottleRate"},
                "ThrottlingBurstLimit": {"Ref": "ThrottleBurst"},
                "MetricsEnabled": True,
            }
        ]
    assert len(stack.of_type("AWS::ApiGateway::Stage")) == ("rest" in doors)


def test_nobody_else_may_invoke_it(stack: Stack, doors: set[str]) -> None:
    permissions = {
        name: each["Properties"]
        for name, each in stack.of_type("AWS::Lambda::Permission").items()
        if name.startswith("Stream")
    }
    invoke = {"FunctionName": ALIAS, "Action": "lambda:InvokeFunction"}
    expected: dict[str, dict[str, object]] = {}
    if "url" in doors and stack.parameters["AuthMode"] != "iam":
        expected["StreamUrlPermission"] = {
            "FunctionName": ALIAS,
            "Action": "lambda:InvokeFunctionUrl",
            "Principal": "*",
            "FunctionUrlAuthType": "NONE",
        }
        expected["StreamInvokePermission"] = {**invoke, "Principal": "*", "InvokedViaFunctionUrl": True}
    if "rest" in doors:
        source = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${StreamApi}/*"
        api = {"Principal": "apigateway.amazonaws.com", "SourceArn": {"Fn::Sub": source}}
        expected["StreamApiPermission"] = {**invoke, **api}
    if doors:
        schedule = {"Principal": "events.amazonaws.com", "SourceArn": {"Fn::GetAtt": ["WarmUpRule", "Arn"]}}
        expected["StreamWarmUpPermission"] = {**invoke, **schedule}
    assert permissions == expected


def test_outputs_tell_where_it_streams(stack: Stack, doors: set[str]) -> None:
    rest = "https://${StreamApi}.execute-api.${AWS::Region}.${AWS::URLSuffix}/live"
    assert {name: each["Value"] for name, each in stack.template["Outputs"].items() if name.startswith("Stream")} == {
        **({"StreamUrl": {"Fn::GetAtt": ["StreamUrl", "FunctionUrl"]}} if "url" in doors else {}),
        **({"StreamApiUrl": {"Fn::Sub": rest}} if "rest" in doors else {}),
        **({"StreamLogs": {"Ref": "StreamLogs"}} if doors else {}),
    }
