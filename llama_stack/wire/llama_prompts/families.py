"""The families of Llama models that differ in how a prompt is written, and their special tokens.

Source: Meta's prompt format documents for Llama 3.1, 3.2 and 4 (`prompt_format.md` in the `llama-models` package and
repository) and the tokenizers there.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from llama_stack.api.inference import ToolPromptFormat


class LlamaFamily(StrEnum):
    """llama3.2-vision is apart from llama3.2: it reads images, and its tools are written as those of 3.1."""

    LLAMA_3_1 = "llama3.1"
    LLAMA_3_2 = "llama3.2"
    LLAMA_3_2_VISION = "llama3.2-vision"
    LLAMA_3_3 = "llama3.3"
    LLAMA_4 = "llama4"


@dataclass(frozen=True)
class SpecialTokens:
    """How one vocabulary spells the tokens that structure a prompt.

    end_of_turn: the speaker is done. end_of_message: the speaker waits for a tool's result to go on.
    call_start, call_end: around a call of a builtin tool or code; Llama 3 has no closing one.
    """

    begin_of_text: str
    end_of_text: str
    header_start: str
    header_end: str
    end_of_turn: str
    end_of_message: str
    call_start: str
    call_end: str | None
    image: str


LLAMA_3_TOKENS = SpecialTokens(
    begin_of_text="<|begin_of_text|>",
    end_of_text="<|end_of_text|>",
    header_start="<|start_header_id|>",
    header_end="<|end_header_id|>",
    end_of_turn="<|eot_id|>",
    end_of_message="<|eom_id|>",
    call_start="<|python_tag|>",
    call_end=None,
    image="<|image|>",
)
LLAMA_4_TOKENS = SpecialTokens(
    begin_of_text="<|begin_of_text|>",
    end_of_text="<|end_of_text|>",
    header_start="<|header_start|>",
    header_end="<|header_end|>",
    end_of_turn="<|eot|>",
    end_of_message="<|eom|>",
    call_start="<|python_start|>",
    call_end="<|python_end|>",
    image="<|image|>",
)


def tokens_of(family: LlamaFamily) -> SpecialTokens:
    return LLAMA_4_TOKENS if family is LlamaFamily.LLAMA_4 else LLAMA_3_TOKENS


def stop_tokens(family: LlamaFamily) -> list[str]:
    """Tokens after which the model is done, or waits for a tool: end of turn, end of message, end of text."""
    tokens = tokens_of(family)
    return [tokens.end_of_turn, tokens.end_of_message, tokens.end_of_text]


def preserved_tokens(family: LlamaFamily) -> list[str]:
    """Special tokens the engine must leave in the text it returns, because the parser of calls needs to see them."""
    tokens = tokens_of(family)
    kept = [tokens.call_start, tokens.call_end, tokens.end_of_message, tokens.end_of_turn]
    return [token for token in kept if token is not None]


def default_tool_format(family: LlamaFamily) -> ToolPromptFormat:
    """How the family's own document writes tools: lists of Python calls from the small 3.2 models on, else JSON."""
    return "python_list" if family in (LlamaFamily.LLAMA_3_2, LlamaFamily.LLAMA_4) else "json"


def reads_images(family: LlamaFamily) -> bool:
    return family in (LlamaFamily.LLAMA_3_2_VISION, LlamaFamily.LLAMA_4)


# First match wins. The version is written `3.1`, `3-1`, `3_1` or `3p1`, depending on whose catalogue the name is from.
_NAMES: list[tuple[re.Pattern[str], LlamaFamily]] = [
    (re.compile(pattern), family)
    for pattern, family in [
        (r"llama-?guard-?3-?1b", LlamaFamily.LLAMA_3_2),
        (r"llama-?guard-?3-?11b", LlamaFamily.LLAMA_3_2_VISION),
        (r"llama-?guard-?3", LlamaFamily.LLAMA_3_1),
        (r"llama-?guard-?4", LlamaFamily.LLAMA_4),
        (r"llama-?v?4(?![0-9])", LlamaFamily.LLAMA_4),
        (r"llama-?v?3[.p-]?3(?![0-9])", LlamaFamily.LLAMA_3_3),
        (r"llama-?v?3[.p-]?2(?![0-9]).*(vision|11b|90b)", LlamaFamily.LLAMA_3_2_VISION),
        (r"llama-?v?3[.p-]?2(?![0-9])", LlamaFamily.LLAMA_3_2),
        (r"llama-?v?3[.p-]?1(?![0-9])", LlamaFamily.LLAMA_3_1),
        (r"llama-micro", LlamaFamily.LLAMA_3_1),
    ]
]


def family_for(*names: str, chat_template: str | None = None) -> LlamaFamily | None:
    """The family one of the names belongs to, or None when no name says so.

    names: in order of trust, such as a model id, a file name, and a GGUF's `general.architecture`, `general.name`
        and `general.basename`. Llama 3.0 is not a family here: it knows no tools.
    chat_template: a GGUF's `tokenizer.chat_template`, where there is one. A fine-tune may carry Llama in its name
        and yet speak another format (ChatML, for one); a template without the family's header token tells.
    """
    for name in names:
        plain = re.sub(r"[\s_:]+", "-", name.lower())
        for pattern, family in _NAMES:
            if pattern.search(plain):
                if chat_template is not None and tokens_of(family).header_start not in chat_template:
                    return None
                return family
    return None
