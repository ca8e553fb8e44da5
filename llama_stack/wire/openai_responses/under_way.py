"""One output item while it is being made: its events, in OpenAI's order, and what it looks like in the end."""

import re
from collections.abc import Sequence
from typing import Any, Protocol

from pydantic_core import from_json

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import TokenLogprob
from llama_stack.api.memory import Citation
from llama_stack.api.messages import Content, ImagePart, ToolMessage, text_of
from llama_stack.wire.openai_answer import encode_token_logprobs
from llama_stack.wire.openai_containers import MadeFiles
from llama_stack.wire.openai_responses.citations import file_citations, file_results, sources_in, url_citations
from llama_stack.wire.openai_responses.sealing import sealed


class Output(Protocol):
    """Where items are made: gives them their places and sends their events."""

    def place(self, item: "Item") -> int: ...

    def emit(self, kind: str, **fields: Any) -> None: ...

    def added(self, item: "Item") -> None: ...

    def done(self, item: "Item") -> None: ...


class Item:
    """index: its place in the output. body: the item as it is now. is_kept: it stays part of the output."""

    def __init__(self, output: Output, body: JsonObject) -> None:
        self.output = output
        self.body = body
        self.is_done = False
        self.is_kept = True
        self._is_cut = False
        self.index = output.place(self)

    def emit(self, kind: str, **fields: Any) -> None:
        self.output.emit(kind, item_id=self.body["id"], output_index=self.index, **fields)

    def begin(self) -> None:
        self.output.added(self)

    def end(self) -> None:
        if self._is_cut and "status" in self.body:
            self.body["status"] = "incomplete"
        self.is_done = True
        self.output.done(self)

    def abandon(self, *, is_kept: bool = False) -> None:
        """End what was begun as incomplete. is_kept: it stays part of the output, because it is not made again."""
        if not self.is_done:
            self.is_kept, self._is_cut = is_kept, True
            self.end()


class ReasoningItem(Item):
    """is_summarised: the caller wants a summary; it is the reasoning itself, whole."""

    def __init__(self, output: Output, item_id: str, *, is_summarised: bool) -> None:
        super().__init__(output, {"id": item_id, "type": "reasoning", "summary": [], "status": "in_progress"})
        self._is_summarised = is_summarised
        self._text: list[str] = []
        self.begin()
        self.body["content"] = []
        if is_summarised:
            self.emit("reasoning_summary_part.added", summary_index=0, part={"type": "summary_text", "text": ""})
        else:
            self.emit("content_part.added", content_index=0, part={"type": "reasoning_text", "text": ""})

    def add(self, text: str) -> None:
        self._text.append(text)
        if self._is_summarised:
            self.emit("reasoning_summary_text.delta", summary_index=0, delta=text)
        else:
            self.emit("reasoning_text.delta", content_index=0, delta=text)

    def end(self) -> None:
        text = "".join(self._text)
        if self._is_summarised:
            part = {"type": "summary_text", "text": text}
            self.emit("reasoning_summary_text.done", summary_index=0, text=text)
            self.emit("reasoning_summary_part.done", summary_index=0, part=part)
            self.body["summary"] = [part]
        else:
            part = {"type": "reasoning_text", "text": text}
            self.emit("reasoning_text.done", content_index=0, text=text)
            self.emit("content_part.done", content_index=0, part=part)
            self.body["content"] = [part]
        self.body["status"] = "completed"
        self.body["encrypted_content"] = sealed(text)
        super().end()


class MessageItem(Item):
    """The model's text, or its refusal, or both, each a part of one message.

    searches: pages that tools have found. citations: of files, in the answer's whole text, in which this message's
    begins at `offset`. made: files that code has written in the container.
    """

    def __init__(self, output: Output, item_id: str) -> None:
        body = {"id": item_id, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        super().__init__(output, body)
        self._text: list[str] = []
        self._logprobs: list[JsonObject] = []
        self._refusal: list[str] = []
        self._parts: list[str] = []
        self.searches: Sequence[Sequence[JsonObject]] = ()
        self.citations: Sequence[Citation] = ()
        self.made: MadeFiles | None = None
        self.container_id = ""
        self.offset = 0
        self.status = "completed"
        self.begin()

    @property
    def text(self) -> str:
        return "".join(self._text)

    @property
    def refusal(self) -> str:
        return "".join(self._refusal)

    def add(self, text: str, logprobs: Sequence[TokenLogprob] = ()) -> None:
        """logprobs: of the tokens of exactly this text, or none."""
        place = self._place("output_text", {"type": "output_text", "text": "", "annotations": [], "logprobs": []})
        encoded = encode_token_logprobs(logprobs)
        self._text.append(text)
        self._logprobs += encoded
        self.emit("output_text.delta", content_index=place, delta=text, logprobs=encoded)

    def refuse(self, text: str) -> None:
        place = self._place("refusal", {"type": "refusal", "refusal": ""})
        self._refusal.append(text)
        self.emit("refusal.delta", content_index=place, delta=text)

    def _place(self, kind: str, part: JsonObject) -> int:
        if kind not in self._parts:
            self._parts.append(kind)
            self.emit("content_part.added", content_index=len(self._parts) - 1, part=part)
        return self._parts.index(kind)

    def end(self) -> None:
        self.body["content"] = [
            self._end_text(place) if kind == "output_text" else self._end_refusal(place)
            for place, kind in enumerate(self._parts)
        ]
        self.body["status"] = self.status
        super().end()

    def _end_text(self, place: int) -> JsonObject:
        text = self.text
        annotations = [
            *url_citations(text, self.searches),
            *file_citations(self.citations, self.offset, len(text)),
            *(self.made.citations(text, self.container_id) if self.made is not None else ()),
        ]
        for number, annotation in enumerate(annotations):
            self.emit(
                "output_text.annotation.added", content_index=place, annotation_index=number, annotation=annotation
            )
        logprobs = self._logprobs
        part: JsonObject = {"type": "output_text", "text": text, "annotations": annotations, "logprobs": logprobs}
        self.emit("output_text.done", content_index=place, text=text, logprobs=logprobs)
        self.emit("content_part.done", content_index=place, part=part)
        return part

    def _end_refusal(self, place: int) -> JsonObject:
        part: JsonObject = {"type": "refusal", "refusal": self.refusal}
        self.emit("refusal.done", content_index=place, refusal=self.refusal)
        self.emit("content_part.done", content_index=place, part=part)
        return part


class CallItem(Item):
    """A call: its arguments come, then they are all said, then it may be run, then it is finished."""

    def __init__(self, output: Output, body: JsonObject) -> None:
        super().__init__(output, body)
        self.arguments = ""
        self.begin()

    def add(self, arguments: str) -> None:
        self.arguments += arguments

    def said(self) -> None:
        """No more arguments will come."""

    def run(self) -> None:
        """The stack begins to run it."""

    def finish(self, result: ToolMessage, is_error: bool, metadata: JsonObject) -> None:
        """The stack has run it."""


class FunctionItem(CallItem):
    """A call of the caller's own tool; finished as soon as it is said."""

    def __init__(self, output: Output, item_id: str, call_id: str, name: str) -> None:
        body = {"id": item_id, "type": "function_call", "status": "in_progress", "call_id": call_id, "name": name}
        super().__init__(output, {**body, "arguments": ""})

    def add(self, arguments: str) -> None:
        super().add(arguments)
        self.emit("function_call_arguments.delta", delta=arguments)

    def said(self) -> None:
        self.body.update(arguments=self.arguments, status="completed")
        self.emit("function_call_arguments.done", name=self.body["name"], arguments=self.arguments)
        self.end()


class CustomItem(CallItem):
    """A call of a tool that takes plain text, which the model was shown as a function with one argument."""

    def __init__(self, output: Output, item_id: str, call_id: str, name: str) -> None:
        self._input = _TextArgument("input")
        body = {"id": item_id, "type": "custom_tool_call", "call_id": call_id, "name": name, "input": ""}
        super().__init__(output, body)

    def add(self, arguments: str) -> None:
        super().add(arguments)
        if delta := self._input.more_of(self.arguments):
            self.emit("custom_tool_call_input.delta", delta=delta)

    def said(self) -> None:
        # A model may also ignore the one argument and write the text as it is.
        self.body["input"] = self._input.text or self.arguments
        self.emit("custom_tool_call_input.done", input=self.body["input"])
        self.end()


class McpItem(CallItem):
    def __init__(self, output: Output, item_id: str, name: str, label: str, request_id: str | None = None) -> None:
        body = {"id": item_id, "type": "mcp_call", "status": "in_progress", "approval_request_id": request_id}
        super().__init__(
            output, {**body, "server_label": label, "name": name, "arguments": "", "output": None, "error": None}
        )
        self.emit("mcp_call.in_progress")

    def add(self, arguments: str) -> None:
        super().add(arguments)
        self.emit("mcp_call_arguments.delta", delta=arguments)

    def said(self) -> None:
        self.body["arguments"] = self.arguments
        self.emit("mcp_call_arguments.done", arguments=self.arguments)

    def run(self) -> None:
        self.body["status"] = "calling"

    def finish(self, result: ToolMessage, is_error: bool, metadata: JsonObject) -> None:
        text = _with_images_told(result.content)
        if is_error:
            error = {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": text}]}
            self.body.update(status="failed", error=error)
            self.emit("mcp_call.failed")
        else:
            self.body.update(status="completed", output=text)
            self.emit("mcp_call.completed")
        self.end()


def _with_images_told(content: Content) -> str:
    """What a tool gave as the one text that this item has room for; a line says where the model is shown an image."""
    if isinstance(content, str) or not any(isinstance(part, ImagePart) for part in content):
        return text_of(content)
    told = "".join("\n[An image.]\n" if isinstance(part, ImagePart) else text_of([part]) for part in content)
    return told.strip("\n")


class WebSearchItem(CallItem):
    def __init__(self, output: Output, item_id: str, name: str) -> None:
        body = {"id": item_id, "type": "web_search_call", "status": "in_progress", "_name": name}
        super().__init__(output, {**body, "action": {"type": "search", "query": "", "queries": []}})
        self.emit("web_search_call.in_progress")

    def said(self) -> None:
        query = _TextArgument("query").more_of(self.arguments)
        self.body["action"] = {"type": "search", "query": query, "queries": [query]}
        self.body["_arguments"] = self.arguments

    def run(self) -> None:
        self.body["status"] = "searching"
        self.emit("web_search_call.searching")

    def finish(self, result: ToolMessage, is_error: bool, metadata: JsonObject) -> None:
        sources = [{"type": "url", "url": source["url"]} for source in sources_in(metadata)]
        self.body["action"] = {**self.body["action"], "sources": sources}
        self.body.update(status="failed" if is_error else "completed", _output=text_of(result.content))
        self.emit("web_search_call.completed")
        self.end()


class FileSearchItem(CallItem):
    def __init__(self, output: Output, item_id: str, name: str) -> None:
        body = {"id": item_id, "type": "file_search_call", "status": "in_progress", "_name": name}
        super().__init__(output, {**body, "queries": [], "results": None})
        self.emit("file_search_call.in_progress")

    def said(self) -> None:
        query = _TextArgument("query").more_of(self.arguments)
        self.body.update(queries=[query] if query else [], _arguments=self.arguments)

    def run(self) -> None:
        self.body["status"] = "searching"
        self.emit("file_search_call.searching")

    def finish(self, result: ToolMessage, is_error: bool, metadata: JsonObject) -> None:
        results = None if is_error else file_results(metadata)
        status = "failed" if is_error else "completed"
        self.body.update(status=status, results=results, _output=text_of(result.content))
        self.emit("file_search_call.completed")
        self.end()


class CodeItem(CallItem):
    def __init__(self, output: Output, item_id: str, name: str, container_id: str) -> None:
        self._code = _TextArgument("code")
        body = {"id": item_id, "type": "code_interpreter_call", "status": "in_progress", "container_id": container_id}
        super().__init__(output, {**body, "code": "", "outputs": None, "_name": name})
        self.emit("code_interpreter_call.in_progress")

    def add(self, arguments: str) -> None:
        super().add(arguments)
        if delta := self._code.more_of(self.arguments):
            self.emit("code_interpreter_call_code.delta", delta=delta)

    def said(self) -> None:
        self.body.update(code=self._code.text, _arguments=self.arguments)
        self.emit("code_interpreter_call_code.done", code=self._code.text)

    def run(self) -> None:
        self.body["status"] = "interpreting"
        self.emit("code_interpreter_call.interpreting")

    def finish(self, result: ToolMessage, is_error: bool, metadata: JsonObject) -> None:
        read = text_of(result.content)
        logs = _logs_in(read)
        outputs: list[JsonObject] = [{"type": "logs", "logs": logs}] if logs else []
        figures = [one for one in metadata.get("figures") or () if isinstance(one, dict) and "url" in one]
        outputs.extend({"type": "image", "url": figure["url"]} for figure in figures)
        if not isinstance(result.content, str):
            images = [part for part in result.content if isinstance(part, ImagePart)]
            outputs.extend({"type": "image", "url": image.url} for image in images)
        self.body.update(status="failed" if is_error else "completed", outputs=outputs, _output=read)
        self.emit("code_interpreter_call.completed")
        self.end()


_STREAM = re.compile(r"\[(stdout|stderr)\](.*?)\[/\1\]", re.DOTALL)


def _logs_in(text: str) -> str:
    """What the code printed, without the marks around it that Llama models know; any other text as it is."""
    printed = [match.group(2) for match in _STREAM.finditer(text)]
    if printed:
        return "\n".join(printed)
    return "" if text.strip() == "completed" else text


class _TextArgument:
    """One text among arguments that are still being written."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.text = ""

    def more_of(self, arguments: str) -> str:
        """What has been added to the text since the last call."""
        try:
            parsed = from_json(arguments, allow_partial="trailing-strings")
        except ValueError:
            return ""
        value = parsed.get(self._name) if isinstance(parsed, dict) else None
        if not isinstance(value, str) or not value.startswith(self.text):
            return ""
        more = value[len(self.text) :]
        self.text = value
        return more
