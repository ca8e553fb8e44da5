"""Llama Stack: one interface for applications built on Llama models.

    from llama_stack import Agent, LlamaStack

    async with LlamaStack.open("starter") as stack:  # or LlamaStack.connect("http://localhost:8321")
        answer = await stack.chat("Hello")
        result = await Agent(stack, tools=[get_weather]).run("What is the weather in Bergen?")
        await stack.memory.add("report.pdf")
        passages = await stack.memory.search("When is it due?")

A plain `with` gives the sync face of the same stack. Names are imported when they are first touched.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llama_stack.agents.context import ToolContext
    from llama_stack.agents.functions import tool
    from llama_stack.api.agents import ApprovalDecision, Budget, ToolGroupUse
    from llama_stack.api.filters import Comparison, Compound
    from llama_stack.api.inference import Sampling
    from llama_stack.api.memory import (
        Chunk,
        ChunkSizes,
        Citation,
        Document,
        Entity,
        Facts,
        ReciprocalRankFusion,
        Relation,
        Rewriting,
        WeightedFusion,
    )
    from llama_stack.api.messages import (
        AssistantMessage,
        ImagePart,
        SystemMessage,
        TextPart,
        ToolCall,
        ToolMessage,
        UserMessage,
    )
    from llama_stack.api.resources import GraphBank, KeyValueBank, KeywordBank, VectorBank
    from llama_stack.api.tools import ToolDefinition, ToolResult
    from llama_stack.errors import StackError
    from llama_stack.sdk.agent import Agent
    from llama_stack.sdk.session import AgentResult, AgentSession
    from llama_stack.sdk.stack import LlamaStack, SyncLlamaStack
    from llama_stack.sdk.sync_agent import SyncAgent, SyncAgentSession

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "AgentResult",
    "AgentSession",
    "ApprovalDecision",
    "AssistantMessage",
    "Budget",
    "Chunk",
    "ChunkSizes",
    "Citation",
    "Comparison",
    "Compound",
    "Document",
    "Entity",
    "Facts",
    "GraphBank",
    "ImagePart",
    "KeyValueBank",
    "KeywordBank",
    "LlamaStack",
    "ReciprocalRankFusion",
    "Relation",
    "Rewriting",
    "Sampling",
    "StackError",
    "SyncAgent",
    "SyncAgentSession",
    "SyncLlamaStack",
    "SystemMessage",
    "TextPart",
    "ToolCall",
    "ToolContext",
    "ToolDefinition",
    "ToolGroupUse",
    "ToolMessage",
    "ToolResult",
    "UserMessage",
    "VectorBank",
    "WeightedFusion",
    "__version__",
    "tool",
]

_MESSAGES = ("AssistantMessage", "ImagePart", "SystemMessage", "TextPart", "ToolCall", "ToolMessage", "UserMessage")
_MEMORY = (
    *("Chunk", "ChunkSizes", "Citation", "Document"),
    *("Entity", "Facts", "Relation"),
    *("ReciprocalRankFusion", "Rewriting", "WeightedFusion"),
)
_HOMES = {
    "Agent": "llama_stack.sdk.agent",
    **dict.fromkeys(("AgentResult", "AgentSession"), "llama_stack.sdk.session"),
    **dict.fromkeys(("SyncAgent", "SyncAgentSession"), "llama_stack.sdk.sync_agent"),
    **dict.fromkeys(("LlamaStack", "SyncLlamaStack"), "llama_stack.sdk.stack"),
    "tool": "llama_stack.agents.functions",
    "ToolContext": "llama_stack.agents.context",
    **dict.fromkeys(_MESSAGES, "llama_stack.api.messages"),
    **dict.fromkeys(("ToolDefinition", "ToolResult"), "llama_stack.api.tools"),
    **dict.fromkeys(("ApprovalDecision", "Budget", "ToolGroupUse"), "llama_stack.api.agents"),
    "Sampling": "llama_stack.api.inference",
    **dict.fromkeys(("Comparison", "Compound"), "llama_stack.api.filters"),
    **dict.fromkeys(_MEMORY, "llama_stack.api.memory"),
    **dict.fromkeys(("GraphBank", "KeyValueBank", "KeywordBank", "VectorBank"), "llama_stack.api.resources"),
    "StackError": "llama_stack.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
