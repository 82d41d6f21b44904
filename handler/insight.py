"""What the model makes of texts that are there already: how probable each token is, and what it would go on with."""

from collections.abc import Sequence

from handler.allowance import Allowance
from handler.cancellation import Cancellation
from handler.completion import FieldNames
from handler.errors import ContextLengthExceededError, DeadlineExceededError, InvalidRequestError
from handler.inference.protocol import (
    Backend,
    GenerationRequest,
    PromptScored,
    SamplingParams,
    TokenGenerated,
    TokenLogprobs,
)
from handler.limits import Limits, check_lengths
from handler.timing import current_timing


class Insight:
    """A loaded model, asked about texts from any thread."""

    def __init__(self, backend: Backend, limits: Limits) -> None:
        """Ask a backend.

        Args:
            backend: what runs the model.
            limits: what a request is held to.
        """
        self._backend = backend
        self._limits = limits

    @property
    def engine(self) -> str:
        """The name of the engine that answers."""
        return self._backend.scorer

    def score(
        self,
        texts: Sequence[Sequence[int]],
        *,
        top: int,
        deadline: float | None,
        cancellation: Cancellation,
        allowance: Allowance,
        param: str,
    ) -> list[list[TokenLogprobs]]:
        """How probable each token of some texts is after those before it: all but the first, which nothing precedes.

        Args:
            texts: token ids, at least one each; all are read together.
            top: alternatives to report at each position.
            deadline: when to give up, on the clock of `time.time()`.
            cancellation: by which whoever asked gives up.
            allowance: how many tokens whoever asked may use.
            param: the request's field they come from, for errors.

        Raises:
            ContextLengthExceededError: a text does not fit the model's context.
            DeadlineExceededError: time was up before all were read.
            CancelledRequestError: the request was cancelled.
            TokensPerDayExceededError: more are to be read than are left to whoever asks.
        """
        longest, context = max(map(len, texts)), self._backend.context_length
        if longest > context:
            raise ContextLengthExceededError(
                f"`{param}` may have at most {context} tokens, this model's context; given: {longest}.", param=param
            )
        cancellation.check()
        allowance.reserve(sum(map(len, texts)))
        generation = self._backend.submit(
            GenerationRequest(
                prompts=tuple(map(tuple, texts)),
                sampling=(SamplingParams(),) * len(texts),
                max_tokens=0,
                logprobs=top,
                prompt_logprobs=True,
                deadline=deadline,
            )
        )
        scores: dict[int, list[TokenLogprobs]] = {}
        with cancellation.stopping_by(generation.cancel):
            for event in generation:
                if isinstance(event, PromptScored):
                    scores[event.choice] = [score for score in event.logprobs if score is not None]
        current_timing().has_read(generation.submitted, generation.admitted)
        cancellation.check()
        if len(scores) < len(texts):
            raise DeadlineExceededError(f"Time was up before all of `{param}` was read.", retry_after=1)
        return [scores[index] for index in range(len(texts))]

    def check_count(self, count: int, param: str) -> None:
        """Hold a number of texts to the limit of choices.

        Raises:
            InvalidRequestError: there are more.
        """
        if count > self._limits.max_n:
            raise InvalidRequestError(
                f"`{param}` may hold at most {self._limits.max_n} texts; given: {count}.", param=param
            )

    def most_probable(self, prompt: Sequence[int], deadline: float | None, names: FieldNames) -> int:
        """The most probable token after a prompt; `names` are those of the request's fields, for errors.

        Raises:
            ContextLengthExceededError: the prompt fills the context.
            DeadlineExceededError: time was up.
        """
        sampling = SamplingParams(temperature=0)
        check_lengths([prompt], 1, self._limits, self._backend.context_length, names)
        request = GenerationRequest((tuple(prompt),), (sampling,), max_tokens=1, deadline=deadline)
        generation = self._backend.submit(request)
        for event in generation:
            if isinstance(event, TokenGenerated):
                current_timing().has_read(generation.submitted, generation.admitted)
                return event.token
        raise DeadlineExceededError("Time was up before the first token; nothing was generated.", retry_after=1)
