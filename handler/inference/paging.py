"""How transformers' continuous batching is set up: the pages of its cache, its batches, and how it chooses tokens.

Nothing is left for it to find out: what it would infer from free memory is given, so that KV_CACHE_MB means the same on
every machine. Of its switches those are off that this project has not measured: CUDA graphs, compilation and batches
prepared ahead go with flash attention, for which it would fetch kernels from the Hugging Face hub while it serves. With
torch's own attention its defaults are the same.
"""

import logging
import secrets
from typing import Final

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching import ContinuousBatchingManager, PagedAttentionCache
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingTemperatureLogitsWarper
from transformers.generation.continuous_batching.requests import RequestState
from transformers.generation.continuous_batching.scheduler import SCHEDULER_MAPPING, FIFOScheduler
from transformers.generation.continuous_batching.utils import find_head_dim, find_num_key_value_heads

from handler.errors import EngineError, UnsupportedModelError
from handler.inference.sampling import NOT_FINITE

# torch's own attention by its name in transformers: the faster one of those it can batch with that are always there.
ATTENTION: Final = "sdpa"

# Tokens of a page. What a sequence does not fill of its last one is lost, and prompts share whole ones only.
PAGE_TOKENS: Final = 16

# Tokens of a batch, those of prompts and one of each sequence under way: attention is over all of them at once, with a
# mask of so many rows and as many columns as the cache has tokens.
BATCH_TOKENS: Final = 512

# Sequences of a batch; others wait.
BATCH_SEQUENCES: Final = 256

# The cache begins with two blocks that nobody gets: padding is written there.
UNUSED_BLOCKS: Final = 2

# It writes token ids of prompts, and lines that are no JSON. What goes wrong is raised, and logged where it is caught.
logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)


class GreedyOrTemperature(ContinuousBatchingTemperatureLogitsWarper):
    """Divides logits by each request's temperature, where 0 leaves the best token alone: the first of equals."""

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Scores (B, V) to the same; `tensor_arg` holds the bits of the temperatures, in its first B places.

        Raises:
            EngineError: a sequence's best score is infinite, or one of its scores is not a number.
        """
        temperatures = tensor_arg[: len(scores)].view(torch.float32)[:, None]  # (B, 1)
        best = scores.argmax(-1, keepdim=True)  # (B, 1)
        highest = scores.gather(-1, best)  # (B, 1), not a number as soon as any of them is not
        # A GPU that is to draw from such numbers stops, and the process could never use it again.
        if not highest.isfinite().all():
            raise EngineError(NOT_FINITE)
        # The best one becomes 0, so that however low a temperature is, nothing overflows.
        below = scores - highest
        alone = torch.full_like(below, -torch.inf).scatter(-1, best, below.gather(-1, best))
        return torch.where(temperatures == 0, alone, below / temperatures)


class AdmittingScheduler(FIFOScheduler):
    """First come, first served, also after everybody who was served has given up.

    Its parent takes the pages of a sequence when others need them, and admits nobody then until one has finished. Where
    all of them are cancelled instead, none ever does.
    """

    def clear_cancelled_requests(self) -> list[RequestState]:
        """Forget those that were cancelled; whatever they leave room for may come in."""
        cancelled: list[RequestState] = super().clear_cancelled_requests()
        if cancelled:
            self.block_new_requests = False
        return cancelled


SCHEDULER_MAPPING["admitting"] = AdmittingScheduler


def pages_of(tokens: int) -> int:
    """How many pages of a layer so many tokens of a sequence take."""
    return -(-tokens // PAGE_TOKENS)


def blocks_of(model: PreTrainedModel, context_length: int, cache_bytes: int) -> int:
    """How many blocks fit: a block is a page in each layer.

    Raises:
        UnsupportedModelError: not enough for one sequence of the context's length.
    """
    config = model.config.get_text_config()
    per_token = 2 * find_num_key_value_heads(config) * find_head_dim(config) * model.dtype.itemsize
    block_bytes = config.num_hidden_layers * per_token * PAGE_TOKENS
    blocks = cache_bytes // block_bytes - UNUSED_BLOCKS
    needed = pages_of(context_length)
    if blocks < needed:
        raise UnsupportedModelError(
            f"KV_CACHE_MB must leave continuous batching room for at least one sequence, which takes "
            f"{(needed + UNUSED_BLOCKS) * block_bytes:,} bytes; given: {cache_bytes:,}"
        )
    return int(blocks)


def free_share(cache: PagedAttentionCache) -> float:
    """The share of the cache that no sequence has, 0 to 1; what is kept for prompts that begin alike is free, too."""
    kept = sum(len(part.ledger.cached_blocks) * part.bytes_per_block for part in cache.cache_allocators.values())
    return (cache.compute_free_capacity(relative=False) + kept) / (cache.num_sectors * cache.bytes_per_sector)


def new_manager(model: PreTrainedModel, blocks: int) -> ContinuousBatchingManager:
    """A manager with an empty cache, not started; it draws from random numbers of its own.

    Every request must give it `temperature`, `top_k` and `top_p`.

    Raises:
        UnsupportedModelError: memory does not hold the cache and what goes with it.
    """
    # What requests give is looked at only where these say something, whatever it is.
    sampling = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True, temperature=0.5, top_k=1, top_p=0.5, eos_token_id=-1
    )
    manager: ContinuousBatchingManager = model.init_continuous_batching(  # type: ignore[operator]  # a mixin's
        sampling,
        ContinuousBatchingConfig(
            page_size=PAGE_TOKENS,
            num_blocks=blocks,
            max_batch_tokens=BATCH_TOKENS,
            max_requests_per_batch=BATCH_SEQUENCES,
            seed=secrets.randbits(63),  # torch's own could be those of another process that was forked from the same
            max_memory_percent=0.9,  # beyond it the cache is refused: it is never made smaller than was asked for
            per_request_processors=True,
            scheduler_type="admitting",
            auto_switch_to_flash=False,
            use_cuda_graph=False,
            use_async_batching=False,
        ),
    )
    processors = manager.logit_processor.logits_processor
    processors[0] = GreedyOrTemperature(processors[0])
    try:
        manager.warmup()  # makes the cache, here rather than on its thread
    except (MemoryError, ValueError, torch.cuda.OutOfMemoryError) as error:
        raise UnsupportedModelError(f"KV_CACHE_MB: there is no memory for continuous batching: {error}") from error
    # On a GPU it writes where each sequence's pages lie on torch's own stream, and reads it on another one that does
    # not wait: with our scheduler at work beside it, a step could look at others' pages. On one, all is in order.
    assert manager.batch_processor is not None  # noqa: S101 - it was made just now
    manager.batch_processor.inputs_and_outputs.compute_stream = None
    return manager
