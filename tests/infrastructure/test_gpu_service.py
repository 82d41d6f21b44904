"""What runs on a GPU, what it is told, and how it comes and goes: for every target and capacity."""

from typing import Any

from handler.container.server import GRACE_SECONDS, KEEP_ALIVE_SECONDS
from handler.container.settings import ContainerSettings
from handler.memory import PROCESS_BYTES
from handler.settings import Settings
from tests.infrastructure.stack import GPU, IMAGE, Stack, gpu_stacks, stacks
from tests.infrastructure.test_functions import functions_of

# What a Spot instance has left when it is told to go.
NOTICE_SECONDS = 120

# What is told to a process of its own; the rest is told to functions, too.
OF_A_CONTAINER = {name.upper() for name in set(ContainerSettings.model_fields) - set(Settings.model_fields)}

# Without a function's environment around it, a process must be told where it is.
OF_THE_SDK = {"AWS_REGION", "AWS_DEFAULT_REGION"}


def container(stack: Stack) -> dict[str, Any]:
    """The container that serves."""
    [only] = stack.nested["Gpu"].properties("TaskDefinition")["ContainerDefinitions"]
    found: dict[str, Any] = only
    return found


def environment(stack: Stack) -> dict[str, Any]:
    """What it is told, as far as it is no secret."""
    return {each["Name"]: each["Value"] for each in container(stack)["Environment"]}


def is_tandem(stack: Stack) -> bool:
    return str(stack.parameters["ComputeTarget"]) == "both"


def attributes(stack: Stack, name: str, of: str) -> dict[str, Any]:
    """The attributes of the load balancer or its target group."""
    return {each["Key"]: each["Value"] for each in stack.nested["GpuBalancer"].properties(name)[of]}


def test_there_is_nothing_of_it_unless_asked_for() -> None:
    for stack in stacks().values():
        assert [name for name in stack.template["Resources"] if name.startswith(("Gpu", "Tandem"))] == []
        assert [name for name in stack.template["Outputs"] if name.startswith("Gpu")] == []


def test_functions_know_of_it_where_they_work_together(gpu_stack: Stack) -> None:
    for name, function in functions_of(gpu_stack).items():
        variables = function["Environment"]["Variables"]
        told = is_tandem(gpu_stack) and name != "WorkerFunction"
        assert {variable: variables[variable] for variable in ("DEVICE", "GPU_URL", "TANDEM_KEY")} == {
            "DEVICE": "cpu",
            "GPU_URL": {"Fn::GetAtt": ["GpuBalancer", "Outputs.Url"]} if told else "",
            "TANDEM_KEY": {"Fn::Sub": "{{resolve:secretsmanager:${TandemKey}}}"} if told else "",
        }


def test_the_secret_is_made_and_known_to_both_sides_alone(gpu_stack: Stack) -> None:
    secrets = gpu_stack.of_type("AWS::SecretsManager::Secret")
    assert set(secrets) == ({"TandemKey"} if is_tandem(gpu_stack) else set())
    for secret in secrets.values():
        made = secret["Properties"]["GenerateSecretString"]
        assert made == {"PasswordLength": 64, "ExcludePunctuation": True}
    expected = [{"Name": "TANDEM_KEY", "ValueFrom": {"Ref": "TandemKey"}}] if is_tandem(gpu_stack) else None
    assert container(gpu_stack).get("Secrets") == expected
    given = gpu_stack.nested["Gpu"].parameters["TandemKey"]
    assert given == ({"Ref": "TandemKey"} if is_tandem(gpu_stack) else "")


def test_it_is_told_what_the_functions_are_told(gpu_stack: Stack) -> None:
    told = environment(gpu_stack)
    # Left at their defaults: memory and threads are the machine's, a copy on disk helps nobody, and no GPU is ahead.
    left_out = {"HOST", "MEMORY_MB", "CACHE_MB", "THREADS", "GPU_URL", "TANDEM_KEY"}
    settings = {name.upper() for name in ContainerSettings.model_fields}
    assert set(told) == settings - left_out | OF_THE_SDK
    api = gpu_stack.properties("ApiFunction")["Environment"]["Variables"]
    handed_on = {
        name: gpu_stack.nested["Gpu"].parameters[value["Ref"]]
        for name, value in told.items()
        if name not in OF_A_CONTAINER | OF_THE_SDK and isinstance(value, dict)
    }
    same = {name: value for name, value in handed_on.items() if name not in {"ENGINE", "MAX_REQUESTS", "KV_CACHE_MB"}}
    assert same == {name: _value(api[name], gpu_stack) for name in same}
    assert (told["DEVICE"], handed_on["ENGINE"]) == ("cuda", "continuous")
    assert told["REQUEST_QUEUE_URL"] == {"Ref": "RequestQueueUrl"}
    assert gpu_stack.nested["Gpu"].parameters["RequestQueueUrl"] == {"Ref": "RequestQueue"}


def _value(value: Any, stack: Stack) -> Any:
    return stack.parameters.get(value["Ref"], value) if isinstance(value, dict) else value


def test_a_task_has_a_gpu_to_itself_and_little_else(gpu_stack: Stack) -> None:
    definition, serve = gpu_stack.nested["Gpu"].properties("TaskDefinition"), container(gpu_stack)
    managed = gpu_stack.parameters["GpuCapacity"] == "managed-instances"
    assert definition["RequiresCompatibilities"] == ["MANAGED_INSTANCES" if managed else "EC2"]
    assert definition["NetworkMode"] == "awsvpc"
    assert serve["ResourceRequirements"] == [{"Type": "GPU", "Value": "1"}]
    assert serve["Image"] == {"Ref": "ImageUri"}
    assert gpu_stack.nested["Gpu"].parameters["ImageUri"] == IMAGE
    assert (serve["User"], serve["ReadonlyRootFilesystem"], serve.get("Privileged", False)) == ("65534", True, False)
    assert serve["LinuxParameters"] == {"InitProcessEnabled": True, "Capabilities": {"Drop": ["ALL"]}}
    assert definition["Volumes"] == [{"Name": "tmp", "Host": {}}]
    assert serve["MountPoints"] == [{"SourceVolume": "tmp", "ContainerPath": "/tmp"}]
    # Not the one of metrics.
    assert [each["ContainerPort"] for each in serve["PortMappings"]] == [int(environment(gpu_stack)["PORT"])]


def test_it_is_checked_without_being_ended_while_it_loads(gpu_stack: Stack) -> None:
    check = container(gpu_stack)["HealthCheck"]
    assert check["Command"][:2] == ["CMD", "python"]
    assert "http://127.0.0.1:8080/healthz" in check["Command"][-1]
    assert check["StartPeriod"] == 300
    group = gpu_stack.nested["GpuBalancer"].properties("TargetGroup")
    assert (group["HealthCheckPath"], group["TargetType"], group["Port"]) == ("/readyz", "ip", 8080)
    assert gpu_stack.nested["Gpu"].properties("Service")["HealthCheckGracePeriodSeconds"] >= check["StartPeriod"]


def test_two_versions_fit_into_the_gpu_for_a_task_that_is_not_ready_meanwhile_would_be_replaced(
    gpu_stack: Stack,
) -> None:
    caches = 2 * int(gpu_stack.parameters["GpuKvCacheMb"]) * 1_000_000
    weights = 2 * 750_000_000  # GPT-2's, with what unpacking them takes
    assert PROCESS_BYTES + caches + weights <= 22 * 2**30  # of the 24 of an L4 or A10G


def test_what_is_under_way_is_finished_before_it_ends(gpu_stack: Stack) -> None:
    drain, stop = int(environment(gpu_stack)["DRAIN_SECONDS"]), container(gpu_stack)["StopTimeout"]
    assert drain < stop
    longest = 900  # what the function that streams has; a task's answers are no longer
    idle = int(attributes(gpu_stack, "LoadBalancer", "LoadBalancerAttributes")["idle_timeout.timeout_seconds"])
    # Of a connection that is not used, the balancer is the one to close it.
    assert longest < idle < KEEP_ALIVE_SECONDS
    group = gpu_stack.nested["GpuBalancer"].properties("TargetGroup")
    # The balancer notices the end while requests are still answered.
    assert group["HealthCheckIntervalSeconds"] * group["UnhealthyThresholdCount"] <= GRACE_SECONDS
    delay = int(attributes(gpu_stack, "TargetGroup", "TargetGroupAttributes")["deregistration_delay.timeout_seconds"])
    # On Spot, what is cut off must be so while there is time to give messages back.
    assert delay + stop <= NOTICE_SECONDS if gpu_stack.parameters["GpuSpotPercent"] != "0" else delay > longest


def test_a_deployment_that_fails_changes_nothing(gpu_stack: Stack) -> None:
    service = gpu_stack.nested["Gpu"].properties("Service")
    assert service["DeploymentConfiguration"] == {
        "MinimumHealthyPercent": 100,
        "MaximumPercent": 200,
        "DeploymentCircuitBreaker": {"Enable": True, "Rollback": True},
    }
    # Every update would set it, whatever scaling had made of it.
    assert "DesiredCount" not in service


def test_logs_are_kept_for_a_time_and_stop_nobody(gpu_stack: Stack) -> None:
    options = container(gpu_stack)["LogConfiguration"]["Options"]
    assert options["awslogs-group"] == {"Ref": "Logs"}
    assert options["mode"] == "non-blocking"
    for stack in ("GpuRoles", "GpuNetwork"):
        for group in gpu_stack.nested[stack].of_type("AWS::Logs::LogGroup").values():
            assert group["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}


def test_its_metrics_have_one_name_everywhere(gpu_stack: Stack) -> None:
    name = {"Fn::Sub": "${AWS::StackName}-gpu"}
    assert environment(gpu_stack)["SERVICE_NAME"] == {"Ref": "Name"}
    assert gpu_stack.nested["Gpu"].parameters["Name"] == name
    assert gpu_stack.nested["GpuScaling"].parameters["Name"] == name
    assert gpu_stack.nested["Dashboard"].parameters["GpuName"] == name


def test_every_choice_is_seen_here() -> None:
    chosen = {(each["ComputeTarget"], each.get("GpuCapacity", "managed-instances")) for each in GPU.values()}
    allowed = gpu_stacks()["both-managed"].template["Parameters"]
    targets = set(allowed["ComputeTarget"]["AllowedValues"]) - {"lambda"}
    assert chosen == {(target, kind) for target in targets for kind in allowed["GpuCapacity"]["AllowedValues"]}
