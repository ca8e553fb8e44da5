"""FastAPI without what this server does not use.

Its handler collects dependencies, validates, and makes a spare response for each call; its stack of middleware serves
dependencies, forms and telemetry. None of it is used here, and it costs as much as all the rest of the routing.
"""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send


class PlainRoute(APIRoute):
    """Calls its endpoint with the request and the path's parameters, and nothing else."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **settings: Any) -> None:
        super().__init__(path, endpoint, **settings)

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive, send)
            response = await endpoint(request, **request.path_params)
            await response(scope, receive, send)

        self.app = answer


class PlainApp(FastAPI):
    """Errors become answers right around the router; around that stands only the middleware that was added."""

    def build_middleware_stack(self) -> ASGIApp:
        app: ASGIApp = ExceptionMiddleware(self.router, handlers=self.exception_handlers)
        for middleware in reversed(self.user_middleware):
            app = middleware.cls(app, *middleware.args, **middleware.kwargs)
        return app
