"""What the service is asked for, what it answers, and a choice while its tokens come in."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from handler.inference.protocol import FinishReason, SamplingParams, TokenLogprobs
from handler.inference.text import TextAssembler
from handler.inference.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class TextRequest:
    """What a client asks for.

    Attributes:
        prompts: each a text or token ids; an empty one means the end-of-text token, which starts a new text.
        n: choices per prompt.
        max_tokens: tokens to generate for each choice.
        sampling: how tokens are chosen; its seed is replaced when `seed` is None.
        seed: the same seed gives the same text; None draws one for every prompt.
        stop: texts that end the output, and are not part of it.
        logprobs: how many alternatives to report beside each token, or None for no log-probabilities.
        echo: whether the choice's text, and its log-probabilities, begin with the prompt.
        deadline: when to finish with what there is, on the clock of `time.time()`.
    """

    prompts: Sequence[str | Sequence[int]]
    n: int = 1
    max_tokens: int = 16
    sampling: SamplingParams = field(default_factory=SamplingParams)
    seed: int | None = None
    stop: Sequence[str] = ()
    logprobs: int | None = None
    echo: bool = False
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """A token of the answer: its text, where it begins in the choice's text, and its log-probability.

    `logprob` and `top` are None for the first token of a prompt, which nothing precedes.
    """

    text: str
    offset: int
    logprob: float | None
    top: dict[str, float] | None


@dataclass(frozen=True, slots=True)
class Choice:
    """One text: `finish_reason` is "stop", "length" or "deadline"."""

    index: int
    text: str
    finish_reason: FinishReason
    completion_tokens: int
    tokens: list[ScoredToken] | None


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to a request: `n` choices for each prompt, in the prompts' order."""

    choices: list[Choice]
    prompt_tokens: int

    @property
    def completion_tokens(self) -> int:
        """The tokens of all choices together."""
        return sum(choice.completion_tokens for choice in self.choices)


class Draft:
    """A choice while its tokens come in: assembles its text and ends it at a stop string.

    Attributes:
        prompt_logprobs: how probable each prompt token was, once the backend has said so.
        reason: why the choice is finished; "stop" unless the backend says otherwise.
    """

    def __init__(self, tokenizer: Tokenizer, request: TextRequest, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._request = request
        self._prompt = prompt
        self._output = TextAssembler(tokenizer, request.stop)
        self._text = ""
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprobs | None] = []
        self.prompt_logprobs: Sequence[TokenLogprobs | None] = ()
        self.reason: FinishReason = "stop"

    @property
    def is_empty(self) -> bool:
        """Whether there is not a single token yet."""
        return not self._tokens

    def add(self, token: int, logprobs: TokenLogprobs | None) -> bool:
        """Append a token; True when it completed a stop string, and with it the choice."""
        self._tokens.append(token)
        self._logprobs.append(logprobs)
        self._text += self._output.push(token)
        return self._output.stopped

    def choice(self, index: int) -> Choice:
        """The finished choice."""
        text = self._text + self._output.finish()
        kept = self._output.kept_tokens
        tokens = None
        if self._request.logprobs is not None:
            tokens = self._scored(self._tokens[:kept], self._logprobs, self._output.offsets)
        if self._request.echo:
            prompt = TextAssembler(self._tokenizer)
            prompt_text = "".join(prompt.push(token) for token in self._prompt) + prompt.finish()
            text = prompt_text + text
            if tokens is not None:
                shifted = [replace(token, offset=token.offset + len(prompt_text)) for token in tokens]
                tokens = self._scored(self._prompt, self.prompt_logprobs, prompt.offsets) + shifted
        return Choice(index, text, self.reason, kept, tokens)

    def _scored(
        self, tokens: Sequence[int], logprobs: Sequence[TokenLogprobs | None], offsets: Sequence[int]
    ) -> list[ScoredToken]:
        """Tokens with their texts; the lists may be longer than the tokens, never shorter."""
        name = self._tokenizer.token_text
        return [
            ScoredToken(
                text=name(token),
                offset=offset,
                logprob=None if score is None else score.logprob,
                # The token itself is always listed, also where it is not among the best.
                top=None if score is None else {name(id_): p for id_, p in (*score.top, (token, score.logprob))},
            )
            for token, score, offset in zip(tokens, logprobs, offsets, strict=False)
        ]
