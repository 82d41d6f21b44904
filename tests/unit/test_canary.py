"""What a new version must answer before anybody else asks it, and how often it is asked."""

import io
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from handler.canary import ATTEMPTS, GOLDEN, fault_of, handler
from handler.errors import InvalidRequestError

VERSION = "arn:aws:lambda:us-east-1:111122223333:function:api:7"

CHOICE = {"index": 0, "text": " there was", "logprobs": None, "finish_reason": "length", "cut_by": None}

ANSWER: dict[str, Any] = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1,
    "model": "gpt2",
    "system_fingerprint": "v0-native",
    "choices": [CHOICE],
    "usage": {"prompt_tokens": 4, "completion_tokens": 8, "total_tokens": 12},
}

LOADING = {"errorType": "ModelLoadingError", "errorMessage": "The model is still being loaded."}


@dataclass
class FakeLambda:
    """Gives out its answers in turn, an error among them by raising it, and notes what it was asked."""

    answers: list[Any]
    asked: list[dict[str, Any]] = field(default_factory=list)

    def invoke(self, **arguments: Any) -> dict[str, Any]:
        self.asked.append(arguments)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        payload = {"Payload": io.BytesIO(json.dumps(answer).encode())}
        return payload | ({"FunctionError": "Unhandled"} if "errorType" in answer else {})


def test_a_version_that_answers_is_asked_once() -> None:
    client = FakeLambda([ANSWER])
    assert fault_of(client, VERSION, pause=0) is None
    assert [(each["FunctionName"], json.loads(each["Payload"])) for each in client.asked] == [(VERSION, GOLDEN)]


def test_a_version_that_is_still_loading_is_asked_again() -> None:
    client = FakeLambda([LOADING, ANSWER])
    assert fault_of(client, VERSION, pause=0) is None
    assert client.answers == []


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (LOADING, 'It failed: {"errorType": "ModelLoadingError"'),
        ({"statusCode": 200}, "It answered something else: [{'type': 'missing', 'loc': ('id',)"),
        (ANSWER | {"choices": []}, "It answered 0 texts"),
        (ANSWER | {"choices": [CHOICE | {"cut_by": "deadline"}]}, "It answered 1 texts, or not in time."),
        (ClientError({"Error": {"Code": "AccessDenied"}}, "Invoke"), "It cannot be invoked: An error occurred"),
        (ReadTimeoutError(endpoint_url="https://lambda.example"), "It cannot be invoked: Read timeout"),
    ],
)
def test_whatever_else_comes_is_a_fault_in_the_end(answer: Any, fault: str, log: io.StringIO) -> None:
    client = FakeLambda([answer] * ATTEMPTS)
    found = fault_of(client, VERSION, pause=0)
    assert found is not None
    assert found.startswith(fault)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["attempt"], line["fault"]) for line in lines] == [(attempt + 1, found) for attempt in range(ATTEMPTS)]


def test_an_event_of_somebody_else_is_an_error() -> None:
    with pytest.raises(InvalidRequestError, match="it lacks 'LifecycleEventHookExecutionId'"):
        handler({"DeploymentId": "d-1"}, None)
