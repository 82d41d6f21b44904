"""The one door to text: every way in (HTTP, direct invocation, events) asks here and gets the same answer.

Text and token ids come in, the limits are checked, the backend generates, and text goes out: whole characters, cut
before the first stop string, with log-probabilities and usage that describe exactly what is returned.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace

from handler.best_of import asking_for_candidates, best
from handler.chat.renderer import Renderer
from handler.chat.template import ChatTemplate
from handler.completion import Completion, TextRequest
from handler.errors import ContextLengthExceededError
from handler.inference.protocol import (
    Backend,
    GenerationRequest,
    Load,
)
from handler.inference.tokenizer import Tokenizer
from handler.insight import Insight
from handler.limits import Limits, check_lengths, check_numbers, check_tokens
from handler.measures import Completed
from handler.registry.manifest import Manifest
from handler.stages import ColdStart
from handler.stream import Draft, TextStream, collect
from handler.telemetry import log_completion


class TextService:
    """A loaded model, ready for requests from any thread.

    Attributes:
        model: what it is.
        insight: tells how probable texts are.
    """

    def __init__(
        self,
        model: Manifest,
        tokenizer: Tokenizer,
        backend: Backend,
        limits: Limits,
        *,
        chat_template: ChatTemplate | None = None,
        cold_start: ColdStart | None = None,
        completed: Completed = log_completion,
    ) -> None:
        """Put a model behind the door.

        Args:
            model: what it is.
            tokenizer: its tokenizer.
            backend: what runs it.
            limits: what a request is held to.
            chat_template: makes prompts of conversations; the plain one by default.
            cold_start: what this process's first token ends, where that is of interest.
            completed: told of each completion.
        """
        self.model = model
        self._chat_template = chat_template or ChatTemplate.of({}, Renderer())
        self._cold_start = cold_start or ColdStart()
        self._completed = completed
        self._tokenizer = tokenizer
        self._backend = backend
        self._limits = limits
        self.insight = Insight(backend, limits)

    @property
    def engine(self) -> str:
        """The engine's name."""
        return self._backend.name

    def fingerprint(self, engine: str) -> str:
        """What, beside the request and its seed, decides the answer: model version, engine, instruction set."""
        return f"{self.model.version}-{engine}"

    @property
    def begin_of_text(self) -> int:
        """The token that a text begins with: GPT-2's ends the text before, too."""
        return self._tokenizer.begin_of_text

    def encode(self, prompt: str | Sequence[int], param: str = "prompt") -> tuple[int, ...]:
        """A prompt's token ids; an empty prompt is the token that a text begins with.

        A prompt that is a text begins with it in any case where the model was trained so, as its tokenizer tells; there
        it may be written out as well.

        Raises:
            InvalidRequestError: it is no valid Unicode, or one of its ids is no token.
        """
        return self._begun(prompt, param)[0]

    def _begun(self, prompt: str | Sequence[int], param: str) -> tuple[tuple[int, ...], int]:
        """What `encode` says, and how many of the tokens, at the front, are none of what was given."""
        tokens, begin = self.encode_text(prompt, param), self.begin_of_text
        if isinstance(prompt, str) and self._tokenizer.adds_begin and tokens[:1] != (begin,):
            return (begin, *tokens), 1
        return tokens or (begin,), 0

    def encode_text(self, text: str | Sequence[int], param: str, *, continues: bool = False) -> tuple[int, ...]:
        """The token ids of a text alone, or of ids themselves, checked.

        Args:
            text: either of them.
            param: the request's field they come from.
            continues: whether the text goes on from another.

        Raises:
            InvalidRequestError: it is no valid Unicode, or one of its ids is no token.
        """
        if isinstance(text, str):
            return tuple(self._tokenizer.encode(text, param, continues=continues))
        check_tokens(text, self._backend.vocabulary_size, param)
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
        begin, end = (self._tokenizer.decode([id_]) for id_ in (self.begin_of_text, self._tokenizer.end_of_text))
        return template.prompt(messages, begin=begin, end=end), template.stops

    def room_after(self, prompt: str, param: str) -> int:
        """How many tokens fit behind a prompt, within the limits; `param` is the field it comes from.

        Raises:
            ContextLengthExceededError: not one.
        """
        count, context = len(self.encode(prompt, param)), self._backend.context_length
        if count >= context:
            raise ContextLengthExceededError(
                f"`{param}` and an answer must fit {context} tokens, this model's context; given: {count} tokens, "
                "with what the template adds.",
                param=param,
            )
        return min(context - count, self._limits.max_tokens)

    def longest_text(self, prompt: Sequence[int]) -> int:
        """How many tokens a prompt and what is generated may have together, within the limits."""
        return min(self._backend.context_length, len(prompt) + self._limits.max_tokens)

    def load(self) -> Load:
        """How busy the engine is."""
        return self._backend.load()

    def warm_up(self) -> None:
        """Answer for the first time, so that whatever a first answer has to wait for lies behind it."""
        self.complete(TextRequest(prompts=[""], max_tokens=1))

    def check(self) -> None:
        """See whether a prompt could be answered now.

        Raises:
            EngineUnavailableError: the engine has failed for good.
        """
        self._backend.check()

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
        # Only a stop string has to be looked for while tokens come.
        piecewise = bool(request.stop)
        if request.best_of is None:
            return collect(self.stream(request, piecewise=piecewise))
        return best(collect(self.stream(asking_for_candidates(request), piecewise=piecewise)), request)

    def stream(self, request: TextRequest, *, piecewise: bool = True) -> TextStream:
        """Begin to generate `n` choices for every prompt.

        Args:
            request: what is asked for.
            piecewise: whether the pieces come as they are made, rather than a choice's at once behind its first token.

        Raises:
            InvalidRequestError: a field is out of its bounds.
            ContextLengthExceededError: a prompt and `max_tokens` do not fit the model's context.
            TokensPerDayExceededError: it may take more tokens than are left to whoever asks.
        """
        check_numbers(request, self._limits)
        check_tokens(request.sampling.logit_bias, self._backend.vocabulary_size, "logit_bias")
        begun = [self._begun(prompt, request.names.prompt) for prompt in request.prompts]
        prompts = tuple(prompt for prompt, _ in begun)
        check_lengths(prompts, request.max_tokens, self._limits, self._backend.context_length, request.names)
        request.cancellation.check()
        count = sum(map(len, prompts))
        reserved = count + len(prompts) * request.n * request.max_tokens
        request.allowance.reserve(reserved)
        load = self._backend.load()
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
                stop_tokens=self._tokenizer.ends,
                logprobs=request.logprobs,
                prompt_logprobs=request.echo and request.logprobs is not None,
                deadline=request.deadline,
                piecewise=piecewise,
                reproducible=request.seed is not None,
            )
        )
        drafts = [
            Draft(p * request.n + sample, self._tokenizer, request, prompt, added)
            for p, (prompt, added) in enumerate(begun)
            for sample in range(request.n)
        ]
        return TextStream(
            self.model,
            request,
            drafts,
            generation,
            prompt_tokens=count,
            reserved=reserved,
            batch_size=min(load.running + load.waiting + len(drafts), load.places),
            cold_start=self._cold_start,
            completed=self._completed,
        )
