"""Which addresses an MCP endpoint that a caller names may lead to."""

from llama_stack import addresses
from llama_stack.addresses import Resolve as Resolve
from llama_stack.addresses import is_public as is_public
from llama_stack.addresses import resolve as resolve


async def public_addresses(host: str, port: int, resolve: Resolve) -> list[str]:
    """Addresses of the endpoint's host, all of them public; raises as `llama_stack.addresses` says."""
    return await addresses.public_addresses(
        host,
        port,
        resolve,
        what="the MCP endpoint's host",
        remedy="name a public one, or have the operator set allow_private_addresses: true in the MCP provider's config",
        param="mcp_endpoint",
    )
