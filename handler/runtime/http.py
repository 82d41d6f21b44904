"""HTTP events as ASGI scopes, by Mangum's own translation, and ASGI responses as Lambda streams them."""

import json
from collections.abc import Iterable
from typing import Any

from mangum.handlers import APIGateway, HTTPGateway
from mangum.types import LambdaConfig, LambdaContext, Scope

# The sources that can stream: API Gateway 2.0 events, whose shape function URLs have, and those of a REST API. A load
# balancer cannot, nor can CloudFront.
_SOURCES = (HTTPGateway, APIGateway)

_CONFIG = LambdaConfig(api_gateway_base_path="/", text_mime_types=[], exclude_headers=[])

# An extension of the scope: tells the application that what it sends is sent on, and that no gateway cuts it off.
RESPONSE_STREAM = "aws.lambda.response_stream"

# Between prelude and body.
SEPARATOR = bytes(8)


def http_request(event: Any, context: LambdaContext) -> tuple[Scope, bytes] | None:
    """The scope and body of a request that can be answered by a stream; None if the event is none, or lacks a part."""
    try:
        for source in _SOURCES:
            if source.infer(event, context, _CONFIG):
                request = source(event, context, _CONFIG)
                return {**request.scope, "extensions": {RESPONSE_STREAM: {}}}, request.body
    except (KeyError, TypeError, AttributeError, ValueError):
        pass  # whoever answers all other events says what is wrong with it
    return None


def prelude(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """How a streamed response begins: status, headers and cookies as JSON, and the separator.

    Lambda frames the body itself, so what the application says of its transfer is left out (the ASGI specification
    asks for that).
    """
    fields: dict[str, str] = {}
    cookies = []
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name == "set-cookie":
            cookies.append(value)
        elif name != "transfer-encoding":
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return json.dumps({"statusCode": status, "headers": fields, "cookies": cookies}).encode() + SEPARATOR
