"""Starlette without what this server does not use: its outermost middleware, and matching every route of every API.

FastAPI, which describes the routes, handles no request: it collects dependencies, validates, and makes a spare response
for each call, none of which is used here, and takes longer to load than the rest of a server's start.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Endpoint = Callable[..., Awaitable[Response]]
EndpointT = TypeVar("EndpointT", bound=Endpoint)


class PlainRoute(Route):
    """Calls its endpoint with the request and the path's parameters, and nothing else.

    What it says of itself waits until the OpenAPI document is asked for: Starlette makes validators of all of it, which
    takes longer than the rest of a server's start.
    """

    def __init__(self, path: str, endpoint: Endpoint, *, method: str, tag: str, **settings: Any) -> None:
        """settings: what FastAPI's APIRoute takes to describe the route."""
        super().__init__(path, endpoint, include_in_schema=settings.get("include_in_schema", True))
        self.methods: set[str] = {method}
        self.tag = tag
        self.settings = settings
        self.app = self.answer

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response = await self.endpoint(request, **request.path_params)
        await response(scope, receive, send)


class PlainRouter:
    """Collects the routes of one family. They share a tag, and the class that carries them."""

    def __init__(self, tag: str, route_class: type[PlainRoute] = PlainRoute) -> None:
        self.routes: list[PlainRoute] = []
        self._tag = tag
        self._route_class = route_class

    def get(self, path: str, **settings: Any) -> Callable[[EndpointT], EndpointT]:
        return self._adding("GET", path, settings)

    def post(self, path: str, **settings: Any) -> Callable[[EndpointT], EndpointT]:
        return self._adding("POST", path, settings)

    def put(self, path: str, **settings: Any) -> Callable[[EndpointT], EndpointT]:
        return self._adding("PUT", path, settings)

    def delete(self, path: str, **settings: Any) -> Callable[[EndpointT], EndpointT]:
        return self._adding("DELETE", path, settings)

    def _adding(self, method: str, path: str, settings: dict[str, Any]) -> Callable[[EndpointT], EndpointT]:
        def add(endpoint: EndpointT) -> EndpointT:
            self.routes.append(self._route_class(path, endpoint, method=method, tag=self._tag, **settings))
            return endpoint

        return add


class PlainApp(Starlette):
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

    def __init__(self, router: Router) -> None:
        self._whole = router
        fixed = {_fixed_prefix(route) for route in router.routes} - {None}
        self._routers = {
            prefix: Router(
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
