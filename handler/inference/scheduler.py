"""One scheduler turns any step engine into a backend: continuous batching over a ragged batch.

One thread owns the engine. Between steps it lets waiting choices join the running batch while the key-value cache has
slots, and drops those that finished, were cancelled or ran out of time. Each step reads up to `PREFILL_TOKENS` of the
prompts that are not read yet, then decodes one token for every choice that is under way.

The samples of one prompt share its prefill: the first reads it, the others start from a copy of its slot.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue

from handler.inference.protocol import (
    ChoiceFinished,
    Event,
    FinishReason,
    FloatArray,
    GenerationRequest,
    PromptScored,
    SamplingParams,
    StepEngine,
    TokenGenerated,
    TokenLogprobs,
)
from handler.inference.sampling import History, choose, logprobs_of

# A long prompt is read in pieces, so that others are not kept waiting between two of their tokens, and so that the
# logits of all its positions (needed to score it) take 256 x 50,257 x 4 bytes = 51 MB rather than four times that.
PREFILL_TOKENS = 256

NO_SLOT = -1


class SchedulerGeneration:
    """A request being worked on, seen from the thread that asked for it."""

    def __init__(self, choices: "list[_Choice]", events: "SimpleQueue[Event | Exception]") -> None:
        self._choices = choices
        self._events = events
        self._open = {choice.index for choice in choices}

    def __iter__(self) -> Iterator[Event]:
        """Yield events as they happen; errors of the engine are raised here."""
        while self._open:
            event = self._events.get()
            if isinstance(event, Exception):
                raise event
            if event.choice not in self._open:
                continue  # it was on its way when the choice was cancelled
            if isinstance(event, ChoiceFinished):
                self._open.discard(event.choice)
            yield event

    def cancel(self, choice: int | None = None) -> None:
        """Give up one choice, or all of them."""
        for one in self._choices if choice is None else [self._choices[choice]]:
            one.cancelled = True
            self._open.discard(one.index)


@dataclass(eq=False)
class _Prompt:
    """What the samples of one prompt share: once its reader has read it, the others need not."""

    tokens: tuple[int, ...]
    reader: "_Choice | None" = None
    scores: list[TokenLogprobs | None] = field(default_factory=list)
    last_logits: FloatArray = field(init=False)  # (V,), there once it is read


@dataclass(eq=False)
class _Choice:
    """One sequence on its way from waiting, through prefill and decode, to finished."""

    index: int
    sample: int
    prompt: _Prompt
    sampling: SamplingParams
    request: GenerationRequest
    events: "SimpleQueue[Event | Exception]"
    slot: int = NO_SLOT
    position: int = 0  # prompt tokens that lie in the slot
    output: list[int] = field(default_factory=list)
    history: History = field(init=False)
    cancelled: bool = False
    finished: bool = False

    def __post_init__(self) -> None:
        self.history = History(self.prompt.tokens)

    @property
    def has_read(self) -> bool:
        """Whether the whole prompt lies in the slot."""
        return self.position == len(self.prompt.tokens)

    def finish(self, reason: FinishReason) -> None:
        """Mark as complete and tell whoever iterates."""
        self.finished = True
        self.events.put(ChoiceFinished(self.index, reason))


class Scheduler:
    """A backend over a step engine; see the module's text."""

    def __init__(self, engine: StepEngine) -> None:
        self._engine = engine
        self._arriving: list[_Choice] = []  # guarded by _wake, like _closed; all else belongs to the thread
        self._closed = False
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._waiting: list[_Choice] = []
        self._running: list[_Choice] = []

    @property
    def name(self) -> str:
        """The engine's name."""
        return self._engine.name

    @property
    def context_length(self) -> int:
        """The most tokens, prompt and output together, that one choice may have."""
        return self._engine.context_length

    @property
    def vocabulary_size(self) -> int:
        """Token ids run from 0 to this number less one."""
        return self._engine.vocabulary_size

    def submit(self, request: GenerationRequest) -> SchedulerGeneration:
        """Queue a request's choices; they join the running batch as soon as the cache has room."""
        events: SimpleQueue[Event | Exception] = SimpleQueue()
        choices = [
            _Choice(p * request.n + sample, sample, prompt, request.sampling[p], request, events)
            for p, prompt in enumerate(_Prompt(tokens) for tokens in request.prompts)
            for sample in range(request.n)
        ]
        with self._wake:
            if self._closed:
                raise RuntimeError("the scheduler is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
                self._thread.start()
            self._arriving.extend(choices)
            self._wake.notify()
        return SchedulerGeneration(choices, events)

    def close(self) -> None:
        """Stop the thread; whatever is under way ends with an error."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        """The thread: step while there is work, sleep while there is none."""
        while True:
            with self._wake:
                while not (self._arriving or self._waiting or self._running or self._closed):
                    self._wake.wait()
                self._waiting += self._arriving
                self._arriving = []
                closed = self._closed
            if closed:
                self._fail(RuntimeError("the scheduler was closed"))
                return
            try:
                self._step()
            except Exception as error:  # noqa: BLE001 - the thread outlives it, and whoever waits hears of it
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        """End everything under way and everything waiting with an error."""
        for choice in self._running + self._waiting:
            choice.events.put(error)
            choice.finished = True
        self._drop_finished()

    def _step(self) -> None:
        """Advance every choice that has a slot by one piece of its prompt or one token."""
        self._end_cancelled_and_late()
        self._admit()
        decoding = [choice for choice in self._running if choice.output]
        self._prefill([choice for choice in self._running if not choice.has_read])
        for choice in self._running:
            if choice.has_read and not choice.output:
                self._begin(choice)
        if decoding:
            logits = self._engine.decode([c.slot for c in decoding], [c.output[-1] for c in decoding])
            for choice, row in zip(decoding, logits, strict=True):
                self._advance(choice, row)
        self._drop_finished()

    def _end_cancelled_and_late(self) -> None:
        now = time.time()
        for choice in self._running + self._waiting:
            deadline = choice.request.deadline
            if choice.cancelled:
                choice.finished = True
            elif deadline is not None and now >= deadline:
                choice.finish("deadline")
        self._drop_finished()

    def _drop_finished(self) -> None:
        for choice in self._running:
            if choice.finished:
                self._engine.release(choice.slot)
        self._running = [choice for choice in self._running if not choice.finished]
        self._waiting = [choice for choice in self._waiting if not choice.finished]

    def _admit(self) -> None:
        """Give slots to waiting choices, first come first served."""
        for choice in self._waiting:
            prompt = choice.prompt
            reader = None if prompt.reader is None or prompt.reader.finished else prompt.reader
            if reader is None:
                slot = self._engine.acquire()
            elif reader.has_read:
                slot = self._engine.fork(reader.slot, len(prompt.tokens))
            else:
                continue  # it will start from a copy of its sibling's slot
            if slot is None:
                break
            if reader is None:
                prompt.reader, prompt.scores = choice, [None]
            else:
                choice.position = len(prompt.tokens)
            choice.slot = slot
            self._running.append(choice)
        self._waiting = [choice for choice in self._waiting if choice.slot == NO_SLOT]

    def _prefill(self, readers: list[_Choice]) -> None:
        """Read the next pieces of the prompts, as many together as the step's budget allows."""
        budget = PREFILL_TOKENS
        pieces: list[tuple[_Choice, tuple[int, ...]]] = []
        for choice in readers:
            piece = choice.prompt.tokens[choice.position : choice.position + budget]
            budget -= len(piece)
            if piece:
                pieces.append((choice, piece))
        for scored in (False, True):
            group = [(choice, piece) for choice, piece in pieces if choice.request.prompt_logprobs is scored]
            if not group:
                continue
            slots, chunks = [choice.slot for choice, _ in group], [piece for _, piece in group]
            for (choice, piece), logits in zip(
                group, self._engine.prefill(slots, chunks, all_logits=scored), strict=True
            ):
                if scored:
                    self._score(choice, logits)
                choice.position += len(piece)
                choice.prompt.last_logits = logits[-1].copy()

    @staticmethod
    def _score(choice: _Choice, logits: FloatArray) -> None:
        """Note how probable each prompt token was after those before it; logits (T, V) follow the piece's tokens."""
        following = choice.prompt.tokens[choice.position + 1 : choice.position + 1 + len(logits)]
        top = choice.request.logprobs or 0
        choice.prompt.scores += [logprobs_of(row, token, top) for row, token in zip(logits, following, strict=False)]

    def _begin(self, choice: _Choice) -> None:
        """Draw the first token, from the logits after the prompt."""
        if choice.request.prompt_logprobs:
            choice.events.put(PromptScored(choice.index, tuple(choice.prompt.scores)))
        if choice.request.max_tokens == 0:
            choice.finish("length")
        else:
            self._advance(choice, choice.prompt.last_logits)

    @staticmethod
    def _advance(choice: _Choice, logits: FloatArray) -> None:
        """Draw the next token from the logits (V,) after the last one."""
        request, step = choice.request, len(choice.output)
        token = choose(logits, choice.sampling, choice.history, sample=choice.sample, step=step)
        if token in request.stop_tokens:
            choice.finish("stop")
            return
        choice.history.add(token)
        choice.output.append(token)
        scores = None if request.logprobs is None else logprobs_of(logits, token, request.logprobs)
        choice.events.put(TokenGenerated(choice.index, token, scores))
        if step + 1 == request.max_tokens:
            choice.finish("length")
