"""lm-evaluation-harness, unmodified, against the endpoint: its numbers are those of the model itself.

The harness runs as researchers run it: its `local-completions` model sends token ids in batches, with `echo` and
`logprobs`, and reads the log-probability of every token of the prompt. Beside it, transformers computes the same from
the weights that are served: in 32 bits, and what the packed 8 bits stand for.
"""

import json
import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

from handler.inference.config import ModelConfig
from handler.inference.weights import read_tensors
from lifecycle.local.cloud import LOCAL_KEY, embedded_cloud
from lifecycle.local.models import DEMO, packed_folder
from lifecycle.promoting import LIVE, promote
from lifecycle.publishing import publish
from tests.models import unpacked_weights
from tests.serving import server

pytestmark = pytest.mark.lm_eval

ROOT = Path(__file__).parents[2]
TASKS = Path(__file__).parent / "tasks"
HARNESS = ROOT / ".venv-lm-eval/bin/lm_eval"

CONTEXT = 256
END_OF_TEXT = 0


@dataclass(frozen=True)
class Run:
    """What the harness reported, and what it should have.

    Attributes:
        results: each task's metrics.
        samples: each task's documents, with what was asked and answered.
        model: the weights that were served, in transformers.
        tolerance: by how much a token's log-probability may differ, in nats.
    """

    results: dict[str, dict[str, float]]
    samples: dict[str, list[dict[str, Any]]]
    model: GPT2LMHeadModel
    tolerance: float

    def within(self, count: int) -> float:
        """By how much the sum of so many log-probabilities may differ: their errors are independent, and cancel out."""
        return self.tolerance * math.sqrt(count) + 1e-6

    def logprobs(self, tokens: list[int]) -> torch.Tensor:
        """Of each token but the first, given those before it: the whole distribution (T - 1, V)."""
        with torch.inference_mode():
            logits: torch.Tensor = self.model(torch.tensor([tokens])).logits
        return logits[0, :-1].log_softmax(-1)


def _unpacked(folder: Path) -> GPT2LMHeadModel:
    """The weights that a packed folder stands for."""
    model = GPT2LMHeadModel.from_pretrained(DEMO, dtype=torch.float32)
    config = ModelConfig.from_json(json.loads((folder / "config.json").read_text()))
    tensors, metadata = read_tensors(memoryview((folder / "model.safetensors").read_bytes()))
    weights = unpacked_weights(config, tensors, metadata["layout"])
    missing, unexpected = model.transformer.load_state_dict(
        {name: torch.tensor(value) for name, value in weights.items()}, strict=False
    )
    assert (missing, unexpected) == ([], [])
    return model


# The reference engine computes in 32 bits, as transformers does, in another order. The native engine rounds activations
# to 8 bits before each product, which moves a token's log-probability by 0.02 nats on average, and by 0.1 at most.
@pytest.fixture(scope="module", params=[("reference", 1e-3), ("native", 0.15)], ids=lambda param: param[0])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    engine, tolerance = request.param
    out = tmp_path_factory.mktemp(engine)
    with embedded_cloud() as cloud:
        folder = DEMO if engine == "reference" else packed_folder(DEMO, Console(quiet=True))
        manifest = publish(folder, cloud.store, "demo")
        promote(cloud.store, "demo", manifest.version, LIVE, why="a test", force=True)
        with server(cloud, "demo", ENGINE=engine) as address:
            results, samples = _evaluate(address, out)
    model = GPT2LMHeadModel.from_pretrained(DEMO, dtype=torch.float32) if folder == DEMO else _unpacked(folder)
    model.train(mode=False)
    return Run(results, samples, model, tolerance)


def _evaluate(address: str, out: Path) -> tuple[dict[str, dict[str, float]], dict[str, list[dict[str, Any]]]]:
    """Run the harness on all tasks; it finds their files in its working directory."""
    shutil.copytree(TASKS, out / "tasks")
    arguments = {
        "model": "demo",
        "base_url": f"{address}/v1/completions",
        "tokenizer": DEMO,
        "tokenizer_backend": "huggingface",
        "max_length": CONTEXT,
        "num_concurrent": 1,
    }
    command = [str(HARNESS), "run", "--model", "local-completions", "--tasks", "choices", "passages", "beginnings"]
    command += ["--model_args", ",".join(f"{name}={value}" for name, value in arguments.items())]
    command += ["--include_path", ".", "--batch_size", "4", "--output_path", str(out / "out"), "--log_samples"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(out / "home")}
    environment = {**os.environ, **offline, "OPENAI_API_KEY": LOCAL_KEY}
    done = subprocess.run(
        command, cwd=out / "tasks", env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    [report] = (out / "out").rglob("results_*.json")
    samples = {}
    for path in (out / "out").rglob("samples_*.jsonl"):
        documents = [json.loads(line) for line in path.read_text().splitlines()]
        samples[path.name.split("_")[1]] = sorted(documents, key=lambda document: document["doc_id"])
    return json.loads(report.read_text())["results"], samples


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(DEMO / "tokenizer.json"))


def _documents(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (TASKS / f"{name}.jsonl").read_text().splitlines()]


def test_log_likelihoods_of_choices_are_the_models_own(run: Run, tokenizer: Tokenizer) -> None:
    right = 0
    for document, sample in zip(_documents("choices"), run.samples["choices"], strict=True):
        likelihoods = []
        for after, [said, greedy] in zip(document["after"], [each[0] for each in sample["resps"]], strict=True):
            whole, before = (
                tokenizer.encode(text, add_special_tokens=False).ids
                for text in (document["before"] + after, document["before"].rstrip())
            )
            rows = run.logprobs(whole)[len(before) - 1 :]
            after_ids = torch.tensor(whole[len(before) :], dtype=torch.long)
            expected = rows.gather(1, after_ids[:, None]).sum().item()
            assert float(said) == pytest.approx(expected, abs=run.within(len(after_ids)))
            top = rows.topk(2).values
            if (top[:, 0] - top[:, 1] > 2 * run.tolerance).all():  # no rounding decides which is the best
                assert (greedy == "True") == bool((rows.argmax(1) == after_ids).all())
            likelihoods.append(float(said))
        right += likelihoods.index(max(likelihoods)) == document["right"]
    assert run.results["choices"]["acc,none"] == pytest.approx(right / len(_documents("choices")))


def _windows(tokens: list[int]) -> Iterator[tuple[list[int], int]]:
    """What is read and how many of its last tokens are scored: each token once, after as many as there is room for.

    The harness keeps a place for the token it has generated and one for the token before the first.
    """
    room = CONTEXT - 2
    for start in range(0, len(tokens), room):
        end = min(start + room, len(tokens))
        yield [END_OF_TEXT, *tokens][max(0, end - room) : end + 1], end - start


def test_perplexities_of_passages_are_the_models_own(run: Run, tokenizer: Tokenizer) -> None:
    total, count = 0.0, 0
    for document, sample in zip(_documents("passages"), run.samples["passages"], strict=True):
        tokens = tokenizer.encode(document["text"], add_special_tokens=False).ids
        expected = 0.0
        for window, scored in _windows(tokens):
            rows = run.logprobs(window)[-scored:]
            expected += rows.gather(1, torch.tensor(window[-scored:])[:, None]).sum().item()
        [[said]] = sample["resps"]
        assert float(said) == pytest.approx(expected, abs=run.within(len(tokens)))
        total += float(said)
        count += len(document["text"].encode())
    assert max(len(tokenizer.encode(each["text"]).ids) for each in _documents("passages")) > CONTEXT
    figures = run.results["passages"]
    assert figures["bits_per_byte,none"] == pytest.approx(-total / count / math.log(2))
    assert figures["byte_perplexity,none"] == pytest.approx(math.exp(-total / count))


def test_texts_are_what_the_model_writes(run: Run, tokenizer: Tokenizer) -> None:
    written = [sample["resps"][0][0] for sample in run.samples["beginnings"]]
    for document, text in zip(_documents("beginnings"), written, strict=True):
        prompt = tokenizer.encode(document["text"]).ids
        tokens = list(prompt)
        for token in tokenizer.encode(document["text"] + text).ids[len(prompt) :]:
            last = run.logprobs([*tokens, END_OF_TEXT])[-1]
            assert last[token] >= last.max() - 2 * run.tolerance  # the best, or as good as
            tokens.append(token)
        assert "." not in text
        assert "\n" not in text
    assert any(written)
