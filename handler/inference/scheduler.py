"""One scheduler turns any step engine into a backend: continuous batching over a ragged batch.

One thread owns the engine. Between steps it lets waiting choices join the running batch while the key-value cache has
slots, and drops those that finished, were cancelled or ran out of time. Each step reads up to `PREFILL_TOKENS` of the
prompts that are not read yet, then decodes one token for every choice that is under way.

The samples of one prompt share its prefill: the first reads it, the others start from a copy of its slot.

While few choices are under way, a decode step also reads drafts of what may come next (see drafting.py), and a choice
advances by as many tokens as its draft was right, and one more. The text is what it would be without: each token is
drawn from the logits after the tokens really before it, with the random number of its own step.
"""

import time

from handler.inference.choices import NO_SLOT, Choice, Prompt
from handler.inference.generation import EventQueue, QueuedGeneration
from handler.inference.own_thread import OwnThread
from handler.inference.protocol import FloatArray, GenerationRequest, Load, PromptScored, StepEngine
from handler.inference.sampling import logprobs_of

# A long prompt is read in pieces, so that others are not kept waiting between two of their tokens, and so that the
# logits of all its positions (needed to score it) take 256 x 50,257 x 4 bytes = 51 MB rather than four times that.
PREFILL_TOKENS = 256

# Drafts fill up a decode step to so many tokens in all. A step's time is that of reading the weights, which is the same
# for one token and for a few; beyond these, arithmetic takes the time, and drafts that fail would slow the others down.
STEP_TOKENS = 8


class Scheduler(OwnThread):
    """A backend over a step engine; see the module's text."""

    def __init__(self, engine: StepEngine, *, drafting: bool = True) -> None:
        """Start with nothing to do.

        Args:
            engine: what runs the model; the scheduler's thread alone may use it from now on.
            drafting: whether to draft where the engine is batch-invariant. Elsewhere drafts could change the text.
        """
        super().__init__()
        self._engine = engine
        self._drafting = drafting and engine.batch_invariant
        self._arriving: list[Choice] = []  # guarded by _wake; the lists below are the thread's
        self._waiting: list[Choice] = []
        self._running: list[Choice] = []

    @property
    def name(self) -> str:
        """The engine's name."""
        return self._engine.name

    @property
    def scorer(self) -> str:
        """The same engine's: there is no other."""
        return self._engine.name

    @property
    def context_length(self) -> int:
        """The most tokens, prompt and output together, that one choice may have."""
        return self._engine.context_length

    @property
    def vocabulary_size(self) -> int:
        """Token ids run from 0 to this number less one."""
        return self._engine.vocabulary_size

    def submit(self, request: GenerationRequest) -> QueuedGeneration:
        """Queue a request's choices; they join the running batch as soon as the cache has room."""
        events = EventQueue()
        choices = [
            Choice(p * request.n + sample, sample, prompt, request.sampling[p], request, events)
            for p, prompt in enumerate(Prompt(tokens) for tokens in request.prompts)
            for sample in range(request.n)
        ]
        generation = QueuedGeneration(choices, events, self.name)  # before its choices can be given a place
        with self._wake:
            self._refuse_if_closed()
            self._awake(self._run, "scheduler")
            self._arriving.extend(choices)
        return generation

    def load(self) -> Load:
        """How busy it is now. A slot holds a whole context, so the cache is taken slot by slot."""
        with self._wake:
            running, waiting = len(self._running), len(self._waiting) + len(self._arriving)
        places = self._engine.slot_count
        return Load(running, waiting, places, cache_use=running / places)

    def _run(self) -> None:
        """The thread: step while there is work, sleep while there is none."""
        while True:
            with self._wake:
                while not (self._arriving or self._waiting or self._running):
                    if self._may_end():
                        self._ended()
                        return
                    self._wake.wait()
                self._waiting += self._arriving
                self._arriving = []
                closed = self._closed
            if closed:
                self._fail(RuntimeError("the backend was closed"))
                continue
            try:
                self._step()
            except Exception as error:  # noqa: BLE001 - the thread outlives it, and whoever waits hears of it
                self._failures += 1
                self._fail(error)
            else:
                self._failures = 0

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
            self._decode(decoding)
        self._drop_finished()

    def _decode(self, choices: list[Choice]) -> None:
        """Advance each choice by a token, and by more where a draft turns out right."""
        drafts = self._drafts(choices)
        slots = [choice.slot for choice in choices]
        if not any(drafts):
            logits = self._engine.decode(slots, [choice.output[-1] for choice in choices])
            for choice, row in zip(choices, logits, strict=True):
                choice.advance(row)
            return
        chunks = [[choice.output[-1], *draft] for choice, draft in zip(choices, drafts, strict=True)]
        checked = self._engine.prefill(slots, chunks, all_logits=True)
        for choice, draft, rows in zip(choices, drafts, checked, strict=True):
            choice.check(draft, rows)
            # The last token of the output is read by the next step; what else lies in the slot is a wrong draft.
            if draft and not choice.finished:
                self._engine.truncate(choice.slot, choice.length - 1)

    def _drafts(self, choices: list[Choice]) -> list[list[int]]:
        """A draft for each choice, perhaps empty, the step's room shared out evenly."""
        room = STEP_TOKENS - len(choices) if self._drafting else 0
        drafts = []
        for i, choice in enumerate(choices):
            share = -(-room // (len(choices) - i)) if room > 0 else 0
            draft = choice.draft(min(share, self._engine.context_length - choice.length))
            room -= len(draft)
            drafts.append(draft)
        return drafts

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
            choice.slot, choice.admitted = slot, time.monotonic()
            self._running.append(choice)
        self._waiting = [choice for choice in self._waiting if choice.slot == NO_SLOT]

    def _prefill(self, readers: list[Choice]) -> None:
        """Read the next pieces of the prompts, as many together as the step's budget allows."""
        budget = PREFILL_TOKENS
        pieces: list[tuple[Choice, tuple[int, ...]]] = []
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
    def _score(choice: Choice, logits: FloatArray) -> None:
        """Note how probable each prompt token was after those before it; logits (T, V) follow the piece's tokens."""
        following = choice.prompt.tokens[choice.position + 1 : choice.position + 1 + len(logits)]
        top = choice.request.logprobs or 0
        choice.prompt.scores += [logprobs_of(row, token, top) for row, token in zip(logits, following, strict=False)]

    def _begin(self, choice: Choice) -> None:
        """Draw the first token, from the logits after the prompt."""
        if choice.request.prompt_logprobs:
            choice.tell(PromptScored(choice.index, tuple(choice.prompt.scores)))
        if choice.request.max_tokens == 0:
            choice.finish("length")
        else:
            choice.advance(choice.prompt.last_logits)
