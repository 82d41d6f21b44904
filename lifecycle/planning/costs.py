"""From what was used to dollars a month: arithmetic alone, by list prices, without free tiers and commitments.

Not counted is what grows with neither target: logs, metrics, what lies in buckets, data to the internet, and, of the
GPU service, its disks.
"""

from dataclasses import dataclass, replace
from math import ceil
from typing import Final

from handler.registry.names import CHUNK_SIZE
from lifecycle.planning.prices import Prices

HOUR: Final = 3600
MONTH: Final = 730 * HOUR  # seconds of the month that AWS reckons with

# New connections a second that one capacity unit of a load balancer holds: the bound that few bytes meet first.
CONNECTIONS_OF_A_UNIT: Final = 25


@dataclass(frozen=True, slots=True)
class Usage:
    """What a target used in some time.

    Attributes:
        seconds: the time.
        requests: those that came.
        tokens: those that were written.
        invocations: those of the function.
        function_seconds: billed ones of its environments, starts included.
        starts: of its environments.
        gpu_seconds: of instances.
        forwarded: requests that went through the load balancer.
    """

    seconds: float
    requests: float = 0
    tokens: float = 0
    invocations: float = 0
    function_seconds: float = 0
    starts: float = 0
    gpu_seconds: float = 0
    forwarded: float = 0

    def a_month(self) -> "Usage":
        """The same, going on for a month."""
        times = MONTH / self.seconds
        return replace(self, **{name: getattr(self, name) * times for name in self.__slots__})


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is paid for.

    Attributes:
        memory_mb: the function's.
        weights_bytes: what a start of it reads.
        instance: the type of the GPU service's instances, None where there is none.
        spot: whether they are spot instances.
        managed: whether ECS manages them, for a share of their price.
        snapshots: whether the function's environments start from a snapshot.
    """

    memory_mb: int
    weights_bytes: float
    instance: str | None = None
    spot: bool = False
    managed: bool = True
    snapshots: bool = False


def monthly(usage: Usage, deployment: Deployment, prices: Prices) -> dict[str, float]:
    """Dollars a month, by what is paid for.

    Raises:
        InvalidRequestError: the price of the instance is missing.
    """
    used, dollars = usage.a_month(), {}
    if used.invocations:
        memory_gb = deployment.memory_mb / 1024
        dollars = {
            "Lambda compute": used.function_seconds * memory_gb * prices["lambda_gb_second"],
            "Lambda requests": used.invocations * prices["lambda_request"],
            "HTTP API": used.requests * prices["http_api_request"],
            "S3 reads": used.starts * ceil(deployment.weights_bytes / CHUNK_SIZE) * prices["s3_get"],
        }
        if deployment.snapshots:
            restored = used.starts * memory_gb * prices["snapshot_restored_gb"]
            dollars["snapshots"] = MONTH * memory_gb * prices["snapshot_cached_gb_second"] + restored
    dollars["key reads"] = used.requests * prices["dynamodb_read"]
    if instance := deployment.instance:
        on_demand = prices[f"{instance}_hour"]
        hour = prices[f"{instance}_spot_hour"] if deployment.spot else on_demand
        fee = on_demand * prices["managed_instances_share"] if deployment.managed else 0.0
        units = used.forwarded / CONNECTIONS_OF_A_UNIT / HOUR
        dollars["GPU instances"] = used.gpu_seconds / HOUR * (hour + fee)
        dollars["load balancer"] = (
            MONTH / HOUR * prices["load_balancer_hour"] + units * prices["load_balancer_unit_hour"]
        )
        dollars["NAT gateway"] = MONTH / HOUR * prices["nat_gateway_hour"]
    return dollars
