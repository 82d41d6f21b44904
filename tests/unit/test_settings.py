"""The environment, typed: what is missing or out of bounds stops the process before it serves anybody."""

import os

import pytest
from pydantic import ValidationError

from handler.errors import InvalidSettingsError
from handler.settings import Settings

MINIMUM = {"MODELS_BUCKET": "models", "MODEL_NAME": "gpt2", "KEYS_TABLE": "keys"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in MINIMUM.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_defaults(environment: pytest.MonkeyPatch) -> None:
    assert Settings.from_environment(os.environ).model_dump() == {
        "models_bucket": "models",
        "results_bucket": "",
        "model_name": "gpt2",
        "model_alias": "live",
        "model_public_key": "",
        "models": "",
        "canary_percent": 0,
        "refresh_seconds": 60,
        "memory_mb": 0,
        "engine": "auto",
        "device": "auto",
        "auth_mode": "api-key",
        "keys_table": "keys",
        "jwt_issuer": "",
        "jwt_audience": "",
        "max_prompt_tokens": 1024,
        "max_tokens": 1024,
        "max_n": 16,
        "max_body_bytes": 1_000_000,
        "max_requests": 64,
        "kv_cache_mb": 600,
        "cache_mb": 0,
        "threads": 0,
        "gpu_url": "",
        "tandem_key": "",
    }


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("AUTH_MODE", "open", "AUTH_MODE: Input should be 'api-key', 'jwt', 'iam' or 'none'"),
        ("ENGINE", "fast", "ENGINE: Input should be"),
        ("MAX_TOKENS", "0", "MAX_TOKENS: Input should be greater than or equal to 1"),
        ("KEYS_TABLE", "", "AUTH_MODE=api-key needs KEYS_TABLE"),
        ("JWT_ISSUER", "https://issuer.example", "JWT_ISSUER needs JWT_AUDIENCE"),
        ("JWT_ISSUER", "http://issuer.example", "JWT_ISSUER has not the form it needs: With AUTH_MODE=jwt"),
        ("JWT_ISSUER", "http://localhost.example", "JWT_ISSUER has not the form it needs: With AUTH_MODE=jwt"),
        ("JWT_AUDIENCE", "text,", "JWT_AUDIENCE has not the form it needs: The audiences"),
        ("JWT_ISSUER", "file:///etc/keys", "JWT_ISSUER has not the form it needs: With AUTH_MODE=jwt"),
        ("GPU_URL", "https://gpu.example", "GPU_URL needs TANDEM_KEY"),
        ("GPU_URL", "http://gpu.example", "GPU_URL has not the form it needs: The address of a GPU service"),
        ("GPU_URL", "http://10.0.0.1.example", "GPU_URL has not the form it needs: The address of a GPU service"),
        ("GPU_URL", "http://172.32.0.1", "GPU_URL has not the form it needs: The address of a GPU service"),
        ("GPU_URL", "https://gpu.example/path", "GPU_URL has not the form it needs: The address of a GPU service"),
        ("TANDEM_KEY", "short", "TANDEM_KEY has not the form it needs: The secret of at least 32 characters"),
    ],
)
def test_a_wrong_variable_is_named(environment: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    environment.setenv(name, value)
    with pytest.raises(InvalidSettingsError, match=message):
        Settings.from_environment(os.environ)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(InvalidSettingsError) as raised:
        Settings.from_environment({"MODEL_NAME": "gpt2", "KV_CACHE_MB": "much", "MAX_N": "0"})
    assert raised.value.message == (
        "MODELS_BUCKET: Field required; MAX_N: Input should be greater than or equal to 1; "
        "KV_CACHE_MB: Input should be a valid integer, unable to parse string as an integer"
    )


def test_a_function_is_never_open(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AUTH_MODE", "none")
    assert Settings.from_environment(os.environ).auth_mode == "none"
    environment.setenv("AWS_LAMBDA_FUNCTION_NAME", "gpt2")
    with pytest.raises(InvalidSettingsError, match="AUTH_MODE=none is for a server on your own machine"):
        Settings.from_environment(os.environ)


def test_more_models_are_names_separated_by_commas() -> None:
    minimum = {"models_bucket": "models", "model_name": "gpt2", "keys_table": "keys"}
    assert Settings.model_validate({**minimum, "models": "tiny,gpt2,my.model-2"}).other_models == ("tiny", "my.model-2")
    for wrong in ("a,", "A", "a, b", "a;b", "../a"):
        with pytest.raises(ValidationError, match="models"):
            Settings.model_validate({**minimum, "models": wrong})


@pytest.mark.parametrize(
    "address",
    [
        "https://gpu.example.com",
        "http://127.0.0.1:8080",
        "http://10.1.2.3",
        "http://172.31.0.1:80/",
        "http://gpu.tandem.internal",
        "http://internal-GPU-Load-1ABC-123.eu-central-1.elb.amazonaws.com",
    ],
)
def test_a_gpu_service_is_asked_in_private_or_encrypted(address: str) -> None:
    values = {"models_bucket": "models", "model_name": "gpt2", "keys_table": "keys"}
    assert Settings.model_validate({**values, "gpu_url": address, "tandem_key": "x" * 32}).gpu_url == address


def test_a_secret_is_in_no_message(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TANDEM_KEY", "s3cret-" * 5)
    assert "s3cret" not in repr(Settings.from_environment(os.environ))
    environment.setenv("JWT_ISSUER", "https://issuer.example")
    with pytest.raises(InvalidSettingsError) as raised:
        Settings.from_environment(os.environ)
    assert "s3cret" not in str(raised.value)
