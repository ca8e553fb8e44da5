"""`llama agent sessions`: the chats that a stack keeps."""

import click

from llama_stack.cli.agent_chat import open_stack, stack_options
from llama_stack.cli.chats import list_chats
from llama_stack.cli.choosing import json_option
from llama_stack.cli.printing import print_json, print_table


@click.command()
@stack_options
@json_option
def sessions(name_or_path: str, url: str | None, api_key: str | None, as_json: bool) -> None:
    """List your chats, oldest first.

    NAME|PATH is the distribution that they were held with, starter by default; --url asks a server instead.

    \b
    Examples:
      llama agent sessions
      llama agent sessions --url http://localhost:8321 --json
    """
    with open_stack(name_or_path, url, api_key, None).start() as stack:
        chats = stack.wait(list_chats(stack.held))
    if as_json:
        print_json(
            [
                {
                    "id": chat.chat_id,
                    "session_id": chat.session_id,
                    "title": chat.title,
                    "model": chat.model,
                    "started_at": chat.started_at.isoformat(),
                }
                for chat in chats
            ]
        )
        return
    if not chats:
        click.echo("No chats yet; `llama agent chat` begins one.")
        return
    rows = [(chat.chat_id, f"{chat.started_at:%Y-%m-%d %H:%M}", chat.model, chat.title) for chat in chats]
    print_table(("ID", "BEGUN", "MODEL", "FIRST WORDS"), rows, keep=2)
