"""The one door to text, over an engine whose every token is known in advance."""

import io
import re
import time
from collections.abc import Iterator

import pytest

from handler.completion import Choice, Completion, ScoredToken, TextRequest
from handler.errors import (
    ContextLengthExceededError,
    DeadlineExceededError,
    InvalidRequestError,
    ServiceError,
)
from handler.inference.protocol import SamplingParams
from handler.service import TextService
from tests.fake_engine import CONTEXT, FakeEngine, continuation
from tests.models import tiny_tokenizer
from tests.services import END_OF_TEXT, VERSION, VOCABULARY, running_service

GREEDY = SamplingParams(temperature=0)
TOKENIZER = tiny_tokenizer(VOCABULARY)


@pytest.fixture
def service() -> Iterator[TextService]:
    with running_service() as service:
        yield service


def output(prompt: list[int], count: int) -> list[int]:
    return continuation(prompt, count, VOCABULARY)


def test_a_prompt_is_continued(service: TextService) -> None:
    prompt = TOKENIZER.encode("the sea")
    completion = service.complete(TextRequest(["the sea"], max_tokens=5, sampling=GREEDY))

    text = TOKENIZER.decode(output(prompt, 5))
    assert completion == Completion(
        [Choice(0, text, "length", 5, None)], prompt_tokens=len(prompt), completion_tokens=5, engine="fake"
    )


def test_the_fingerprint_names_version_and_engine(service: TextService) -> None:
    assert service.fingerprint(service.insight.engine) == f"{VERSION}-fake"


def test_text_and_its_ids_are_the_same_prompt(service: TextService) -> None:
    ids = TOKENIZER.encode("said he")
    by_text, by_ids = service.complete(TextRequest(["said he", ids], max_tokens=4, sampling=GREEDY)).choices

    assert by_text.text == by_ids.text


@pytest.mark.parametrize("empty", ["", []])
def test_an_empty_prompt_is_the_end_of_text_token(service: TextService, empty: str | list[int]) -> None:
    completion = service.complete(TextRequest([empty], max_tokens=3, sampling=GREEDY))

    assert completion.prompt_tokens == 1
    assert completion.choices[0].text == TOKENIZER.decode(output([END_OF_TEXT], 3))


def test_the_end_of_text_token_can_be_written_out(service: TextService) -> None:
    assert service.encode("<|endoftext|>") == (END_OF_TEXT,)


def test_a_stop_string_ends_the_text_wherever_token_borders_lie(service: TextService) -> None:
    tokens = output(TOKENIZER.encode("the sea"), 12)
    whole = TOKENIZER.decode(tokens)
    stop = whole[3:5]
    (choice,) = service.complete(TextRequest(["the sea"], max_tokens=12, sampling=GREEDY, stop=[stop])).choices

    assert choice.text == whole[: whole.index(stop)]
    assert choice.finish_reason == "stop"
    assert TOKENIZER.decode(tokens[: choice.completion_tokens]).startswith(choice.text)


def test_logprobs_describe_exactly_the_text(service: TextService) -> None:
    request = TextRequest(["the sea"], max_tokens=6, sampling=GREEDY, logprobs=1)
    (choice,) = service.complete(request).choices

    assert choice.tokens is not None
    expected = output(TOKENIZER.encode("the sea"), 6)
    assert [token.text for token in choice.tokens] == [TOKENIZER.token_text(token) for token in expected]
    for token in choice.tokens:
        assert token.top == {token.text: token.logprob}


def test_echo_puts_the_prompt_before_text_and_logprobs(service: TextService) -> None:
    prompt = TOKENIZER.encode("said he")
    request = TextRequest(["said he"], max_tokens=2, sampling=GREEDY, logprobs=0, echo=True)
    (choice,) = service.complete(request).choices

    assert choice.text.startswith("said he")
    assert choice.completion_tokens == 2
    assert choice.tokens is not None
    assert len(choice.tokens) == len(prompt) + 2
    assert choice.tokens[0] == ScoredToken(TOKENIZER.token_text(prompt[0]), 0, None, None, "prompt")
    for token in choice.tokens[1:]:
        assert token.logprob is not None
        assert choice.text[token.offset :].startswith(token.text) or token.text.startswith("bytes:")


def test_a_prompt_can_be_scored_without_generating(service: TextService) -> None:
    request = TextRequest(["said he"], max_tokens=0, logprobs=0, echo=True)
    completion = service.complete(request)

    assert completion.choices[0].text == "said he"
    assert completion.completion_tokens == 0


def test_the_same_seed_gives_the_same_text_and_none_gives_another(service: TextService) -> None:
    def texts(seed: int | None) -> list[str]:
        request = TextRequest(["the sea", "the sea"], n=2, max_tokens=20, seed=seed)
        return [choice.text for choice in service.complete(request).choices]

    assert texts(7) == texts(7)
    assert texts(7)[:2] == texts(7)[2:]  # a prompt's samples do not depend on the prompts beside it
    assert len(set(texts(None))) == 4


def test_the_deadline_cuts_a_text_short() -> None:
    engine = FakeEngine(seconds_per_step=0.02, vocabulary_size=VOCABULARY)
    with running_service(engine) as service:
        request = TextRequest(["the sea"], max_tokens=50, sampling=GREEDY, deadline=time.time() + 0.15)
        (choice,) = service.complete(request).choices

    tokens = output(TOKENIZER.encode("the sea"), choice.completion_tokens)
    assert (choice.finish_reason, choice.text) == ("deadline", TOKENIZER.decode(tokens))
    assert 1 <= choice.completion_tokens < 15


def test_a_deadline_that_has_passed_is_an_error(service: TextService) -> None:
    with pytest.raises(DeadlineExceededError, match="nothing was generated"):
        service.complete(TextRequest(["the sea"], deadline=time.time()))


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (TextRequest(["a"], n=5), InvalidRequestError, "number of prompts may be at most 4; given: 5 times 1."),
        (TextRequest(["a"] * 3, n=2), InvalidRequestError, "at most 4; given: 2 times 3."),
        (TextRequest(["a"], max_tokens=51), InvalidRequestError, "`max_tokens` may be at most 50; given: 51."),
        (TextRequest([[1, 300]]), InvalidRequestError, "`prompt` may hold token ids from 0 to 299; given: 300."),
        (
            TextRequest(["a"], sampling=SamplingParams(logit_bias={300: 1.0})),
            InvalidRequestError,
            "`logit_bias` may hold token ids from 0 to 299; given: 300.",
        ),
        (TextRequest(["\ud800"]), InvalidRequestError, "`prompt` must be valid Unicode; given: the lone surrogate"),
        (
            TextRequest([[1] * 30], max_tokens=40),
            ContextLengthExceededError,
            f"together may have at most {CONTEXT} tokens, this model's context; given: 30 and 40.",
        ),
        (
            TextRequest([[1] * 1025]),
            ContextLengthExceededError,
            "`prompt` may have at most 1024 tokens; given: 1025.",
        ),
    ],
)  # fmt: skip
def test_what_is_out_of_bounds_is_refused_with_the_bound(
    service: TextService, request_: TextRequest, error: type[ServiceError], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        service.complete(request_)


def test_prompts_and_texts_are_not_logged(service: TextService, log: io.StringIO) -> None:
    service.complete(TextRequest(["the sea"], max_tokens=5, seed=1))

    assert '"message":"completion"' in log.getvalue()
    assert "the sea" not in log.getvalue()
