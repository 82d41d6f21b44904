"""What `make bench-gpu` measures: three ways to run one model with random weights, and vLLM beside them."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Final, TypeAlias

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from bench.engine import CACHE, ROOT
from bench.sizes import SIZES
from bench.subject import Subject, Tokens
from handler.inference.causal import CausalEngine
from handler.inference.continuous import ContinuousBackend
from handler.inference.paging import ATTENTION, PAGE_TOKENS, UNUSED_BLOCKS, pages_of
from handler.inference.protocol import Backend, GenerationRequest, SamplingParams, TokenGenerated
from handler.inference.scheduler import Scheduler
from handler.inference.slots import MAX_SLOTS
from handler.inference.slotted_attention import ATTENTION as SLOTTED
from handler.inference.twin import twin_of

# Small enough for a try on a CPU: layers, heads, width.
TRY: Final = {"try": (2, 4, 64)}

# Of a GPU's memory, beside what is there already.
_VLLM_SHARE: Final = 0.4

_GREEDY: Final = SamplingParams(temperature=0)


@dataclass(frozen=True, slots=True)
class Generated:
    """What came of a crowd of requests.

    Attributes:
        tokens: the new tokens behind each prompt.
        seconds: from the first request to the last token.
        first_token: seconds from a request to its first token, the median; None where it cannot be seen.
    """

    tokens: Tokens
    seconds: float
    first_token: float | None


Generate: TypeAlias = Callable[[Tokens, int], Generated]


@contextmanager
def subjects_of(
    size: str, device: str, *, context: int, most: int
) -> Iterator[tuple[PreTrainedModel, dict[str, Generate]]]:
    """A model and the subjects over it, by their names, until the end of the block.

    Args:
        size: the name of a size of GPT-2, or "try".
        device: "cpu" or "cuda".
        context: the most tokens of a sequence.
        most: how many there are at once.
    """
    model = random_model(size, device)
    config = model.config
    token_bytes = config.num_hidden_layers * 2 * config.hidden_size * model.dtype.itemsize
    room = min(most, MAX_SLOTS) * context * token_bytes
    scheduler = Scheduler(CausalEngine(model, kv_cache_bytes=room, context_limit=context))
    plain = twin_of(model, ATTENTION)
    room = (most * pages_of(context) + UNUSED_BLOCKS) * PAGE_TOKENS * token_bytes
    continuous = ContinuousBackend(plain, name="continuous", context_length=context, cache_bytes=room)
    try:
        yield (
            model,
            {
                "continuous": partial(through, continuous),
                "scheduler": partial(through, scheduler),
                "generate": partial(generate, plain),
            },
        )
    finally:
        continuous.close()
        scheduler.close()


def random_model(size: str, device: str) -> PreTrainedModel:
    """GPT-2 of a size, where it is to run; nothing ends its texts."""
    layers, heads, width = (SIZES | TRY)[size]
    config = GPT2Config(
        architectures=["GPT2LMHeadModel"],  # for vLLM, which asks for it
        n_layer=layers,
        n_head=heads,
        n_embd=width,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.device(device):
        model: PreTrainedModel = GPT2LMHeadModel._from_config(  # type: ignore[no-untyped-call]
            config, dtype=torch.float32 if device == "cpu" else torch.float16, attn_implementation=SLOTTED
        )
    return model.eval()  # type: ignore[no-untyped-call, no-any-return]


def through(backend: Backend, prompts: Tokens, new: int) -> Generated:
    """All prompts as requests of their own, each with a thread that waits for its tokens, as they are served."""
    with ThreadPoolExecutor(len(prompts)) as pool:
        started = time.perf_counter()
        answers = list(pool.map(partial(_answer, backend, new), prompts))
        seconds = time.perf_counter() - started
    return Generated([tokens for tokens, _ in answers], seconds, median(first for _, first in answers))


def _answer(backend: Backend, new: int, prompt: list[int]) -> tuple[list[int], float]:
    """The new tokens, and the seconds to the first."""
    started, first, tokens = time.perf_counter(), 0.0, []
    for event in backend.submit(GenerationRequest((tuple(prompt),), (_GREEDY,), max_tokens=new)):
        if isinstance(event, TokenGenerated):
            first = first or time.perf_counter() - started
            tokens.append(event.token)
    return tokens, first


def generate(model: PreTrainedModel, prompts: Tokens, new: int) -> Generated:
    """All prompts as one batch."""
    ids = torch.tensor(prompts, device=model.device)
    started = time.perf_counter()
    output = model.generate(  # type: ignore[operator]  # a mixin's
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new, pad_token_id=0
    ).tolist()
    seconds = time.perf_counter() - started
    return Generated([tokens[len(prompt) :] for tokens, prompt in zip(output, prompts, strict=True)], seconds, None)


def vllm(model: PreTrainedModel) -> Subject:
    """The program vLLM in a process of its own, with random weights of the same size.

    Raises:
        SubjectError: it cannot be imported, or does not start.
    """
    folder = CACHE / "vllm"
    model.config.save_pretrained(folder)
    command = [sys.executable, "-m", "bench.peers.vllm", str(folder), str(_VLLM_SHARE)]
    # Else its engine is a process that is not ended with it, and keeps the GPU's memory.
    variables = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    return Subject(command, variables, folder=ROOT, log=CACHE / "vllm.log")


def ask(subject: Subject, prompts: Tokens, new: int) -> Generated:
    """All prompts as one batch of another program's."""
    answer = subject.generate(prompts, new)
    return Generated(answer.tokens, answer.seconds, None)
