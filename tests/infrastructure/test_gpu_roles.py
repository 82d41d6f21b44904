"""What each role of the GPU service may do, statement by statement, and nothing more."""

from typing import Any

from handler.events.messages import EVENT_SOURCE
from tests.infrastructure.stack import Stack, gpu_stacks
from tests.infrastructure.test_gpu_service import is_tandem
from tests.infrastructure.test_roles import WRITE_THE_LOG, allow, statements


def aws(service: str, resource: str) -> dict[str, str]:
    """Something of this account and region, by ARN."""
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{resource}"}


def bucket(name: str, objects: str = "") -> dict[str, str]:
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:s3:::${{{name}}}{objects}"}


def trusts(stack: Stack, role: str) -> tuple[str, bool]:
    """Who takes on a role, and whether for this account alone."""
    [statement] = stack.properties(role)["AssumeRolePolicyDocument"]["Statement"]
    own = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    return statement["Principal"]["Service"], statement.get("Condition") == own


def test_tasks_may_do_this_and_nothing_more(gpu_stack: Stack) -> None:
    roles = gpu_stack.nested["GpuRoles"]
    table = aws("dynamodb", "table/${KeysTable}")
    counts = {"ForAllValues:StringEquals": {"dynamodb:Attributes": ["key_hash", "used", "expires_at"]}}
    keys = [allow("dynamodb:GetItem", table), {**allow("dynamodb:UpdateItem", table), "Condition": counts}]
    served = "*" if gpu_stack.parameters.get("Models") else {"Fn::Sub": "${ModelName}/*"}
    replies = allow(
        ["sqs:SendMessage", "sqs:GetQueueUrl", "events:PutEvents"], {"Fn::Split": [",", {"Ref": "ReplyTo"}]}
    )
    read, write = "s3:GetObject", "s3:PutObject"
    assert list(statements(roles, "TaskRole")) == [
        allow(read, {"Fn::Sub": ["arn:${AWS::Partition}:s3:::${ModelsBucket}/models/${Served}", {"Served": served}]}),
        allow("s3:ListBucket", bucket("ModelsBucket")),
        *(keys if gpu_stack.parameters["AuthMode"] == "api-key" else []),
        allow([read, write, "s3:DeleteObject"], bucket("ResultsBucket", "/files/*")),
        allow(
            [read, write],
            [
                bucket("ResultsBucket", f"/{folder}/*")
                for folder in ("uploads", "batches/created", "batches/states", "jobs/requested")
            ],
        ),
        allow([read, write], bucket("ResultsBucket", "/results/*")),
        allow("s3:ListBucket", bucket("ResultsBucket")),
        allow(
            [
                "sqs:ReceiveMessage",
                "sqs:DeleteMessage",
                "sqs:ChangeMessageVisibility",
                "sqs:GetQueueAttributes",
                "sqs:GetQueueUrl",
            ],
            aws("sqs", "${RequestQueue}"),
        ),
        allow(["sqs:SendMessage", "sqs:GetQueueUrl"], aws("sqs", "${DeadLetterQueue}")),
        {
            **allow("events:PutEvents", aws("events", "event-bus/default")),
            "Condition": {"StringEquals": {"events:source": EVENT_SOURCE}},
        },
        *([replies] if gpu_stack.parameters["ReplyTo"] else []),
    ]
    assert trusts(roles, "TaskRole") == ("ecs-tasks.amazonaws.com", True)


def test_ecs_may_do_this_for_them_and_nothing_more(gpu_stack: Stack) -> None:
    roles = gpu_stack.nested["GpuRoles"]
    pull, *rest = statements(roles, "ExecutionRole")
    text, names = pull["Resource"]["Fn::Sub"]
    assert text == aws("ecr", "repository/${Repository}")["Fn::Sub"]
    assert repository_of(names["Repository"], gpu_stack.parameters["GpuImageUri"]) == "gpt2-gpu"
    assert pull["Action"] == ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    secret = allow("secretsmanager:GetSecretValue", {"Ref": "TandemKey"})
    assert rest == [
        allow("ecr:GetAuthorizationToken", "*"),
        *([secret] if is_tandem(gpu_stack) else []),
        allow(WRITE_THE_LOG, {"Fn::GetAtt": ["Logs", "Arn"]}),
    ]
    assert trusts(roles, "ExecutionRole") == ("ecs-tasks.amazonaws.com", True)


def repository_of(expression: Any, uri: str) -> Any:
    """Work out a selection of splits, as CloudFormation does."""
    match expression:
        case {"Ref": "ImageUri"}:
            return uri
        case {"Fn::Split": [separator, text]}:
            return repository_of(text, uri).split(separator)
        case {"Fn::Select": [number, several]}:
            return repository_of(several, uri)[int(number)]
    raise ValueError(f"{expression} is more than these tests understand")


def test_the_repository_is_found_however_the_image_is_named() -> None:
    pull = next(statements(gpu_stacks()["both-managed"].nested["GpuRoles"], "ExecutionRole"))
    expression = pull["Resource"]["Fn::Sub"][1]["Repository"]
    registry = "111122223333.dkr.ecr.us-east-1.amazonaws.com"
    for name in (f"{registry}/own", f"{registry}/own:v1.2", f"{registry}/own@sha256:{'0' * 64}"):
        assert repository_of(expression, name) == "own"


def test_functions_may_be_in_the_network_and_lambda_alone_may_put_them_there(gpu_stack: Stack) -> None:
    interfaces = ["ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface"]
    addresses = ["ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"]
    for role in gpu_stack.of_type("AWS::IAM::Role"):
        found = [each for each in statements(gpu_stack, role) if "ec2:" in str(each["Action"])]
        if not is_tandem(gpu_stack) or role not in {"ApiRole", "StreamRole"}:
            assert found == []
            continue
        allowed, denied = found
        described = ["ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"]
        assert (allowed["Effect"], allowed["Resource"]) == ("Allow", "*")
        assert set(allowed["Action"]) == {*interfaces, *addresses, *described}
        assert denied == {
            "Effect": "Deny",
            "Action": [*interfaces, *addresses],
            "Resource": "*",
            "Condition": {"Null": {"lambda:SourceFunctionArn": "false"}},
        }


def test_instances_may_be_of_this_cluster_and_nothing_more(gpu_stack: Stack) -> None:
    instances = gpu_stack.nested["GpuInstances"]
    aws_policy = {"Fn::Sub": "arn:${AWS::Partition}:iam::aws:policy/AmazonECSInstanceRolePolicyForManagedInstances"}
    if gpu_stack.parameters["GpuCapacity"] == "managed-instances":
        assert set(instances.of_type("AWS::IAM::Role")) == {"InfrastructureRole", "ManagedInstanceRole"}
        assert instances.properties("ManagedInstanceRole")["ManagedPolicyArns"] == [aws_policy]
        assert list(statements(instances, "InfrastructureRole")) == [
            {
                **allow("iam:PassRole", {"Fn::GetAtt": ["ManagedInstanceRole", "Arn"]}),
                "Condition": {"StringLike": {"iam:PassedToService": "ec2.*"}},
            }
        ]
        assert trusts(instances, "InfrastructureRole") == ("ecs.amazonaws.com", True)
        return
    cluster = {"Fn::GetAtt": ["Cluster", "Arn"]}
    join, report, ask = statements(instances, "GroupInstanceRole")
    assert join == allow(["ecs:RegisterContainerInstance", "ecs:DeregisterContainerInstance"], cluster)
    assert report["Condition"] == {"ArnEquals": {"ecs:cluster": cluster}}
    assert ask == allow("ecs:DiscoverPollEndpoint", "*")


def test_no_statement_allows_by_wildcard(gpu_stack: Stack) -> None:
    for stack in ("GpuRoles", "GpuInstances", "GpuNetwork"):
        for role, properties in gpu_stack.nested[stack].of_type("AWS::IAM::Role").items():
            for statement in (
                statements(gpu_stack.nested[stack], role) if "Policies" in properties["Properties"] else ()
            ):
                assert "*" not in str(statement["Action"])
                if statement["Action"] not in ("ecr:GetAuthorizationToken", "ecs:DiscoverPollEndpoint"):
                    assert statement["Resource"] != "*" or "ecs:cluster" in str(statement["Condition"])
