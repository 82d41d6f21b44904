"""`lifecycle train` as typed: options reach the run, and help explains them without importing torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import lifecycle
from handler.errors import ServiceError
from lifecycle.commands.train import train
from lifecycle.training.settings import TrainingSettings

DEMO = Path(lifecycle.__file__).parent / "demo"

app = typer.Typer()
app.command()(train)


def test_options_reach_the_run(texts: Path, tmp_path: Path, tiny: TrainingSettings) -> None:
    out = tmp_path / "out"
    settings = {name: value for name, value in tiny.as_json().items() if name not in {"hold_out", "recompute"}}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    extra = [
        "--hold-out=tower",
        "--hold-out=marsh",
        "--stored-as=float16",
        "--license=CC0-1.0",
        "--threads=1",
        "--recompute",
    ]

    result = CliRunner().invoke(app, [str(texts), "--out", str(out), *options, *extra], catch_exceptions=False)

    assert result.exit_code == 0, result.output
    provenance = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    expected = {**tiny.as_json(), "hold_out": ["tower", "marsh"], "recompute": True}
    assert provenance["training"].items() >= expected.items()
    assert all(str(figures["perplexity_per_word"]) in result.stdout for figures in provenance["evaluation"].values())
    assert provenance["license"] == "CC0-1.0"
    assert json.loads((out / "config.json").read_text(encoding="utf-8"))["dtype"] == "float16"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "hold-out: name at least one book to evaluate on, of: hills, marsh, tower"),
        (["--hold-out=tower", "--lora-rank=4"], "lora_rank: adapters stand beside a model; name one with --from"),
        (["--hold-out=tower", "--from=nowhere"], "nowhere is neither a folder nor NAME@ALIAS of a published model"),
        (["--hold-out=tower", "--from=gpt2@live"], "bucket: gpt2@live lies in a bucket; name it with --bucket"),
        (["--hold-out=tower", "--state=/tmp"], "state: must be s3://BUCKET/PREFIX, got '/tmp'"),
        (["--hold-out=tower", "--device=cuda"], "device: cuda was asked for, and torch finds no GPU here"),
        (
            ["--hold-out=tower", "--context=16", "--batch-size=5", "--micro-batch=2"],
            "batch_size: must be a multiple of 2 windows at once times 1 processes, got 5",
        ),
        (
            ["--hold-out=tower", f"--from={DEMO}", "--width=8"],
            "width: the model named with --from decides it, got 8",
        ),
        (
            ["--hold-out=tower", f"--from={DEMO}", "--context=300"],
            f"context: {DEMO} sees at most 256 tokens at once, got 300",
        ),
    ],
)
def test_what_cannot_be_trained_is_told_and_leaves_nothing(
    options: list[str], message: str, texts: Path, tmp_path: Path
) -> None:
    result = CliRunner().invoke(
        app,
        [
            str(texts),
            "--out",
            str(tmp_path / "out"),
            *([] if "--from" in "".join(options) else ["--vocabulary=300"]),
            *options,
        ],
    )

    assert isinstance(result.exception, ServiceError)
    assert result.exception.message == message
    assert not (tmp_path / "out").exists()


def test_the_command_is_defined_without_importing_torch() -> None:
    program = (
        "import sys, lifecycle.commands.train; print(sorted({'torch', 'transformers', 'matplotlib'} & {*sys.modules}))"
    )

    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout

    assert printed.strip() == "[]"
