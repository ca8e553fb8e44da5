"""A conversation made shorter, and its size: what is asked of the model without making a response."""

from datetime import UTC, datetime

from llama_stack.agents.setup import new_id
from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.inference import ChatRequest
from llama_stack.api.messages import Message, SystemMessage
from llama_stack.api.responses import ResponseRequest
from llama_stack.api.stack import ServedStack
from llama_stack.responses.compacting import most_summary_tokens
from llama_stack.responses.making import Stores, origin_of, with_items
from llama_stack.responses.preparing import make_ready
from llama_stack.responses.sent_files import told_with_files, with_files
from llama_stack.responses.summary import MAX_SUMMARY_TOKENS, summarised
from llama_stack.wire.openai_responses.items import new_item_id, shown
from llama_stack.wire.openai_responses.objects import encode_response_usage
from llama_stack.wire.openai_responses.sealing import sealed
from llama_stack.wire.openai_responses.telling import Told


async def counted(stack: ServedStack, stores: Stores, request: ResponseRequest, caller: Caller) -> int:
    """Tokens the model would read first: instructions, conversation and tools."""
    told = await _told(stack, stores, request, caller)
    ready = await make_ready(
        stack, request, caller, response_id="resp_0", root_id="session_0", requests={}, told_labels=set()
    )
    if ready.failure is not None:
        raise ready.failure
    config = ready.setup.config
    before: list[Message] = [SystemMessage(content=config.instructions)] if config.instructions else []
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
    told = await _told(stack, stores, request, caller)
    window = (await stack.model(request.model, caller)).context_length
    summary, usage = await summarised(
        stack.inference,
        request.model,
        told.messages,
        caller,
        request.instructions,
        max_tokens=MAX_SUMMARY_TOKENS if window is None else most_summary_tokens(window),
    )
    items = [shown(item) for item in await _items(stores, request, caller) if item.get("role") == "user"]
    compaction = {"id": new_item_id("compaction"), "type": "compaction", "encrypted_content": sealed(summary)}
    return {
        "id": new_id("resp"),
        "object": "response.compaction",
        "created_at": int(datetime.now(UTC).timestamp()),
        "output": [*items, compaction],
        "usage": encode_response_usage(usage),
    }


async def _told(stack: ServedStack, stores: Stores, request: ResponseRequest, caller: Caller) -> Told:
    origin = await origin_of(stores, request, caller)
    items = await with_files(stack, await with_items(stores, request.input, caller), request.model, caller)
    read = request.model_copy(update={"input": items})
    return await told_with_files(stack, read, origin.told, origin.earlier, caller)


async def _items(stores: Stores, request: ResponseRequest, caller: Caller) -> list[JsonObject]:
    """The items of the conversation, as far as they were given to it."""
    earlier: list[JsonObject] = []
    if request.previous_response_id is not None:
        chain = await stores.responses.chain(request.previous_response_id, caller)
        earlier = [item for record, _ in chain for item in record.request.input]
    return [*earlier, *request.input]
