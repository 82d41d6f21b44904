"""Answers what nobody foresaw, inside the application: outside, its words would end up in the log.

uvicorn and Mangum log an exception that reaches them with its whole traceback, and an exception's own words may quote
what somebody asked.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handler.api.errors import error_response, told


class BrokenOffError(Exception):
    """A response ended before its end; what happened was logged before."""


class UnforeseenErrorMiddleware:
    """Answers 500 where something failed that is no service error."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on.

        Raises:
            BrokenOffError: the response had begun, and whoever reads it must not take it for whole.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:  # noqa: BLE001 - see the module's text
            failure = told(error)
            if begun:
                raise BrokenOffError from None
            await error_response(failure)(scope, receive, send)
