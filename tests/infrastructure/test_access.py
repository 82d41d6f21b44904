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
    assert "AWS::ElasticLoadBalancingV2::LoadBalancer" not in kinds
    for nested in stack.family[1:]:
        assert not nested.of_type("AWS::Lambda::Function")
    # What streams is another file's.
    permissions = {
        name: each["Properties"]
        for name, each in stack.of_type("AWS::Lambda::Permission").items()
        if not name.startswith("Stream")
    }
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
        ({"MonthlyBudget": "50", "AlarmEmail": "ada@example.com"}, []),
        ({"MonthlyBudget": "50"}, ["MonthlyBudget needs AlarmEmail, who is told"]),
        ({}, []),
    ],
)
def test_parameters_that_need_each_other_are_refused_alone(parameters: dict[str, str], broken: list[str]) -> None:
    [stack] = stacks_of([parameters])
    assert [
        assertion["AssertDescription"]
        for rule in stack.template["Rules"].values()
        if holds(rule["RuleCondition"], stack.parameters, {})
        for assertion in rule["Assertions"]
        if not holds(assertion["Assert"], stack.parameters, {})
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
            "ExposeHeaders": ["retry-after", "server-timing", "x-request-id", "x-model-version"],
            "MaxAge": 3600,
        }


@pytest.mark.parametrize(("role", "log"), [("ApiRole", "ApiLogs"), ("StreamRole", "StreamLogs")])
def test_api_may_do_this_and_nothing_more(stack: Stack, role: str, log: str) -> None:
    if role not in stack.template["Resources"]:
        assert (role, stack.parameters["Streaming"]) == ("StreamRole", "none")
        return
    keys = {"Fn::GetAtt": ["KeysTable", "Arn"]}
    counts = {"ForAllValues:StringEquals": {"dynamodb:Attributes": ["key_hash", "used", "expires_at"]}}
    may_look_keys_up_and_count = [
        allow("dynamodb:GetItem", keys),
        {**allow("dynamodb:UpdateItem", keys), "Condition": counts},
    ]
    assert list(statements(stack, role)) == [
        *READ_THE_MODEL,
        *(may_look_keys_up_and_count if stack.parameters["AuthMode"] == "api-key" else []),
        allow(["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], results("files")),
        allow(["s3:GetObject", "s3:PutObject"], results("uploads")),
        allow(["s3:GetObject", "s3:PutObject"], [results("batches/created"), results("batches/states")]),
        allow(["s3:GetObject", "s3:PutObject"], results("jobs/requested")),
        allow("s3:GetObject", results("results/jobs")),
        allow("s3:ListBucket", {"Fn::GetAtt": ["ResultsBucket", "Arn"]}),
        allow(WRITE_THE_LOG, {"Fn::GetAtt": [log, "Arn"]}),
    ]


def test_functions_may_read_all_models_only_where_a_request_may_name_several() -> None:
    [stack] = stacks_of([{"Models": "tiny,other"}])
    all_models = allow("s3:GetObject", {"Fn::Sub": "${ModelsBucket.Arn}/models/*"})
    for role in ("ApiRole", "StreamRole", "WorkerRole"):
        assert list(statements(stack, role))[:3] == [READ_THE_MODEL[0], all_models, READ_THE_MODEL[1]]


def test_worker_may_do_this_and_nothing_more(stack: Stack) -> None:
    may_send_replies = allow(
        ["sqs:SendMessage", "sqs:GetQueueUrl", "events:PutEvents"], {"Fn::Split": [",", {"Ref": "ReplyTo"}]}
    )
    assert list(statements(stack, "WorkerRole")) == [
        *READ_THE_MODEL,
        allow(["s3:GetObject", "s3:PutObject"], [results("results"), results("files"), results("batches")]),
        allow(["s3:GetObject", "s3:PutObject", "s3:ListMultipartUploadParts"], results("bulk/runs")),
        allow("s3:GetObject", [results("inbox"), results("bulk/inputs"), results("jobs")]),
        allow("s3:ListBucket", {"Fn::GetAtt": ["ResultsBucket", "Arn"]}),
        allow(
            ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:GetQueueUrl"],
            [{"Fn::GetAtt": ["RequestQueue", "Arn"]}, {"Fn::GetAtt": ["BatchQueue", "Arn"]}],
        ),
        allow(["sqs:SendMessage", "sqs:GetQueueUrl"], {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}),
        allow("sqs:SendMessage", {"Fn::GetAtt": ["UndeliveredQueue", "Arn"]}),
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


def test_check_may_do_this_and_nothing_more(stack: Stack) -> None:
    groups = {
        "Fn::Join": [
            ":",
            [
                {"Fn::Sub": "arn:${AWS::Partition}:codedeploy:${AWS::Region}:${AWS::AccountId}:deploymentgroup"},
                {"Fn::Sub": "${ServerlessDeploymentApplication}/*"},
            ],
        ]
    }
    assert list(statements(stack, "CheckRole")) == [
        allow("lambda:InvokeFunction", {"Fn::Sub": "${ApiFunction.Arn}:*"}),
        allow("codedeploy:PutLifecycleEventHookExecutionStatus", groups),
        allow(WRITE_THE_LOG, {"Fn::GetAtt": ["CheckLogs", "Arn"]}),
    ]


def test_deployment_may_do_this_and_nothing_more(stack: Stack) -> None:
    assert list(statements(stack, "DeploymentRole")) == [
        allow(
            ["lambda:GetAlias", "lambda:UpdateAlias", "lambda:GetProvisionedConcurrencyConfig"],
            [{"Fn::GetAtt": ["ApiFunction", "Arn"]}, {"Fn::Sub": "${ApiFunction.Arn}:*"}],
        ),
        allow("lambda:InvokeFunction", {"Fn::GetAtt": ["CheckFunction", "Arn"]}),
        allow("cloudwatch:DescribeAlarms", "*"),
    ]


def test_every_role_is_written_out_here_for_one_user(stack: Stack) -> None:
    functions = {
        name: each["Properties"]["Role"]["Fn::GetAtt"][0]
        for name, each in stack.of_type("AWS::Lambda::Function").items()
    }
    stream = {} if stack.parameters["Streaming"] == "none" else {"StreamFunction": "StreamRole"}
    assert functions == {
        "ApiFunction": "ApiRole",
        "WorkerFunction": "WorkerRole",
        "CheckFunction": "CheckRole",
        **stream,
    }
    group = stack.properties("ApiFunctionDeploymentGroup")
    assert group["ServiceRoleArn"] == {"Fn::GetAtt": ["DeploymentRole", "Arn"]}
    roles = stack.of_type("AWS::IAM::Role")
    assert set(roles) == {*functions.values(), "DeploymentRole"}
    for name, role in roles.items():
        service = "codedeploy" if name == "DeploymentRole" else "lambda"
        assert "ManagedPolicyArns" not in role["Properties"]
        assert role["Properties"]["AssumeRolePolicyDocument"]["Statement"] == [
            {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ]


# What a star may stand for: the objects below a prefix of a bucket, versions of the function, deployments of the stack.
STARS = (
    r'/models/\$\{ModelName\}/\*"|ResultsBucket\.Arn\}(/[a-z]+){1,2}/\*"|\$\{ApiFunction\.Arn\}:\*"'
    r'|\$\{ServerlessDeploymentApplication\}/\*"'
)
# And what is a right to all or none.
INDIVISIBLE = allow("cloudwatch:DescribeAlarms", "*")


def test_no_statement_allows_by_wildcard(stack: Stack) -> None:
    for statement in statements(stack):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not [action for action in actions if "*" in action]
        if statement != INDIVISIBLE:
            assert re.sub(STARS, "", json.dumps(statement["Resource"])).count("*") == 0


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
