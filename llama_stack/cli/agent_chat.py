"""`llama agent chat`: talk with an agent in the terminal."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from llama_stack.api.tools import ToolDefinition
from llama_stack.cli.chat_files import told_of_files, with_files
from llama_stack.cli.chat_input import remembered
from llama_stack.cli.chat_loop import ChatLoop
from llama_stack.cli.chat_screen import shown_history
from llama_stack.cli.chats import NAME, Chat, find_chat, new_chat_id, title_of
from llama_stack.cli.choosing import distribution_name, local_or_given
from llama_stack.cli.local_models import find_local_model
from llama_stack.cli.printing import print_note, styled
from llama_stack.hub import PREFIX as HUB_PREFIX
from llama_stack.sdk.stack import LlamaStack, StackOpening, SyncLlamaStack
from llama_stack.sdk.sync_agent import SyncAgent, SyncAgentSession

SHOWN_TURNS = 3


def stack_options(command: Callable[..., None]) -> Callable[..., None]:
    """Which stack: a distribution in this process, or one that is served."""
    command = click.option("--api-key", envvar="LLAMA_STACK_API_KEY", help="What the server at --url asks for.")(
        command
    )
    command = click.option("--url", metavar="URL", help="A served stack, in place of a distribution.")(command)
    return distribution_name(command)


def _of_different_names(_: click.Context, __: click.Parameter, files: tuple[Path, ...]) -> tuple[Path, ...]:
    """Code finds each file by its name, whatever folder it comes from."""
    by_name: dict[str, Path] = {}
    for file in files:
        if (other := by_name.setdefault(file.name, file)) != file:
            raise click.BadParameter(f"{other} and {file} have one name; rename one of them")
    return files


@click.command()
@stack_options
@click.option("--model", metavar="MODEL", help="A model of the stack, or a GGUF for the embedded engine.")
@click.option("--instructions", metavar="TEXT", help="What the agent is told before everything else.")
@click.option("--tools", metavar="GROUP", multiple=True, help="A tool group, or an MCP server's URL. Repeatable.")
@click.option("--memory", "banks", metavar="BANK", multiple=True, help="Answer from this memory bank. Repeatable.")
@click.option(
    "--file",
    "files",
    metavar="PATH",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=_of_different_names,
    help="A file for Python code of the agent, which gets the stack's code interpreter: the starter has one with"
    " LLAMA_STACK_CODE_INTERPRETER=1. Repeatable.",
)
@click.option("--ask", is_flag=True, help="Ask before each call of a tool.")
@click.option("--session", "chat_id", metavar="ID", help="Go on with this chat; `llama agent sessions` lists them.")
@click.option("--continue", "goes_on", is_flag=True, help="Go on with the latest chat.")
def chat(
    name_or_path: str,
    url: str | None,
    api_key: str | None,
    model: str | None,
    chat_id: str | None,
    goes_on: bool,
    **options: Any,
) -> None:
    """Talk with an agent in the terminal.

    NAME|PATH is a distribution that is opened in this process, starter by default; --url reaches a server instead.
    Every chat is kept. In a pipe, each line is a question and the answers are plain text.

    \b
    Examples:
      llama agent chat
      llama agent chat starter --tools builtin::websearch --ask
      llama agent chat --url http://localhost:8321 --model llama-micro
      llama agent chat --memory default
      llama agent chat --model FILE.gguf --file sales.csv
      llama agent chat --continue
      echo "What is 2 + 2?" | llama agent chat
    """
    engine_model = None if url else _engine_model(model)
    with open_stack(name_or_path, url, api_key, engine_model).start() as stack:
        earlier = stack.wait(find_chat(stack.held, chat_id)) if chat_id or goes_on else None
        wanted = _options(options, None if engine_model else model, earlier)
        chats = _Chats(stack, wanted, earlier)
        session = chats.reopened()
        loop = ChatLoop(chats.begin, chats.tools, _home() / "chat_files", session)
        if loop.is_terminal:
            _greet(url or name_or_path, wanted.get("model") or stack.default_model(), session)
        with remembered(_home() / "chat_history"):
            loop.run()
        if loop.is_terminal and loop.has_session:
            print_note("This chat is kept: llama agent chat --continue")
    if loop.has_failed and not loop.is_terminal:
        raise SystemExit(1)


def open_stack(name_or_path: str, url: str | None, api_key: str | None, engine_model: str | None) -> StackOpening:
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    if url:
        return LlamaStack.connect(url, api_key=api_key)
    from llama_stack.cli.fetching import fetch_missing_models
    from llama_stack.distribution import load_distribution

    asyncio.run(fetch_missing_models(load_distribution(name_or_path, model=engine_model)))
    return LlamaStack.open(name_or_path, model=engine_model)


def _engine_model(model: str | None) -> str | None:
    """A model that the embedded engine is to serve: a file, one of the hub, or one that was downloaded."""
    if model is None:
        return None
    is_local = model.startswith(HUB_PREFIX) or Path(model).expanduser().is_file() or find_local_model(model) is not None
    return local_or_given(model) if is_local else None


def _options(given: dict[str, Any], model: str | None, earlier: Chat | None) -> dict[str, Any]:
    """What the agent is: as the earlier chat left it, but for what was said now."""
    options: dict[str, Any] = {}
    if earlier is not None:
        config = earlier.config
        options = {
            "model": config.model,
            "instructions": config.instructions,
            "tool_groups": config.tool_groups,
            "memory_banks": config.memory_banks,
        }
    if model is not None:
        options["model"] = model
    if given["instructions"] is not None:
        options["instructions"] = given["instructions"]
    if given["tools"]:
        options["tool_groups"] = [_group(name) for name in given["tools"]]
    if given["files"]:
        options["tool_groups"] = with_files(options.get("tool_groups", ()), given["files"])
        options["instructions"] = told_of_files(options.get("instructions"), given["files"])
    if given["banks"]:
        options["memory_banks"] = list(given["banks"])
    if given["ask"]:
        options["approval"] = "always"
    return options


def _group(name: str) -> Any:
    is_server = name.startswith(("http://", "https://"))
    return {"identifier": name.partition("//")[2].strip("/"), "mcp_endpoint": name} if is_server else name


class _Chats:
    """The agent of each chat, made when the chat begins."""

    def __init__(self, stack: SyncLlamaStack, options: dict[str, Any], earlier: Chat | None) -> None:
        self._stack = stack
        self._options = options
        self._earlier = earlier

    def _agent(self, chat_id: str) -> SyncAgent:
        return SyncAgent(self._stack, name=f"{NAME}{chat_id}", **self._options)

    def begin(self, question: str) -> SyncAgentSession:
        return self._agent(new_chat_id()).open_session(title_of(question))

    def reopened(self) -> SyncAgentSession | None:
        if self._earlier is None:
            return None
        return self._agent(self._earlier.chat_id).open_session(session_id=self._earlier.session_id)

    def tools(self) -> Sequence[ToolDefinition]:
        return self._stack.wait(_offered(self._stack.held, self._agent("")))


async def _offered(stack: LlamaStack, agent: SyncAgent) -> Sequence[ToolDefinition]:
    """What the model is shown. A server knows its groups' tools; of one far away only their names are known here."""
    if stack.served is None:
        return [ToolDefinition(name=use.identifier) for use in agent.held.config.tool_groups]
    return (await agent.held.setup("", [])).toolbox.definitions


def _greet(where: str, model: str, session: SyncAgentSession | None) -> None:
    click.echo(f"{styled(model, bold=True)} on {where}. /help says what you can do.")
    if session is None:
        return
    turns = session.turns
    if len(turns) > SHOWN_TURNS:
        print_note(f"({len(turns) - SHOWN_TURNS} earlier questions: /history)")
    for line in shown_history(turns[-SHOWN_TURNS:]):
        click.echo(line)
    if turns and turns[-1].end_reason is None:
        print_note("The last answer was not finished; /resume goes on with it.")


def _home() -> Path:
    from llama_stack.compose import stack_home

    return stack_home()
