"""The environment of the container, typed: that of the service, and what a process of its own needs beside it."""

from typing import Final, Self

from pydantic import Field, model_validator

from handler.settings import Settings

_THIS_MACHINE: Final = "127.0.0.1"


class ContainerSettings(Settings):
    """What the environment says to `python -m handler.container`."""

    host: str = Field("0.0.0.0", description="The address to listen on.")  # noqa: S104 - in a container nobody else is
    port: int = Field(8080, ge=1, le=65535, description="The port of the service.")
    drain_seconds: int = Field(
        25,
        ge=1,
        description="After SIGTERM, seconds within which what is under way is finished; what is not is cut off. Leave "
        "a few below the time after which the platform kills (ECS: `stopTimeout`, by default 30).",
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="The port of Prometheus' `/metrics`, open to whoever reaches it; 0 serves none.",
    )
    request_queue_url: str = Field(
        "", pattern="^(https?://.+)?$", description="The SQS queue of requests to answer beside; empty answers none."
    )
    service_name: str = Field(
        "",
        description="The dimension `function` under which the lines of the log are metrics; empty makes them none.",
    )

    @model_validator(mode="after")
    def _lets_in_nobody_unasked(self) -> Self:
        if self.auth_mode == "none" and self.host != _THIS_MACHINE:
            raise ValueError(f"AUTH_MODE=none is for HOST={_THIS_MACHINE} alone; given: HOST={self.host}")
        return self

    @model_validator(mode="after")
    def _keeps_what_it_answers(self) -> Self:
        if self.request_queue_url and not self.results_bucket:
            raise ValueError("REQUEST_QUEUE_URL needs RESULTS_BUCKET, where the answers to messages are kept")
        return self
