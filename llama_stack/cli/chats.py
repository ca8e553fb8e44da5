"""The chats of this person in a stack's store: each is an agent of its own with one session."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from secrets import token_hex

from llama_stack.api.agents import CHAT_AGENT_NAME, AgentConfig, AgentRecord, Agents, Session
from llama_stack.cli.lazy import nearest
from llama_stack.errors import NotFound
from llama_stack.sdk.stack import LlamaStack

NAME = CHAT_AGENT_NAME
"""Begins the name of a chat's agent; the chat's id follows. So chats with other models or tools do not meet."""
TITLE_CHARS = 60


@dataclass(frozen=True)
class Chat:
    """One chat as it is listed. title: the first words that were said."""

    chat_id: str
    title: str
    model: str
    started_at: datetime
    session_id: str
    config: AgentConfig


def new_chat_id() -> str:
    return token_hex(3)


def title_of(question: str) -> str:
    words = " ".join(question.split())
    return words if len(words) <= TITLE_CHARS else f"{words[: TITLE_CHARS - 3]}..."


async def list_chats(stack: LlamaStack) -> list[Chat]:
    """Oldest first. A chat in which nothing was ever said is none."""
    agents = await stack.agents()
    found: list[Chat] = []
    async for record in _records(agents, stack):
        page = await agents.list_sessions(record.agent_id, stack.caller, limit=1)
        found += [_chat(record, session) for session in page.entries]
    return found


async def find_chat(stack: LlamaStack, chat_id: str | None) -> Chat:
    """The chat of this id, by default the latest. Raises NotFound."""
    chats = await list_chats(stack)
    if chat_id is None and chats:
        return chats[-1]
    for chat in chats:
        if chat_id in (chat.chat_id, chat.session_id):
            return chat
    if not chats:
        raise NotFound("there is no chat to go on with yet; `llama agent chat` begins one")
    hint = nearest(chat_id or "", [chat.chat_id for chat in chats[-5:]])
    raise NotFound(f"there is no chat {chat_id!r}; `llama agent sessions` lists them. {hint}")


async def _records(agents: Agents, stack: LlamaStack) -> AsyncIterator[AgentRecord]:
    after: str | None = None
    while True:
        page = await agents.list_agents(stack.caller, after=after)
        for record in page.entries:
            if (record.config.name or "").startswith(NAME):
                yield record
        if page.next_after is None:
            return
        after = page.next_after


def _chat(record: AgentRecord, session: Session) -> Chat:
    chat_id = (record.config.name or "").removeprefix(NAME)
    return Chat(chat_id, session.name, record.config.model, session.started_at, session.session_id, record.config)
