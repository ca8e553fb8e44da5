"""Python functions as tools: what the model is told of them, and with what they are called."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from llama_stack.agents import threads
from llama_stack.agents.docstrings import read_docstring
from llama_stack.agents.functions import tool, tool_from_function
from llama_stack.agents.tools import BadArguments, Toolbox
from llama_stack.api.common import JsonObject
from llama_stack.api.messages import ImagePart, TextPart, ToolCall
from llama_stack.api.tools import ToolResult
from llama_stack.errors import InvalidRequest


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


class Place(BaseModel):
    """Where it is."""

    title: str
    floor: int = 0


@dataclass
class Point:
    x: float
    y: float


def parameters(function: Any) -> JsonObject:
    schema = tool_from_function(function).definition.parameters
    assert schema is not None
    return schema


async def run(function: Any, arguments: str) -> ToolResult:
    made = tool_from_function(function)
    return await Toolbox([made]).run(ToolCall(id="1", name=made.definition.name, arguments=arguments))


def test_a_function_becomes_a_definition_a_small_model_can_read() -> None:
    def get_weather(city: str, days: int = 1) -> str:
        """Look up the weather.

        Args:
            city: Name of the city.
            days: Days ahead.
        """
        return ""

    definition = tool_from_function(get_weather).definition
    assert definition.name == "get_weather"
    assert definition.description == "Look up the weather."
    assert definition.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Name of the city."},
            "days": {"type": "integer", "default": 1, "description": "Days ahead."},
        },
        "required": ["city"],
    }


def test_a_function_without_parameters_has_an_empty_object() -> None:
    def now() -> str:
        return ""

    assert parameters(now) == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Annotated[int, Field(ge=1, description="n")], {"type": "integer", "minimum": 1, "description": "n"}),
        (Annotated[str, "its name"], {"type": "string", "description": "its name"}),
    ],
    ids=str,
)  # fmt: skip
def test_annotations_become_json_schema(annotation: Any, schema: JsonObject) -> None:
    def function(value): ...  # type: ignore[no-untyped-def]

    function.__annotations__["value"] = annotation
    assert parameters(function)["properties"]["value"] == schema


def test_enums_and_nested_models_become_definitions_and_keep_a_property_named_title() -> None:
    def move(color: Color, to: Place) -> None: ...

    schema = parameters(move)
    assert schema["$defs"]["Color"] == {"enum": ["red", "blue"], "type": "string"}
    assert schema["$defs"]["Place"] == {
        "description": "Where it is.",
        "properties": {"title": {"type": "string"}, "floor": {"type": "integer", "default": 0}},
        "required": ["title"],
        "type": "object",
    }


async def test_a_function_is_called_with_the_types_it_declares() -> None:
    def move(color: Color, to: Place, points: list[Point], tag: Literal["a"] | None = None) -> str:
        assert isinstance(color, Color) and isinstance(to, Place) and isinstance(points[0], Point)
        return f"{color} {to.title} {to.floor} {points[0].y} {tag}"

    result = await run(move, '{"color": "red", "to": {"title": "attic"}, "points": [{"x": 1, "y": 2}]}')
    assert result == ToolResult(content="red attic 0 2.0 None")


async def test_any_parameter_name_is_allowed() -> None:
    def odd(schema: str, json: int, model_config: bool, copy: str = "c") -> str:
        return f"{schema} {json} {model_config} {copy}"

    assert list(parameters(odd)["properties"]) == ["schema", "json", "model_config", "copy"]
    assert (await run(odd, '{"schema": "s", "json": 1, "model_config": true}')).content == "s 1 True c"


async def test_numbers_written_as_text_are_read_as_numbers() -> None:
    def double(number: int) -> int:
        return 2 * number

    assert (await run(double, '{"number": "21"}')).content == "42"


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({}, "color is required"),
        ({"color": "red", "size": 1}, "size is not a known argument"),
        ({"color": "green"}, "color: input should be 'red' or 'blue', got 'green'"),
        ({"color": "red", "place": {"floor": 1}}, "place.title is required"),
    ],
)
def test_wrong_arguments_are_named(arguments: JsonObject, fault: str) -> None:
    def paint(color: Color, place: Place | None = None) -> None: ...

    with pytest.raises(BadArguments, match=fault):
        tool_from_function(paint).check(arguments)


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        ("text", "text"),
        (None, "done"),
        (7, "7"),
        (True, "true"),
        ({"a": [1, 2]}, '{"a":[1,2]}'),
        ([], "[]"),
        (Place(title="attic"), '{"title":"attic","floor":0}'),
        (Point(1, 2), '{"x":1,"y":2}'),
        (date(2024, 2, 29), "2024-02-29"),
        (range(3), "range(0, 3)"),
        (b"\x00\x01", "2 bytes of binary data, which cannot be shown as text"),
        ([TextPart(text="a"), ImagePart(url="data:,")], [TextPart(text="a"), ImagePart(url="data:,")]),
        (ToolResult(content="no", is_error=True), ToolResult(content="no", is_error=True)),
    ],
    ids=str,
)
async def test_what_a_function_returns_becomes_its_result(answer: Any, content: Any) -> None:
    def give() -> Any:
        return answer

    expected = content if isinstance(content, ToolResult) else ToolResult(content=content)
    assert await run(give, "{}") == expected


async def test_a_plain_function_runs_in_a_thread_and_a_coroutine_function_on_the_loop() -> None:
    def plain() -> bool:
        return threading.current_thread() is threading.main_thread()

    async def coroutine() -> bool:
        asyncio.get_running_loop()
        return threading.current_thread() is threading.main_thread()

    assert (await run(plain, "{}")).content == "false"
    assert (await run(coroutine, "{}")).content == "true"


async def test_a_function_may_yield_what_it_finds() -> None:
    def plain() -> Iterator[str]:
        yield from ("one", str(threading.current_thread() is threading.main_thread()))

    async def coroutine() -> AsyncIterator[str]:
        yield "two"

    assert (await run(plain, "{}")).content == '["one","False"]'
    assert (await run(coroutine, "{}")).content == '["two"]'


async def test_functions_that_hang_keep_nobody_else_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_free", threading.BoundedSemaphore(41))
    let_go, begun = threading.Event(), threading.Semaphore(0)

    def hang() -> None:
        begun.release()
        let_go.wait()

    hanging = [asyncio.create_task(run(hang, "{}")) for _ in range(40)]
    try:
        async with asyncio.timeout(60):
            for _ in hanging:
                await asyncio.sleep(0)
                assert begun.acquire(timeout=60)
            for task in hanging:
                task.cancel()
            await asyncio.wait(hanging)
            assert await threads.in_own_thread(lambda: "quick") == "quick"
            assert await asyncio.to_thread(str, 1) == "1"
            last = asyncio.create_task(run(hang, "{}"))
            await asyncio.to_thread(begun.acquire)
            with pytest.raises(RuntimeError, match="256 calls of functions are running already, or hang"):
                await threads.in_own_thread(let_go.is_set)
            last.cancel()
    finally:
        let_go.set()


async def test_methods_and_partials_and_callable_objects_are_tools() -> None:
    class Store:
        """Keeps things."""

        def find(self, key: str) -> str:
            """Find a value."""
            return f"found {key}"

        async def __call__(self, key: str) -> str:
            return f"called {key}"

    assert (await run(Store().find, '{"key": "k"}')).content == "found k"
    assert (await run(Store(), '{"key": "k"}')).content == "called k"
    assert tool_from_function(Store().find).definition.description == "Find a value."

    part = tool_from_function(partial(Store().find, key="fixed"))
    assert (part.definition.name, part.definition.description) == ("find", "Find a value.")


def test_a_default_that_json_has_not_is_left_out() -> None:
    def limit(most: float = math.inf) -> None:
        """Limit."""

    assert parameters(limit)["properties"] == {"most": {"type": "number"}}


def test_the_decorator_renames_and_leaves_the_function_callable() -> None:
    @tool(name="look_up", description="Look it up.")
    def lookup(key: str) -> str:
        return key.upper()

    @tool
    def shout(text: str) -> str:
        """Say it loud."""
        return text.upper()

    assert lookup("a") == "A"
    assert tool_from_function(lookup).definition.name == "look_up"
    assert tool_from_function(lookup).definition.description == "Look it up."
    assert shout.tool.definition.description == "Say it loud."


def test_string_annotations_are_read() -> None:
    def later(count: "int") -> None: ...

    assert parameters(later)["properties"]["count"] == {"type": "integer"}


def unannotated(city): ...  # type: ignore[no-untyped-def]


def starred(*cities: str) -> None: ...


def keywords(**cities: str) -> None: ...


def unresolved(city: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821


def schemaless(lock: threading.Event) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (unannotated, "unannotated: parameter 'city' has no type annotation; write for example `city: str`"),
        (starred, r"\*cities: str cannot be filled by name"),
        (keywords, r"\*\*cities: str cannot be filled by name"),
        (unresolved, "unresolved: its annotations cannot be read: name 'Nowhere' is not defined"),
        (schemaless, "schemaless: a parameter's type has no JSON Schema"),
        (lambda: "", "'<lambda>' is no name for a tool"),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_refused_with_the_reason(function: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        tool_from_function(function)


def test_two_tools_of_one_name_are_refused() -> None:
    def look() -> None: ...

    with pytest.raises(InvalidRequest, match="two tools are named 'look'"):
        Toolbox([tool_from_function(look), tool_from_function(look)])


# --- docstrings ----------------------------------------------------------------------------------------------------


def google(city: str, unit: str, **more: str) -> None:
    """Look up the weather
    of a city.

    It is never wrong.

    Args:
        city (str, optional): Name of the city: in English,
            or the local one.
        unit: Celsius or not.

    Returns:
        city: not a parameter.

    Raises:
        ValueError: never.
    """


def numpy(city: str, unit: str, x: int, y: int) -> None:
    """Look up the weather
    of a city.

    It is never wrong.

    Parameters
    ----------
    city : str, optional
        Name of the city: in English,
        or the local one.
    unit
        Celsius or not.
    x, y : int
        Where.

    Returns
    -------
    city : str
        Not a parameter.
    """


def sphinx(city: str, unit: str) -> None:
    """Look up the weather
    of a city.

    It is never wrong.

    :param str city: Name of the city: in English,
        or the local one.
    :param unit: Celsius or not.
    :type unit: str
    :returns: nothing
    :raises ValueError: never
    """


@pytest.mark.parametrize("function", [google, numpy, sphinx])
def test_the_three_docstring_styles_say_the_same(function: Any) -> None:
    found = read_docstring(function)
    where = {"x": "Where.", "y": "Where."} if function is numpy else {}
    assert found.description == "Look up the weather of a city.\n\nIt is never wrong."
    assert found.parameters == {
        "city": "Name of the city: in English, or the local one.",
        "unit": "Celsius or not.",
        **where,
    }


def test_no_docstring_says_nothing() -> None:
    def silent() -> None: ...

    found = read_docstring(silent)
    assert (found.description, found.parameters) == ("", {})


@pytest.mark.parametrize("ending", [SystemExit(2), KeyboardInterrupt()], ids=["exit", "interrupt"])
async def test_a_function_that_ends_the_program_is_a_failed_call_and_nobody_waits_for_ever(
    ending: BaseException,
) -> None:
    def quit_now() -> str:
        """Ends it."""
        raise ending

    result = await run(quit_now, "{}")
    assert result.is_error
    assert f"it tried to end the program with {type(ending).__name__}" in str(result.content)


async def test_so_is_a_coroutine_function_that_exits() -> None:
    async def quit_now() -> str:
        """Ends it."""
        raise SystemExit("no more")

    assert "it tried to end the program with SystemExit: no more" in str((await run(quit_now, "{}")).content)
