"""The environment, typed: every variable the service reads, its bounds and its default."""

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from handler.errors import InvalidSettingsError

AuthMode = Literal["api-key", "jwt", "iam", "none"]
_NAME = "[a-z0-9][a-z0-9._-]{0,63}"  # as the registry has it

EngineName = Literal["auto", "native", "reference", "transformers", "continuous"]
DeviceName = Literal["auto", "cpu", "cuda"]

_AUDIENCES = r"^([^,\s]+(,[^,\s]+)*)?$"

# Whatever is not this machine itself is asked for its keys with encryption only.
_ISSUER = r"^$|^https://[^\s/]|^http://(127\.0\.0\.1|localhost)(:\d+)?(/|$)"

# Without encryption only what cannot be reached from outside: this machine, private addresses and names, and load
# balancers of AWS that are internal.
_PRIVATE = (
    r"localhost|127(\.\d+){3}|10(\.\d+){3}|172\.(1[6-9]|2\d|3[01])(\.\d+){2}|192\.168(\.\d+){2}"
    r"|[\w.-]+\.internal|internal-[\w.-]+\.amazonaws\.com(\.cn)?"
)
_GPU_URL = rf"^$|^https://[\w.-]+(:\d+)?/?$|^http://({_PRIVATE})(:\d+)?/?$"


class Settings(BaseModel):
    """What the environment says. Limits are described by what a client sees when it meets them."""

    # One of them is a secret, which a message about another one must not tell.
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    models_bucket: str = Field(description="The S3 bucket that holds the models.")
    results_bucket: str = Field(
        "",
        description="The S3 bucket for results, files, batches and jobs; without one, what needs it is answered with "
        "503 `storage_unavailable`.",
    )
    model_name: str = Field(description="The model to serve, as the registry knows it.")
    model_alias: str = Field("live", description="The alias whose version is served.")
    model_public_key: str = Field(
        "",
        description="The public key, PEM or its base64 part, that manifests must be signed by; empty serves any.",
    )
    models: str = Field(
        "",
        pattern=rf"^({_NAME}(,{_NAME})*)?$",
        description="More models that a request may name, separated by commas: each is loaded when it is asked for, "
        "and let go of, the one unused the longest first, when memory is needed.",
    )
    canary_percent: int = Field(
        0,
        ge=0,
        le=100,
        description="The share of requests for MODEL_NAME that the version at the alias `canary` answers, by their id.",
    )
    refresh_seconds: int = Field(
        60,
        ge=0,
        description="Seconds after which a process looks, beside a request, whether the alias has moved, to follow it; "
        "0 stays with the version it started with.",
    )
    memory_mb: int = Field(
        0,
        ge=0,
        description="Memory for the process with its models, by which it knows whether two versions fit side by side; "
        "0 takes what the function, the GPU or the machine has.",
    )
    engine: EngineName = Field(
        "auto",
        description="What runs the model: `native` the kernels in C++, on packed weights; `reference` a GPT-2 in plain "
        "torch; `transformers` any causal model; `auto` the first of them that can; `continuous` any causal model by "
        "transformers' continuous batching, for many requests at once.",
    )
    device: DeviceName = Field(
        "auto",
        description="What the engines `transformers` and `continuous` run on: `cpu`, `cuda`, or `auto`, a GPU where "
        "torch sees one.",
    )
    auth_mode: AuthMode = Field("api-key", description="Who checks credentials: see Authorization in the README.")
    keys_table: str = Field("", description="The DynamoDB table of API keys, needed by AUTH_MODE=api-key.")
    jwt_issuer: str = Field(
        "",
        pattern=_ISSUER,
        description="With AUTH_MODE=jwt, the issuer whose tokens are checked here where no gateway has done it; "
        "without one, only a gateway's verdict counts.",
    )
    jwt_audience: str = Field(
        "", pattern=_AUDIENCES, description="The audiences of which a token must name one, separated by commas."
    )
    gpu_url: str = Field(
        "",
        pattern=_GPU_URL,
        description="The address of a GPU service to which generation is forwarded while it is awake (see "
        "docs/tandem.md); without encryption only a private one.",
    )
    tandem_key: str = Field(
        "",
        pattern=r"^(|\S{32,})$",
        repr=False,
        description="The secret of at least 32 characters by which a GPU service knows what the front forwards: needed "
        "with GPU_URL; without it, this process is the one that is forwarded to.",
    )
    max_prompt_tokens: int = Field(
        1024, ge=1, description="A longer prompt is refused with 400 `context_length_exceeded`."
    )
    max_tokens: int = Field(1024, ge=1, description="A larger `max_tokens` is refused with 400 `invalid_value`.")
    max_n: int = Field(
        16, ge=1, description="More choices in one request, its prompts times `n`, are refused with 400."
    )
    max_body_bytes: int = Field(1_000_000, ge=1, description="A larger body is refused with 413, unread.")
    max_requests: int = Field(
        64, ge=1, description="More requests at once, worked on and waiting, are refused with 429 `over_capacity`."
    )
    kv_cache_mb: int = Field(
        600, ge=1, description="Room for keys and values; choices that do not fit at once are decoded in turn."
    )
    cache_mb: int = Field(
        0,
        ge=0,
        description="Room for a copy of the model in the temporary directory, from which a process that is restarted "
        "there starts; 0 keeps none.",
    )
    threads: int = Field(0, ge=0, description="Threads of the engine; 0 takes the processors the function has.")

    @property
    def other_models(self) -> tuple[str, ...]:
        """The names in MODELS."""
        return tuple(name for name in self.models.split(",") if name and name != self.model_name)

    @model_validator(mode="after")
    def _fails_closed(self) -> Self:
        if self.auth_mode == "api-key" and not self.keys_table:
            raise ValueError("AUTH_MODE=api-key needs KEYS_TABLE, the table the keys are checked against")
        if self.jwt_issuer and not self.jwt_audience:
            raise ValueError("JWT_ISSUER needs JWT_AUDIENCE: its tokens may be meant for anybody")
        if self.gpu_url and not self.tandem_key:
            raise ValueError("GPU_URL needs TANDEM_KEY: the service there must know who forwards to it")
        if self.auth_mode == "none" and "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
            raise ValueError("AUTH_MODE=none is for a server on your own machine, not for a function")
        return self

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read a field from the variable of its name in capitals.

        That is all of pydantic-settings that is needed here, and importing it takes a twentieth of a cold start.

        Raises:
            InvalidSettingsError: a variable is missing or out of its bounds.
        """
        found = {name: environment[name.upper()] for name in cls.model_fields if name.upper() in environment}
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)
            raise InvalidSettingsError("; ".join(cls._told(fault) for fault in faults)) from None

    @classmethod
    def _told(cls, fault: Mapping[str, Any]) -> str:
        """One of pydantic's errors by the variable's name: a pattern says little, so what it is for is told instead."""
        if not fault["loc"]:
            return str(fault["ctx"]["error"])
        name = str(fault["loc"][0])
        if fault["type"] == "string_pattern_mismatch":
            meaning = str(cls.model_fields[name].description).rstrip(".")
            return f"{name.upper()} has not the form it needs: {meaning}"
        return f"{name.upper()}: {fault['msg']}"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read from the environment once."""
    return Settings.from_environment(os.environ)
