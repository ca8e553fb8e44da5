"""A conversation, written the way a Llama model was trained to read it.

The shape of every message: header start, role, header end, two line ends, the body, end of turn. What differs between
families are the spellings of the special tokens, where offered tools stand, and how calls of them are written.
What Llama has no place for is left out: the names of speakers, and the reasoning of other models.
"""

from collections.abc import Sequence
from datetime import date

from llama_stack.api.inference import ChatRequest, ToolPromptFormat
from llama_stack.api.messages import (
    AssistantMessage,
    Content,
    ImagePart,
    Message,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
    has_images,
    text_of,
)
from llama_stack.api.tools import ToolDefinition
from llama_stack.errors import InvalidRequest, UnsupportedParameter
from llama_stack.wire.llama_prompts.families import (
    LlamaFamily,
    SpecialTokens,
    default_tool_format,
    reads_images,
    tokens_of,
)
from llama_stack.wire.llama_prompts.prompt import LlamaPrompt, PromptBuilder
from llama_stack.wire.llama_prompts.tool_text import (
    CODE_INTERPRETER,
    builtin_call,
    calls_text,
    function_tag_tools,
    json_tools,
    python_list_tools,
    split_builtin,
)

# strftime would write the month in the language of the process's locale.
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def render_chat(request: ChatRequest, *, family: LlamaFamily, today: date) -> LlamaPrompt:
    """The prompt that asks the model for the next assistant message.

    today: the date the model is told; a parameter, so that one request always gives one prompt.
    Raises InvalidRequest, naming the field, for no messages and for content the family cannot read;
    UnsupportedParameter for tools together with images in Llama 3.2.
    """
    if not request.messages:
        raise InvalidRequest("a conversation needs at least one message", param="messages")
    return _Renderer(request, family, today).render()


def offered_tools(request: ChatRequest) -> list[ToolDefinition]:
    """The tools the prompt shows: none when the request forbids calls."""
    return [] if request.tool_choice == "none" else request.tools


class _Renderer:
    """One rendering; holds what all messages of it share."""

    def __init__(self, request: ChatRequest, family: LlamaFamily, today: date) -> None:
        self.family = family
        self.tokens: SpecialTokens = tokens_of(family)
        self.today = today
        self.messages = request.messages
        self.form: ToolPromptFormat = request.tool_prompt_format or default_tool_format(family)
        tools = offered_tools(request)
        # Llama 4 was given no builtin tools: there all tools are written out.
        self.builtin, self.custom = ([], tools) if family is LlamaFamily.LLAMA_4 else split_builtin(tools)
        self.built = PromptBuilder()

    def render(self) -> LlamaPrompt:
        if self.family is LlamaFamily.LLAMA_3_2_VISION and has_images(self.messages) and (self.builtin or self.custom):
            raise UnsupportedParameter("Llama 3.2 cannot call tools while an image is in the prompt", param="tools")
        leading = 0
        while leading < len(self.messages) and isinstance(self.messages[leading], SystemMessage):
            leading += 1
        self._system_block(self.messages[:leading])
        self._offer_before_user(self.messages[leading:])
        for position in range(leading, len(self.messages)):
            self._message(self.messages[position], position)
        self._header("assistant")
        return LlamaPrompt(self.built.segments(), self.tokens)

    # --- the system block ---

    def _system_block(self, leading: Sequence[Message]) -> None:
        for position, message in enumerate(leading):
            self._refuse_parts(message.content, position)
        said = "\n\n".join(text_of(message.content).strip() for message in leading).strip()
        offer = ""
        if self.custom and self.form == "python_list":
            offer = python_list_tools(self.custom, llama_4=self.family is LlamaFamily.LLAMA_4)
        body = "\n\n".join(part for part in (offer, said) if part)
        if self.family is LlamaFamily.LLAMA_4 and not body:
            return
        # Llama 3.2 was taught images without any system message.
        if self.family is LlamaFamily.LLAMA_3_2_VISION and has_images(self.messages) and not body:
            return
        self._header("system")
        self.built.text(self._preamble() + body).special(self.tokens.end_of_turn)

    def _preamble(self) -> str:
        if self.family is LlamaFamily.LLAMA_4:
            return ""
        lines = []
        # In the list form only builtin tools live in the ipython environment; there it would ask for code.
        if self.builtin or (self.custom and self.form != "python_list"):
            lines.append("Environment: ipython\n")
        # The interpreter is switched on by the environment alone and never listed.
        listed = [tool.name for tool in self.builtin if tool.name != CODE_INTERPRETER]
        if listed:
            lines.append(f"Tools: {', '.join(listed)}\n")
        day = f"{self.today.day} {_MONTHS[self.today.month - 1]} {self.today.year}"
        lines.append(f"Cutting Knowledge Date: December 2023\nToday Date: {day}\n\n")
        return "".join(lines)

    # --- the other messages ---

    def _offer_before_user(self, rest: Sequence[Message]) -> None:
        """Tools that stand in user messages: those of the tag form in one of their own, those of the JSON form in the
        first user message, or, where there is none, in one of their own."""
        self.offer_in_user = ""
        if not self.custom or self.form == "python_list":
            return
        if self.form == "function_tag":
            search = any(tool.name == "brave_search" for tool in self.builtin)
            self._turn("user", function_tag_tools(self.custom, brave_search=search))
        elif any(isinstance(message, UserMessage) for message in rest):
            self.offer_in_user = json_tools(self.custom)
        else:
            self._turn("user", json_tools(self.custom).strip())

    def _message(self, message: Message, position: int) -> None:
        match message:
            case SystemMessage(content=content):
                self._refuse_parts(content, position)
                self._turn("system", text_of(content).strip())
            case UserMessage(content=content):
                self._header("user")
                self.built.text(self.offer_in_user)
                self.offer_in_user = ""
                self._user_content(content, position)
                self.built.special(self.tokens.end_of_turn)
            case ToolMessage(content=content):
                self._refuse_parts(content, position)
                self._turn("ipython", text_of(content))
            case AssistantMessage():
                self._assistant(message, position)

    def _assistant(self, message: AssistantMessage, position: int) -> None:
        self._refuse_parts(message.content, position)
        self._header("assistant")
        # What the model said is repeated to the letter, so that an engine can reuse what it has computed for it.
        self.built.text(text_of(message.content) or message.refusal or "")
        end = self.tokens.end_of_turn
        if message.tool_calls:
            as_builtin = (
                [] if self.family is LlamaFamily.LLAMA_4 else [builtin_call(call) for call in message.tool_calls]
            )
            code = any(call.name == CODE_INTERPRETER for call in message.tool_calls)
            if as_builtin and None not in as_builtin and not (code and len(as_builtin) > 1):
                self.built.special(self.tokens.call_start).text(
                    "; ".join(text for text in as_builtin if text is not None)
                )
                end = self.tokens.end_of_message
            else:
                self.built.text(calls_text(message.tool_calls, self.form))
        self.built.special(end)

    def _user_content(self, content: Content, position: int) -> None:
        if isinstance(content, str):
            self.built.text(content.strip())
            return
        # Only the outer edges are stripped: spaces between parts are the caller's.
        parts = [part.text if isinstance(part, TextPart) else part for part in content]
        if parts and isinstance(parts[0], str):
            parts[0] = parts[0].lstrip()
        if parts and isinstance(parts[-1], str):
            parts[-1] = parts[-1].rstrip()
        for number, part in enumerate(parts):
            if isinstance(part, str):
                self.built.text(part)
            elif isinstance(part, ImagePart) and reads_images(self.family):
                self.built.image(part)
            else:
                self._refuse(part.type, position, number)

    # --- shared ---

    def _header(self, role: str) -> None:
        self.built.special(self.tokens.header_start).text(role).special(self.tokens.header_end).text("\n\n")

    def _turn(self, role: str, text: str) -> None:
        self._header(role)
        self.built.text(text).special(self.tokens.end_of_turn)

    def _refuse_parts(self, content: Content | None, position: int) -> None:
        for number, part in enumerate(content if isinstance(content, list) else []):
            if not isinstance(part, TextPart):
                self._refuse(part.type, position, number)

    def _refuse(self, part_type: str, position: int, number: int) -> None:
        raise InvalidRequest(
            f"{self.family.value} cannot read a part of type {part_type!r} in a message of role "
            f"{self.messages[position].role!r}; "
            "send text" + (" or put the image into a user message" if reads_images(self.family) else ""),
            param=f"messages.{position}.content.{number}",
        )
