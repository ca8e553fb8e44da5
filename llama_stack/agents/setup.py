"""What a turn is run with."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from llama_stack.agents.tools import Toolbox
from llama_stack.api.agents import AgentConfig, Turn
from llama_stack.api.common import Caller
from llama_stack.api.inference import Inference
from llama_stack.api.memory import MemorySearch
from llama_stack.api.stack import ShieldRunner


@dataclass(frozen=True)
class AgentSetup:
    """toolbox: every tool the model may call, the caller's own among them. safety, memory: needed where the config
    names shields or memory banks. context_length: tokens of the model's window; None where nobody says.
    window: asks for them, where a turn needs to know only when something was found.
    logprobs: alternatives whose log probabilities are wanted with each token; None for no log probabilities at all.
    whole: nobody reads the answer before its end, so a provider may be asked for it in one piece.
    state: of the session, shared by all its calls. earlier: turns of the conversation so far, as far as they are known
    as such. team: agents that the conversation may be handed to, by name.
    """

    inference: Inference
    config: AgentConfig
    caller: Caller
    toolbox: Toolbox = field(default_factory=Toolbox)
    safety: ShieldRunner | None = None
    memory: MemorySearch | None = None
    context_length: int | None = None
    window: Callable[[], Awaitable[int | None]] | None = None
    logprobs: int | None = None
    whole: bool = False
    state: dict[str, Any] = field(default_factory=dict)
    earlier: Sequence[Turn] = ()
    team: "Mapping[str, OpenMember]" = field(default_factory=dict)


OpenMember = Callable[[bool], Awaitable[AgentSetup]]
"""What an agent of a team is run with; False leaves out its tools for handing over, when a turn has had enough."""


def new_id(kind: str) -> str:
    return f"{kind}_{uuid4().hex}"
