"""The template, and what is created of it for every choice of parameters, as the linters see them."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.infrastructure.stack import CHOICES, ROOT, gpu_stacks, stacks

# What is created for one choice leaves parameters and mappings unused, and SAM puts values where the template has a
# Fn::Sub. Where a condition has been decided, a parameter's default seems to reach what the condition kept it from. The
# template itself, linted too, does none of this. And `sam deploy` puts addresses where nested templates' paths stand.
TRACES_OF_DECIDING = ("W1020", "W1033", "W2001", "W3002", "W7001")


pytestmark = pytest.mark.templates


def run(program: str, *arguments: str) -> tuple[int, str]:
    """A tool of .venv-sam's exit status and all it said."""
    done = subprocess.run(
        [str(ROOT / ".venv-sam/bin" / program), *arguments],
        cwd=ROOT,
        env={**os.environ, "AWS_DEFAULT_REGION": "us-east-1", "SAM_CLI_TELEMETRY": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_sam_finds_nothing_wrong() -> None:
    assert run("sam", "validate", "--lint") == (0, f"{ROOT}/template.yaml is a valid SAM Template\n")


def test_cfn_lint_finds_nothing_wrong() -> None:
    assert run("cfn-lint", "template.yaml", "infra/*.yaml", "--include-checks", "I") == (0, "")


def test_cfn_lint_finds_nothing_wrong_whatever_is_chosen(tmp_path: Path) -> None:
    chosen = stacks() | {name: gpu_stacks()[name] for name in ("both-managed", "gpu-group")}
    for name, stack in chosen.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(stack.template))
    assert len(list(tmp_path.iterdir())) == len(CHOICES) + 2
    (tmp_path / "infra").symlink_to(ROOT / "infra")  # which nested stacks are named by
    assert run("cfn-lint", f"{tmp_path}/*.json", "--include-checks", "I", "--ignore-checks", *TRACES_OF_DECIDING) == (
        0,
        "",
    )
