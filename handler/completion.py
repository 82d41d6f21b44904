"""What the service is asked for, and what it answers: piece by piece, or as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from handler.allowance import UNLIMITED, Allowance
from handler.cancellation import Cancellation
from handler.inference.protocol import FinishReason, SamplingParams

Part: TypeAlias = Literal["prompt", "output", "end"]


@dataclass(frozen=True, slots=True)
class FieldNames:
    """What the client calls the fields of a request that are held to limits, for errors."""

    prompt: str = "prompt"
    n: str = "n"
    max_tokens: str = "max_tokens"


@dataclass(frozen=True, slots=True)
class TextRequest:
    """What a client asks for.

    Attributes:
        prompts: each a text or token ids; an empty one means the token that a text begins with.
        n: choices per prompt.
        best_of: how many to generate for each prompt, to return the `n` most probable ones; None for `n`.
        max_tokens: tokens to generate for each choice.
        sampling: how tokens are chosen; its seed is replaced when `seed` is None.
        seed: the same seed gives the same text; None draws one for every prompt.
        stop: texts that end the output, and are not part of it.
        logprobs: how many alternatives to report beside each token, or None for no log-probabilities.
        echo: whether the choice's text, and its log-probabilities, begin with the prompt.
        deadline: when to finish with what there is, on the clock of `time.time()`.
        cancellation: by which whoever asked gives up.
        allowance: how many tokens whoever asked may use.
        names: what whoever asked calls its fields.
    """

    prompts: Sequence[str | Sequence[int]]
    n: int = 1
    best_of: int | None = None
    max_tokens: int = 16
    sampling: SamplingParams = field(default_factory=SamplingParams)
    seed: int | None = None
    stop: Sequence[str] = ()
    logprobs: int | None = None
    echo: bool = False
    deadline: float | None = None
    cancellation: Cancellation = field(default_factory=Cancellation)
    allowance: Allowance = UNLIMITED
    names: FieldNames = FieldNames()

    @property
    def candidates(self) -> int:
        """How many choices are generated for each prompt."""
        return self.n if self.best_of is None else self.best_of


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """A token of the answer: its text, where it begins in the choice's text, and its log-probability.

    `logprob` and `top` are None for the first token of a prompt, which nothing precedes. `part` tells the tokens of an
    echoed prompt from those generated, and from the end of text that ended the choice and is not in its text.
    """

    text: str
    offset: int
    logprob: float | None
    top: dict[str, float] | None
    part: Part


@dataclass(frozen=True, slots=True)
class Piece:
    """What has become certain of a choice: its pieces put together are the choice.

    Attributes:
        index: which choice.
        text: whole characters, which no later token and no stop string can change.
        completion_tokens: the generated tokens that begin in this text.
        tokens: those tokens, after the prompt's where it is echoed and before the end of text where that ended the
            choice; or None for no log-probabilities.
        finish_reason: set in a choice's last piece.
    """

    index: int
    text: str
    completion_tokens: int
    tokens: list[ScoredToken] | None
    finish_reason: FinishReason | None


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
    """The answer to a request: `n` choices for each prompt, in the prompts' order.

    Attributes:
        choices: the choices.
        prompt_tokens: the tokens of all prompts together.
        completion_tokens: those of all choices that were generated, also where only the best are returned.
        engine: the name of the engine that generated them.
    """

    choices: list[Choice]
    prompt_tokens: int
    completion_tokens: int
    engine: str
