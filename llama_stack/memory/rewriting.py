"""A question becomes a query: by a template, by a model, or by both."""

from collections.abc import Sequence

from llama_stack.api.answers import collect
from llama_stack.api.common import Caller
from llama_stack.api.inference import ChatRequest, Inference, Sampling
from llama_stack.api.memory import Rewriting
from llama_stack.api.messages import AssistantMessage, Message, UserMessage, text_of
from llama_stack.errors import InvalidRequest
from llama_stack.memory.templates import render

MAX_QUERY_CHARACTERS = 10_000
MAX_QUERY_TOKENS = 128

TEMPLATE = """\
Write one search query that finds the passages needed to answer the last question below. Use the words a document \
would use, put names in place of pronouns, and answer with the query alone.

{% for message in messages %}{{ message.role }}: {{ message.content }}
{% endfor %}"""


class Said(dict[str, str]):
    """A message as a template sees it: its role and its content. Written as it is, it is its content, because the
    messages of the classic client's templates are texts.
    """

    def __str__(self) -> str:
        return self["content"]


async def rewritten(
    rewriting: Rewriting | None, question: str, inference: Inference, caller: Caller, messages: Sequence[Message] = ()
) -> str:
    """The query to search with. A model that says nothing leaves the question as it is.

    messages: the conversation that ends with the question, where there is one.
    Raises InvalidRequest for a template that fails, NotFound for an unknown model.
    """
    if rewriting is None:
        return question[:MAX_QUERY_CHARACTERS]
    said = [
        Said(role=message.role, content=text_of(message.content))
        for message in messages
        if isinstance(message, UserMessage | AssistantMessage)
    ] or [Said(role="user", content=question)]
    if rewriting.model is None and rewriting.template is None:
        raise InvalidRequest("rewriting needs a `model`, a `template` or both", param="rewriting")
    values = {"messages": said, "query": question}
    text = await render(rewriting.template or TEMPLATE, values, param="template")
    if rewriting.model is None:
        return text.strip()[:MAX_QUERY_CHARACTERS] or question
    request = ChatRequest(
        model=rewriting.model,
        messages=[UserMessage(content=text)],
        sampling=Sampling(max_tokens=MAX_QUERY_TOKENS),
        whole=True,
    )
    answer = await collect(inference.stream_chat(request, caller))
    query = text_of(answer.choices[0].message.content).strip().strip('"').strip()
    return query[:MAX_QUERY_CHARACTERS] or question
