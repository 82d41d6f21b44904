"""A GPU service in a process of its own, which takes 20 ms for each token: `slow_service PORT SECRET`."""

import sys

import uvicorn

from tests.fake_engine import FakeEngine
from tests.services import VOCABULARY, make_settings, running_app

if __name__ == "__main__":
    port, secret = sys.argv[1:]
    engine = FakeEngine(vocabulary_size=VOCABULARY, seconds_per_step=0.02)
    with running_app(engine, make_settings(auth_mode="iam", tandem_key=secret)) as app:
        uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")
