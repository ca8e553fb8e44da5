"""Other servers to compare with, each in a virtual environment of its own, outside the checkout.

    python -m benchmarks.peers setup DIR      # a few minutes and about 1.2 GB
    python -m benchmarks.compare --peers DIR

They are never a dependency of this project. Their configurations are in `benchmarks/peers/`: one worker, no
authentication, default logging, the upstream's URL from the environment.

OGX needs Python 3.12 and, offline, tiktoken's `cl100k_base` in a cache folder. LiteLLM's wheel carries that file
under the name tiktoken looks for, so OGX reads it there, and LiteLLM is installed with it.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.environments import Install, find_python, make_environment

_CONFIGS = Path(__file__).parent / "peers"
_INSTALL_RECORD = "install.json"


@dataclass(frozen=True)
class Peer:
    """`model_prefix` is what it puts before the upstream's model names; `pythons` are acceptable interpreters, the
    best first; `command` and `env` start it on a port in front of an upstream (URL without /v1)."""

    name: str
    requirements: tuple[str, ...]
    pythons: tuple[str, ...]
    model_prefix: str
    command: Callable[[Path, int], list[str]]
    env: Callable[[Path, str], dict[str, str]]


def _ogx_command(home: Path, port: int) -> list[str]:
    return [str(home / "ogx/bin/ogx"), "run", str(_CONFIGS / "ogx.yaml"), "--port", str(port), "--insecure"]


def _ogx_env(home: Path, upstream_url: str) -> dict[str, str]:
    tokenizers = next((home / "litellm").glob("lib/python3*/site-packages/litellm/litellm_core_utils/tokenizers"), None)
    offline = {"TIKTOKEN_CACHE_DIR": str(tokenizers)} if tokenizers else {}
    return {"UPSTREAM_URL": upstream_url, "OGX_CONFIG_DIR": "./state", "HF_HUB_OFFLINE": "1", **offline}


def _litellm_command(home: Path, port: int) -> list[str]:
    options = ["--config", str(_CONFIGS / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    return [str(home / "litellm/bin/litellm"), *options, "--num_workers", "1", "--telemetry", "False"]


def _litellm_env(home: Path, upstream_url: str) -> dict[str, str]:
    return {"UPSTREAM_V1_URL": f"{upstream_url}/v1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


PEERS = (
    Peer(
        name="ogx",
        requirements=("ogx==1.5.0", "faiss-cpu", "chardet", "pypdf"),
        pythons=("python3.12", "python3.13"),
        model_prefix="bench/",
        command=_ogx_command,
        env=_ogx_env,
    ),
    Peer(
        name="litellm",
        requirements=("litellm[proxy]==1.106.2",),
        pythons=("python3.12", "python3.11", "python3.13"),
        model_prefix="",
        command=_litellm_command,
        env=_litellm_env,
    ),
)


def installed(home: Path | None) -> list[Peer]:
    """The peers that `setup` finished in this folder."""
    return [peer for peer in PEERS if home is not None and (home / peer.name / _INSTALL_RECORD).is_file()]


def install_record(home: Path, peer: Peer) -> Install:
    record = json.loads((home / peer.name / _INSTALL_RECORD).read_text())
    return Install(**{**record, "requirements": tuple(record["requirements"])})


def setup(home: Path) -> None:
    for peer in PEERS:
        print(f"{peer.name}: {', '.join(peer.requirements)}", flush=True)
        made = make_environment(find_python(peer.pythons), home / peer.name, peer.requirements)
        (home / peer.name / _INSTALL_RECORD).write_text(json.dumps(asdict(made), indent=2))
        print(
            f"  {made.packages} packages, {made.size_mb:.0f} MB in {made.seconds:.0f} s ({made.installer})", flush=True
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Install the servers to compare with.")
    parser.add_argument("action", choices=["setup"])
    parser.add_argument("folder", type=Path, help="outside the checkout")
    setup(parser.parse_args().folder.resolve())
