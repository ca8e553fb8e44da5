"""The `llama` command: its verbs, and what the person sees when something is wrong.

Exit codes: 0 done, 1 it was tried and failed, 2 what was typed or configured cannot be used, 130 interrupted.
"""

import io
import os
import sys
from pathlib import Path

import click

from llama_stack import __version__
from llama_stack.cli.lazy import Lazy, LazyGroup
from llama_stack.cli.printing import print_error
from llama_stack.errors import ConfigError, StackError

CONTEXT = {"help_option_names": ["-h", "--help"]}

STACK = {
    "run": Lazy("llama_stack.cli.stack_run:run", "Serve a distribution over HTTP."),
    "build": Lazy("llama_stack.cli.stack_build:build", "Make an environment or a container image for a distribution."),
    "list": Lazy("llama_stack.cli.stack_list:list_distributions", "List the distributions there are."),
    "list-apis": Lazy("llama_stack.cli.stack_list:list_apis", "List the APIs and how many providers each has."),
    "list-providers": Lazy("llama_stack.cli.stack_list:list_providers", "List the providers that are installed."),
    "show": Lazy("llama_stack.cli.stack_show:show", "Show a distribution's settings and where each came from."),
    "doctor": Lazy("llama_stack.cli.stack_doctor:doctor", "Check that a distribution can run; say what mends it."),
}
MODEL = {
    "list": Lazy("llama_stack.cli.model_list:list_models", "List Meta's models and those on this machine."),
    "describe": Lazy("llama_stack.cli.model_list:describe", "Show what is known of one model."),
    "download": Lazy("llama_stack.cli.model_download:download", "Fetch a model from Hugging Face."),
    "verify-download": Lazy("llama_stack.cli.model_download:verify_download", "Check a download's checksums."),
    "remove": Lazy("llama_stack.cli.model_download:remove", "Delete a downloaded model."),
    "prompt-format": Lazy("llama_stack.cli.prompt_format:prompt_format", "Show how a model's prompts are written."),
}
DB = {
    "status": Lazy("llama_stack.cli.db:status", "Show the database's schema version and what is pending."),
    "upgrade": Lazy("llama_stack.cli.db:upgrade", "Bring the database to this version's schema, after a backup."),
    "rollback": Lazy("llama_stack.cli.db:rollback", "Take schema changes back, newest first."),
}
MCP = {
    "serve": Lazy("llama_stack.cli.mcp_serve:serve", "Offer a distribution's tools and agents over stdio."),
}
AGENT = {
    "chat": Lazy("llama_stack.cli.agent_chat:chat", "Talk with an agent in the terminal."),
    "sessions": Lazy("llama_stack.cli.agent_sessions:sessions", "List your chats, oldest first."),
}


@click.group(cls=LazyGroup, table=STACK, context_settings=CONTEXT)
def stack() -> None:
    """Run, build and inspect distributions.

    A distribution is one YAML file that names the providers, models and settings of a stack.
    NAME is one that is shipped (see `llama stack list`), PATH is a file of your own.

    \b
    Examples:
      llama stack run starter
      llama stack run ./my-stack.yaml --port 9000
      llama stack doctor starter
    """


@click.group(cls=LazyGroup, table=MODEL, context_settings=CONTEXT)
def model() -> None:
    """Find, fetch and understand models.

    \b
    Examples:
      llama model list
      llama model download hf:owner/repository/model.gguf
      llama model prompt-format Llama3.2-1B-Instruct
    """


@click.group(cls=LazyGroup, table=DB, context_settings=CONTEXT)
def db() -> None:
    """Look after the database that holds a stack's state.

    \b
    Examples:
      llama db status
      llama db upgrade --url postgresql://user@host/database
    """


@click.group(cls=LazyGroup, table=MCP, context_settings=CONTEXT)
def mcp() -> None:
    """Offer a stack to MCP hosts.

    Hosts are editors, desktop assistants and other agents.

    \b
    Examples:
      llama mcp serve starter
    """


@click.group(cls=LazyGroup, table=AGENT, context_settings=CONTEXT)
def agent() -> None:
    """Talk with agents.

    \b
    Examples:
      llama agent chat
      llama agent chat --continue
      llama agent sessions
    """


MEMORY = {
    "add": Lazy("llama_stack.cli.memory_add:add", "Remember files, folders and web pages."),
    "search": Lazy(
        "llama_stack.cli.memory_search:search",
        "Find the passages that answer a question, or all that a filter selects.",
    ),
    "list": Lazy("llama_stack.cli.memory_banks:list_banks", "List the memory banks, newest first."),
    "create": Lazy("llama_stack.cli.memory_banks:create", "Make a memory bank."),
    "documents": Lazy(
        "llama_stack.cli.memory_documents:documents", "List the documents of a memory bank, newest first."
    ),
    "delete": Lazy("llama_stack.cli.memory_documents:delete", "Forget documents of a memory bank, or the whole of it."),
    "stats": Lazy("llama_stack.cli.memory_banks:stats", "Show how much is in a memory bank."),
}


@click.group(cls=LazyGroup, table=MEMORY, context_settings=CONTEXT)
def memory() -> None:
    """Remember documents, and find what answers a question.

    Documents lie in memory banks, by default in the bank `default` of the starter stack on this machine.

    \b
    Examples:
      llama memory add report.pdf notes/
      llama memory search "When is the report due?"
      llama agent chat --memory default
    """


VERBS = {
    "stack": Lazy("llama_stack.cli.main:stack", "Run, build and inspect distributions."),
    "model": Lazy("llama_stack.cli.main:model", "Find, fetch and understand models."),
    "mcp": Lazy("llama_stack.cli.main:mcp", "Offer a stack to MCP hosts."),
    "agent": Lazy("llama_stack.cli.main:agent", "Talk with agents."),
    "memory": Lazy("llama_stack.cli.main:memory", "Remember documents, and find what answers a question."),
    "db": Lazy("llama_stack.cli.main:db", "Look after the database that holds a stack's state."),
}


@click.group(cls=LazyGroup, table=VERBS, context_settings=CONTEXT)
@click.version_option(__version__, message="llama %(version)s")
def cli() -> None:
    """One interface for applications built on Llama models.

    State lives in LLAMA_STACK_HOME (default ~/.llama). NO_COLOR switches colours off.

    \b
    Examples:
      llama stack run starter          serve a small model on this machine
      llama model list                 see which models there are
      llama stack doctor               check this machine
    """


def main(prog_name: str = "llama") -> None:
    """Run the command line and end the process; every foreseen failure is one message without a stack trace."""
    _make_streams_safe()
    try:
        code = cli(prog_name=prog_name, standalone_mode=False)
    except click.ClickException as error:
        print_error(*_usage_words(error))
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        code = 130
    except StackError as error:
        print_error(str(error))
        code = 2 if isinstance(error, ConfigError) else 1
    except BrokenPipeError:
        # The reader (such as `head`) has left: not a failure worth words. Closing stdout again would raise anew.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        # A full disk, a folder without rights: the machine's state, not a bug.
        place = f"{error.filename}: " if error.filename else ""
        print_error(f"{place}{error.strerror or error}")
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _make_streams_safe() -> None:
    """A closed stream swallows what is written; a character the terminal cannot show becomes a question mark."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  open to the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _usage_words(error: click.ClickException) -> tuple[str, str | None]:
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return error.format_message(), f"See '{error.ctx.command_path} --help'."
    return error.format_message(), None
