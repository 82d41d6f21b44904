"""What CloudFormation would create: the transformed template, with conditions decided for a choice of parameters."""

import itertools
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-sam/bin/python"

JWT = {"JwtIssuer": "https://issuer.example", "JwtAudience": "text,other"}

REPLY_TO = "arn:aws:sqs:us-east-1:111122223333:replies,arn:aws:events:us-east-1:111122223333:event-bus/answers"

_OFF = {"SnapStart": "false", "AllowedOrigins": "", "ReplyTo": "", "StreamConcurrency": "0", "Streaming": "url"}
_ON = {
    "SnapStart": "true",
    "AllowedOrigins": "https://a.example,https://b.example",
    "ReplyTo": REPLY_TO,
    "StreamConcurrency": "5",
}

# Every choice of how it is called that a condition of the template depends on: each with every AuthMode, and each on
# its own. What depends on two of them depends on AuthMode and Streaming, which are there in all combinations.
CALLED: list[dict[str, str]] = [
    {"AuthMode": mode, **_OFF, **changes, **(JWT if mode == "jwt" else {})}
    for mode, changes in [
        *itertools.product(
            ("api-key", "jwt", "iam"), [{}, _ON, *({"Streaming": to} for to in ("rest", "both", "none"))]
        ),
        *(("api-key", {name: value}) for name, value in _ON.items()),
    ]
]

# And of how it is operated, each alone, for no condition depends on two of them; and all at once.
WATCHED = {"AlarmEmail": "ada@example.com"}
OPERATED = ({"TrafficShift": "Canary10Percent5Minutes"}, {"MaxConcurrency": "20"}, WATCHED)
ALL_AT_ONCE = {name: value for choice in OPERATED for name, value in choice.items()} | {"MonthlyBudget": "50"}

CHOICES = CALLED + [CALLED[0] | choice for choice in (*OPERATED, ALL_AT_ONCE)]

# A GPU service: every target with every capacity, and each of the other choices that a condition depends on.
IMAGE = "111122223333.dkr.ecr.us-east-1.amazonaws.com/gpt2-gpu:1"
CERTIFIED = {
    "GpuCertificateArn": "arn:aws:acm:us-east-1:111122223333:certificate/1",
    "GpuDomain": "gpu.example.com",
}
GIVEN_VPC = {"VpcId": "vpc-1", "PrivateSubnetIds": "subnet-a,subnet-b", "PublicSubnetIds": "subnet-c,subnet-d"}
_TARGETS = {"both": {"ComputeTarget": "both"}, "gpu": {"ComputeTarget": "gpu", **CERTIFIED}}
_CAPACITIES = {"managed": "managed-instances", "group": "auto-scaling-group"}
GPU: dict[str, dict[str, str]] = {
    f"{target}-{capacity}{name}": {**CALLED[0], "GpuImageUri": IMAGE, **chosen, "GpuCapacity": kind, **changes}
    for target, chosen in _TARGETS.items()
    for capacity, kind in _CAPACITIES.items()
    for name, changes in {
        "": {},
        "-spot": {"GpuSpotPercent": "25"},
        **({"-given-certified": {**GIVEN_VPC, **CERTIFIED}} if capacity == "managed" else {}),
    }.items()
} | {
    "both-everything": {
        **CALLED[0], **ALL_AT_ONCE, "GpuImageUri": IMAGE, **_TARGETS["both"], "AuthMode": "iam", "Streaming": "none",
        "Models": "tiny,other", "ReplyTo": REPLY_TO,
    }
}  # fmt: skip

# What makes a bucket private, and encrypted.
PRIVATE: dict[str, Any] = {
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
}

NO_VALUE = {"Ref": "AWS::NoValue"}


def name_of(choice: Mapping[str, str]) -> str:
    """A choice as the id of a test."""
    return "-".join(
        [
            choice["AuthMode"],
            *(["snapshot"] if choice["SnapStart"] == "true" else []),
            *(["origins"] if choice["AllowedOrigins"] else []),
            *(["replies"] if choice["ReplyTo"] else []),
            *([choice["Streaming"]] if choice["Streaming"] != "url" else []),
            *(["streams-bounded"] if choice["StreamConcurrency"] != "0" else []),
            *(["gradual"] if "TrafficShift" in choice else []),
            *(["bounded"] if "MaxConcurrency" in choice else []),
            *(["watched"] if "AlarmEmail" in choice else []),
            *(["budget"] if "MonthlyBudget" in choice else []),
        ]
    )


@dataclass(frozen=True)
class Stack:
    """A template in which nothing is conditional any more.

    Attributes:
        template: the whole of it.
        parameters: the values it was decided for, defaults included; a nested one's may be of the parent's making.
        nested: the stacks within it, by logical id.
    """

    template: dict[str, Any]
    parameters: dict[str, Any]
    nested: "dict[str, Stack]"

    @property
    def family(self) -> "list[Stack]":
        """The stack and all within it."""
        return [self, *(member for each in self.nested.values() for member in each.family)]

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """The resources of a type, by logical id."""
        return {name: each for name, each in self.template["Resources"].items() if each["Type"] == kind}

    def properties(self, name: str) -> dict[str, Any]:
        """The properties of one resource."""
        properties: dict[str, Any] = self.template["Resources"][name]["Properties"]
        return properties


@cache
def stacks() -> dict[str, Stack]:
    """Every choice's stack, by the choice's name."""
    return dict(zip(map(name_of, CHOICES), stacks_of(CHOICES), strict=True))


@cache
def gpu_stacks() -> dict[str, Stack]:
    """The stacks with a GPU service, by the choices' names."""
    return dict(zip(GPU, stacks_of(list(GPU.values())), strict=True))


def stacks_of(choices: Sequence[Mapping[str, str]]) -> list[Stack]:
    """Transform the template for some choices, all in one process, for starting it takes longest."""
    done = subprocess.run(
        [str(PYTHON), str(Path(__file__).with_name("sam_transform.py"))],
        cwd=ROOT,
        input=json.dumps([{**choice} for choice in choices]),
        env={**os.environ, "AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [
        _decided(template, {name: str(each["Default"]) for name, each in template["Parameters"].items()} | dict(choice))
        for template, choice in zip(json.loads(done.stdout), choices, strict=True)
    ]


def holds(condition: Any, parameters: Mapping[str, Any], conditions: Mapping[str, Any]) -> bool:
    """Decide a condition or an assertion, as far as this template uses CloudFormation's functions."""
    match condition:
        case {"Condition": name}:
            return holds(conditions[name], parameters, conditions)
        case {"Fn::And": several}:
            return all(holds(inner, parameters, conditions) for inner in several)
        case {"Fn::Or": several}:
            return any(holds(inner, parameters, conditions) for inner in several)
        case {"Fn::Not": [inner]}:
            return not holds(inner, parameters, conditions)
        case {"Fn::Equals": [left, right]}:
            return _value(left, parameters) == _value(right, parameters)
    raise ValueError(f"{condition} is more than these tests understand")


def _value(operand: Any, parameters: Mapping[str, Any]) -> str:
    return str(parameters[operand["Ref"]] if isinstance(operand, dict) else operand)


def _decided(template: dict[str, Any], parameters: dict[str, Any]) -> Stack:
    conditions = template.pop("Conditions", {})

    def decide(node: Any) -> Any:
        if isinstance(node, list):
            return [each for each in map(decide, node) if each != NO_VALUE]
        if not isinstance(node, dict):
            return node
        if list(node) == ["Fn::If"]:
            name, then, otherwise = node["Fn::If"]
            return decide(then if holds(conditions[name], parameters, conditions) else otherwise)
        return {key: value for key, value in ((key, decide(value)) for key, value in node.items()) if value != NO_VALUE}

    inner = {name: each.pop("Template") for name, each in template["Resources"].items() if "Template" in each}
    for section in ("Resources", "Outputs"):
        template[section] = {
            name: decide({key: value for key, value in each.items() if key != "Condition"})
            for name, each in template.get(section, {}).items()
            if "Condition" not in each or holds(conditions[each["Condition"]], parameters, conditions)
        }
    given = {name: each.get("Properties", {}).get("Parameters", {}) for name, each in template["Resources"].items()}
    nested = {
        name: _decided(each, {key: _known(value, parameters) for key, value in given[name].items()})
        for name, each in inner.items()
        if name in given
    }
    return Stack(template, parameters, nested)


def _known(value: Any, parameters: Mapping[str, Any]) -> Any:
    """A parameter's value where a nested stack is handed it on, and any other value as it is."""
    return parameters.get(value["Ref"], value) if isinstance(value, dict) and list(value) == ["Ref"] else value
