"""Who may call, and what may be touched: the invariants of security, whatever the parameters."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from handler.events.messages import EVENT_SOURCE
from tests.infrastructure.stack import JWT, Stack, holds, stacks, stacks_of

OPEN = {"GET /", "GET /docs", "GET /docs/{proxy+}", "GET /openapi.json", "GET /healthz", "GET /readyz"}


def statements(stack: Stack, *roles: str) -> Iterator[dict[str, Any]]:
    """Every statement of these roles."""
    for role in roles or stack.of_type("AWS::IAM::Role"):
        for policy in stack.properties(role)["Policies"]:
            yield from policy["PolicyDocument"]["Statement"]


def allow(action: str | list[str], resource: object) -> dict[str, Any]:
    """A statement that allows this, unconditionally."""
    return {"Effect": "Allow", "Action": action, "Resource": resource}


def results(folder: str) -> dict[str, str]:
    """The objects of a folder of the results bucket."""
    return {"Fn::Sub": f"${{ResultsBucket.Arn}}/{folder}/*"}


READ_THE_MODEL = [
    allow("s3:GetObject", {"Fn::Sub": "${ModelsBucket.Arn}/models/${ModelName}/*"}),
    allow("s3:ListBucket", {"Fn::GetAtt": ["ModelsBucket", "Arn"]}),
]
WRITE_THE_LOG = ["logs:CreateLogStream", "logs:PutLogEvents"]


def test_every_route_asks_for_credentials_unless_it_is_on_the_open_list(stack: Stack) -> None:
    mode = stack.parameters["AuthMode"]
    closed = {
        # With api-key the gateway passes everything on, and the function checks: see the next test.
        "api-key": ("NONE", None),
        "jwt": ("JWT", {"Ref": "JwtAuthorizer"}),
        "iam": ("AWS_IAM", None),
    }
    expected = {"$default": closed[mode]} | dict.fromkeys(OPEN, ("NONE", None))
    if stack.parameters["AllowedOrigins"]:
        expected["OPTIONS /{proxy+}"] = ("NONE", None)
    routes = [route["Properties"] for route in stack.of_type("AWS::ApiGatewayV2::Route").values()]
    assert {route["RouteKey"]: (route["AuthorizationType"], route.get("AuthorizerId")) for route in routes} == expected


def test_function_checks_keys_exactly_where_the_gateway_checks_nothing(stack: Stack) -> None:
    variables = stack.properties("ApiFunction")["Environment"]["Variables"]
    assert variables["AUTH_MODE"] == {"Ref": "AuthMode"}
    assert variables["KEYS_TABLE"] == {"Ref": "KeysTable"}


def test_there_is_no_open_mode(default_stack: Stack) -> None:
    parameter = default_stack.template["Parameters"]["AuthMode"]
    assert (parameter["Default"], parameter["AllowedValues"]) == ("api-key", ["api-key", "jwt", "iam"])


def test_nothing_else_is_public(stack: Stack) -> None:
    kinds = {resource["Type"] for resource in stack.template["Resources"].values()}
    assert kinds.isdisjoint(
        {"AWS::Lambda::Url", "AWS::ApiGateway::RestApi", "AWS::ElasticLoadBalancingV2::LoadBalancer"}
    )
    permissions = {name: each["Properties"] for name, each in stack.of_type("AWS::Lambda::Permission").items()}
    api = {"FunctionName": {"Ref": "ApiFunctionAliaslive"}, "Action": "lambda:InvokeFunction"}
    assert permissions == {
        "ApiInvokePermission": {
            **api,
            "Principal": "apigateway.amazonaws.com",
            "SourceArn": {"Fn::Sub": "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${HttpApi}/*"},
        },
        "WarmUpPermission": {
            **api,
            "Principal": "events.amazonaws.com",
            "SourceArn": {"Fn::GetAtt": ["WarmUpRule", "Arn"]},
        },
    }


def test_tokens_are_checked_against_issuer_and_audience() -> None:
    assert stacks()["jwt"].properties("JwtAuthorizer") == {
        "ApiId": {"Ref": "HttpApi"},
        "Name": "jwt",
        "AuthorizerType": "JWT",
        "IdentitySource": ["$request.header.Authorization"],
        "JwtConfiguration": {
            "Issuer": {"Ref": "JwtIssuer"},
            "Audience": {"Fn::Split": [",", {"Ref": "JwtAudience"}]},
        },
    }


@pytest.mark.parametrize(
    ("parameters", "broken"),
    [
        ({"AuthMode": "jwt", **JWT}, []),
        ({"AuthMode": "jwt", **JWT, "JwtIssuer": ""}, ["AuthMode=jwt needs JwtIssuer, an https URL"]),
        ({"AuthMode": "jwt", **JWT, "JwtAudience": ""}, ["AuthMode=jwt needs JwtAudience, at least one audience"]),
        ({"AuthMode": "iam"}, []),
        ({}, []),
    ],
)
def test_jwt_is_refused_without_issuer_or_audience(parameters: dict[str, str], broken: list[str]) -> None:
    [stack] = stacks_of([parameters])
    [rule] = stack.template["Rules"].values()
    applies = holds(rule["RuleCondition"], stack.parameters, {})
    assert [
        assertion["AssertDescription"]
        for assertion in rule["Assertions"]
        if applies and not holds(assertion["Assert"], stack.parameters, {})
    ] == broken


def test_other_origins_are_refused_unless_named(stack: Stack) -> None:
    cors = stack.properties("HttpApi").get("CorsConfiguration")
    if not stack.parameters["AllowedOrigins"]:
        assert cors is None
    else:
        assert cors == {
            "AllowOrigins": {"Fn::Split": [",", {"Ref": "AllowedOrigins"}]},
            "AllowMethods": ["GET", "POST", "DELETE"],
            "AllowHeaders": ["authorization", "*"],
            "ExposeHeaders": ["retry-after", "x-request-id"],
            "MaxAge": 3600,
        }


def test_api_may_do_this_and_nothing_more(stack: Stack) -> None:
    keys = {"Fn::GetAtt": ["KeysTable", "Arn"]}
    counts = {"ForAllValues:StringEquals": {"dynamodb:Attributes": ["key_hash", "used", "expires_at"]}}
    may_look_keys_up_and_count = [
        allow("dynamodb:GetItem", keys),
        {**allow("dynamodb:UpdateItem", keys), "Condition": counts},
    ]
    assert list(statements(stack, "ApiRole")) == [
        *READ_THE_MODEL,
        *(may_look_keys_up_and_count if stack.parameters["AuthMode"] == "api-key" else []),
        allow(["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], results("files")),
        allow(["s3:GetObject", "s3:PutObject"], results("uploads")),
        allow(["s3:GetObject", "s3:PutObject"], [results("batches/created"), results("batches/states")]),
        allow(["s3:GetObject", "s3:PutObject"], results("jobs/requested")),
        allow("s3:GetObject", results("results/jobs")),
        allow("s3:ListBucket", {"Fn::GetAtt": ["ResultsBucket", "Arn"]}),
        allow(WRITE_THE_LOG, {"Fn::GetAtt": ["ApiLogs", "Arn"]}),
    ]


def test_worker_may_do_this_and_nothing_more(stack: Stack) -> None:
    may_send_replies = allow(
        ["sqs:SendMessage", "sqs:GetQueueUrl", "events:PutEvents"], {"Fn::Split": [",", {"Ref": "ReplyTo"}]}
    )
    assert list(statements(stack, "WorkerRole")) == [
        *READ_THE_MODEL,
        allow(["s3:GetObject", "s3:PutObject"], [results("results"), results("files"), results("batches")]),
        allow("s3:GetObject", [results("inbox"), results("jobs")]),
        allow("s3:ListBucket", {"Fn::GetAtt": ["ResultsBucket", "Arn"]}),
        allow(
            ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:GetQueueUrl"],
            [{"Fn::GetAtt": ["RequestQueue", "Arn"]}, {"Fn::GetAtt": ["BatchQueue", "Arn"]}],
        ),
        allow(["sqs:SendMessage", "sqs:GetQueueUrl"], {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}),
        {
            **allow(
                "events:PutEvents",
                {"Fn::Sub": "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:event-bus/default"},
            ),
            "Condition": {"StringEquals": {"events:source": EVENT_SOURCE}},
        },
        *([may_send_replies] if stack.parameters["ReplyTo"] else []),
        allow(WRITE_THE_LOG, {"Fn::GetAtt": ["WorkerLogs", "Arn"]}),
    ]


def test_every_function_has_a_role_written_out_here(stack: Stack) -> None:
    roles = stack.of_type("AWS::IAM::Role")
    assert {
        name: each["Properties"]["Role"]["Fn::GetAtt"][0]
        for name, each in stack.of_type("AWS::Lambda::Function").items()
    } == {"ApiFunction": "ApiRole", "WorkerFunction": "WorkerRole"}
    assert set(roles) == {"ApiRole", "WorkerRole"}
    for role in roles.values():
        assert "ManagedPolicyArns" not in role["Properties"]
        assert role["Properties"]["AssumeRolePolicyDocument"]["Statement"] == [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ]


def test_no_statement_allows_by_wildcard(stack: Stack) -> None:
    for statement in statements(stack):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not [action for action in actions if "*" in action]
        # A star may stand for the objects below a prefix of a bucket, and for nothing else.
        objects = r'/models/\$\{ModelName\}/\*"|ResultsBucket\.Arn\}(/[a-z]+){1,2}/\*"'
        assert re.sub(objects, "", json.dumps(statement["Resource"])).count("*") == 0


def test_models_bucket_is_private(stack: Stack) -> None:
    bucket = stack.template["Resources"]["ModelsBucket"]
    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert bucket["Properties"] == {
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
        "PublicAccessBlockConfiguration": {
            "BlockPublicAcls": True,
            "BlockPublicPolicy": True,
            "IgnorePublicAcls": True,
            "RestrictPublicBuckets": True,
        },
        "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        "VersioningConfiguration": {"Status": "Enabled"},
        "LifecycleConfiguration": {
            "Rules": [
                {
                    "Id": "abandon-unfinished-uploads",
                    "Status": "Enabled",
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
                },
                {
                    "Id": "forget-what-was-replaced",
                    "Status": "Enabled",
                    "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
                },
            ]
        },
    }


@pytest.mark.parametrize("bucket", ["ModelsBucket", "ResultsBucket"])
def test_bucket_refuses_everybody_without_tls(stack: Stack, bucket: str) -> None:
    assert set(stack.of_type("AWS::S3::Bucket")) == {"ModelsBucket", "ResultsBucket"}
    policy = stack.properties(f"{bucket}Policy")
    assert policy["Bucket"] == {"Ref": bucket}
    assert policy["PolicyDocument"]["Statement"] == [
        {
            "Sid": "TlsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [{"Fn::GetAtt": [bucket, "Arn"]}, {"Fn::Sub": f"${{{bucket}.Arn}}/*"}],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    ]


def test_keys_survive_the_stack_and_mistakes(stack: Stack) -> None:
    [table] = stack.of_type("AWS::DynamoDB::Table").values()
    assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert table["Properties"] == {
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "key_hash", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "key_hash", "KeyType": "HASH"}],
        "TimeToLiveSpecification": {"AttributeName": "expires_at", "Enabled": True},
        "SSESpecification": {"SSEEnabled": True},
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
    }
