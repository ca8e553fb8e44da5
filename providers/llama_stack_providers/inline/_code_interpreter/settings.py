"""What a person may set about the code interpreter."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from llama_stack.provider import ProviderConfig

DriverName = Literal["bubblewrap", "wasm", "container", "unsafe_subprocess"]
"""bubblewrap: Linux namespaces. wasm: Python in WebAssembly in Deno. container: docker or podman."""


class Config(ProviderConfig):
    """Settings of the code interpreter. One MB is 2**20 bytes."""

    driver: Literal["auto"] | DriverName = Field(
        "auto", description="what isolates the code; auto takes the first of driver_order that passes its self-test"
    )
    driver_order: list[Literal["bubblewrap", "wasm", "container"]] = Field(
        ["bubblewrap", "wasm"], min_length=1, description="the drivers that auto may take, the first one first"
    )
    i_accept_no_isolation: bool = Field(False, description="must be true for the driver unsafe_subprocess")

    timeout_s: float = Field(30.0, gt=0, le=3600, description="longest run of one call")
    memory_mb: int = Field(1024, ge=128, description="memory of a session, all its processes and files together")
    processes: int = Field(32, ge=2, le=512, description="processes and threads of a session")
    disk_mb: int = Field(64, ge=1, description="files of a session, which lie in memory")
    output_kb: int = Field(4096, ge=1, description="text a call may print before it is ended")
    shown_kb: int = Field(8, ge=1, description="text of a call that the model is shown; the middle is left out")
    max_figures: int = Field(4, ge=0, le=32, description="figures taken from a call")
    max_files: int = Field(16, ge=0, le=256, description="files taken from a call")
    files_kb: int = Field(8192, ge=1, le=65536, description="figures and files of a call together, going in or out")

    idle_s: float = Field(1200.0, gt=0, description="a session unused this long is ended")
    max_sessions: int = Field(
        16, ge=1, le=1024, description="of the owner with most, the one unused longest makes room"
    )
    warm: int | None = Field(
        None, ge=0, le=16, description="sandboxes started ahead of need; default: 1 for wasm, else 0"
    )

    python: Path | None = Field(
        None, description="interpreter whose installed packages the code may import; default: the server's own"
    )
    container_engine: Literal["docker", "podman"] = Field("docker", description="who runs containers")
    container_image: str | None = Field(
        None, description="image with Python 3.11 or later, best named by digest; it is never pulled"
    )
    container_runtime: str | None = Field(None, description="an OCI runtime of the engine, such as runsc (gVisor)")
    pyodide: Path | None = Field(
        None, description="folder with the Pyodide distribution; default: LLAMA_STACK_HOME/pyodide"
    )

    @model_validator(mode="after")
    def _unsafe_only_by_name(self) -> "Config":
        if self.driver == "unsafe_subprocess" and not self.i_accept_no_isolation:
            raise ValueError(
                "driver unsafe_subprocess runs the model's code with all rights of this server; set "
                "i_accept_no_isolation: true to have that, or driver: auto for a sandbox"
            )
        return self

    @model_validator(mode="after")
    def _container_has_an_image(self) -> "Config":
        wanted = self.driver == "container" or (self.driver == "auto" and "container" in self.driver_order)
        if wanted and self.container_image is None:
            raise ValueError("container_image must name the image that the container driver runs, such as python:3.12")
        return self

    @property
    def reply_limit(self) -> int:
        """Longest line a worker may send, in bytes: files and figures in base64, and the words around them."""
        return 2 * 1024 * self.files_kb + (1 << 20)
