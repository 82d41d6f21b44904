"""A request while its tokens come in: each choice's text is given out as soon as it is certain."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

from handler.completion import Choice, Completion, Part, Piece, ScoredToken, TextRequest
from handler.errors import DeadlineExceededError
from handler.inference.protocol import (
    ChoiceFinished,
    FinishReason,
    Generation,
    PromptScored,
    TokenGenerated,
    TokenLogprobs,
)
from handler.inference.text import TextAssembler
from handler.inference.tokenizer import Tokenizer
from handler.measures import Completed, CompletionMeasures
from handler.registry.manifest import Manifest
from handler.stages import ColdStart
from handler.telemetry import log_cold_start
from handler.timing import current_timing


class Draft:
    """A choice while its tokens come in: assembles its text, and ends it at a stop string.

    Attributes:
        prompt_logprobs: how probable each prompt token was, once the backend has said so.
        reason: why the choice is finished; None before it is.
    """

    def __init__(
        self, index: int, tokenizer: Tokenizer, request: TextRequest, prompt: Sequence[int], added: int = 0
    ) -> None:
        """Begin with no token.

        Args:
            index: which choice.
            tokenizer: the model's.
            request: what is asked for.
            prompt: the tokens that the model reads.
            added: how many of them, at the front, are none of what was given, and have no text.
        """
        self._index = index
        self._tokenizer = tokenizer
        self._request = request
        self._prompt = prompt
        self._added = added
        self._output = TextAssembler(tokenizer, request.stop, begins=tuple(prompt) == (tokenizer.begin_of_text,))
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprobs | None] = []
        self._given = 0  # tokens that were given out
        self._shift = 0  # characters that were echoed
        self._echo = request.echo  # still to come
        self.prompt_logprobs: Sequence[TokenLogprobs | None] = ()
        self.reason: FinishReason | None = None

    @property
    def length(self) -> int:
        """The tokens so far."""
        return len(self._tokens)

    def add(self, token: int, logprobs: TokenLogprobs | None) -> Piece:
        """Append a token and return what it made certain, perhaps nothing; a stop string finishes the choice."""
        self._tokens.append(token)
        self._logprobs.append(logprobs)
        text = self._output.push(token)
        if self._output.stopped:
            self.reason = "stop"
        return self._piece(text)

    def finish(self, reason: FinishReason, end: TokenLogprobs | None = None) -> Piece:
        """Return the rest: there are no more tokens; `end` is the one that said so, if any."""
        self.reason = reason
        text = self._output.finish()
        if self._output.stopped:  # by a character that the end completed
            self.reason = "stop"
        piece = self._piece(text)
        if end is None or piece.tokens is None or self._output.stopped:
            return piece
        last = self._scored([end.token], [end], [self._shift + self._output.characters], "end")
        return replace(piece, tokens=piece.tokens + last)

    def _piece(self, text: str) -> Piece:
        new = slice(self._given, self._output.kept_tokens)
        self._given = self._output.kept_tokens
        tokens = None
        if self._request.logprobs is not None:
            offsets = [offset + self._shift for offset in self._output.offsets[new]]
            tokens = self._scored(self._tokens[new], self._logprobs[new], offsets, "output")
        piece = Piece(self._index, text, new.stop - new.start, tokens, self.reason)
        return self._with_prompt(piece) if self._echo else piece

    def _with_prompt(self, piece: Piece) -> Piece:
        """The first piece of a choice that begins with its prompt."""
        self._echo = False
        prompt = TextAssembler(self._tokenizer, begins=True)
        text = "".join(prompt.push(token) for token in self._prompt[self._added :]) + prompt.finish()
        self._shift = len(text)
        tokens = piece.tokens
        if tokens is not None:
            shifted = [replace(token, offset=token.offset + len(text)) for token in tokens]
            offsets = [0] * self._added + prompt.offsets
            tokens = self._scored(self._prompt, self.prompt_logprobs, offsets, "prompt") + shifted
        return replace(piece, text=text + piece.text, tokens=tokens)

    def _scored(
        self,
        tokens: Sequence[int],
        logprobs: Sequence[TokenLogprobs | None],
        offsets: Sequence[int],
        part: Part,
    ) -> list[ScoredToken]:
        """Tokens with their texts."""
        name = self._tokenizer.token_text
        return [
            ScoredToken(
                text=name(token),
                offset=offset,
                logprob=None if score is None else score.logprob,
                # The token itself is always listed, also where it is not among the best.
                top=None if score is None else {name(id_): p for id_, p in (*score.top, (token, score.logprob))},
                part=part,
            )
            for token, score, offset in zip(tokens, logprobs, offsets, strict=True)
        ]


class TextStream:
    """The pieces of a request's choices, as they become certain; iterate once.

    Attributes:
        engine: the name of the engine that makes them.
        prompt_tokens: the tokens of all prompts together.
        completion_tokens: the tokens given out so far.
    """

    def __init__(
        self,
        model: Manifest,
        request: TextRequest,
        drafts: Sequence[Draft],
        generation: Generation,
        *,
        prompt_tokens: int,
        reserved: int,
        batch_size: int,
        cold_start: ColdStart,
        completed: Completed,
    ) -> None:
        self._model = model
        self._request = request
        self._drafts = drafts
        self._generation = generation
        self._batch_size = batch_size
        self._cold_start = cold_start
        self._completed = completed
        self._timing = current_timing()
        self._reserved = reserved
        self._started = generation.submitted  # which the first token may overtake on the way here
        self._first_token_at: float | None = None
        self.engine = generation.engine
        self._last_token_at = 0.0
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = 0

    def __iter__(self) -> Iterator[Piece]:
        """Yield each piece that has text, and the last one of each choice.

        Raises:
            DeadlineExceededError: time was up before there was a single token.
            CancelledRequestError: the request was cancelled.
            EngineError: the engine failed.
        """
        try:
            with self._request.cancellation.stopping_by(self._generation.cancel):
                for piece in self._pieces():
                    self.completion_tokens += piece.completion_tokens
                    yield piece
            self._request.cancellation.check()
        finally:
            self._generation.cancel()
            if self._first_token_at is not None:
                self._timing.spent("decode", time.monotonic() - self._first_token_at)
            self._request.allowance.give_back(self._reserved - self.prompt_tokens - self.completion_tokens)
            self._completed(self._measures())

    def _pieces(self) -> Iterator[Piece]:
        for event in self._generation:
            draft = self._drafts[event.choice]
            match event:
                case PromptScored():
                    draft.prompt_logprobs = event.logprobs
                    continue
                case TokenGenerated():
                    self._last_token_at = time.monotonic()
                    if self._first_token_at is None:
                        self._note_first_token()
                    piece = draft.add(event.token, event.logprobs)
                    if piece.finish_reason:
                        self._generation.cancel(event.choice)
                case ChoiceFinished():
                    if event.reason == "deadline" and all(
                        not draft.length and not draft.reason for draft in self._drafts
                    ):
                        raise DeadlineExceededError(
                            "Time was up before the first token; nothing was generated.", retry_after=1
                        )
                    piece = draft.finish(event.reason, event.end)
            if piece.text or piece.tokens or piece.finish_reason:
                yield piece

    def _note_first_token(self) -> None:
        self._first_token_at = self._last_token_at
        self._timing.has_read(self._generation.submitted, self._generation.admitted)
        if self._cold_start.reached("first_token"):
            log_cold_start(self._cold_start.stages, self._model.name, self._model.version)
            self._timing.was_cold(self._cold_start.stages)

    def _measures(self) -> CompletionMeasures:
        generation, first = self._generation, self._first_token_at
        longest = max(draft.length for draft in self._drafts)
        return CompletionMeasures(
            model=self._model.name,
            version=self._model.version,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            choices=len(self._drafts),
            finish_reasons=sorted({draft.reason or "none" for draft in self._drafts}),
            batch_size=self._batch_size,
            seconds=time.monotonic() - self._started,
            queue_seconds=None if generation.admitted is None else generation.admitted - generation.submitted,
            time_to_first_token=None if first is None else first - self._started,
            time_between_tokens=None if first is None or longest < 2 else (self._last_token_at - first) / (longest - 1),
        )


def collect(stream: TextStream) -> Completion:
    """All pieces of a stream, put together."""
    pieces: defaultdict[int, list[Piece]] = defaultdict(list)
    for piece in stream:
        pieces[piece.index].append(piece)
    choices = [_choice(pieces[index]) for index in sorted(pieces)]
    return Completion(choices, stream.prompt_tokens, stream.completion_tokens, stream.engine)


def _choice(pieces: Sequence[Piece]) -> Choice:
    first, last = pieces[0], pieces[-1]
    return Choice(
        index=last.index,
        text="".join(piece.text for piece in pieces),
        finish_reason=cast("FinishReason", last.finish_reason),  # a stream ends when every choice has one
        completion_tokens=sum(piece.completion_tokens for piece in pieces),
        tokens=None if first.tokens is None else [token for piece in pieces for token in piece.tokens or ()],
    )
