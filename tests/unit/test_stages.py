"""The stages of a cold start, in seconds since the process was started."""

import json
import os
import subprocess
import sys
import time

from handler.stages import ColdStart, boot_time


def test_a_stage_counts_from_the_start_and_is_noted_once() -> None:
    cold_start = ColdStart(started=boot_time() - 5)
    assert cold_start.stages == {}
    assert cold_start.reached("interpreter") is True
    noted = cold_start.stages
    time.sleep(0.002)
    assert cold_start.reached("interpreter") is False
    assert cold_start.stages == noted
    assert 5 <= noted["interpreter"] < 60


def test_the_clock_begins_with_the_process() -> None:
    code = "import json, time; time.sleep(0.3); from handler.stages import cold_start; cold_start.reached('ready')"
    before = time.monotonic()
    said = subprocess.run(
        [sys.executable, "-c", f"{code}; print(json.dumps(cold_start.stages))"],
        capture_output=True,
        check=True,
        env=dict(os.environ),
    )
    # The start of a process is known to a hundredth of a second.
    assert 0.29 <= json.loads(said.stdout)["ready"] <= time.monotonic() - before + 0.02
