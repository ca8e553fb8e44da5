"""Responses over the real code interpreter: a chain keeps its variables, outputs and figures are shown."""

import json
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import Script, calls, says
from llama_stack.testing.scripted_stack import open_scripted_stack
from tests.providers.code_interpreter.conftest import needs_bubblewrap

INTERPRETER: Any = {
    "provider_id": "code-interpreter",
    "provider_type": "inline::code-interpreter",
    "config": {"driver": "bubblewrap", "memory_mb": 512, "processes": 16, "disk_mb": 16},
    "tool_groups": [{"identifier": "builtin::code_interpreter"}],
}
TOOL: Any = {"type": "code_interpreter", "container": {"type": "auto"}}


def runs(code: str) -> Script:
    return calls(("code_interpreter", json.dumps({"code": code})))


@needs_bubblewrap
async def test_code_reads_a_file_of_the_callers(tmp_path: Path) -> None:
    scripts = [runs("import csv; print(sum(int(row['b']) for row in csv.DictReader(open('sales.csv'))))"), says("7.")]
    async with (
        open_scripted_stack(*scripts, providers={"tools": [INTERPRETER]}, home=tmp_path) as stack,
        serving(create_app(stack)) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as openai,
    ):
        sales = await openai.files.create(file=("sales.csv", b"a,b\n1,2\n3,5\n"), purpose="user_data")
        tool: Any = {"type": "code_interpreter", "container": {"type": "auto", "file_ids": [sales.id]}}
        response = await openai.responses.create(
            model="scripted", input="Sum of b?", tools=[tool], include=["code_interpreter_call.outputs"]
        )
    assert response.output[0].to_dict()["outputs"] == [{"type": "logs", "logs": "7"}]


@needs_bubblewrap
async def test_a_chain_keeps_its_variables(tmp_path: Path) -> None:
    scripts = [runs("n = 6"), says("Set."), runs("print(n * 7)"), says("42."), runs("n"), says("Lost.")]
    scripts += [runs("print(n)"), says("6.")]
    async with (
        open_scripted_stack(*scripts, providers={"tools": [INTERPRETER]}, home=tmp_path) as stack,
        serving(create_app(stack)) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as openai,
    ):
        asked: Any = {"model": "scripted", "tools": [TOOL], "include": ["code_interpreter_call.outputs"]}
        first = await openai.responses.create(input="Set n.", **asked)
        second = await openai.responses.create(input="Times 7?", previous_response_id=first.id, **asked)
        other = await openai.responses.create(input="n?", **asked)
        container = first.output[0].to_dict()["container_id"]
        named = await openai.responses.create(input="n?", **{**asked, "tools": [{**TOOL, "container": container}]})
    one, two, three = (response.output[0].to_dict() for response in (first, second, other))
    assert one["outputs"] == []
    assert two["outputs"] == [{"type": "logs", "logs": "42"}]
    assert one["container_id"] == two["container_id"] != three["container_id"]
    # A container that is named is gone on with outside of its chain.
    four = named.output[0].to_dict()
    assert (four["container_id"], four["outputs"]) == (container, [{"type": "logs", "logs": "6"}])
    assert three["status"] == "failed"
    assert "NameError" in str(three["outputs"])
