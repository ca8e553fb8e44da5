"""A loaded model: its worker, the HTTP client that speaks to it, and who may use it when.

llama.cpp's own HTTP interface is the wire (README of its server tool). The client is aiohttp itself on the worker's
unix socket: nothing but this process can be at the other end, so the network seam of the ground does not apply.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson

from llama_stack.errors import (
    ContextOverflow,
    InvalidRequest,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
    StackError,
    UnsupportedParameter,
)
from llama_stack.wire.llama_prompts.families import LlamaFamily
from llama_stack.wire.sse import SSEDecoder
from llama_stack_providers.inline._llama_cpp.gguf_header import GgufHeader
from llama_stack_providers.inline._llama_cpp.process import WorkerProcess
from llama_stack_providers.inline._llama_cpp.settings import ModelSettings
from llama_stack_providers.inline._llama_cpp.turns import Turns

if TYPE_CHECKING:
    import aiohttp

CONTROL_CONNECTIONS = 4
"""Connections beside those that generate: counting tokens, rendering templates, looking at slots."""

STUCK_AFTER_S = 5.0

Frame = dict[str, Any]


class Engine:
    """A model in its worker process, ready to answer.

    model: the callers' name of it, for messages. slots: answers it makes side by side. window: tokens of one.
    family: of Llama, None for any other model. waiting: requests in its queue.
    """

    def __init__(
        self,
        model: str,
        header: GgufHeader,
        settings: ModelSettings,
        worker: WorkerProcess,
        *,
        family: LlamaFamily | None,
        max_queue: int,
        stall_timeout_s: float,
    ) -> None:
        self.model = model
        self.header = header
        self.family = family
        self.settings = settings
        self.worker = worker
        self.slots = worker.orders.slots
        self.window = worker.orders.context_length
        self.proved_grammars: set[str] = set()
        self._max_queue = max_queue
        self._turns = Turns(self.slots)
        self._control = asyncio.Semaphore(CONTROL_CONNECTIONS)
        self._session = _open_session(worker, stall_timeout_s)
        self._base = "http://engine" if worker.orders.socket else worker.address

    @property
    def alive(self) -> bool:
        return not self.worker.ended.is_set()

    async def close(self) -> None:
        await self._session.close()
        await self.worker.stop()

    @property
    def waiting(self) -> int:
        return self._turns.waiting

    @asynccontextmanager
    async def turn(self, precedence: int = 0, *, is_bulk: bool = False) -> AsyncIterator[None]:
        """Wait for a free slot, as `Turns.turn` says. Raises RateLimited when too many wait already."""
        if not self._turns.is_free(is_bulk=is_bulk) and self.waiting >= self._max_queue:
            raise RateLimited(
                f"model {self.model!r} is working on {self.slots} requests and {self.waiting} wait; try again later",
                retry_after_s=1.0,
            )
        async with self._turns.turn(precedence, is_bulk=is_bulk):
            yield

    async def call(self, path: str, body: Any = None) -> Any:
        """One whole exchange beside the slots; POST where there is a body."""
        async with self._control:
            return await self.work(path, body)

    async def work(self, path: str, body: Any = None) -> Any:
        """One whole exchange that takes a slot; the caller holds a turn."""
        async with self._response(path, body) as response:
            return orjson.loads(await response.read())

    async def frames(self, path: str, body: Frame) -> AsyncGenerator[Frame, None]:
        """The frames of a streamed answer as they arrive; the caller holds a turn. Closing it frees the slot.

        Raises ProviderUnavailable when the worker dies; an error frame is raised as what it says.
        """
        decoder = SSEDecoder()
        async with self._response(path, body) as response:
            async for chunk in response.content.iter_any():
                for event in decoder.feed(chunk):
                    if event.data == b"[DONE]":
                        return
                    frame = orjson.loads(event.data)
                    if "error" in frame:
                        raise self.refusal(500, frame)
                    yield frame

    @asynccontextmanager
    async def _response(self, path: str, body: Any) -> AsyncIterator["aiohttp.ClientResponse"]:
        import aiohttp

        try:
            data = None if body is None else orjson.dumps(body)
        except orjson.JSONEncodeError as error:
            raise InvalidRequest(f"the request cannot be written as JSON: {error}") from error
        method = "GET" if data is None else "POST"
        try:
            async with self._session.request(method, self._base + path, data=data) as response:
                if response.status >= 400:
                    raise self.refusal(response.status, await response.read())
                yield response
        except TimeoutError as error:
            await self._end_if_stuck()
            raise ProviderTimeout(
                f"model {self.model!r} was silent for too long; raise stall_timeout_s or send a shorter prompt"
            ) from error
        except aiohttp.ClientError as error:
            raise await self.worker.failure() from error
        except RuntimeError as error:
            if not self._session.closed:
                raise
            raise await self.worker.failure() from error  # aiohttp's word for "closed while reading"

    async def _end_if_stuck(self) -> None:
        """End a worker that cannot even list its slots, which it does between two batches: the next request gets a
        new one.
        """
        import aiohttp

        limit = aiohttp.ClientTimeout(total=STUCK_AFTER_S)
        try:
            async with self._session.get(f"{self._base}/slots", timeout=limit) as answer:
                await answer.read()
        except TimeoutError:
            await self.worker.kill()
        except aiohttp.ClientError:
            pass  # it is gone already

    def refusal(self, status: int, body: bytes | Frame) -> StackError:
        """llama.cpp's error as ours."""
        try:
            said = orjson.loads(body) if isinstance(body, bytes) else body
            error = said["error"]
            status = int(error.get("code", status))
            message, kind = str(error["message"]), error.get("type")
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            return ProviderFailed(f"model {self.model!r}: the engine answered with status {status}")
        if kind == "exceed_context_size_error":
            return self.overflow(int(error.get("n_prompt_tokens", 0)), None)
        if "context size has been exceeded" in message.lower():
            return ContextOverflow(f"the answer outgrew the context window of model {self.model!r}: {message}")
        if status == 501:
            return UnsupportedParameter(f"model {self.model!r}: {message}", param="model")
        if status in (400, 422):
            return InvalidRequest(f"model {self.model!r}: {message}")
        return ProviderFailed(f"model {self.model!r}: {message}")

    def overflow(self, prompt_tokens: int, max_tokens: int | None, *, param: str = "messages") -> ContextOverflow:
        wanted = f"{prompt_tokens} tokens"
        if max_tokens is not None:
            wanted += f" and max_tokens {max_tokens} make {prompt_tokens + max_tokens}, which"
        remedy = "lower max_tokens, shorten it" if max_tokens is not None else "shorten it"
        return ContextOverflow(
            f"the prompt's {wanted} {'exceed' if max_tokens is None else 'exceeds'} the context window of "
            f"{self.window} tokens of model {self.model!r}; {remedy}, or raise context_length",
            param=param,
        )

    async def tokens_of(self, content: Any, *, special: bool, parse_special: bool = True) -> list[int]:
        """Token ids of a text or of a mixed list of texts and ids; `special` adds the model's begin and end tokens."""
        body = {"content": content, "add_special": special, "parse_special": parse_special}
        answer = await self.call("/tokenize", body)
        tokens: list[int] = answer["tokens"]
        return tokens


def utf8_length(text: str, param: str) -> int:
    """Bytes of the text. Raises InvalidRequest for half of a surrogate pair, which no model can be given."""
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{param}: the text is no valid Unicode at character {error.start}", param=param
        ) from error


def _open_session(worker: WorkerProcess, stall_timeout_s: float) -> "aiohttp.ClientSession":
    import aiohttp

    # llama.cpp closes a connection after each stream without announcing it, and an idle one holds a server thread:
    # one connection for each exchange.
    connector: aiohttp.BaseConnector
    if worker.orders.socket:
        connector = aiohttp.UnixConnector(worker.orders.socket, limit=0, force_close=True)
    else:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(
        connector=connector,
        headers={"Authorization": f"Bearer {worker.orders.api_key}", "Content-Type": "application/json"},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=stall_timeout_s),
        auto_decompress=False,
        read_bufsize=1 << 18,
    )
