"""`lifecycle train` as typed: options reach the run, and help explains them without importing torch."""

import json
import subprocess
import sys
from pathlib import Path

import typer
from typer.testing import CliRunner

from lifecycle.commands.train import train
from lifecycle.training.settings import TrainingSettings

app = typer.Typer()
app.command()(train)


def test_options_reach_the_run(texts: Path, tmp_path: Path, tiny: TrainingSettings) -> None:
    out = tmp_path / "out"
    options = [f"--{name.replace('_', '-')}={value}" for name, value in tiny.as_json().items() if name != "hold_out"]
    extra = ["--hold-out=tower", "--hold-out=marsh", "--stored-as=float16", "--license=CC0-1.0", "--threads=1"]

    result = CliRunner().invoke(app, [str(texts), "--out", str(out), *options, *extra], catch_exceptions=False)

    assert result.exit_code == 0, result.output
    provenance = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    expected = {**tiny.as_json(), "hold_out": ["tower", "marsh"]}
    assert provenance["training"].items() >= expected.items()
    assert all(str(figures["perplexity_per_word"]) in result.stdout for figures in provenance["evaluation"].values())
    assert provenance["license"] == "CC0-1.0"
    assert json.loads((out / "config.json").read_text(encoding="utf-8"))["dtype"] == "float16"


def test_a_missing_hold_out_is_a_usage_error(texts: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(texts), "--out", str(tmp_path / "out")])

    assert result.exit_code == 2
    assert "--hold-out" in result.output
    assert not (tmp_path / "out").exists()


def test_the_command_is_defined_without_importing_torch() -> None:
    program = (
        "import sys, lifecycle.commands.train; print(sorted({'torch', 'transformers', 'matplotlib'} & {*sys.modules}))"
    )

    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout

    assert printed.strip() == "[]"
