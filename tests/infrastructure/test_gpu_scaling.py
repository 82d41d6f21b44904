"""When the GPU service wakes, how far it grows and when it sleeps, as the alarms and policies have it."""

from typing import Any

from handler.telemetry import NAMESPACE
from tests.infrastructure.stack import Stack, gpu_stacks
from tests.infrastructure.test_gpu_service import is_tandem
from tests.unit.tandem import simulation

TASKS = ("ECS/ContainerInsights", "DesiredTaskCount", ({"Ref": "Cluster"}, {"Ref": "Service"}), "Maximum")
API = ("AWS/Lambda", "Invocations", ({"Ref": "ApiFunction"},), "Sum")
STREAM = ("AWS/Lambda", "Invocations", ({"Ref": "StreamFunction"},), "Sum")
MESSAGES = ("AWS/SQS", "ApproximateNumberOfMessagesVisible", ({"Ref": "RequestQueue"},), "Maximum")


def scaling(stack: Stack) -> Stack:
    return stack.nested["GpuScaling"]


def metrics(alarm: dict[str, Any]) -> dict[str, Any]:
    """What an alarm looks at every minute, by the name its expression gives it."""
    found = {}
    for each in alarm["Metrics"]:
        if "MetricStat" in each:
            metric = each["MetricStat"]["Metric"]
            assert (each["MetricStat"]["Period"], each["ReturnData"]) == (60, False)
            values = tuple(dimension["Value"] for dimension in metric["Dimensions"])
            found[each["Id"]] = (metric["Namespace"], metric["MetricName"], values, each["MetricStat"]["Stat"])
    return found


def test_it_sleeps_only_where_functions_answer_in_its_place(gpu_stack: Stack) -> None:
    stack, sleeps = scaling(gpu_stack), is_tandem(gpu_stack)
    target = stack.properties("Tasks")
    assert (target["MinCapacity"], target["MaxCapacity"]) == (0 if sleeps else 1, {"Ref": "MaxTasks"})
    assert target["ResourceId"] == {"Fn::Sub": "service/${Cluster}/${Service}"}
    assert stack.parameters["MaxTasks"] == "2"
    alarms = {"WakeForRequests", "WakeForMessages", "SleepWhenIdle"}
    assert set(stack.of_type("AWS::CloudWatch::Alarm")) == (alarms if sleeps else set())
    policies = {"FollowRequests", *(("Wake", "Sleep") if sleeps else ())}
    assert set(stack.of_type("AWS::ApplicationAutoScaling::ScalingPolicy")) == policies


def test_it_grows_with_the_requests_in_flight(gpu_stack: Stack) -> None:
    policy = scaling(gpu_stack).properties("FollowRequests")
    assert policy["PolicyType"] == "TargetTrackingScaling"
    followed = policy["TargetTrackingScalingPolicyConfiguration"]
    assert followed["TargetValue"] == {"Ref": "TargetRequests"}
    math, metric = followed["CustomizedMetricSpecification"]["Metrics"]
    assert metric == {
        "Id": "requests",
        "ReturnData": False,
        "MetricStat": {
            "Metric": {
                "Namespace": NAMESPACE,
                "MetricName": "requests_in_flight",
                "Dimensions": [{"Name": "function", "Value": {"Ref": "Name"}}],
            },
            "Stat": "Average",
        },
    }
    # It must not take the last task away: short requests are often not seen, and an alarm says when to sleep.
    assert (math["Expression"], math["ReturnData"]) == ("IF(requests < 1, 1, requests)", True)
    # A second task is asked for before the first refuses anybody.
    assert int(gpu_stack.parameters["GpuTargetRequests"]) < int(gpu_stack.parameters["GpuMaxRequests"])


def test_requests_to_the_functions_wake_it() -> None:
    stack = scaling(gpu_stacks()["both-managed"])
    alarm = stack.properties("WakeForRequests")
    assert metrics(alarm) == {"tasks": TASKS, "api": API, "stream": STREAM}
    assert alarm["Metrics"][0]["Expression"] == "IF(FILL(tasks, 0) < 1, FILL(api, 0) + FILL(stream, 0), 0)"
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == (
        "GreaterThanOrEqualToThreshold",
        {"Ref": "WakeRequests"},
    )
    assert alarm["EvaluationPeriods"] == 1
    assert (stack.parameters["ApiFunction"], stack.parameters["StreamFunction"]) == (
        {"Ref": "ApiFunction"},
        {"Ref": "StreamFunction"},
    )


def test_nothing_streams_and_requests_wake_it_all_the_same() -> None:
    stack = scaling(gpu_stacks()["both-everything"])
    assert stack.parameters["StreamFunction"] == ""
    assert metrics(stack.properties("WakeForRequests"))["stream"] == ("AWS/Lambda", "Invocations", ("none",), "Sum")


def test_messages_wake_it() -> None:
    stack = scaling(gpu_stacks()["both-managed"])
    alarm = stack.properties("WakeForMessages")
    assert metrics(alarm) == {"tasks": TASKS, "messages": MESSAGES}
    assert alarm["Metrics"][0]["Expression"] == "IF(FILL(tasks, 0) < 1, FILL(messages, 0), 0)"
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == (
        "GreaterThanOrEqualToThreshold",
        {"Ref": "WakeMessages"},
    )
    assert alarm["EvaluationPeriods"] == 1


def test_its_thresholds_are_those_that_were_simulated() -> None:
    parameters = scaling(gpu_stacks()["both-managed"]).parameters
    assert {name: int(parameters[name]) for name in ("WakeRequests", "WakeMessages", "IdleMinutes")} == {
        "WakeRequests": simulation.WAKE_REQUESTS,
        "WakeMessages": simulation.WAKE_MESSAGES,
        "IdleMinutes": simulation.IDLE_MINUTES,
    }


def test_waking_asks_for_one_task_and_for_no_other_while_that_one_comes() -> None:
    stack = scaling(gpu_stacks()["both-managed"])
    assert stack.properties("Wake")["StepScalingPolicyConfiguration"] == {
        "AdjustmentType": "ChangeInCapacity",
        "Cooldown": 900,
        "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
    }
    for name in ("WakeForRequests", "WakeForMessages"):
        assert stack.properties(name)["AlarmActions"] == [{"Ref": "Wake"}]
        assert stack.properties(name)["TreatMissingData"] == "notBreaching"


def test_it_sleeps_when_both_were_low_for_a_while() -> None:
    stack = scaling(gpu_stacks()["both-managed"])
    alarm = stack.properties("SleepWhenIdle")
    assert metrics(alarm) == {"tasks": TASKS, "api": API, "stream": STREAM, "messages": MESSAGES}
    # Not while the number of tasks is unknown: a minute that has not been told of yet is neither idle nor busy.
    assert alarm["Metrics"][0]["Expression"]["Fn::Sub"] == (
        "IF(tasks > 0 AND FILL(messages, 0) < ${WakeMessages} AND "
        "FILL(api, 0) + FILL(stream, 0) < ${WakeRequests}, 1, 0)"
    )
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 0)
    assert alarm["EvaluationPeriods"] == {"Ref": "IdleMinutes"}
    assert alarm["AlarmActions"] == [{"Ref": "Sleep"}]
    sleep = stack.properties("Sleep")["StepScalingPolicyConfiguration"]
    assert (sleep["AdjustmentType"], sleep["StepAdjustments"][0]["ScalingAdjustment"]) == ("ExactCapacity", 0)
