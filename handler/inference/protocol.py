"""The two protocols of inference: what the service asks of a backend, and what a scheduler asks of a step engine.

A *backend* takes a request (token ids in) and hands out an event per token (token ids out). A *step engine* runs the
model: prefill and decode over a ragged batch, with a key-value cache it owns. One scheduler turns any step engine
into a backend. Nothing here knows text, HTTP or AWS, and nothing here imports torch: logits cross as numpy arrays.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]
FinishReason: TypeAlias = Literal["stop", "length", "deadline"]


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen from the logits; the defaults change nothing.

    Attributes:
        temperature: divides the logits; 0 chooses the best token (greedy).
        top_k: only the k best tokens may be chosen; 0 means all.
        top_p: only the smallest set of best tokens whose probabilities reach top_p; 1 means all.
        min_p: only tokens at least min_p times as probable as the best one; 0 means all.
        repetition_penalty: divides positive and multiplies negative logits of every token already in prompt or
            output (Keskar et al. 2019, CTRL); 1 means none.
        presence_penalty: subtracted once from the logit of every token already in the output (OpenAI's definition).
        frequency_penalty: subtracted once for each time a token is already in the output (likewise).
        logit_bias: added to the logits of these token ids before anything else.
        seed: together with the sample's index and the step it determines every random number.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """The log-probability of a token under the model itself, before temperature, filters and penalties.

    Attributes:
        token: the token that stands there.
        logprob: its log-probability (natural logarithm).
        top: the most probable tokens at that position, best first, each with its log-probability.
        entropy: of the whole distribution at that position, in nats: 0 where one token is certain.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    entropy: float


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What a backend is asked for: `n` samples for each prompt.

    Attributes:
        prompts: token ids of each prompt, none of them empty.
        sampling: how tokens are chosen, for each prompt.
        n: samples per prompt; sample `s` of prompt `p` is choice `p * n + s`.
        max_tokens: tokens to generate per choice; 0 only scores the prompt.
        stop_tokens: a choice finishes with "stop" when it draws one of these (which is not part of its output).
        logprobs: how many alternatives to report beside each generated token, or None for no log-probabilities.
        prompt_logprobs: whether to report the same for the prompt's tokens.
        deadline: when to finish with what there is, on the clock of `time.time()`, or None.
        piecewise: whether somebody looks at each token as it comes. If not, the tokens of a choice behind its first may
            be handed out together when it is finished, so that nobody is woken for nothing.
        reproducible: whether the seeds were asked for, so that the same request is to give the same answer; otherwise a
            backend may draw from random numbers of its own.
    """

    prompts: tuple[tuple[int, ...], ...]
    sampling: tuple[SamplingParams, ...]
    n: int = 1
    max_tokens: int = 16
    stop_tokens: frozenset[int] = frozenset()
    logprobs: int | None = None
    prompt_logprobs: bool = False
    deadline: float | None = None
    piecewise: bool = True
    reproducible: bool = True


@dataclass(frozen=True, slots=True)
class PromptScored:
    """A choice's prompt has been read; entry i belongs to prompt token i, and the first has nothing before it."""

    choice: int
    logprobs: tuple[TokenLogprobs | None, ...]


@dataclass(frozen=True, slots=True)
class TokenGenerated:
    """A choice has one token more."""

    choice: int
    token: int
    logprobs: TokenLogprobs | None


@dataclass(frozen=True, slots=True)
class ChoiceFinished:
    """A choice is complete: "stop" at a stop token, "length" at max_tokens, "deadline" when time was up.

    `end` is the stop token, where log-probabilities are reported.
    """

    choice: int
    reason: FinishReason
    end: TokenLogprobs | None = None


Event: TypeAlias = PromptScored | TokenGenerated | ChoiceFinished


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a backend is, to within a step.

    Attributes:
        running: choices that have their place in the batch.
        waiting: choices that wait for one.
        places: how many choices may run at once.
        cache_use: the share of the key-value cache that is taken, 0 to 1.
        reserved: how many of the places that are free are for some requests only.
    """

    running: int
    waiting: int
    places: int
    cache_use: float
    reserved: int = 0


class Generation(Protocol):
    """A request being worked on: iterate over its events until every choice has finished or been cancelled."""

    @property
    def engine(self) -> str:
        """The name of the engine that works on it."""

    @property
    def submitted(self) -> float:
        """When it was asked for, on the clock of `time.monotonic()`."""

    @property
    def admitted(self) -> float | None:
        """When the first of its choices was given its place, on the same clock; None before that."""

    def __iter__(self) -> Iterator[Event]:
        """Yield events as they happen; errors of the engine are raised here."""

    def cancel(self, choice: int | None = None) -> None:
        """Give up one choice, or all of them: within one step its place is free and it yields no more events.

        It may be called from any thread, and wakes one that waits for an event.
        """


class Backend(Protocol):
    """Token ids in, token ids out, for as many requests at once as it has room for."""

    @property
    def name(self) -> str:
        """The engine's name, as the logs give it; where there are several, that of the one that is there for speed."""

    @property
    def scorer(self) -> str:
        """The name of the engine that scores prompts."""

    @property
    def context_length(self) -> int:
        """The most tokens, prompt and output together, that one choice may have."""

    @property
    def vocabulary_size(self) -> int:
        """Token ids run from 0 to this number less one."""

    def submit(self, request: GenerationRequest) -> Generation:
        """Start working on a request and return at once."""

    def check(self) -> None:
        """See whether the next request can be expected to be answered.

        Raises:
            EngineUnavailableError: it cannot, and waiting will not help.
        """

    def load(self) -> Load:
        """How busy it is now; from any thread, and so cheap that every request may ask."""

    def rest(self) -> None:
        """Finish what is under way and hold no thread until the next request."""

    def retire(self) -> None:
        """Finish what is under way, and from now on hold no thread while there is nothing to do."""

    def close(self) -> None:
        """Stop working; whatever is under way ends with an error."""


class StepEngine(Protocol):
    """Runs the model one step at a time over a ragged batch.

    A *slot* is room in the key-value cache for one sequence up to the context length. `prefill` and `decode` append
    to the slots they are given; position and length of each sequence are the engine's to remember. `prefill` appends to
    what a slot holds already, so that it reads a prompt in pieces and checks drafts, which `truncate` takes back where
    they were wrong. An engine is used by one thread at a time.
    """

    @property
    def name(self) -> str:
        """The engine's name."""

    @property
    def batch_invariant(self) -> bool:
        """Whether a sequence's logits are the same bits whatever its company and however its tokens are cut.

        Only then can a draft of several tokens be checked in one step without changing the text.
        """

    @property
    def context_length(self) -> int:
        """The most tokens one slot holds."""

    @property
    def vocabulary_size(self) -> int:
        """The number of logits per position (V)."""

    @property
    def slot_count(self) -> int:
        """How many slots there are, free or taken."""

    def acquire(self) -> int | None:
        """Take a free, empty slot, or None if the key-value cache is fully used."""

    def fork(self, slot: int, length: int) -> int | None:
        """Take a free slot that starts as a copy of another slot's first `length` tokens, or None."""

    def truncate(self, slot: int, length: int) -> None:
        """Keep a slot's first `length` tokens and forget those behind."""

    def release(self, slot: int) -> None:
        """Give a slot back."""

    def prefill(
        self, slots: Sequence[int], chunks: Sequence[Sequence[int]], *, all_logits: bool = False
    ) -> list[FloatArray]:
        """Append a chunk of at least one token to each slot.

        Returns:
            For each slot the logits after its last token, (1, V), or with `all_logits` after every token of the
            chunk, (T, V). Valid until the next call.
        """

    def decode(self, slots: Sequence[int], tokens: Sequence[int]) -> FloatArray:
        """Append one token to each slot and return the logits after it, (B, V), valid until the next call."""
