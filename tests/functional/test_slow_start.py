"""A model that takes longer than Lambda's initialisation: requests wait for it, and nothing is begun again."""

import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from handler.app import create_app
from handler.events.http import HttpAdapter
from handler.fetching import Fetching
from handler.inference.config import ModelConfig
from handler.loading import ModelLoading, load_service
from handler.registry.names import MANIFEST, alias_key, file_key
from handler.stages import ColdStart
from lifecycle.store import WritableStore
from tests.functional.events.worker import Context
from tests.functional.registry.misbehaving import Answer, misbehaving
from tests.manifests import put_version
from tests.models import config_json, random_checkpoint, tokenizer_json
from tests.services import make_settings

LOADING = {
    "message": "The model is still being loaded.",
    "type": "server_error",
    "param": None,
    "code": "model_loading",
}
EVENTS = Path(__file__).parent.parent / "events"
FILES = {
    "config.json": json.dumps(config_json()).encode(),
    "model.safetensors": random_checkpoint(ModelConfig.from_json(config_json())),
    "tokenizer.json": tokenizer_json(),
}


COMPLETION = (EVENTS / "http-api-v2.json").read_text()
READINESS = (EVENTS / "http-api-v2-healthz.json").read_text().replace("/healthz", "/readyz")


def ask(http: HttpAdapter, event: str, seconds: float = 20) -> tuple[int, str | None, Any]:
    """Status, `Retry-After` and body of the answer to an event, in a function that has so long to live."""
    answer = http.handle(json.loads(event), Context(int(seconds * 1000)))
    return answer["statusCode"], answer["headers"].get("retry-after"), json.loads(answer["body"])


@pytest.mark.usefixtures("mangum_loop")
def test_a_load_goes_on_into_the_requests_and_is_not_begun_again(store: WritableStore, aws: str) -> None:
    manifest = put_version(store, FILES)
    begun, released = threading.Event(), threading.Event()

    def hold(answer: Answer) -> bool:
        """After the first bytes of the weights, nothing is heard until it is released."""
        if begun.is_set():
            assert released.wait(4)  # well before the reader takes it for a connection that hangs
        if answer.path.endswith("model.safetensors"):
            begun.set()
        return True

    with misbehaving(aws) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        proxy.faults = [hold]
        fetching = Fetching({"MODELS_BUCKET": store.bucket, "MODEL_NAME": "gpt2"}, ColdStart())
        fetching.start()
        settings = make_settings(model_name="gpt2", engine="reference", kv_cache_mb=1)
        loading = ModelLoading(lambda: load_service(settings, fetching, ColdStart()))
        loading.start()
        http = HttpAdapter(create_app(settings, loading))

        assert begun.wait(4)
        still_loading = (503, "5", {"error": LOADING})
        assert ask(http, READINESS) == still_loading
        assert ask(http, COMPLETION, 0.6) == still_loading  # half of a second is for answering

        threading.Timer(0.1, released.set).start()
        status, _, completion = ask(http, COMPLETION)
        assert (status, completion["model"]) == (200, "gpt2")
        ready = {"status": "ready", "model": "gpt2", "version": manifest.version}
        assert ask(http, READINESS) == (200, None, ready)

    chunks = [
        (file.path, number * manifest.chunk_size) for file in manifest.files for number in range(len(file.chunks))
    ]
    keys = [(file_key("gpt2", manifest.version, path), start) for path, start in [(MANIFEST, 0), *chunks]]
    once = Counter((f"/{store.bucket}/{key}", start) for key, start in [(alias_key("gpt2", "live"), 0), *keys])
    assert Counter(proxy.reads) == once
