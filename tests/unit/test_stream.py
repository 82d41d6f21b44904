"""Pieces of text, as soon as they are certain, over an engine whose every token is known in advance."""

import threading
from collections.abc import Sequence

import pytest

from handler.cancellation import Cancellation
from handler.completion import Choice, Piece, TextRequest
from handler.errors import CancelledRequestError, DeadlineExceededError, EngineError
from handler.inference.protocol import SamplingParams
from tests.fake_engine import FakeEngine
from tests.models import tiny_tokenizer
from tests.services import END_OF_TEXT, VOCABULARY, running_service

GREEDY = SamplingParams(temperature=0)
TOKENIZER = tiny_tokenizer(VOCABULARY)
PROMPT = TOKENIZER.encode("the sea")


def forced(text: str) -> FakeEngine:
    """An engine that writes this text after "the sea"."""
    tokens = TOKENIZER.encode(text)
    return FakeEngine(
        vocabulary_size=VOCABULARY, rule=lambda held, _: tokens[(len(held) - len(PROMPT)) % len(tokens)]
    )  # fmt: skip


def test_every_token_whose_text_is_certain_is_a_piece() -> None:
    tokens = TOKENIZER.encode("said he")
    with running_service(forced("said he")) as service:
        pieces = list(service.stream(TextRequest(["the sea"], max_tokens=len(tokens), sampling=GREEDY)))

    assert pieces == [
        *(Piece(0, TOKENIZER.decode([token]), 1, None, None) for token in tokens),
        Piece(0, "", 0, None, "length"),
    ]


def test_a_piece_holds_whole_characters_and_their_tokens() -> None:
    tokens = TOKENIZER.encode("日本")
    assert len(tokens) > 2
    with running_service(forced("日本")) as service:
        request = TextRequest(["the sea"], max_tokens=len(tokens), sampling=GREEDY, logprobs=0)
        pieces = list(service.stream(request))

    assert [piece.text for piece in pieces] == ["日", "本", ""]
    for piece in pieces:
        assert piece.tokens is not None
        assert len(piece.tokens) == piece.completion_tokens
    assert [token.text for piece in pieces for token in piece.tokens or ()] == list(map(TOKENIZER.token_text, tokens))
    assert [token.offset for piece in pieces for token in piece.tokens or ()] == [0, 0, 1, 1]


def test_what_may_become_a_stop_string_waits() -> None:
    with running_service(forced("abcabd")) as service:
        request = TextRequest(["the sea"], max_tokens=50, sampling=GREEDY, stop=["abd"])
        pieces = list(service.stream(request))

    assert pieces == [Piece(0, "abc", 3, None, None), Piece(0, "", 0, None, "stop")]


def test_what_did_not_become_one_comes_at_the_end() -> None:
    with running_service(forced("xab")) as service:
        pieces = list(service.stream(TextRequest(["the sea"], max_tokens=3, sampling=GREEDY, stop=["abd"])))

    assert pieces == [Piece(0, "x", 1, None, None), Piece(0, "ab", 2, None, "length")]


def test_an_echoed_prompt_leads_the_first_piece_of_each_choice() -> None:
    with running_service(forced("xy")) as service:
        request = TextRequest(["the sea"], n=2, max_tokens=2, sampling=GREEDY, logprobs=0, echo=True)
        pieces = list(service.stream(request))

    for index in (0, 1):
        first, second, last = [piece for piece in pieces if piece.index == index]
        assert (first.text, second.text, last.text) == ("the seax", "y", "")
        assert (first.completion_tokens, second.completion_tokens) == (1, 1)
        tokens = (first.tokens or []) + (second.tokens or [])
        assert [token.text for token in tokens] == [*map(TOKENIZER.token_text, PROMPT), "x", "y"]
        assert [token.offset for token in tokens[-2:]] == [7, 8]
        assert [token.logprob is None for token in tokens] == [True] + [False] * (len(tokens) - 1)


def test_the_pieces_of_all_choices_put_together_are_the_completion() -> None:
    request = TextRequest(
        ["the sea", "said he"], n=2, max_tokens=30, seed=3, logprobs=2, echo=True, stop=["e", "\ufffd"]
    )
    with running_service() as service:
        stream = service.stream(request)
        pieces = list(stream)
        completion = service.complete(request)

    for choice in completion.choices:
        own = [piece for piece in pieces if piece.index == choice.index]
        assert choice == Choice(
            choice.index,
            "".join(piece.text for piece in own),
            own[-1].finish_reason,  # type: ignore[arg-type]
            sum(piece.completion_tokens for piece in own),
            [token for piece in own for token in piece.tokens or ()],
        )
        assert [piece.finish_reason for piece in own[:-1]] == [None] * (len(own) - 1)
    assert stream.prompt_tokens == completion.prompt_tokens
    assert stream.completion_tokens == completion.completion_tokens


def test_choices_advance_side_by_side() -> None:
    with running_service() as service:
        stream = service.stream(TextRequest(["the sea", "said he"], max_tokens=20, seed=3))
        order = [piece.index for piece in stream]

    assert order != sorted(order)


def test_whoever_waits_for_a_token_hears_of_the_cancellation() -> None:
    permits = threading.Semaphore(3)  # the prompt and two tokens more
    engine, cancellation = FakeEngine(vocabulary_size=VOCABULARY, permits=permits), Cancellation()
    with running_service(engine) as service:
        request = TextRequest([[65]], max_tokens=50, sampling=GREEDY, cancellation=cancellation)
        stream, outcome = iter(service.stream(request)), []
        # There are as many steps as permits, so this piece is the last one.
        for _ in range(3):
            next(stream)

        def wait() -> None:
            with pytest.raises(CancelledRequestError):
                next(stream)
            outcome.append("told")

        waiting = threading.Thread(target=wait)
        waiting.start()
        cancellation.request()
        waiting.join()
        assert outcome == ["told"]

        for _ in range(50):
            permits.release()
        assert engine.idle.wait(30)
    assert len(engine.steps) <= 3  # the step that was under way, and none after it


def test_a_request_cancelled_before_it_began_is_never_submitted() -> None:
    engine, cancellation = FakeEngine(vocabulary_size=VOCABULARY), Cancellation()
    cancellation.request()
    with running_service(engine) as service, pytest.raises(CancelledRequestError):
        service.complete(TextRequest(["the sea"], cancellation=cancellation))
    assert engine.chunks == []


def test_who_stops_iterating_stops_the_generation() -> None:
    engine = FakeEngine(vocabulary_size=VOCABULARY)
    with running_service(engine) as service:
        stream = iter(service.stream(TextRequest([[65]], max_tokens=50, sampling=GREEDY)))
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert engine.idle.wait(30)


def test_an_error_of_the_engine_comes_after_what_there_was() -> None:
    permits = threading.Semaphore(2)
    engine = FakeEngine(vocabulary_size=VOCABULARY, permits=permits)
    with running_service(engine) as service:
        stream = iter(service.stream(TextRequest([[65]], max_tokens=50, sampling=GREEDY)))
        next(stream)
        engine.fail_with = EngineError("The logits are not finite.")
        permits.release()
        with pytest.raises(EngineError):
            list(stream)


def test_no_time_at_all_is_an_error_before_any_piece() -> None:
    with running_service() as service, pytest.raises(DeadlineExceededError):
        next(iter(service.stream(TextRequest(["the sea"], n=2, deadline=0.0, echo=True))))


def test_the_end_of_text_is_the_last_of_the_log_probabilities() -> None:
    written = TOKENIZER.encode("xy")

    def rule(held: Sequence[int], _: int) -> int:
        return [*written, END_OF_TEXT][len(held) - len(PROMPT)]

    with running_service(FakeEngine(vocabulary_size=VOCABULARY, rule=rule)) as service:
        request = TextRequest(["the sea"], max_tokens=9, sampling=GREEDY, logprobs=1, echo=True, stop=["yz"])
        choice = service.complete(request).choices[0]

    assert (choice.text, choice.finish_reason, choice.completion_tokens) == ("the seaxy", "stop", len(written))
    assert choice.tokens is not None
    assert [token.part for token in choice.tokens] == ["prompt"] * len(PROMPT) + ["output"] * len(written) + ["end"]
    end = choice.tokens[-1]
    assert (end.text, end.offset, end.top) == ("<|endoftext|>", len("the seaxy"), {"<|endoftext|>": end.logprob})
