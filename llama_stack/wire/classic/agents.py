"""Agents in the classic shape (`AgentConfig` of `llama-stack-client` 0.2.12), both directions."""

from typing import Literal

from pydantic import Field, ValidationError

from llama_stack.api.agents import AgentConfig, AgentRecord, Budget, ToolGroupUse, TurnSettings
from llama_stack.api.common import JsonObject
from llama_stack.api.inference import ToolPromptFormat
from llama_stack.api.tools import NamedToolChoice, ToolChoice
from llama_stack.errors import InvalidRequest
from llama_stack.wire.classic.body import ClassicBody, parse_body
from llama_stack.wire.classic.sampling import (
    ResponseFormatBody,
    SamplingBody,
    decode_response_format,
    decode_sampling,
    encode_response_format,
    encode_sampling,
)
from llama_stack.wire.classic.tools import (
    ToolConfigBody,
    ToolDefBody,
    decode_tool_choice,
    decode_tool_def,
    encode_tool_def,
    fills_definitions_in,
)
from llama_stack.wire.validation import invalid_request


class ToolGroupBody(ClassicBody):
    """A tool group with arguments for its calls. `approval` is ours: which calls wait for a person's word."""

    name: str = Field(min_length=1)
    args: JsonObject | None = None
    approval: Literal["never", "always"] | list[str] | None = None


ToolGroupChoiceBody = str | ToolGroupBody


class AgentConfigBody(ClassicBody):
    """tool_choice, tool_prompt_format: older places of what `tool_config` says. memory_banks: ours, searched with each
    question.
    """

    model: str = Field(min_length=1)
    instructions: str | None = None
    name: str | None = None
    max_infer_iters: int | None = None
    sampling_params: SamplingBody | None = None
    toolgroups: list[ToolGroupChoiceBody] | None = None
    client_tools: list[ToolDefBody] | None = None
    tool_config: ToolConfigBody | None = None
    tool_choice: str | None = None
    tool_prompt_format: ToolPromptFormat | None = None
    input_shields: list[str] | None = None
    output_shields: list[str] | None = None
    memory_banks: list[str] | None = None
    response_format: ResponseFormatBody | None = None


class ClassicAgentBody(ClassicBody):
    """Body of POST /v1/agents."""

    agent_config: AgentConfigBody


_BEHAVIOR = "system_message_behavior"
"""Where an agent's metadata keeps what our config has no word for."""


def decode_agent_config(body: object) -> AgentConfig:
    """Sessions are always kept, so `enable_session_persistence` changes nothing.

    Raises InvalidRequest naming the wrong field.
    """
    wanted = parse_body(ClassicAgentBody, body).agent_config
    choice, prompt_format = decode_tool_choice(wanted.tool_config, wanted.tool_choice, wanted.tool_prompt_format)
    instructions = wanted.instructions or ""
    behavior = wanted.tool_config.system_message_behavior if wanted.tool_config else None
    config = AgentConfig(
        model=wanted.model,
        instructions=instructions,
        name=wanted.name,
        tool_groups=[decode_tool_group_use(use) for use in wanted.toolgroups or ()],
        client_tools=[
            decode_tool_def(tool, f"agent_config.client_tools.{number}")
            for number, tool in enumerate(wanted.client_tools or ())
        ],
        tool_choice=choice or "auto",
        tool_prompt_format=prompt_format,
        input_shields=wanted.input_shields or [],
        output_shields=wanted.output_shields or [],
        memory_banks=wanted.memory_banks or [],
        sampling=decode_sampling(wanted.sampling_params, under="agent_config.sampling_params"),
        response_format=decode_response_format(wanted.response_format),
        budget=_budget(wanted.max_infer_iters),
        metadata={} if behavior is None else {_BEHAVIOR: behavior},
    )
    is_replaced = behavior == "replace" and not fills_definitions_in(instructions)
    if is_replaced and config.tool_choice == "auto":
        # The caller writes the whole prompt: what it does not say of tools, the model is not told otherwise either.
        config.tool_choice = "none"
    return config


def _budget(max_infer_iters: int | None) -> Budget:
    if max_infer_iters is None:
        return Budget()
    given = {"max_infer_iters": max_infer_iters}
    try:
        return Budget(**given)
    except ValidationError as error:
        raise invalid_request(error, given, under="agent_config") from None


def decode_tool_group_use(body: ToolGroupChoiceBody) -> ToolGroupUse:
    """`builtin::websearch` is the whole group, `builtin::rag/knowledge_search` one tool of it."""
    # Unchecked, as an empty name is told of below.
    wanted = ToolGroupBody.model_construct(name=body) if isinstance(body, str) else body
    identifier, slash, tool = wanted.name.partition("/")
    if not identifier or (slash and not tool):
        raise InvalidRequest(f"toolgroups: {wanted.name!r} names no tool group or no tool of one", param="toolgroups")
    return ToolGroupUse(
        identifier=identifier,
        tools=[tool] if slash else None,
        args=wanted.args or {},
        approval=wanted.approval or "never",
    )


def merged_uses(of_turn: list[ToolGroupUse], of_agent: list[ToolGroupUse]) -> list[ToolGroupUse]:
    """The groups of one turn, which stand in place of the agent's; arguments and approvals of the agent hold on."""
    merged: list[ToolGroupUse] = []
    for use in of_turn:
        for known in of_agent:
            if known.identifier == use.identifier:
                approval = known.approval if use.approval == "never" else use.approval
                use = use.model_copy(update={"args": {**known.args, **use.args}, "approval": approval})
        merged.append(use)
    return merged


def turn_settings(
    toolgroups: list[ToolGroupChoiceBody] | None, tool_config: ToolConfigBody | None, config: AgentConfig
) -> TurnSettings | None:
    """What one turn does otherwise than its agent; None where it does nothing otherwise."""
    choice, _ = decode_tool_choice(tool_config)
    replaces = tool_config is not None and tool_config.system_message_behavior == "replace"
    if replaces and choice in (None, "auto") and not fills_definitions_in(config.instructions):
        choice = "none"
    uses = (
        None
        if toolgroups is None
        else merged_uses([decode_tool_group_use(use) for use in toolgroups], config.tool_groups)
    )
    return None if uses is None and choice is None else TurnSettings(tool_groups=uses, tool_choice=choice)


# --- what goes out -------------------------------------------------------------------------------------------------


def encode_agent(record: AgentRecord) -> JsonObject:
    return {
        "agent_id": record.agent_id,
        "agent_config": encode_agent_config(record.config),
        "created_at": record.created_at.isoformat(),
    }


def encode_agent_config(config: AgentConfig) -> JsonObject:
    """What the classic shape has no word for is left out."""
    return {
        "model": config.model,
        "instructions": config.instructions,
        "name": config.name,
        "enable_session_persistence": True,
        "max_infer_iters": config.budget.max_infer_iters,
        "sampling_params": encode_sampling(config.sampling),
        "toolgroups": [encode for use in config.tool_groups for encode in _encode_use(use)],
        "client_tools": [encode_tool_def(tool) for tool in config.client_tools],
        "tool_config": {
            "tool_choice": _encode_choice(config.tool_choice),
            "tool_prompt_format": config.tool_prompt_format,
            "system_message_behavior": config.metadata.get(_BEHAVIOR, "append"),
        },
        "input_shields": config.input_shields,
        "output_shields": config.output_shields,
        **({"memory_banks": config.memory_banks} if config.memory_banks else {}),
        "response_format": encode_response_format(config.response_format),
    }


def _encode_choice(choice: ToolChoice) -> str:
    return choice.names[0] if isinstance(choice, NamedToolChoice) else choice


def _encode_use(use: ToolGroupUse) -> list[str | JsonObject]:
    names = [use.identifier] if use.tools is None else [f"{use.identifier}/{tool}" for tool in use.tools]
    approval: JsonObject = {} if use.approval == "never" else {"approval": use.approval}
    return [name if not use.args and not approval else {"name": name, "args": use.args, **approval} for name in names]
