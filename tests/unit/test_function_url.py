"""The front that plays a function URL: what it makes of requests and answers, and of a function that fails."""

import asyncio
from typing import Any

import httpx
from mangum.types import ASGI, Receive, Scope, Send

from handler.runtime.api import RuntimeApi
from lifecycle.local.function_url import FunctionUrl
from lifecycle.local.runtime_api import LocalRuntimeApi
from tests.runtimes import running


def ask(application: ASGI, method: str, path: str, **more: Any) -> httpx.Response:
    """One exchange through the front and our runtime."""

    async def exchange() -> httpx.Response:
        async with running(application) as api:
            transport = httpx.ASGITransport(FunctionUrl(api))
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                return await client.request(method, path, **more)

    return asyncio.run(exchange())


def test_request_and_response_arrive_as_they_were_sent() -> None:
    seen: dict[str, Any] = {}
    body = bytes(range(256)) * 1000

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.update(scope, body=(await receive())["body"])
        headers = [(b"x-name", b"value"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": body[:1000], "more_body": True})
        await send({"type": "http.response.body", "body": body[1000:]})

    response = ask(
        application, "PUT", "/a%20b%2525?c=d&c=%20e", content=body, headers={"X-Key": "k", "Cookie": "s=1; t=2"}
    )
    assert (seen["method"], seen["path"], seen["query_string"]) == ("PUT", "/a b%25", b"c=d&c=%20e")
    headers = dict(map(tuple, seen["headers"]))
    assert (headers[b"x-key"], headers[b"cookie"], headers[b"host"]) == (b"k", b"s=1; t=2", b"service")
    assert seen["body"] == response.content == body
    assert response.status_code == 202
    assert response.headers["x-name"] == "value"
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]


def test_a_response_may_have_no_body() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    response = ask(application, "DELETE", "/")
    assert (response.status_code, response.content) == (204, b"")


def test_a_function_that_fails_is_a_502() -> None:
    async def test() -> httpx.Response:
        async with LocalRuntimeApi() as api:
            transport = httpx.ASGITransport(FunctionUrl(api))
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                asked = asyncio.create_task(client.get("/"))
                function = RuntimeApi(api.address)
                await function.fail(await function.next(), ValueError("the sea"))
                return await asked

    response = asyncio.run(test())
    assert (response.status_code, response.json()) == (502, {"message": "Internal Server Error"})
