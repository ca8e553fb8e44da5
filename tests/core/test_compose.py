"""A distribution becomes a running stack: opening, degrading, recovering, routing and closing."""

import asyncio
import sys
import types
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from llama_stack import registry
from llama_stack.api.answers import collect
from llama_stack.api.common import Caller, HealthStatus
from llama_stack.api.inference import (
    Capabilities,
    ChatEnd,
    ChatEvent,
    ChatRequest,
    ChoiceEnd,
    Inference,
    PartialInference,
    ProviderModel,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from llama_stack.api.messages import AssistantMessage, ImagePart, TextPart, ToolCall, ToolMessage, UserMessage
from llama_stack.api.resources import Model, Shield
from llama_stack.api.tools import NamedToolChoice, ToolChoice, ToolDefinition
from llama_stack.catalog import Catalog
from llama_stack.compose import DATABASE_FILE, LocalStack, open_stack, slots
from llama_stack.distribution import Distribution, StorageSettings
from llama_stack.errors import (
    ConfigError,
    NotFound,
    ProviderFailed,
    ProviderUnavailable,
    StackError,
    UnsupportedParameter,
)
from llama_stack.provider import Ground, InferenceProvider, ProviderConfig
from llama_stack.storage import KeyValueStore, default_url
from llama_stack.testing.scripted_stack import open_scripted_stack

HELLO = ChatRequest(model="m", messages=[UserMessage(content="hello")])
TOOL = ToolDefinition(name="look")


class Config(ProviderConfig):
    api_key: SecretStr | None = None
    url: str = "http://user:hunter2@host"


class Echo(PartialInference):
    """Answers with the name of the model it was asked for, or with the calls it is told to make."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.seen: list[ChatRequest] = []

    async def add_model(self, model: Model) -> Model:
        if model.provider_resource_id == "broken":
            raise ConfigError("broken is no model")
        return model.model_copy(update={"context_length": 4096})

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(vision=False, grammar=False)

    async def list_models(self) -> list[ProviderModel]:
        return [ProviderModel(id="upstream"), ProviderModel(id="more")]

    async def stream_chat(self, request: ChatRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        self.seen.append(request)
        yield TextDelta(text=request.model)
        for index, name in enumerate(self.calls):
            yield ToolCallStart(index=index, id=f"call_{index}", name=name)
            yield ToolCallDelta(index=index, arguments="{}")
        yield ChoiceEnd(finish_reason="tool_calls" if self.calls else "stop")
        yield ChatEnd()


class Doors:
    """What the test provider does when it is opened."""

    def __init__(self) -> None:
        self.echo = Echo()
        self.refuse: Exception | None = None
        self.is_open = asyncio.Event()
        self.hang = False
        self.opened = 0
        self.closed = 0

    @asynccontextmanager
    async def open(self, config: Config, ground: Ground) -> AsyncIterator[Inference]:
        if self.refuse is not None:
            raise self.refuse
        if self.hang:
            await asyncio.Event().wait()
        self.opened += 1
        asyncio.get_running_loop().call_soon(self.is_open.set)
        try:
            yield self.echo
        finally:
            self.closed += 1


@pytest.fixture
def doors() -> Doors:
    return Doors()


@pytest.fixture
def catalog(doors: Doors) -> Iterator[Catalog]:
    module: Any = types.ModuleType("echo_provider_of_tests")
    module.provider = InferenceProvider(summary="echo", config=Config, open=doors.open)
    sys.modules[module.__name__] = module
    module.__spec__ = types.SimpleNamespace(submodule_search_locations=None, name=module.__name__)
    yield Catalog([EntryPoint("remote::echo", module.__name__, "llama_stack.providers")])
    del sys.modules[module.__name__]


def distribution(models: list[dict[str, Any]] | None = None, **config: Any) -> Distribution:
    entry = {
        "provider_id": "echo",
        "provider_type": "remote::echo",
        "config": config,
        "models": [{"identifier": "m", "provider_resource_id": "upstream"}] if models is None else models,
    }
    return Distribution.model_validate({"version": 1, "name": "test", "providers": {"inference": [entry]}})


@pytest.fixture
async def stack(catalog: Catalog) -> AsyncIterator[LocalStack]:
    async with open_stack(distribution(api_key="sk-secret"), catalog=catalog) as stack:
        yield stack


async def test_a_request_reaches_the_owner_under_its_own_name(stack: LocalStack, caller: Caller) -> None:
    answer = await collect(stack.inference.stream_chat(HELLO, caller))
    assert answer.message.content == "upstream"


async def test_any_model_of_a_provider_is_reached_by_prefix(stack: LocalStack, caller: Caller) -> None:
    request = HELLO.model_copy(update={"model": "echo/some/other"})
    assert (await collect(stack.inference.stream_chat(request, caller))).message.content == "some/other"


async def test_models_are_the_listed_ones_then_what_the_provider_adds(stack: LocalStack, caller: Caller) -> None:
    models = await stack.list_models(caller)
    assert [(model.identifier, model.context_length) for model in models] == [("m", 4096), ("echo/more", None)]


async def test_an_unknown_model_is_not_found_and_the_known_ones_are_named(stack: LocalStack, caller: Caller) -> None:
    with pytest.raises(NotFound, match=r"There is no model 'zzz'\. There are: m, echo/more\.") as caught:
        await collect(stack.inference.stream_chat(HELLO.model_copy(update={"model": "zzz"}), caller))
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")


@pytest.mark.parametrize("name", ["z" * 1_000_000, "z\0"], ids=["a megabyte", "with a NUL"])
async def test_what_could_be_no_models_name_is_not_found_and_not_sent_back_whole(
    stack: LocalStack, caller: Caller, name: str
) -> None:
    with pytest.raises(NotFound, match="There is no model 'z") as caught:
        await collect(stack.inference.stream_chat(HELLO.model_copy(update={"model": name}), caller))
    assert caught.value.param == "model"
    assert caught.value.message.endswith("There are: m, echo/more.")
    assert len(caught.value.message) < 10_000


async def test_who_has_registered_many_is_named_some(
    stack: LocalStack, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "HINTED_AT", 2)
    for number in range(4):
        shield = Shield(identifier=f"s{number}", provider_id="", provider_resource_id="")
        await (await stack.registry._store()).register(shield, caller)
    with pytest.raises(NotFound, match=r"there is no shield 'x'; there are: s0, s1$"):
        await stack.registry.resource(Shield, "x", caller)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"response_format": {"type": "grammar", "grammar": 'root ::= "a"'}}, "response_format"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image", "url": "http://x/y.png"}]},
                ]
            },
            "messages",
        ),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL.model_dump()], "tool_choice": {"names": ["other"]}}, "tool_choice"),
    ],
)
async def test_what_the_owner_cannot_do_is_refused_before_any_call(
    stack: LocalStack, doors: Doors, caller: Caller, change: dict[str, Any], param: str
) -> None:
    request = ChatRequest.model_validate({**HELLO.model_dump(), **change})
    with pytest.raises(UnsupportedParameter) as caught:
        stack.inference.stream_chat(request, caller)
    assert caught.value.param == param
    assert doors.echo.seen == []


async def test_tool_choice_none_hides_the_tools_and_drops_a_disobedient_call(
    stack: LocalStack, doors: Doors, caller: Caller
) -> None:
    doors.echo.calls = ["look"]
    request = HELLO.model_copy(update={"tools": [TOOL], "tool_choice": "none"})
    answer = await collect(stack.inference.stream_chat(request, caller))
    assert doors.echo.seen[0].tools == []
    assert answer.message.tool_calls == []
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("choice", ["required", NamedToolChoice(names=["look"])])
async def test_a_required_call_that_does_not_come_is_an_error(
    stack: LocalStack, doors: Doors, caller: Caller, choice: ToolChoice
) -> None:
    request = HELLO.model_copy(update={"tools": [TOOL], "tool_choice": choice})
    with pytest.raises(ProviderFailed) as caught:
        await collect(stack.inference.stream_chat(request, caller))
    assert caught.value.code == "tool_choice_not_honoured"
    doors.echo.calls = ["look"]
    answer = await collect(stack.inference.stream_chat(request, caller))
    assert [call.name for call in answer.message.tool_calls] == ["look"]


async def test_calls_of_tools_that_tool_choice_does_not_name_are_dropped(
    stack: LocalStack, doors: Doors, caller: Caller
) -> None:
    doors.echo.calls = ["other", "look"]
    tools = [TOOL, ToolDefinition(name="other")]
    for choice in (NamedToolChoice(names=["look"]), NamedToolChoice(names=["look"], mode="auto")):
        request = HELLO.model_copy(update={"tools": tools, "tool_choice": choice})
        events = [event async for event in stack.inference.stream_chat(request, caller)]
        calls = [(event.index, event.name) for event in events if isinstance(event, ToolCallStart)]
        assert calls == [(0, "look")]
        assert [event.index for event in events if isinstance(event, ToolCallDelta)] == [0]


async def test_another_call_is_not_the_one_that_was_required(stack: LocalStack, doors: Doors, caller: Caller) -> None:
    doors.echo.calls = ["other"]
    tools = [TOOL, ToolDefinition(name="other")]
    request = HELLO.model_copy(update={"tools": tools, "tool_choice": NamedToolChoice(names=["look"])})
    with pytest.raises(ProviderFailed) as caught:
        await collect(stack.inference.stream_chat(request, caller))
    assert caught.value.code == "tool_choice_not_honoured"


async def test_a_choice_among_some_tools_may_end_without_a_call(
    stack: LocalStack, doors: Doors, caller: Caller
) -> None:
    tools = [TOOL, ToolDefinition(name="other")]
    choice = NamedToolChoice(names=["look"], mode="auto")
    request = HELLO.model_copy(update={"tools": tools, "tool_choice": choice})
    answer = await collect(stack.inference.stream_chat(request, caller))
    assert (answer.message.tool_calls, answer.choices[0].finish_reason) == ([], "stop")
    doors.echo.calls = ["other"]
    answer = await collect(stack.inference.stream_chat(request, caller))
    assert (answer.message.tool_calls, answer.choices[0].finish_reason) == ([], "stop")


async def test_a_model_that_cannot_see_is_told_of_an_image_that_a_tool_gave(
    stack: LocalStack, doors: Doors, caller: Caller
) -> None:
    image = ImagePart(url="data:image/png;base64,iVBORw0KGgo=")
    call = AssistantMessage(tool_calls=[ToolCall(id="c", name="look", arguments="{}")])
    result = ToolMessage(tool_call_id="c", content=[TextPart(text="a plot"), image])
    request = HELLO.model_copy(update={"messages": [*HELLO.messages, call, result], "tools": [TOOL]})
    await collect(stack.inference.stream_chat(request, caller))
    *_, seen = doors.echo.seen[0].messages
    assert seen.content == [TextPart(text="a plot"), TextPart(text="[An image, which this model cannot see.]")]


@pytest.mark.parametrize("sees", [True, False])
async def test_the_metadata_of_a_model_say_whether_it_sees(
    catalog: Catalog, doors: Doors, caller: Caller, sees: bool
) -> None:
    models = [{"identifier": "m", "metadata": {"vision": sees}}]
    image = ImagePart(url="data:image/png;base64,iVBORw0KGgo=")
    call = AssistantMessage(tool_calls=[ToolCall(id="c", name="look", arguments="{}")])
    given = HELLO.model_copy(update={"messages": [call, ToolMessage(tool_call_id="c", content=[image])]})
    sent = HELLO.model_copy(update={"messages": [UserMessage(content=[image])]})
    async with open_stack(distribution(models), catalog=catalog) as stack:
        assert stack.inference.capabilities("m").vision is sees
        await collect(stack.inference.stream_chat(given, caller))
        assert (doors.echo.seen[0].messages[-1].content == [image]) is sees
        if not sees:
            with pytest.raises(UnsupportedParameter, match="read images"):
                await collect(stack.inference.stream_chat(sent, caller))


async def test_no_secret_is_shown_in_the_providers_listing(stack: LocalStack, caller: Caller) -> None:
    [state] = await stack.providers(caller)
    assert state.config == {"api_key": "**********", "url": "http://user:**********@host"}
    assert "sk-secret" not in repr(state)


async def test_an_unreachable_provider_is_degraded_and_recovers_by_itself(
    doors: Doors, catalog: Catalog, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "FIRST_RETRY_S", 0.01)
    doors.refuse = ProviderUnavailable("nobody answers at host:80")
    async with open_stack(distribution(), catalog=catalog) as stack:
        [state] = await stack.providers(caller)
        assert (state.health.status, state.health.message) == (HealthStatus.DEGRADED, "nobody answers at host:80")
        with pytest.raises(ProviderUnavailable, match="nobody answers at host:80"):
            stack.inference.stream_chat(HELLO, caller)
        doors.refuse = None
        async with asyncio.timeout(60):
            await doors.is_open.wait()
        assert (await stack.providers(caller))[0].health.status is HealthStatus.OK
        assert (await collect(stack.inference.stream_chat(HELLO, caller))).message.content == "upstream"
    assert (doors.opened, doors.closed) == (1, 1)


async def test_a_wrong_setting_stops_the_start_and_closes_what_was_open(doors: Doors, catalog: Catalog) -> None:
    broken = distribution(models=[{"identifier": "broken"}])
    with pytest.raises(ConfigError, match="broken is no model"):
        async with open_stack(broken, catalog=catalog):
            pytest.fail("must not open")
    assert (doors.opened, doors.closed) == (1, 1)


async def test_a_provider_that_hangs_while_it_opens_can_be_given_up(doors: Doors, catalog: Catalog) -> None:
    doors.hang = True
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), open_stack(distribution(), catalog=catalog):
            pytest.fail("must not open")


async def test_state_is_opened_on_first_use_and_kept_under_the_home(
    catalog: Catalog, tmp_path: Path, caller: Caller
) -> None:
    async with open_stack(distribution(), catalog=catalog, home=tmp_path) as stack:
        assert not (tmp_path / "stack.db").exists()
        values = KeyValueStore(await stack.database())
        await values.put("notes", "a", {"n": 1}, caller)
        assert await stack.database() is await stack.database()
    assert (tmp_path / "stack.db").exists()


async def test_a_database_that_was_configured_is_opened_at_the_start(catalog: Catalog, tmp_path: Path) -> None:
    chosen = distribution().model_copy(update={"storage": StorageSettings(url=f"sqlite:///{tmp_path}/mine.db")})
    async with open_stack(chosen, catalog=catalog):
        assert (tmp_path / "mine.db").exists()
    wrong = chosen.model_copy(update={"storage": StorageSettings(url="mysql://host/db")})
    with pytest.raises(ConfigError, match="storage"):
        async with open_stack(wrong, catalog=catalog):
            pytest.fail("must not open")


async def test_an_error_inside_the_context_comes_out_as_it_is(doors: Doors, catalog: Catalog) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_stack(distribution(), catalog=catalog):
            raise KeyError("mine")
    assert doors.closed == 1


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"provider_id": "a", "provider_type": "remote::ecco"}], "Did you mean remote::echo?"),
        (
            [{"provider_id": "a", "provider_type": "remote::echo", "config": {"api_kee": "x"}}],
            r"config.api_kee is not a known key; did you mean 'api_key'?",
        ),
        ([{"provider_id": "a", "provider_type": "remote::echo"}] * 2, "two providers have the id 'a'"),
        (
            [
                {"provider_id": "a", "provider_type": "remote::echo", "models": [{"identifier": "m"}]},
                {"provider_id": "b", "provider_type": "remote::echo", "models": [{"identifier": "m"}]},
            ],
            "'m' stands under 'a' and 'b'",
        ),
    ],
)
async def test_a_wrong_distribution_is_refused(catalog: Catalog, entries: list[dict[str, Any]], message: str) -> None:
    wrong = Distribution.model_validate({"version": 1, "name": "t", "providers": {"inference": entries}})
    with pytest.raises(StackError) as caught:
        async with open_stack(wrong, catalog=catalog):
            pytest.fail("must not open")
    assert message in caught.value.message


async def test_a_provider_under_another_api_is_refused(catalog: Catalog) -> None:
    entry = {"provider_id": "a", "provider_type": "remote::echo"}
    wrong = Distribution.model_validate({"version": 1, "name": "t", "providers": {"safety": [entry]}})
    with pytest.raises(ConfigError, match=r"Move it to providers\.inference"):
        async with open_stack(wrong, catalog=catalog):
            pytest.fail("must not open")


async def test_a_stack_that_never_kept_anything_opens_no_database_to_take_up_work(tmp_path: Path) -> None:
    async with open_scripted_stack(home=tmp_path) as stack:
        await stack.take_up()
        assert not (tmp_path / DATABASE_FILE).exists()
        await stack.database()
    assert default_url(tmp_path) == f"sqlite:///{tmp_path / DATABASE_FILE}"
    async with open_scripted_stack(home=tmp_path) as stack:
        await stack.take_up()
        began = [task.get_name() for task in asyncio.all_tasks()]
        await stack.responses()
        assert [task.get_name() for task in asyncio.all_tasks()] == began
