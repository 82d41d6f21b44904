"""A GPU service in a process of its own, which takes its time for each token: `slow_service PORT SECONDS`."""

import sys

import uvicorn

from tests.functional.tandem.pair import SECRET, fake_engine
from tests.services import make_settings, running_app

if __name__ == "__main__":
    port, seconds_per_step = int(sys.argv[1]), float(sys.argv[2])
    settings = make_settings(auth_mode="iam", tandem_key=SECRET)
    with running_app(fake_engine(seconds_per_step=seconds_per_step), settings) as app:
        uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
