"""Who reaches the GPU service, and whom it reaches: nobody but the functions, or the internet by TLS alone."""

from typing import Any

import pytest

from tests.infrastructure.stack import GPU, IMAGE, Stack, gpu_stacks, holds
from tests.infrastructure.test_functions import functions_of
from tests.infrastructure.test_gpu_service import attributes, is_tandem

ANYWHERE = "0.0.0.0/0"


def rules(stack: Stack) -> set[tuple[str, str, str, Any]]:
    """Every rule of a security group: whose, in or out, to or from whom, and the port."""
    found = set()
    network = stack.nested["GpuNetwork"]
    for name, group in network.of_type("AWS::EC2::SecurityGroup").items():
        assert "SecurityGroupIngress" not in group["Properties"]
        for rule in group["Properties"]["SecurityGroupEgress"]:
            found.add((name, "out", _peer(rule), _port(rule)))
    for way, kind in (("in", "AWS::EC2::SecurityGroupIngress"), ("out", "AWS::EC2::SecurityGroupEgress")):
        for each in network.of_type(kind).values():
            rule = each["Properties"]
            found.add((rule["GroupId"]["Fn::GetAtt"][0], way, _peer(rule), _port(rule)))
    return found


def _peer(rule: dict[str, Any]) -> str:
    group = rule.get("SourceSecurityGroupId") or rule.get("DestinationSecurityGroupId")
    peer: str = group["Fn::GetAtt"][0] if group else rule["CidrIp"]
    return peer


def _port(rule: dict[str, Any]) -> Any:
    assert rule["FromPort"] == rule["ToPort"]
    assert rule["IpProtocol"] == "tcp"
    return "balancer" if rule["FromPort"] == {"Ref": "BalancerPort"} else rule["FromPort"]


def test_these_may_talk_to_each_other_and_nobody_else(gpu_stack: Stack) -> None:
    balancer, task, function = "BalancerSecurityGroup", "TaskSecurityGroup", "FunctionSecurityGroup"
    from_functions = {
        (function, "out", ANYWHERE, 443),
        (function, "out", balancer, "balancer"),
        (balancer, "in", function, "balancer"),
    }
    assert rules(gpu_stack) == {
        *(from_functions if is_tandem(gpu_stack) else {(balancer, "in", ANYWHERE, "balancer")}),
        (balancer, "out", task, 8080),
        (task, "in", balancer, 8080),
        (task, "out", ANYWHERE, 443),
        ("InstanceSecurityGroup", "out", ANYWHERE, 443),
    }


def test_the_internet_reaches_it_by_tls_alone(gpu_stack: Stack) -> None:
    balancer, listener = (gpu_stack.nested["GpuBalancer"].properties(name) for name in ("LoadBalancer", "Listener"))
    certified = bool(gpu_stack.parameters["GpuCertificateArn"])
    given = gpu_stack.nested["GpuBalancer"].parameters
    assert balancer["Scheme"] == {"Ref": "Scheme"}
    assert given["Scheme"] == ("internal" if is_tandem(gpu_stack) else "internet-facing")
    assert given["Port"] == (443 if certified else 80)
    assert listener["Protocol"] == ("HTTPS" if certified else "HTTP")
    assert certified or is_tandem(gpu_stack)
    if certified:
        assert listener["SslPolicy"] == "ELBSecurityPolicy-TLS13-1-2-2021-06"
        assert listener["Certificates"] == [{"CertificateArn": {"Ref": "CertificateArn"}}]
    url = gpu_stack.nested["GpuBalancer"].template["Outputs"]["Url"]["Value"]
    assert url == {"Fn::Sub": "https://${Domain}" if certified else "http://${LoadBalancer.DNSName}"}
    where = "PrivateSubnetIds" if is_tandem(gpu_stack) else "PublicSubnetIds"
    assert given["SubnetIds"] == {"Fn::GetAtt": ["GpuNetwork", f"Outputs.{where}"]}


def test_the_balancer_drops_what_is_malformed_and_logs_who_came(gpu_stack: Stack) -> None:
    settings = attributes(gpu_stack, "LoadBalancer", "LoadBalancerAttributes")
    assert settings["routing.http.drop_invalid_header_fields.enabled"] == "true"
    assert settings["access_logs.s3.enabled"] == "true"
    assert settings["access_logs.s3.bucket"] == {"Ref": "AccessLogs"}
    assert settings["deletion_protection.enabled"] == {"Ref": "DeletionProtection"}
    logs = gpu_stack.nested["GpuBalancer"].properties("AccessLogs")
    assert all(logs["PublicAccessBlockConfiguration"].values())
    forgotten = logs["LifecycleConfiguration"]["Rules"][0]
    assert forgotten["ExpirationInDays"] == {"Ref": "LogRetentionDays"}


def test_functions_are_in_the_network_where_they_call_it(gpu_stack: Stack) -> None:
    for name, function in functions_of(gpu_stack).items():
        inside = is_tandem(gpu_stack) and name != "WorkerFunction"
        assert function.get("VpcConfig") == (
            {
                "SubnetIds": {"Fn::Split": [",", {"Fn::GetAtt": ["GpuNetwork", "Outputs.PrivateSubnetIds"]}]},
                "SecurityGroupIds": [{"Fn::GetAtt": ["GpuNetwork", "Outputs.FunctionSecurityGroup"]}],
            }
            if inside
            else None
        )


def test_tasks_have_no_address_that_the_internet_knows(gpu_stack: Stack) -> None:
    network = gpu_stack.nested["Gpu"].properties("Service")["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert network["AssignPublicIp"] == "DISABLED"
    assert gpu_stack.nested["Gpu"].parameters["SubnetIds"] == {"Fn::GetAtt": ["GpuNetwork", "Outputs.PrivateSubnetIds"]}


def test_a_network_is_made_where_none_is_given(gpu_stack: Stack) -> None:
    network = gpu_stack.nested["GpuNetwork"]
    outputs = {name: each["Value"] for name, each in network.template["Outputs"].items()}
    if gpu_stack.parameters["VpcId"]:
        assert {each["Type"] for each in network.template["Resources"].values()} <= {
            "AWS::EC2::SecurityGroup",
            "AWS::EC2::SecurityGroupIngress",
            "AWS::EC2::SecurityGroupEgress",
        }
        assert outputs["PrivateSubnetIds"] == {"Ref": "PrivateSubnetIds"}
        return
    zones = {name: each["Properties"]["AvailabilityZone"] for name, each in network.of_type("AWS::EC2::Subnet").items()}
    assert zones == {
        f"{kind}Subnet{zone}": {"Fn::Select": [number, {"Fn::GetAZs": ""}]}
        for kind in ("Public", "Private")
        for number, zone in enumerate("AB")
    }
    assert not any("MapPublicIpOnLaunch" in each["Properties"] for each in network.of_type("AWS::EC2::Subnet").values())
    assert len(network.of_type("AWS::EC2::NatGateway")) == 1
    # Models and keys are read without passing it.
    endpoints = network.of_type("AWS::EC2::VPCEndpoint").values()
    assert {each["Properties"]["ServiceName"]["Fn::Sub"].rpartition(".")[2] for each in endpoints} == {"s3", "dynamodb"}
    for each in endpoints:
        assert each["Properties"]["RouteTableIds"] == [{"Ref": "PrivateRoutes"}]


@pytest.mark.parametrize(
    ("parameters", "broken"),
    [
        *((choice, []) for choice in GPU.values()),
        (
            {"ComputeTarget": "both"},
            ["ComputeTarget=gpu and both need GpuImageUri; `make gpu-image` makes the image"],
        ),
        (
            {"ComputeTarget": "gpu", "GpuImageUri": IMAGE, "AuthMode": "iam"},
            [
                "ComputeTarget=gpu needs GpuCertificateArn, for keys and texts cross the internet",
                "ComputeTarget=gpu needs AuthMode=api-key or jwt; a load balancer checks no signatures",
            ],
        ),
        ({"GpuCertificateArn": "arn:aws:acm:1"}, ["GpuCertificateArn needs GpuDomain, the name it is for"]),
        ({"VpcId": "vpc-1"}, ["VpcId needs PrivateSubnetIds, at least two"]),
    ],
)
def test_choices_that_cannot_work_are_refused_before_anything_is_made(
    parameters: dict[str, str], broken: list[str]
) -> None:
    stack = gpu_stacks()["both-managed"]
    defaults = {name: str(each["Default"]) for name, each in stack.template["Parameters"].items()}
    given = defaults | parameters
    found = [
        assertion["AssertDescription"]
        for rule in stack.template["Rules"].values()
        if holds(rule["RuleCondition"], given, {})
        for assertion in rule["Assertions"]
        if not holds(assertion["Assert"], given, {})
    ]
    assert found == broken
