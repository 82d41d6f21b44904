"""`make batch`: a file of requests becomes a file of answers, here and by the definition that is deployed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


def batch(folder: Path, content: str) -> subprocess.CompletedProcess[str]:
    """Run the command on a file of requests."""
    (folder / "prompts.jsonl").write_text(content)
    command = [sys.executable, "-m", "lifecycle.local", "batch", str(folder / "prompts.jsonl")]
    # In the repository, where the packed demo model is kept.
    out = ["--out", str(folder / "answers.jsonl")]
    return subprocess.run([*command, *out], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)


def line(custom_id: str, **body: Any) -> str:
    request = {"custom_id": custom_id, "method": "POST", "url": "/v1/completions", "body": body}
    return json.dumps(request)


def test_answers_and_errors_are_downloaded(tmp_path: Path) -> None:
    stories = [line(f"story-{i}", prompt="Once upon a time", max_tokens=4) for i in range(20)]
    bad = line("bad", prompt="Once", max_tokens=-1)
    done = batch(tmp_path, "\n".join([*stories, bad]))
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/answers.jsonl\n"), done.stderr
    assert done.stderr.splitlines()[-1] == f"20 answered, 1 with an error: {tmp_path}/answers.errors.jsonl"
    answers = [json.loads(each) for each in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert {each["custom_id"] for each in answers} == {f"story-{i}" for i in range(20)}
    assert all(each["response"]["body"]["model"] == "demo" for each in answers)
    [error] = [json.loads(each) for each in (tmp_path / "answers.errors.jsonl").read_text().splitlines()]
    assert (error["custom_id"], error["response"]["status_code"]) == ("bad", 400)


def test_a_file_that_is_no_good_is_told_of_in_one_line(tmp_path: Path) -> None:
    done = batch(tmp_path, "")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == "`input`: the file is empty."
