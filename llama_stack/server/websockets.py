"""WebSockets, where the library for them is installed: `pip install 'llama-stack[websocket]'`."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any


def websocket_protocol() -> Callable[..., Any] | None:
    """What uvicorn calls to make the protocol of an upgraded connection; None without the library.

    The library is imported with the first connection: a server that gets none starts without it.
    """
    if find_spec("websockets") is None:
        return None

    def opened(**settings: Any) -> Any:
        from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

        return WebSocketsSansIOProtocol(**settings)

    return opened
