"""`llama stack build`: requirements, an environment that is really made, a container's context."""

import json
import os
import re
import shlex
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from llama_stack.build import PACKAGE, containerfile_text, find_image_tool, image_command, source_of
from tests.cli.running import LLAMA, Llama, assert_refused

Write = Callable[..., str]
EMPTY = "version: 1\nname: My stack\nproviders: {}\n"
ENGINE = """\
version: 1
name: My stack
server: {{port: 8400}}
providers:
  inference:
    - provider_id: llama-cpp
      provider_type: inline::llama-cpp
      models: [{{identifier: m, provider_resource_id: '{model}'}}]
"""
OURS = source_of(PACKAGE).requirement()


def test_the_requirements_are_this_package_and_what_the_providers_name(llama: Llama) -> None:
    done = llama("stack", "build", "starter", "--print-deps")
    assert (done.returncode, done.stderr) == (0, "")
    ours, *others = done.stdout.splitlines()
    assert ours == OURS
    assert any(requirement.startswith("xllamacpp") for requirement in others)


def test_a_remote_stack_needs_no_engine(llama: Llama) -> None:
    requirements = json.loads(llama("stack", "build", "openai-compatible", "--print-deps", "--json").stdout)
    assert requirements == {"requirements": [OURS]}


def test_a_postgres_url_adds_the_driver(write_distribution: Write, llama: Llama) -> None:
    file = write_distribution(EMPTY + "storage: {url: 'postgresql://ann:sesame@db/stack'}\n")
    done = llama("stack", "build", file, "--print-deps")
    assert done.stdout == f"{source_of(PACKAGE).requirement('[postgres]')}\n"


def test_an_unknown_provider_is_refused_before_anything_is_made(
    write_distribution: Write, tmp_path: Path, llama: Llama
) -> None:
    file = write_distribution(EMPTY.replace("{}", "{inference: [{provider_id: a, provider_type: 'remote::acne'}]}"))
    target = tmp_path / "target"
    assert_refused(llama("stack", "build", file, "--target", str(target)), "'remote::acne'", "list-providers")
    assert not target.exists()


def test_a_folder_with_other_files_is_left_alone(write_distribution: Write, tmp_path: Path, llama: Llama) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    file = write_distribution(EMPTY)
    for kind in ("venv", "container"):
        refused = llama("stack", "build", file, "--image-type", kind, "--target", str(tmp_path))
        assert_refused(refused, str(tmp_path), "--target")


def test_a_build_that_fails_leaves_nothing_behind(write_distribution: Write, tmp_path: Path, llama: Llama) -> None:
    target = tmp_path / "target"
    # Nowhere to install from.
    done = llama(
        *("stack", "build", write_distribution(EMPTY), "--target", str(target)),
        UV_OFFLINE="1",
        UV_CACHE_DIR=str(tmp_path / "cache"),
        UV_FIND_LINKS="",
        PIP_NO_INDEX="1",
    )
    assert done.returncode == 1
    assert re.search(r"^Error: (making|installing) .* failed", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr
    assert not target.exists()


# --- an environment, and the doctor inside it ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `llama` of an environment made for the starter distribution."""
    folder = tmp_path_factory.mktemp("built")
    done = subprocess.run(
        [str(LLAMA), "stack", "build", "starter", "--target", str(folder / "env"), "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)["run"]
    assert shlex.split(run)[1:] == ["stack", "run", "starter"]
    return Path(shlex.split(run)[0])


def inside(llama: Path, *arguments: str, with_uv: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["PATH"] = str(LLAMA.parent) if with_uv else str(llama.parent)
    return subprocess.run(
        [str(llama), *arguments], capture_output=True, text=True, timeout=120, check=False, env=environment, cwd="/"
    )


@pytest.mark.timeout(400)
def test_an_environment_runs_the_stack_without_the_checkout(built: Path) -> None:
    assert inside(built, "--version").stdout == inside(LLAMA, "--version").stdout
    assert "starter" in inside(built, "stack", "list").stdout
    listed = json.loads(inside(built, "model", "list", "--local", "--json").stdout)["local"]
    assert [row["path"] for row in listed if not row["path"].startswith(str(built.parent.parent))] == []
    # Only what the distribution needs: the development tools of this checkout are not part of it.
    assert not (built.parent / "pytest").exists()


@pytest.mark.timeout(400)
def test_the_registrys_absence_is_told_with_the_command_that_brings_it(built: Path) -> None:
    listed = inside(built, "model", "list")
    assert listed.returncode == 0
    assert "Meta's model registry is not installed" in listed.stderr
    refused = inside(built, "model", "describe", "Llama3.2-1B-Instruct")
    assert_refused(refused, "registry is not installed", "llama-models")
    install = refused.stderr.partition("Install it: ")[2].strip()
    subprocess.run(shlex.split(install), check=True, capture_output=True, timeout=200)
    assert inside(built, "model", "describe", "Llama3.2-1B-Instruct").returncode == 0


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("package", "with_uv", "flags"),
    [
        ("xllamacpp", True, ()),
        ("asyncpg", False, ("--set", "storage.url=postgresql://ann@127.0.0.1:9/stack")),
    ],
)
def test_the_doctor_of_an_environment_names_the_command_that_installs_what_is_missing(
    package: str, with_uv: bool, flags: tuple[str, ...], built: Path
) -> None:
    uninstall = [str(built.with_name("python")), "-m", "pip", "uninstall", "--yes", package]
    subprocess.run(uninstall, check=False, capture_output=True)
    before = diagnosis(built, *flags, with_uv=with_uv)["packages"]
    assert before["state"] == "failed"
    assert package in before["detail"]
    subprocess.run(shlex.split(before["remedy"]), check=True, capture_output=True, timeout=200)
    assert diagnosis(built, *flags, with_uv=with_uv)["packages"]["state"] == "ok"


def diagnosis(llama: Path, *flags: str, with_uv: bool) -> dict[str, dict[str, str]]:
    done = inside(llama, "stack", "doctor", "starter", "--json", *flags, with_uv=with_uv)
    return {finding["subject"]: finding for finding in json.loads(done.stdout)["findings"]}


# --- a container ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Context:
    """A container's context, made where no engine can be reached, and what the command said."""

    folder: Path
    source: str
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("container")
    source = ENGINE.format(model=folder / "m.gguf")
    (folder / "mine.yaml").write_text(source, encoding="utf-8")
    command = ["stack", "build", str(folder / "mine.yaml"), "--image-type", "container", "--json", "--target"]
    done = subprocess.run(
        [str(LLAMA), *command, str(folder / "context")],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "PATH": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return Context(folder / "context", source, done)


@pytest.mark.timeout(250)
def test_a_context_holds_all_an_image_needs(context: Context) -> None:
    assert (context.folder / "Containerfile").read_text(encoding="utf-8") == containerfile_text(8400)
    assert (context.folder / "distribution.yaml").read_text(encoding="utf-8") == context.source
    [wheel] = (context.folder / "packages").iterdir()
    ours, *others = (context.folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert ours == f"./packages/{wheel.name}"
    assert [requirement.partition(">")[0] for requirement in others] == ["xllamacpp"]
    names = zipfile.ZipFile(wheel).namelist()
    assert "llama_stack/distributions/starter.yaml" in names
    assert "llama_stack/weights/all-minilm-l6-v2/all-minilm-l6-v2-q8_0.gguf" in names
    outcome = json.loads(context.done.stdout)
    assert outcome["containerfile"] == str(context.folder / "Containerfile")
    assert outcome["image"] is None


def test_without_an_engine_the_command_is_left_to_run(context: Context) -> None:
    assert "neither docker nor podman is installed" in context.done.stderr
    by_hand = shlex.join(image_command("docker", "llama-stack-my-stack:0.1.0", context.folder))
    assert by_hand in context.done.stderr
    assert json.loads(context.done.stdout)["build"] == by_hand


def test_a_model_outside_the_package_is_pointed_out(context: Context) -> None:
    assert f"Note: {context.folder.parent / 'm.gguf'} is a file of this machine" in context.done.stderr


@pytest.mark.skipif(shutil.which("docker") is None, reason="needs a docker client")
def test_a_client_without_an_engine_is_told_apart_from_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.symlink_to(str(shutil.which("docker")))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    tool = find_image_tool()
    assert tool is not None
    assert tool.command == "docker"
    assert tool.trouble
    assert "none.sock" in tool.trouble


def test_the_containerfile_keeps_the_rules_of_a_service() -> None:
    text = containerfile_text(8400)
    entry = next(line for line in text.splitlines() if line.startswith("ENTRYPOINT "))
    assert json.loads(entry.removeprefix("ENTRYPOINT ")) == [
        *("llama", "stack", "run", "/stack/distribution.yaml"),
        *("--host", "0.0.0.0", "--port", "8400"),
    ]
    instructions = [line.split()[0] for line in text.splitlines() if line and line[0].isupper()]
    assert instructions.index("USER") < instructions.index("ENTRYPOINT")
    assert "EXPOSE 8400" in text
    assert "HEALTHCHECK" in instructions
