"""Answers held to a form: response formats and tool calls as grammars that the engine enforces.

llama.cpp takes its own GBNF, or llguidance's dialect of Lark where the text begins with `%llguidance`. A wrong GBNF is
refused; a wrong Lark grammar, a bad regular expression or a JSON schema that cannot be enforced is only logged, and
the answer then comes unconstrained. So each Lark grammar is proved on the engine before it is used: wrapped so that a
mark must come first, a few tokens are generated; without the mark, the grammar was not in force.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from llama_stack.api.inference import (
    ChatRequest,
    GrammarFormat,
    JsonObjectFormat,
    JsonSchemaFormat,
    ResponseFormat,
    TextFormat,
    ToolPromptFormat,
)
from llama_stack.api.tools import NamedToolChoice, ToolDefinition
from llama_stack.errors import InvalidRequest
from llama_stack.wire.grammars import json_object_grammar, json_schema_grammar, tool_grammar
from llama_stack.wire.llama_prompts.families import LlamaFamily
from llama_stack_providers.inline._llama_cpp.engine import Engine

LARK = "%llguidance {}\n"
GBNF_LIMIT = 65_536
GBNF_NESTING_LIMIT = 500
_MARK = "=#="
_REMEMBERED = 256


async def format_grammar(engine: Engine, form: ResponseFormat) -> dict[str, Any]:
    """The engine's fields for a response format. Raises InvalidRequest for what cannot be enforced."""
    match form:
        case TextFormat():
            return {}
        case JsonObjectFormat():
            grammar = json_object_grammar()
        case JsonSchemaFormat():
            grammar = json_schema_grammar(form.json_schema)
        case GrammarFormat(syntax="gbnf"):
            _check_gbnf(form.grammar)
            return {"grammar": form.grammar}
        case GrammarFormat(syntax="lark"):
            grammar = form.grammar if form.grammar.startswith("%llguidance") else LARK + form.grammar
        case GrammarFormat(syntax="regex"):
            grammar = f"{LARK}start: /{_between_slashes(form.grammar)}/\n"
    await prove(engine, grammar, param="response_format")
    return {"grammar": grammar}


def _between_slashes(expression: str) -> str:
    """A regular expression as Lark writes it: slashes escaped that were not, and all on one line."""
    if not expression:
        raise InvalidRequest("the regular expression is empty", param="response_format")
    one_line = expression.replace("\n", "\\n").replace("\r", "\\r")
    return re.sub(r"\\.|/", lambda found: found[0] if len(found[0]) == 2 else "\\/", one_line)


def _check_gbnf(grammar: str) -> None:
    """Refuse what llama.cpp's parser would fail on badly: it recurses without limit and takes quadratic time."""
    if not grammar.strip() or grammar.startswith("%llguidance"):
        raise InvalidRequest("the text is no GBNF grammar; for Lark, set syntax to lark", param="response_format")
    if len(grammar) > GBNF_LIMIT:
        raise InvalidRequest(
            f"a GBNF grammar may have {GBNF_LIMIT} characters, not {len(grammar)}", param="response_format"
        )
    depth = deepest = 0
    for bracket in re.findall(r"[()]", grammar):
        depth += 1 if bracket == "(" else -1
        deepest = max(deepest, depth)
    if deepest > GBNF_NESTING_LIMIT:
        raise InvalidRequest(f"the GBNF grammar nests more than {GBNF_NESTING_LIMIT} deep", param="response_format")


def must_call(request: ChatRequest) -> bool:
    """Whether the answer has to be a tool call."""
    choice = request.tool_choice
    return choice == "required" or (isinstance(choice, NamedToolChoice) and choice.mode == "required")


async def call_grammar(
    engine: Engine,
    request: ChatRequest,
    tools: Sequence[ToolDefinition],
    family: LlamaFamily,
    form: ToolPromptFormat | None,
) -> dict[str, Any]:
    """The engine's fields for the offered tools and the response format together.

    Raises InvalidRequest for a forced or strict tool whose schema cannot be enforced. A tool the model may leave alone
    is then offered without constraint: real tools come with schemas that say more than a grammar can.
    """
    try:
        grammar = await _proved_calls(engine, request, tools, family, form)
    except InvalidRequest:
        if any(tool.strict for tool in tools):
            raise
        loose = [tool.model_copy(update={"parameters": {"type": "object"}}) for tool in tools]
        grammar = await _proved_calls(engine, request, loose, family, form)
    return {} if grammar is None else {"grammar": grammar}


async def _proved_calls(
    engine: Engine,
    request: ChatRequest,
    tools: Sequence[ToolDefinition],
    family: LlamaFamily,
    form: ToolPromptFormat | None,
) -> str | None:
    answer_has_form = not isinstance(request.response_format, TextFormat)
    if answer_has_form and not must_call(request):
        answer = (await format_grammar(engine, request.response_format))["grammar"]
        if not answer.startswith(LARK):
            raise InvalidRequest(
                "tools cannot be combined with a GBNF grammar; write it in Lark", param="response_format"
            )
        names = [tool.name for tool in tools]
        calls = tool_grammar(tools, NamedToolChoice(names=names), family, request.parallel_tool_calls, form=form)
        assert calls is not None
        grammar: str | None = f"{LARK}start: calls | answer\ncalls: {_nested(calls)}\nanswer: {_nested(answer)}\n"
    else:
        grammar = tool_grammar(tools, request.tool_choice, family, request.parallel_tool_calls, form=form)
    if grammar is not None:
        await prove(engine, grammar, param="tools")
    return grammar


def _nested(grammar: str) -> str:
    return f"%lark {{\n{grammar.removeprefix(LARK)}\n}}"


async def prove(engine: Engine, grammar: str, *, param: str) -> None:
    """Raise InvalidRequest, with llguidance's reason, when the engine would not enforce this Lark grammar."""
    if grammar in engine.proved_grammars:
        return
    wrapped = f'{LARK}start: "{_MARK}" inner\ninner: {_nested(grammar)}\n'
    answer = await engine.call(
        "/completion", {"prompt": "a", "n_predict": 4, "temperature": 0, "grammar": wrapped, "cache_prompt": False}
    )
    if not answer["content"].startswith(_MARK):
        await asyncio.sleep(0.1)  # the reason comes over another pipe
        raise InvalidRequest(f"{param} cannot be enforced: {_reason(engine)}", param=param)
    if len(engine.proved_grammars) >= _REMEMBERED:
        engine.proved_grammars.clear()
    engine.proved_grammars.add(grammar)


def _reason(engine: Engine) -> str:
    """llguidance's sentence on standard error, without its place in our wrapping."""
    said = engine.worker.said("llg error:")
    if said is None:
        return "the grammar does not compile"
    lines = [line.strip() for line in said.partition("llg error:")[2].partition("<state>")[0].split("\n")]
    sentence = lines[0].partition("): ")[2] or lines[0]
    # A regular expression's error stands below the expression.
    below = next((line for line in lines[1:] if line.startswith("error: ")), "")
    return f"{sentence[:300]} {below[:300]}".strip()
