"""An embedded stand-in for AWS (moto's server): buckets and a keys table that live as long as the process.

What runs against it, this application or a container of it, is told by environment variables alone, as it would be on
AWS; nothing there knows that the other side is not the real thing.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.request import Request, urlopen

import boto3
from moto.server import ThreadedMotoServer

from handler.api.keys import hash_key
from handler.registry.s3 import s3_client
from lifecycle.store import WritableStore

BUCKET = "models"
RESULTS_BUCKET = "results"
TABLE = "keys"
REGION = "us-east-1"

# The one key of the embedded table. It opens nothing anywhere else.
LOCAL_KEY = "sk-local"


@dataclass(frozen=True, slots=True)
class Cloud:
    """A running stand-in.

    Attributes:
        endpoint: its address on this machine.
        store: its models bucket.
    """

    endpoint: str
    store: WritableStore

    def environment(self, model: str, *, host: str = "127.0.0.1") -> dict[str, str]:
        """The variables of a process that serves `model` from here.

        Args:
            model: the model's name in the registry.
            host: the name under which that process reaches this machine.
        """
        endpoint = self.endpoint.replace("127.0.0.1", host)
        return {
            **_credentials(endpoint),
            "MODELS_BUCKET": BUCKET,
            "RESULTS_BUCKET": RESULTS_BUCKET,
            "MODEL_NAME": model,
            "KEYS_TABLE": TABLE,
        }


@contextmanager
def embedded_cloud(address: str = "127.0.0.1") -> Iterator[Cloud]:
    """Run a stand-in on a free port of this machine, with empty buckets and a table that holds `LOCAL_KEY`.

    The environment of this process points to it as long as it runs.

    Args:
        address: the address of this machine to listen on; whoever reaches it can read and write everything.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address=address, port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    before = dict(os.environ)
    os.environ.update(_credentials(endpoint))
    try:
        # moto keeps its state per process: an earlier stand-in of this one may have left something.
        urlopen(Request(f"{endpoint}/moto-api/reset", method="POST")).close()
        s3 = s3_client()
        s3.create_bucket(Bucket=BUCKET)
        s3.create_bucket(Bucket=RESULTS_BUCKET)
        _create_keys_table()
        yield Cloud(endpoint, WritableStore(s3, BUCKET))
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.stop()


def _credentials(endpoint: str) -> dict[str, str]:
    """What the AWS SDK reads to talk to the stand-in."""
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ENDPOINT_URL_DYNAMODB": endpoint,
        "AWS_ENDPOINT_URL_SQS": endpoint,
        "AWS_ENDPOINT_URL_EVENTBRIDGE": endpoint,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }


def _create_keys_table() -> None:
    client = boto3.client("dynamodb")
    client.create_table(
        TableName=TABLE,
        AttributeDefinitions=[{"AttributeName": "key_hash", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "key_hash", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    client.put_item(
        TableName=TABLE,
        Item={"key_hash": {"S": hash_key(LOCAL_KEY)}, "key_id": {"S": "local"}, "label": {"S": "local"}},
    )
