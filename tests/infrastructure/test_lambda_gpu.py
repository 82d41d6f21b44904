"""The fragment for Lambda on instances with GPUs: of the shape that AWS's API has, and not yet known to the linter."""

import re
from pathlib import Path
from typing import Any

import botocore.session
import yaml
from botocore.validate import ParamValidator

from tests.infrastructure.stack import ROOT
from tests.infrastructure.test_lint import run

PAGE = (ROOT / "docs/lambda-gpu.md").read_text()

# What CloudFormation takes with a function and the API by a call of its own.
APART = {"FunctionScalingConfig": "PutFunctionScalingConfig", "PublishToLatestPublished": "CreateFunction"}

# Values for what the fragment refers to.
ACCOUNT = "arn:aws:lambda:us-east-1:111122223333"
REFERENCES = {
    "GpuFunctionCapacity.Arn": f"{ACCOUNT}:capacity-provider:gpu",
    "ApiRole.Arn": "arn:aws:iam::111122223333:role/api",
    "GpuFunctionOperator.Arn": "arn:aws:iam::111122223333:role/operator",
    "GpuNetwork.Outputs.PrivateSubnetIds": "subnet-1,subnet-2",
    "GpuNetwork.Outputs.InstanceSecurityGroup": "sg-0123456789abcdef0",
}


class Fragment(yaml.SafeLoader):
    """YAML with CloudFormation's short forms, each as the value it would have."""


def _construct(loader: yaml.SafeLoader, form: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        separator, text = loader.construct_sequence(node, deep=True)
        return text.split(separator)
    assert isinstance(node, yaml.ScalarNode)
    return REFERENCES.get(node.value, node.value)


Fragment.add_multi_constructor("!", _construct)


def fragment() -> dict[str, Any]:
    """The resources, with values in place of references."""
    [text] = re.findall(r"^```yaml\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)
    resources: dict[str, Any] = yaml.load(text, Fragment)["Resources"]
    return resources


def faults(operation: str, parameters: dict[str, Any]) -> str:
    """What the API's own description finds wrong with a call; empty if nothing."""
    shape = botocore.session.get_session().get_service_model("lambda").operation_model(operation).input_shape
    assert shape is not None
    report: str = ParamValidator().validate(parameters, shape).generate_report()
    unknown = set(parameters) - set(shape.members)
    return report + "".join(f"no {name}" for name in sorted(unknown))


def test_the_function_is_what_the_api_takes() -> None:
    function = fragment()["GpuFunction"]["Properties"]
    given = {name: value for name, value in function.items() if name not in APART}
    assert faults("CreateFunction", {"FunctionName": "gpu", **given}) == ""
    assert given["AcceleratorConfig"]["AcceleratorMemorySize"] in {3, 6, 12, 16, 24, 48}
    scaling = {"FunctionName": "gpu", "Qualifier": "1", "FunctionScalingConfig": function["FunctionScalingConfig"]}
    assert faults("PutFunctionScalingConfig", scaling) == ""
    published = {"FunctionName": "gpu", **given, "PublishTo": "LATEST_PUBLISHED"}
    assert faults("CreateFunction", published) == ""


def test_the_capacity_provider_is_what_the_api_takes() -> None:
    provider = fragment()["GpuFunctionCapacity"]["Properties"]
    assert faults("CreateCapacityProvider", {"CapacityProviderName": "gpu", **provider}) == ""


def test_the_validator_finds_what_is_wrong() -> None:
    function = {"FunctionName": "gpu", "Role": "r", "Code": {}, "AcceleratorConfig": {"AcceleratorMemorySize": "24"}}
    assert "AcceleratorConfig.AcceleratorMemorySize" in faults("CreateFunction", function)
    assert faults("CreateFunction", {"FunctionName": "gpu", "Role": "r", "Code": {}, "Gpu": 1}).endswith("no Gpu")


def test_the_linter_refuses_the_one_property_that_is_new(tmp_path: Path) -> None:
    """When this fails the linter has learnt it, and the fragment may become a part of the template."""
    [text] = re.findall(r"^```yaml\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)
    given = ("GpuImageUri", "ModelsBucket", "ModelName")
    parameters = "".join(f"  {name}: {{ Type: String }}\n" for name in given)
    for reference, value in REFERENCES.items():
        if reference.startswith(("ApiRole", "GpuNetwork")):
            text = text.replace(f"!GetAtt {reference}", f'"{value}"')
    (tmp_path / "fragment.yaml").write_text(f"Parameters:\n{parameters}{text}")
    status, said = run("cfn-lint", str(tmp_path / "fragment.yaml"))
    assert status != 0
    assert re.findall(r"^([EW]\d+) (.*)$", said, re.MULTILINE) == [
        ("E3002", "Additional properties are not allowed ('AcceleratorConfig' was unexpected)")
    ]
