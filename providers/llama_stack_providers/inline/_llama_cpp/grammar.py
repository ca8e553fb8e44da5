"""Answers held to a form: response formats and forced tool calls as grammars the engine enforces.

llama.cpp takes its own GBNF, or llguidance's dialect of Lark where the text begins with `%llguidance`. A wrong GBNF is
refused; a wrong Lark grammar, a bad regular expression or a JSON schema that cannot be enforced is only logged, and
the answer then comes unconstrained. So each Lark grammar is proved on the engine before it is used: wrapped so that a
mark must come first, one token is generated; without the mark, the grammar was not in force.
"""

import asyncio
import json
from typing import Any

from llama_stack.api.inference import (
    GrammarFormat,
    JsonObjectFormat,
    JsonSchemaFormat,
    ResponseFormat,
    TextFormat,
)
from llama_stack.errors import InvalidRequest
from llama_stack_providers.inline._llama_cpp.engine import Engine

LARK = "%llguidance {}\n"
_MARK = "=#="
_REMEMBERED = 256


async def format_grammar(engine: Engine, form: ResponseFormat) -> dict[str, Any]:
    """The engine's fields for a response format. Raises InvalidRequest for what cannot be enforced."""
    match form:
        case TextFormat():
            return {}
        case JsonObjectFormat():
            grammar = json_grammar({"type": "object"})
        case JsonSchemaFormat():
            grammar = json_grammar(form.json_schema)
        case GrammarFormat(syntax="gbnf"):
            if not form.grammar.strip():
                raise InvalidRequest("the grammar is empty", param="response_format")
            return {"grammar": form.grammar}
        case GrammarFormat(syntax="lark"):
            grammar = form.grammar if form.grammar.startswith("%llguidance") else LARK + form.grammar
        case GrammarFormat(syntax="regex"):
            escaped = form.grammar.replace("/", "\\/")
            grammar = f"{LARK}start: /{escaped}/\n"
    await prove(engine, grammar, param="response_format")
    return {"grammar": grammar}


def json_grammar(schema: dict[str, Any]) -> str:
    """Compact-free, single-line JSON that the schema accepts: free whitespace lets a weak model wander for ever."""
    tight = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    return f"{LARK}start: %json {json.dumps({**schema, 'x-guidance': tight})}\n"


async def prove(engine: Engine, grammar: str, *, param: str) -> None:
    """Raise InvalidRequest, with llguidance's reason, when the engine would not enforce this Lark grammar."""
    if grammar in engine.checked_grammars:
        return
    _, _, body = grammar.partition("\n")
    wrapped = f'{LARK}start: "{_MARK}" inner\ninner: %lark {{\n{body}\n}}\n'
    answer = await engine.call(
        "/completion", {"prompt": "a", "n_predict": 4, "temperature": 0, "grammar": wrapped, "cache_prompt": False}
    )
    if not answer["content"].startswith(_MARK):
        await asyncio.sleep(0.1)  # the reason comes over another pipe
        raise InvalidRequest(f"it cannot be enforced: {_reason(engine)}", param=param)
    if len(engine.checked_grammars) >= _REMEMBERED:
        engine.checked_grammars.clear()
    engine.checked_grammars.add(grammar)


def _reason(engine: Engine) -> str:
    said = engine.worker.said("llg error:")
    if said is None:
        return "the grammar does not compile"
    _, _, reason = said.partition("llg error:")
    return " ".join(line.strip() for line in reason.split("\n") if line.strip())[:500]
