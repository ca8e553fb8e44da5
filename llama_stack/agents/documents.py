"""Documents that come with a turn: short texts are said to the model, all others are remembered for the session.

A session's documents lie in a memory bank of its own, which its later turns search, too, and which goes with it.
"""

from collections.abc import Iterable, Sequence

from llama_stack.api.agents import AgentConfig, TurnSettings
from llama_stack.api.common import Caller
from llama_stack.api.memory import Document, DocumentState
from llama_stack.api.messages import FilePart, TextPart, ToolMessage, UserMessage, text_of
from llama_stack.api.resources import KeywordBank, MemoryBank, ModelType, VectorBank
from llama_stack.api.sent_files import has_files
from llama_stack.api.stack import ServedStack
from llama_stack.api.token_estimate import estimated_text_tokens
from llama_stack.errors import InvalidRequest, UnsupportedParameter

MAX_SAID_TOKENS = 2_000
"""Of all the texts of a turn that are said to the model; a longer one is remembered, and found by parts."""
MAX_DOCUMENTS = 50
"""That one turn may bring."""

Messages = list[UserMessage | ToolMessage]


def bank_of(session_id: str) -> str:
    """The id of a session's bank."""
    return f"{session_id}-documents"


async def taken_in(
    stack: ServedStack, session_id: str, messages: Messages, documents: Sequence[Document], caller: Caller
) -> tuple[Messages, bool]:
    """The messages with the short texts, and whether the session's bank has got something to search.

    A document is remembered under its own id; the same one given again replaces it. Where the stack has no memory,
    every text is said. Raises InvalidRequest naming the document that cannot be read, UnsupportedParameter for one
    that needs a memory where there is none.
    """
    if len(documents) > MAX_DOCUMENTS:
        raise InvalidRequest(f"documents: there are {len(documents)}; at most {MAX_DOCUMENTS} fit", param="documents")
    said, remembered, left = [], [], MAX_SAID_TOKENS
    for position, document in enumerate(documents):
        tokens = estimated_text_tokens(text_of(document.content))
        if document.url is None and tokens <= left:
            said.append(document)
            left -= tokens
        else:
            remembered.append((position, document))
    if remembered:
        try:
            await _remember(stack, session_id, remembered, caller)
        except UnsupportedParameter as error:
            unread = next((position for position, document in remembered if document.url is not None), None)
            if unread is not None:
                raise UnsupportedParameter(
                    f"documents.{unread}: send its text; to read it here, {error.message}", param=f"documents.{unread}"
                ) from None
            said, remembered = list(documents), []
    return _with_texts(messages, said), bool(remembered)


async def with_files(stack: ServedStack, model: str, messages: Messages, caller: Caller) -> Messages:
    """The messages with the files in them as the model can read them: that is what the session keeps.

    Raises NotFound for an unknown model, and what `SentFiles` raises, naming such as `messages.0.content.1.file_id`.
    """
    if not has_files(messages):
        return messages
    await stack.model(model, caller)
    able = stack.inference.capabilities(model)
    read = await (await stack.memory()).sent_files.in_messages(messages, able, caller, _field)
    return [message for message in read if isinstance(message, UserMessage | ToolMessage)]


def _field(message: int, number: int, part: FilePart) -> str:
    return f"messages.{message}.content.{number}.{'data_url' if part.file_id is None else 'file_id'}"


def searching(
    session_id: str, config: AgentConfig, settings: TurnSettings | None, earlier: Iterable[TurnSettings]
) -> TurnSettings:
    """The turn's settings, by which it searches the session's bank beside its agent's.

    earlier: of the session's turns; what one of them brought, the later ones search. None of them brought anything
    where none searches the bank.
    """
    settings = settings or TurnSettings()
    bank = bank_of(session_id)
    own = config.memory_banks if settings.memory_banks is None else settings.memory_banks
    if bank in own or not any(bank in (one.memory_banks or ()) for one in earlier):
        return settings
    return settings.model_copy(update={"memory_banks": [*own, bank]})


async def forget(stack: ServedStack, session_ids: Iterable[str], caller: Caller) -> None:
    """The documents of sessions that are deleted."""
    there = {bank.identifier for bank in await stack.registry.resources(MemoryBank, caller)}
    for bank in there.intersection(map(bank_of, session_ids)):
        await (await stack.memory()).drop_bank(bank, caller)


# --- texts that are said -------------------------------------------------------------------------------------------


def _with_texts(messages: Messages, documents: Sequence[Document]) -> Messages:
    """The texts stand behind the user's last words."""
    if not documents:
        return messages
    texts = [f"\n\nDocument ({one.mime_type or 'text/plain'}):\n{text_of(one.content)}" for one in documents]
    for position in reversed(range(len(messages))):
        message = messages[position]
        if isinstance(message, UserMessage):
            content = message.content
            joined = (
                content + "".join(texts)
                if isinstance(content, str)
                else [*content, *(TextPart(text=text) for text in texts)]
            )
            told = message.model_copy(update={"content": joined})
            return [*messages[:position], told, *messages[position + 1 :]]
    raise InvalidRequest("documents: need a message of the user to go with", param="documents")


# --- documents that are remembered ---------------------------------------------------------------------------------


async def _remember(
    stack: ServedStack, session_id: str, documents: Sequence[tuple[int, Document]], caller: Caller
) -> None:
    memory = await stack.memory()
    bank = bank_of(session_id)
    if all(one.identifier != bank for one in await stack.registry.resources(MemoryBank, caller)):
        models = await stack.list_models(caller)
        embeds = any(model.model_type is ModelType.EMBEDDING for model in models)
        await memory.create_bank(
            MemoryBank(
                identifier=bank,
                provider_id="",
                provider_resource_id="",
                bank=VectorBank() if embeds else KeywordBank(),
            ),
            caller,
            name=f"Documents of {session_id}",
            metadata={"session_id": session_id},
        )
    by_id = {document.document_id: (position, document) for position, document in documents}
    statuses = await memory.insert_documents(bank, [document for _, document in by_id.values()], caller)
    for status in statuses:
        if status.state is DocumentState.COMPLETED:
            continue
        await memory.delete_documents(bank, [status.document_id], caller)
        why = status.error.message if status.error is not None else "it was not read"
        code = status.error.code if status.error is not None else None
        position, _ = by_id[status.document_id]
        raise InvalidRequest(f"documents.{position}: {why}", param=f"documents.{position}", code=code)
