"""`llama stack run`: open a distribution and serve it until told to stop."""

import asyncio
import json
import logging
import os
import signal
from contextlib import AsyncExitStack

import click

from llama_stack import __version__
from llama_stack.api.common import Caller, HealthStatus
from llama_stack.api.resources import Model, ModelType
from llama_stack.api.stack import ProviderState
from llama_stack.cli.choosing import distribution_options
from llama_stack.cli.fetching import fetch_missing_models
from llama_stack.cli.printing import plain_columns, styled
from llama_stack.compose import LocalStack, open_stack, stack_home
from llama_stack.distribution import Distribution, ServerSettings
from llama_stack.errors import ConfigError, StackError
from llama_stack.server.listening import listen
from llama_stack.server.options import ServerOptions

logger = logging.getLogger(__name__)

LISTING_LIMIT_S = 2.0
MOST_SHOWN = 12
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  compared with, not listened on
LOOPBACK = ("localhost", "127.0.0.1", "::1")
COLOURS = {HealthStatus.OK: "green", HealthStatus.FAILED: "red"}


@click.command()
@click.option("--quiet", is_flag=True, help="No banner and no access log; warnings and errors stay.")
@distribution_options
def run(distribution: Distribution, quiet: bool) -> None:
    """Serve a distribution over HTTP.

    NAME is a shipped distribution (see `llama stack list`), PATH a YAML file; without either it is starter.
    It serves until Ctrl-C or SIGTERM, then finishes running answers within a few seconds.

    \b
    Examples:
      llama stack run
      llama stack run starter --port 9000
      llama stack run --model ./Llama-3.2-3B-Instruct-Q4_K_M.gguf
      llama stack run --model hf:owner/repository/file.gguf
      llama stack run ./my-stack.yaml --env OLLAMA_URL=http://host:11434
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("llama_stack").setLevel(logging.WARNING if quiet else logging.INFO)
    # Found out before a model is loaded; the server takes the port itself when it starts.
    listen(distribution.server.host, distribution.server.port).close()
    _check_home()
    # The server takes longer to load than everything above: a refusal must not wait for it.
    from llama_stack.server import serve as server

    server.run(_serve(distribution, quiet))


def _check_home() -> None:
    home = stack_home()
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(
            f"the state folder {home} cannot be made: {error.strerror}",
            where="LLAMA_STACK_HOME",
            remedy="Set LLAMA_STACK_HOME to a folder that can be written.",
        ) from error
    if not os.access(home, os.W_OK):
        raise ConfigError(
            f"the state folder {home} cannot be written",
            where="LLAMA_STACK_HOME",
            remedy="Set LLAMA_STACK_HOME to a folder that can be written.",
        )


async def _serve(distribution: Distribution, quiet: bool) -> None:
    from llama_stack.server import serve as server
    from llama_stack.server.app import create_app

    # A start that is told to stop takes down what it has opened, like one that is interrupted from the keyboard.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    await fetch_missing_models(distribution)
    async with open_stack(distribution) as stack:
        options = server_options(distribution.server)
        app = create_app(stack, options)
        models, states = ([], []) if quiet else await _look(stack)

        async with AsyncExitStack() as beside:

            def ready(url: str) -> None:
                beside.push_async_callback(_ended, asyncio.create_task(_take_up(stack)))
                if not quiet:
                    click.echo(banner(url, distribution, models, states))

            await server.serve(app, distribution.server.host, distribution.server.port, on_ready=ready)
    if not quiet:
        click.echo("Stopped.")


async def _take_up(stack: LocalStack) -> None:
    """Beside the serving: a server that cannot take up old work still serves."""
    try:
        await stack.take_up()
    except StackError as error:
        logger.warning("work that was left unfinished is not taken up: %s", error)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def server_options(settings: ServerSettings) -> ServerOptions:
    """The server's options as the distribution sets them.

    One that listens on this machine only answers to this machine's own names only. What others can reach has names
    of its own, which only its operator knows.
    """
    listed = {host.lower() for host in settings.allowed_hosts}
    is_local = settings.host in LOOPBACK
    return ServerOptions(
        max_body_bytes=settings.max_body_bytes,
        cors_origins=tuple(settings.cors_origins),
        allowed_hosts=frozenset({*LOOPBACK, *listed}) if is_local else frozenset(listed) or None,
    )


async def _look(stack: LocalStack) -> tuple[list[Model], list[ProviderState]]:
    """What is served, and how the providers are; a provider that is slow to list its models does not hold the start."""
    starter = Caller(owner="local")
    try:
        async with asyncio.timeout(LISTING_LIMIT_S):
            models = await stack.list_models(starter)
    except TimeoutError:
        models = []
    return models, await stack.providers(starter)


def banner(url: str, distribution: Distribution, models: list[Model], states: list[ProviderState]) -> str:
    """What a person wants to know when the server is up."""
    open_to_all = distribution.server.host in EVERYWHERE
    reached = url.replace("0.0.0.0", "localhost").replace("[::]", "localhost")  # noqa: S104
    lines = [
        f"{styled('Llama Stack', bold=True)} {__version__} serves {distribution.name} at {styled(reached, bold=True)}"
    ]
    if open_to_all:
        lines.append("Every machine that can reach this one may use it.")
    lines += _part("Models", [(model.identifier, _kind(model), model.provider_id) for model in models[:MOST_SHOWN]])
    if len(models) > MOST_SHOWN:
        lines.append(f"             and {len(models) - MOST_SHOWN} more: {reached}/v1/models")
    lines += _part("Providers", [(one.provider_id, one.provider_type, _health(one)) for one in states])
    lines += _part("State", [(str(stack_home()),)])
    lines += ["", "  Try it:", *_example(reached, models), "", "Stop it with Ctrl-C."]
    return "\n".join(lines)


def _part(title: str, rows: list[tuple[str, ...]]) -> list[str]:
    columns = plain_columns(rows) or ["none"]
    return ["", *(f"  {title if number == 0 else '':<9}  {line}" for number, line in enumerate(columns))]


def _kind(model: Model) -> str:
    if model.model_type is ModelType.EMBEDDING:
        return f"embedding, {model.embedding_dimension} numbers" if model.embedding_dimension else "embedding"
    return f"{model.model_type}, {model.context_length} tokens" if model.context_length else str(model.model_type)


def _health(state: ProviderState) -> str:
    words = styled(state.health.status.value, fg=COLOURS.get(state.health.status, "yellow"))
    return f"{words}: {state.health.message}" if state.health.message else words


def _example(url: str, models: list[Model]) -> list[str]:
    talker = next((model for model in models if model.model_type is ModelType.LLM), None)
    if talker is None:
        return [f"    curl {url}/v1/models"]
    body = json.dumps({"model": talker.identifier, "messages": [{"role": "user", "content": "hello"}]})
    return [f"    curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\", f"      -d '{body}'"]
