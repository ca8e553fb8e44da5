"""The contract of a Tools provider: kept by every search and by Wolfram|Alpha, and broken where it should be."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from llama_stack.api.common import Caller
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult
from llama_stack.errors import InvalidRequest, NotFound, ProviderFailed
from llama_stack.provider import ToolsProvider
from llama_stack.testing.tools_contract import Backend, OpenTools, ToolsContract
from llama_stack_providers.remote import brave_search, ddgs, tavily_search, wolfram_alpha
from llama_stack_providers.remote._ddgs import processes
from tests.providers.remote.upstream import HANG, Reply, json_reply, running
from tests.providers.tools.opening import KEY, OWN_KEY, opened

WORKER = Path(__file__).with_name("ddgs_worker.py")
PAGE = Path(__file__).parent.parent.parent.parent / "docs" / "tools.md"
QUERY_FAULTS: tuple[dict[str, Any], ...] = ({}, {"query": 7}, {"query": ""}, {"query": " \n"}, {"query": "q", "x": 1})


class VendorContract(ToolsContract):
    """A provider with a key in front of a vendor's loopback server, called with a key of the caller's own."""

    provider: ClassVar[ToolsProvider]
    settings: ClassVar[dict[str, Any]] = {}
    good: ClassVar[Reply]
    tool = "web_search"
    arguments = {"query": "llamas"}
    wrong_arguments = QUERY_FAULTS
    secrets = (KEY, OWN_KEY)

    @asynccontextmanager
    async def opened(self, backend: Backend, home: Path) -> AsyncIterator[OpenTools]:
        telling = Reply(400, [f"cannot use the key {OWN_KEY}".encode()])
        reply = {"answers": self.good, "fails": telling, "hangs": Reply(None, then=HANG)}[backend]
        async with (
            running(reply) as upstream,
            opened(self.provider, home, base_url=upstream.url, api_key=KEY, **self.settings) as tools,
        ):
            yield OpenTools(tools, upstream.asked, upstream.hung_up)


class TestBraveSearch(VendorContract):
    provider = brave_search.provider
    caller = Caller(owner="alice", provider_credentials={brave_search.CREDENTIAL: OWN_KEY})
    good = json_reply({"type": "search", "web": {"results": [{"title": "t", "url": "https://t.example"}]}})


class TestTavilySearch(VendorContract):
    provider = tavily_search.provider
    caller = Caller(owner="alice", provider_credentials={tavily_search.CREDENTIAL: OWN_KEY})
    good = json_reply({"results": [{"title": "t", "url": "https://t.example", "content": "c"}]})


class TestWolframLLM(VendorContract):
    provider = wolfram_alpha.provider
    tool = "wolfram_alpha"
    caller = Caller(owner="alice", provider_credentials={wolfram_alpha.CREDENTIAL: OWN_KEY})
    good = Reply(200, [b"Result:\n4"])


class TestWolframFullResults(TestWolframLLM):
    settings = {"api": "full_results"}
    good = json_reply(
        {"queryresult": {"success": True, "pods": [{"title": "Result", "subpods": [{"plaintext": "4"}]}]}}
    )


class TestDdgs(ToolsContract):
    tool = "web_search"
    arguments = {"query": "llamas"}
    wrong_arguments = QUERY_FAULTS

    @pytest.fixture(autouse=True)
    def _patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch

    @asynccontextmanager
    async def opened(self, backend: Backend, home: Path) -> AsyncIterator[OpenTools]:
        body = b"<html><div class='body'><h2>t</h2><a href='https://t.example'>llamas</a></div></html>"
        page = Reply(200, [body], {"content-type": "text/html"})
        broken = Reply(None, raw_head=b"SSH-2.0-OpenSSH_9\r\n\r\n")
        reply = {"answers": page, "fails": broken, "hangs": Reply(None, then=HANG)}[backend]
        async with running(reply) as upstream:
            self.patch.setattr(processes, "COMMAND", [sys.executable, str(WORKER), upstream.url])
            async with opened(ddgs.provider, home, allow_scraping=True) as tools:
                yield OpenTools(tools, upstream.asked, upstream.hung_up)


class TestDocumentedProvider(ToolsContract):
    """The provider in docs/tools.md, as it stands there."""

    tool = "current_time"
    arguments = {"zone": "home"}
    wrong_arguments = ({}, {"zone": 7})

    @asynccontextmanager
    async def opened(self, backend: Backend, home: Path) -> AsyncIterator[OpenTools]:
        if backend != "answers":
            pytest.skip("nothing stands behind a clock")
        [block] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        names: dict[str, Any] = {"__name__": "acme_clock"}
        exec(block, names)  # As the catalog does, without announcing a package for it.
        async with opened(names["provider"], home) as tools:
            yield OpenTools(tools)

    async def test_the_time_and_a_wrong_zone(self, tmp_path: Path) -> None:
        async with self.opened("answers", tmp_path) as under_test:
            right, wrong = [
                await under_test.tools.invoke_tool(self.group, self.tool, {"zone": zone}, self.caller)
                for zone in ("home", "../etc/passwd")
            ]
        assert (right.content, right.is_error) == ("2026-11-21T12:00+00:00", False)
        assert (wrong.content, wrong.is_error) == ("Error: there is no time zone '../etc/passwd'", True)


# --- the contract itself: a provider that breaks a duty does not pass ------------------------------------------------


class Echo:
    """A correct provider without a backend; `flaw` names the duty that it breaks."""

    def __init__(self, backend: Backend, flaw: str | None = None) -> None:
        self.backend = backend
        self.flaw = flaw
        self.asked, self.left = asyncio.Event(), asyncio.Event()
        self.listings = 0
        self.definition = ToolDefinition(name="echo", description="Repeats a text.", parameters={"type": "object"})

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        self.listings += 1
        if self.flaw == "shares its listing":
            return [self.definition]
        name = f"echo{self.listings}" if self.flaw == "renames its tools" else "echo"
        described = None if self.flaw == "does not describe" else "Repeats a text."
        return [
            ToolDefinition(name="echo", description=described),
            ToolDefinition(name=f"{name}_again", description="Repeats a text twice."),
        ]

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller
    ) -> ToolResult:
        if name != "echo" and self.flaw != "runs any tool":
            raise NotFound(f"no tool {name!r}" + (" secret" if self.flaw == "tells when not found" else ""))
        if self.flaw == "asks first":
            self.asked.set()
        if not isinstance(arguments.get("text"), str) and self.flaw != "takes anything":
            raise InvalidRequest("text must be a string" + (" secret" if self.flaw == "tells when refusing" else ""))
        self.asked.set()
        try:
            return await self._answer()
        finally:
            if self.flaw != "never lets go":
                self.left.set()

    async def _answer(self) -> ToolResult:
        if self.backend == "hangs":
            await self._hang()
        if self.backend == "fails" and self.flaw == "raises":
            raise ProviderFailed("broken")
        if self.backend == "fails" and self.flaw != "hides its failures":
            text = {"tells when failing": "secret", "says nothing": " "}.get(self.flaw or "", "it broke")
            return ToolResult(content=text, is_error=True)
        if self.flaw == "always fails":
            return ToolResult(content="no", is_error=True)
        return ToolResult(content="" if self.flaw == "gives nothing" else "echo")

    async def _hang(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self.flaw != "swallows cancellation":
                raise


class EchoContract(ToolsContract):
    tool = "echo"
    arguments = {"text": "hello"}
    wrong_arguments = ({}, {"text": 7})
    secrets = ("secret",)
    flaw: str | None = None

    @asynccontextmanager
    async def opened(self, backend: Backend, home: Path) -> AsyncIterator[OpenTools]:
        echo = Echo(backend, self.flaw)
        yield OpenTools(echo, echo.asked, echo.left)


class TestEcho(EchoContract):
    pass


@pytest.mark.parametrize(
    ("flaw", "duty"),
    [
        ("renames its tools", "tools_are_listed_the_same_every_time"),
        ("shares its listing", "tools_are_listed_the_same_every_time"),
        ("does not describe", "tools_are_listed_the_same_every_time"),
        ("always fails", "a_call_gives_a_result"),
        ("gives nothing", "a_call_gives_a_result"),
        ("always fails", "calls_run_side_by_side"),
        ("runs any tool", "an_unknown_tool_is_not_found"),
        ("tells when not found", "an_unknown_tool_is_not_found"),
        ("takes anything", "arguments_off_the_schema_are_refused"),
        ("asks first", "arguments_off_the_schema_are_refused"),
        ("tells when refusing", "arguments_off_the_schema_are_refused"),
        ("raises", "a_failure_is_a_result_in_words"),
        ("hides its failures", "a_failure_is_a_result_in_words"),
        ("says nothing", "a_failure_is_a_result_in_words"),
        ("tells when failing", "a_failure_is_a_result_in_words"),
        ("swallows cancellation", "cancelling_a_call_stops_it"),
        ("never lets go", "cancelling_a_call_stops_it"),
    ],
)
async def test_a_provider_that_breaks_a_duty_does_not_pass(
    tmp_path: Path, flaw: str, duty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llama_stack.testing.tools_contract.LIMIT_S", 0.05)
    contract = EchoContract()
    contract.flaw = flaw
    test: Callable[[Path], Awaitable[None]] = getattr(contract, f"test_{duty}")
    # Whatever pytest would report as a failed test: an assertion, a missing exception, a limit, a stray error.
    with pytest.raises((AssertionError, pytest.fail.Exception, TimeoutError, ProviderFailed)):
        await test(tmp_path)
