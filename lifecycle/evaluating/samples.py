"""What a model writes when it is left alone: a few pages with a fixed seed, and how much they repeat themselves."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from handler.inference.protocol import StepEngine
from handler.inference.tokenizer import Tokenizer
from lifecycle.comparing import own_windows

_SEED = 0
_SHOWN = 3  # pages that are kept for people to read


def sample(engine: StepEngine, tokenizer: Tokenizer) -> dict[str, Any]:
    """Figures of pages that the model writes from the beginning of a text on, sampled as it finds tokens probable."""
    pages = [page[1:] for page in own_windows(tokenizer, engine, _SEED)]
    return {
        "seed": _SEED,
        "pages": len(pages),
        "tokens": sum(map(len, pages)),
        "repetition": round(repetition(pages), 4),
        **{f"distinct_{n}": round(distinct(pages, n), 4) for n in (1, 2, 3)},
        "texts": [tokenizer.decode(page) for page in pages[:_SHOWN]],
    }


def distinct(pages: Sequence[Sequence[int]], n: int) -> float:
    """The share of runs of n tokens that are different ones, over all pages.

    Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models".
    """
    found = list(chain.from_iterable(_runs(page, n) for page in pages))
    return len(set(found)) / len(found) if found else 0.0


def repetition(pages: Sequence[Sequence[int]], n: int = 4) -> float:
    """The share of runs of n tokens that were on the same page before, mean over pages (seq-rep-4).

    Welleck et al. 2020, "Neural Text Generation with Unlikelihood Training".
    """
    shares = [1 - len(set(found)) / len(found) for page in pages if (found := _runs(page, n))]
    return sum(shares) / len(shares) if shares else 0.0


def _runs(page: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(page[start : start + n]) for start in range(len(page) - n + 1)]
