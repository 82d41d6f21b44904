"""Where tasks with a GPU run: instances that ECS manages, or an Auto Scaling group, on Spot as far as was chosen."""

import base64
import re
from typing import Any

from tests.infrastructure.stack import Stack

GPU_OF_ITS_OWN = {
    "VCpuCount": {"Min": 4, "Max": 16},
    "MemoryMiB": {"Min": 16384},
    "AcceleratorTypes": ["gpu"],
    "AcceleratorManufacturers": ["nvidia"],
    "AcceleratorNames": {"Ref": "GpuNames"},
    "AcceleratorCount": {"Min": 1, "Max": 1},
}


def is_managed(stack: Stack) -> bool:
    return str(stack.parameters["GpuCapacity"]) == "managed-instances"


def uses_spot(stack: Stack) -> bool:
    return str(stack.parameters["GpuSpotPercent"]) != "0"


def launch(stack: Stack, name: str) -> dict[str, Any]:
    """How a capacity provider of managed instances starts them."""
    provider = stack.nested["GpuInstances"].properties(name)["ManagedInstancesProvider"]
    found: dict[str, Any] = provider["InstanceLaunchTemplate"]
    return found


def test_only_what_was_chosen_is_there(gpu_stack: Stack) -> None:
    instances = gpu_stack.nested["GpuInstances"]
    spot = {"Spot"} if uses_spot(gpu_stack) else set()
    providers = {"OnDemand"} | spot if is_managed(gpu_stack) else {"GroupProvider"}
    assert set(instances.of_type("AWS::ECS::CapacityProvider")) == providers
    groups = set(instances.of_type("AWS::AutoScaling::AutoScalingGroup"))
    assert groups == (set() if is_managed(gpu_stack) else {"Group"})


def test_instances_have_one_gpu_of_those_that_will_do(gpu_stack: Stack) -> None:
    instances = gpu_stack.nested["GpuInstances"]
    for name in instances.of_type("AWS::ECS::CapacityProvider"):
        if is_managed(gpu_stack):
            assert launch(gpu_stack, name)["InstanceRequirements"] == GPU_OF_ITS_OWN
    for group in instances.of_type("AWS::AutoScaling::AutoScalingGroup").values():
        template = group["Properties"]["MixedInstancesPolicy"]["LaunchTemplate"]
        assert template["Overrides"] == [{"InstanceRequirements": GPU_OF_ITS_OWN}]
    # A task fits the smallest.
    definition = gpu_stack.nested["Gpu"].properties("TaskDefinition")
    assert int(definition["Cpu"]) < GPU_OF_ITS_OWN["VCpuCount"]["Min"] * 1024  # type: ignore[index]
    assert int(definition["Memory"]) < GPU_OF_ITS_OWN["MemoryMiB"]["Min"] - 2048  # type: ignore[index]
    assert instances.parameters["GpuNames"] == "l4,a10g"


def test_spot_has_the_share_that_was_chosen(gpu_stack: Stack) -> None:
    rest = {"Fn::FindInMap": ["OnDemand", {"Ref": "GpuSpotPercent"}, "Percent"]}
    for spot, left in gpu_stack.template["Mappings"]["OnDemand"].items():
        assert int(spot) + left["Percent"] == 100
    service = gpu_stack.nested["Gpu"]
    strategy = [{"CapacityProvider": {"Ref": "Provider"}, "Weight": {"Ref": "Weight"}}]
    if is_managed(gpu_stack) and uses_spot(gpu_stack):
        assert launch(gpu_stack, "Spot")["CapacityOptionType"] == "SPOT"
        assert launch(gpu_stack, "OnDemand")["CapacityOptionType"] == "ON_DEMAND"
        strategy += [{"CapacityProvider": {"Ref": "SpotProvider"}, "Weight": {"Ref": "SpotWeight"}}]
        assert (service.parameters["Weight"], service.parameters["SpotWeight"]) == (rest, "25")
    assert service.properties("Service")["CapacityProviderStrategy"] == strategy
    for group in gpu_stack.nested["GpuInstances"].of_type("AWS::AutoScaling::AutoScalingGroup").values():
        distribution = group["Properties"]["MixedInstancesPolicy"]["InstancesDistribution"]
        assert distribution["OnDemandPercentageAboveBaseCapacity"] == {"Ref": "OnDemandPercent"}
        assert gpu_stack.nested["GpuInstances"].parameters["OnDemandPercent"] == rest


def test_a_group_starts_at_none_and_ends_no_instance_that_works(gpu_stack: Stack) -> None:
    if is_managed(gpu_stack):
        return
    instances = gpu_stack.nested["GpuInstances"]
    assert instances.properties("GroupProvider")["AutoScalingGroupProvider"] == {
        "AutoScalingGroupArn": {"Ref": "Group"},
        "ManagedScaling": {"Status": "ENABLED", "TargetCapacity": 100, "InstanceWarmupPeriod": 300},
        "ManagedTerminationProtection": "ENABLED",
        "ManagedDraining": "ENABLED",
    }
    group = instances.properties("Group")
    assert (group["MinSize"], group["NewInstancesProtectedFromScaleIn"]) == ("0", True)
    # Twice the most tasks, for while a deployment puts others in their place.
    assert int(group["MaxSize"]) == 2 * gpu_stack.template["Parameters"]["GpuMaxTasks"]["MaxValue"]
    # ECS does not hear of instances that this would take away.
    assert "CapacityRebalance" not in group


def test_a_groups_instances_drain_on_a_spot_notice_and_keep_their_rights_from_tasks(gpu_stack: Stack) -> None:
    if is_managed(gpu_stack):
        return
    instances = gpu_stack.nested["GpuInstances"]
    data = instances.properties("LaunchTemplate")["LaunchTemplateData"]
    script = data["UserData"]["Fn::Base64"]["Fn::Sub"]
    assert set(re.findall(r"^ECS_.*$", script, re.MULTILINE)) == {
        "ECS_CLUSTER=${Cluster}",
        "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true",
        "ECS_AWSVPC_BLOCK_IMDS=true",
    }
    assert script.startswith("#!/bin/sh\n")
    assert len(base64.b64encode(script.encode())) < 16384
    assert data["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    [disk] = data["BlockDeviceMappings"]
    assert disk["Ebs"]["Encrypted"] is True
    # The image is AWS's own for ECS on GPUs, as it is at the time.
    assert data["ImageId"] == {"Ref": "ImageId"}
    parameter = instances.template["Parameters"]["ImageId"]
    assert parameter["Type"] == "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>"
    assert parameter["Default"] == "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"


def test_how_many_tasks_there_should_be_is_a_metric(gpu_stack: Stack) -> None:
    cluster = gpu_stack.nested["GpuInstances"].properties("Cluster")
    assert cluster["ClusterSettings"] == [{"Name": "containerInsights", "Value": "enabled"}]
