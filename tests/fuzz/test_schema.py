"""schemathesis on the API's own description, with data it allows and data it does not: no 5xx, and no surprises.

Each operation is tried in process, and once more with every request in an API Gateway event.
"""

import os
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from starlette.types import ASGIApp

from handler.api.authorization import AuthorizationMiddleware, api_key_authorizer
from handler.api.key_limits import KeyLimits
from handler.registry.s3 import s3_client
from tests.fuzz.conftest import KEY, OneKey, ThroughEvents

pytestmark = pytest.mark.fuzz

EXAMPLES = int(os.environ.get("EXAMPLES") or 50)

CONFIGURATION: dict[str, Any] = {
    "headers": {"Authorization": f"Bearer {KEY}"},
    # What the description cannot say (a model's name, ids of files, what fits a context) is refused with these.
    "checks": {"positive_data_acceptance": {"expected-statuses": ["2XX", 302, 400, 404, 413]}},
    # A form has no way to write some of what is wrong: an empty list as a field is a form without the field.
    "operations": [
        {
            "include-path": ["/v1/files", "/v1/uploads/{upload_id}/parts"],
            "checks": {"negative_data_rejection": {"enabled": False}},
        }
    ],
}


@pytest.fixture
def guarded(app: FastAPI, aws: str) -> ASGIApp:
    s3_client().create_bucket(Bucket="results")
    return AuthorizationMiddleware(app, api_key_authorizer(OneKey(), KeyLimits("keys")))


def in_process(app: ASGIApp) -> ASGIApp:
    return app


@pytest.mark.parametrize("way_in", [in_process, ThroughEvents])
@pytest.mark.parametrize("mode", GenerationMode)
def test_every_operation_answers_as_it_is_described(
    way_in: Callable[[ASGIApp], ASGIApp], mode: GenerationMode, guarded: ASGIApp, subtests: pytest.Subtests
) -> None:
    configuration = SchemathesisConfig.from_dict(CONFIGURATION)
    schema = schemathesis.openapi.from_asgi("/openapi.json", way_in(guarded), config=configuration)
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    assert len(operations) > 20
    if mode.is_negative:
        # Every string is a possible id, so that what takes nothing else cannot be asked wrongly.
        operations = [operation for operation in operations if operation.body or operation.query]
    for operation in operations:

        @hypothesis.settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(hypothesis.HealthCheck))
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def answers(case: Case[Any]) -> None:
            case.call_and_validate()

        with subtests.test(operation.label):
            answers()
