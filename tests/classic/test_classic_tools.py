"""Tool groups, tools and the tool runtime; and models that a caller registers: as the unmodified client sees them."""

from typing import Any

import pytest
from llama_stack_client import (
    APIStatusError,
    AsyncLlamaStackClient,
    BadRequestError,
    ConflictError,
    InternalServerError,
    NotFoundError,
    UnprocessableEntityError,
)

from llama_stack.api.common import Caller
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult
from llama_stack.errors import ProviderFailed, ProviderUnavailable
from llama_stack.testing.scripted import calls, says
from tests.classic.conftest import Arithmetic, Start
from tests.providers.mcp.conftest import serving
from tests.providers.mcp.workshop import workshop


class Gone(Arithmetic):
    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        raise ProviderUnavailable("gone")


async def test_groups_and_tools_are_listed_and_found(start_agents: Start) -> None:
    tools = {"builtin::math": Arithmetic(), "builtin::gone": Gone()}
    async with start_agents(tools=tools) as server:
        groups = await server.client.toolgroups.list()
        group = await server.client.toolgroups.get("builtin::math")
        everything = await server.client.tools.list()
        of_tool = await server.client.tools.list(toolgroup_id="builtin::math/add")
        bracketed = (
            await server.http.get("/v1/tools?toolgroup_id%5Bname%5D=builtin::math&toolgroup_id[args][y]=2")
        ).json()
        add = await server.client.tools.get("add")
        with pytest.raises(NotFoundError, match="here is no tool 'nope'"):
            await server.client.tools.get("nope")
        with pytest.raises(NotFoundError, match="builtin::nope"):
            await server.client.tools.list(toolgroup_id="builtin::nope")
        with pytest.raises(APIStatusError, match="gone"):
            await server.client.tools.list(toolgroup_id="builtin::gone")
    assert [listed.identifier for listed in groups] == ["builtin::math", "builtin::gone"]
    assert (group.type, group.provider_id, group.mcp_endpoint) == ("tool_group", "tools-0", None)
    assert [tool.identifier for tool in everything] == ["add", "divide"], "a group that is away hides no other"
    assert of_tool == everything
    assert [tool["identifier"] for tool in bracketed["data"]] == ["add", "divide"]
    assert add == everything[0]
    assert (add.type, add.toolgroup_id, add.description) == ("tool", "builtin::math", "Adds two numbers")
    assert add.parameters[0].model_dump() == {
        "name": "x",
        "parameter_type": "integer",
        "description": "number x",
        "required": True,
        "default": None,
    }


async def test_a_tool_is_run(start_agents: Start) -> None:
    tools = Arithmetic()
    async with start_agents(tools={"builtin::math": tools}) as server:
        invoke = server.client.tool_runtime.invoke_tool
        good = await invoke(tool_name="add", kwargs={"x": 2.0, "y": 3})
        bad = await invoke(tool_name="builtin::math/divide", kwargs={"x": 1, "y": 0})
        with pytest.raises(NotFoundError, match="there are: add, divide"):
            await invoke(tool_name="nope", kwargs={})
        refused = await server.http.post("/v1/tool-runtime/invoke", json={"kwargs": {}})
    assert (good.content, good.error_message, good.metadata) == ("5", None, {"source": "head"})
    assert (bad.content, bad.error_message, bad.error_code) == ("division by zero", "division by zero", 1)
    assert tools.seen[0] == {"x": 2, "y": 3}
    assert isinstance(tools.seen[0]["x"], int), "the client makes floats of all numbers"
    assert (refused.status_code, refused.headers["x-should-retry"]) == (400, "false")


class Raising(Arithmetic):
    """A tool that ends with this error."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller
    ) -> ToolResult:
        self.seen.append(arguments)
        raise self._error


@pytest.mark.parametrize("error", [RuntimeError("key sk-1"), SystemExit("key sk-1")], ids=["raises", "exits"])
async def test_a_tool_that_raises_has_failed_and_its_words_stay_in_the_log(
    start_agents: Start, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    tools = Raising(error)
    async with (
        start_agents(tools={"builtin::math": tools}) as server,
        AsyncLlamaStackClient(
            base_url=server.url, max_retries=2, default_headers={"X-Request-Id": "mine-1"}
        ) as patient,
    ):
        result = await patient.tool_runtime.invoke_tool(tool_name="add", kwargs={})
    kind = type(error).__name__
    assert result.error_message == f"add failed with {kind}; the server's log tells more under request id mine-1"
    assert (result.content, result.error_code) == (result.error_message, 1)
    assert "sk-1" not in result.to_json()
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [error]
    assert len(tools.seen) == 1


async def test_what_a_tool_says_of_its_failure_keeps_its_status(start_agents: Start) -> None:
    tools = Raising(ProviderFailed("the shop answered 422: no such thing", upstream_status=422))
    async with start_agents(tools={"builtin::math": tools}) as server:
        with pytest.raises(UnprocessableEntityError, match="the shop answered 422: no such thing"):
            await server.client.tool_runtime.invoke_tool(tool_name="add", kwargs={})


class Unlisted(Arithmetic):
    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        self.seen.append({})
        raise RuntimeError("a word of the inside")


async def test_a_bug_is_told_without_details_and_not_tried_again(start_agents: Start) -> None:
    tools = Unlisted()
    async with (
        start_agents(tools={"builtin::math": tools}) as server,
        AsyncLlamaStackClient(base_url=server.url, max_retries=2) as patient,
    ):
        with pytest.raises(InternalServerError, match="internal error; the server's log") as failed:
            await patient.tool_runtime.invoke_tool(tool_name="add", kwargs={})
    assert "inside" not in str(failed.value)
    assert len(tools.seen) == 1


async def test_a_tool_of_two_groups_is_named_with_its_group(start_agents: Start) -> None:
    first, second = Arithmetic(), Arithmetic()
    async with start_agents(tools={"builtin::one": first, "builtin::two": second}) as server:
        invoke = server.client.tool_runtime.invoke_tool
        with pytest.raises(BadRequestError, match="builtin::one/add, builtin::two/add"):
            await invoke(tool_name="add", kwargs={"x": 1, "y": 1})
        await invoke(tool_name="builtin::two/add", kwargs={"x": 1, "y": 1})
    assert (first.seen, second.seen) == ([], [{"x": 1, "y": 1}])


MCP: Any = {
    "tools": [
        {"provider_id": "mcp", "provider_type": "remote::mcp", "config": {"allow_private_addresses": True}},
    ]
}


async def test_an_mcp_server_is_registered_used_and_removed(start_agents: Start) -> None:
    scripts = (calls(("add", '{"left": 2, "right": 3}')), says("5"))
    async with (
        serving(workshop().streamable_http_app()) as mcp_url,
        start_agents(*scripts, providers=MCP, tools={"builtin::math": Arithmetic()}) as server,
    ):
        endpoint: Any = {"uri": f"{mcp_url}/mcp"}
        seen = await server.client.tool_runtime.list_tools(mcp_endpoint=endpoint)
        groups = server.client.toolgroups
        with pytest.raises(BadRequestError, match="here is no provider 'nope'"):
            await groups.register(toolgroup_id="mcp::shop", provider_id="nope", mcp_endpoint=endpoint)
        await groups.register(toolgroup_id="mcp::shop", provider_id="mcp", mcp_endpoint=endpoint, args={"right": 40})
        group = await groups.get("mcp::shop")
        with pytest.raises(NotFoundError, match=r"There are: builtin::math, mcp::shop\."):
            await server.client.tools.list(toolgroup_id="shops")
        with pytest.raises(ConflictError, match="belongs to the distribution"):
            await groups.register(toolgroup_id="builtin::math", provider_id="mcp")
        of_group = await server.client.tool_runtime.list_tools(tool_group_id="mcp::shop")
        with pytest.raises(BadRequestError, match="kwargs: wrong arguments for add: left"):
            await server.client.tool_runtime.invoke_tool(tool_name="mcp::shop/add", kwargs={})
        result = await server.client.tool_runtime.invoke_tool(tool_name="mcp::shop/add", kwargs={"left": 2})

        agent = await server.client.agents.create(
            agent_config={"model": "scripted", "instructions": "", "toolgroups": ["mcp::shop/add"]}
        )
        session = await server.client.agents.session.create(agent.agent_id, session_name="s")
        turn = await server.client.agents.turn.create(
            session.session_id, agent_id=agent.agent_id, messages=[{"role": "user", "content": "2 + 3?"}]
        )
        await groups.unregister("mcp::shop")
        with pytest.raises(NotFoundError):
            await groups.get("mcp::shop")
        with pytest.raises(ConflictError, match="belongs to the distribution"):
            await groups.unregister("builtin::math")
    names = [tool.name for tool in seen]
    assert "add" in names
    assert [tool.name for tool in of_group] == names
    assert group.mcp_endpoint is not None
    assert (group.mcp_endpoint.uri, group.args) == (f"{mcp_url}/mcp", {"right": 40})
    assert result.content == "42"
    assert turn.steps[1].tool_responses[0].content == "42"


async def test_the_name_that_older_servers_gave_their_mcp_provider_is_known(start_agents: Start) -> None:
    wanted: Any = {"toolgroup_id": "mcp::shop", "provider_id": "model-context-protocol"}
    endpoint: Any = {"uri": "http://127.0.0.1:9/mcp"}
    async with start_agents(providers=MCP) as server:
        with pytest.raises(BadRequestError, match="there is no provider 'model-context-protocol'"):
            await server.client.toolgroups.register(**wanted)
        await server.client.toolgroups.register(**wanted, mcp_endpoint=endpoint)
        group = await server.client.toolgroups.get("mcp::shop")
    async with start_agents() as server:
        with pytest.raises(BadRequestError, match="this stack reaches no MCP servers"):
            await server.client.toolgroups.register(**wanted, mcp_endpoint=endpoint)
    assert group.provider_id == "mcp"


@pytest.mark.parametrize(
    "uri", ["stdio:///bin/sh", "file:///etc/passwd", "http://", "http://x:99999/", "https://a b/mcp", "shop"]
)
async def test_what_is_no_web_address_is_not_registered(start_agents: Start, uri: str) -> None:
    async with start_agents(providers=MCP) as server:
        with pytest.raises(BadRequestError, match="must be an http or https URL with a host") as refused:
            await server.client.toolgroups.register(
                toolgroup_id="mcp::shop", provider_id="mcp", mcp_endpoint={"uri": uri}
            )
        assert await server.client.toolgroups.list() == []
    assert _error_of(refused.value)["param"] == "mcp_endpoint.uri"


async def test_a_group_that_names_no_mcp_server_is_not_registered(start_agents: Start) -> None:
    async with start_agents(providers=MCP) as server:
        with pytest.raises(BadRequestError, match="names no mcp_endpoint") as refused:
            await server.client.toolgroups.register(toolgroup_id="mcp::shop", provider_id="mcp")
        assert await server.client.toolgroups.list() == []
    assert _error_of(refused.value)["param"] == "mcp_endpoint.uri"


async def test_a_group_whose_name_would_be_read_as_a_tool_of_another_is_not_registered(start_agents: Start) -> None:
    async with start_agents(providers=MCP) as server:
        with pytest.raises(BadRequestError, match="must have no '/'") as refused:
            await server.client.toolgroups.register(
                toolgroup_id="a/b", provider_id="mcp", mcp_endpoint={"uri": "http://127.0.0.1:1/mcp"}
            )
    assert _error_of(refused.value)["param"] == "toolgroup_id"


async def test_a_server_that_is_away_is_registered(start_agents: Start) -> None:
    async with start_agents(providers=MCP) as server:
        await server.client.toolgroups.register(
            toolgroup_id="mcp::shop", provider_id="mcp", mcp_endpoint={"uri": "http://127.0.0.1:1/mcp"}
        )
        assert [group.identifier for group in await server.client.toolgroups.list()] == ["mcp::shop"]


def _error_of(refused: APIStatusError) -> Any:
    body: Any = refused.body
    return body["error"]


async def test_without_a_provider_for_it_an_mcp_server_is_refused(start_agents: Start) -> None:
    async with start_agents() as server:
        with pytest.raises(BadRequestError, match="remote::mcp"):
            await server.client.tool_runtime.list_tools(mcp_endpoint={"uri": "http://localhost:1/mcp"})


async def test_a_model_is_registered_used_and_removed(start_agents: Start) -> None:
    async with start_agents(says("hi")) as server:
        models = server.client.models
        made = await models.register(model_id="acme/quick", provider_model_id="scripted", metadata={"tier": "fast"})
        embedding = await models.register(
            model_id="e", model_type="embedding", provider_id="scripted", metadata={"embedding_dimension": 2}
        )
        with pytest.raises(BadRequestError, match=r"metadata\.embedding_dimension: is required"):
            await models.register(model_id="f", model_type="embedding")
        with pytest.raises(BadRequestError, match=r"metadata\.embedding_dimension: must be a whole number"):
            await models.register(model_id="f", model_type="embedding", metadata={"embedding_dimension": "x"})
        with pytest.raises(BadRequestError, match="here is no provider 'nope'"):
            await models.register(model_id="f", provider_id="nope")
        with pytest.raises(ConflictError, match="belongs to the distribution"):
            await models.register(model_id="scripted")
        listed = await models.list()
        answer = await server.client.inference.chat_completion(
            model_id="acme/quick", messages=[{"role": "user", "content": "hello"}]
        )
        with pytest.raises(NotFoundError, match=r"There are: scripted, acme/quick, e\."):
            await server.client.inference.chat_completion(model_id="?", messages=[{"role": "user", "content": "hello"}])
        await models.unregister("acme/quick")
        with pytest.raises(NotFoundError):
            await models.retrieve("acme/quick")
        with pytest.raises(ConflictError):
            await models.unregister("scripted")
    assert (made.identifier, made.provider_id, made.provider_resource_id) == ("acme/quick", "scripted", "scripted")
    assert made.metadata == {"tier": "fast"}
    assert embedding.metadata == {"embedding_dimension": 2.0}
    assert {model.identifier for model in listed} == {"scripted", "acme/quick", "e"}
    assert answer.completion_message.content == "hi"
