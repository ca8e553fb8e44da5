"""`llama mcp serve`: a distribution's tools and agents for the MCP host that starts this program."""

import logging
import signal
from importlib.util import find_spec

import click

from llama_stack.api.common import Caller
from llama_stack.cli.choosing import distribution_options
from llama_stack.cli.fetching import fetch_missing_models
from llama_stack.compose import open_stack
from llama_stack.distribution import Distribution
from llama_stack.errors import ConfigError


@click.command()
@distribution_options
def serve(distribution: Distribution) -> None:
    """Offer a distribution's tools and agents over stdio.

    NAME is a shipped distribution (see `llama stack list`), PATH a YAML file; without either it is starter.
    A host such as an editor or a desktop assistant starts this program and speaks with it; it ends with its host.

    \b
    Examples:
      llama mcp serve starter
      llama mcp serve ./my-stack.yaml
    """
    if find_spec("mcp") is None:
        raise ConfigError("`llama mcp` needs the package mcp", remedy="Install it: pip install 'llama-stack[mcp]'.")
    # stdout is the connection; whatever a person should read goes to stderr.
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    from llama_stack.server import serve as server

    server.run(_serve(distribution))


async def _serve(distribution: Distribution) -> None:
    from llama_stack.mcp_host.server import serve_stdio

    # Told to stop, it takes down what it has opened, like one that is interrupted from the keyboard.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    await fetch_missing_models(distribution)
    async with open_stack(distribution) as stack:
        await serve_stdio(stack, Caller(owner="local"))
