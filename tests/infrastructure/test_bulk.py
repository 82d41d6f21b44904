"""The state machine for bulk: bounded, tried again, logged, and allowed no more than it needs."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from handler.events.bulk import JoinEvent, PartEvent, SplitEvent
from handler.work.answering import WRITE_SECONDS
from handler.work.bulk import limits
from handler.work.bulk.runs import INPUTS, RUNS
from lifecycle.local.state_machine import WORKER, definition, template
from tests.infrastructure.stack import Stack

MACHINE: dict[str, Any] = json.loads(definition("results", 7, "2.5"))
PARTS = MACHINE["States"]["Parts"]
TASKS = {"Split": MACHINE["States"]["Split"], "Join": MACHINE["States"]["Join"]} | {
    "Part": PARTS["ItemProcessor"]["States"]["Part"]
}


def resources() -> dict[str, Any]:
    found: dict[str, Any] = template()["Resources"]
    return found


def statements() -> Iterator[dict[str, Any]]:
    documents = [policy["PolicyDocument"] for policy in resources()["Role"]["Properties"]["Policies"]]
    for document in [*documents, resources()["ChildrenPolicy"]["Properties"]["PolicyDocument"]]:
        yield from document["Statement"]


def test_it_is_handed_the_published_worker_and_parameters_of_the_stack(stack: Stack) -> None:
    nested = stack.template["Resources"]["Bulk"]
    assert nested["Properties"] == {
        "TemplateURL": "infra/bulk.yaml",
        "Parameters": {
            "Worker": {"Ref": "WorkerFunctionAliaslive"},
            "ResultsBucket": {"Ref": "ResultsBucket"},
            "Concurrency": {"Ref": "BulkConcurrency"},
            "ToleratedFailures": {"Ref": "BulkToleratedFailures"},
            "LogRetentionDays": {"Ref": "LogRetentionDays"},
        },
    }
    assert set(nested["Properties"]["Parameters"]) == set(template()["Parameters"])
    assert (stack.parameters["BulkConcurrency"], stack.parameters["BulkToleratedFailures"]) == ("10", "1.0")


def test_both_templates_agree_on_the_bounds(default_stack: Stack) -> None:
    outer, inner = default_stack.template["Parameters"], template()["Parameters"]
    concurrency = {name: outer["BulkConcurrency"][name] for name in ("Type", "MinValue", "MaxValue")}
    assert concurrency == {name: inner["Concurrency"][name] for name in concurrency}
    assert concurrency["MaxValue"] == limits.MOST_RANGES
    pattern = outer["BulkToleratedFailures"]["AllowedPattern"]
    assert pattern == inner["ToleratedFailures"]["AllowedPattern"]
    assert [text for text in ("0.0", "5.5", "100.0", "5", "101.0", "-1.0", "") if re.fullmatch(pattern, text)] == [
        "0.0",
        "5.5",
        "100.0",
    ]


def test_nested_stacks_hold_no_functions() -> None:
    assert {each["Type"] for each in resources().values()} == {
        "AWS::StepFunctions::StateMachine",
        "AWS::IAM::Role",
        "AWS::IAM::Policy",
        "AWS::Logs::LogGroup",
    }


def test_the_map_is_distributed_bounded_and_tolerates_what_it_is_told() -> None:
    assert PARTS["ItemProcessor"]["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    assert (PARTS["MaxConcurrency"], PARTS["ToleratedFailurePercentage"]) == (7, 2.5)
    # The list of ranges comes from S3, and what they return goes there: neither fits what one state hands to the next.
    assert PARTS["ItemReader"]["Parameters"] == {"Bucket": "results", "Key.$": "$.plan"}
    assert PARTS["ItemReader"]["ReaderConfig"] == {"InputType": "JSON"}
    assert PARTS["ResultWriter"]["Parameters"] == {"Bucket": "results", "Prefix": "bulk/maps"}


def test_steps_say_what_the_worker_reads() -> None:
    def fields(payload: dict[str, Any]) -> set[str]:
        return {name.removesuffix(".$") for name in payload}

    assert fields(TASKS["Split"]["Parameters"]["Payload"]) == set(SplitEvent.model_fields)
    assert fields(TASKS["Join"]["Parameters"]["Payload"]) == set(JoinEvent.model_fields)
    assert fields(TASKS["Part"]["Parameters"]["Payload"]) == set(PartEvent.model_fields)
    assert fields(PARTS["ItemSelector"]) == set(PartEvent.model_fields) - {"bulk"}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_tried_again_with_backoff_and_has_an_end(name: str, default_stack: Stack) -> None:
    task = TASKS[name]
    assert (task["Resource"], task["Parameters"]["FunctionName"]) == ("arn:aws:states:::lambda:invoke", WORKER)
    final, rest = task["Retry"]
    # What lies in the request itself is not tried again.
    assert final == {"ErrorEquals": ["InvalidRequestError", "NoSuchObjectError"], "MaxAttempts": 0}
    assert rest == {
        "ErrorEquals": ["States.ALL"],
        "IntervalSeconds": 2,
        "BackoffRate": 2.0,
        "MaxDelaySeconds": 60,
        "MaxAttempts": 6,
        "JitterStrategy": "FULL",
    }
    # Behind the function's own timeout, which says more.
    timeout = default_stack.properties("WorkerFunction")["Timeout"]
    assert timeout + WRITE_SECONDS <= task["TimeoutSeconds"] <= 1.5 * timeout


def test_a_turn_is_a_task_and_a_choice_as_the_arithmetic_has_it() -> None:
    states = PARTS["ItemProcessor"]["States"]
    assert {name: (each["Type"], each.get("Next") or each.get("Default")) for name, each in states.items()} == {
        "Part": ("Task", "Is the part finished?"),
        "Is the part finished?": ("Choice", "Part"),
        "Part finished": ("Pass", None),
    }
    # A task is entered, scheduled, started, succeeded and exited; a choice entered and exited.
    assert limits.EVENTS_OF_A_TURN == 5 + 2


def test_it_is_logged_and_traced_and_logs_are_forgotten() -> None:
    machine, logs = resources()["StateMachine"]["Properties"], resources()["Logs"]
    assert machine["LoggingConfiguration"] == {
        "Level": "ERROR",
        "IncludeExecutionData": False,
        "Destinations": [{"CloudWatchLogsLogGroup": {"LogGroupArn": "Logs.Arn"}}],
    }
    assert machine["TracingConfiguration"] == {"Enabled": True}
    assert logs["Properties"]["RetentionInDays"] == "LogRetentionDays"


def test_it_may_do_this_and_nothing_more() -> None:
    """Short forms are read as what they hold here: a name is a reference, a text a substitution."""
    bucket = "arn:${AWS::Partition}:s3:::${ResultsBucket}"
    execution = "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:execution:${StateMachine.Name}"
    found = list(statements())
    log_and_trace = found.pop(3)
    assert found == [
        {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "Worker"},
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"{bucket}/{RUNS}*/plan.json"},
        {
            "Effect": "Allow",
            "Action": ["s3:PutObject", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:AbortMultipartUpload"],
            "Resource": f"{bucket}/{PARTS['ResultWriter']['Parameters']['Prefix']}/*",
        },
        {"Effect": "Allow", "Action": "states:StartExecution", "Resource": "StateMachine"},
        {
            "Effect": "Allow",
            "Action": ["states:DescribeExecution", "states:StopExecution"],
            "Resource": [f"{execution}:*", f"{execution}/*"],
        },
    ]
    # These know no resources, as AWS has it, and do nothing but deliver logs and traces.
    assert log_and_trace["Resource"] == "*"
    allowed = re.compile(r"logs:(\w+LogDeliver(y|ies)|PutResourcePolicy|Describe\w+)|xray:(Put|GetSampling)\w+")
    assert [action for action in log_and_trace["Action"] if not allowed.fullmatch(action)] == []
    assert INPUTS.startswith("bulk/")
