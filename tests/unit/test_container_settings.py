"""The container's environment: the service's, with an address of its own and without an open door."""

import pytest

from handler.container.settings import ContainerSettings
from handler.errors import InvalidSettingsError
from handler.settings import Settings

MINIMUM = {"MODELS_BUCKET": "models", "MODEL_NAME": "gpt2", "KEYS_TABLE": "keys"}


def test_defaults() -> None:
    own = ContainerSettings.from_environment(MINIMUM).model_dump(exclude=set(Settings.model_fields))
    assert own == {
        "host": "0.0.0.0",
        "port": 8080,
        "drain_seconds": 25,
        "metrics_port": 0,
        "request_queue_url": "",
        "service_name": "",
    }


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "0", "PORT: Input should be greater than or equal to 1"),
        ("METRICS_PORT", "65536", "METRICS_PORT: Input should be less than or equal to 65535"),
        ("DRAIN_SECONDS", "0", "DRAIN_SECONDS: Input should be greater than or equal to 1"),
        ("REQUEST_QUEUE_URL", "arn:aws:sqs:eu-west-1:1:q", "REQUEST_QUEUE_URL has not the form it needs: The SQS"),
        ("REQUEST_QUEUE_URL", "https://sqs.example/1/q", "REQUEST_QUEUE_URL needs RESULTS_BUCKET"),
        ("AUTH_MODE", "none", "AUTH_MODE=none is for HOST=127.0.0.1 alone; given: HOST=0.0.0.0"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, message: str) -> None:
    with pytest.raises(InvalidSettingsError, match=message):
        ContainerSettings.from_environment({**MINIMUM, name: value})


def test_on_this_machine_alone_it_may_be_open() -> None:
    settings = ContainerSettings.from_environment({**MINIMUM, "AUTH_MODE": "none", "HOST": "127.0.0.1"})
    assert (settings.auth_mode, settings.host) == ("none", "127.0.0.1")
