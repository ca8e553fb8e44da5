"""What every Tools provider must do, as tests to inherit.

    class TestAcmeSearch(ToolsContract):
        tool = "web_search"
        arguments = {"query": "llamas"}
        wrong_arguments = ({}, {"query": 7})
        secrets = ("acme-key",)

        @asynccontextmanager
        async def opened(self, backend: Backend, home: Path) -> AsyncIterator[OpenTools]:
            async with loopback_acme(backend) as acme, open_acme(Config(url=acme.url, ...), floor(home)) as tools:
                yield OpenTools(tools, asked=acme.asked, left=acme.hung_up)

The class needs pytest, and pytest-asyncio in its `auto` mode.
"""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from llama_stack.api.common import Caller
from llama_stack.api.messages import text_of
from llama_stack.api.tools import ToolGroup, Tools
from llama_stack.errors import InvalidRequest, NotFound

LIMIT_S = 5.0
"""How long anything that the contract waits for may take."""
SIDE_BY_SIDE = 8

Backend = Literal["answers", "fails", "hangs"]
"""What stands behind the tool: it answers well, refuses or breaks each call, or never answers."""


@dataclass(frozen=True)
class OpenTools:
    """An open provider. asked: set once its backend works on a call. left: set once it no longer does."""

    tools: Tools
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)


class ToolsContract:
    """Inherit it, describe one tool, and write `opened`.

    tool, arguments: a call that succeeds when the backend answers. wrong_arguments: each off the tool's schema.
    secrets: keys that were configured or sent; no error may hold them, so let the backend repeat them when it fails.
    """

    tool: ClassVar[str]
    arguments: ClassVar[dict[str, Any]]
    wrong_arguments: ClassVar[tuple[dict[str, Any], ...]]
    secrets: ClassVar[tuple[str, ...]] = ()
    group: ClassVar[ToolGroup] = ToolGroup(identifier="group", provider_id="provider", provider_resource_id="group")
    caller: ClassVar[Caller] = Caller(owner="alice")

    def opened(self, backend: Backend, home: Path) -> AbstractAsyncContextManager[OpenTools]:
        """The provider, opened in front of such a backend. home: an empty folder of the test's own.

        A provider that has nothing behind it which could fail or hang calls `pytest.skip` for those.
        """
        raise NotImplementedError

    async def test_tools_are_listed_the_same_every_time(self, tmp_path: Path) -> None:
        async with self.opened("answers", tmp_path) as under_test:
            first = await under_test.tools.list_tools(self.group, self.caller)
            names = [tool.name for tool in first]
            assert self.tool in names
            assert len(set(names)) == len(names)
            for tool in first:
                assert tool.description, f"{tool.name} has no description, which is all a model knows of it"
                assert tool.parameters is None or tool.parameters.get("type") == "object"
            expected = [tool.model_copy(deep=True) for tool in first]
            first[0].parameters = {"changed": "by the caller"}
            first.clear()
            assert await under_test.tools.list_tools(self.group, self.caller) == expected

    async def test_a_call_gives_a_result(self, tmp_path: Path) -> None:
        async with self.opened("answers", tmp_path) as under_test:
            result = await self._call(under_test)
        assert not result.is_error, result.content
        assert result.content

    async def test_calls_run_side_by_side(self, tmp_path: Path) -> None:
        async with self.opened("answers", tmp_path) as under_test, asyncio.timeout(LIMIT_S):
            results = await asyncio.gather(*(self._call(under_test) for _ in range(SIDE_BY_SIDE)))
        assert not [result for result in results if result.is_error]

    async def test_an_unknown_tool_is_not_found(self, tmp_path: Path) -> None:
        async with self.opened("answers", tmp_path) as under_test:
            with pytest.raises(NotFound) as raised:
                await under_test.tools.invoke_tool(self.group, "no_such_tool", self.arguments, self.caller)
            assert "no_such_tool" in raised.value.message
            self._holds_no_secret(str(raised.value))
            assert not under_test.asked.is_set()

    async def test_arguments_off_the_schema_are_refused(self, tmp_path: Path) -> None:
        async with self.opened("answers", tmp_path) as under_test:
            for arguments in self.wrong_arguments:
                with pytest.raises(InvalidRequest) as raised:
                    await under_test.tools.invoke_tool(self.group, self.tool, dict(arguments), self.caller)
                self._holds_no_secret(str(raised.value))
            assert not under_test.asked.is_set(), "the backend was asked before the arguments were checked"

    async def test_a_failure_is_a_result_in_words(self, tmp_path: Path) -> None:
        async with self.opened("fails", tmp_path) as under_test:
            result = await self._call(under_test)
        assert result.is_error
        assert text_of(result.content).strip(), "the model is not told what went wrong"
        self._holds_no_secret(result.model_dump_json())

    async def test_cancelling_a_call_stops_it(self, tmp_path: Path) -> None:
        async with self.opened("hangs", tmp_path) as under_test:
            call = asyncio.create_task(self._call(under_test))
            await asyncio.wait_for(under_test.asked.wait(), LIMIT_S)
            call.cancel()
            await asyncio.wait([call], timeout=LIMIT_S)
            assert call.cancelled()
            await asyncio.wait_for(under_test.left.wait(), LIMIT_S)

    async def _call(self, under_test: OpenTools) -> Any:
        return await under_test.tools.invoke_tool(self.group, self.tool, dict(self.arguments), self.caller)

    def _holds_no_secret(self, text: str) -> None:
        assert not [secret for secret in self.secrets if secret in text], "an error holds a secret"
