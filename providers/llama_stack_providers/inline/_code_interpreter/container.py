"""The driver for servers: one container for each session, by docker or podman, from an image that is already there."""

import asyncio
import base64
import json
import random
import secrets
import shutil
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_stack_providers.inline._code_interpreter.driver import (
    COMPLAINT_BYTES,
    MB,
    WORKER,
    WORKER_VARIABLES,
    DriverUnavailable,
    Limit,
    ProcessSandbox,
    spawn,
    until,
    worker_orders,
)
from llama_stack_providers.inline._code_interpreter.seccomp import ARCHITECTURES, filter_program
from llama_stack_providers.inline._code_interpreter.settings import Config

FIRST_UID, LAST_UID = 61184, 65519
ENGINE_TIMEOUT_S = 30.0
SPARE_PROCESSES = 4
"""The worker's supervisor, and what the engine itself puts into the container."""


@dataclass(frozen=True)
class Container:
    """What both engines are told, in docker's words: a container without network, rights or a writable root."""

    name: str
    image: str
    command: list[str]
    uid: int
    memory_bytes: int
    processes: int
    disk_mb: int
    runtime: str | None

    @property
    def tmpfs(self) -> str:
        return f"rw,nosuid,nodev,noexec,size={self.disk_mb}m"

    def flags(self) -> list[str]:
        """For podman's command line."""
        limits = [f"--memory={self.memory_bytes}", f"--memory-swap={self.memory_bytes}", "--cpus=1"]
        limits += [f"--pids-limit={self.processes}", "--ulimit=nofile=256:256", "--ulimit=core=0:0"]
        limits += [f"--ulimit=nproc={self.processes}:{self.processes}"]
        rights = ["--network=none", "--ipc=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        rights += [
            f"--user={self.uid}:{self.uid}",
            f"--tmpfs=/sandbox:{self.tmpfs},mode=1777,notmpcopyup",
            "--workdir=/sandbox",
        ]
        kept = ["--log-driver=none", "--pull=never", f"--name={self.name}", "--hostname=sandbox"]
        variables = [f"--env={name}={value}" for name, value in WORKER_VARIABLES.items()]
        runtime = [f"--runtime={self.runtime}"] if self.runtime else []
        return [*rights, *limits, *kept, *variables, *runtime, f"--entrypoint={self.command[0]}"]

    def settings(self) -> dict[str, Any]:
        """For the docker package (`ContainerCollection.create`)."""
        import docker.types

        return {
            "image": self.image,
            "command": self.command[1:],
            "entrypoint": self.command[:1],
            "name": self.name,
            "hostname": "sandbox",
            "user": f"{self.uid}:{self.uid}",
            "stdin_open": True,
            "auto_remove": True,
            "network_mode": "none",
            "ipc_mode": "none",
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "mem_limit": self.memory_bytes,
            "memswap_limit": self.memory_bytes,
            "nano_cpus": 1_000_000_000,
            "pids_limit": self.processes,
            "ulimits": [
                docker.types.Ulimit(name="nofile", soft=256, hard=256),
                docker.types.Ulimit(name="core", hard=0),
            ],
            "tmpfs": {"/sandbox": f"{self.tmpfs},uid={self.uid},gid={self.uid}"},
            "working_dir": "/sandbox",
            "environment": WORKER_VARIABLES,
            "log_config": docker.types.LogConfig(type="none"),
            "runtime": self.runtime,
        }


class ContainerDriver:
    """Starts the worker in containers; to the engine's own list of system calls the worker adds ours."""

    name = "container"
    warm = 0
    start_timeout_s = 30.0

    def __init__(self, config: Config, home: Path) -> None:
        self.config = config
        self._client: Any = None

    async def check(self) -> None:
        assert self.config.container_image is not None  # as the settings require
        if self.config.container_engine == "podman":
            await self._check_podman(self.config.container_image)
        else:
            look = asyncio.to_thread(self._check_docker, self.config.container_image)
            await until(lambda: look, ENGINE_TIMEOUT_S, "docker's answer")

    async def _check_podman(self, image: str) -> None:
        if shutil.which("podman") is None:
            raise DriverUnavailable("podman is not installed; install it: apt install podman")
        if await _podman("image", "exists", image) != 0:
            raise DriverUnavailable(f"podman has no image {image!r}, and none is pulled; get it: podman pull {image}")

    def _check_docker(self, image: str) -> None:
        try:
            import docker
        except ImportError as error:
            raise DriverUnavailable(
                "the docker package is not installed; install it: pip install 'llama-stack[code-container]'"
            ) from error
        try:
            self._client = docker.from_env(timeout=int(ENGINE_TIMEOUT_S))
            self._client.images.get(image)
        except docker.errors.ImageNotFound as error:
            raise DriverUnavailable(
                f"docker has no image {image!r}, and none is pulled; get it: docker pull {image}"
            ) from error
        except docker.errors.DockerException as error:
            raise DriverUnavailable(
                f"docker does not answer: {error}; start it, or set DOCKER_HOST to where it listens"
            ) from error

    def _container(self) -> Container:
        programs = {machine: filter_program(machine) or b"" for machine in ARCHITECTURES}
        coded = {machine: base64.b64encode(program).decode() for machine, program in programs.items()}
        orders = worker_orders(self.config, seccomp={**coded, "arm64": coded["aarch64"]})
        assert self.config.container_image is not None
        return Container(
            name=f"llama-code-{secrets.token_hex(8)}",
            image=self.config.container_image,
            command=["python3", "-I", "-X", "utf8", "-c", WORKER.read_text(encoding="utf-8"), json.dumps(orders)],
            uid=random.randint(FIRST_UID, LAST_UID),  # noqa: S311  # a free one, not a secret
            memory_bytes=self.config.memory_mb * MB,
            processes=self.config.processes + SPARE_PROCESSES,
            disk_mb=self.config.disk_mb,
            runtime=self.config.container_runtime,
        )

    async def start(self) -> "PodmanSandbox | DockerSandbox":
        container = self._container()
        if self.config.container_engine == "podman":
            command = [
                "podman",
                "run",
                "--rm",
                "--interactive",
                *container.flags(),
                container.image,
                *container.command[1:],
            ]
            # podman keeps its images by the user's home, and finds crun or runc on the path
            process = await spawn(command, _podman_environment(), self.config.reply_limit)
            return PodmanSandbox(process, container.name)
        opened = asyncio.create_task(asyncio.to_thread(self._open_docker, container))
        try:
            return DockerSandbox(*await asyncio.shield(opened), self.config.reply_limit)
        except asyncio.CancelledError:
            opened.add_done_callback(_discard)
            raise

    def _open_docker(self, settings: Container) -> tuple[Any, socket.socket]:
        import docker

        try:
            container = self._client.containers.create(**settings.settings())
        except docker.errors.DockerException as error:
            raise DriverUnavailable(f"docker cannot make a container: {error}") from error
        try:
            stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            link = getattr(stream, "_sock", stream)
            if type(link) is not socket.socket:
                raise DriverUnavailable("docker is reached through TLS, which this driver does not speak; use podman")
            link.setblocking(False)
            container.start()
        except docker.errors.DockerException as error:
            container.remove(force=True)
            raise DriverUnavailable(f"docker cannot start a container: {error}") from error
        except BaseException:
            container.remove(force=True)
            raise
        container.stream = stream  # closes with it
        return container, link


class PodmanSandbox(ProcessSandbox):
    """podman's own process, and the container, which outlives it."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        super().__init__(process)
        self.name = name

    def over(self, status: int | None) -> Limit | None:
        return _over(status)

    async def kill(self) -> None:
        await asyncio.shield(self._remove())

    async def _remove(self) -> None:
        await _podman("rm", "--force", "--time=0", "--ignore", self.name)
        await super().kill()


class DockerSandbox:
    """A container, and the stream of its standard input and output (Docker Engine API, "Attach to a container")."""

    def __init__(self, container: Any, link: socket.socket, reply_limit: int) -> None:
        self.container = container
        self.link = link
        self.reply_limit = reply_limit
        self._unread = b""
        self._line = bytearray()
        self._is_gone = False
        self._said = b""

    async def send(self, line: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.link, line)

    async def receive(self) -> bytes:
        while (end := self._line.find(b"\n")) < 0:
            if len(self._line) > self.reply_limit:
                raise ValueError("a line over the limit")
            text = await self._next_frame()
            if not text:
                return bytes(self._line)
            self._line += text
        line = bytes(self._line[: end + 1])
        del self._line[: end + 1]
        return line

    async def _next_frame(self) -> bytes:
        """What the container wrote next: frames of 8 bytes (stream, 0, 0, 0, size) and then the text."""
        while True:
            head = await self._exactly(8)
            if not head:
                return b""
            text = await self._exactly(int.from_bytes(head[4:], "big"))
            if head[0] == 1:
                return text
            self._said = (self._said + text)[-COMPLAINT_BYTES:]

    async def _exactly(self, size: int) -> bytes:
        while len(self._unread) < size:
            chunk = await asyncio.get_running_loop().sock_recv(self.link, 1 << 16)
            if not chunk:
                return b""
            self._unread += chunk
        taken, self._unread = self._unread[:size], self._unread[size:]
        return taken

    def over(self, status: int | None) -> Limit | None:
        return _over(status)

    async def complaint(self) -> str:
        return self._said.decode("utf-8", "replace").strip()

    async def kill(self) -> None:
        if not self._is_gone:
            self._is_gone = True
            await asyncio.shield(asyncio.to_thread(self._remove))

    def _remove(self) -> None:
        import docker

        with suppress(docker.errors.DockerException):
            self.container.remove(force=True)
        self.container.stream.close()
        self.link.close()


def _discard(opened: "asyncio.Task[tuple[Any, socket.socket]]") -> None:
    """Remove a container that nobody waits for any more."""
    if not opened.cancelled() and opened.exception() is None:
        container, link = opened.result()
        link.close()
        asyncio.get_running_loop().run_in_executor(None, lambda: container.remove(force=True))


def _podman_environment() -> dict[str, str]:
    import os

    return {name: os.environ[name] for name in ("HOME", "PATH", "XDG_RUNTIME_DIR") if name in os.environ}


async def _podman(*arguments: str) -> int:
    """Exit code of a podman command. Raises DriverUnavailable when it does not run."""
    process = await spawn(["podman", *arguments], _podman_environment(), MB)
    await until(lambda: process.communicate(), ENGINE_TIMEOUT_S, f"podman {arguments[0]}")
    return process.returncode or 0


def _over(status: int | None) -> Limit | None:
    """Nothing but the kernel for want of memory ends the worker's child with SIGKILL; code that does so itself may
    be told so.
    """
    return "memory" if status == -9 else None
