"""How offered tools, and the calls of them, are written in a Llama prompt.

The wordings are those the models were trained on (Meta's `prompt_format.md` documents and the chat templates published
with the models), so they are data of the format: a word changed here is a model that calls worse.
"""

import json
from collections.abc import Sequence
from typing import Any

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import ToolPromptFormat
from llama_stack.api.messages import ToolCall
from llama_stack.api.tools import BUILTIN_TOOL_NAMES, ToolDefinition

CODE_INTERPRETER = "code_interpreter"

# --- which tools are builtin ---------------------------------------------------------------------------------------


def builtin_argument(name: str) -> str:
    """The one argument of a builtin tool."""
    return "code" if name == CODE_INTERPRETER else "query"


def is_builtin(tool: ToolDefinition) -> bool:
    """Whether the model knows the tool by training: the name of a builtin, and arguments it can have that way.

    A caller's own tool that merely shares the name, with other required arguments, is written out like any tool.
    """
    if tool.name not in BUILTIN_TOOL_NAMES:
        return False
    required = (tool.parameters or {}).get("required", [])
    return set(required) <= {builtin_argument(tool.name)}


def split_builtin(tools: Sequence[ToolDefinition]) -> tuple[list[ToolDefinition], list[ToolDefinition]]:
    """(builtin tools, all others), each in the offered order."""
    builtin = [tool for tool in tools if is_builtin(tool)]
    return builtin, [tool for tool in tools if not is_builtin(tool)]


# --- tools ---------------------------------------------------------------------------------------------------------

JSON_INSTRUCTION = (
    "Given the following functions, please respond with a JSON for a function call with its proper arguments "
    "that best answers the given prompt.\n\n"
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}. '
    "Do not use variables.\n\n"
)


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def json_tools(tools: Sequence[ToolDefinition]) -> str:
    """What stands before the first user's text: the instruction, then each tool as one line of JSON."""
    lines = []
    for tool in tools:
        function: JsonObject = {"name": tool.name}
        if tool.description is not None:
            function["description"] = tool.description
        if tool.parameters is not None:
            function["parameters"] = tool.parameters
        lines.append(_dump({"type": "function", "function": function}) + "\n\n")
    return JSON_INSTRUCTION + "".join(lines)


def function_tag_tools(tools: Sequence[ToolDefinition], *, brave_search: bool) -> str:
    """The user message that offers tools to be called as `<function=name>{...}</function>`.

    brave_search: whether that builtin is offered as well; the reminder then says which goes first.
    """
    offers = []
    for tool in tools:
        schema = tool.parameters or {}
        required = set(schema.get("required", []))
        parameters = {name: _described(sub, name in required) for name, sub in schema.get("properties", {}).items()}
        described = {"name": tool.name, "description": tool.description or "", "parameters": parameters}
        offers.append(f"Use the function '{tool.name}' to '{tool.description or tool.name}':\n{_dump(described)}\n\n")
    search_last = "- If looking for real time information use relevant functions before falling back to brave_search\n"
    return (
        "You have access to the following functions:\n\n"
        + "".join(offers)
        + "Think very carefully before calling functions.\n"
        "If you choose to call a function ONLY reply in the following format with no prefix or suffix:\n\n"
        '<function=example_function_name>{"example_name": "example_value"}</function>\n\n'
        "Reminder:\n"
        + (search_last if brave_search else "")
        + "- Function calls MUST follow the specified format, start with <function= and end with </function>\n"
        "- Required parameters MUST be specified\n"
        "- Only call one function at a time\n"
        "- Put the entire function call reply on one line"
    )


def _described(schema: Any, required: bool) -> JsonObject:
    """One parameter in this format's words: `param_type` for the schema's `type`; the rest of the schema stays."""
    rest = {key: value for key, value in schema.items() if key != "type"} if isinstance(schema, dict) else {}
    param_type = schema.get("type", "any") if isinstance(schema, dict) else "any"
    return {**rest, "param_type": param_type, "required": required}


_LIST_INSTRUCTION_3_2 = (
    "You are an expert in composing functions. You are given a question and a set of possible functions.\n"
    "Based on the question, you will need to make one or more function/tool calls to achieve the purpose.\n"
    "If none of the function can be used, point it out. If the given question lacks the parameters required by "
    "the function,\nalso point it out. You should only return the function call in tools call sections.\n\n"
    "If you decide to invoke any of the function(s), you MUST put it in the format of "
    "[func_name1(params_name1=params_value1, params_name2=params_value2...), func_name2(params)]\n"
    "You SHOULD NOT include any other text in the response.\n\n"
)
# Llama 4 follows instructions of any wording as long as the form of the calls is its own.
_LIST_INSTRUCTION_4 = (
    "You can answer from your own knowledge or call functions.\n\n"
    "Call only functions of the list below, and only when every required parameter is known. To call, output nothing "
    "but the calls, in this format: [func_name1(param1=value1, param2=value2), func_name2(...)]\n"
    "Otherwise answer in plain text: ask for what is missing, or say that no function fits.\n"
    "Once you have the response of a function, answer the user with it in natural language.\n\n"
)


def python_list_tools(tools: Sequence[ToolDefinition], *, llama_4: bool) -> str:
    """The part of a system message that offers tools to be called as `[name(argument=value), ...]`."""
    functions = []
    for tool in tools:
        schema = {"type": "object", "properties": {}, **(tool.parameters or {})}
        if schema["type"] == "object":
            schema["type"] = "dict"
        functions.append({"name": tool.name, "description": tool.description or "", "parameters": schema})
    instruction = _LIST_INSTRUCTION_4 if llama_4 else _LIST_INSTRUCTION_3_2
    listed = json.dumps(functions, ensure_ascii=False, indent=4)
    return f"{instruction}Here is a list of functions in JSON format that you can invoke.\n\n{listed}"


# --- calls ---------------------------------------------------------------------------------------------------------


def builtin_call(call: ToolCall) -> str | None:
    """The call as builtin tools are called: `name.call(query="...")`, or bare code; None when it is not of that form.

    Quotes, backslashes and line ends inside the query are escaped as in a Python string.
    """
    if call.name not in BUILTIN_TOOL_NAMES:
        return None
    key = builtin_argument(call.name)
    arguments = _object_of(call.arguments)
    if arguments is None or set(arguments) != {key} or not isinstance(arguments[key], str):
        return None
    value: str = arguments[key]
    return value if call.name == CODE_INTERPRETER else f'{call.name}.call(query="{_escaped(value)}")'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")


def calls_text(calls: Sequence[ToolCall], form: ToolPromptFormat) -> str:
    """The calls as the model writes calls of tools that are not builtin.

    Arguments that are no JSON object stand as the model wrote them: it then sees what it did.
    """
    if form == "function_tag":
        return "".join(f"<function={call.name}>{_arguments_json(call)}</function>" for call in calls)
    if form == "python_list" and (python := [_python_call(call) for call in calls]) and None not in python:
        return "[" + ", ".join(text for text in python if text is not None) + "]"
    return "; ".join(f'{{"name": {_dump(call.name)}, "parameters": {_arguments_json(call)}}}' for call in calls)


def _object_of(arguments: str) -> JsonObject | None:
    if not arguments.strip():
        return {}
    try:
        value = json.loads(arguments)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _arguments_json(call: ToolCall) -> str:
    arguments = _object_of(call.arguments)
    return call.arguments if arguments is None else _dump(arguments)


def _python_call(call: ToolCall) -> str | None:
    arguments = _object_of(call.arguments)
    if arguments is None or not all(key.isidentifier() for key in arguments):
        return None
    return f"{call.name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
