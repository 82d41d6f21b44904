"""The environment, typed: what is missing or out of bounds stops the process before it serves anybody."""

import os

import pytest
from pydantic import ValidationError

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
        ("AUTH_MODE", "open", "auth_mode\n  Input should be 'api-key', 'jwt', 'iam' or 'none'"),
        ("ENGINE", "fast", "engine\n  Input should be"),
        ("MAX_TOKENS", "0", "max_tokens\n  Input should be greater than or equal to 1"),
        ("KEYS_TABLE", "", "AUTH_MODE=api-key needs KEYS_TABLE"),
        ("JWT_ISSUER", "https://issuer.example", "JWT_ISSUER needs JWT_AUDIENCE"),
        ("JWT_ISSUER", "http://issuer.example", "jwt_issuer\n  String should match pattern"),
        ("JWT_ISSUER", "http://localhost.example", "jwt_issuer\n  String should match pattern"),
        ("JWT_AUDIENCE", "text,", "jwt_audience\n  String should match pattern"),
        ("JWT_ISSUER", "file:///etc/keys", "jwt_issuer\n  String should match pattern"),
        ("GPU_URL", "https://gpu.example", "GPU_URL needs TANDEM_KEY"),
        ("GPU_URL", "http://gpu.example", "gpu_url\n  String should match pattern"),
        ("GPU_URL", "http://10.0.0.1.example", "gpu_url\n  String should match pattern"),
        ("GPU_URL", "http://172.32.0.1", "gpu_url\n  String should match pattern"),
        ("GPU_URL", "https://gpu.example/path", "gpu_url\n  String should match pattern"),
        ("TANDEM_KEY", "short", "tandem_key\n  String should match pattern"),
    ],
)
def test_a_wrong_variable_is_named(environment: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    environment.setenv(name, value)
    with pytest.raises(ValidationError, match=message):
        Settings.from_environment(os.environ)


def test_a_function_is_never_open(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AUTH_MODE", "none")
    assert Settings.from_environment(os.environ).auth_mode == "none"
    environment.setenv("AWS_LAMBDA_FUNCTION_NAME", "gpt2")
    with pytest.raises(ValidationError, match="AUTH_MODE=none is for a server on your own machine"):
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
    with pytest.raises(ValidationError) as raised:
        Settings.from_environment(os.environ)
    assert "s3cret" not in str(raised.value)
