"""What classic requests ask of lists and sessions: windows by number, turns by id, sessions by their last character,
and the tools that a turn may wait for.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from starlette.requests import Request

from llama_stack.api.agents import AgentConfig, Agents, Session
from llama_stack.api.common import Caller, Page
from llama_stack.errors import InvalidRequest, NotFound
from llama_stack.server.queries import asked_number

EntryT = TypeVar("EntryT")

_PAGE = 1000


def asked_turn_ids(request: Request) -> set[str] | None:
    """The classic client joins the ids with commas; repeated parameters are understood, too. None asks for all."""
    given = request.query_params.getlist("turn_ids")
    if not given:
        return None
    return {turn_id.strip() for value in given for turn_id in value.split(",")}


def asked_window(request: Request) -> tuple[int, int]:
    """`start_index` and `limit`; no limit, or -1, asks for all that a page holds. Raises InvalidRequest."""
    start = asked_number(request, "start_index", 0)
    limit = asked_number(request, "limit", -1)
    if start < 0:
        raise InvalidRequest("start_index: must be 0 or more", param="start_index")
    if limit == 0 or limit < -1 or limit > _PAGE:
        raise InvalidRequest(f"limit: must be 1 to {_PAGE}, or -1", param="limit")
    return start, _PAGE if limit == -1 else limit


async def window_of(
    page: Callable[[int, str | None], Awaitable[Page[EntryT]]], start: int, limit: int
) -> tuple[list[EntryT], bool]:
    """Entries from number `start` on, and whether there are more behind them.

    page: gives a page of so many entries after an id. Lists are kept by key, so those before `start` are read too.
    """
    after: str | None = None
    while start:
        skipped = await page(min(start, _PAGE), after)
        if skipped.next_after is None:
            return [], False
        start -= len(skipped.entries)
        after = skipped.next_after
    found = await page(limit, after)
    return found.entries, found.next_after is not None


async def config_of_team(agents: Agents, agent_id: str, caller: Caller) -> AgentConfig:
    """The agent's config with the tools of all that it may hand over to: a turn may wait for them."""
    config = (await agents.agent(agent_id, caller)).config
    reached, found = [config], {agent_id}
    for one in reached:
        for other_id in one.handoffs:
            if other_id in found:
                continue
            found.add(other_id)
            try:
                reached.append((await agents.agent(other_id, caller)).config)
            except NotFound:
                continue  # deleted since, and never handed to again
    return config.model_copy(
        update={
            "client_tools": [tool for one in reached for tool in one.client_tools],
            "tool_groups": [use for one in reached for use in one.tool_groups],
        }
    )


async def whole_session_id(agents: Agents, agent_id: str, session_id: str, caller: Caller) -> str:
    """The id, or for a single character the agent's latest session whose id ends in it.

    The Agent of the classic client sends the last character of the id it means when it is not told a session.
    """
    if len(session_id) != 1:
        return session_id
    latest: Session | None = None
    after: str | None = None
    while True:
        page = await agents.list_sessions(agent_id, caller, limit=_PAGE, after=after)
        for session in page.entries:
            if session.session_id.endswith(session_id):
                latest = session
        after = page.next_after
        if after is None:
            break
    if latest is None:
        raise NotFound(f"agent {agent_id!r} has no session whose id ends in {session_id!r}", param="session_id")
    return latest.session_id
