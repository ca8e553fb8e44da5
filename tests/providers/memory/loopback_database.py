"""What the servers on loopback that stand for databases have in common: serving, faults on demand, and ranking."""

import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from aiohttp import web

from llama_stack.api.inference import Inference
from llama_stack.provider import Ground, InferenceFloor

K1, B = 1.2, 0.75
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Fault:
    """An answer instead of the right one. method, path: of the requests it is for; path is a part of theirs.

    skips: so many of them are spared before. after: the request is carried out first. times: how often.
    """

    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = ""
    path: str = ""
    after: bool = False
    times: int = 1
    skips: int = 0

    def strikes(self, request: web.Request) -> bool:
        if not self.times or self.method not in ("", request.method) or self.path not in request.path:
            return False
        if self.skips:
            self.skips -= 1
            return False
        self.times -= 1
        return True


@dataclass
class LoopbackDatabase:
    """Subclasses add routes. wanted_authorization: others are refused. asked: method and path of each request."""

    url: str = ""
    wanted_authorization: str | None = None
    faults: list[Fault] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def routes(self) -> Iterable[web.RouteDef]:
        raise NotImplementedError

    def refused(self, key: str) -> web.Response:
        """The answer to a wrong key, which it repeats, as some servers do."""
        return web.json_response({"error": [{"message": f"the key {key} is not known"}]}, status=401)

    @asynccontextmanager
    async def served(self) -> AsyncIterator["LoopbackDatabase"]:
        @web.middleware
        async def faulty(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.asked.append(f"{request.method} {request.path}")
            if self.wanted_authorization not in (None, request.headers.get("authorization")):
                return self.refused(request.headers.get("authorization", ""))
            fault = next((fault for fault in self.faults if fault.strikes(request)), None)
            if fault is None:
                return await handler(request)
            if fault.after:
                await handler(request)
            return web.Response(
                status=fault.status, text=fault.body, headers=fault.headers, content_type="application/json"
            )

        app = web.Application(middlewares=[faulty], client_max_size=2**30)
        app.add_routes(self.routes())
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


def floor_at(home: Path) -> InferenceFloor:
    return InferenceFloor(Ground(home=home, state=home), cast(Inference, None))


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True)) / (math.hypot(*left) * math.hypot(*right))


def bm25(texts: Mapping[str, Sequence[str]], query: Sequence[str]) -> dict[str, float]:
    """Scores of the texts that share words with the query, by their names."""
    lengths = {name: len(words) for name, words in texts.items()}
    average = sum(lengths.values()) / max(1, len(texts))
    counts = {name: Counter(words) for name, words in texts.items()}
    scores: dict[str, float] = {}
    for word in set(query):
        holders = [name for name, counted in counts.items() if counted[word]]
        weight = math.log(1 + (len(texts) - len(holders) + 0.5) / (len(holders) + 0.5))
        for name in holders:
            often = counts[name][word]
            share = often + K1 * (1 - B + B * lengths[name] / average)
            scores[name] = scores.get(name, 0.0) + weight * often * (K1 + 1) / share
    return scores
