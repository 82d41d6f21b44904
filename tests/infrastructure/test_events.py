"""Queues, rules, the schedule and the results bucket: nothing is lost, nothing is open, and nothing runs away."""

import re
from typing import Any

import pytest

from handler.events.eventbridge import REQUEST_TYPE
from handler.events.s3 import BUS_SOURCE, CREATED_TYPE, INBOX
from handler.events.sqs import DELIVERIES
from handler.kept.batches import CONTINUED, CREATED
from handler.kept.jobs import REQUESTED
from tests.infrastructure.stack import PRIVATE, Stack

FOURTEEN_DAYS = 14 * 24 * 3600


def arn(name: str) -> dict[str, list[str]]:
    return {"Fn::GetAtt": [name, "Arn"]}


def mappings(stack: Stack) -> dict[str, dict[str, Any]]:
    """What takes messages from a queue to the worker, by the queue."""
    found = [each["Properties"] for each in stack.of_type("AWS::Lambda::EventSourceMapping").values()]
    return {each["EventSourceArn"]["Fn::GetAtt"][0]: each for each in found}


def test_messages_go_to_the_published_worker_and_only_failures_come_back(stack: Stack) -> None:
    common = {
        "FunctionName": {"Ref": "WorkerFunctionAliaslive"},
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "ScalingConfig": {"MaximumConcurrency": {"Ref": "WorkerConcurrency"}},
    }
    assert mappings(stack) == {
        "RequestQueue": {
            **common,
            "EventSourceArn": arn("RequestQueue"),
            "BatchSize": 10,
            "MaximumBatchingWindowInSeconds": 1,
        },
        "BatchQueue": {**common, "EventSourceArn": arn("BatchQueue"), "BatchSize": 1},
    }
    parameter = stack.template["Parameters"]["WorkerConcurrency"]
    assert (parameter["MinValue"], parameter["MaxValue"], stack.parameters["WorkerConcurrency"]) == (2, 1000, "2")


def test_a_message_stays_hidden_for_six_timeouts_and_the_window(stack: Stack) -> None:
    timeout = stack.properties("WorkerFunction")["Timeout"]
    for queue, mapping in mappings(stack).items():
        window = mapping.get("MaximumBatchingWindowInSeconds", 0)
        assert stack.properties(queue)["VisibilityTimeout"] >= 6 * timeout + window


def test_queues_keep_messages_for_two_weeks_and_encrypt_them(stack: Stack) -> None:
    queues = {name: each["Properties"] for name, each in stack.of_type("AWS::SQS::Queue").items()}
    assert set(queues) == {"RequestQueue", "BatchQueue", "DeadLetterQueue", "UndeliveredQueue"}
    for queue in queues.values():
        assert queue["MessageRetentionPeriod"] == FOURTEEN_DAYS
        assert queue["SqsManagedSseEnabled"] is True
    assert {name: queue.get("RedrivePolicy") for name, queue in queues.items()} == {
        "RequestQueue": {"deadLetterTargetArn": arn("DeadLetterQueue"), "maxReceiveCount": DELIVERIES},
        "BatchQueue": {"deadLetterTargetArn": arn("DeadLetterQueue"), "maxReceiveCount": DELIVERIES},
        "DeadLetterQueue": None,
        "UndeliveredQueue": None,
    }


@pytest.mark.parametrize(
    ("queue", "rules"),
    [
        ("RequestQueue", [arn("RequestRule"), arn("JobRule")]),
        ("BatchQueue", arn("BatchRule")),
        ("DeadLetterQueue", None),
        ("UndeliveredQueue", [arn("RequestRule"), arn("JobRule"), arn("BatchRule"), arn("WarmUpRule")]),
    ],
)
def test_a_queue_takes_messages_from_these_rules_alone_and_over_tls_alone(
    stack: Stack, queue: str, rules: object
) -> None:
    policy = stack.properties(f"{queue}Policy")
    assert policy["Queues"] == [{"Ref": queue}]
    tls_only, *allowed = policy["PolicyDocument"]["Statement"]
    assert tls_only == {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": arn(queue),
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    for statement in allowed:
        assert {key: value for key, value in statement.items() if key != "Sid"} == {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn(queue),
            "Condition": {"ArnEquals": {"aws:SourceArn": rules}},
        }
    assert len(allowed) == (0 if rules is None else 1)


def test_every_rule_keeps_what_it_cannot_deliver(stack: Stack) -> None:
    rules = {name: each["Properties"] for name, each in stack.of_type("AWS::Events::Rule").items()}
    assert {name: [target["Arn"] for target in rule["Targets"]] for name, rule in rules.items()} == {
        "RequestRule": [arn("RequestQueue")],
        "JobRule": [arn("RequestQueue")],
        "BatchRule": [arn("BatchQueue")],
        "WarmUpRule": [
            {"Ref": f"{function}Aliaslive"}
            for function in ("ApiFunction", "StreamFunction")
            if function in stack.template["Resources"]
        ],
    }
    for rule in rules.values():
        for target in rule["Targets"]:
            assert target["DeadLetterConfig"] == {"Arn": arn("UndeliveredQueue")}


def test_what_the_worker_was_invoked_with_in_vain_is_kept(stack: Stack) -> None:
    [config] = stack.of_type("AWS::Lambda::EventInvokeConfig").values()
    assert config["Properties"] == {
        "FunctionName": {"Ref": "WorkerFunction"},
        "Qualifier": "live",
        "DestinationConfig": {"OnFailure": {"Destination": arn("UndeliveredQueue")}},
    }


def test_the_rule_and_the_worker_agree_on_what_a_request_is(stack: Stack) -> None:
    assert stack.properties("RequestRule")["EventPattern"] == {"detail-type": [REQUEST_TYPE]}


@pytest.mark.parametrize(("rule", "prefixes"), [("BatchRule", [INBOX, CREATED, CONTINUED]), ("JobRule", [REQUESTED])])
def test_rules_and_the_worker_agree_on_which_objects_start_work(stack: Stack, rule: str, prefixes: list[str]) -> None:
    assert stack.properties(rule)["EventPattern"] == {
        "source": [BUS_SOURCE],
        "detail-type": [CREATED_TYPE],
        "detail": {
            "bucket": {"name": [{"Ref": "ResultsBucket"}]},
            "object": {"key": [{"prefix": prefix} for prefix in prefixes]},
        },
    }


def test_nothing_is_kept_warm_unless_asked_for(stack: Stack) -> None:
    rule = stack.properties("WarmUpRule")
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(5 minutes)", {"Ref": "WarmUp"})
    assert stack.parameters["WarmUp"] == "DISABLED"
    assert stack.template["Parameters"]["WarmUp"]["AllowedValues"] == ["DISABLED", "ENABLED"]


def test_replies_go_to_places_named_one_by_one(stack: Stack) -> None:
    pattern = stack.template["Parameters"]["ReplyTo"]["AllowedPattern"]
    for allowed in ("", "arn:aws:sqs:us-east-1:111122223333:a", "arn:aws:sqs:r:1:a,arn:aws:events:r:1:event-bus/b"):
        assert re.fullmatch(pattern, allowed)
    for refused in ("*", "arn:aws:sqs:us-east-1:111122223333:*", "arn:aws:sqs:r:1:?", "queue", "arn:a, arn:b"):
        assert not re.fullmatch(pattern, refused)


def test_results_are_private_announced_and_forgotten(stack: Stack) -> None:
    bucket = stack.template["Resources"]["ResultsBucket"]
    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert bucket["Properties"] == {
        **PRIVATE,
        "NotificationConfiguration": {"EventBridgeConfiguration": {"EventBridgeEnabled": True}},
        "LifecycleConfiguration": {
            "Rules": [
                {"Id": "forget-results", "Status": "Enabled", "ExpirationInDays": {"Ref": "ResultDays"}},
                {"Id": "forget-parts", "Status": "Enabled", "Prefix": "uploads/", "ExpirationInDays": 1},
                {
                    "Id": "abandon-unfinished-uploads",
                    "Status": "Enabled",
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
                },
            ]
        },
    }
    assert stack.parameters["ResultDays"] == "30"
