"""The one door to text: every way in (HTTP, direct invocation, events) asks here and gets the same answer.

Text and token ids come in, the limits are checked, the backend generates, and text goes out: whole characters, cut
before the first stop string, with log-probabilities and usage that describe exactly what is returned.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from handler.chat.renderer import Renderer
from handler.chat.template import ChatTemplate
from handler.completion import Completion, TextRequest
from handler.errors import ContextLengthExceededError, DeadlineExceededError, InvalidRequestError
from handler.inference.protocol import (
    Backend,
    GenerationRequest,
    PromptScored,
    SamplingParams,
    TokenGenerated,
    TokenLogprobs,
)
from handler.inference.tokenizer import Tokenizer
from handler.registry.manifest import Manifest
from handler.stages import ColdStart
from handler.stream import Draft, TextStream, collect
from handler.timing import current_timing


class Limits(Protocol):
    """The bounds a request is held to; `Settings` has them."""

    @property
    def max_prompt_tokens(self) -> int:
        """The longest prompt, in tokens."""

    @property
    def max_tokens(self) -> int:
        """The most tokens a choice may be given."""

    @property
    def max_n(self) -> int:
        """The most choices of one request."""


class TextService:
    """A loaded model, ready for requests from any thread."""

    def __init__(
        self,
        model: Manifest,
        tokenizer: Tokenizer,
        backend: Backend,
        limits: Limits,
        *,
        chat_template: ChatTemplate | None = None,
        cold_start: ColdStart | None = None,
    ) -> None:
        """Put a model behind the door.

        Args:
            model: what it is.
            tokenizer: its tokenizer.
            backend: what runs it.
            limits: what a request is held to.
            chat_template: makes prompts of conversations; the plain one by default.
            cold_start: what this process's first token ends, where that is of interest.
        """
        self.model = model
        self._chat_template = chat_template or ChatTemplate.of({}, Renderer())
        self._cold_start = cold_start or ColdStart()
        self._tokenizer = tokenizer
        self._backend = backend
        self._limits = limits

    @property
    def engine(self) -> str:
        """The engine's name."""
        return self._backend.name

    @property
    def fingerprint(self) -> str:
        """What, beside the request and its seed, decides the answer: model version, engine, instruction set."""
        return f"{self.model.version}-{self._backend.name}"

    @property
    def end_of_text(self) -> int:
        """The token that ends a text, and begins the next."""
        return self._tokenizer.end_of_text

    def encode(self, prompt: str | Sequence[int]) -> tuple[int, ...]:
        """A prompt's token ids; an empty prompt is the end-of-text token.

        Raises:
            InvalidRequestError: it is no valid Unicode, or one of its ids is no token.
        """
        return self.encode_text(prompt, "prompt") or (self.end_of_text,)

    def encode_text(self, text: str | Sequence[int], param: str) -> tuple[int, ...]:
        """The token ids of a text, or of ids themselves, checked; `param` is the request's field they come from.

        Raises:
            InvalidRequestError: it is no valid Unicode, or one of its ids is no token.
        """
        if isinstance(text, str):
            return tuple(self._tokenizer.encode(text, param))
        self._check_tokens(text, param)
        return tuple(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of some tokens; bytes that are no character become U+FFFD."""
        return self._tokenizer.decode(tokens)

    def token_text(self, token: int) -> str:
        r"""The text of a token, or `bytes:\xNN...` where it is part of a character."""
        return self._tokenizer.token_text(token)

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> tuple[str, tuple[str, ...]]:
        """The prompt that continues a conversation, and the strings at which an answer ends.

        Raises:
            InvalidRequestError: the model's template refuses the conversation.
        """
        template = self._chat_template
        return template.prompt(messages, self._tokenizer.decode([self.end_of_text])), template.stops

    def room_after(self, prompt: str, param: str) -> int:
        """How many tokens fit behind a prompt, within the limits; `param` is the field it comes from.

        Raises:
            ContextLengthExceededError: not one.
        """
        count, context = len(self.encode_text(prompt, param)), self._backend.context_length
        if count >= context:
            raise ContextLengthExceededError(
                f"`{param}` and an answer must fit {context} tokens, this model's context; given: {count} tokens, "
                "with what the template adds.",
                param=param,
            )
        return min(context - count, self._limits.max_tokens)

    def warm_up(self) -> None:
        """Answer for the first time, so that whatever a first answer has to wait for lies behind it."""
        self.complete(TextRequest(prompts=[""], max_tokens=1))

    def rest(self) -> None:
        """Hold no thread until the next request."""
        self._backend.rest()

    def retire(self) -> None:
        """Finish what is under way: another version takes this one's place, and its memory is to be free then."""
        self._backend.retire()

    def complete(self, request: TextRequest) -> Completion:
        """Generate `n` choices for every prompt, all of them together.

        Raises:
            ServiceError: whatever `stream` and its iteration raise.
        """
        return collect(self.stream(request))

    def stream(self, request: TextRequest) -> TextStream:
        """Begin to generate `n` choices for every prompt; the pieces of all of them come as they are made.

        Raises:
            InvalidRequestError: a field is out of its bounds.
            ContextLengthExceededError: a prompt and `max_tokens` do not fit the model's context.
        """
        self._check_numbers(request)
        prompts = tuple(self.encode(prompt) for prompt in request.prompts)
        self._check_lengths(prompts, request.max_tokens)
        request.cancellation.check()
        generation = self._backend.submit(
            GenerationRequest(
                prompts=prompts,
                # Without a seed every prompt draws its own: the same prompt twice is not the same answer twice.
                sampling=tuple(
                    replace(request.sampling, seed=secrets.randbits(64) if request.seed is None else request.seed)
                    for _ in prompts
                ),
                n=request.n,
                max_tokens=request.max_tokens,
                stop_tokens=frozenset({self._tokenizer.end_of_text}),
                logprobs=request.logprobs,
                prompt_logprobs=request.echo and request.logprobs is not None,
                deadline=request.deadline,
            )
        )
        drafts = [
            Draft(p * request.n + sample, self._tokenizer, request, prompt)
            for p, prompt in enumerate(prompts)
            for sample in range(request.n)
        ]
        count = sum(map(len, prompts))
        return TextStream(self.model, request, drafts, generation, prompt_tokens=count, cold_start=self._cold_start)

    def score(
        self, texts: Sequence[Sequence[int]], *, top: int, deadline: float | None, param: str
    ) -> list[list[TokenLogprobs]]:
        """How probable each token of some texts is after those before it: all but the first, which nothing precedes.

        Args:
            texts: token ids, at least one each; all are read together.
            top: alternatives to report at each position.
            deadline: when to give up, on the clock of `time.time()`.
            param: the request's field they come from, for errors.

        Raises:
            ContextLengthExceededError: a text does not fit the model's context.
            DeadlineExceededError: time was up before all were read.
        """
        longest, context = max(map(len, texts)), self._backend.context_length
        if longest > context:
            raise ContextLengthExceededError(
                f"`{param}` may have at most {context} tokens, this model's context; given: {longest}.", param=param
            )
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
        try:
            for event in generation:
                if isinstance(event, PromptScored):
                    scores[event.choice] = [score for score in event.logprobs if score is not None]
        finally:
            generation.cancel()
            current_timing().has_read(generation.submitted, generation.admitted)
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

    def most_probable(self, prompt: Sequence[int], deadline: float | None) -> int:
        """The most probable token after a prompt.

        Raises:
            ContextLengthExceededError: the prompt fills the context.
            DeadlineExceededError: time was up.
        """
        sampling = SamplingParams(temperature=0)
        self._check_lengths([prompt], 1)
        request = GenerationRequest((tuple(prompt),), (sampling,), max_tokens=1, deadline=deadline)
        generation = self._backend.submit(request)
        for event in generation:
            if isinstance(event, TokenGenerated):
                current_timing().has_read(generation.submitted, generation.admitted)
                return event.token
        raise DeadlineExceededError("Time was up before the first token; nothing was generated.", retry_after=1)

    def _check_numbers(self, request: TextRequest) -> None:
        """Hold what needs no tokenizing to the limits."""
        choices, most = len(request.prompts) * request.n, self._limits.max_n
        if choices > most:
            raise InvalidRequestError(
                f"`n` times the number of prompts may be at most {most}; given: {request.n} times "
                f"{len(request.prompts)}.",
                param="n",
            )
        if request.max_tokens > self._limits.max_tokens:
            raise InvalidRequestError(
                f"`max_tokens` may be at most {self._limits.max_tokens}; given: {request.max_tokens}.",
                param="max_tokens",
            )
        self._check_tokens(request.sampling.logit_bias, "logit_bias")

    def _check_lengths(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> None:
        """See that every prompt and its output fit."""
        longest, context = max(map(len, prompts)), self._backend.context_length
        if longest > self._limits.max_prompt_tokens:
            raise ContextLengthExceededError(
                f"`prompt` may have at most {self._limits.max_prompt_tokens} tokens; given: {longest}.", param="prompt"
            )
        if longest + max_tokens > context:
            raise ContextLengthExceededError(
                f"`prompt` and `max_tokens` together may have at most {context} tokens, this model's context; "
                f"given: {longest} and {max_tokens}.",
                param="max_tokens",
            )

    def _check_tokens(self, ids: Iterable[int], param: str) -> None:
        size = self._backend.vocabulary_size
        for token in ids:
            if not 0 <= token < size:
                raise InvalidRequestError(
                    f"`{param}` may hold token ids from 0 to {size - 1}; given: {token}.", param=param
                )
