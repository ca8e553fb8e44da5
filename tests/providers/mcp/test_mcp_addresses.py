"""A caller's URL leads to the public internet or nowhere."""

import httpx
import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from llama_stack.errors import InvalidRequest, ProviderFailed, ProviderUnavailable
from llama_stack.transport import Client
from llama_stack_providers.remote._mcp.addresses import Resolve, is_public, public_addresses
from llama_stack_providers.remote._mcp.bridge import Bridge
from tests.providers.mcp.conftest import ALICE, Open, group_at, serving
from tests.providers.mcp.workshop import workshop


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.8.8.8", "169.254.169.254", "172.16.0.1", "192.168.1.1",
        "192.0.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1",
        "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "fc00::1", "fd00:ec2::254", "fe80::1",
        "fe80::1%eth0", "fec0::1", "ff02::1", "not-an-address",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "::ffff:1.1.1.1", "64:ff9b::101:101", "2606:4700::1111", "2002:101:101::1"]
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/mcp", "http://localhost:{port}/mcp", "http://LOCALHOST.:{port}/mcp",
        "http://127.1:{port}/mcp", "http://2130706433:{port}/mcp", "http://0x7f000001:{port}/mcp",
        "http://0.0.0.0:{port}/mcp", "http://[::1]:{port}/mcp", "http://[::ffff:127.0.0.1]:{port}/mcp",
        "http://user:pass@127.0.0.1:{port}/mcp", "http://169.254.169.254/latest/meta-data", "http://10.0.0.1/mcp",
    ],
)  # fmt: skip
async def test_a_callers_url_into_our_network_is_refused_before_anything_is_sent(url: str, open_tools: Open) -> None:
    asked: list[str] = []

    async def listening(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serving(listening, lifespan="off") as base, open_tools(connect_timeout_s=60) as tools:
        group = group_at(url.format(port=base.rpartition(":")[2]), from_caller=True)
        with pytest.raises((InvalidRequest, ProviderUnavailable), match=r"server's own network|no host named"):
            await tools.list_tools(group, ALICE)
    assert asked == []


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "file:///etc/passwd", "mcp", "http://", "http://x:99999/", "http://a b/"]
)
async def test_what_is_no_web_address_is_refused(url: str, open_tools: Open) -> None:
    async with open_tools() as tools:
        with pytest.raises(InvalidRequest, match="must be an http or https URL"):
            await tools.list_tools(group_at(url), ALICE)


async def test_an_operator_may_let_callers_in(open_tools: Open) -> None:
    server = workshop()
    async with serving(server.streamable_http_app()) as base:
        async with open_tools(allow_private_addresses=True) as tools:
            assert await tools.list_tools(group_at(f"{base}/mcp", from_caller=True), ALICE)
        async with open_tools() as tools:
            assert await tools.list_tools(group_at(f"{base}/mcp"), ALICE)
            # The session that the distribution's group opened is not the caller's group's.
            with pytest.raises(InvalidRequest, match="allow_private_addresses"):
                await tools.list_tools(group_at(f"{base}/mcp", from_caller=True), ALICE)


def resolver(*answers: list[str]) -> Resolve:
    """Gives each question the next answer; the last one again and again."""
    left = list(answers)

    async def resolve(host: str, port: int) -> list[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


async def test_one_private_address_among_public_ones_is_enough() -> None:
    with pytest.raises(InvalidRequest, match=r"host example\.com is inside the server's own network"):
        await public_addresses("example.com", 80, resolver(["93.184.216.34", "10.0.0.7"]))


def bridge(transport: httpx.MockTransport, resolve: Resolve) -> httpx2.AsyncClient:
    passage = Bridge(
        Client(transport=transport),
        resolve=resolve,
        max_answer_bytes=1000,
        answers_elsewhere=False,
        end=lambda reason: None,
    )
    return httpx2.AsyncClient(transport=passage)


async def test_the_connection_goes_to_the_address_that_was_checked_under_the_hosts_name() -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json={})

    client = bridge(httpx.MockTransport(answer), resolver(["93.184.216.34"], ["127.0.0.1"]))
    await client.get("https://example.com:8443/mcp?a=b")
    assert str(sent[0].url) == "https://93.184.216.34:8443/mcp?a=b"
    assert sent[0].headers["host"] == "example.com:8443"
    assert sent[0].extensions["sni_hostname"] == "example.com"
    # The name changes its mind: what is checked again is refused.
    with pytest.raises(InvalidRequest, match="own network"):
        await client.get("https://example.com:8443/mcp")
    assert len(sent) == 1


async def test_a_host_that_answers_at_its_second_address_is_reached() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "2606:4700::1111":
            raise httpx.ConnectError("no route")
        return httpx.Response(200, text="here")

    client = bridge(httpx.MockTransport(answer), resolver(["2606:4700::1111", "1.1.1.1"]))
    assert (await client.get("http://example.com/")).text == "here"


async def test_a_redirect_to_our_network_is_refused() -> None:
    """The SDK follows redirects to the same origin only; one that leads back to a name is resolved and checked anew."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(307, headers={"location": "http://example.com/there"})

    client = bridge(httpx.MockTransport(answer), resolver(["1.1.1.1"], ["169.254.169.254"]))
    with pytest.raises(InvalidRequest, match="own network"):
        await client.get("http://example.com/here", follow_redirects=True)


async def test_a_name_nobody_knows() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise OSError("Name or service not known")

    with pytest.raises(ProviderFailed, match="there is no host named nowhere"):
        await public_addresses("nowhere.invalid", 80, resolve)
