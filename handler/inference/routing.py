"""A backend of two over the same weights: a fast one for what it can do, an exact one for the rest.

The fast one draws from random numbers of its own and tells nothing but tokens. So whatever asks for more, such as a
seed or log-probabilities, is the exact one's; an answer says which of them it is from (`Generation.engine`).
"""

from handler.inference.protocol import Backend, Generation, GenerationRequest, Load, SamplingParams


class Routing:
    """A backend that hands each request to one of two."""

    def __init__(self, fast: Backend, exact: Backend) -> None:
        """Put it before two backends of the same model."""
        self._fast, self._exact = fast, exact

    @property
    def name(self) -> str:
        """The fast one's."""
        return self._fast.name

    @property
    def scorer(self) -> str:
        """The exact one's name."""
        return self._exact.name

    @property
    def context_length(self) -> int:
        """The most tokens, prompt and output together, that one choice may have."""
        return self._fast.context_length

    @property
    def vocabulary_size(self) -> int:
        """Token ids run from 0 to this number less one."""
        return self._fast.vocabulary_size

    def submit(self, request: GenerationRequest) -> Generation:
        """Hand a request to the one that can do it."""
        return (self._fast if needs_tokens_alone(request) else self._exact).submit(request)

    def check(self) -> None:
        """See whether both can be expected to answer.

        Raises:
            EngineUnavailableError: one cannot.
        """
        self._fast.check()
        self._exact.check()

    def load(self) -> Load:
        """How busy both are; each has half of the cache, and what is free of the exact one's is for few."""
        fast, exact = self._fast.load(), self._exact.load()
        return Load(
            fast.running + exact.running,
            fast.waiting + exact.waiting,
            fast.places + exact.places,
            cache_use=(fast.cache_use + exact.cache_use) / 2,
            reserved=max(0, exact.places - exact.running - exact.waiting),
        )

    def rest(self) -> None:
        """Have both rest."""
        self._fast.rest()
        self._exact.rest()

    def retire(self) -> None:
        """Retire both."""
        self._fast.retire()
        self._exact.retire()

    def close(self) -> None:
        """Close both."""
        self._fast.close()
        self._exact.close()


def needs_tokens_alone(request: GenerationRequest) -> bool:
    """Whether a request asks for tokens and nothing beside them, drawn in the plain way, or the best ones."""
    return (
        request.max_tokens > 0
        and request.logprobs is None
        and not request.prompt_logprobs
        and all(map(_is_plain, request.sampling))
        and (not request.reproducible or all(sampling.temperature == 0 for sampling in request.sampling))
    )


def _is_plain(sampling: SamplingParams) -> bool:
    """Whether temperature, top-k and top-p are all that is asked for."""
    return sampling == SamplingParams(sampling.temperature, sampling.top_k, sampling.top_p, seed=sampling.seed)
