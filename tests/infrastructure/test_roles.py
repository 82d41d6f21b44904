"""What each role may do, statement by statement, and nothing more."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from handler.events.messages import EVENT_SOURCE
from tests.infrastructure.stack import Stack, stacks_of


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
