"""The stack as a whole: what an application holds, in this process or at the other end of a connection."""

from typing import Any, Protocol, TypeVar

from llama_stack.api.agents import Agents, ToolGroupUse
from llama_stack.api.common import Caller, Health, JsonObject, Word
from llama_stack.api.containers import Containers
from llama_stack.api.files import LocalFiles
from llama_stack.api.inference import Inference
from llama_stack.api.memory import LocalMemory
from llama_stack.api.messages import Message
from llama_stack.api.resources import MemoryBank, Model, Shield
from llama_stack.api.responses import Conversations, Responses, StoredCompletions
from llama_stack.api.safety import ShieldVerdict
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult

ResourceT = TypeVar("ResourceT", Model, Shield, MemoryBank, ToolGroup)


class ProviderState(Word):
    """One provider of a running stack. `config` has its secrets masked."""

    api: str
    provider_id: str
    provider_type: str
    config: JsonObject
    health: Health


class Stack(Protocol):
    """A running stack, local or remote: the two cannot be told apart by their behaviour."""

    @property
    def inference(self) -> Inference:
        """Inference over all providers; `request.model` is the name a caller uses."""
        ...

    async def list_models(self, caller: Caller) -> list[Model]: ...

    async def model(self, identifier: str, caller: Caller) -> Model:
        """Raises NotFound, naming the models there are."""
        ...

    async def providers(self, caller: Caller) -> list[ProviderState]: ...


class ShieldRunner(Protocol):
    """Safety over all shields of the stack, by shield id."""

    async def run_shield(
        self, shield_id: str, messages: list[Message], caller: Caller, params: JsonObject | None = None
    ) -> ShieldVerdict:
        """Raises NotFound, naming the shields there are."""
        ...


class ToolRunner(Protocol):
    """Tools over all tool groups of the stack."""

    async def group(self, use: ToolGroupUse, caller: Caller) -> ToolGroup:
        """The group behind a use of it: a registered one, or the MCP server it names. Raises NotFound."""
        ...

    def containers(self, group: ToolGroup) -> Containers | None:
        """Where the group's tools keep files of sessions; None where they keep none."""
        ...

    async def list_tools(self, group: ToolGroup, caller: Caller) -> list[ToolDefinition]: ...

    async def invoke_tool(
        self,
        group: ToolGroup,
        name: str,
        arguments: dict[str, Any],
        caller: Caller,
        *,
        session_id: str | None = None,
    ) -> ToolResult:
        """session_id: for tools that keep state between the calls of one session."""
        ...


class Registry(Protocol):
    """The named things of a running stack: the distribution's own, and what a caller registered beside them.

    What a caller registers is seen by that caller only, and kept over restarts.
    """

    async def resources(self, kind: type[ResourceT], caller: Caller) -> list[ResourceT]: ...

    async def resource(self, kind: type[ResourceT], identifier: str, caller: Caller) -> ResourceT:
        """Raises NotFound, naming what there is."""
        ...

    def own(self, kind: type[ResourceT]) -> list[ResourceT]:
        """The distribution's."""
        ...

    async def register(self, resource: ResourceT, caller: Caller) -> ResourceT:
        """An empty `provider_id` means the only provider of that API. Raises Conflict for an identifier in use,
        InvalidRequest for a provider that is unknown, or left open where there are several, and what the provider
        itself objects to.
        """
        ...

    async def unregister(self, kind: type[ResourceT], identifier: str, caller: Caller) -> None:
        """Raises NotFound, and Conflict for a resource of the distribution."""
        ...


class ServedStack(Stack, Protocol):
    """What the server serves: a stack with everything it keeps."""

    @property
    def safety(self) -> ShieldRunner: ...

    @property
    def tools(self) -> ToolRunner: ...

    @property
    def registry(self) -> Registry: ...

    async def memory(self) -> LocalMemory:
        """The memory of the stack, over its database. Files are read in the background while the stack is open."""
        ...

    async def agents(self) -> Agents:
        """The agents' service; opens the stack's database. Raises ConfigError when it cannot be used."""
        ...

    async def responses(self) -> Responses:
        """The responses' service, over the same database. Background responses are made while the stack is open."""
        ...

    async def conversations(self) -> Conversations: ...

    async def stored_completions(self) -> StoredCompletions: ...

    async def files(self) -> LocalFiles:
        """The files' service, over the same database and a folder. Raises ConfigError when that cannot be used."""
        ...
