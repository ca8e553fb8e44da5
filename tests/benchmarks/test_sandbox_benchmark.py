"""The sandbox benchmark measures what it says, in one short round."""

import shutil

import pytest

from benchmarks.sandbox import BARE, configs, run, table
from llama_stack_providers.inline._code_interpreter.settings import Config


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
async def test_a_round_has_every_figure() -> None:
    bare, sandbox = await run(1, 3, configs(None, None))
    assert (bare.name, sandbox.name) == (BARE, "bubblewrap")
    assert len(sandbox.call) == 3
    assert 0 < sandbox.warm[0] < sandbox.cold[0]
    assert "| bubblewrap |" in table([bare, sandbox])


async def test_a_driver_that_is_not_there_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    (bare,) = await run(1, 1, [Config(driver="container", container_engine="podman", container_image="no/such:image")])
    assert bare.name == BARE
    assert "podman" in capsys.readouterr().err
