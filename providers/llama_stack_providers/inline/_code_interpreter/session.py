"""One session: a sandbox with the variables of the calls so far."""

import asyncio
import base64
import json
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from llama_stack_providers.inline._code_interpreter.driver import Driver, DriverUnavailable, Limit, Sandbox
from llama_stack_providers.inline._code_interpreter.protocol import (
    Died,
    Done,
    Forged,
    MadeFile,
    Output,
    Ready,
    Reply,
    ReplyRefused,
    decode_base64,
    decode_line,
    decode_reply,
)
from llama_stack_providers.inline._code_interpreter.settings import Config

ExitReason = Literal["done", "failed", "limit", "died", "refused"]
Look = Literal["list", "read", "remove"]
REMEMBERED_GIVEN = 1024


@dataclass
class Outcome:
    """How one call went.

    error: what the code raised, or why it was ended. limit: the limit it met. ended: the session is over and its
    variables are lost. status: exit code of an interpreter that died. printed: text as it came, by stream.
    """

    printed: dict[str, str] = field(default_factory=lambda: {"stdout": "", "stderr": ""})
    error: str | None = None
    limit: Limit | None = None
    exit_reason: ExitReason = "done"
    ended: bool = False
    status: int | None = None
    figures: list[str] = field(default_factory=list)
    figure_names: list[str] = field(default_factory=list)
    files: list[MadeFile] = field(default_factory=list)


class Printed:
    """What a call printed: all of it up to a bound, then the call is ended."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.size = 0
        self.streams: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}

    def add(self, said: Output) -> bool:
        """False when it is too much."""
        text = decode_base64(said.text)
        kept = text[: max(0, self.most_bytes - self.size)]
        self.size += len(text)
        self.streams[said.stream] += kept
        return self.size <= self.most_bytes

    def texts(self) -> dict[str, str]:
        return {stream: bytes(text).decode("utf-8", "replace") for stream, text in self.streams.items()}


async def open_session(driver: Driver, config: Config) -> "Session":
    """A session in a new sandbox. Raises DriverUnavailable when none starts."""
    sandbox = await driver.start()
    try:
        async with asyncio.timeout(driver.start_timeout_s):
            line = await sandbox.receive()
        if not isinstance(decode_line(line, ""), Ready):
            raise ReplyRefused("another word than that it is ready")
    except TimeoutError as error:
        await sandbox.kill()
        raise DriverUnavailable(f"{driver.name} did not start within {driver.start_timeout_s:g} s") from error
    except (ReplyRefused, ValueError, OSError) as error:
        await sandbox.kill()
        reason = await sandbox.complaint() or f"its worker gave {error}"
        raise DriverUnavailable(f"a sandbox of {driver.name} did not start: {reason}") from error
    except BaseException:
        await sandbox.kill()
        raise
    return Session(sandbox, config)


class Session:
    """Runs one call at a time. Whoever opens it closes it; a call that breaks a rule closes it too.

    name: as its maker called it, empty for one that began with a call. idle_s: it ends when unused so long. used_at:
    when it was last asked something, on the monotonic clock. given: names of files that callers put there.
    """

    def __init__(self, sandbox: Sandbox, config: Config) -> None:
        self.sandbox = sandbox
        self.config = config
        self.at_work = False
        self.is_closed = False
        self.given: dict[str, None] = {}
        self.begin("", config.idle_s)

    def begin(self, name: str, idle_s: float) -> None:
        """From now on it is somebody's; it may have waited ready for long."""
        self.name = name
        self.idle_s = idle_s
        self.begun_at = datetime.now(UTC)
        self.used_at = time.monotonic()

    async def run(self, code: str, files: dict[str, bytes], timeout_s: float | None = None) -> Outcome:
        """Run code after putting the files in place. Cancelling ends the session, as code cannot be stopped halfway."""
        content = {name: base64.b64encode(text).decode() for name, text in files.items()}
        self.given.update(dict.fromkeys(files))
        while len(self.given) > REMEMBERED_GIVEN:
            self.given.pop(next(iter(self.given)))
        return await self._ask({"code": code, "files": content}, timeout_s or self.config.timeout_s)

    async def look(self, what: Look, name: str | None = None) -> Outcome:
        """List the files, or read or remove the one of that name. The outcome's files are those that were found."""
        asked = {"look": what} if name is None else {"look": what, "name": name}
        return await self._ask(asked, self.config.timeout_s)

    async def _ask(self, request: dict[str, Any], timeout_s: float) -> Outcome:
        self.at_work = True
        try:
            outcome = await self._run(request, timeout_s)
        except BaseException:
            await self.close()
            raise
        finally:
            self.at_work = False
        self.used_at = time.monotonic()
        if outcome.ended:
            await self.close()
            over = self.sandbox.over(outcome.status) if outcome.exit_reason == "died" else None
            if over is not None:
                outcome.limit, outcome.exit_reason = over, "limit"
                outcome.error = _limit_words(over, self.config)
        return outcome

    async def _run(self, request: dict[str, Any], timeout_s: float) -> Outcome:
        printed = Printed(self.config.output_kb * 1024)
        outcome = Outcome(ended=True)
        try:
            async with asyncio.timeout(timeout_s):
                said = await self._exchange(request, printed)
            if said is None:
                outcome.limit = "output"
            elif isinstance(said, Died):
                outcome.exit_reason, outcome.error, outcome.status = "died", _death(said.status), said.status
            else:
                outcome = _done(said)
        except TimeoutError:
            outcome.limit = "time"
        except ReplyRefused as error:
            outcome.exit_reason = "refused"
            outcome.error = f"The code wrote into the interpreter's own channel: {error}."
        except (OSError, ValueError) as error:
            outcome.exit_reason, outcome.error = "died", f"The interpreter ended: {error or type(error).__name__}."
        outcome.printed = printed.texts()
        if outcome.ended and outcome.limit is not None:
            outcome.exit_reason, outcome.error = "limit", _limit_words(outcome.limit, self.config, timeout_s)
        return outcome

    async def _exchange(self, request: dict[str, Any], printed: Printed) -> Reply | Died | None:
        """The reply; None when too much was printed. Raises ReplyRefused; OSError or ValueError on a lost worker."""
        nonce = secrets.token_hex(16)
        await self.sandbox.send(json.dumps({"nonce": nonce, **request}).encode() + b"\n")
        while True:
            line = await self.sandbox.receive()
            if not line.endswith(b"\n"):
                return Died(type="died", nonce=nonce, status=None)
            said = decode_line(line, nonce)
            match said:
                case Output():
                    if not printed.add(said):
                        return None
                case Done():
                    return decode_reply(said.reply)
                case Died():
                    return said
                case Forged():
                    raise ReplyRefused(said.why)
                case Ready():
                    raise ReplyRefused("a second start")

    async def close(self) -> None:
        self.is_closed = True
        await asyncio.shield(self.sandbox.kill())


def _done(reply: Reply) -> Outcome:
    return Outcome(
        error=reply.error,
        limit=reply.limit,
        exit_reason="done" if reply.error is None else "failed",
        figures=reply.figures,
        figure_names=reply.figure_names,
        files=reply.files,
    )


def _death(status: int | None) -> str:
    if status is None:
        return "The interpreter ended."
    if status < 0:
        return f"The interpreter was ended by signal {-status}."
    return f"The interpreter ended with exit code {status}."


def _limit_words(limit: Limit, config: Config, timeout_s: float | None = None) -> str:
    words = {
        "time": f"longer than {timeout_s or config.timeout_s:g} seconds",
        "memory": f"more than {config.memory_mb} MB of memory",
        "output": f"more than {config.output_kb} kB of output",
        "processes": f"more than {config.processes} processes",
        "disk": f"more than {config.disk_mb} MB of files",
    }
    return f"The code was ended: it took {words[limit]}."
