"""`llama stack doctor`: what it finds, and that the commands it names mend what it found."""

import asyncio
import json
import re
import shlex
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from llama_stack import doctor
from llama_stack.cli.stack_doctor import _summary
from llama_stack.doctor import Finding
from tests.cli.loopback_hub import loopback_hub
from tests.cli.running import Llama, run_stack
from tests.cli.test_cli_run import engine_distribution, free_port

Write = Callable[..., str]
EMPTY = "version: 1\nname: mine\nproviders: {}\n"


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert report["well"] == (done.returncode == 0)
    return {finding["subject"]: finding for finding in report["findings"]}


def arguments_of(remedy: str) -> list[str]:
    """The arguments of a remedy that is a `llama` command."""
    words = shlex.split(remedy)
    assert words[0] == "llama"
    return words[1:]


@pytest.mark.engine
def test_all_is_well_where_it_is(micro_model: Path, write_distribution: Write, llama: Llama) -> None:
    file = write_distribution(engine_distribution(micro_model))
    done = llama("stack", "doctor", file, "--port", free_port())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\nAll is well.\n")
    subjects = [line.split()[1].rstrip(":") for line in done.stdout.splitlines() if line.startswith("ok ")]
    for subject in ("python", "home", "disk", "distribution", "port", "engine", "model", "database", "provider"):
        assert subject in subjects


@pytest.mark.engine
async def test_the_port_it_offers_is_free(micro_model: Path, write_distribution: Write, llama: Llama) -> None:
    file = write_distribution(engine_distribution(micro_model))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = findings(llama("stack", "doctor", file, "--json", "--set", f"server.port={port}"))
        assert found["port"]["state"] == "failed"
        stack_run, *arguments = arguments_of(found["port"]["remedy"])[1:]
        async with run_stack(*arguments) as stack, httpx.AsyncClient() as client:
            assert (await client.get(f"{stack.url}/v1/health")).status_code == 200
            served = stack.url.rpartition(":")[2]
            seen = await asyncio.to_thread(llama, "stack", "doctor", file, "--json", "--port", served)
            assert findings(seen)["port"]["state"] == "warning", "a stack that runs is nothing that failed"
    assert stack_run == "run"


@pytest.mark.engine
def test_a_model_that_is_not_here_is_fetched_by_the_command_it_names(
    micro_model: Path, write_distribution: Write, llama: Llama
) -> None:
    file = write_distribution(engine_distribution("hf:acme/micro/micro.gguf"))
    with loopback_hub({"acme/micro": {"micro.gguf": micro_model.read_bytes()}}) as hub:
        found = findings(llama("stack", "doctor", file, "--json", "--port", free_port()))
        assert found["model"]["state"] == "failed"
        assert llama(*arguments_of(found["model"]["remedy"]), HF_ENDPOINT=hub.url).returncode == 0
    assert llama("stack", "doctor", file, "--port", free_port()).returncode == 0


async def test_every_missing_variable_is_named_with_how_to_set_it(write_distribution: Write, llama: Llama) -> None:
    file = write_distribution("version: 1\nname: ${env.ACME_NAME}\ndescription: ${env.ACME_WORDS}\nproviders: {}\n")
    report = json.loads(llama("stack", "doctor", file, "--json").stdout)
    missing = [finding for finding in report["findings"] if finding["subject"] == "environment"]
    assert [finding["detail"].split()[2] for finding in missing] == ["ACME_NAME", "ACME_WORDS"]
    first, second = (arguments_of(finding["remedy"])[2:] for finding in missing)
    async with run_stack(*first, *second[1:], "--port", free_port()) as stack:
        assert " serves VALUE at " in stack.banner


def test_an_unknown_provider_leads_to_the_list(write_distribution: Write, llama: Llama) -> None:
    file = write_distribution(engine_distribution("x.gguf").replace("inline::llama-cpp", "inline::llama-ccp"))
    found = findings(llama("stack", "doctor", file, "--json"))
    assert "Did you mean inline::llama-cpp?" in found["distribution"]["detail"]
    assert "inline::llama-cpp" in llama(*arguments_of(found["distribution"]["remedy"])).stdout


def test_an_unknown_distribution_leads_to_the_list(llama: Llama) -> None:
    found = findings(llama("stack", "doctor", "startre", "--json"))
    assert "starter" in llama(*arguments_of(found["distribution"]["remedy"])).stdout


async def test_a_provider_that_cannot_be_reached_is_pointed_elsewhere_by_its_variable(
    write_distribution: Write, llama: Llama
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/v1"
    done = llama("stack", "doctor", "openai-compatible", "--json", "--port", free_port(), OPENAI_COMPATIBLE_URL=nowhere)
    found = findings(done)["provider upstream"]
    # The stack starts without it, so it is no failure.
    assert (done.returncode, found["state"]) == (0, "warning")
    command = "llama stack run openai-compatible --env OPENAI_COMPATIBLE_URL="
    assert found["remedy"].startswith(command)
    async with run_stack(write_distribution(EMPTY), "--port", free_port()) as upstream:
        variable = f"OPENAI_COMPATIBLE_URL={upstream.url}/v1"
        done = llama("stack", "doctor", "openai-compatible", "--json", "--port", free_port(), "--env", variable)
    assert findings(done)["provider upstream"]["state"] == "ok"


async def test_inside_a_container_localhost_is_replaced_by_the_machines_name(
    write_distribution: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    mark.touch()
    monkeypatch.setattr(doctor, "CONTAINERS", {mark: "host.docker.internal"})
    file = write_distribution(
        "version: 1\nname: mine\nproviders: {inference: [{provider_id: up, "
        f"provider_type: 'remote::openai-compatible', config: {{base_url: 'http://localhost:{free_port()}/v1'}}}}]}}\n"
    )
    found = [finding async for finding in doctor.examine(file, overrides={"server.port": int(free_port())})]
    assert re.fullmatch(
        r"llama stack run \S+ --set providers\.inference\.up\.config\.base_url=http://host\.docker\.internal:\d+/v1",
        found[-1].remedy or "",
    )


def test_a_home_that_cannot_be_written_is_replaced_by_one_that_can(
    write_distribution: Write, tmp_path: Path, llama: Llama
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    person = tmp_path / "person"
    person.mkdir()
    environment = {"LLAMA_STACK_HOME": str(tmp_path / "file" / "home"), "HOME": str(person)}
    file = write_distribution(EMPTY)
    found = findings(llama("stack", "doctor", file, "--json", "--port", free_port(), **environment))
    assert found["home"]["state"] == "failed"
    made, _, exported = found["home"]["remedy"].partition(" && export ")
    subprocess.run(shlex.split(made), check=True)
    name, _, value = exported.partition("=")
    mended = llama("stack", "doctor", file, "--json", "--port", free_port(), **(environment | {name: value}))
    assert findings(mended)["home"]["state"] == "ok"


def test_a_corrupt_model_is_found_by_opening_it(write_distribution: Write, tmp_path: Path, llama: Llama) -> None:
    model = tmp_path / "broken.gguf"
    model.write_bytes(b"GGUF\x03\x00\x00\x00" + b"\xff" * 64)
    found = findings(llama("stack", "doctor", write_distribution(engine_distribution(model)), "--json"))
    assert found["providers"]["state"] == "failed"
    assert "broken.gguf" in found["providers"]["detail"]


def test_a_missing_model_file_is_named(write_distribution: Write, tmp_path: Path, llama: Llama) -> None:
    found = findings(llama("stack", "doctor", write_distribution(engine_distribution(tmp_path / "no.gguf")), "--json"))
    assert found["model"]["state"] == "failed"
    assert str(tmp_path / "no.gguf") in found["model"]["detail"]
    assert arguments_of(found["model"]["remedy"])[:2] == ["stack", "run"]


def test_a_database_that_cannot_be_reached_is_found(write_distribution: Write, llama: Llama) -> None:
    file = write_distribution(
        EMPTY.replace("providers", "storage: {url: 'postgresql://a:sesame@127.0.0.1:9/b'}\nproviders")
    )
    found = findings(llama("stack", "doctor", file, "--json", "--port", free_port()))
    assert found["database"]["state"] == "failed"
    assert "sesame" not in json.dumps(found)
    mended = llama("stack", "doctor", file, "--json", *arguments_of(found["database"]["remedy"])[3:])
    assert findings(mended)["database"]["state"] == "ok"


@pytest.mark.parametrize(
    ("states", "summary"),
    [
        (["ok", "ok"], "All is well."),
        (["ok", "warning"], "It can run, with 1 warning."),
        (["ok", "warning", "failed"], "1 of 3 checks failed."),
    ],
    ids=["well", "warned", "failed"],
)
def test_the_last_line_sums_up(states: list[Any], summary: str) -> None:
    assert _summary([Finding("disk", state, "") for state in states]) == summary


def test_a_distribution_that_there_is_not_is_told_in_sentences(llama: Llama) -> None:
    done = llama("stack", "doctor", "startr")
    assert "there is no distribution named 'startr'. Did you mean 'starter'?" in done.stdout
