"""Speeds as the benchmarks wrote them down."""

import json
from pathlib import Path
from typing import Any

import pytest

from handler.errors import InvalidRequestError
from lifecycle.planning.speeds import FunctionSpeed, GpuSpeed, assumed_gpu, function_speed, measured_gpu


def line(figure: str, subject: str, setting: dict[str, Any], median: float, spread: float = 0.0) -> str:
    measured = {"median": median, "min": median - spread, "max": median + spread}
    return json.dumps({"figure": figure, "subject": subject, "setting": setting, "machine": "a machine"} | measured)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """What two models and a cold start took."""
    eight = {"weights": "packed-int8-v1", "threads": 2}
    sizes = [
        line(figure, model, eight, value)
        for model, figures in {"small": (100, 400, 120), "large": (10, 40, 1000)}.items()
        for figure, value in zip(("decode", "prefill", "weights"), figures, strict=True)
    ]
    (tmp_path / "sizes.jsonl").write_text("\n".join(sizes))
    at = {"cache": "warm", "store": "75MiBps"}
    starts = [
        line("first_token", "us", at, 2.0, spread=0.5),
        line("imports", "us", at, 0.4),
        line("first_token", "us", at | {"store": "unthrottled"}, 0.5),
    ]
    (tmp_path / "coldstart.jsonl").write_text("\n".join(starts))
    return tmp_path


def test_a_function_with_as_many_processors_as_were_measured(results: Path) -> None:
    assert function_speed("small", memory_mb=4096, results=results) == FunctionSpeed(
        prefill=400, decode=100, start=(1.5, 2.0, 2.5), front_start=0.4, weights_bytes=120e6
    )


def test_less_memory_is_fewer_processors(results: Path) -> None:
    """1,769 MB are one processor, where the benchmark had two threads."""
    found = function_speed("small", memory_mb=1769, results=results)
    assert (found.prefill, found.decode) == (200, 50)


def test_a_larger_model_starts_as_much_later_as_its_bytes_take(results: Path) -> None:
    """880 MB more at 75 MiB/s are 11.19 s more."""
    assert function_speed("large", results=results).start == pytest.approx((12.69, 13.19, 13.69), abs=0.005)


def test_an_unknown_model_is_refused(results: Path) -> None:
    with pytest.raises(InvalidRequestError, match="model: 'huge' was not measured with 8 bits; known: small, large"):
        function_speed("huge", results=results)


def test_our_own_results_are_such() -> None:
    for model in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"):
        for bits in (8, 4):
            found = function_speed(model, bits=bits)
            assert found.prefill > found.decode > 1
            assert sorted(found.start) == list(found.start)


def test_a_measured_gpu(results: Path) -> None:
    setting = {"model": "small"}
    lines = [
        line("decode", "continuous", setting | {"concurrency": 16}, 1600),
        line("decode", "continuous", setting | {"concurrency": 1}, 125),
        line("prefill", "continuous", setting | {"concurrency": 1}, 9000),
        line("decode", "scheduler", setting | {"concurrency": 1}, 70),
        line("decode", "continuous", {"model": "large", "concurrency": 1}, 30),
    ]
    (results / "gpu.jsonl").write_text("\n".join(lines))
    assert measured_gpu("small", results=results) == GpuSpeed(9000, ((1, 125), (16, 1600)), "a machine")
    assert measured_gpu("large", results=results) is None  # its reading was not measured


def test_a_gpu_that_nobody_measured(results: Path) -> None:
    assert measured_gpu("small", results=results) is None


def test_steps_lie_on_lines_between_what_was_measured() -> None:
    """One alone takes 8 ms a step and 5 take 16; beyond, a step grows as the batch does."""
    steps = GpuSpeed(9000, ((1, 125.0), (5, 312.5))).steps(10)
    assert steps == pytest.approx((0.0, 0.008, 0.010, 0.012, 0.014, 0.016, 0.0192, 0.0224, 0.0256, 0.0288, 0.032))


def test_an_assumed_gpu_takes_as_long_for_any_batch() -> None:
    assert assumed_gpu(6400).steps(64)[1:] == pytest.approx([0.01] * 64)
