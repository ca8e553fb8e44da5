"""Hearing that a server's tools have changed.

Servers of the protocol's handshake era say so in a notification, which every session hears. From 2026-07-28 on a
client must subscribe, and the subscription can be lost (MCP specification 2026-07-28, "Subscriptions").
"""

import asyncio
from collections.abc import Callable

from mcp import Client, MCPError
from mcp.client.subscriptions import SubscriptionLost
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from llama_stack_providers.remote._mcp.exchange import Exchange, current_exchange

FIRST_PAUSE_S = 1.0
LAST_PAUSE_S = 60.0


async def watch_tools(client: Client, changed: Callable[[], None], settled: asyncio.Event) -> None:
    """Call `changed` for every change, until cancelled. settled: set once no change of a list fetched now is missed.

    Returns where the server will never say so, or says so without being asked.
    """
    current_exchange.set(Exchange())
    pause = FIRST_PAUSE_S
    try:
        tools = client.server_capabilities.tools
        if client.protocol_version not in MODERN_PROTOCOL_VERSIONS or tools is None or not tools.list_changed:
            return
        while True:
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    if not changes.honored.tools_list_changed:
                        return
                    if settled.is_set():
                        changed()  # it may have changed while nobody listened
                    settled.set()
                    pause = FIRST_PAUSE_S
                    async for _ in changes:
                        changed()
            except (MCPError, SubscriptionLost):
                pass
            settled.set()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_PAUSE_S)
    finally:
        settled.set()
