"""Conversations: as OpenAI's clients send them, and as they read the answers."""

import json
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from starlette.testclient import TestClient

from handler.api.chat_schemas import ChatBody
from handler.api.unsupported import UnsupportedChatFields
from tests.exchanges import events_of
from tests.fake_engine import continuation
from tests.models import tiny_tokenizer
from tests.services import VERSION, VOCABULARY, running_app

TOKENIZER = tiny_tokenizer(VOCABULARY)
MESSAGES = [{"role": "user", "content": "sea?"}]
PROMPT = "User: sea?\nAssistant:"
TOKENS = TOKENIZER.encode(PROMPT)


@pytest.fixture
def client() -> Iterator[TestClient]:
    with running_app() as app:
        yield TestClient(app, raise_server_exceptions=False)


def output(count: int) -> str:
    return TOKENIZER.decode(continuation(TOKENS, count, VOCABULARY))


def ask(client: TestClient, **fields: Any) -> Any:
    return client.post("/v1/chat/completions", json={"messages": MESSAGES, "temperature": 0, **fields})


def test_a_conversation_as_a_whole(client: TestClient) -> None:
    answer = ask(client, model="tiny", max_completion_tokens=5, user="ada").json()

    assert answer.pop("id").startswith("chatcmpl-")
    assert answer.pop("created") > 1_700_000_000
    assert answer == {
        "object": "chat.completion",
        "model": "tiny",
        "system_fingerprint": f"{VERSION}-fake",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": output(5)},
                "logprobs": None,
                "finish_reason": "length",
                "cut_by": None,
            }
        ],
        "usage": {"prompt_tokens": len(TOKENS), "completion_tokens": 5, "total_tokens": len(TOKENS) + 5},
    }


def test_messages_may_come_in_parts(client: TestClient) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "se"}, {"type": "text", "text": "a?"}]}]
    whole, in_parts = (ask(client, messages=messages, max_tokens=5).json() for messages in (MESSAGES, parts))
    assert whole["choices"] == in_parts["choices"]


def test_an_answer_is_as_long_as_there_is_room_for(client: TestClient) -> None:
    usage = ask(client).json()["usage"]
    assert usage["total_tokens"] == 64  # the context


def test_logprobs_come_in_the_shape_of_chats(client: TestClient) -> None:
    choice = ask(client, max_tokens=3, logprobs=True, top_logprobs=2).json()["choices"][0]
    expected = continuation(TOKENS, 3, VOCABULARY)
    content = choice["logprobs"]["content"]

    assert [entry["token"] for entry in content] == [TOKENIZER.token_text(token) for token in expected]
    assert [bytes(entry["bytes"]) for entry in content] == [TOKENIZER.token_bytes(token) for token in expected]
    assert all(entry["top_logprobs"][0]["logprob"] == entry["logprob"] for entry in content)  # greedy takes the best
    assert [len(entry["top_logprobs"]) for entry in content] == [2, 2, 2]
    assert ask(client, max_tokens=1, logprobs=True).json()["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


def test_a_stream_begins_with_the_role_and_adds_up_to_the_answer(client: TestClient) -> None:
    body = {"max_tokens": 6, "n": 2, "seed": 1, "temperature": 1}
    whole = ask(client, **body).json()
    response = ask(client, **body, stream=True, stream_options={"include_usage": True})
    *chunks, last, done = events_of(response.text)

    assert done == "[DONE]"
    assert {json.dumps([chunk["id"], chunk["object"]]) for chunk in [*chunks, last]} == {
        json.dumps([last["id"], "chat.completion.chunk"])
    }
    assert (last["choices"], last["usage"]) == ([], whole["usage"])
    for choice in whole["choices"]:
        own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == choice["index"]]
        assert "".join(piece["delta"]["content"] for piece in own) == choice["message"]["content"]
        assert [piece["delta"]["role"] for piece in own] == ["assistant"] + [None] * (len(own) - 1)
        assert [piece["finish_reason"] for piece in own] == [None] * (len(own) - 1) + [choice["finish_reason"]]


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"messages": []}, "messages", "`messages`: list should have at least 1 item"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages", "`messages[0][role]`"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages", "parts of type `text`"),
        ({"colour": 1}, "colour", "Unknown field: `colour`."),
        ({"suffix": "a"}, "suffix", "Unknown field: `suffix`."),
        ({"metadata": {"a": 1}}, "metadata", "`metadata[a]`: input should be a valid string; given: 1."),
        ({"top_logprobs": 2}, "top_logprobs", "`top_logprobs` needs `logprobs` to be true."),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", "only one may be given"),
        (
            {"messages": [{"role": "user", "content": "sea " * 64}]},
            "messages",
            "must fit 64 tokens, this model's context",
        ),
        (
            {"messages": [{"role": "user", "content": "sea " * 64}], "max_tokens": 1},
            "max_tokens",
            "`messages` and `max_tokens` together may have at most 64 tokens",
        ),
        (
            {"max_completion_tokens": 51},
            "max_completion_tokens",
            "`max_completion_tokens` may be at most 50; given: 51.",
        ),
        ({"stream_options": {}}, "stream_options", "needs `stream`"),
    ],
)
def test_what_cannot_be_answered_is_told(client: TestClient, fields: dict[str, Any], param: str, message: str) -> None:
    response = ask(client, **fields)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert message in response.json()["error"]["message"]


NOTHING_ASKED_FOR = {
    "tools": [],
    "tool_choice": "none",
    "parallel_tool_calls": True,
    "functions": [],
    "function_call": "auto",
    "response_format": {"type": "text"},
    "modalities": ["text"],
    "reasoning_effort": "none",
    "verbosity": "medium",
    "store": False,
    "prompt_cache_retention": "in_memory",
    "service_tier": "auto",
    "metadata": {"who": "ada"},
    "prompt_cache_key": "a",
    "safety_identifier": "b",
}


def test_what_asks_for_nothing_is_let_through(client: TestClient) -> None:
    sent_back: dict[str, Any] = {
        "role": "assistant",
        "content": "No.",
        "refusal": None,
        "annotations": [],
        "audio": None,
    }
    messages = [{**sent_back, "tool_calls": None, "function_call": None}, *MESSAGES]
    plain, more = (ask(client, messages=messages, max_tokens=3, **fields) for fields in ({}, NOTHING_ASKED_FOR))
    assert plain.json()["choices"] == more.json()["choices"]
    assert ask(client, **dict.fromkeys(UnsupportedChatFields.model_fields)).status_code == 200


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}], "the model calls no tools"),
        ("tool_choice", "required", "the model calls no tools"),
        ("functions", [{"name": "f"}], "the model calls no tools"),
        ("function_call", {"name": "f"}, "the model calls no tools"),
        ("response_format", {"type": "json_object"}, "the text has the form the model gives it"),
        ("modalities", ["text", "audio"], "the model reads and writes text alone"),
        ("audio", {"voice": "ada", "format": "mp3"}, "the model reads and writes text alone"),
        ("prediction", {"type": "content", "content": "a"}, "drafts are made here, from the text itself"),
        ("reasoning_effort", "high", "the model does not reason first"),
        ("verbosity", "low", "the model does not know it"),
        ("web_search_options", {}, "the model searches nothing"),
        ("moderation", {"model": "m"}, "nothing is moderated here"),
        ("store", True, "conversations are not kept"),
        ("prompt_cache_options", {"mode": "implicit"}, "conversations are not kept"),
        ("prompt_cache_retention", "24h", "conversations are not kept"),
        ("service_tier", "priority", "there is one tier"),
    ],
)
def test_what_openai_has_and_this_model_has_not_is_refused_by_name(
    client: TestClient, field: str, value: Any, why: str
) -> None:
    response = ask(client, **{field: value})
    message = f"`{field}` is not supported: {why}."
    error = {"message": message, "type": "invalid_request_error", "param": field, "code": "unsupported_parameter"}
    assert (response.status_code, response.json()) == (400, {"error": error})


def test_every_field_of_the_official_client_is_known() -> None:
    parameters = set(get_type_hints(CompletionCreateParamsBase)) | {"stream"}
    assert parameters - set(ChatBody.model_fields) == set()


def test_log_probabilities_come_with_the_text_they_belong_to(client: TestClient) -> None:
    fields = {"max_tokens": 12, "logprobs": True, "top_logprobs": 3, "stop": ["e"], "seed": 3, "temperature": 1, "n": 2}
    whole = ask(client, **fields).json()["choices"]
    *chunks, done = events_of(ask(client, **fields, stream=True).text)

    assert done == "[DONE]"
    for choice in whole:
        parts = [part for chunk in chunks for part in chunk["choices"] if part["index"] == choice["index"]]
        entries = [entry for part in parts for entry in part["logprobs"]["content"]]
        assert entries == choice["logprobs"]["content"]
        data = b"".join(bytes(entry["bytes"]) for entry in entries)
        assert data.decode(errors="replace").startswith(choice["message"]["content"])
        for part in parts[:-1]:  # each piece has the tokens that begin in it
            assert part["delta"]["content"]
            assert part["logprobs"]["content"]
