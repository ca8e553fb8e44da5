"""`llama model`: what is listed and described; download, verify and remove against a hub on the loopback."""

import asyncio
import hashlib
import json
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_stack.cli import registry
from llama_stack.errors import ConfigError, NotFound
from llama_stack.wire.llama_prompts.families import LlamaFamily
from tests.cli.loopback_hub import LoopbackHub, loopback_hub
from tests.cli.running import STOP_LIMIT_S, Llama, assert_refused, start_llama
from tests.cli.terminal import run_in_terminal

GGUF = b"GGUF" + bytes(range(256)) * 12000
PTH = b"weights of the original kind" * 1000
REPOSITORY = {
    "config.json": b"{}",
    "model-00001-of-00001.safetensors": b"safe" * 1000,
    "original/consolidated.00.pth": PTH,
    "original/checklist.chk": f"{hashlib.md5(PTH).hexdigest()}  consolidated.00.pth\n".encode(),
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    files = {
        "acme/tiny": {"tiny.gguf": GGUF, "q8/tiny-q8.gguf": GGUF[:1000]},
        "acme/large": {f"large-0000{part}-of-00003.gguf": GGUF[: 1000 + part] for part in (1, 2, 3)},
        "meta-llama/Llama-3.2-1B-Instruct": REPOSITORY,
    }
    with loopback_hub(files) as hub:
        hub.gated.add("meta-llama/Llama-3.2-1B-Instruct")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


# --- list and describe ---------------------------------------------------------------------------------------------


def test_the_list_holds_metas_models_and_this_machines(llama: Llama) -> None:
    listed = json.loads(llama("model", "list", "--json").stdout)
    registry = {row["name"]: row for row in listed["registry"]}
    assert registry["Llama3.2-1B-Instruct"]["context_length"] == 131072
    assert registry["Llama3.2-1B-Instruct"]["instruct"] is True
    assert registry["Llama3.2-1B"]["instruct"] is False
    assert "Llama-2-7b" not in registry
    shipped = [row["name"] for row in listed["local"] if row["shipped"]]
    assert "all-minilm-l6-v2-q8_0" in shipped


def test_older_families_are_listed_when_asked_for(llama: Llama) -> None:
    listed = json.loads(llama("model", "list", "--show-all", "--json").stdout)
    assert "Llama-2-7b" in [row["name"] for row in listed["registry"]]


def test_describe_takes_a_name_in_any_case_or_a_repository(llama: Llama) -> None:
    by_name = json.loads(llama("model", "describe", "llama3.2-1b-instruct", "--json").stdout)
    by_repository = json.loads(llama("model", "describe", "meta-llama/Llama-3.2-1B-Instruct", "--json").stdout)
    assert by_name == by_repository
    assert by_name["architecture"]["n_layers"] == 16


def test_describe_knows_the_models_of_this_machine(llama: Llama) -> None:
    described = json.loads(llama("model", "describe", "all-minilm-l6-v2-q8_0", "--json").stdout)
    assert described["reference"] == "weights:all-minilm-l6-v2/all-minilm-l6-v2-q8_0.gguf"
    assert described["size_bytes"] == Path(described["path"]).stat().st_size


def test_an_unknown_model_is_answered_with_the_nearest(llama: Llama) -> None:
    assert_refused(llama("model", "describe", "Llama3.2-1B-Instrukt"), "Did you mean Llama3.2-1B-Instruct", code=1)
    assert_refused(llama("model", "download", "Llama3.2-1B-Instrukt"), "Did you mean Llama3.2-1B-Instruct", code=1)


# --- prompt-format -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", list(LlamaFamily))
def test_every_family_has_its_dialogs_explained(family: LlamaFamily, llama: Llama) -> None:
    shown = json.loads(llama("model", "prompt-format", f"{family.value}-1B-Instruct", "--json").stdout)
    assert shown["family"] == family.value
    assert len(shown["examples"]) >= 3
    for example in shown["examples"]:
        assert example["explanation"]
        assert example["prompt"].startswith("<|begin_of_text|>")
        for token in shown["special_tokens"]:
            assert token.startswith("<|")


def test_a_dialog_is_shown_exactly_as_the_model_reads_it(llama: Llama) -> None:
    shown = json.loads(llama("model", "prompt-format", "Llama3.1-8B-Instruct", "--json").stdout)
    assert shown["examples"][0]["prompt"] == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        "Cutting Knowledge Date: December 2023\nToday Date: 31 January 2025\n\n"
        "Answer in one sentence.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWhat is the capital of Norway?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    plain = llama("model", "prompt-format", "Llama3.1-8B-Instruct").stdout
    assert all(example["prompt"] in plain for example in shown["examples"])


def test_a_guard_models_prompt_is_its_own(llama: Llama) -> None:
    shown = json.loads(llama("model", "prompt-format", "Llama-Guard-3-8B", "--json").stdout)
    assert "S1: Violent Crimes" in shown["examples"][0]["prompt"]


def test_without_the_registry_a_name_of_this_machine_is_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_models.sku_list", None)
    registry._registry.cache_clear()
    with pytest.raises(NotFound, match=r"no model 'llama-micr' on this machine\. Did you mean llama-micro\?"):
        registry.registered_model("llama-micr")
    with pytest.raises(ConfigError, match="there is no model 'x' on this machine, and Meta's model registry is not"):
        registry.registered_model("x")


def test_a_model_of_no_known_family_is_refused(llama: Llama) -> None:
    assert_refused(llama("model", "prompt-format", "mistral-7b"), "'mistral-7b'", "llama3.1", "llama model list")


# --- download, verify, remove --------------------------------------------------------------------------------------


def test_a_file_is_downloaded_listed_verified_and_removed(hub: LoopbackHub, stack_home: Path, llama: Llama) -> None:
    path = stack_home / "models" / "acme" / "tiny" / "tiny.gguf"
    done = llama("model", "download", "hf:acme/tiny/tiny.gguf")
    assert (done.returncode, done.stdout) == (0, f"{path}\n")
    assert "tiny.gguf: 100 % of 3.1 MB" in done.stderr
    assert path.read_bytes() == GGUF

    local = json.loads(llama("model", "list", "--local", "--json").stdout)["local"]
    assert [row["reference"] for row in local if not row["shipped"]] == ["hf:acme/tiny/tiny.gguf"]
    assert llama("model", "verify-download", "tiny").stdout == "hf:acme/tiny/tiny.gguf: ok\n"

    assert_refused(llama("model", "remove", "tiny"), "--yes")
    assert path.exists()
    assert llama("model", "remove", "tiny", "--yes").stdout == "Removed 3.1 MB.\n"
    assert not path.exists()
    assert_refused(llama("model", "remove", "hf:acme/tiny/tiny.gguf", "--yes"), "hf:acme/tiny/tiny.gguf", code=1)


def test_a_model_in_several_files_is_one_model(hub: LoopbackHub, stack_home: Path, llama: Llama) -> None:
    folder = stack_home / "models/acme/large"
    first = "hf:acme/large/large-00001-of-00003.gguf"
    done = llama("model", "download", "hf:acme/large", "--json")
    assert json.loads(done.stdout)["files"] == [str(folder / "large-00001-of-00003.gguf")]
    assert len(list(folder.glob("*.gguf"))) == 3
    listed = json.loads(llama("model", "list", "--local", "--json").stdout)["local"]
    assert [(row["reference"], row["size_bytes"]) for row in listed if not row["shipped"]] == [(first, 3006)]
    assert json.loads(llama("model", "verify-download", "hf:acme/large", "--json").stdout)["files"] == {first: None}
    assert llama("model", "remove", "large-00001-of-00003", "--yes").stdout == "Removed 3.0 kB.\n"
    assert not folder.exists()


def test_removing_asks_first(hub: LoopbackHub, stack_home: Path, llama: Llama) -> None:
    path = stack_home / "models/acme/tiny/tiny.gguf"
    llama("model", "download", "hf:acme/tiny/tiny.gguf")
    assert "Delete hf:acme/tiny/tiny.gguf (3.1 MB)? [y/N]" in run_in_terminal("model", "remove", "tiny", typed="n\n")
    assert path.exists()
    assert "Removed 3.1 MB." in run_in_terminal("model", "remove", "tiny", typed="y\n")
    assert not path.exists()


def test_a_second_download_asks_the_hub_for_nothing(hub: LoopbackHub, llama: Llama) -> None:
    assert llama("model", "download", "hf:acme/tiny/tiny.gguf").returncode == 0
    again = llama("model", "download", "hf:acme/tiny/tiny.gguf", HF_HUB_OFFLINE="1")
    assert (again.returncode, hub.ranges) == (0, [""])


def test_a_download_that_breaks_off_is_continued(hub: LoopbackHub, stack_home: Path, llama: Llama) -> None:
    hub.cut_after = 2_500_000
    assert llama("model", "download", "hf:acme/tiny/tiny.gguf").returncode == 0
    assert re.fullmatch(r"bytes=[12]\d{6}-", hub.ranges[1])
    assert (stack_home / "models/acme/tiny/tiny.gguf").read_bytes() == GGUF


async def test_an_interrupted_download_says_how_to_go_on(hub: LoopbackHub) -> None:
    hub.stall = threading.Event()
    async with start_llama("model", "download", "hf:acme/tiny/tiny.gguf") as process:
        assert await asyncio.to_thread(hub.stalled.wait, 60)
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), STOP_LIMIT_S)
    assert process.returncode == 130
    assert b"again to go on from here" in err
    assert b"Traceback" not in err


def test_a_damaged_download_is_found(hub: LoopbackHub, stack_home: Path, llama: Llama) -> None:
    llama("model", "download", "hf:acme/tiny/tiny.gguf")
    path = stack_home / "models/acme/tiny/tiny.gguf"
    path.write_bytes(GGUF[:-1] + b"!")
    done = llama("model", "verify-download", "tiny")
    assert (done.returncode, "damaged" in done.stdout) == (1, True)


def test_a_gated_model_of_metas_comes_with_a_token(hub: LoopbackHub, stack_home: Path, llama: Llama) -> None:
    refused = llama("model", "download", "Llama3.2-1B-Instruct")
    assert_refused(refused, "gated", "HF_TOKEN", code=1)
    done = llama("model", "download", "Llama3.2-1B-Instruct", "--json", HF_TOKEN=hub.token)
    folder = stack_home / "models/meta-llama/Llama-3.2-1B-Instruct"
    assert sorted(json.loads(done.stdout)["files"]) == [
        str(folder / "config.json"),
        str(folder / "model-00001-of-00001.safetensors"),
    ]
    assert hub.token not in done.stdout + done.stderr + refused.stderr


def test_metas_own_checklist_is_checked(hub: LoopbackHub, stack_home: Path, llama: Llama) -> None:
    llama("model", "download", "Llama3.2-1B-Instruct", "--original", HF_TOKEN=hub.token)
    good = llama("model", "verify-download", "Llama3.2-1B-Instruct", "--json")
    assert set(json.loads(good.stdout)["files"].values()) == {None}
    assert "checklist.chk: consolidated.00.pth" in json.loads(good.stdout)["files"]
    (stack_home / "models/meta-llama/Llama-3.2-1B-Instruct/original/consolidated.00.pth").write_bytes(b"other")
    bad = llama("model", "verify-download", "Llama3.2-1B-Instruct", "--json")
    assert bad.returncode == 1
    assert "MD5" in json.loads(bad.stdout)["files"]["checklist.chk: consolidated.00.pth"]


def test_a_whole_repository_is_removed_at_once(hub: LoopbackHub, stack_home: Path, llama: Llama) -> None:
    assert llama("model", "download", "hf:acme/tiny").returncode == 0
    assert llama("model", "remove", "hf:acme/tiny", "--yes").returncode == 0
    assert not (stack_home / "models/acme").exists()


@pytest.mark.parametrize(
    ("reference", "words", "code"),
    [
        ("hf:acme/tiny/huge.gguf", ("no file 'huge.gguf'", "tiny.gguf"), 1),
        ("hf:nobody/nothing/x.gguf", ("nobody/nothing",), 1),
        ("hf:acme/../x.gguf", ("hf:owner/repository/file.gguf",), 2),
        ("hf:acme", ("'hf:acme' names no repository", "hf:owner/repository"), 2),
    ],
)
def test_a_wrong_reference_says_what_there_is(
    reference: str, words: tuple[str, ...], code: int, hub: LoopbackHub, llama: Llama
) -> None:
    assert_refused(llama("model", "download", reference), *words, code=code)


def test_a_shipped_model_stays(llama: Llama) -> None:
    assert_refused(llama("model", "remove", "all-minilm-l6-v2-q8_0", "--yes"), "shipped with the stack", code=1)


def test_a_terminal_sees_a_bar(hub: LoopbackHub) -> None:
    shown = run_in_terminal("model", "download", "hf:acme/tiny/tiny.gguf", NO_COLOR="1")
    assert "tiny.gguf" in shown
    assert "━" in shown
