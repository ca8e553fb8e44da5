"""Items of the Responses API as the messages of a conversation.

Items lie flat where messages nest: reasoning, text and calls that follow each other are one answer of the model. The
outputs of its calls follow it in the order of the calls, whatever order they came in, because that is what model
servers expect.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import orjson
from pydantic import TypeAdapter

from llama_stack.api.agents import ApprovalDecision
from llama_stack.api.common import JsonObject
from llama_stack.api.messages import (
    AssistantMessage,
    Content,
    ContentPart,
    FilePart,
    ImagePart,
    Message,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from llama_stack.errors import InvalidRequest
from llama_stack.wire.openai_responses.sealing import Window, opened_compaction, summary_message, unsealed

NOT_APPROVED = "This call was not approved and was not made."
NO_RESULT = "Error: no result was given for this call."
READ_AS = "_read_as"
"""Of a part that brings a file: the content part that the model is given in its place."""

_PART: TypeAdapter[ContentPart] = TypeAdapter(ContentPart)


@dataclass
class Told:
    """messages: the conversation; the last answer may have calls that wait for a person's word.

    decisions: what was said of them, by call id. requests: every approval request's id, with the id of its call.
    """

    messages: list[Message] = field(default_factory=list)
    decisions: dict[str, ApprovalDecision] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)

    @property
    def open_calls(self) -> list[ToolCall]:
        """Calls of the last answer that have no output yet."""
        outputs: set[str] = set()
        for message in reversed(self.messages):
            if isinstance(message, ToolMessage):
                outputs.add(message.tool_call_id)
            elif isinstance(message, AssistantMessage):
                return [call for call in message.tool_calls if call.id not in outputs]
            else:
                break
        return []


def tell(items: Iterable[JsonObject], before: Told | None = None, *, earlier: Sequence[JsonObject] = ()) -> Told:
    """The conversation that `before`, the items of `earlier` and the new items make.

    Raises InvalidRequest for an output or an approval without its call, and for a call without its output.
    """
    teller = _Teller(before or Told())
    for item in earlier:
        teller.add(item, "conversation")
    for position, item in enumerate(items):
        teller.add(item, f"input.{position}")
    return teller.finished()


class _Teller:
    """answer: the one under way. waiting: calls of the answer before it whose outputs are being gathered."""

    def __init__(self, before: Told) -> None:
        self._messages = list(before.messages)
        self._requests = dict(before.requests)
        self._decisions: dict[str, ApprovalDecision] = {}
        self._answer: AssistantMessage | None = None
        self._waiting: list[ToolCall] = before.open_calls
        self._outputs: dict[str, ToolMessage] = {}

    def add(self, item: JsonObject, path: str) -> None:
        match item["type"]:
            case "message" if item["role"] == "assistant":
                self._add_said(item)
            case "message":
                self._add_message(item)
            case "reasoning":
                self._add_reasoning(item, path)
            case "function_call":
                self._add_call(item["call_id"], item["name"], item["arguments"])
            case "custom_tool_call":
                self._add_call(item["call_id"], item["name"], orjson.dumps({"input": item["input"]}).decode())
            case "function_call_output" | "custom_tool_call_output":
                self._add_output(item["call_id"], content_of(item["output"]), f"{path}.call_id")
            case "mcp_call":
                self._add_mcp_call(item, path)
            case "mcp_approval_request":
                self._add_request(item)
            case "mcp_approval_response":
                self._decide(item, f"{path}.approval_request_id")
            case "web_search_call" | "code_interpreter_call" | "file_search_call":
                self._add_hosted_call(item, path)
            case "compaction":
                self._add_compaction(item, path)
            case "item_reference":
                raise InvalidRequest(f"{path}.id: there is no item {item['id']!r} here", param=f"{path}.id")

    def finished(self) -> Told:
        """Calls about which something was decided stay open; whoever runs them goes on from there."""
        self._close()
        if self._decisions:
            for call in self._waiting:
                if call.id not in self._outputs and call.id not in self._requests.values():
                    raise _no_output(call, "input")
            self._tell_outputs()
        else:
            self._settle("input")
        return Told(self._messages, self._decisions, self._requests)

    # --- parts of an answer ----------------------------------------------------------------------------------------

    def _add_said(self, item: JsonObject) -> None:
        refusal = "".join(part.get("refusal", "") for part in item["content"]) or None
        text = "".join(part.get("text", "") for part in item["content"]) or None
        begun = self._begun(has_room=lambda answer: answer.content is None and not answer.tool_calls)
        self._answer = begun.model_copy(update={"content": text, "refusal": refusal})

    def _add_reasoning(self, item: JsonObject, path: str) -> None:
        parts = item.get("content") or item.get("summary") or ()
        sealed = item.get("encrypted_content")
        text = "".join(part["text"] for part in parts) or (unsealed(sealed, path) if sealed else "")
        if text:
            begun = self._begun(has_room=lambda answer: False)
            self._answer = begun.model_copy(update={"reasoning": text})

    def _add_call(self, call_id: str, name: str, arguments: str) -> None:
        begun = self._begun(has_room=lambda answer: True)
        call = ToolCall(id=call_id, name=name, arguments=arguments)
        self._answer = begun.model_copy(update={"tool_calls": [*begun.tool_calls, call]})

    def _add_request(self, item: JsonObject) -> None:
        call_id = item.get("_call_id") or item["id"]
        known = self._requests.setdefault(item["id"], call_id)
        # A request that was not answered is made again by the next response.
        if known not in {call.id for call in self._waiting}:
            self._add_call(call_id, item["name"], item["arguments"])

    def _begun(self, has_room: Callable[[AssistantMessage], bool]) -> AssistantMessage:
        """The answer under way if it has room for one more part, or a new one."""
        if self._answer is not None and has_room(self._answer):
            return self._answer
        self._settle("input")
        return AssistantMessage()

    def _add_compaction(self, item: JsonObject, path: str) -> None:
        self._settle(path)
        match opened_compaction(item["encrypted_content"], path):
            case Window() as window:
                self._messages = window.messages
            case summary:
                self._messages.append(summary_message(summary))

    # --- what follows an answer ------------------------------------------------------------------------------------

    def _add_message(self, item: JsonObject) -> None:
        self._settle("input")
        content = content_of(item["content"])
        is_user = item["role"] == "user"
        self._messages.append(UserMessage(content=content) if is_user else SystemMessage(content=content))

    def _add_output(self, call_id: str, content: Content, path: str) -> None:
        self._close()
        call = next((call for call in self._waiting if call.id == call_id), None)
        if call is None or call_id in self._outputs:
            raise InvalidRequest(f"{path}: no call {call_id!r} waits for an output here", param=path)
        self._outputs[call_id] = ToolMessage(tool_call_id=call_id, content=content, name=call.name)

    def _add_mcp_call(self, item: JsonObject, path: str) -> None:
        output, error = item.get("output"), item.get("error")
        content = error_text(error) if error is not None else output if output is not None else NO_RESULT
        self._close()
        call_id = self._requests.get(item.get("approval_request_id") or "")
        if call_id is not None and call_id in {call.id for call in self._waiting}:
            self._decisions.pop(call_id, None)
            self._add_output(call_id, content, path)
        else:
            self._add_pair(item["id"], item["name"], item["arguments"], content, path)

    def _add_hosted_call(self, item: JsonObject, path: str) -> None:
        """A call of a hosted tool tells the model something only where its result is known."""
        result = item.get("_output")
        if item["type"] == "web_search_call":
            arguments = {"query": (item.get("action") or {}).get("query") or ""}
        elif item["type"] == "file_search_call":
            arguments = {"query": "; ".join(item.get("queries") or ())}
            if result is None and item.get("results"):
                result = "\n\n".join(_result_text(one, place) for place, one in enumerate(item["results"], start=1))
        else:
            arguments = {"code": item.get("code") or ""}
            if result is None and item.get("outputs"):
                result = "".join(output.get("logs") or "" for output in item["outputs"])
        if result is not None:
            name = item.get("_name") or item["type"].removesuffix("_call")
            text = item.get("_arguments") or orjson.dumps(arguments).decode()
            self._add_pair(item["id"], name, text, result, path)

    def _add_pair(self, call_id: str, name: str, arguments: str, content: Content, path: str) -> None:
        self._settle("input")
        self._add_call(call_id, name, arguments)
        self._add_output(call_id, content, path)

    def _decide(self, item: JsonObject, path: str) -> None:
        self._close()
        request_id = item["approval_request_id"]
        call_id = self._requests.get(request_id)
        if call_id is None:
            raise InvalidRequest(f"{path}: there is no approval request {request_id!r} here", param=path)
        if call_id in self._decisions or call_id not in {call.id for call in self._waiting}:
            raise InvalidRequest(f"{path}: the approval request {request_id!r} was answered already", param=path)
        reason = item.get("reason")
        self._decisions[call_id] = ApprovalDecision(tool_call_id=call_id, approve=item["approve"], reason=reason)

    # --- ends ------------------------------------------------------------------------------------------------------

    def _close(self) -> None:
        """The answer under way is whole; its calls now wait for their outputs."""
        if self._answer is not None:
            self._messages.append(self._answer)
            self._waiting, self._answer = list(self._answer.tool_calls), None

    def _settle(self, path: str) -> None:
        """Something else follows, so every call must have its output by now; one that nobody approved was not made."""
        self._close()
        for call in self._waiting:
            if call.id in self._outputs:
                continue
            decision = self._decisions.pop(call.id, None)
            if call.id not in self._requests.values() or (decision is not None and decision.approve):
                raise _no_output(call, path)
            reason = f" {decision.reason}" if decision is not None and decision.reason else ""
            content = f"{NOT_APPROVED}{reason}"
            self._outputs[call.id] = ToolMessage(tool_call_id=call.id, content=content, name=call.name)
        self._tell_outputs()
        self._waiting = []

    def _tell_outputs(self) -> None:
        self._messages.extend(self._outputs[call.id] for call in self._waiting if call.id in self._outputs)
        self._outputs = {}


def _no_output(call: ToolCall, path: str) -> InvalidRequest:
    return InvalidRequest(
        f"{path}: the call {call.id!r} of {call.name} has no output yet; send a function_call_output item for it, "
        "or an mcp_approval_response and nothing after it",
        param="input",
    )


def content_of(parts: str | list[JsonObject]) -> Content:
    """A message's parts, or an output's, in our words; several texts and nothing else stay several parts."""
    if isinstance(parts, str):
        return parts
    content = [_part_of(part) for part in parts]
    return content[0].text if len(content) == 1 and isinstance(content[0], TextPart) else content


def _part_of(part: JsonObject) -> ContentPart:
    if READ_AS in part:
        return _PART.validate_python(part[READ_AS])
    match part["type"]:
        case "input_image" if part.get("image_url") is None:
            return FilePart(file_id=part["file_id"])
        case "input_image":
            return ImagePart(url=part["image_url"], detail=part.get("detail"))
        case "input_file":
            return FilePart(file_id=part.get("file_id"), data_url=part.get("file_data"), filename=part.get("filename"))
        case _:
            return TextPart(text=part.get("text") or part.get("refusal") or "")


def _result_text(result: JsonObject, number: int) -> str:
    """A file search's result as a caller hands it back."""
    return f"[{number}] (document {result.get('filename') or result.get('file_id')})\n{result.get('text') or ''}"


def error_text(error: object) -> str:
    """What an MCP call failed with, as the model read it."""
    if not isinstance(error, dict):
        return str(error)
    content = error.get("content", error.get("message"))
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return str(content)
