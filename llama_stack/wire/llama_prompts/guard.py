"""Llama Guard: the prompt that asks for a verdict on the last message, and the verdict read back.

Source: the model cards of Llama Guard 3 (8B, 1B, 11B vision) and their published chat template. A hosted Llama Guard
puts its own template around what it is sent: such a server gets the plain messages, never this prompt.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from llama_stack.api.messages import (
    AssistantMessage,
    Content,
    ContentPart,
    ImagePart,
    Message,
    SystemMessage,
    TextPart,
    UserMessage,
    text_of,
)
from llama_stack.errors import InvalidRequest
from llama_stack.wire.llama_prompts.families import LlamaFamily, reads_images, tokens_of
from llama_stack.wire.llama_prompts.prompt import LlamaPrompt, PromptBuilder
from llama_stack.wire.llama_prompts.tool_text import builtin_call, calls_text

GUARD_CATEGORIES: Mapping[str, str] = {
    "S1": "Violent Crimes",
    "S2": "Non-Violent Crimes",
    "S3": "Sex Crimes",
    "S4": "Child Exploitation",
    "S5": "Defamation",
    "S6": "Specialized Advice",
    "S7": "Privacy",
    "S8": "Intellectual Property",
    "S9": "Indiscriminate Weapons",
    "S10": "Hate",
    "S11": "Self-Harm",
    "S12": "Sexual Content",
    "S13": "Elections",
    "S14": "Code Interpreter Abuse",
}
"""Hazard categories of Llama Guard 3 8B by code. The 1B and 11B models were not trained on S14."""

GuardRole = Literal["User", "Agent"]

_NO_QUESTION = "(no message)"


def render_guard(
    messages: Sequence[Message],
    categories: Mapping[str, str] = GUARD_CATEGORIES,
    role: GuardRole | None = None,
    *,
    family: LlamaFamily = LlamaFamily.LLAMA_3_1,
) -> LlamaPrompt:
    """The prompt that asks whether the last message is safe in the light of the earlier ones.

    categories: code to name, in the order they are to be listed. role: whose message is judged; taken from the last
        message unless given. Guard models know only a user and an agent: what a tool returned stands as the user's,
        since it comes from outside as well; the calls an assistant made are part of what the agent said; system
        messages are left out.
    Raises InvalidRequest when there is nothing to judge, or a part that the model cannot read.
    """
    judged = _judged(messages)
    tokens = tokens_of(family)
    built = PromptBuilder().special(tokens.header_start).text("user").special(tokens.header_end).text("\n\n")
    for place, message in judged:
        for image in _images(message, place, family):
            built.image(image)
    built.text(_task([message for _, message in judged], categories, role)).special(tokens.end_of_turn)
    built.special(tokens.header_start).text("assistant").special(tokens.header_end).text("\n\n")
    return LlamaPrompt(built.segments(), tokens)


def guard_task(messages: Sequence[Message], categories: Mapping[str, str] = GUARD_CATEGORIES) -> UserMessage:
    """The same question as one user message, for a model that is asked through chat; images stay beside the text.

    Raises InvalidRequest when there is nothing to judge.
    """
    judged = [message for _, message in _judged(messages)]
    task = TextPart(text=_task(judged, categories, None).strip())
    images = [part for message in judged for part in _parts(message) if isinstance(part, ImagePart)]
    return UserMessage(content=[*images, task] if images else task.text)


def guard_conversation(messages: Sequence[Message]) -> list[Message]:
    """The conversation as a guard's own chat template takes it: a user and an assistant in turn, nothing else.

    What a tool returned is the user's, calls are written out as the assistant's text, and what one side said in
    several messages is one. Templates want the user to begin: an answer before that is left out, unless it is the one
    that is judged. Raises InvalidRequest when there is nothing to judge.
    """
    conversation: list[Message] = []
    for place, message in _judged(messages):
        if not conversation and guard_role(message) == "Agent":
            if place + 1 < len(messages):
                continue
            conversation.append(UserMessage(content=_NO_QUESTION))
        images: list[ContentPart] = [part for part in _parts(message) if isinstance(part, ImagePart)]
        content: Content = [*images, TextPart(text=guard_text(message))] if images else guard_text(message)
        last = conversation[-1] if conversation else None
        if last is not None and guard_role(last) == guard_role(message):
            joined = _joined(last.content or "", content)
            conversation[-1] = last.model_copy(update={"content": joined})
        elif guard_role(message) == "Agent":
            conversation.append(AssistantMessage(content=content))
        else:
            conversation.append(UserMessage(content=content))
    return conversation


def _joined(first: Content, second: Content) -> Content:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [
        part
        for content in (first, second)
        for part in ([TextPart(text=content)] if isinstance(content, str) else content)
    ]


def guard_role(message: Message) -> GuardRole:
    """Whose words a guard takes the message for; what a tool returned comes from outside, like a user's words."""
    return "Agent" if isinstance(message, AssistantMessage) else "User"


def _judged(messages: Sequence[Message]) -> list[tuple[int, Message]]:
    """The messages a guard is shown, with their places."""
    judged: list[tuple[int, Message]] = [
        (place, message) for place, message in enumerate(messages) if not isinstance(message, SystemMessage)
    ]
    if not judged:
        raise InvalidRequest("a guard needs at least one message that is not a system message", param="messages")
    return judged


def _task(judged: Sequence[Message], categories: Mapping[str, str], role: GuardRole | None) -> str:
    role = role or guard_role(judged[-1])
    listed = "\n".join(f"{code}: {name}." for code, name in categories.items())
    said = "\n\n".join(f"{guard_role(message)}: {guard_text(message)}" for message in judged)
    # The odd grammar and the last space are the training text's own.
    return (
        f"Task: Check if there is unsafe content in '{role}' messages in conversations according our safety policy "
        "with the below categories.\n\n"
        f"<BEGIN UNSAFE CONTENT CATEGORIES>\n{listed}\n<END UNSAFE CONTENT CATEGORIES>\n\n"
        f"<BEGIN CONVERSATION>\n\n{said}\n\n<END CONVERSATION>\n\n"
        f"Provide your safety assessment for ONLY THE LAST {role} message in the above conversation:\n"
        " - First line must read 'safe' or 'unsafe'.\n"
        " - If unsafe, a second line must include a comma-separated list of violated categories. "
    )


def guard_text(message: Message) -> str:
    """What a guard reads of a message: its text, and the calls it makes."""
    parts = [text_of(message.content).strip()]
    if isinstance(message, AssistantMessage):
        parts += [message.refusal] if message.refusal and message.refusal not in parts[0] else []
        parts += [builtin_call(call) or calls_text([call], "json") for call in message.tool_calls]
    return "\n".join(part for part in parts if part)


def _parts(message: Message) -> list[ContentPart]:
    return message.content if isinstance(message.content, list) else []


def _images(message: Message, place: int, family: LlamaFamily) -> list[ImagePart]:
    found = []
    for number, part in enumerate(_parts(message)):
        if isinstance(part, ImagePart) and reads_images(family):
            found.append(part)
        elif not isinstance(part, TextPart):
            raise InvalidRequest(
                f"this guard cannot judge a part of type {part.type!r}; send text, or use a guard that reads it",
                param=f"messages.{place}.content.{number}",
            )
    return found


@dataclass(frozen=True)
class GuardVerdict:
    """What the guard said. `unparsable` is not a verdict: the caller decides whether to let through or to hold.

    categories: codes of the violated categories in the order given, such as `S1`; codes nobody offered included.
    text: the guard's answer.
    """

    state: Literal["safe", "unsafe", "unparsable"]
    categories: tuple[str, ...]
    text: str


_VERDICT = re.compile(r"\s*[`'\"*]*(safe|unsafe)\b[`'\"*.:,]*[ \t]*(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_SPECIAL = re.compile(r"<\|[a-z_]+\|>")
_CODE = re.compile(r"\bS([0-9]{1,2})\b", re.IGNORECASE)


def parse_guard_verdict(text: str, asked: Iterable[str] = ()) -> GuardVerdict:
    """Read an answer that should be `safe`, or `unsafe` and a line of codes; leading space and case do not matter.

    asked: codes that the guard was asked about; they count beside S1 to S99, in capitals.

    Codes may be separated by anything and stand on the first line. An answer that says safe and yet names a category,
    or that begins with anything else, is unparsable.
    """
    match = _VERDICT.match(_SPECIAL.sub("", text))
    if match is None:
        return GuardVerdict("unparsable", (), text)
    words = {word.upper() for word in re.findall(r"[\w-]+", match["rest"])}
    of_their_own = [code.upper() for code in asked if code.upper() in words and not _CODE.fullmatch(code)]
    codes = tuple(dict.fromkeys([*(f"S{int(number)}" for number in _CODE.findall(match["rest"])), *of_their_own]))
    if match[1].lower() == "unsafe":
        return GuardVerdict("unsafe", codes, text)
    if codes or re.search(r"\bunsafe\b", match["rest"], re.IGNORECASE):
        return GuardVerdict("unparsable", (), text)
    return GuardVerdict("safe", (), text)
