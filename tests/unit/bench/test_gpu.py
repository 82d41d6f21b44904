"""What a GPU would be measured with, tried on a CPU: all subjects write the same, and every figure is taken."""

import torch

from bench.gpu import PROMPT, copy_bandwidth, measure, weight_bytes
from bench.gpu_subjects import subjects_of
from bench.report import Report

NEW = 4


def test_all_subjects_write_the_same_and_every_figure_is_taken() -> None:
    report = Report()
    with subjects_of("try", "cpu", context=PROMPT + NEW, most=3) as (model, subjects):
        asked = [[number] * PROMPT for number in (1, 2, 3)]
        written = [generate(asked, NEW).tokens for generate in subjects.values()]
        measure(report, "try", model, subjects, crowds=[1, 3], new=NEW, rounds=2)

    assert written[0] == written[1] == written[2]
    assert [len(tokens) for tokens in written[0]] == [NEW] * 3
    counts = {(each.figure, each.subject, each.setting.get("requests")): len(each.readings) for each in report}
    figures: list[tuple[str, str, int | None]] = [("floor", "memory", None)]
    figures += [("decode", name, crowd) for name in ("continuous", "scheduler", "generate") for crowd in (1, 3)]
    figures += [("first_token", name, crowd) for name in ("continuous", "scheduler") for crowd in (1, 3)]
    figures += [("step", name, None) for name in ("continuous", "scheduler")]
    assert counts == dict.fromkeys(figures, 2)
    # The embeddings of 50,257 tokens, which are the head, two layers of 12 squares of the width, norms and biases.
    assert weight_bytes(model) == 4 * (50257 * 64 + 2 * (12 * 64 * 64 + 13 * 64) + 2 * 64)
    assert copy_bandwidth(torch.device("cpu")) > 1e8
    assert model.config.architectures == [type(model).__name__]  # else vLLM, which is given it, does not know it
