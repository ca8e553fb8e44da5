"""`llama stack run`, really started and stopped; and every way in which it refuses to start."""

import asyncio
import re
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from llama_stack.api.resources import Model
from llama_stack.cli.stack_run import MOST_SHOWN, banner
from llama_stack.distribution import ServerSettings, load_distribution
from tests.cli.loopback_hub import loopback_hub
from tests.cli.running import (
    STOP_LIMIT_S,
    Llama,
    assert_refused,
    process_group_is_gone,
    run_stack,
    start_llama,
)

Write = Callable[..., str]
INTERRUPTED = 130


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


@pytest.mark.engine
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
async def test_the_starter_serves_and_stops_on_a_signal(number: int, micro_model: Path, stack_home: Path) -> None:
    port = free_port()
    async with run_stack("starter", "--port", port, "--model", str(micro_model)) as stack:
        assert stack.url == f"http://127.0.0.1:{port}"
        for word in ("starter", micro_model.stem, "all-minilm-l6-v2", "inline::llama-cpp ", str(stack_home)):
            assert word in stack.banner
        async with httpx.AsyncClient(timeout=60) as client:
            url, headers, body = curl_of(stack.banner)
            answer = await client.post(url, headers=headers, content=body)
            assert answer.status_code == 200, answer.text
            assert answer.json()["choices"][0]["message"]["content"]
        code, out, err = await stack.stop(number)
    assert (code, out) == (0, "Stopped.\n")
    assert "POST /v1/chat/completions 200" in err
    assert "Traceback" not in err
    assert process_group_is_gone(stack.process.pid)


def curl_of(banner: str) -> tuple[str, dict[str, str], bytes]:
    """URL, headers and body of the command the banner offers."""
    found = re.search(r"curl .*\\\n.*", banner)
    assert found is not None, banner
    words = shlex.split(found[0].replace("\\\n", " "))
    name, _, value = words[words.index("-H") + 1].partition(": ")
    return words[1], {name: value}, words[words.index("-d") + 1].encode()


@pytest.mark.engine
async def test_a_file_and_flags_make_what_show_resolves(
    micro_model: Path, write_distribution: Write, llama: Llama
) -> None:
    file = write_distribution(engine_distribution(micro_model))
    flags = (file, "--port", free_port(), "--set", "providers.inference.llama-cpp.config.parallel_slots=2")
    async with run_stack(*flags) as stack, httpx.AsyncClient() as client:
        states = (await client.get(f"{stack.url}/v1/providers")).json()["data"]
    shown = llama("stack", "show", *flags, "--resolved", "--json")
    assert '"value": 2,\n      "origin": "--set"' in shown.stdout
    assert states[0]["config"]["parallel_slots"] == 2


def engine_distribution(model: Path | str, more: str = "") -> str:
    return (
        "version: 1\nname: mine\nproviders:\n  inference:\n    - provider_id: llama-cpp\n"
        "      provider_type: inline::llama-cpp\n      models:\n"
        f"        - {{identifier: micro, provider_resource_id: '{model}'}}\n{more}"
    )


async def test_what_the_file_says_of_the_server_holds(write_distribution: Write) -> None:
    port = free_port()
    file = write_distribution(
        f"version: 1\nname: mine\nserver: {{host: localhost, port: {port}, max_body_bytes: 2000, "
        "cors_origins: ['https://page.test']}\nproviders: {}\n"
    )
    async with run_stack(file) as stack, httpx.AsyncClient() as client:
        assert stack.url == f"http://localhost:{port}"
        chat = f"{stack.url}/v1/chat/completions"
        large = await client.post(chat, json={"model": "m", "messages": [{"role": "user", "content": "x" * 3000}]})
        asked = {"Origin": "https://page.test", "Access-Control-Request-Method": "POST"}
        allowed = await client.options(chat, headers=asked)
        refused = await client.options(chat, headers=asked | {"Origin": "https://other.test"})
    assert large.status_code == 413
    assert allowed.headers["access-control-allow-origin"] == "https://page.test"
    assert "access-control-allow-origin" not in refused.headers


def test_a_long_list_of_models_is_cut_and_an_open_door_is_named(write_distribution: Write) -> None:
    distribution = load_distribution(write_distribution("version: 1\nname: mine\nproviders: {}\n"))
    everywhere = distribution.model_copy(update={"server": ServerSettings(host="0.0.0.0")})
    models = [Model(identifier=f"m{n}", provider_id="p", provider_resource_id="m") for n in range(30)]
    said = banner("http://0.0.0.0:8321", everywhere, models, [])
    assert f"and {30 - MOST_SHOWN} more: http://localhost:8321/v1/models" in said
    assert said.count("  llm  p\n") == MOST_SHOWN
    assert "Every machine that can reach this one may use it." in said
    assert "Every machine" not in banner("http://127.0.0.1:8321", distribution, models, [])


@pytest.mark.engine
async def test_quiet_says_nothing(micro_model: Path, write_distribution: Write) -> None:
    file, port = write_distribution(engine_distribution(micro_model)), free_port()
    async with start_llama("stack", "run", file, "--quiet", "--port", port) as process:
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(retries=6)) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/v1/health")).status_code == 200
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), STOP_LIMIT_S)
    assert (process.returncode, out, err) == (0, b"", b"")


@pytest.mark.engine
async def test_a_model_of_the_hub_is_fetched_first(micro_model: Path, write_distribution: Write) -> None:
    content = await asyncio.to_thread(micro_model.read_bytes)
    with loopback_hub({"acme/micro": {"micro.gguf": content}}) as hub:
        file = write_distribution(engine_distribution("hf:acme/micro/micro.gguf"))
        async with run_stack(file, "--port", free_port(), HF_ENDPOINT=hub.url) as stack:
            assert "micro  llm" in stack.banner
            _, _, err = await stack.stop()
        assert "micro.gguf: 100 % of" in err
        assert hub.ranges == [""]
        async with run_stack(file, "--port", free_port(), HF_HUB_OFFLINE="1"):
            pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
async def test_a_start_can_be_interrupted(number: int, write_distribution: Write) -> None:
    with loopback_hub({"acme/micro": {"micro.gguf": b"GGUF" * 1000}}) as hub:
        hub.stall = threading.Event()
        file = write_distribution(engine_distribution("hf:acme/micro/micro.gguf"))
        async with start_llama("stack", "run", file, "--port", free_port(), HF_ENDPOINT=hub.url) as process:
            assert await asyncio.to_thread(hub.stalled.wait, 60)
            process.send_signal(number)
            out, err = await asyncio.wait_for(process.communicate(), STOP_LIMIT_S)
    assert process.returncode == INTERRUPTED
    assert out == b""
    assert err.decode().endswith("Interrupted.\n")
    assert b"Traceback" not in err
    assert process_group_is_gone(process.pid)


async def test_a_provider_that_cannot_be_reached_is_named_and_not_fatal(write_distribution: Write) -> None:
    file = write_distribution(
        "version: 1\nname: mine\nproviders:\n  inference:\n    - provider_id: away\n"
        "      provider_type: remote::openai-compatible\n"
        f"      config: {{base_url: 'http://127.0.0.1:{free_port()}/v1'}}\n"
    )
    async with run_stack(file, "--port", free_port()) as stack:
        assert re.search(r"away +remote::openai-compatible +degraded: .*127\.0\.0\.1", stack.banner)


async def test_the_module_runs_it_too(write_distribution: Write) -> None:
    file = write_distribution("version: 1\nname: nothing\nproviders: {}\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "llama_stack", "stack", "run", file, "--port", free_port()),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    await asyncio.wait_for(process.stdout.readuntil(b"Ctrl-C.\n"), 60)
    process.terminate()
    await asyncio.wait_for(process.communicate(), STOP_LIMIT_S)
    assert process.returncode == 0


# --- refusals: status, the field or file, the remedy, no stack trace ------------------------------------------------


def test_broken_yaml_is_placed_by_line_and_column(write_distribution: Write, llama: Llama) -> None:
    file = write_distribution("version: 1\nname: [mine\nproviders: {}\n")
    assert_refused(llama("stack", "run", file), f"{file}: line 3, column 10:")


def test_a_key_written_twice_is_refused(write_distribution: Write, llama: Llama) -> None:
    file = write_distribution("version: 1\nname: mine\nname: yours\nproviders: {}\n")
    assert_refused(llama("stack", "run", file), "line 3, column 1", "'name' stands twice")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a mapping with the keys version, name and providers"),
        ("- a list\n", "a mapping with the keys version, name and providers"),
        ("? [1, 2]\n: 3\n", "line 1, column 3: a key must be a plain word"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: &a [*a]\n", "line 1, column 4"),
        ("name: !!python/object/apply:os.system ['true']\n", "line 1, column 7"),
        (
            "version: 1\nname: x\nproviders: {inference: [{provider_id: a}]}\n",
            "inference[0].provider_type is",
        ),
        ("version: 2\nname: x\nproviders: {}\n", "version: input should be 1"),
    ],
    ids=["empty", "list", "odd key", "deep", "recursive", "python object", "missing key", "other version"],
)
def test_what_is_no_distribution_is_refused(text: str, words: str, write_distribution: Write, llama: Llama) -> None:
    file = write_distribution(text)
    assert_refused(llama("stack", "show", file), file, words)


def test_an_unknown_provider_is_answered_with_the_nearest(write_distribution: Write, llama: Llama) -> None:
    file = write_distribution(engine_distribution("x.gguf").replace("inline::llama-cpp", "inline::llama-ccp"))
    assert_refused(llama("stack", "run", file), "'inline::llama-ccp'", "Did you mean inline::llama-cpp?")


def test_an_unknown_key_is_answered_with_the_nearest(write_distribution: Write, llama: Llama) -> None:
    file = write_distribution(engine_distribution("x.gguf", "      config: {thraeds: 2}\n"))
    assert_refused(llama("stack", "run", file), "providers.inference[0].config.thraeds", "did you mean 'threads'")


def test_a_value_of_the_wrong_type_names_its_key(write_distribution: Write, llama: Llama) -> None:
    file = write_distribution("version: 1\nname: mine\nserver: {port: eighty}\nproviders: {}\n")
    assert_refused(llama("stack", "run", file), "server.port", "integer", "'eighty'")


def test_a_missing_variable_is_named_with_ways_out(write_distribution: Write, llama: Llama) -> None:
    file = write_distribution("version: 1\nname: ${env.ACME_NAME}\nproviders: {}\n")
    assert_refused(llama("stack", "run", file), "name needs the environment variable ACME_NAME", "ACME_NAME=...")


def test_an_unknown_distribution_is_answered_with_the_nearest(llama: Llama) -> None:
    assert_refused(llama("stack", "run", "startre"), "'startre'", "Did you mean 'starter'?")


def test_a_missing_file_is_named(llama: Llama) -> None:
    assert_refused(llama("stack", "run", "./mine.yaml"), "no file ./mine.yaml")


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"GGUF\x03\x00\x00\x00" + b"\xff" * 64], ids=len)
def test_a_corrupt_gguf_is_named(content: bytes, tmp_path: Path, llama: Llama) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(content)
    assert_refused(llama("stack", "run", "starter", "--port", free_port(), "--model", str(file)), "broken.gguf")


def test_an_unknown_model_is_answered_with_what_there_is(llama: Llama) -> None:
    done = llama("stack", "run", "starter", "--model", "all-minilm-l6-v3")
    assert_refused(done, "'all-minilm-l6-v3'", "Did you mean 'all-minilm-l6-v2", "hf:owner/repo/file.gguf")


def test_a_name_of_metas_is_told_apart_from_a_gguf(llama: Llama) -> None:
    refused = llama("stack", "run", "starter", "--model", "Llama3.2-1B-Instruct")
    assert_refused(refused, "'Llama3.2-1B-Instruct'", "GGUF", "hf:owner/repo/file.gguf")


def test_a_model_for_a_stack_without_the_engine_is_refused(
    write_distribution: Write, tmp_path: Path, llama: Llama
) -> None:
    file = write_distribution("version: 1\nname: mine\nproviders: {}\n")
    model = tmp_path / "some.gguf"
    model.write_bytes(b"GGUF")
    assert_refused(llama("stack", "run", file, "--model", str(model)), "--model", "inline::llama-cpp")


def test_a_model_that_cannot_be_fetched_says_what_to_do(llama: Llama) -> None:
    offline = llama("stack", "run", "--port", free_port(), "--model", "hf:acme/micro/micro.gguf", HF_HUB_OFFLINE="1")
    assert_refused(offline, "hf:acme/micro/micro.gguf", "HF_HUB_OFFLINE", code=1)


def test_a_port_in_use_names_its_holder(write_distribution: Write, llama: Llama) -> None:
    file = write_distribution("version: 1\nname: mine\nproviders: {}\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = llama("stack", "run", file, "--port", str(port))
    assert_refused(done, f"port {port} on 127.0.0.1 is in use", "--port")
    if sys.platform == "linux":
        assert re.search(r"in use by \S+ \(process \d+\)", done.stderr)


def test_an_address_of_another_machine_is_refused(write_distribution: Write, llama: Llama) -> None:
    file = write_distribution("version: 1\nname: mine\nproviders: {}\n")
    assert_refused(llama("stack", "run", file, "--host", "192.0.2.1"), "192.0.2.1", "127.0.0.1")


def test_a_home_that_cannot_be_made_is_named(write_distribution: Write, tmp_path: Path, llama: Llama) -> None:
    file = write_distribution("version: 1\nname: mine\nproviders: {}\n")
    blocked = tmp_path / "file"
    blocked.write_text("in the way", encoding="utf-8")
    done = llama("stack", "run", file, "--port", free_port(), LLAMA_STACK_HOME=str(blocked / "home"))
    assert_refused(done, str(blocked / "home"), "Set LLAMA_STACK_HOME")


def test_an_assignment_without_a_value_is_refused(llama: Llama) -> None:
    assert_refused(llama("stack", "run", "--env", "OLLAMA_URL"), "--env", "KEY=VALUE")


def test_a_port_that_is_no_port_is_refused(llama: Llama) -> None:
    assert_refused(llama("stack", "run", "--port", "99999"), "--port", "99999")
