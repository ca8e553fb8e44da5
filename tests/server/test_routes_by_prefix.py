"""Every route is found among those that begin as its path does, as it is among all."""

from collections.abc import Iterator

import pytest
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from llama_stack.server.app import create_app
from llama_stack.server.plain import PlainRoute, RoutesByPrefix
from llama_stack.testing.scripted import ScriptedStack


def scopes() -> Iterator[Scope]:
    """A request for each route of the application, its parameters filled in; and some that belong to none."""
    for route in create_app(ScriptedStack()).routes:
        if isinstance(route, PlainRoute):
            path = route.path_format
            for name in route.param_convertors:
                path = path.replace(f"{{{name}}}", "one")
            for method in sorted(route.methods):
                yield {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
    for path in ("/", "/v1", "/v1/", "/v1/nothing", "/v1/files/", "//v1/files", "/v1/models/a/b/c"):
        yield {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}


class Tried(Exception):
    """Tells the route that a request came to."""


@pytest.fixture
def by_prefix(monkeypatch: pytest.MonkeyPatch) -> RoutesByPrefix:
    async def handle(route: PlainRoute, scope: Scope, receive: Receive, send: Send) -> None:
        raise Tried(route.path, route.methods)

    monkeypatch.setattr(PlainRoute, "handle", handle)
    return RoutesByPrefix(create_app(ScriptedStack()).router)


async def found(app: RoutesByPrefix, scope: Scope) -> object:
    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: object) -> None: ...

    try:
        await app(dict(scope), receive, send)
    except Tried as tried:
        return tried.args
    except Exception as error:
        return type(error)
    return None


@pytest.mark.parametrize("scope", list(scopes()), ids=lambda scope: f"{scope['method']} {scope['path']}")
async def test_the_same_route_is_found(by_prefix: RoutesByPrefix, scope: Scope) -> None:
    whole = create_app(ScriptedStack()).router
    fitting = [route for route in whole.routes if route.matches(dict(scope))[0] is Match.FULL]
    came_to = await found(by_prefix, scope)
    if fitting and isinstance(fitting[0], PlainRoute):
        assert came_to == (fitting[0].path, fitting[0].methods)
    else:
        assert not isinstance(came_to, tuple)
