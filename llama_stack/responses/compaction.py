"""A conversation made shorter, and its size: what is asked of the model without making a response."""

from datetime import UTC, datetime

from llama_stack.agents.setup import new_id
from llama_stack.api.answers import collect
from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.inference import ChatRequest, Sampling, Usage
from llama_stack.api.messages import AssistantMessage, Message, SystemMessage, ToolMessage, UserMessage, text_of
from llama_stack.api.responses import ResponseRequest
from llama_stack.api.stack import ServedStack
from llama_stack.errors import ProviderFailed
from llama_stack.responses.making import Stores, origin_of, with_items
from llama_stack.responses.preparing import make_ready
from llama_stack.wire.openai_responses.items import new_item_id, shown
from llama_stack.wire.openai_responses.objects import encode_response_usage
from llama_stack.wire.openai_responses.telling import Told, sealed, tell

MAX_SUMMARY_TOKENS = 2000
TASK = (
    "Below is a conversation between a user and an assistant. Write a summary that lets the assistant go on without "
    "it: the user's goals and constraints, decisions made, facts and results found (names, numbers, identifiers "
    "exactly as they stand), and what is still open. Write only the summary."
)


async def counted(stack: ServedStack, stores: Stores, request: ResponseRequest, caller: Caller) -> int:
    """Tokens the model would read first: instructions, conversation and tools."""
    told = await _told(stores, request, caller)
    ready = await make_ready(
        stack, request, caller, response_id="resp_0", root_id="session_0", requests={}, told_labels=set()
    )
    if ready.failure is not None:
        raise ready.failure
    config = ready.setup.config
    before: list[Message] = [SystemMessage(content=request.instructions)] if request.instructions else []
    chat = ChatRequest(
        model=request.model,
        messages=[*before, *told.messages],
        tools=ready.setup.toolbox.definitions,
        tool_choice=config.tool_choice,
        response_format=config.response_format,
    )
    return await stack.inference.count_tokens(chat, ready.setup.caller)


async def compacted(stack: ServedStack, stores: Stores, request: ResponseRequest, caller: Caller) -> JsonObject:
    """What the user said, as it is, and a compaction item that stands for everything else."""
    told = await _told(stores, request, caller)
    text = "\n\n".join(_line(message) for message in told.messages)
    wishes = f"\n\nThe assistant's instructions were:\n{request.instructions}" if request.instructions else ""
    chat = ChatRequest(
        model=request.model,
        messages=[SystemMessage(content=f"{TASK}{wishes}"), UserMessage(content=text)],
        sampling=Sampling(max_tokens=MAX_SUMMARY_TOKENS),
        whole=True,
    )
    answer = await collect(stack.inference.stream_chat(chat, caller))
    if not answer.text.strip():
        raise ProviderFailed(f"the model {request.model!r} gave no summary; try another model")
    items = [shown(item) for item in await _items(stores, request, caller) if item.get("role") == "user"]
    compaction = {"id": new_item_id("compaction"), "type": "compaction", "encrypted_content": sealed(answer.text)}
    return {
        "id": new_id("resp"),
        "object": "response.compaction",
        "created_at": int(datetime.now(UTC).timestamp()),
        "output": [*items, compaction],
        "usage": encode_response_usage(answer.usage or Usage()),
    }


async def _told(stores: Stores, request: ResponseRequest, caller: Caller) -> Told:
    origin = await origin_of(stores, request, caller)
    return tell(await with_items(stores, request.input, caller), origin.told, earlier=origin.earlier)


async def _items(stores: Stores, request: ResponseRequest, caller: Caller) -> list[JsonObject]:
    """The items of the conversation, as far as they were given to it."""
    earlier: list[JsonObject] = []
    if request.previous_response_id is not None:
        chain = await stores.responses.chain(request.previous_response_id, caller)
        earlier = [item for record, _ in chain for item in record.request.input]
    return [*earlier, *request.input]


def _line(message: Message) -> str:
    match message:
        case UserMessage():
            return f"User: {text_of(message.content)}"
        case SystemMessage():
            return f"Instructions: {text_of(message.content)}"
        case ToolMessage():
            return f"Result of {message.name or 'a tool'}: {text_of(message.content)}"
        case AssistantMessage():
            calls = "".join(f"\n[calls {call.name} with {call.arguments}]" for call in message.tool_calls)
            return f"Assistant: {text_of(message.content)}{calls}"
