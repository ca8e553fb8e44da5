"""What can be known of an agent's config before its first turn: whether every turn would refuse it."""

import asyncio
import logging
import re
from collections.abc import Iterable, Sequence

from llama_stack.agents.toolboxes import MAX_NAME_CHARS, offered_name
from llama_stack.api.agents import AgentConfig, ToolGroupUse
from llama_stack.api.common import Caller
from llama_stack.api.resources import MemoryBank, ModelType, Shield
from llama_stack.api.stack import ServedStack
from llama_stack.api.tools import NamedToolChoice
from llama_stack.errors import InvalidRequest
from llama_stack.gathering import gathered

logger = logging.getLogger(__name__)

LISTING_WAIT_S = 5.0
"""How long a tool group is waited for; what it offers is then found out by the agent's turns."""

_CLIENT_TOOL_NAME = re.compile(rf"[a-zA-Z0-9_-]{{1,{MAX_NAME_CHARS}}}")
_OF_THE_CALL = frozenset({"mcp_authorization", "mcp_headers"})
"""What a call brings, and the next one may bring otherwise."""


async def check_config(stack: ServedStack, config: AgentConfig, caller: Caller, *, further: Iterable[str] = ()) -> None:
    """Raises NotFound for what there is not, and InvalidRequest, naming the field, for what cannot work.

    further: names of tools that the agent's turns have beside those of its config. A tool group that cannot be listed
    just now is taken as it is.
    """
    model = await stack.model(config.model, caller)
    if model.model_type is not ModelType.LLM:
        raise InvalidRequest(
            f"model: {config.model!r} is of type {model.model_type.value}; an agent needs a model that chats",
            param="model",
        )
    for shield in {*config.input_shields, *config.output_shields, *config.tool_shields}:
        await stack.registry.resource(Shield, shield, caller)
    for bank in config.memory_banks:
        await stack.registry.resource(MemoryBank, bank, caller)
    own = [tool.name for tool in config.client_tools]
    _check_client_tools(own)
    offered = await gathered(_offered(stack, use, caller) for use in config.tool_groups)
    of_groups = _of_groups(config.tool_groups, offered)
    for name in own:
        if name in of_groups:
            raise InvalidRequest(
                f"client_tools: {name!r} is a tool of the group {of_groups[name]!r}, too; rename it",
                param="client_tools",
            )
    if all(names is not None for names in offered):
        check_choice(config, [*of_groups, *own, *further])


def _check_client_tools(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if not _CLIENT_TOOL_NAME.fullmatch(name):
            raise InvalidRequest(
                f"client_tools: a tool's name is 1 to {MAX_NAME_CHARS} letters, digits, _ and -, not {name[:100]!r}",
                param="client_tools",
            )
        if name in seen:
            raise InvalidRequest(f"client_tools: two tools are named {name!r}; rename one", param="client_tools")
        seen.add(name)


async def _offered(stack: ServedStack, use: ToolGroupUse, caller: Caller) -> list[str] | None:
    """Names of the tools that the use of a group offers; None where the group cannot be listed now."""
    group = await stack.tools.group(use, caller)
    try:
        async with asyncio.timeout(LISTING_WAIT_S):
            listed = [tool.name for tool in await stack.tools.list_tools(group, caller)]
    except InvalidRequest as error:
        if error.param in _OF_THE_CALL:
            return None
        raise
    # A provider's code asks a stranger's server here; nothing that happens to it makes the config wrong.
    except Exception as error:
        logger.warning("tools of %r cannot be checked now: %s", use.identifier, error)
        return None
    known = frozenset(listed)
    unknown = [name for name in use.tools or () if name not in known]
    if unknown:
        raise InvalidRequest(
            f"tool_groups: {use.identifier!r} has no tool {unknown[0]!r}; it has: {', '.join(listed) or 'none'}",
            param="tool_groups",
        )
    return [offered_name(name) for name in (listed if use.tools is None else use.tools)]


def _of_groups(uses: Sequence[ToolGroupUse], offered: Sequence[list[str] | None]) -> dict[str, str]:
    """Each tool's group, as far as the groups are known."""
    groups: dict[str, str] = {}
    for use, names in zip(uses, offered, strict=True):
        for name in names or ():
            if name in groups:
                raise InvalidRequest(
                    f"tool_groups: {groups[name]!r} and {use.identifier!r} both offer a tool {name!r}; name the tools"
                    " that are wanted of one of them",
                    param="tool_groups",
                )
            groups[name] = use.identifier
    return groups


def check_choice(config: AgentConfig, names: Sequence[str]) -> None:
    """Raises InvalidRequest for a choice of a tool that is not among these."""
    if not isinstance(config.tool_choice, NamedToolChoice):
        return
    known = frozenset(names)
    for name in config.tool_choice.names:
        if name not in known:
            raise InvalidRequest(
                f"tool_choice: there is no tool {name!r}; the agent has: {', '.join(names) or 'none'}",
                param="tool_choice",
            )
