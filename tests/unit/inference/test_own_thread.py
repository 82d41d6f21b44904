"""What becomes of a backend's thread when its process ends; how it rests and closes is tested backend by backend."""

import subprocess
import sys

PROGRAM = """
from handler.inference.protocol import GenerationRequest, SamplingParams
from handler.inference.scheduler import Scheduler
from tests.models import config_json, random_engine

engine = random_engine(config_json(n_positions=1024))
request = GenerationRequest(((1,),), (SamplingParams(temperature=0),), max_tokens=1000)
events = iter(Scheduler(engine).submit(request))
print(next(events).token)
"""


def test_a_process_ends_in_peace_while_torch_is_at_work() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
