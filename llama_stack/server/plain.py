"""FastAPI without what this server does not use.

Its handler collects dependencies, validates, and makes a spare response for each call; its stack of middleware serves
dependencies, forms and telemetry. None of it is used here, and it costs as much as all the rest of the routing.
"""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send


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
        app: ASGIApp = ExceptionMiddleware(RoutesByPrefix(self.router), handlers=self.exception_handlers)
        app = HeadAsGet(app)
        for middleware in reversed(self.user_middleware):
            app = middleware.cls(app, *middleware.args, **middleware.kwargs)
        return app


class HeadAsGet:
    """Answers HEAD as GET without the content (RFC 9110, section 9.3.2); monitors ask so."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        is_over = False

        async def send_head(message: Message) -> None:
            nonlocal is_over
            if message["type"] != "http.response.body":
                await send(message)
            elif not is_over:
                # The end of a stream is not waited for.
                is_over = True
                await send({"type": "http.response.body", "body": b""})

        await self._app({**scope, "method": "GET"}, receive, send_head)


class RoutesByPrefix:
    """The router, which need not try every route of every API: paths that begin alike have a router of their own.

    The routes are those that there are at the first request, and are tried in the same order as by the whole router.
    """

    def __init__(self, router: APIRouter) -> None:
        self._whole = router
        fixed = {_fixed_prefix(route) for route in router.routes} - {None}
        self._routers = {
            prefix: APIRouter(
                routes=[route for route in router.routes if _fixed_prefix(route) in (prefix, None)],
                redirect_slashes=router.redirect_slashes,
            )
            for prefix in fixed
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        router = self._routers.get(_beginning(scope["path"])) if "path" in scope else None
        await (router or self._whole)(scope, receive, send)


def _beginning(path: str) -> str:
    """As `/v1/files` of `/v1/files/{file_id}/content`."""
    return "/".join(path.split("/", 3)[:3])


def _fixed_prefix(route: BaseRoute) -> str | None:
    """None where a path with any beginning may be the route's."""
    path = getattr(route, "path", None)
    if not isinstance(path, str) or path.count("/") < 2:
        return None
    beginning = _beginning(path)
    return None if "{" in beginning else beginning
