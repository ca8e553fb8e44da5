"""What a GGUF file's metadata says about how to talk to its model, and what it can do."""

from llama_stack.api.inference import Capabilities
from llama_stack.wire.llama_prompts.families import LlamaFamily, family_for
from llama_stack_providers.inline._llama_cpp.gguf_header import GgufHeader

_LLAMA_3_MARKS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


def llama_family(model: str, header: GgufHeader) -> LlamaFamily | None:
    """The family whose prompts the model reads; None for a model that is no Llama 3.1 or later.

    A file without a telling name is taken for Llama 3.1 where its template writes that family's headers and tools.
    """
    template = header.chat_template
    names = (model, header.path.name, header.name, str(header.values.get("general.basename", "")))
    family = family_for(*names, chat_template=template)
    if family is None and template is not None and all(mark in template for mark in _LLAMA_3_MARKS):
        return LlamaFamily.LLAMA_3_1 if "ipython" in template else None
    return family


def renders_tools(header: GgufHeader) -> bool:
    return "tools" in (header.chat_template or "")


def capabilities_of(model: str, header: GgufHeader) -> Capabilities:
    generates = header.purpose == "chat"
    is_llama = llama_family(model, header) is not None
    chats = generates and (is_llama or header.chat_template is not None)
    tools = chats and (is_llama or renders_tools(header))
    return Capabilities(
        chat=chats,
        completion=generates,
        embedding=header.purpose == "embedding",
        rerank=header.purpose == "rerank",
        tools=tools,
        tool_choice=tools,
        json_schema=generates,
        grammar=generates,
        form_guaranteed=generates,
        logprobs=generates,
        multiple_choices=generates,
        tokens_prompt=True,
        token_counts=True,
        tool_prompt_format=generates and is_llama,
    )
