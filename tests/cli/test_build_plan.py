"""What a build installs: where each package came from decides how it is named again."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llama_stack.build import PACKAGE, install_command, plan_build, source_of
from llama_stack.distribution import Distribution, load_distribution
from llama_stack.errors import ConfigError
from tests.cli.running import Llama

Install = Callable[..., None]

PROVIDER = """
from contextlib import asynccontextmanager
from llama_stack.provider import InferenceProvider, NoConfig

@asynccontextmanager
async def open_acme(config, ground):
    yield None

provider = InferenceProvider(summary="Acme", config=NoConfig, open=open_acme, requires=("acme-client>=2", "numpy"))
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a stranger's package on the path as an installer leaves it, with the record of where it came from."""
    folder = tmp_path / "installed"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))

    def install(record: dict[str, object] | None, *, source: str = PROVIDER) -> None:
        (folder / "acme_stack.py").write_text(source, encoding="utf-8")
        metadata = folder / "acme_stack-1.5.dist-info"
        metadata.mkdir(exist_ok=True)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-stack\nVersion: 1.5\n", encoding="utf-8")
        (metadata / "entry_points.txt").write_text("[llama_stack.providers]\nremote::acme = acme_stack\n")
        if record is not None:
            (metadata / "direct_url.json").write_text(json.dumps(record), encoding="utf-8")

    yield install
    sys.modules.pop("acme_stack", None)


@pytest.fixture
def distribution(tmp_path: Path) -> Distribution:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "version: 1\nname: mine\nproviders:\n  inference:\n"
        "    - {provider_id: a, provider_type: 'remote::acme'}\n"
        "    - {provider_id: '${env.NOBODY:+b}', provider_type: 'inline::llama-cpp'}\n",
        encoding="utf-8",
    )
    return load_distribution(str(file))


@pytest.mark.parametrize(
    ("record", "requirement"),
    [
        (None, "acme-stack==1.5"),
        ({"url": "file:///src/acme", "dir_info": {"editable": True}}, "acme-stack @ file:///src/acme"),
        ({"url": "https://acme.test/a.whl", "archive_info": {}}, "acme-stack @ https://acme.test/a.whl"),
        (
            {"url": "https://acme.test/a", "vcs_info": {"vcs": "git", "commit_id": "abc123"}},
            "acme-stack @ git+https://acme.test/a@abc123",
        ),
    ],
    ids=["index", "folder", "archive", "git"],
)
def test_a_strangers_provider_brings_its_package_and_what_it_requires(
    record: dict[str, object] | None, requirement: str, install: Install, distribution: Distribution
) -> None:
    install(record)
    ours, *others = plan_build(distribution).requirements
    assert ours == source_of(PACKAGE).requirement()
    # The entry that came out empty is no part of the stack: the engine is not installed for it.
    assert others == [requirement, "acme-client>=2", "numpy"]


def test_a_broken_stranger_hides_no_other_provider(install: Install, llama: Llama) -> None:
    install(None, source="import a_package_that_is_not_there\n")
    rows = {row["provider_type"]: row for row in json.loads(llama("stack", "list-providers", "--json").stdout)}
    assert "a_package_that_is_not_there" in rows["remote::acme"]["error"]
    assert rows["remote::acme"]["package"] == "acme-stack"
    assert rows["inline::llama-cpp"]["error"] is None


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(ConfigError, match="acme-nothing is not installed"):
        source_of("acme-nothing")


def test_requirements_are_installed_by_uv_where_it_is_found_and_by_pip_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.touch(mode=0o755)
    alone = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(alone))
    monkeypatch.setenv("PATH", str(uv.parent))
    assert install_command(["x"]) == [str(uv), "pip", "install", "--python", str(alone), "x"]
    monkeypatch.setenv("PATH", "")
    assert install_command(["x"]) == [str(alone), "-m", "pip", "install", "x"]
