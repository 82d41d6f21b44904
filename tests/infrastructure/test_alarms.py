"""What is watched, who is told, and what to do then: nothing fails unseen, and every alarm has its runbook."""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from handler.stages import Stage
from handler.tandem.exchange import Outcome
from handler.telemetry import COMPLETION_METRICS, DIMENSIONS, NAMESPACE, cold_start_metric, forwarded_metric
from tests.infrastructure.stack import ROOT, Stack, gpu_stacks
from tests.infrastructure.test_events import arn, mappings

# Its failure is the failure of the deployment that called it, which says so.
NOT_WATCHED = {"CheckFunction"}


@dataclass(frozen=True)
class Alarm:
    """An alarm: its kind, its properties, and what it watches, as metrics of resources of the whole stack."""

    kind: str
    properties: dict[str, Any]
    watches: set[tuple[str, str, str]]


def alarms(stack: Stack) -> Iterator[Alarm]:
    """Every alarm of a stack and those within it."""
    for member in stack.family:
        for kind, each in member.of_type("AWS::CloudWatch::Alarm").items():
            properties = each["Properties"]
            if "AlarmName" not in properties:
                continue  # it scales, and tells nobody: see test_gpu_scaling.py
            metrics = [
                metric["MetricStat"]["Metric"] for metric in properties.get("Metrics", []) if "MetricStat" in metric
            ]
            watches = {
                (metric["Namespace"], metric["MetricName"], resource_of(member, dimension["Value"]))
                for metric in metrics or [properties]
                for dimension in metric["Dimensions"]
            }
            yield Alarm(kind, properties, watches)


def resource_of(member: Stack, value: dict[str, str]) -> str:
    """The resource of the whole stack that a parameter of a nested one stands for."""
    resource = member.parameters.get(value["Ref"], value)
    name: str = resource["Ref"] if "Ref" in resource else resource["Fn::GetAtt"][0]
    return name


def watched(stack: Stack, namespace: str, metric: str) -> set[str]:
    """The resources whose metric some alarm watches."""
    return {
        resource
        for alarm in alarms(stack)
        for where, what, resource in alarm.watches
        if (where, what) == (namespace, metric)
    }


def kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def test_errors_and_throttles_of_every_function_are_told(stack: Stack) -> None:
    functions = set(stack.of_type("AWS::Lambda::Function")) - NOT_WATCHED
    assert watched(stack, "AWS/Lambda", "Errors") == functions
    assert watched(stack, "AWS/Lambda", "Throttles") == functions


def test_what_a_waking_gpu_service_tells_those_that_look_at_it_is_no_error(gpu_stack: Stack) -> None:
    metrics = gpu_stack.nested["GpuAlarms"].properties("GpuErrors")["Metrics"]
    share, ready = metrics[0]["Expression"], metrics[1]["MetricStat"]
    assert share == "IF(FILL(ready, 0) < 1, 0, 100 * (FILL(tasks, 0) + FILL(balancer, 0)) / requests)"
    assert (ready["Metric"]["MetricName"], ready["Stat"], ready["Period"]) == ("HealthyHostCount", "Minimum", 300)


def test_a_function_that_should_end_in_time_is_watched_by_its_own_timeout(operated_stack: Stack) -> None:
    watching = operated_stack.nested["Observability"].nested
    assert watching["ApiFunctionAlarms"].parameters["Timeout"] == operated_stack.parameters["Timeout"]
    worker = operated_stack.properties("WorkerFunction")
    assert watching["WorkerFunctionAlarms"].parameters["Timeout"] == worker["Timeout"]
    stream = operated_stack.properties("StreamFunction")
    assert watching["StreamFunctionAlarms"].parameters["Timeout"] == stream["Timeout"]
    assert watched(operated_stack, "AWS/Lambda", "Duration") == {"ApiFunction", "StreamFunction"}
    # Milliseconds by a hundredth of the timeout in milliseconds.
    duration = watching["ApiFunctionAlarms"].properties("FunctionDuration")
    assert duration["Metrics"][0]["Expression"] == {"Fn::Sub": "duration / (10 * ${Timeout})"}


def test_whatever_is_given_up_or_waits_too_long_is_told(stack: Stack) -> None:
    given_up = {arn(name)["Fn::GetAtt"][0] for name in ("DeadLetterQueue", "UndeliveredQueue")}
    redrives = [each["Properties"].get("RedrivePolicy") for each in stack.of_type("AWS::SQS::Queue").values()]
    rules = [target for rule in stack.of_type("AWS::Events::Rule").values() for target in rule["Properties"]["Targets"]]
    assert given_up == {
        *(redrive["deadLetterTargetArn"]["Fn::GetAtt"][0] for redrive in redrives if redrive),
        *(target["DeadLetterConfig"]["Arn"]["Fn::GetAtt"][0] for target in rules),
    }
    assert watched(stack, "AWS/SQS", "ApproximateNumberOfMessagesVisible") == given_up
    assert watched(stack, "AWS/SQS", "ApproximateAgeOfOldestMessage") == set(mappings(stack))


def test_errors_and_latency_of_the_api_are_told(stack: Stack) -> None:
    for metric in ("5xx", "Latency"):
        assert watched(stack, "AWS/ApiGateway", metric) == {"HttpApi"}


def test_no_data_is_no_trouble_and_trouble_is_told_to_whoever_wants_to_be(stack: Stack) -> None:
    tells = bool(stack.parameters["AlarmEmail"])
    for alarm in alarms(stack):
        assert alarm.properties["TreatMissingData"] == "notBreaching"
        topic = {"Ref": "Topic" if alarm.kind.startswith(("Function", "Gpu")) else "AlarmTopic"}
        expected = [topic] if tells else None
        assert (alarm.properties.get("AlarmActions"), alarm.properties.get("OKActions")) == (expected, expected)
    watching = stack.nested["Observability"]
    for nested in watching.nested.values():
        assert nested.parameters["Topic"] == ({"Ref": "AlarmTopic"} if tells else "")
    # A key has a price, which nobody should pay who is not told anything.
    assert {kind for kind in ("AlarmKey", "AlarmTopic") if kind in watching.template["Resources"]} == (
        {"AlarmKey", "AlarmTopic"} if tells else set()
    )


def test_names_of_alarms_are_the_stacks_own(operated_stack: Stack) -> None:
    names = [alarm.properties["AlarmName"]["Fn::Sub"] for alarm in alarms(operated_stack)]
    assert all(name.startswith("${StackName}-") for name in names)


def test_the_topic_is_encrypted_and_takes_messages_of_alarms_alone(operated_stack: Stack) -> None:
    watching = operated_stack.nested["Observability"]
    topic = watching.properties("AlarmTopic")
    assert topic["KmsMasterKeyId"] == arn("AlarmKey")
    assert topic["Subscription"] == [{"Protocol": "email", "Endpoint": {"Ref": "AlarmEmail"}}]
    assert watching.properties("AlarmKey")["EnableKeyRotation"] is True
    assert watching.properties("AlarmTopicPolicy")["PolicyDocument"]["Statement"] == [
        {
            "Sid": "TlsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": ["sns:Publish", "sns:Subscribe"],
            "Resource": {"Ref": "AlarmTopic"},
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
        {
            "Sid": "Alarms",
            "Effect": "Allow",
            "Principal": {"Service": "cloudwatch.amazonaws.com"},
            "Action": "sns:Publish",
            "Resource": {"Ref": "AlarmTopic"},
            "Condition": {
                "ArnLike": {
                    "aws:SourceArn": {
                        "Fn::Sub": "arn:${AWS::Partition}:cloudwatch:${AWS::Region}:${AWS::AccountId}:alarm:*"
                    }
                }
            },
        },
    ]


def test_a_budget_is_set_where_one_is_named(stack: Stack) -> None:
    budgets = stack.nested["Observability"].of_type("AWS::Budgets::Budget")
    assert len(budgets) == (stack.parameters["MonthlyBudget"] != "0")
    for budget in budgets.values():
        settings = budget["Properties"]["Budget"]
        assert settings["BudgetLimit"] == {"Amount": {"Ref": "MonthlyBudget"}, "Unit": "USD"}
        assert settings["FilterExpression"] == {
            "Tags": {"Key": "aws:cloudformation:stack-name", "Values": [{"Ref": "StackName"}]}
        }
        told = budget["Properties"]["NotificationsWithSubscribers"]
        assert [(each["Notification"]["NotificationType"], each["Notification"]["Threshold"]) for each in told] == [
            ("ACTUAL", 80),
            ("FORECASTED", 100),
        ]


def test_every_alarm_points_to_its_runbook_and_every_runbook_has_an_alarm() -> None:
    everything = gpu_stacks()["both-everything"]
    anchors = set()
    for alarm in alarms(everything):
        anchor = kebab(alarm.kind)
        assert alarm.properties["AlarmDescription"]["Fn::Sub"].endswith(f". Runbook: ${{Runbooks}}#{anchor}")
        anchors.add(anchor)
    anchors |= {kebab(name) for name in everything.nested["Observability"].of_type("AWS::Budgets::Budget")}
    # By default the descriptions name the file in this repository.
    page = (ROOT / everything.parameters["Runbooks"]).read_text()
    assert [heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", page, re.MULTILINE)] == sorted(
        anchors
    )


def test_the_dashboard_shows_every_metric_of_the_service(default_stack: Stack) -> None:
    text = body_of(default_stack)
    named = set(re.findall(r"\$\{([A-Za-z:]+)\}", text))
    of_the_gpu_service = {"GpuName", "GpuCluster", "GpuService", "GpuBalancer"}
    parameters = set(default_stack.nested["Dashboard"].template["Parameters"])
    assert named - {"AWS::Region"} == parameters - of_the_gpu_service
    own = {metric for metric in shown(text) if metric[0] == NAMESPACE}
    assert {metric[1] for metric in own} == {*COMPLETION_METRICS, *map(cold_start_metric, get_args(Stage))}
    assert {metric[2::2] for metric in own} == {DIMENSIONS}


def test_the_dashboard_shows_what_streams_beside_the_other_functions(stack: Stack) -> None:
    streamed = {metric[:2] for metric in shown(body_of(stack)) if "${StreamFunction}" in metric}
    lambdas = {("AWS/Lambda", name) for name in ("Errors", "Throttles", "ConcurrentExecutions")}
    tokens = {(NAMESPACE, name) for name in ("prompt_tokens", "completion_tokens")}
    assert streamed == (set() if stack.parameters["Streaming"] == "none" else lambdas | tokens)


def test_the_dashboard_shows_the_gpu_service_where_there_is_one(gpu_stack: Stack) -> None:
    before, both = shown(body_of(gpu_stack, without={"Gpu"})), shown(body_of(gpu_stack))
    assert before < both
    service = ("ClusterName", "${GpuCluster}", "ServiceName", "${GpuService}")
    assert ("ECS/ContainerInsights", "RunningTaskCount", *service) in both
    assert (NAMESPACE, "requests_in_flight", "function", "${GpuName}") in both
    forwarded = {(NAMESPACE, forwarded_metric(outcome.value), "function", "${ApiFunction}") for outcome in Outcome}
    assert {metric for metric in both if metric[1].startswith("forwarded")} == forwarded
    own = {metric[1] for metric in both - before if metric[:1] + metric[2::2] == (NAMESPACE, *DIMENSIONS)}
    assert own == set(COMPLETION_METRICS)


def body_of(stack: Stack, without: Collection[str] = ()) -> str:
    """What the dashboard consists of, its parts put together, perhaps without some."""
    text, parts = stack.nested["Dashboard"].properties("Dashboard")["DashboardBody"]["Fn::Sub"]
    for name, part in parts.items():
        text = text.replace(f"${{{name}}}", part["Fn::Sub"] if part and name not in without else "")
    return str(text)


def shown(body: str) -> set[tuple[str, ...]]:
    """The metrics of a dashboard, each written out."""
    metrics = set()
    for widget in json.loads(body)["widgets"]:
        before: list[str] = []
        for line in widget["properties"]["metrics"]:
            metric = [part for part in line if isinstance(part, str)]
            before = before if metric == ["..."] else [old if new == "." else new for new, old in pairs(metric, before)]
            metrics.add(tuple(before))
    return metrics


def pairs(metric: list[str], before: list[str]) -> Iterator[tuple[str, str]]:
    """Each part of a metric, and the part of the one before that a dot repeats."""
    return zip(metric, before or metric, strict=True)
