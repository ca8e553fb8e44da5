"""The network side of the one door out."""

import httpx


def open_transport(*, max_connections: int = 256) -> httpx.AsyncBaseTransport:
    """An httpx transport over aiohttp's connection pool. Must be called inside a running event loop."""
    import aiohttp
    from httpx_aiohttp import AiohttpTransport

    connector = aiohttp.TCPConnector(limit=max_connections, keepalive_timeout=30)
    return AiohttpTransport(client=lambda: aiohttp.ClientSession(connector=connector, auto_decompress=False))
